"""A process before a repository in memory, that dies, fails or lets others run at any of its calls."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from orchestrator.repositories.interface import Entry, Pointer, PointerToken, Upload
from tests.repository_fake import Killed, MemoryRepository


@dataclass
class Mortal:
    """One process. What a store does in several steps is several steps here too, and each is a place to die."""

    store: MemoryRepository
    dies_at: int = 0
    """The changing step, from 1, before which it dies; 0: never. Dying after a step is dying before the next."""
    fails_at: int = 0
    failure: BaseException | None = None
    """What step `fails_at` raises, once, before its work or (`fails_after`) behind it."""
    fails_after: bool = False
    others: dict[int, Callable[[], None]] = field(default_factory=dict)
    """What somebody else does just before a call, reading ones included, counted from 1."""
    steps: int = 0
    calls: int = 0
    dead: bool = False

    @property
    def location(self) -> str:
        return self.store.location

    def probe(self) -> None:
        self.store.probe()

    def put_new(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        self._call()
        with self._step():
            self.store.put_new(key, body, sha256)

    def put(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        self._call()
        with self._step():
            self.store.put(key, body, sha256)

    def put_all(self, uploads: Sequence[Upload]) -> None:
        for upload in uploads:
            self.put(upload.key, upload.body, upload.sha256)

    def swap_pointer(self, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken:
        self._call()
        with self._step():
            return self.store.swap_pointer(key, body, expected)

    def move_new(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        for part in [keys] if self.store.folders else [[key] for key in keys]:
            self._call()
            with self._step():
                self.store.move_new(staged, place, part)

    def delete(self, prefix: PurePosixPath) -> None:
        keys = [entry.key.as_posix() for entry in self.store.list(prefix)]
        random.Random(self.calls).shuffle(keys)  # no store promises an order
        for key in keys:
            self._call()
            with self._step():
                self.store.objects.pop(key, None)

    @contextlib.contextmanager
    def open(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        self._call()
        with self.store.open(key) as stream:
            yield stream

    def read_pointer(self, key: PurePosixPath) -> Pointer | None:
        self._call()
        return self.store.read_pointer(key)

    def list(self, prefix: PurePosixPath) -> Iterator[Entry]:
        self._call()
        yield from self.store.list(prefix)

    def names(self, start: str) -> Iterator[str]:
        self._call()
        yield from self.store.names(start)

    @contextlib.contextmanager
    def alone(self, name: str, *, timeout_s: float) -> Iterator[None]:
        self._call()
        with self.store.alone(name, timeout_s=timeout_s):
            yield

    def staging_is_alive(self, staging: PurePosixPath) -> bool | None:
        self._call()
        return self.store.staging_is_alive(staging)

    def _call(self) -> None:
        if self.dead:
            raise Killed
        self.calls += 1
        if other := self.others.pop(self.calls, None):
            other()

    @contextlib.contextmanager
    def _step(self) -> Iterator[None]:
        self.steps += 1
        if self.steps == self.dies_at:
            self.dead = True
            raise Killed
        fails = self.steps == self.fails_at and self.failure is not None
        if fails and not self.fails_after:
            raise self.failure  # type: ignore[misc]  # not None: see above
        yield
        if fails:
            raise self.failure  # type: ignore[misc]  # likewise
