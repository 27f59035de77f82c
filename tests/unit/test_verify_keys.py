"""Which keys count: thresholds, times, trust files and their rotations, and signatures that real tools made."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ProvenanceInvalid, SignatureInvalid, TrustInvalid, UntrustedKey
from orchestrator.trust import KeyId, VerificationResult
from orchestrator.verify import (
    Expectations,
    accept_rotation,
    check_signature,
    judge_release,
    load_trust,
    trust_of_keys,
    verify_file,
)
from orchestrator.verify.keys import KeyKind, TrustedKey
from tests.unit.release_maker import (
    NOW,
    EcdsaKey,
    GpgKey,
    Key,
    MadeRelease,
    canonical,
    ecdsa_key,
    gpg_keys,
    line,
    make_release,
    run_gpg,
    signed_trust,
    trust_body,
)

ONE, TWO, THREE, STRANGER = (ecdsa_key(seed) for seed in (1, 2, 3, 4))
OWNER, SECOND_OWNER, THIRD_OWNER = (ecdsa_key(seed) for seed in (11, 12, 13))
PREFIX = Path(os.environ.get("RELBUILD_TOOLS_PREFIX", "/opt/relbuild-tools"))
COSIGNS = [PREFIX / name / "usr/bin/cosign" for name in ("cosign-2", "cosign-3")]


@pytest.fixture(scope="module")
def gpg() -> Iterator[tuple[GpgKey, ...]]:
    with gpg_keys("One <one@example.org>", "Two <two@example.org>") as keys:
        yield keys


def errors_of(result: VerificationResult) -> set[str]:
    return {each.error for each in result.evidence if each.error}


def judge(
    release: MadeRelease, path: Path, keys: Sequence[Key], *, threshold: int = 1, now: datetime = NOW,
    periods: Mapping[str, Mapping[str, str | None]] | None = None, expires: str | None = None,
) -> VerificationResult:  # fmt: skip
    body = trust_body(keys=keys, trust_keys=(OWNER,), threshold=threshold, periods=periods, expires=expires)
    path.write_bytes(signed_trust(body, [OWNER]))
    return judge_release(release.folder, load_trust(path), Expectations(), now)[0]


# --- thresholds --------------------------------------------------------------------------------------------------


@pytest.mark.fault(55)
@pytest.mark.parametrize(
    ("signers", "threshold", "expected"),
    [
        ((ONE, TWO), 2, set()),
        ((ONE, TWO, THREE), 3, set()),
        ((ONE,), 2, {"TooFewSignatures"}),
        ((ONE, TWO), 3, {"TooFewSignatures"}),
        ((ONE, ONE), 2, {"TooFewSignatures"}),
        ((ONE, STRANGER), 2, {"UntrustedKey"}),
        ((ONE, STRANGER), 1, {"UntrustedKey"}),
        ((STRANGER,), 1, {"UntrustedKey"}),
    ],
)  # fmt: skip
def test_distinct_trusted_keys_are_counted(
    tmp_path: Path, signers: tuple[EcdsaKey, ...], threshold: int, expected: set[str]
) -> None:
    release = make_release(tmp_path / "release", keys=signers, artifacts=1)
    result = judge(release, tmp_path / "trust.json", (ONE, TWO, THREE), threshold=threshold)
    assert errors_of(result) == expected


@pytest.mark.fault(55)
def test_a_bad_signature_fails_beside_enough_good_ones(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", keys=(ONE, TWO), artifacts=1)
    other = ONE.bundle(b"something else")
    release.write("manifest.json.sigstore.json", line(other))
    assert errors_of(judge(release, tmp_path / "trust.json", (ONE, TWO))) == {"SignatureInvalid"}


def test_two_kinds_of_keys_make_two(tmp_path: Path, gpg: tuple[GpgKey, ...]) -> None:
    keys: tuple[Key, ...] = (ONE, *gpg)
    release = make_release(tmp_path / "release", keys=keys, artifacts=1)
    assert judge(release, tmp_path / "trust.json", keys, threshold=3).passed
    (release.folder / f"manifest.json.{gpg[1].key_id[:12]}.asc").unlink()
    assert errors_of(judge(release, tmp_path / "trust.json", keys, threshold=3)) == {"TooFewSignatures"}


@pytest.mark.fault(55)
def test_an_attestation_whose_signature_does_not_fit_is_refused(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", keys=(ONE,), artifacts=1)
    name = f"{release.artifacts[0]}.intoto.jsonl"
    bundle = ONE.attestation(release.read(f"{release.artifacts[0]}.provenance.json"))
    bundle["dsseEnvelope"]["signatures"] = ONE.attestation(b"{}")["dsseEnvelope"]["signatures"]
    release.write(name, line(bundle) + b"\n")
    assert errors_of(judge(release, tmp_path / "trust.json", (ONE,))) == {"SignatureInvalid"}


def test_the_lines_of_an_attestation_are_by_different_keys_and_say_one_thing(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", keys=(ONE, TWO), artifacts=1)
    name = f"{release.artifacts[0]}.intoto.jsonl"
    said = line(ONE.attestation(release.read(f"{release.artifacts[0]}.provenance.json"))) + b"\n"
    release.write(name, said * 2)
    assert errors_of(judge(release, tmp_path / "trust.json", (ONE, TWO))) == {"TooFewSignatures"}
    release.write(name, said + line(TWO.attestation(b"{}")) + b"\n")
    assert errors_of(judge(release, tmp_path / "trust.json", (ONE, TWO))) == {"SignatureInvalid"}


def test_a_signature_named_after_another_key_is_refused(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", keys=(ONE, TWO), artifacts=1)
    name = f"manifest.json.{TWO.key_id[:12]}.sigstore.json"
    (release.folder / name).rename(release.folder / f"manifest.json.{THREE.key_id[:12]}.sigstore.json")
    assert errors_of(judge(release, tmp_path / "trust.json", (ONE, TWO, THREE))) == {"SignatureInvalid"}


# --- times -------------------------------------------------------------------------------------------------------

PERIODS: list[tuple[dict[str, str | None], bool]] = [
    ({}, True),
    ({"from": "2026-06-01T12:00:00Z"}, True),
    ({"from": "2026-06-01T12:00:01Z"}, False),
    ({"until": "2026-06-01T12:00:00Z"}, False),
    ({"until": "2026-06-01T12:00:01Z"}, True),
    ({"until": None}, True),
    ({"revoked": "2026-05-01T00:00:00Z"}, False),
    ({"revoked": "2026-12-01T00:00:00Z"}, False),
]


@pytest.mark.parametrize(("period", "counts"), PERIODS)
@pytest.mark.parametrize("kind", ["ecdsa", "gpg"])
def test_a_key_counts_in_its_time_only(
    tmp_path: Path, gpg: tuple[GpgKey, ...], kind: str, period: dict[str, str | None], counts: bool
) -> None:
    key: Key = ONE if kind == "ecdsa" else gpg[0]
    release = make_release(tmp_path / "release", keys=(key,), artifacts=1)
    result = judge(release, tmp_path / "trust.json", (key,), periods={key.key_id: period})
    assert errors_of(result) == (set() if counts else {"UntrustedKey"})


def test_a_revoked_keys_signature_does_not_spoil_enough_others(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", keys=(ONE, TWO), artifacts=1)
    revoked: dict[str, dict[str, str | None]] = {ONE.key_id: {"revoked": "2026-05-01T00:00:00Z"}}
    result = judge(release, tmp_path / "trust.json", (ONE, TWO), periods=revoked)
    assert result.passed
    assert any("is not counted" in each.text for each in result.evidence)
    assert errors_of(judge(release, tmp_path / "trust.json", (ONE, TWO), periods=revoked, threshold=2)) == {
        "UntrustedKey"
    }


def test_keys_that_gpg_itself_refuses(tmp_path: Path) -> None:
    with gpg_keys("Short <short@example.org>") as (key,):
        release = make_release(tmp_path / "release", keys=(key,), artifacts=1)
        run_gpg(key.home, "--quick-set-expire", key.key_id, "20260301T000000")
        public = run_gpg(key.home, "--armor", "--export", key.key_id).decode()
        expired = GpgKey(home=key.home, key_id=key.key_id, public=public)
        assert errors_of(judge(release, tmp_path / "trust.json", (expired,))) == {"UntrustedKey"}
        early = datetime(2026, 2, 15, tzinfo=UTC)
        assert judge(release, tmp_path / "trust.json", (expired,), now=early).passed


def test_an_expired_trust_file_and_one_whose_keys_do_not_count(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", artifacts=1)
    path = tmp_path / "trust.json"
    assert errors_of(judge(release, path, (ONE,), expires="2026-06-01T12:00:00Z")) == {"TrustInvalid"}
    assert judge(release, path, (ONE,), expires="2026-06-01T12:00:01Z").passed
    gone: dict[str, dict[str, str | None]] = {OWNER.key_id: {"revoked": "2026-05-01T00:00:00Z"}}
    assert errors_of(judge(release, path, (ONE,), periods=gone)) == {"TrustInvalid"}
    assert judge(release, path, (ONE,), now=NOW + timedelta(days=1)).passed


# --- trust files -------------------------------------------------------------------------------------------------


def changed(**changes: Any) -> dict[str, Any]:
    return {**trust_body(keys=(ONE,), trust_keys=(OWNER,)), **changes}


ROLES = trust_body(keys=(ONE,), trust_keys=(OWNER,))["roles"]
BAD_TRUST: dict[str, bytes] = {
    "unsigned": signed_trust(changed(), []),
    "signed by a stranger": signed_trust(changed(), [STRANGER]),
    "signed by a release key": signed_trust(changed(), [ONE]),
    "changed after signing": signed_trust(changed(), [OWNER]).replace(b'"version": 1', b'"version": 2'),
    "not canonical": signed_trust(changed(), [OWNER]) + b" ",
    "another schema": signed_trust(changed(schema="relbuild/trust/v2"), [OWNER]),
    "an unknown field": signed_trust(changed(more=1), [OWNER]),
    "version 0": signed_trust(changed(version=0), [OWNER]),
    "version as text": signed_trust(changed(version="1"), [OWNER]),
    "version as truth": signed_trust(changed(version=True), [OWNER]),
    "a day that is none": signed_trust(changed(expires="2026-02-30T00:00:00Z"), [OWNER]),
    "threshold 0": signed_trust(changed(roles={**ROLES, "release": {"threshold": 0, "keys": [ONE.key_id]}}), [OWNER]),
    "threshold 2 of 1": signed_trust(changed(roles={**ROLES, "release": {"threshold": 2, "keys": [ONE.key_id]}}),
                                     [OWNER]),
    "a key twice": signed_trust(changed(roles={**ROLES, "release": {"threshold": 2, "keys": [ONE.key_id] * 2}}),
                                [OWNER]),
    "a key it does not hold": signed_trust(changed(roles={**ROLES, "release": {"threshold": 1, "keys": [TWO.key_id]}}),
                                           [OWNER]),
    "no trust role": signed_trust(changed(roles={"release": ROLES["release"]}), [OWNER]),
    "a key under another's id": signed_trust(
        changed(keys={**changed()["keys"], ONE.key_id: changed()["keys"][OWNER.key_id]}), [OWNER]
    ),
    "100,000 brackets": b"[" * 100_000,
    "empty": b"",
    "no text": b"\xff\xfe",
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TRUST)
def test_bad_trust_files_are_refused(tmp_path: Path, case: str) -> None:
    (tmp_path / "trust.json").write_bytes(BAD_TRUST[case])
    with pytest.raises(TrustInvalid) as raised:
        load_trust(tmp_path / "trust.json")
    assert "trust.json" in raised.value.what
    assert raised.value.next_step


def test_trust_files_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "none", tmp_path / "fifo", Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(TrustInvalid):
            load_trust(path)
        with pytest.raises(TrustInvalid):
            trust_of_keys([path])


def test_unknown_roles_are_kept(tmp_path: Path) -> None:
    roles = {**ROLES, "audit": {"threshold": 1, "keys": [ONE.key_id]}}
    (tmp_path / "trust.json").write_bytes(signed_trust(changed(roles=roles), [OWNER]))
    assert load_trust(tmp_path / "trust.json").roles["audit"].keys == (ONE.key_id,)


def test_gpg_keys_sign_no_trust_files(tmp_path: Path, gpg: tuple[GpgKey, ...]) -> None:
    body = trust_body(keys=(gpg[0],), trust_keys=(OWNER,))
    body["roles"]["trust"]["keys"].append(gpg[0].key_id)
    (tmp_path / "trust.json").write_bytes(signed_trust(body, [OWNER]))
    with pytest.raises(TrustInvalid):
        load_trust(tmp_path / "trust.json")


def test_bare_keys_have_a_threshold_that_can_be_met(tmp_path: Path) -> None:
    for name, key in (("one", ONE), ("again", ONE), ("two", TWO)):
        (tmp_path / name).write_text(key.public)
    assert trust_of_keys([tmp_path / "one", tmp_path / "two"], 2).release.threshold == 2
    for names, threshold in ((("one", "again"), 2), (("one",), 0), ((), 1)):
        with pytest.raises(TrustInvalid):
            trust_of_keys([tmp_path / name for name in names], threshold)


# --- rotation ----------------------------------------------------------------------------------------------------


def rotated(
    tmp_path: Path, signers: Sequence[EcdsaKey], new_owners: Sequence[EcdsaKey], *, version: int = 2,
    project: str = "hello", old_threshold: int = 1, new_threshold: int = 1, now: datetime | None = None,
) -> bool:  # fmt: skip
    owners = (OWNER, SECOND_OWNER)
    old = trust_body(keys=(ONE,), trust_keys=owners, trust_threshold=old_threshold)
    new = trust_body(keys=(TWO,), trust_keys=new_owners, trust_threshold=new_threshold, version=version,
                     project=project)  # fmt: skip
    (tmp_path / "old.json").write_bytes(signed_trust(old, owners))
    (tmp_path / "new.json").write_bytes(signed_trust(new, signers))
    loaded = load_trust(tmp_path / "new.json")
    try:
        return accept_rotation(load_trust(tmp_path / "old.json"), loaded, now).version == version
    except TrustInvalid:
        return False


def test_a_rotation_needs_the_old_keys_and_the_new(tmp_path: Path) -> None:
    assert rotated(tmp_path, (OWNER, THIRD_OWNER), (THIRD_OWNER,))
    assert rotated(tmp_path, (OWNER,), (OWNER,))
    assert not rotated(tmp_path, (THIRD_OWNER,), (THIRD_OWNER,))
    assert not rotated(tmp_path, (OWNER, THIRD_OWNER), (THIRD_OWNER,), old_threshold=2)
    assert rotated(tmp_path, (OWNER, SECOND_OWNER, THIRD_OWNER), (THIRD_OWNER,), old_threshold=2)
    assert not rotated(tmp_path, (OWNER, OWNER, THIRD_OWNER), (THIRD_OWNER,), old_threshold=2)
    assert not rotated(tmp_path, (OWNER, THIRD_OWNER, STRANGER), (THIRD_OWNER,))


def test_a_rotation_goes_one_step_in_one_project(tmp_path: Path) -> None:
    for version in (1, 3):
        assert not rotated(tmp_path, (OWNER,), (OWNER,), version=version)
    assert not rotated(tmp_path, (OWNER,), (OWNER,), project="other")
    with pytest.raises(TrustInvalid):
        rotated(tmp_path, (OWNER,), (OWNER, THIRD_OWNER), new_threshold=2)


def test_old_keys_that_no_longer_count_appoint_nobody(tmp_path: Path) -> None:
    assert rotated(tmp_path, (OWNER,), (OWNER,), now=NOW)
    assert not rotated(tmp_path, (OWNER,), (OWNER,), now=NOW + timedelta(days=400))


# --- real tools --------------------------------------------------------------------------------------------------


def cosign(program: Path, folder: Path, *arguments: str) -> None:
    env = {"HOME": str(folder), "COSIGN_PASSWORD": "", "PATH": os.environ["PATH"]}
    subprocess.run((str(program), *arguments), cwd=folder, env=env, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("program", COSIGNS, ids=lambda path: path.parts[-4])
def test_bundles_and_keys_of_the_real_cosign_are_accepted(tmp_path: Path, program: Path) -> None:
    if not program.is_file():
        pytest.skip(f"no {program}: run ci/tools")
    (tmp_path / "file").write_bytes(b"what is signed\n")
    cosign(program, tmp_path, "generate-key-pair")
    new = ("--use-signing-config=false",) if "cosign-3" in str(program) else ("--new-bundle-format",)
    cosign(program, tmp_path, "sign-blob", "--key", "cosign.key", "--bundle", "file.sigstore.json",
           "--tlog-upload=false", "-y", *new, "file")  # fmt: skip
    trust = trust_of_keys([tmp_path / "cosign.pub"])
    assert verify_file(tmp_path / "file", trust, NOW).passed
    (tmp_path / "file").write_bytes(b"what was signed\n")
    assert errors_of(verify_file(tmp_path / "file", trust, NOW)) == {"SignatureInvalid"}


def test_an_attestation_of_the_real_cosign_is_accepted(tmp_path: Path) -> None:
    program = COSIGNS[1]
    if not program.is_file():
        pytest.skip(f"no {program}: run ci/tools")
    release = make_release(tmp_path / "release", artifacts=1)
    statement = release.folder / f"{release.artifacts[0]}.provenance.json"
    cosign(program, tmp_path, "generate-key-pair")
    cosign(program, tmp_path, "attest-blob", "--key", "cosign.key", "--statement", str(statement), "--bundle",
           "bundle.json", "--tlog-upload=false", "--use-signing-config=false", "-y")  # fmt: skip
    (key,) = trust_of_keys([tmp_path / "cosign.pub"]).keys.values()
    check_signature(statement.read_bytes(), (tmp_path / "bundle.json").read_bytes(), key, NOW)


def test_a_fresh_signature_is_checked_at_once(tmp_path: Path, gpg: tuple[GpgKey, ...]) -> None:
    (tmp_path / "file").write_bytes(b"file")
    key = TrustedKey(key_id=KeyId(ONE.key_id), kind=KeyKind.ECDSA, public=ONE.public, since=NOW)
    check_signature(tmp_path / "file", line(ONE.bundle(b"file")), key, NOW)
    check_signature(b"{}\n", line(ONE.attestation(b"{}\n")), key, NOW)
    armored = TrustedKey(key_id=KeyId(gpg[0].key_id), kind=KeyKind.GPG, public=gpg[0].public, since=NOW)
    check_signature(tmp_path / "file", gpg[0].armor(b"file"), armored, NOW)
    for subject, signature, by, error in (
        (tmp_path / "file", line(ONE.bundle(b"other")), key, SignatureInvalid),
        (tmp_path / "file", line(TWO.bundle(b"file")), key, UntrustedKey),
        (tmp_path / "file", line(ONE.attestation(b"file")), key, SignatureInvalid),
        (b"{}\n", line(ONE.attestation(b"[]\n")), key, ProvenanceInvalid),
        (b"{}\n", line(ONE.bundle(b"{}\n")), key, SignatureInvalid),
        (tmp_path / "file", gpg[0].armor(b"other"), armored, SignatureInvalid),
        (tmp_path / "file", gpg[1].armor(b"file"), armored, UntrustedKey),
        (tmp_path / "file", canonical({}), key, SignatureInvalid),
    ):
        with pytest.raises(error):
            check_signature(subject, signature, by, NOW)


@pytest.mark.parametrize("algorithm", ["rsa3072", "nistp256"])
def test_other_gpg_keys_sign_too(tmp_path: Path, algorithm: str) -> None:
    with gpg_keys("Other <other@example.org>", algorithm=algorithm) as (key,):
        release = make_release(tmp_path / "release", keys=(key,), artifacts=1)
        assert judge(release, tmp_path / "trust.json", (key,)).passed
