"""The staging area of one promotion: `.staging-<audit_id>/`, private, complete and durable before the claim.

Its fate is decided once, by who creates `fate`. Whoever drops an area overwrites `txn.json` before anything in it is
removed, `fate` included, so "claiming" counts only while `txn.json` is its maker's: one who lives on finds it is not.
"""

import contextlib
import hashlib
import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from orchestrator.canonical import canonical_json
from orchestrator.errors import DigestMismatch, KeyMissing, KeyTaken, OutcomeUnknown, RepositoryError, VerificationError
from orchestrator.publication import IndexedFile
from orchestrator.publish.version_names import read_version
from orchestrator.repositories.interface import Repository, Upload
from orchestrator.repositories.streams import side_by_side

PREFIX: Final = ".staging-"
LAST_FILES: Final = ("checksums.txt", "manifest.json")
"""What a release's folder gets last, in this order: whoever sees the manifest sees the rest."""
MAX_PAPER_BYTES: Final = 64 << 20
"""The largest index, audit or signature that is read whole."""

_CHUNK_BYTES: Final = 1 << 20
_TRIES: Final = 5


class Fate(StrEnum):
    """Who decided about an area without a claim: its maker, or somebody who cleaned up."""

    CLAIMING = "claiming"
    DROPPED = "dropped"

    @property
    def body(self) -> bytes:
        return canonical_json({"fate": self.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """Where the objects of one area are."""

    audit_id: str

    @property
    def folder(self) -> PurePosixPath:
        return PurePosixPath(f"{PREFIX}{self.audit_id}")

    @property
    def payload(self) -> PurePosixPath:
        return self.folder / "payload"

    @property
    def txn(self) -> PurePosixPath:
        return self.folder / "txn.json"

    @property
    def audit(self) -> PurePosixPath:
        return self.folder / "audit.json"

    @property
    def seal(self) -> PurePosixPath:
        return self.folder / "audit.sig"

    @property
    def fate(self) -> PurePosixPath:
        return self.folder / "fate"


def new_staging() -> Staging:
    """Name an area that nobody else has."""
    return Staging(audit_id=str(uuid.uuid4()))


def staging_of(folder: str) -> Staging | None:
    """Read the area's id off the name of its folder; None where no program of ours named it."""
    with contextlib.suppress(ValueError):
        audit_id = folder.removeprefix(PREFIX)
        if folder.startswith(PREFIX) and str(uuid.UUID(audit_id)) == audit_id:
            return Staging(audit_id=audit_id)
    return None


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# --- reading and creating, whatever answers get lost --------------------------------------------------------------


def read_whole(repository: Repository, key: PurePosixPath) -> bytes:
    """Give a small object. Raises KeyMissing, RepositoryError."""
    with repository.open(key) as stream:
        body = stream.read(MAX_PAPER_BYTES + 1)
    if len(body) > MAX_PAPER_BYTES:
        raise RepositoryError(
            f"{key} in {repository.location} is larger than {MAX_PAPER_BYTES >> 20} MiB",
            next_step="nothing of ours is that large: find out who wrote it",
        )
    return body


def read_or_none(repository: Repository, key: PurePosixPath) -> bytes | None:
    """Give a small object, or None where there is none."""
    with contextlib.suppress(KeyMissing):
        return read_whole(repository, key)
    return None


def create(repository: Repository, key: PurePosixPath, body: bytes) -> bytes:
    """Create an object and give what stands there now: these bytes, or those of whoever was first.

    Raises OutcomeUnknown where neither can be told.
    """
    lost: RepositoryError | None = None
    for _ in range(_TRIES):
        try:
            repository.put_new(key, body, sha256(body))
        except (KeyTaken, OutcomeUnknown) as error:
            lost = error
            # A lost answer is no answer: what stands there decides, and an object never changes.
            if (there := read_or_none(repository, key)) is not None:
                return there
        else:
            return body
    raise OutcomeUnknown(
        f"{key} could not be created in {repository.location}: answers were lost {_TRIES} times",
        next_step="see whether the repository can be reached, then run again",
    ) from lost


def create_exactly(repository: Repository, key: PurePosixPath, body: bytes) -> None:
    """Create an object, or accept one with the same bytes. Raises KeyTaken where it has others."""
    if create(repository, key, body) != body:
        raise KeyTaken(
            f"{key} in {repository.location} holds other bytes than the release that claimed it",
            next_step="somebody else wrote it: keep it, and ask who did; `relbuild abandon` gives the version up",
        )


# --- filling, checking, deciding, removing ------------------------------------------------------------------------


def fill(repository: Repository, staging: Staging, folder: Path, files: Iterable[IndexedFile]) -> None:
    """Copy a release in; all of it is durable afterwards. Whether it is what was verified, `check_files` tells."""
    payload = staging.payload
    repository.put_all(
        [
            Upload(key=payload / file.path, body=folder / file.path, sha256=file.sha256, read_back=True)
            for file in in_order(files)
        ]
    )


def in_order(files: Iterable[IndexedFile]) -> tuple[IndexedFile, ...]:
    """Sort files as they are to appear: by name, then checksums.txt, then manifest.json."""
    rank = {name: place for place, name in enumerate(LAST_FILES, start=1)}
    return tuple(sorted(files, key=lambda file: (rank.get(file.path, 0), file.path)))


def check_files(repository: Repository, folder: PurePosixPath, files: Sequence[IndexedFile], workers: int) -> None:
    """Read every object below a folder again and compare: no more, no fewer, these bytes. Raises DigestMismatch."""
    above = len(f"{folder}/")
    listed = {str(entry.key)[above:]: entry.size_bytes for entry in repository.list(folder)}
    promised = {file.path: file for file in files}
    wrong = [f"{path}: foreign" for path in sorted(listed.keys() - promised.keys())]
    wrong += [f"{path}: missing" for path in sorted(promised.keys() - listed.keys())]
    present = [promised[path] for path in sorted(promised.keys() & listed.keys())]
    wrong += [
        f"{file.path}: other bytes than were verified"
        for file, digest in zip(
            present,
            side_by_side([partial(_digest, repository, folder / one.path, one.size_bytes) for one in present], workers),
            strict=True,
        )
        if digest != (file.sha256, file.size_bytes)
    ]
    if wrong:
        raise DigestMismatch(
            f"{folder} in {repository.location} is not the release that was verified:\n  " + "\n  ".join(wrong[:20]),
            next_step="something changed them on the way, or the store lost bytes: find out before anything goes out",
        )


def is_whole(repository: Repository, staging: Staging, files: Sequence[IndexedFile]) -> bool:
    """Tell whether all that a finisher needs is listed, by name and size, and nobody dropped it."""
    if not read_txn(repository, staging):
        return False
    listed = {str(entry.key): entry.size_bytes for entry in repository.list(staging.folder)}
    payload = str(staging.payload)
    return all(str(key) in listed for key in (staging.audit, staging.seal)) and all(
        listed.get(f"{payload}/{file.path}") == file.size_bytes for file in files
    )


def begin(repository: Repository, staging: Staging, version: str) -> None:
    """Write the first paper of an area: whose it is, and for which version."""
    create_exactly(repository, staging.txn, canonical_json({"audit_id": staging.audit_id, "version": version}))


def read_txn(repository: Repository, staging: Staging) -> str:
    """Give the version that an area is for, or an empty string where its first paper is gone or not ours."""
    body = read_or_none(repository, staging.txn)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        version = json.loads(body or b"")["version"]
        if body == canonical_json({"audit_id": staging.audit_id, "version": version}) and read_version(version):
            return str(version)
    return ""


def discard(repository: Repository, staging: Staging) -> None:
    """Remove an area whose fate is decided, so that its maker, if it lives on, cannot decide anew."""
    gone = canonical_json({"dropped": staging.audit_id})
    repository.put(staging.txn, gone, sha256(gone))
    repository.delete(staging.folder)


def decide(repository: Repository, staging: Staging, wish: Fate) -> Fate:
    """Settle an area's fate, once for all, and give what it is."""
    return _fate(staging, create(repository, staging.fate, wish.body))


def read_fate(repository: Repository, staging: Staging) -> Fate | None:
    """Give an area's fate, or None while it is open."""
    body = read_or_none(repository, staging.fate)
    return None if body is None else _fate(staging, body)


def _fate(staging: Staging, body: bytes) -> Fate:
    for fate in Fate:
        if body == fate.body:
            return fate
    raise VerificationError(
        f"{staging.fate} holds something that relbuild never writes",
        next_step="somebody else wrote it: look at it, then remove it by hand",
    )


def _digest(repository: Repository, key: PurePosixPath, expected_bytes: int) -> tuple[str, int]:
    found, size = hashlib.sha256(), 0
    # No more room than the file takes.
    piece = min(_CHUNK_BYTES, max(expected_bytes, 1))
    with repository.open(key) as stream:
        while chunk := stream.read(piece):
            found.update(chunk)
            size += len(chunk)
    return found.hexdigest(), size
