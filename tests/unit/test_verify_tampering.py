"""Every file of a release, changed by one bit, cut, extended, emptied, removed or doubled: refused, and named."""

import base64
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyrage import encrypt, x25519  # type: ignore[import-not-found,import-untyped,unused-ignore]  # a compiled module without types

from orchestrator import errors
from orchestrator.trust import Evidence, KeyId
from orchestrator.verify import Expectations, TrustRoot, judge_release, load_trust, summary_statement, verify_release
from orchestrator.verify.keys import KeyKind, TrustedKey
from orchestrator.verify.packets import BadPacket, crc24, read_signature
from orchestrator.verify.pgp import Gpg, NotCounting, UnknownMaker
from orchestrator.verify.reading import read_file
from orchestrator.verify.single import check_signature
from tests.unit.release_maker import (
    NOW,
    GpgKey,
    Key,
    MadeRelease,
    ecdsa_key,
    gpg_keys,
    make_release,
    run_gpg,
    write_trust,
)

KEY = ecdsa_key(1)
ALLOWED = {
    "manifest.json": {"ManifestInvalid", "SignatureInvalid"},
    "checksums.txt": {"DigestMismatch", "SignatureInvalid"},
    ".sigstore.json": {"SignatureInvalid", "UntrustedKey"},
    ".asc": {"SignatureInvalid", "UntrustedKey"},
    ".vsa.intoto.jsonl": {"SignatureInvalid", "UntrustedKey", "SummaryInvalid"},
    ".intoto.jsonl": {"SignatureInvalid", "UntrustedKey", "ProvenanceInvalid"},
    ".provenance.json": {"DigestMismatch", "ProvenanceInvalid"},
    ".spdx.json": {"DigestMismatch", "SbomInvalid"},
    ".cdx.json": {"DigestMismatch", "SbomInvalid"},
    ".age": {"SignatureInvalid", "SummaryInvalid"},
    "": {"DigestMismatch", "SignatureInvalid"},
}
"""By the ending of a file: the classes of what may be said of it, or of what signs it. The first that fits counts."""

MISSING = {"DigestMismatch", "ManifestInvalid", "TooFewSignatures", "ProvenanceInvalid", "SummaryInvalid",
           "EncryptionInvalid"}  # fmt: skip
WANTED = Expectations(require_summary=True, require_encryption=True, require_artifact_signatures=True, version="1.2.3")


@pytest.fixture(scope="module")
def gpg() -> Iterator[GpgKey]:
    with gpg_keys("Module <m@example.org>") as (key,):
        yield key


class Made:
    """Releases with every kind of file: one signed by two kinds of keys, and one, much faster to judge, without gpg."""

    def __init__(self, root: Path, gpg: GpgKey) -> None:
        self._with_gpg, self._without = _made(root / "two", (KEY, gpg)), _made(root / "one", (KEY,))

    def of(self, name: str) -> tuple[MadeRelease, TrustRoot]:
        """Give a release for a test that changes this file, and puts it back."""
        return self._with_gpg if name.endswith(".asc") else self._without


def _made(root: Path, keys: tuple[Key, ...]) -> tuple[MadeRelease, TrustRoot]:
    release = make_release(root / "release", keys=keys, each_artifact=True, artifacts=1)
    (name,) = release.artifacts
    release.write(f"{name}.age", encrypt(release.read(name), [x25519.Identity.generate().to_public()]))
    release.sign(f"{name}.age")
    trust = load_trust(write_trust(root / "trust.json", keys, threshold=len(keys)))
    wanted = Expectations(require_artifact_signatures=True)
    release.attest("1.2.3.vsa.intoto.jsonl",
                   summary_statement(verify_release(release.folder, trust, wanted, NOW), NOW))  # fmt: skip
    assert judge_release(release.folder, trust, WANTED, NOW)[0].passed
    return release, trust


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, gpg: GpgKey) -> Made:
    return Made(tmp_path_factory.mktemp("made"), gpg)


def failures(release: MadeRelease, trust: TrustRoot) -> list[Evidence]:
    result, verified = judge_release(release.folder, trust, WANTED, NOW)
    bad = [each for each in result.evidence if each.error]
    assert (verified is None) is bool(bad)
    assert result.exit_code == (0 if not bad else bad[0].exit_code if len({each.error for each in bad}) == 1 else 40)
    assert all(each.next_step and each.exit_code == getattr(errors, each.error).exit_code for each in bad)
    return bad


def about(name: str, bad: list[Evidence]) -> set[str]:
    """Give the classes of what is said of a file, or of what signs it."""
    return {each.error for each in bad if each.file.startswith(name)}


def allowed(name: str) -> set[str]:
    return next(classes for ending, classes in ALLOWED.items() if name.endswith(ending))


def names(kind: Callable[[str], bool] = bool) -> list[str]:
    """Name the files of `made`, which the fixture cannot tell before it ran."""
    artifact = "hello_1.2.3_linux_aarch64.tar.gz"
    signed = ("manifest.json", "checksums.txt", artifact, f"{artifact}.age")
    found = ["artifacts.json", "checksums.sha512", "1.2.3.vsa.intoto.jsonl", *signed,
             *(f"{artifact}{ending}" for ending in (".spdx.json", ".cdx.json", ".provenance.json", ".intoto.jsonl")),
             *(f"{name}{ending}" for name in signed for ending in (".sigstore.json", ".asc"))]  # fmt: skip
    return sorted(filter(kind, found))


def test_the_names_are_those_of_the_release(made: Made) -> None:
    assert names() == made.of(".asc")[0].names()


@pytest.mark.fault(52, 54, 57)
@pytest.mark.parametrize("name", names())
def test_one_flipped_bit_is_refused(made: Made, name: str) -> None:
    release, trust = made.of(name)
    content = release.read(name)
    chance = random.Random(name)
    spread = [len(content) * step // 20 for step in range(20)]
    try:
        for at in sorted({0, len(content) // 2, len(content) - 1, *spread}):
            changed = bytearray(content)
            changed[at] ^= 1 << chance.randrange(8)
            release.write(name, bytes(changed))
            said = about(name, failures(release, trust))
            assert said, f"{name}: byte {at} may be {bytes(changed[at : at + 1])!r}"
            assert said <= allowed(name), f"{name}: byte {at}: {said}"
    finally:
        release.write(name, content)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "cut by one": lambda content: content[:-1],
    "cut in half": lambda content: content[: len(content) // 2],
    "longer by a line feed": lambda content: content + b"\n",
    "longer by a space": lambda content: content + b" ",
    "longer by a zero": lambda content: content + b"\0",
    "empty": lambda content: b"",
    "twice": lambda content: content * 2,
    "huge": lambda content: content + b" " * (5 << 20),
}


@pytest.mark.fault(54, 55)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", names())
def test_changed_sizes_are_refused(made: Made, name: str, change: str) -> None:
    release, trust = made.of(name)
    content = release.read(name)
    try:
        release.write(name, CHANGES[change](content))
        said = about(name, failures(release, trust))
    finally:
        release.write(name, content)
    # A line of an attestation by a key that signed already is good, and counts once.
    assert said
    assert said <= allowed(name) | ({"TooFewSignatures"} if change == "twice" else set())


@pytest.mark.fault(55)
@pytest.mark.parametrize("name", names())
def test_removed_files_are_missed(made: Made, name: str) -> None:
    release, trust = made.of(name)
    content = release.read(name)
    try:
        (release.folder / name).unlink()
        bad = failures(release, trust)
    finally:
        release.write(name, content)
    assert bad
    assert {each.error for each in bad} <= MISSING


def link_instead(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def fifo_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("replace", [link_instead, fifo_instead, folder_instead])
@pytest.mark.parametrize("name", names(lambda name: name.endswith((".gz", "manifest.json", ".spdx.json", ".jsonl"))))
def test_what_is_no_regular_file_is_refused(tmp_path: Path, name: str, replace: Callable[[Path], None]) -> None:
    release = make_release(tmp_path / "release", artifacts=1)
    trust = load_trust(write_trust(tmp_path / "trust.json", (KEY,)))
    if not (release.folder / name).exists():
        name = f"{release.artifacts[0]}.intoto.jsonl"
    replace(release.folder / name)
    result, verified = judge_release(release.folder, trust, Expectations(), NOW)
    assert verified is None
    assert (name, "DigestMismatch") in {(each.file, each.error) for each in result.evidence}


@pytest.mark.parametrize(
    "name",
    ["extra.txt", ".hidden", "MANIFEST.json", "manifest.json.bak", "copy.tar.gz.intoto.jsonl", "1.2.4.vsa.intoto.jsonl",
     "artifacts.json.sigstore.json", "manifest.json.0123456789ab.sigstore.json.asc", "a\nb", "caf\u0065\u0301",
     os.fsdecode(b"\xff")],
)  # fmt: skip
def test_foreign_files_are_named(made: Made, name: str) -> None:
    release, trust = made.of(name)
    try:
        release.write(name, b"x")
        bad = failures(release, trust)
    finally:
        (release.folder / name).unlink()
    assert {each.error for each in bad} == {"DigestMismatch"}
    assert all(each.file.isprintable() for each in bad)


def test_names_that_other_systems_take_for_one_are_refused(made: Made) -> None:
    release, trust = made.of("")
    names = ["caf\u00e9.txt", "cafe\u0301.txt"]
    try:
        for name in names:
            release.write(name, b"x")
        bad = failures(release, trust)
    finally:
        for name in names:
            (release.folder / name).unlink()
    assert any("one file where names ignore case" in each.text for each in bad)


# --- signatures, byte by byte ------------------------------------------------------------------------------------


def trusted(key: GpgKey) -> TrustedKey:
    return TrustedKey(key_id=KeyId(key.key_id), kind=KeyKind.GPG, public=key.public, since=NOW)


def test_no_bit_of_a_bundle_can_be_changed(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", artifacts=1)
    key = TrustedKey(key_id=KeyId(KEY.key_id), kind=KeyKind.ECDSA, public=KEY.public, since=NOW)
    bundle, path = release.read("manifest.json.sigstore.json"), release.folder / "manifest.json"
    check_signature(path, bundle, key, NOW)
    for at in range(len(bundle)):
        changed = bytearray(bundle)
        changed[at] ^= 1 << at % 8
        with pytest.raises((errors.SignatureInvalid, errors.UntrustedKey)):
            check_signature(path, bytes(changed), key, NOW)


def rearmored(raw: bytes) -> bytes:
    coded = base64.b64encode(raw).decode()
    lines = "".join(f"{coded[at : at + 64]}\n" for at in range(0, len(coded), 64))
    check = base64.b64encode(crc24(raw).to_bytes(3, "big")).decode()
    return f"-----BEGIN PGP SIGNATURE-----\n\n{lines}={check}\n-----END PGP SIGNATURE-----\n".encode()


def raw_signature(armored: bytes) -> bytes:
    body = armored.decode().split("\n\n")[1].split("\n=")[0]
    return base64.b64decode(body)


def test_no_byte_of_a_gpg_signature_can_be_changed(tmp_path: Path, gpg: GpgKey) -> None:
    """The armor is made anew, with its right checksum, so that what is judged is the signature itself."""
    (tmp_path / "file").write_bytes(b"what is signed")
    subject = read_file(tmp_path / "file", copy=tmp_path / "copy")
    judge = Gpg.of(tmp_path, (trusted(gpg),))
    armored = gpg.armor(b"what is signed")
    raw = raw_signature(armored)
    assert rearmored(raw) == armored
    assert judge.signer_of(armored, subject, NOW) == gpg.key_id
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 1 << at % 8
        with pytest.raises((BadPacket, UnknownMaker, NotCounting)):
            judge.signer_of(rearmored(bytes(changed)), subject, NOW)


def test_bytes_behind_the_last_number_are_refused(gpg: GpgKey) -> None:
    raw = bytearray(raw_signature(gpg.armor(b"what is signed")))
    assert raw[0] == 0x88
    raw[1] += 1
    with pytest.raises(BadPacket, match="behind its last number"):
        read_signature(rearmored(bytes(raw) + b"\0"))


def test_gpg_itself_takes_what_is_refused_here(tmp_path: Path, gpg: GpgKey) -> None:
    """Headers, unhashed subpackets and the first bytes of the hash: gpg calls such signatures good."""
    armored = gpg.armor(b"what is signed")
    raw = bytearray(raw_signature(armored))
    unhashed_keyid = raw.index(bytes.fromhex(gpg.key_id)[-8:], 2 + 6 + 20 + 8)
    (tmp_path / "file").write_bytes(b"what is signed")
    start = bytearray(raw)
    start[unhashed_keyid + 8] ^= 1
    mended = {
        "header": armored.replace(b"-----\n\n", b"-----\nComment: other\n\n", 1),
        "space": armored.replace(b"-----\n\n", b"----- \n\n", 1),
        "behind": armored + b"and more\n",
        "start": rearmored(bytes(start)),
    }
    for name, content in mended.items():
        (tmp_path / f"{name}.asc").write_bytes(content)
        said = run_gpg(gpg.home, "--status-fd", "1", "--verify", str(tmp_path / f"{name}.asc"), str(tmp_path / "file"))
        assert b"VALIDSIG" in said, name
        subject = read_file(tmp_path / "file", copy=tmp_path / f"{name}.copy")
        with pytest.raises(BadPacket):
            Gpg.of(tmp_path, (trusted(gpg),)).signer_of(content, subject, NOW)


@pytest.mark.fault(55)
def test_a_signature_of_another_kind_is_refused(tmp_path: Path, gpg: GpgKey) -> None:
    clear = run_gpg(gpg.home, "--clear-sign", "--local-user", gpg.key_id, stdin=b"text\n")
    as_text = run_gpg(gpg.home, "--armor", "--textmode", "--detach-sign", "--local-user", gpg.key_id, stdin=b"text\n")
    weak = run_gpg(gpg.home, "--armor", "--digest-algo", "SHA1", "--detach-sign", "--local-user", gpg.key_id,
                   stdin=b"text\n")  # fmt: skip
    for content in (clear, as_text, weak, b"", b"x" * 100_000, gpg.public.encode()):
        with pytest.raises(BadPacket):
            read_signature(content)
