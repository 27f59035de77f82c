"""Gets a release as a stranger must: by the signed index, never less than was seen before, every byte checked."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from builders.copying import copy_hashed, full_disk_named, make_folders, new_file
from builders.names import collision_key, escaped
from orchestrator.errors import (
    AuditInvalid,
    DigestMismatch,
    IndexInvalid,
    KeyMissing,
    ManifestInvalid,
    PublicationError,
    VerificationError,
)
from orchestrator.publication import AUDIT, EventType, Index, IndexedFile, IndexTrust, ReleaseEntry, ReleaseStatus
from orchestrator.publish.audit import parse_audit, require_repository
from orchestrator.publish.index_json import written
from orchestrator.publish.pointer import KnownIndex
from orchestrator.publish.reader_errors import nothing_published, reader_errors
from orchestrator.publish.seen import remember
from orchestrator.publish.staging import read_or_none
from orchestrator.publish.version_names import read_version
from orchestrator.repositories.interface import Repository
from orchestrator.verify.json_strict import BadJson
from orchestrator.verify.manifests import read_manifest
from orchestrator.verify.names import MANIFEST
from orchestrator.verify.parts import about_others, refuse_unknown

_CHUNK_BYTES: Final = 1 << 20
_AGAIN: Final = "get it again; if that is no help, it was changed after it was published: do not use it"
_SKEW: Final = timedelta(days=1)
"""How far a publisher's clock may be ahead of a reader's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A release in a folder of its own. `notes` say what a person should know, such as that it was yanked."""

    version: str
    folder: Path
    files: tuple[IndexedFile, ...]
    revision: int
    status: ReleaseStatus
    notes: tuple[str, ...]


@reader_errors()
def fetch(
    repository: Repository,
    trust: IndexTrust,
    version: str,
    to: Path,
    *,
    memory: Path,
    now: datetime,
    only: Collection[str] = (),
    targets: Collection[str] = (),
    repository_id: str = "",
) -> Fetched:
    """Download a release into `to/<version>/`, which must not be there yet; an empty version means the latest.

    `memory` is a folder that keeps the last revision seen of each repository; `only` names files of the release,
    `targets` asks for the artifacts for them alone, with all that verifying those takes; `repository_id` is what the
    repository must call itself. Raises VerificationError, PublicationError, UnknownName.
    """
    index = read_index(repository, trust, memory=memory, now=now, repository_id=repository_id)
    entry = choose(index, version)
    files = _wanted(_files(repository, index, entry), only, entry.version)
    if targets:
        refuse_unknown(targets, entry.targets, entry.version)
        files = _part(repository, entry.version, files, targets)
    folder = to / entry.version
    if os.path.lexists(folder):
        raise PublicationError(
            f"{escaped(str(folder))} is there already", next_step="move it away, or name another --to"
        )
    with full_disk_named(to), _half_done(to) as half:
        for file in files:
            _download(repository, PurePosixPath(entry.version) / file.path, file, half / file.path)
        half.chmod(0o755)
        half.rename(folder)
    return Fetched(
        version=entry.version, folder=folder, files=tuple(files), revision=index.revision, status=entry.status,
        notes=_notes(index, entry),
    )  # fmt: skip


@reader_errors()
def read_index(
    repository: Repository, trust: IndexTrust, *, memory: Path, now: datetime, repository_id: str = ""
) -> Index:
    """Give the index, proven, fresh and no older than what was seen before; and remember it. Raises as fetch does."""
    index = KnownIndex(repository, trust).read().index
    if index is None:
        raise nothing_published(repository)
    if repository_id and index.repository_id != repository_id:
        raise IndexInvalid(
            f"{repository.location} is the repository {index.repository_id}, not {escaped(repository_id)}",
            next_step="look whether that is the right place; if it is, somebody put another repository there",
        )
    # The memory comes first: an old index is refused as old even where its time is up too.
    remember(index, repository.location, memory)
    _refuse_outdated(index, now)
    return index


def choose(index: Index, version: str) -> ReleaseEntry:
    """Give the release that a reader asked for, by its exact name, or the latest. Raises VerificationError."""
    wanted = version or index.latest
    entry = index.release(wanted) if wanted else None
    if entry is None:
        raise _unknown(index, version)
    if entry.status is ReleaseStatus.REVOKED:
        raise VerificationError(
            f"{entry.version} is revoked: {_reason(index, EventType.REVOKE, entry.version) or 'no reason was given'}",
            next_step=f"do not use it; take {index.latest}" if index.latest else "do not use it",
        )
    return entry


def _unknown(index: Index, version: str) -> PublicationError:
    if not version:
        return PublicationError(
            "no release is active, so there is no latest one", next_step="`relbuild list`, then name one exactly"
        )
    asked = read_version(version)
    alike = [
        event.version
        for event in index.events
        if asked and event.type is EventType.PUBLISH and (name := read_version(event.version))
        and name.collision == asked.collision
    ]  # fmt: skip
    abandoned = any((event.type, event.version) == (EventType.ABANDON, version) for event in index.events)
    why = "is abandoned and will never be published" if abandoned else "is not published"
    return PublicationError(
        f"{escaped(version[:200])} {why}", next_step=f"did you mean {alike[0]}?" if alike else "`relbuild list`"
    )


def _refuse_outdated(index: Index, now: datetime) -> None:
    if now >= index.expires:
        raise IndexInvalid(
            f"index.json expired at {written(index.expires)}: whoever serves it may hide newer releases",
            next_step="get a newer one; its owner makes one with `relbuild index renew`, or by publishing",
        )
    if index.last_updated > now + _SKEW:
        raise IndexInvalid(
            f"index.json is not valid yet: it is from {written(index.last_updated)}, and it is {written(now)} here",
            next_step="set this machine's clock; if it is right, the publisher's is not",
        )


def _reason(index: Index, kind: EventType, version: str) -> str:
    return next(
        (event.reason for event in reversed(index.events) if (event.type, event.version) == (kind, version)), ""
    )


def _notes(index: Index, entry: ReleaseEntry) -> tuple[str, ...]:
    match entry.status:
        case ReleaseStatus.YANKED:
            reason = _reason(index, EventType.YANK, entry.version)
            return (f"{entry.version} is yanked{f': {reason}' if reason else ''}; it was named exactly",)
        case ReleaseStatus.SUPERSEDED:
            return (f"{entry.version} was rolled back; the latest is {index.latest}",)
        case _:
            return ()


# --- files -------------------------------------------------------------------------------------------------------


def _files(repository: Repository, index: Index, entry: ReleaseEntry) -> Sequence[IndexedFile]:
    """Give all files of a release with their digests: its audit lists them, and the index gives the audit's digest."""
    body = read_or_none(repository, PurePosixPath(f"{entry.version}{AUDIT}"))
    if body is None or hashlib.sha256(body).hexdigest() != entry.audit_sha256:
        what = "is missing" if body is None else "has other bytes than the signed index promises"
        raise AuditInvalid(f"{entry.version}{AUDIT} {what}", next_step="do not use this repository; tell its owner")
    audit = parse_audit(body)
    require_repository(audit, index.repository_id)
    files = audit.files
    if len({collision_key(file.path) for file in files}) != len(files):
        raise VerificationError(f"{entry.version} has files whose names differ only in case", next_step="use --only")
    return files


def _wanted(files: Sequence[IndexedFile], only: Collection[str], version: str) -> Sequence[IndexedFile]:
    missing = set(only) - {file.path for file in files}
    if missing:
        raise PublicationError(
            f"{version} has no file {escaped(min(missing)[:200])}",
            next_step=f"`relbuild index show {version}` lists them",
        )
    return [file for file in files if not only or file.path in only]


def _part(
    repository: Repository, version: str, files: Sequence[IndexedFile], targets: Collection[str]
) -> Sequence[IndexedFile]:  # fmt: skip
    """Give the files without those that are about artifacts for other targets, as the manifest tells."""
    promised = next((file.sha256 for file in files if file.path == MANIFEST), "")
    body = read_or_none(repository, PurePosixPath(version) / MANIFEST) or b""
    if hashlib.sha256(body).hexdigest() != promised:
        raise DigestMismatch(f"{version}/{MANIFEST} has other bytes than the signed index promises", next_step=_AGAIN)
    try:
        others = about_others(read_manifest(body), targets, [file.path for file in files])
    except BadJson as error:
        raise ManifestInvalid(
            f"{version}/{MANIFEST} {error}", next_step="get the release without --target, and tell its owner"
        ) from None
    left_out = frozenset().union(*others.values())
    return [file for file in files if file.path not in left_out]


def _download(repository: Repository, key: PurePosixPath, file: IndexedFile, to: Path) -> None:
    make_folders(to.parent)
    try:
        with repository.open(key) as stream, new_file(to, executable=False) as descriptor:
            found = copy_hashed(_chunks(stream, file.size_bytes), descriptor)
    except KeyMissing:
        raise DigestMismatch(f"{key} is missing", next_step="tell the repository's owner: it was removed") from None
    if (found.sha256, found.size_bytes) != (file.sha256, file.size_bytes):
        raise DigestMismatch(
            f"{key} has other bytes than the signed index promises",
            next_step=_AGAIN,
        )


def _chunks(stream: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    # One byte more than promised is enough to know; an endless answer must not fill the disk.
    left = size_bytes + 1
    while left and (chunk := stream.read(min(left, _CHUNK_BYTES))):
        left -= len(chunk)
        yield chunk


@contextlib.contextmanager
def _half_done(to: Path) -> Iterator[Path]:
    make_folders(to)
    half = Path(tempfile.mkdtemp(prefix=".relbuild-", dir=to))
    try:
        yield half
    finally:
        shutil.rmtree(half, ignore_errors=True)
