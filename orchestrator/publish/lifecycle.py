"""What may become of a release after it was published: each change is one event and one swap of the pointer."""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final, assert_never

from builders.errors import RelbuildError
from orchestrator.errors import KeyMissing, PublicationError
from orchestrator.publication import EventType, Index, IndexedFile, IndexKeys, IndexTrust, ReleaseStatus
from orchestrator.publish.claims import Claim, Claimed, Free, Published, Taken, claim_key, standing
from orchestrator.publish.finish import refresh_view
from orchestrator.publish.history import History
from orchestrator.publish.index import with_event
from orchestrator.publish.pointer import KnownIndex, commit
from orchestrator.publish.replay import history_of
from orchestrator.publish.staging import read_or_none
from orchestrator.repositories.interface import Repository

_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Who wants a change, and why. `repository_id` names a repository that has no index yet."""

    actor: str
    now: datetime
    expires: datetime
    reason: str = ""
    repository_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What became of an order. `no_op`: it was so already."""

    kind: EventType
    version: str
    no_op: bool
    revision: int
    latest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What changes are made with."""

    repository: Repository
    keys: IndexKeys
    trust: IndexTrust


def yank(office: Office, version: str, order: Order) -> Changed:
    """Leave a release to those who name it exactly. Raises PublicationError, VerificationError."""
    return _change(office, EventType.YANK, version, order)


def unyank(office: Office, version: str, order: Order) -> Changed:
    """Take a yank back. Raises as yank does."""
    return _change(office, EventType.UNYANK, version, order)


def revoke(office: Office, version: str, order: Order) -> Changed:
    """Forbid a release to every reader, for ever. Raises as yank does."""
    _ask_for_reason(EventType.REVOKE, order)
    return _change(office, EventType.REVOKE, version, order)


def rollback(office: Office, version: str, order: Order) -> Changed:
    """Make an older release the latest again; the newer ones are superseded. Raises as yank does."""
    return _change(office, EventType.ROLLBACK, version, order)


def renew(office: Office, order: Order) -> Changed:
    """Let the index be good for longer where nobody publishes. Raises as yank does."""
    return _change(office, EventType.RENEW, "", order)


def abandon(office: Office, version: str, order: Order) -> Changed:
    """Give a version up that is claimed and cannot be finished. Its number stays used. Raises as yank does."""
    _ask_for_reason(EventType.ABANDON, order)

    def refuse(index: Index | None) -> None:
        _refuse_to_abandon(office, index, version)

    return _change(office, EventType.ABANDON, version, order, refuse)


# --- one event and one swap --------------------------------------------------------------------------------------


def _change(
    office: Office,
    kind: EventType,
    version: str,
    order: Order,
    refuse: Callable[[Index | None], None] = lambda _: None,
) -> Changed:
    swaps: list[int] = []

    def step(index: Index | None) -> Index | None:
        if _is_done(index, kind, version, order):
            return None
        if index is None and kind is not EventType.ABANDON:
            raise PublicationError(
                f"nothing is published in {office.repository.location}, so there is nothing to {kind.value}",
                next_step="look whether that is the right repository",
            )
        refuse(index)
        changed = with_event(
            index, kind, version, reason=order.reason, actor=order.actor, key_id=office.keys.index_key_id,
            now=order.now, expires=_later(index, order.expires), repository_id=order.repository_id,
        )  # fmt: skip
        swaps.append(changed.revision)
        return changed

    known = KnownIndex(office.repository, office.trust)
    index = commit(known, office.keys, step).index
    if index is None:
        raise PublicationError(f"{office.repository.location} has no index", next_step="publish a release first")
    # The change is made: a page that lags behind is mended by the next one, and is no reason to call this a failure.
    with contextlib.suppress(RelbuildError):
        refresh_view(known)
    return Changed(kind=kind, version=version, no_op=not swaps, revision=index.revision, latest=index.latest)


def _later(index: Index | None, expires: datetime) -> datetime:
    # A change is no reason to make what others were promised shorter.
    return max(index.expires, expires) if index else expires


_DONE: Final[dict[EventType, Callable[[History, str], bool]]] = {
    EventType.YANK: lambda history, version: history.statuses.get(version) is ReleaseStatus.YANKED,
    EventType.UNYANK: lambda history, version: history.statuses.get(version) is ReleaseStatus.ACTIVE,
    EventType.REVOKE: lambda history, version: history.statuses.get(version) is ReleaseStatus.REVOKED,
    EventType.ROLLBACK: lambda history, version: version in history.statuses and history.latest == version,
    EventType.ABANDON: lambda history, version: version in history.abandoned,
}


def _is_done(index: Index | None, kind: EventType, version: str, order: Order) -> bool:
    """Tell whether the index is already as an event would leave it: an answer that was lost changes nothing."""
    if kind is EventType.RENEW:
        return index is not None and index.expires >= order.expires.replace(microsecond=0)
    return _DONE[kind](history_of(index), version)


def _ask_for_reason(kind: EventType, order: Order) -> None:
    if not order.reason.strip():
        raise PublicationError(f"cannot {kind.value} without a reason", next_step="say why: --reason '...'")


# --- abandoning --------------------------------------------------------------------------------------------------


def _refuse_to_abandon(office: Office, index: Index | None, version: str) -> None:
    found = standing(office.repository, office.trust, index, version)
    match found:
        case Claimed(claim=claim):
            if _can_be_finished(office.repository, claim):
                raise PublicationError(
                    f"{version} is claimed, and all that finishing it takes is there", next_step="relbuild recover"
                )
        case Free():
            raise PublicationError(f"{version} is not claimed", next_step="there is nothing to abandon: publish it")
        case Published():
            raise PublicationError(f"{version} is published", next_step="yank it, or revoke it")
        case Taken(why=why):
            if read_or_none(office.repository, claim_key(version)) is None:
                raise PublicationError(f"{version} is not claimed: {why}", next_step="there is nothing to abandon")
        case _:
            assert_never(found)


def _can_be_finished(repository: Repository, claim: Claim) -> bool:
    return all(
        any(
            _holds(repository, folder / file.path, file)
            for folder in (PurePosixPath(claim.version), claim.staging.payload)
        )
        for file in claim.files
    )


def _holds(repository: Repository, key: PurePosixPath, file: IndexedFile) -> bool:
    digest = hashlib.sha256()
    try:
        with repository.open(key) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except KeyMissing:
        return False
    return digest.hexdigest() == file.sha256
