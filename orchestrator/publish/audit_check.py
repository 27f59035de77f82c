"""Checks the whole history of a repository: index, chain, tree head, and every audit with its signature."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from orchestrator.errors import AuditInvalid, IndexInvalid, IndexReplayed, KeyMissing, VerificationError
from orchestrator.publication import (
    AUDIT,
    AUDIT_SIGNATURE,
    INDEX,
    INDEX_SIGNATURES,
    Event,
    EventType,
    Index,
    IndexTrust,
    ReleaseEntry,
)
from orchestrator.publish.audit import parse_audit, require_repository
from orchestrator.publish.index import index_sha256, parse_index
from orchestrator.publish.index_rows import read_event
from orchestrator.publish.merkle import tree_head
from orchestrator.publish.reader_errors import nothing_published, reader_errors
from orchestrator.publish.seen import remember
from orchestrator.repositories.interface import Repository

_ORIGIN: Final = "relbuild/checkpoint/v1"
_LINES: Final = 5
_MAX_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """The first thing that does not hold. `event` is its number, 0 where it is the index as a whole."""

    event: int
    version: str
    error: VerificationError


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What a check of the history found. `unlisted`: versions with an audit and no release: claimed, or abandoned."""

    revision: int
    root: str
    audits: int
    wrong: Wrong | None
    unlisted: tuple[str, ...] = ()


@reader_errors()
def verify_audits(
    repository: Repository, trust: IndexTrust, checkpoint: bytes = b"", *, memory: Path | None = None
) -> AuditReport:
    """Check the history from its first event on, and name the first thing that fails.

    With a checkpoint that was exported earlier, the history must also extend that one; with a memory, it must extend
    what was seen last. Raises RepositoryError; PublicationError where there is no index, or no room to remember it.
    """
    pointer = repository.read_pointer(INDEX)
    if pointer is None:
        raise nothing_published(repository)
    try:
        # Form first: it names the event, where a signature can only say that something is wrong.
        index = parse_index(pointer.body)
        _check_signature(repository, trust, pointer.body)
        if checkpoint:
            check_checkpoint(checkpoint, index)
        # Only what holds is remembered: a fork would have the honest index refused from then on.
        if memory is not None:
            remember(index, repository.location, memory)
    except VerificationError as error:
        found = Wrong(event=_failed_event(error), version="", error=error)
        return AuditReport(revision=0, root="", audits=0, wrong=found)
    checked, wrong = _first_wrong(repository, trust, index)
    unlisted = tuple(_unlisted(repository, index))
    return AuditReport(revision=index.revision, root=index.root, audits=checked, wrong=wrong, unlisted=unlisted)


def export_checkpoint(index: Index) -> bytes:
    """Write what to keep elsewhere: origin, repository, number of events, tree head, and the index's digest.

    The first lines are those of a transparency log's checkpoint (C2SP tlog-checkpoint): origin, size, root in base64.
    """
    root = base64.b64encode(bytes.fromhex(index.root)).decode()
    origin = f"{_ORIGIN}/{index.repository_id}"
    return f"{origin}\n{index.revision}\n{root}\nindex sha256:{index_sha256(index)}\n".encode()


def check_checkpoint(checkpoint: bytes, index: Index) -> None:
    """Refuse an index that is not what became of the one that a checkpoint was made of. Raises VerificationError."""
    lines = checkpoint.decode("ascii", "replace").split("\n")
    if len(lines) != _LINES or lines[4] or not lines[1].isdecimal() or not lines[3].startswith("index sha256:"):
        raise VerificationError("the checkpoint is not one", next_step="give a file of `audit export-checkpoint`")
    if lines[0] != f"{_ORIGIN}/{index.repository_id}":
        raise VerificationError(
            f"the checkpoint is of another repository than {index.repository_id}", next_step="give the right one"
        )
    size = int(lines[1][:20])
    if size > index.revision:
        raise IndexReplayed(
            f"the checkpoint has {size} events and the index only {index.revision}: a rollback",
            next_step="somebody put an old index in place of a newer one: do not use it",
        )
    root = base64.b64encode(bytes.fromhex(tree_head(index.events.lines[:size]))).decode()
    same = size < index.revision or lines[3] == f"index sha256:{index_sha256(index)}"
    if root != lines[2] or not same:
        raise IndexReplayed(
            f"the first {size} events are not those that the checkpoint saw: a fork",
            next_step="history was rewritten: do not use this repository before you know by whom",
        )


# --- audits ------------------------------------------------------------------------------------------------------


def _first_wrong(repository: Repository, trust: IndexTrust, index: Index) -> tuple[int, Wrong | None]:
    checked = 0
    releases = iter(index.releases)
    for row in index.events.lines:
        event = read_event(row)
        if event.type is not EventType.PUBLISH:
            continue
        try:
            # Releases stand in the order of the events that publish them: parse_index saw to that.
            _check_audit(repository, trust, index.repository_id, event, next(releases))
        except VerificationError as error:
            return checked, Wrong(event=event.seq, version=event.version, error=error)
        checked += 1
    return checked, None


def _check_audit(
    repository: Repository, trust: IndexTrust, repository_id: str, event: Event, entry: ReleaseEntry
) -> None:
    body = _read(repository, PurePosixPath(f"{event.version}{AUDIT}"))
    if hashlib.sha256(body).hexdigest() != event.audit_sha256:
        raise _wrong(event, "its audit has other bytes than the event promises")
    audit = parse_audit(body)
    require_repository(audit, repository_id)
    if replace(audit.entry, audit_sha256=event.audit_sha256, status=entry.status) != entry:
        raise _wrong(event, "the index lists something else than its audit")
    trust.check_audit(body, _read(repository, PurePosixPath(f"{event.version}{AUDIT_SIGNATURE}")))


def _check_signature(repository: Repository, trust: IndexTrust, body: bytes) -> None:
    name = f"{hashlib.sha256(body).hexdigest()}.sigstore.json"
    trust.check_index(body, _read(repository, INDEX_SIGNATURES / name, IndexInvalid))


def _read(repository: Repository, key: PurePosixPath, missing: type[VerificationError] = AuditInvalid) -> bytes:
    try:
        with repository.open(key) as stream:
            return stream.read(_MAX_BYTES)
    except KeyMissing:
        raise missing(
            f"{key} is not in {repository.location}", next_step="somebody removed it: restore it from a copy"
        ) from None


def _wrong(event: Event, what: str) -> AuditInvalid:
    return AuditInvalid(
        f"event {event.seq}, {event.type.value} {event.version}: {what}",
        next_step="somebody changed one of them: compare with a copy, and do not use this version",
    )


def _failed_event(error: VerificationError) -> int:
    _, found, rest = error.what.partition("fails at event ")
    number = rest.partition(":")[0]
    return int(number) if found and number.isdecimal() else 0


def _unlisted(repository: Repository, index: Index) -> Iterator[str]:
    listed = {event.version for event in index.events if event.type is EventType.PUBLISH}
    for name in repository.names(""):
        if name.endswith(AUDIT) and name.removesuffix(AUDIT) not in listed:
            yield name.removesuffix(AUDIT)
