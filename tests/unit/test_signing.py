"""Signing a staged folder: which files, what is kept and removed, the trust file, encrypted copies, the commands."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pyrage  # type: ignore[import-not-found,import-untyped,unused-ignore]  # a compiled module without types
import pytest
from typer.testing import CliRunner

from orchestrator.canonical import Json, canonical_json
from orchestrator.cli import keys as keys_command
from orchestrator.errors import (
    KeyRefused,
    ManifestInvalid,
    PassphraseWrong,
    SignatureInvalid,
    SigningFailed,
    StagingError,
    TrustInvalid,
)
from orchestrator.signing import age_files, key_file, private_file, public_keys, trust_file
from orchestrator.signing.bundle import key_id_of, pae
from orchestrator.signing.interface import Blob, Statement
from orchestrator.signing.key_file import EcKey, KeyFileSigner
from orchestrator.signing.sign import open_signers, sign_release, sign_summary
from orchestrator.signing.trust_file import Rotation
from orchestrator.staged import read_staged
from orchestrator.trust import (
    ARMOR,
    EncryptionRules,
    KeyId,
    PlainFiles,
    SignerKind,
    SignerRules,
    SigningRules,
)
from tests.contract.test_signers import NOW, statement

RULES = SigningRules(signers=(), trust=Path("trust.json"))
VERSION = "1.2.3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A signer whose signatures are readable: its name, and the digest of what was signed."""

    key_id: KeyId
    suffix: str = ".sigstore.json"
    attests: bool = True
    broken: bool = False

    @property
    def name(self) -> str:
        return f"marked {self.key_id}"

    def sign(self, subject: Blob | Statement) -> bytes:
        return b"bad" if self.broken else mark(self.key_id, subject)


def mark(key_id: str, subject: Blob | Statement) -> bytes:
    data = subject.path.read_bytes() if isinstance(subject, Blob) else subject.payload
    return f"{key_id} {hashlib.sha256(data).hexdigest()}".encode()


def check(subject: Blob | Statement, content: bytes, key_id: KeyId) -> None:
    if isinstance(subject, Blob):
        assert hashlib.sha256(subject.path.read_bytes()).hexdigest() == subject.sha256
    if content != mark(key_id, subject):
        raise SignatureInvalid("the mark is another")


FIRST, SECOND = Marked(key_id=KeyId("a" * 64)), Marked(key_id=KeyId("b" * 64))
GPG = Marked(key_id=KeyId("C" * 40), suffix=ARMOR, attests=False)
GPG_2 = Marked(key_id=KeyId("D" * 40), suffix=ARMOR, attests=False)


def entry(path: str, data: bytes, **more: Json) -> dict[str, Json]:
    return {
        "path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(),
        "sha512": hashlib.sha512(data).hexdigest(), **more,
    }  # fmt: skip


def manifest_of(files: dict[str, bytes]) -> dict[str, Any]:
    about: dict[str, Json] = {"kind": "file", "product": "p", "target": "x86_64", "made": {}, "executable": True}
    kinds = {".provenance.json": "provenance", ".spdx.json": "sbom-spdx"}
    documents = [
        entry(name, data, kind=kinds[ending], of=name.removesuffix(ending))
        for name, data in files.items()
        for ending in kinds
        if name.endswith(ending)
    ]
    documents.append(entry("checksums.txt", files["checksums.txt"], kind="checksums", of=""))
    return {
        "schema": "relbuild/manifest/v1", "project": "hello", "version": VERSION, "commit": "", "dirty": False,
        "epoch": 1_700_000_000, "absent": [], "documents": sorted(documents, key=lambda each: str(each["path"])),
        "artifacts": [entry(name, data, **about) for name, data in files.items() if name in {"one", "two"}],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / VERSION
    place.mkdir()
    files = {"one": b"first artifact", "two": b"second artifact"}
    files |= {f"{name}.provenance.json": statement(name, "0" * 64) for name in ("one", "two")}
    files |= {"one.spdx.json": b"{}", "checksums.txt": b"sums\n"}
    for name, data in files.items():
        (place / name).write_bytes(data)
    (place / "manifest.json").write_bytes(canonical_json(manifest_of(files)))
    return place


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def signed_names(folder: Path, signers: Sequence[Marked], rules: SigningRules = RULES) -> set[str]:
    before = set(content(folder))
    result = sign_release(read_staged(folder), signers, rules, check)
    assert result.key_ids == tuple(signer.key_id for signer in signers)
    new = set(content(folder)) - before
    assert {str(path) for path in result.files} >= new
    return new


# --- which files -------------------------------------------------------------------------------------------------

PAPERS = {"manifest.json.sigstore.json", "checksums.txt.sigstore.json"}
ATTESTED = {"one.intoto.jsonl", "two.intoto.jsonl"}


def test_one_signer_signs_the_papers_and_the_statements(folder: Path) -> None:
    assert signed_names(folder, [FIRST]) == PAPERS | ATTESTED
    line = (folder / "one.intoto.jsonl").read_bytes()
    assert line == mark(FIRST.key_id, Statement(payload=(folder / "one.provenance.json").read_bytes())) + b"\n"
    assert {oct((folder / name).stat().st_mode & 0o7777) for name in PAPERS} == {"0o644"}


def test_further_signers_have_their_own_files_and_lines(folder: Path) -> None:
    names = signed_names(folder, [GPG, FIRST, SECOND, GPG_2])
    papers = ("manifest.json", "checksums.txt")
    endings = (".sigstore.json", f".{'b' * 12}.sigstore.json", ".asc", f".{'D' * 12}.asc")
    assert names == ATTESTED | {f"{paper}{ending}" for paper in papers for ending in endings}
    lines = (folder / "two.intoto.jsonl").read_bytes().splitlines()
    assert [line.split()[0].decode() for line in lines] == [FIRST.key_id, SECOND.key_id]


def test_gpg_alone_signs_papers_and_attests_nothing(folder: Path) -> None:
    assert signed_names(folder, [GPG]) == {"manifest.json.asc", "checksums.txt.asc"}
    with pytest.raises(SigningFailed, match="none of the signers can sign"):
        sign_summary(folder, VERSION, b"{}", [GPG], check)


def test_each_artifact_is_signed_on_request(folder: Path) -> None:
    names = signed_names(folder, [FIRST, GPG], replace(RULES, each_artifact=True))
    assert {"one.sigstore.json", "one.asc", "two.sigstore.json", "two.asc"} <= names


def test_names_of_signatures_never_clash(folder: Path) -> None:
    near = Marked(key_id=KeyId("b" * 12 + "0" * 52))
    with pytest.raises(SigningFailed, match="would have the name of another signer's"):
        sign_release(read_staged(folder), [FIRST, SECOND, near], RULES, check)


def test_a_second_run_changes_nothing(folder: Path) -> None:
    signed_names(folder, [FIRST, GPG], replace(RULES, each_artifact=True))
    sign_summary(folder, VERSION, b"{}", [FIRST], check)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    signed_names(folder, [FIRST, GPG], replace(RULES, each_artifact=True))
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_what_another_signing_left_is_removed(folder: Path) -> None:
    signed_names(folder, [FIRST, SECOND, GPG], replace(RULES, each_artifact=True))
    sign_summary(folder, VERSION, b"{}", [FIRST], check)
    (folder / ".0123.99.signing").write_bytes(b"half")
    (folder / "foreign").write_bytes(b"not a signature: the verifier's to refuse")
    signed_names(folder, [SECOND])
    assert {name for name in content(folder) if name.endswith((".asc", ".jsonl", ".sigstore.json", ".signing"))} == (
        PAPERS | ATTESTED
    )
    assert (folder / "foreign").exists()
    assert (folder / "manifest.json.sigstore.json").read_bytes().startswith(SECOND.key_id.encode())


@pytest.mark.parametrize("bad", [b"", b"rubbish", b"x" * (5 << 20)])
def test_a_bad_signature_that_is_there_is_made_anew(folder: Path, bad: bytes) -> None:
    (folder / "manifest.json.sigstore.json").write_bytes(bad)
    (folder / "one.intoto.jsonl").write_bytes(bad + b"\n")
    signed_names(folder, [FIRST])
    after = content(folder)
    assert after["manifest.json.sigstore.json"].startswith(FIRST.key_id.encode())
    assert after["one.intoto.jsonl"].startswith(FIRST.key_id.encode())


def test_a_link_in_the_place_of_a_signature_is_replaced_not_followed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (folder / "manifest.json.sigstore.json").symlink_to(outside)
    signed_names(folder, [FIRST])
    assert outside.read_bytes() == b"mine"
    assert not (folder / "manifest.json.sigstore.json").is_symlink()


# --- refusals ----------------------------------------------------------------------------------------------------


def test_a_signature_that_does_not_verify_is_never_written(folder: Path) -> None:
    before = content(folder)
    with pytest.raises(SigningFailed, match=r"made of 'manifest.json' does not verify: the mark is another"):
        sign_release(read_staged(folder), [Marked(key_id=FIRST.key_id, broken=True)], RULES, check)
    assert content(folder) == before


@pytest.mark.parametrize("name", ["checksums.txt", "one.provenance.json", "manifest.json"])
def test_changed_papers_are_not_signed(folder: Path, name: str) -> None:
    staged = read_staged(folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    key = KeyFileSigner(name="key", key=key_file.new_key())
    with pytest.raises((SigningFailed, ManifestInvalid), match="other bytes than"):
        sign_release(staged, [key], RULES, lambda *_: None)
    assert not (folder / f"{name}.sigstore.json").exists()


def test_a_changed_artifact_is_not_signed(folder: Path) -> None:
    staged = read_staged(folder)
    (folder / "two").write_bytes(b"replaced")
    key = KeyFileSigner(name="key", key=key_file.new_key())
    with pytest.raises(SigningFailed, match=r"two' has other bytes than promised"):
        sign_release(staged, [key], replace(RULES, each_artifact=True), lambda *_: None)


def test_a_good_signature_of_other_bytes_is_not_kept(folder: Path) -> None:
    staged = read_staged(folder)
    (folder / "two").write_bytes(b"an older build")
    older = hashlib.sha256(b"an older build").hexdigest()
    (folder / "two.sigstore.json").write_bytes(FIRST.sign(Blob(path=folder / "two", sha256=older)))

    def path_only(subject: Blob | Statement, content: bytes, key_id: KeyId) -> None:
        if content != mark(key_id, subject):
            raise SignatureInvalid("the mark is another")

    with pytest.raises(SigningFailed, match=r"two' has other bytes than promised"):
        sign_release(staged, [FIRST], replace(RULES, each_artifact=True), path_only)


def test_no_signer_and_one_key_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SigningFailed, match="nobody signs"):
        open_signers(RULES, None)
    private_file.write_private(tmp_path / "a.key", key_file.new_key().private_pem(None))
    rules = SignerRules(kind=SignerKind.KEY_FILE, key=str(tmp_path / "a.key"))
    with pytest.raises(SigningFailed, match="are one key"):
        open_signers(replace(RULES, signers=(rules, rules)), None)


# --- encrypted copies --------------------------------------------------------------------------------------------


def test_age_copies_are_signed_and_open(folder: Path) -> None:
    identity, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    recipients = (str(identity.to_public()), str(other.to_public()))
    rules = replace(RULES, encryption=EncryptionRules(recipients=recipients))
    assert signed_names(folder, [FIRST], rules) == PAPERS | ATTESTED | {
        "one.age", "two.age", "one.age.sigstore.json", "two.age.sigstore.json",
    }  # fmt: skip
    for reader in (identity, other):
        assert pyrage.decrypt((folder / "one.age").read_bytes(), [reader]) == b"first artifact"
    signed_names(folder, [FIRST])
    assert not (folder / "one.age").exists()


def test_plain_files_go_only_when_their_copies_are_signed_and_a_second_run_keeps_them(folder: Path) -> None:
    recipients = (str(pyrage.x25519.Identity.generate().to_public()),)
    encryption = EncryptionRules(recipients=recipients, plain=PlainFiles.REMOVE)
    rules = replace(RULES, encryption=encryption, each_artifact=True)
    with pytest.raises(SigningFailed, match="does not verify"):
        sign_release(read_staged(folder), [Marked(key_id=FIRST.key_id, broken=True)], rules, check)
    assert (folder / "one").exists()
    names = signed_names(folder, [FIRST], rules)
    assert names >= {"one.age", "one.age.sigstore.json"}
    assert "one.sigstore.json" not in names
    assert not (folder / "one").exists()
    before = content(folder)
    signed_names(folder, [FIRST], rules)
    assert content(folder) == before
    (folder / "one.age").write_bytes(b"something else")
    with pytest.raises(SigningFailed, match=r"has no good signature by marked a+, and the plain file is gone"):
        sign_release(read_staged(folder), [FIRST], rules, check)


def test_encrypting_other_bytes_than_promised_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"changed")
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    with pytest.raises(SigningFailed, match="other bytes than promised"):
        age_files.encrypt(Blob(path=tmp_path / "file", sha256="0" * 64), tmp_path / "file.age", [recipient])


def test_a_secret_key_among_the_recipients_is_refused_and_not_shown() -> None:
    secret = str(pyrage.x25519.Identity.generate())
    with pytest.raises(KeyRefused, match="is not an age recipient") as caught:
        age_files.parse_recipients([secret])
    assert secret not in str(caught.value)
    with pytest.raises(KeyRefused, match="'age1rubbish' is not an age recipient"):
        age_files.parse_recipients(["age1rubbish"])
    with pytest.raises(KeyRefused, match="no age recipient"):
        age_files.parse_recipients([])


def peak_kib(*, reset: bool = False) -> int:
    """Give the largest memory this process had since the last reset (proc(5): clear_refs, VmHWM)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM")))


def test_signing_and_encrypting_hold_no_large_file_in_memory(tmp_path: Path) -> None:
    data, digest = os.urandom(1 << 20), hashlib.sha256()
    with (tmp_path / "large").open("wb") as file:
        for _ in range(96):
            file.write(data)
            digest.update(data)
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    before = peak_kib(reset=True)
    blob = Blob(path=tmp_path / "large", sha256=digest.hexdigest())
    made = age_files.encrypt(blob, tmp_path / "large.age", [recipient])
    KeyFileSigner(name="key", key=key_file.new_key()).sign(made)
    assert peak_kib() - before < 32 << 10
    with made.path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == made.sha256


# --- the staged folder -------------------------------------------------------------------------------------------


def test_a_staged_folder_is_read_back(folder: Path) -> None:
    staged = read_staged(folder)
    assert staged.manifest_sha256 == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert [artifact.path for artifact in staged.artifacts] == [PurePosixPath("one"), PurePosixPath("two")]
    assert staged.version == VERSION


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


BAD_MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "schema": (_set("schema", to="relbuild/manifest/v2"), "does not say"),
    "unknown-field": (_set("extra", to=1), "unknown or missing fields in the manifest: 'extra'"),
    "missing-field": (lambda manifest: manifest.pop("dirty"), "unknown or missing fields in the manifest: 'dirty'"),
    "other-version": (_set("version", to="1.2.4"), "is for version '1.2.4'"),
    "version-number": (_set("version", to=1), "has no text at version"),
    "no-artifacts": (_set("artifacts", to=[]), "lists no artifact"),
    "artifacts-object": (_set("artifacts", to={}), "has no list of objects at artifacts"),
    "escaping": (_set("artifacts", 0, "path", to="../one"), "cannot be in a release"),
    "hidden": (_set("artifacts", 0, "path", to=".one"), "cannot be in a release"),
    "itself": (_set("artifacts", 0, "path", to="manifest.json"), "cannot be in a release"),
    "option": (_set("artifacts", 0, "path", to="-rf"), "would be read as an option"),
    "signature-name": (_set("artifacts", 0, "path", to="one.asc"), "that of a document or a signature"),
    "twice": (_set("artifacts", 0, "path", to="TWO"), "twice"),
    "kind": (_set("artifacts", 0, "kind", to="folder"), "a kind that does not exist"),
    "size": (_set("artifacts", 0, "size", to=True), "no size"),
    "negative": (_set("artifacts", 0, "size", to=-1), "no size"),
    "digest": (_set("artifacts", 0, "sha256", to="A" * 64), "no sha256"),
    "document-digest": (_set("documents", 0, "sha512", to="a"), "no sha512"),
    "document-field": (_set("documents", 0, "extra", to=1), "unknown or missing fields in checksums.txt"),
}


@pytest.mark.parametrize(("change", "words"), BAD_MANIFESTS.values(), ids=BAD_MANIFESTS)
def test_a_manifest_that_staging_would_not_write_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    change(manifest)
    (folder / "manifest.json").write_bytes(canonical_json(manifest))
    with pytest.raises(ManifestInvalid, match=words):
        read_staged(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b" ",
        lambda data: data.replace(b'"dirty"', b'"dirty": true, "dirty"'),
        lambda data: data.replace(b"1700000000", b"NaN"),
        lambda data: b"[" * 100_000,
        lambda data: b"",
        lambda data: b"\xff",
        lambda data: b"null\n",
    ],
)
def test_a_manifest_in_another_form_is_refused(folder: Path, change: Callable[[bytes], bytes]) -> None:
    path = folder / "manifest.json"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ManifestInvalid):
        read_staged(folder)


def test_what_is_no_staged_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    for path in (tmp_path / "nowhere", tmp_path / "link", folder / "one"):
        with pytest.raises(StagingError, match="is not a folder of a staged release"):
            read_staged(path)
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    with pytest.raises(ManifestInvalid, match="is not a regular file"):
        read_staged(folder)


# --- the trust file ----------------------------------------------------------------------------------------------

OLD, NEW, THIRD = key_file.new_key(), key_file.new_key(), key_file.new_key()


def public(key: EcKey) -> public_keys.PublicKey:
    return public_keys.ecdsa_key(key.public_pem, "test")


def first(threshold: int = 1, *keys: EcKey) -> bytes:
    who = keys or (OLD,)
    return trust_file.new_trust(
        project="hello", keys=[public(key) for key in who], threshold=threshold, signers=who, now=NOW
    )


def makers(data: bytes) -> set[str]:
    """Verify every signature of a trust file with the cryptography package, and name its maker."""
    import base64

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    value = json.loads(data)
    signatures = value.pop("signatures")
    known = {key.key_id: key for key in (OLD, NEW, THIRD)}
    for signature in signatures:
        loaded = serialization.load_pem_public_key(known[signature["key_id"]].public_pem)
        assert isinstance(loaded, ec.EllipticCurvePublicKey)
        loaded.verify(base64.b64decode(signature["signature"]), canonical_json(value), ec.ECDSA(hashes.SHA256()))
    return {signature["key_id"] for signature in signatures}


def test_a_new_trust_file_is_signed_by_its_own_keys() -> None:
    data = first(2, OLD, NEW)
    value = json.loads(data)
    assert makers(data) == {OLD.key_id, NEW.key_id}
    assert value["version"] == 1
    assert value["roles"]["trust"] == {"threshold": 2, "keys": sorted([OLD.key_id, NEW.key_id])}
    assert value["keys"][OLD.key_id] == {
        "kind": "ecdsa-p256", "public": OLD.public_pem.decode(), "from": "2026-01-02T03:04:05Z", "until": None,
        "revoked": None,
    }  # fmt: skip


def test_a_rotation_is_signed_by_old_and_new() -> None:
    later = NOW + timedelta(days=1)
    data = trust_file.rotate(first(), Rotation(add=(public(NEW),), retire=(OLD.key_id,)), [OLD, NEW], later)
    value = json.loads(data)
    assert makers(data) == {OLD.key_id, NEW.key_id}
    assert value["version"] == 2
    assert value["keys"][OLD.key_id]["until"] == "2026-01-03T03:04:05Z"
    assert trust_file.counting(value, "release", later) == {NEW.key_id}


@pytest.mark.parametrize(
    ("change", "signers", "words"),
    [
        (Rotation(add=(public(NEW),), retire=(OLD.key_id,)), [OLD], "version 2 of the trust file wants the signatures"),
        (Rotation(add=(public(NEW),)), [NEW], "version 1 of the trust file wants the signatures of 1"),
        (Rotation(add=(public(NEW),)), [THIRD], "version 1 of the trust file wants"),
        (
            Rotation(add=(public(NEW),), threshold=2, trust_threshold=2),
            [OLD],
            "version 2 of the trust file wants the signatures of 2",
        ),
        (Rotation(retire=(OLD.key_id,)), [OLD], "would count at"),
        (Rotation(retire=(OLD.key_id,), until=datetime(2027, 1, 1, tzinfo=UTC)), [OLD], "would count at 2027"),
        (Rotation(revoke=(OLD.key_id,)), [OLD], "would count at"),
        (Rotation(threshold=2), [OLD], "wants 2 keys, and 1 would count"),
        (Rotation(retire=(KeyId("unknown"),)), [OLD], "knows no key 'unknown'"),
        (Rotation(add=(public(OLD),)), [OLD], "is in the trust file already"),
    ],
)
def test_a_rotation_that_nobody_could_follow_is_refused(change: Rotation, signers: list[EcKey], words: str) -> None:
    with pytest.raises((SigningFailed, KeyRefused), match=words):
        trust_file.rotate(first(), change, signers, NOW)


def test_a_retired_key_signs_no_further_rotation() -> None:
    until = NOW + timedelta(days=1)
    second = trust_file.rotate(first(), Rotation(add=(public(NEW),), retire=(OLD.key_id,), until=until), [OLD], NOW)
    change = Rotation(add=(public(THIRD),))
    assert makers(trust_file.rotate(second, change, [OLD], NOW)) == {OLD.key_id}
    with pytest.raises(SigningFailed, match="0 of them are here"):
        trust_file.rotate(second, change, [OLD], until)


def test_unknown_roles_and_their_keys_are_kept() -> None:
    value = trust_file.parsed(first())
    value["roles"]["audit"] = {"threshold": 1, "keys": [OLD.key_id]}
    after = trust_file.rotate(canonical_json({**value, "signatures": []}), Rotation(add=(public(NEW),)), [OLD], NOW)
    assert json.loads(after)["roles"]["audit"] == {"threshold": 1, "keys": [OLD.key_id]}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b" ",
        lambda data: b"{}\n",
        lambda data: b"[" * 100_000,
        lambda data: data.replace(b'"threshold": 1', b'"threshold": "1"'),
        lambda data: data.replace(b"2026-01-02T03:04:05Z", b"yesterday"),
        lambda data: data.replace(b'"release": {', b'"relaese": {'),
    ],
)
def test_a_broken_trust_file_is_not_rotated(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(TrustInvalid):
        trust_file.rotate(change(first()), Rotation(add=(public(NEW),)), [OLD], NOW)


def test_a_trust_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    trust_file.write_trust(path, b"one", new=True)
    with pytest.raises(SigningFailed, match="is there already and is not overwritten"):
        trust_file.write_trust(path, b"two", new=True)
    assert path.read_bytes() == b"one"
    trust_file.write_trust(path, b"three", new=False)
    assert path.read_bytes() == b"three"
    with pytest.raises(SigningFailed, match="cannot be written"):
        trust_file.write_trust(tmp_path / "no" / "trust.json", b"four", new=True)
    assert [found.name for found in tmp_path.iterdir()] == ["trust.json"]


def test_a_private_key_is_never_taken_for_a_public_one(tmp_path: Path) -> None:
    private_file.write_private(tmp_path / "a.key", OLD.private_pem(None))
    with pytest.raises(KeyRefused, match="holds a private key where a public one belongs"):
        public_keys.read_public_key(tmp_path / "a.key")


# --- keyless, as far as a machine without a network goes ---------------------------------------------------------


def token(**changes: object) -> bytes:
    import jwt

    now = int(datetime.now(UTC).timestamp())
    claims = {"iss": "https://issuer.invalid", "sub": "someone", "aud": "sigstore", "iat": now, "exp": now + 600}
    return jwt.encode({**claims, **changes}, "canary key of a test, long enough for HS256").encode()


KEYLESS = SignerRules(kind=SignerKind.KEYLESS, key="someone@example.invalid")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [
        name for name in os.environ if name.startswith(("GITHUB_", "ACTIONS_", "CI", "BUILDKITE", "SIGSTORE"))
    ]:
        monkeypatch.delenv(name)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        # A proxy that refuses at once: no test of ours leaves the machine.
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("given", "words", "step"),
    [
        (lambda: None, "has no identity token", "id-token: write"),
        (lambda: b"canary.rubbish.token", "malformed or missing claims", "fresh token"),
        (lambda: token(exp=1), "malformed or missing claims", "fresh token"),
        (lambda: token(aud="another"), "malformed or missing claims", "fresh token"),
        (token, "TUFError: Failed to refresh TUF metadata", "an offline release signs with a key-file"),
    ],
)
def test_keyless_says_why_it_cannot_sign_here(given: Callable[[], bytes | None], words: str, step: str) -> None:
    from orchestrator.signing.keyless import open_keyless

    raw = given()
    with pytest.raises(SigningFailed, match=words) as caught:
        open_keyless(KEYLESS, lambda: raw)
    assert step in caught.value.next_step
    assert "canary" not in str(caught.value)
    assert raw is None or raw.decode() not in str(caught.value)


# --- the commands ------------------------------------------------------------------------------------------------


def run(*arguments: str, env: dict[str, str] | None = None) -> Any:
    result = CliRunner().invoke(keys_command.app, list(arguments), env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_keys_are_made_shown_and_rotated(tmp_path: Path) -> None:
    old, new, trust = (str(tmp_path / name) for name in ("old.key", "new.key", "trust.json"))
    secret = {"RELBUILD_TEST_SECRET": "canary"}
    made = run(
        "generate", "--out", old, "--passphrase-env", "RELBUILD_TEST_SECRET", "--trust", trust, "--project", "hello",
        env=secret,
    )  # fmt: skip
    assert made.exit_code == 0
    old_id = made.output.split()[0]
    assert (tmp_path / "old.key").stat().st_mode & 0o7777 == 0o600
    assert b"ENCRYPTED PRIVATE KEY" in (tmp_path / "old.key").read_bytes()
    other = {"RELBUILD_TEST_OTHER": "another canary"}
    made_new = run("generate", "--out", new, "--kind", "cosign", "--passphrase-env", "RELBUILD_TEST_OTHER", env=other)
    assert made_new.exit_code == 0
    shown = json.loads(run("show", str(tmp_path / "new.pub"), "--json").output)
    assert shown["key_id"] == key_id_of(key_file.read_key(tmp_path / "new.key", lambda: b"another canary").spki)
    rotated = run(
        "rotate", "--trust", trust, "--add", str(tmp_path / "new.pub"), "--retire", old_id, "--until", "2999-01-01",
        "--key", old, "--passphrase-env", "RELBUILD_TEST_SECRET",
        "--key", new, "--passphrase-env", "RELBUILD_TEST_OTHER", env=secret | other,
    )  # fmt: skip
    assert "is version 2 now" in rotated.output
    value = json.loads((tmp_path / "trust.json").read_bytes())
    assert value["keys"][old_id]["until"] == "2999-01-01T00:00:00Z"
    table = run("show", trust).output
    assert old_id in table
    assert "'hello', version 2, expires never; thresholds: release 1, trust 1" in table
    assert "private, encrypted" in run("show", old, "--passphrase-env", "RELBUILD_TEST_SECRET", env=secret).output


def test_a_cosign_key_without_a_passphrase_can_be_shown(tmp_path: Path) -> None:
    path = str(tmp_path / "a.key")
    assert run("generate", "--out", path, "--kind", "cosign", "--no-passphrase").exit_code == 0
    shown = json.loads(run("show", path, "--json", "--no-passphrase").output)
    assert shown["half"] == "private, encrypted"
    assert shown["public"].encode() == (tmp_path / "a.pub").read_bytes()
    assert "PRIVATE" not in json.dumps(shown)


@pytest.mark.parametrize("taken", ["a.key", "a.pub", "trust.json"])
def test_generating_overwrites_nothing(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"mine")
    with pytest.raises((KeyRefused, SigningFailed), match="is there already and is not overwritten"):
        run("generate", "--out", str(tmp_path / "a.key"), "--no-passphrase", "--trust", str(tmp_path / "trust.json"),
            "--project", "hello")  # fmt: skip
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {taken: b"mine"}


def test_a_key_without_a_passphrase_is_only_made_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(PassphraseWrong, match="nobody is here to answer"):
        run("generate", "--out", str(tmp_path / "a.key"))
    with pytest.raises(PassphraseWrong, match="is empty"):
        run("generate", "--out", str(tmp_path / "a.key"), "--passphrase-env", "E", env={"E": ""})
    assert not list(tmp_path.iterdir())


def test_a_threshold_that_one_key_cannot_reach_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match="wants 2 keys, and 1 would count"):
        run("generate", "--out", str(tmp_path / "a.key"), "--no-passphrase", "--trust", str(tmp_path / "trust.json"),
            "--project", "hello", "--threshold", "2")  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_pae_is_what_the_dsse_protocol_says() -> None:
    assert pae(b"hello world") == b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
