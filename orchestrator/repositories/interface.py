"""The seam: a store of releases that can create without replacing, and swap one pointer on condition.

Keys are relative paths with `/`. What lies outside `.staging-*/` is written once; only the pointer is ever replaced.
An adapter acknowledges a step only when it is durable. Errors are RepositoryError and its kinds.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NewType, Protocol, runtime_checkable

PointerToken = NewType("PointerToken", str)
"""What a store calls one state of the pointer: an ETag, a generation, a digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """The bytes of the one mutable object, and the state that they were read in."""

    body: bytes
    token: PointerToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A key that `list` found, with its size."""

    key: PurePosixPath
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One object of many that are written together; `body` as in `put`.

    `read_back` says that the caller reads every byte again before anything rests on it: a store may then leave it to
    that whether they are the promised ones. One that sends them with their SHA-256 does so all the same.
    """

    key: PurePosixPath
    body: bytes | Path
    sha256: str
    read_back: bool = False


class Repository(Protocol):
    """A place that releases are promoted to: local.py, s3.py, gcs.py; retrying.py and preview.py wrap one."""

    @property
    def location(self) -> str:
        """Say where it is, for people: a path or a URL without credentials."""

    def probe(self) -> None:
        """Refuse a store that does not enforce what the commit rests on, by trying it, racing included.

        Writes only below `.staging-probe-*` and leaves nothing. Raises RepositoryError.
        """

    def put_new(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        """Create an object, whole and durable. Raises KeyTaken where the key exists, whatever its bytes."""

    def open(self, key: PurePosixPath) -> AbstractContextManager[BinaryIO]:
        """Give an object's bytes as a stream. Raises KeyMissing."""

    def read_pointer(self, key: PurePosixPath) -> Pointer | None:
        """Give the pointer as it is now, or None where there is none yet."""

    def swap_pointer(self, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken:
        """Replace the pointer if it is still in the state that was read (None: not there yet), durably.

        Raises PointerMoved where somebody else swapped it first.
        """

    def move_new(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        """Make staged objects (`staged/key`) appear as `place/key`, in this order, never replacing anything.

        A folder store moves the whole folder in one step; an object store creates each. Doing it again after a crash
        in the middle ends the same: an object that is there already with the same bytes is accepted, another raises
        KeyTaken.
        """

    def list(self, prefix: PurePosixPath) -> Iterator[Entry]:
        """Give every object below a prefix (the empty path: all), sorted by key. Consistent after a write."""

    def names(self, start: str) -> Iterator[str]:
        """Give the first segments of all keys, sorted, each once, that begin with `start` (empty: all).

        Far cheaper than `list` where releases are many: it finds staging areas and claims without reading releases.
        """

    # --- for `.staging-*/`, and for views such as index.md ----------------------------------------------------------

    def put(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        """Write an object of a staging area or a view, durably, replacing an older one."""

    def put_all(self, uploads: Sequence[Upload]) -> None:
        """Write many objects of a staging area as `put` does, side by side; durable, all of them, when it returns."""

    def delete(self, prefix: PurePosixPath) -> None:
        """Remove a staging area with all that is in it, in any order; one that is gone already is fine."""

    def alone(self, name: str, *, timeout_s: float) -> AbstractContextManager[None]:
        """Hold a named lock where the store has locks; elsewhere do nothing. It saves work, and guards no safety."""

    def staging_is_alive(self, staging: PurePosixPath) -> bool | None:
        """Tell whether the maker of a staging area still runs; None where the store cannot know."""


@runtime_checkable
class Noted(Protocol):
    """A repository that can say by which of its ways it works."""

    @property
    def note(self) -> str:
        """Say it for people, in one line; empty while there is nothing to say."""


def note_of(repository: Repository) -> str:
    """Give what a repository has to say of how it works; most have nothing."""
    return repository.note if isinstance(repository, Noted) else ""
