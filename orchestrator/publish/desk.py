"""What promoting and recovering both work with, and how far a failed publish got."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar

from builders.errors import RelbuildError
from orchestrator.canonical import Json
from orchestrator.errors import (
    AtomicPublishError,
    DuplicateVersion,
    KeyMissing,
    KeyTaken,
    OutcomeUnknown,
    PointerMoved,
    RepositoryError,
)
from orchestrator.events import Note, Observer
from orchestrator.publication import IndexKeys, IndexTrust, PolicyMode, PublicationState, StageTime
from orchestrator.publish.pointer import KnownIndex
from orchestrator.publish.staging import Staging
from orchestrator.repositories.interface import Repository

DUPLICATE, UPLOAD, VERIFY_STAGING, PROMOTE, VERIFY_PRODUCTION, CLEAN, DELETE = STAGES = (
    "duplicate check", "upload to staging", "verify staging", "promote", "verify production", "clean staging",
    "delete staging folder",
)  # fmt: skip
"""The seven stages. "clean staging" is about what earlier runs left, "delete staging folder" about this run's own."""

RECOVER: Final = "run `relbuild recover`: all that it takes is in the repository"

_LOCK: Final = "publish"
_STATE: Final = "state: "
_AnyError = TypeVar("_AnyError", bound=BaseException)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Who publishes, and how; what audits tell. `repository_id` names a repository that has no index yet."""

    actor: str
    repository_id: str
    valid_for: timedelta = timedelta(days=400)
    lock_timeout_s: float = 60.0
    readers: int = 4
    """So many threads read objects back."""
    timestamped: bool = False
    """Whether `name-YYYY-MM-DD-HHMMSS` is a version."""
    repository_type: str = "local"
    policy_mode: PolicyMode = PolicyMode.STRICT
    machine_id: str = ""
    validation: Mapping[str, Json] | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)
    approvals: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A repository, what this process knows of it, and the publisher's keys, clock and terms."""

    repository: Repository
    known: KnownIndex
    keys: IndexKeys
    trust: IndexTrust
    now: Callable[[], datetime]
    observer: Observer
    terms: Terms

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Keep other publishers of this store waiting, where it has locks."""
        return self.repository.alone(_LOCK, timeout_s=self.terms.lock_timeout_s)

    @property
    def repository_id(self) -> str:
        """Name the repository as its index does, as far as this process saw one; before the first, as the terms do."""
        index = self.known.last.index
        return index.repository_id if index else self.terms.repository_id

    def note(self, text: str) -> None:
        self.observer(Note(text=text))


def open_desk(
    repository: Repository, keys: IndexKeys, trust: IndexTrust, *, now: Callable[[], datetime], observer: Observer,
    terms: Terms,
) -> Desk:  # fmt: skip
    """Start without any knowledge of the repository."""
    known = KnownIndex(repository, trust)
    return Desk(repository=repository, known=known, keys=keys, trust=trust, now=now, observer=observer, terms=terms)


@dataclass(slots=True, kw_only=True)
class Stopwatch:
    """Times stages by name; one that is entered twice adds up. Not frozen: it counts."""

    desk: Desk
    ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.desk.note(name)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.ms[name] += (time.perf_counter() - started) * 1000

    def times(self) -> tuple[StageTime, ...]:
        return tuple(StageTime(name=name, ms=round(ms, 3)) for name, ms in self.ms.items())


# --- how far it got ----------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Draft:
    """A staging area on its way. Not frozen: once `decided`, it is anybody's to finish and nobody's to remove."""

    desk: Desk
    staging: Staging
    decided: bool = False

    @contextlib.contextmanager
    def kept_or_removed(self) -> Iterator[None]:
        """Remove the area when the block fails before its fate is decided; afterwards say that it is claimed."""
        try:
            yield
        except BaseException:
            if self.decided:
                with behind_the_claim():
                    raise
            # What cannot be removed now is removed by the next run: nothing was claimed.
            with contextlib.suppress(RelbuildError):
                self.desk.repository.delete(self.staging.folder)
            raise


@contextlib.contextmanager
def behind_the_claim() -> Iterator[None]:
    """Say of every failure that the version is claimed, unless the history gave it to another."""
    try:
        yield
    except DuplicateVersion:
        raise
    except RelbuildError as error:
        if isinstance(error, AtomicPublishError):
            raise mark(error, PublicationState.CLAIMED) from None
        what = f"the version is claimed and not yet published: {error.what}"
        interrupted = AtomicPublishError(what, next_step=error.next_step or RECOVER)
        raise mark(interrupted, PublicationState.CLAIMED) from error
    except BaseException as error:
        mark(error, PublicationState.CLAIMED)
        raise


@contextlib.contextmanager
def seam_errors() -> Iterator[None]:
    """Say of what only a store's callers need to tell apart that the repository refused, or gave no answer.

    Behind a claim it was said already that the publish is interrupted.
    """
    try:
        yield
    except (KeyTaken, KeyMissing, PointerMoved, OutcomeUnknown) as error:
        told = RepositoryError(error.what, next_step=error.next_step or "look at the repository, then run again")
        for note in getattr(error, "__notes__", ()):
            told.add_note(note)
        raise told from error


def mark(error: _AnyError, state: PublicationState) -> _AnyError:
    """Write on an error which side of the claim it happened on."""
    error.add_note(f"{_STATE}{state.value}")
    return error


def state_of(error: BaseException) -> PublicationState:
    """Read off an error how far the publish got."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(_STATE)]
    return PublicationState(notes[-1].removeprefix(_STATE)) if notes else PublicationState.NOT_PUBLISHED
