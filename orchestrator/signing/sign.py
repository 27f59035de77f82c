"""StagedRelease -> SignedRelease: puts signatures beside the files, each verified before it is there to be seen."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from builders.copying import full_disk_named, new_file, write_all
from builders.names import escaped
from orchestrator.errors import SigningFailed, VerificationError
from orchestrator.manifest import MANIFEST, SHA256_SUMS, DocumentKind
from orchestrator.model import Artifact, StagedRelease
from orchestrator.signing.blobs import blob_digest, opened
from orchestrator.signing.interface import Blob, Signer, Statement
from orchestrator.signing.openers import open_signers as open_signers  # noqa: PLC0414  (callers know this room by one name)
from orchestrator.staged import StagedDocument, read_documents
from orchestrator.trust import (
    ARMOR,
    ATTESTATION,
    BUNDLE,
    ENCRYPTED,
    STATEMENT,
    SUMMARY,
    KeyId,
    PlainFiles,
    SignedRelease,
    SigningRules,
)

Subject = Blob | Statement
SignatureCheck = Callable[[Subject, bytes, KeyId], None]
"""Look at a subject, the content of its signature's file and the key that made it. Raises VerificationError."""

SHORT_ID: Final = 12
_MAX_SIGNATURE_BYTES: Final = 4 << 20
_MAX_STATEMENT_BYTES: Final = 64 << 20
_ENDINGS = (BUNDLE, ARMOR, ATTESTATION, ENCRYPTED)
_UNFINISHED = ".signing"


def sign_release(
    staged: StagedRelease, signers: Sequence[Signer], rules: SigningRules, check: SignatureCheck
) -> SignedRelease:
    """Sign what `rules` say, and remove what an earlier signing left and this one does not make.

    A signature that is there and holds is kept, so that a second run changes nothing (age files differ every time).
    Raises SigningFailed, ManifestInvalid, DiskFull.
    """
    work = _Signing(staged.folder, signers, check)
    try:
        with full_disk_named(staged.folder):
            return _signed(staged, rules, work)
    except OSError as error:
        raise SigningFailed(
            f"signatures cannot be written in {escaped(str(staged.folder))}: {error.strerror}",
            next_step="see who owns that folder, and that its file system is writable",
        ) from error


def sign_summary(
    folder: Path, version: str, statement: bytes, signers: Sequence[Signer], check: SignatureCheck
) -> PurePosixPath:
    """Put the signed verification summary into a release's folder. Raises SigningFailed, DiskFull."""
    work = _Signing(folder, signers, check)
    name = f"{version}{SUMMARY}"
    if not work.attesters:
        raise SigningFailed(f"none of the signers can sign {escaped(name)}: GPG signs files only",
                            next_step="add a key-file, kms or keyless signer to [signing]")  # fmt: skip
    try:
        with full_disk_named(folder):
            work.attest(name, Statement(payload=statement))
    except OSError as error:
        raise SigningFailed(f"{escaped(name)} cannot be written: {error.strerror}",
                            next_step=f"see who owns {escaped(str(folder))}") from error  # fmt: skip
    return PurePosixPath(name)


def _signed(staged: StagedRelease, rules: SigningRules, work: "_Signing") -> SignedRelease:
    documents = read_documents(staged)
    for blob in _papers(staged, documents):
        work.sign_file(blob)
    for document in documents:
        if document.kind is DocumentKind.PROVENANCE and work.attesters:
            work.attest(_attestation_of(document), Statement(payload=_payload(staged.folder, document)))
    removed = rules.encryption.plain is PlainFiles.REMOVE and bool(rules.encryption.recipients)
    if rules.each_artifact and not removed:
        for artifact in staged.artifacts:
            work.sign_file(Blob(path=staged.folder / artifact.path, sha256=artifact.sha256))
    if rules.encryption.recipients:
        for artifact in staged.artifacts:
            work.sign_file(_encrypted(staged.folder, artifact, rules, work))
    work.remove_others(staged, documents)
    if removed:
        # Last, when every encrypted copy is signed: a run that stops before this can be done again.
        for artifact in staged.artifacts:
            (staged.folder / artifact.path).unlink(missing_ok=True)
    key_ids = tuple(signer.key_id for signer in work.signers)
    return SignedRelease(staged=staged, key_ids=key_ids, files=tuple(PurePosixPath(name) for name in sorted(work.made)))


def _papers(staged: StagedRelease, documents: Iterable[StagedDocument]) -> tuple[Blob, ...]:
    sums = [document for document in documents if str(document.path) == SHA256_SUMS]
    if not sums:
        raise SigningFailed(f"{MANIFEST} does not list {SHA256_SUMS}", next_step="stage the release again")
    return (
        Blob(path=staged.folder / MANIFEST, sha256=staged.manifest_sha256),
        Blob(path=staged.folder / SHA256_SUMS, sha256=sums[0].sha256),
    )


def _attestation_of(document: StagedDocument) -> str:
    return f"{str(document.path).removesuffix(STATEMENT)}{ATTESTATION}"


def _payload(folder: Path, document: StagedDocument) -> bytes:
    """Read a statement's bytes, which are what gets signed, and hold them to the manifest."""
    blob = Blob(path=folder / document.path, sha256=document.sha256)
    if document.size_bytes > _MAX_STATEMENT_BYTES:
        raise SigningFailed(f"{document.path} is larger than {_MAX_STATEMENT_BYTES >> 20} MiB",
                            next_step="stage the release again")  # fmt: skip
    with opened(blob) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
        data = file.read(document.size_bytes + 1)
    if hashlib.sha256(data).hexdigest() != document.sha256:
        blob_digest(blob)
        raise SigningFailed(f"{document.path} was changed while it was read", next_step="stage the release again")
    return data


def _encrypted(folder: Path, artifact: Artifact, rules: SigningRules, work: "_Signing") -> Blob:
    """Encrypt an artifact; where an earlier run removed the plain file, give the encrypted one that it left."""
    plain = Blob(path=folder / artifact.path, sha256=artifact.sha256)
    place = folder / f"{artifact.path}{ENCRYPTED}"
    work.made.add(place.name)
    if rules.encryption.plain is PlainFiles.REMOVE and place.is_file() and not os.path.lexists(plain.path):
        with place.open("rb") as file:
            kept = Blob(path=place, sha256=hashlib.file_digest(file, "sha256").hexdigest())
        # Nothing but its own signatures says that this file was made of the artifact.
        work.demand_signatures(kept)
        return kept
    from orchestrator.signing.age_files import encrypt  # noqa: PLC0415  (costs, and few releases are encrypted)

    temporary = _temporary(place)
    try:
        made = encrypt(plain, temporary, rules.encryption.recipients)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)
    return Blob(path=place, sha256=made.sha256)


class _Signing:
    """Signs into one folder, and knows the names of all that belongs there."""

    def __init__(self, folder: Path, signers: Sequence[Signer], check: SignatureCheck) -> None:
        self.folder = folder
        self.signers = tuple(signers)
        self.attesters = tuple(signer for signer in signers if signer.attests)
        self.made: set[str] = set()
        self.changed = False
        self._check = check
        self._suffixes = _suffixes(self.signers)

    def sign_file(self, blob: Blob) -> None:
        """Put every signer's signature beside a file."""
        # A signature that is there may hold for other bytes that are there too: the promise is what counts.
        blob_digest(blob)
        for signer in self.signers:
            name = f"{blob.path.name}{self._suffixes[signer.key_id]}"
            self.made.add(name)
            if not self._holds(blob, _content(self.folder / name), signer):
                self._write(name, self._sign(signer, blob))

    def attest(self, name: str, statement: Statement) -> None:
        """Put a file with one bundle a line, one line a signer, into the folder."""
        self.made.add(name)
        lines = _content(self.folder / name).split(b"\n")
        pairs = zip(self.attesters, lines, strict=False)
        whole = len(lines) == len(self.attesters) + 1 and not lines[-1]
        if not whole or not all(self._holds(statement, line, signer) for signer, line in pairs):
            signed = [self._sign(signer, statement) for signer in self.attesters]
            self._write(name, b"".join(each + b"\n" for each in signed))

    def demand_signatures(self, blob: Blob) -> None:
        """Raise SigningFailed unless every signer's signature is there already."""
        for signer in self.signers:
            name = f"{blob.path.name}{self._suffixes[signer.key_id]}"
            if not self._holds(blob, _content(self.folder / name), signer):
                raise SigningFailed(
                    f"{escaped(blob.path.name)} has no good signature by {signer.name}, and the plain file is gone",
                    next_step="stage the release again, then sign it",
                )

    def remove_others(self, staged: StagedRelease, documents: Sequence[StagedDocument]) -> None:
        """Remove signatures that this signing did not make; a summary only where it made others."""
        listed = {str(artifact.path) for artifact in staged.artifacts} | {str(each.path) for each in documents}
        summary = f"{staged.version}{SUMMARY}"
        stale = [
            path
            for path in self.folder.iterdir()
            if path.name not in listed | self.made and (path.name.endswith(_ENDINGS) or _is_temporary(path.name))
        ]
        self.changed |= any(path.name != summary for path in stale)
        for path in stale:
            if path.name != summary or self.changed:
                path.unlink()
            else:
                self.made.add(summary)

    def _sign(self, signer: Signer, subject: Subject) -> bytes:
        content = signer.sign(subject)
        try:
            self._check(subject, content, signer.key_id)
        except VerificationError as error:
            raise SigningFailed(
                f"the signature that {signer.name} made of {_name(subject)} does not verify: {error.what}",
                next_step=error.next_step or "see that the trust file knows this key",
            ) from error
        return content

    def _holds(self, subject: Subject, content: bytes, signer: Signer) -> bool:
        if not content:
            return False
        try:
            self._check(subject, content, signer.key_id)
        except VerificationError:
            return False
        return True

    def _write(self, name: str, content: bytes) -> None:
        self.changed = True
        temporary = _temporary(self.folder / name)
        try:
            with new_file(temporary, executable=False) as descriptor:
                write_all(descriptor, content)
            temporary.replace(self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)


def _suffixes(signers: Iterable[Signer]) -> Mapping[KeyId, str]:
    """Give what each signer's files end in: the first of a kind has the plain ending."""
    suffixes: dict[KeyId, str] = {}
    for signer in signers:
        suffix = signer.suffix if signer.suffix not in suffixes.values() else _short(signer)
        if suffix in suffixes.values():
            raise SigningFailed(f"the signatures of {signer.name} would have the name of another signer's",
                                next_step="leave one of them out of [signing]")  # fmt: skip
        suffixes[signer.key_id] = suffix
    return suffixes


def _short(signer: Signer) -> str:
    return f".{signer.key_id[:SHORT_ID]}{signer.suffix}"


def _content(path: Path) -> bytes:
    """Give what is there, or nothing for a missing, foreign or huge file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_MAX_SIGNATURE_BYTES + 1) if path.is_file() else b""
    return data if len(data) <= _MAX_SIGNATURE_BYTES else b""


def _temporary(path: Path) -> Path:
    short = hashlib.sha256(path.name.encode()).hexdigest()[:SHORT_ID]
    return path.with_name(f".{short}.{os.getpid()}{_UNFINISHED}")


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(_UNFINISHED)


def _name(subject: Subject) -> str:
    return escaped(subject.path.name) if isinstance(subject, Blob) else "a statement"
