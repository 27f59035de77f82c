"""Verification: what a sound release needs, what the result says, and the shape of the room."""

import ast
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrage import encrypt, x25519  # type: ignore[import-not-found,import-untyped,unused-ignore]  # a compiled module without types
from typer.testing import CliRunner

from orchestrator import errors
from orchestrator.cli.main import app
from orchestrator.cli.verify import verify as verify_command
from orchestrator.errors import SummaryInvalid, TooFewSignatures, VerificationError
from orchestrator.trust import Check, VerificationResult
from orchestrator.verify import (
    Expectations,
    TrustRoot,
    from_json,
    judge_release,
    load_identities,
    load_trust,
    summary_statement,
    to_json,
    trust_of_keys,
    verify_file,
    verify_release,
    with_summary,
)
from orchestrator.verify.json_strict import BadJson
from tests.unit.release_maker import (
    COMMIT,
    NOW,
    SOURCE_URI,
    GpgKey,
    MadeRelease,
    ecdsa_key,
    gpg_keys,
    make_release,
    sha256,
    write_trust,
)

ROOT = Path(__file__).parents[2]
KEY = ecdsa_key(1)
FLAGS = ("hash_verified", "signature_verified", "sbom_validated", "slsa_validated", "policy_passed")


@pytest.fixture
def release(tmp_path: Path) -> MadeRelease:
    return make_release(tmp_path / "release")


@pytest.fixture
def trust(tmp_path: Path) -> TrustRoot:
    return load_trust(write_trust(tmp_path / "trust.json", (KEY,)))


@pytest.fixture(scope="module")
def gpg() -> Iterator[GpgKey]:
    with gpg_keys("Module <m@example.org>") as (key,):
        yield key


def found(result: VerificationResult) -> set[tuple[str, str]]:
    return {(each.file, each.error) for each in result.evidence if each.error}


def judged(release: MadeRelease, trust: TrustRoot, expectations: Expectations | None = None) -> VerificationResult:
    return judge_release(release.folder, trust, expectations or Expectations(), NOW)[0]


# --- the room ----------------------------------------------------------------------------------------------------


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] in {"orchestrator", "builders", "containers"}}


SHARED = ("orchestrator.trust", "orchestrator.errors", "orchestrator.__version__", "builders.errors", "builders.names",
          "builders.command")  # fmt: skip
"""Values and errors, how a name is shown, and the one place that starts processes: nothing that judges."""


@pytest.mark.parametrize("path", sorted((ROOT / "orchestrator/verify").glob("*.py")), ids=lambda path: path.name)
def test_verify_shares_no_code_with_what_it_judges(path: Path) -> None:
    for name in imported(path) - {"orchestrator", "builders"}:
        own = name.startswith("orchestrator.verify")
        shared = any(name == each or name.startswith(f"{each}.") for each in SHARED)
        assert own or shared, f"{path.name} imports {name}"


def test_signing_imports_nothing_of_verify() -> None:
    files = sorted((ROOT / "orchestrator/signing").glob("*.py"))
    assert files
    for path in files:
        assert not {name for name in imported(path) if name.startswith("orchestrator.verify")}


def test_every_file_is_opened_once(release: MadeRelease, trust: TrustRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = os.open

    def counting(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None:
            assert flags & os.O_NOFOLLOW
            opened.append(str(path))
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", counting)
    assert judged(release, trust).passed
    assert sorted(opened) == release.names()


# --- a sound release ---------------------------------------------------------------------------------------------


def test_a_sound_release_holds(release: MadeRelease, trust: TrustRoot) -> None:
    verified = verify_release(release.folder, trust, Expectations(), NOW)
    assert verified.result.passed
    assert all(getattr(verified.result, flag) for flag in FLAGS)
    assert [str(path) for path, _ in verified.files] == release.names()
    assert (verified.project, verified.version, verified.result.exit_code) == ("hello", "1.2.3", 0)


def test_expectations_that_hold(release: MadeRelease, trust: TrustRoot) -> None:
    wanted = Expectations(source_uri=SOURCE_URI, commit=COMMIT, version="1.2.3")
    assert judged(release, trust, wanted).passed


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Expectations(builders=("urn:relbuild:builder:buildx:workstation",)), "ProvenanceInvalid"),
        (Expectations(source_uri="git+https://example.org/other"), "ProvenanceInvalid"),
        (Expectations(commit="d" * 40), "ProvenanceInvalid"),
        (Expectations(version="1.2.4"), "ManifestInvalid"),
        (Expectations(require_summary=True), "SummaryInvalid"),
        (Expectations(require_encryption=True), "EncryptionInvalid"),
        (Expectations(require_artifact_signatures=True), "TooFewSignatures"),
    ],
)
def test_expectations_that_do_not_hold(
    release: MadeRelease, trust: TrustRoot, wanted: Expectations, error: str
) -> None:
    result = judged(release, trust, wanted)
    assert {name for _, name in found(result)} == {error}
    assert result.exit_code == getattr(errors, error).exit_code
    with pytest.raises(getattr(errors, error)) as raised:
        verify_release(release.folder, trust, wanted, NOW)
    assert raised.value.result == result


def test_several_kinds_of_failure_are_all_told(release: MadeRelease, trust: TrustRoot) -> None:
    release.write("foreign", b"x")
    (release.folder / f"{release.artifacts[0]}.intoto.jsonl").unlink()
    with pytest.raises(VerificationError) as raised:
        verify_release(release.folder, trust, Expectations(), NOW)
    assert type(raised.value) is VerificationError
    assert raised.value.exit_code == 40
    assert found(raised.value.result) == {  # type: ignore[attr-defined]  # the contract's attribute
        ("foreign", "DigestMismatch"), (f"{release.artifacts[0]}.intoto.jsonl", "TooFewSignatures"),
    }  # fmt: skip


def test_another_project_is_refused(tmp_path: Path, release: MadeRelease) -> None:
    other = load_trust(write_trust(tmp_path / "other.json", (KEY,), project="other"))
    assert found(judged(release, other)) == {("manifest.json", "ManifestInvalid")}


def test_bare_keys(tmp_path: Path, release: MadeRelease) -> None:
    (tmp_path / "cosign.pub").write_text(KEY.public)
    assert judged(release, trust_of_keys([tmp_path / "cosign.pub"])).passed
    (tmp_path / "other.pub").write_text(ecdsa_key(2).public)
    assert {error for _, error in found(judged(release, trust_of_keys([tmp_path / "other.pub"])))} == {"UntrustedKey"}


def test_gpg_alone_vouches_by_the_manifest(tmp_path: Path, gpg: GpgKey) -> None:
    release = make_release(tmp_path / "release", keys=(gpg,))
    (tmp_path / "key.asc").write_text(gpg.public)
    result = judged(release, trust_of_keys([tmp_path / "key.asc"]))
    assert result.passed
    assert any("no trusted key can attest" in each.text for each in result.evidence)


# --- summary -----------------------------------------------------------------------------------------------------


def test_a_summary_holds_for_a_part_of_its_release_too(release: MadeRelease, trust: TrustRoot) -> None:
    verified = verify_release(release.folder, trust, Expectations(), NOW)
    statement = summary_statement(verified, NOW)
    name, mine = f"{release.version}.vsa.intoto.jsonl", Expectations(targets=("armv7",), require_summary=True)
    release.attest(name, statement)
    for path in release.folder.glob("*_aarch64.tar.gz*"):
        path.unlink()
    result, whole = judge_release(release.folder, trust, mine, NOW)
    assert (result.passed, whole) == (True, None), result.evidence
    assert not judge_release(release.folder, trust, Expectations(require_summary=True), NOW)[0].passed
    kept = sha256(release.read(f"{release.artifacts[1]}.intoto.jsonl")).encode()
    assert kept in statement
    release.attest(name, statement.replace(kept, b"0" * 64))
    assert not judge_release(release.folder, trust, mine, NOW)[0].passed


def test_a_summary_is_made_signed_and_required(release: MadeRelease, trust: TrustRoot) -> None:
    verified = verify_release(release.folder, trust, Expectations(), NOW)
    name = "1.2.3.vsa.intoto.jsonl"
    release.attest(name, summary_statement(verified, NOW))
    summed = with_summary(verified, release.folder / name, trust, NOW)
    assert name in {str(path) for path, _ in summed.files}
    again = verify_release(release.folder, trust, Expectations(require_summary=True), NOW)
    assert again.files == summed.files


@pytest.mark.parametrize(
    "change",
    [("PASSED", "FAILED"), ("SLSA_BUILD_LEVEL_1", "SLSA_BUILD_LEVEL_3"), (":1.2.3", ":1.2.4"), ("2026-06", "2036-06"),
     ("verification-policy:v1", "verification-policy:v0"), ('"name": "manifest.json"', '"name": "manifest"'),
     (".intoto.jsonl", ".intoto")],
    ids=str,
)  # fmt: skip
def test_a_signed_summary_that_says_something_else_is_refused(
    release: MadeRelease, trust: TrustRoot, change: tuple[str, str]
) -> None:
    verified = verify_release(release.folder, trust, Expectations(), NOW)
    statement = summary_statement(verified, NOW)
    changed = statement.replace(change[0].encode(), change[1].encode())
    assert changed != statement
    name = "1.2.3.vsa.intoto.jsonl"
    release.attest(name, changed)
    assert found(judged(release, trust)) == {(name, "SummaryInvalid")}
    release.attest(name, statement.replace(b"hello", b"other"))
    with pytest.raises(SummaryInvalid):
        with_summary(verified, release.folder / name, trust, NOW)


# --- encryption --------------------------------------------------------------------------------------------------


def encrypted(release: MadeRelease, tmp_path: Path) -> Path:
    identity = x25519.Identity.generate()
    for name in release.artifacts:
        release.write(f"{name}.age", encrypt(release.read(name), [identity.to_public()]))
        release.sign(f"{name}.age")
    path = tmp_path / "identity.txt"
    path.write_text(f"# a comment\n{identity}\n")
    return path


def test_encrypted_copies_are_opened_and_compared(tmp_path: Path, release: MadeRelease, trust: TrustRoot) -> None:
    identities = load_identities([encrypted(release, tmp_path)])
    wanted = Expectations(require_encryption=True)
    assert judge_release(release.folder, trust, wanted, NOW, identities)[0].passed
    other = load_identities([encrypted(make_release(tmp_path / "other"), tmp_path)])
    names = {(f"{name}.age", "EncryptionInvalid") for name in release.artifacts}
    assert found(judge_release(release.folder, trust, wanted, NOW, other)[0]) == names


def test_an_encrypted_copy_of_something_else_is_seen(tmp_path: Path, release: MadeRelease, trust: TrustRoot) -> None:
    identities = load_identities([encrypted(release, tmp_path)])
    one, two = (f"{name}.age" for name in release.artifacts)
    release.write(one, release.read(two))
    release.sign(one)
    result = judge_release(release.folder, trust, Expectations(), NOW, identities)[0]
    assert found(result) == {(one, "EncryptionInvalid")}


def test_the_plain_file_may_be_gone_where_its_copy_counts(
    tmp_path: Path, release: MadeRelease, trust: TrustRoot
) -> None:
    identities = load_identities([encrypted(release, tmp_path)])
    for name in release.artifacts:
        (release.folder / name).unlink()
    assert {error for _, error in found(judged(release, trust))} == {"DigestMismatch"}
    assert judged(release, trust, Expectations(require_encryption=True)).passed
    assert judge_release(release.folder, trust, Expectations(), NOW, identities)[0].passed


# --- one file ----------------------------------------------------------------------------------------------------


def test_one_file_with_its_evidence(tmp_path: Path, trust: TrustRoot) -> None:
    release = make_release(tmp_path / "release", each_artifact=True)
    name = release.artifacts[0]
    path = release.folder / name
    assert verify_file(path, trust, NOW, Expectations(commit=COMMIT, source_uri=SOURCE_URI)).passed
    assert found(verify_file(path, trust, NOW, Expectations(commit="d" * 40))) == {
        (f"{name}.intoto.jsonl", "ProvenanceInvalid")
    }
    release.write(f"{name}.spdx.json", release.read(f"{release.artifacts[1]}.spdx.json"))
    assert found(verify_file(path, trust, NOW)) == {(f"{name}.spdx.json", "SbomInvalid")}
    (release.folder / f"{name}.intoto.jsonl").unlink()
    (release.folder / f"{name}.sigstore.json").unlink()
    assert (name, TooFewSignatures.__name__) in found(verify_file(path, trust, NOW))
    for bad in (tmp_path / "none", tmp_path, tmp_path / "a\0b", tmp_path / "a\nb", tmp_path / os.fsdecode(b"\xff")):
        ((shown, error),) = found(verify_file(bad, trust, NOW))
        assert (shown.isprintable(), error) == (True, "DigestMismatch")


# --- results and the command -------------------------------------------------------------------------------------


def test_a_result_travels_as_json(release: MadeRelease, trust: TrustRoot) -> None:
    release.write("foreign", b"x")
    result = judged(release, trust)
    assert from_json(to_json(result)) == result
    for old, new in ((b'"passed": false', b'"passed": true'), (b'"exit_code": 41', b'"exit_code": 0'), (b"}", b"} ")):
        with pytest.raises(BadJson):
            from_json(to_json(result).replace(old, new))


def test_a_family_without_evidence_did_not_pass(release: MadeRelease, trust: TrustRoot) -> None:
    (release.folder / "manifest.json").unlink()
    result = judged(release, trust)
    assert not any(getattr(result, flag) for flag in FLAGS if flag not in {"policy_passed", "signature_verified"})
    assert not [each for each in result.evidence if each.check is Check.SBOM]


def run(*arguments: str) -> tuple[int, str]:
    commands = {command.name for command in app.registered_commands}
    if "verify" not in commands:
        app.command("verify")(verify_command)
    done = CliRunner().invoke(app, ["verify", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_the_command_tells_and_exits(tmp_path: Path, release: MadeRelease) -> None:
    trust = str(write_trust(tmp_path / "trust.json", (KEY,)))
    at = ("--at", "2026-06-01T12:00:00Z")
    code, text = run(str(release.folder), "--trust", trust, *at)
    assert (code, "hello 1.2.3 is verified" in text) == (0, True)
    release.write("foreign\x1b[2J", b"x")
    kept = tmp_path / "result.json"
    code, text = run(str(release.folder), "--trust", trust, "--result", str(kept), *at)
    assert (code, "is NOT verified" in text, "\x1b" in text, "next: " in text) == (41, True, False, True)
    assert from_json(kept.read_bytes()).exit_code == 41
    code, text = run(str(release.folder), "--trust", trust, "--json", *at)
    assert (code, json.loads(text)["passed"]) == (41, False)
    (tmp_path / "cosign.pub").write_text(KEY.public)
    assert run(str(release.folder / release.artifacts[0]), "--key", str(tmp_path / "cosign.pub"))[0] == 0
