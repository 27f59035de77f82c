"""A dry run: a repository that reads through to another, keeps what would be written to itself, and lists it."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from orchestrator.errors import KeyMissing, KeyTaken, PointerMoved
from orchestrator.repositories import streams
from orchestrator.repositories.interface import Entry, Pointer, PointerToken, Repository, Upload
from orchestrator.repositories.keys import check_key, check_replaceable, check_staging


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """What a real run would have done: create, replace, swap, or remove, and how many bytes."""

    verb: str
    key: PurePosixPath
    size_bytes: int = 0


class PreviewRepository:
    """Another repository, never written to. The probe is left out: it writes."""

    def __init__(self, inner: Repository) -> None:
        self._inner = inner
        self._bodies: dict[PurePosixPath, bytes | Path] = {}
        self._writes: list[Write] = []
        self._changing = threading.RLock()

    @property
    def location(self) -> str:
        return self._inner.location

    @property
    def writes(self) -> tuple[Write, ...]:
        """Everything that would have been written, in order."""
        return tuple(self._writes)

    def probe(self) -> None:
        """Do nothing."""

    def put_new(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        with self._changing:
            self._require_absent(check_key(key))
            self._keep("create", key, body, sha256)

    def put(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        self._keep("replace", check_replaceable(key), body, sha256)

    def put_all(self, uploads: Sequence[Upload]) -> None:
        for upload in uploads:
            self.put(upload.key, upload.body, upload.sha256)

    @contextlib.contextmanager
    def open(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        kept = self._bodies.get(check_key(key))
        if kept is None:
            with self._inner.open(key) as stream:
                yield stream
        else:
            with streams.opened(kept) as (stream, _):
                yield stream

    def read_pointer(self, key: PurePosixPath) -> Pointer | None:
        kept = self._bodies.get(check_key(key))
        return Pointer(body=kept, token=_token(kept)) if isinstance(kept, bytes) else self._inner.read_pointer(key)

    def swap_pointer(self, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken:
        with self._changing:
            now = self.read_pointer(check_key(key))
            if (None if now is None else now.token) != expected:
                raise PointerMoved(
                    f"{key.name} was changed by somebody else", next_step="read it again, then try again"
                )
            self._keep("swap", key, body, hashlib.sha256(body).hexdigest())
        return _token(body)

    def move_new(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        moved = {check_key(place / key): self._bodies.get(check_key(staged / key)) for key in keys}
        for key, body in moved.items():
            if body is None:
                raise KeyMissing(f"{key.name} was never staged", next_step="stage the release again")
            if self._bodies.get(key) != body:
                self._require_absent(key)
        for key, body in moved.items():
            if body is not None and key not in self._bodies:
                self._bodies[key] = body
                self._writes.append(Write(verb="create", key=key, size_bytes=_size(body)))

    def list(self, prefix: PurePosixPath) -> Iterator[Entry]:
        found = {entry.key: entry for entry in self._inner.list(prefix)}
        for key, body in self._bodies.items():
            if key.parts[: len(prefix.parts)] == prefix.parts:
                found[key] = Entry(key=key, size_bytes=_size(body))
        yield from (found[key] for key in sorted(found, key=str))

    def names(self, start: str) -> Iterator[str]:
        kept = {key.parts[0] for key in self._bodies}
        yield from sorted({name for name in kept if name.startswith(start)} | set(self._inner.names(start)))

    def delete(self, prefix: PurePosixPath) -> None:
        """Forget a staging area of this run; one that is really there stays, and is listed as removed."""
        check_staging(prefix)
        self._bodies = {key: body for key, body in self._bodies.items() if key.parts[:1] != prefix.parts}
        self._writes.append(Write(verb="remove", key=prefix))

    def alone(self, name: str, *, timeout_s: float) -> contextlib.AbstractContextManager[None]:
        del name, timeout_s  # taking a lock may write a file
        return contextlib.nullcontext()

    def staging_is_alive(self, staging: PurePosixPath) -> bool | None:
        check_staging(staging)
        return (
            True if any(key.parts[0] == staging.name for key in self._bodies) else self._inner.staging_is_alive(staging)
        )

    def _require_absent(self, key: PurePosixPath) -> None:
        with contextlib.suppress(KeyMissing), self.open(key):
            raise KeyTaken(f"{key} is there already", next_step="choose another version: nothing is replaced")

    def _keep(self, verb: str, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        with streams.opened(body) as (stream, size):
            streams.require(streams.digest(stream), sha256, str(key))
        self._bodies[key] = body
        self._writes.append(Write(verb=verb, key=key, size_bytes=size))


def _token(body: bytes) -> PointerToken:
    return PointerToken(f"preview:{hashlib.sha256(body).hexdigest()}")


def _size(body: bytes | Path) -> int:
    return len(body) if isinstance(body, bytes) else body.stat().st_size
