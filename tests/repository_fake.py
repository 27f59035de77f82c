"""A repository in memory: a small real implementation of the seam, with switches to break one promise each."""

import contextlib
import hashlib
import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from orchestrator.errors import KeyMissing, KeyTaken, OutcomeUnknown, PointerMoved, RepositoryError
from orchestrator.repositories import probe
from orchestrator.repositories.interface import Entry, Pointer, PointerToken, Upload
from orchestrator.repositories.keys import PROBE, check_key, check_replaceable, check_staging


class Killed(BaseException):
    """The process died here, as far as this repository can tell. No `except Exception` catches it."""


@dataclass
class Broken:
    """What this store does not keep. Each switch alone must be noticed."""

    ignores_create_condition: bool = False
    ignores_swap_condition: bool = False
    races: bool = False
    """Looks first and writes later, so that two at the same instant both win."""
    takes_wrong_bytes: bool = False
    fail_at: int | None = None
    """The call, counted from 1, at which it dies or loses its answer; None: never."""
    fail_before: bool = True
    """Before the call did its work, or after."""
    failure: type[BaseException] = Killed


@dataclass
class MemoryRepository:
    """Objects by key. `folders=True` moves a whole folder in one step and knows who is alive, as a disk does."""

    folders: bool = False
    broken: Broken = field(default_factory=Broken)
    objects: dict[str, bytes] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Every call that changes something: its name, and the key."""
    dead: bool = False
    """The makers of all staging areas are gone."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    named_locks: dict[str, threading.Lock] = field(default_factory=dict)

    @property
    def location(self) -> str:
        return "memory"

    def probe(self) -> None:
        area = PurePosixPath(f"{PROBE}memory")
        try:
            probe.race(self, area)
            with contextlib.suppress(RepositoryError):
                self.put(area / "wrong", b"bytes", hashlib.sha256(b"other bytes").hexdigest())
                raise AssertionError
        except AssertionError:
            raise probe.refused(self, "takes bytes that are not those of their checksum") from None
        finally:
            self._remove(area.as_posix())

    def put_new(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        check_key(key)
        with self._changing("put_new", key):
            self._create(key, self._checked(body, sha256))

    def put(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        check_replaceable(key)
        with self._changing("put", key):
            self.objects[key.as_posix()] = self._checked(body, sha256)

    def put_all(self, uploads: Sequence[Upload]) -> None:
        for upload in uploads:
            self.put(upload.key, upload.body, upload.sha256)

    @contextlib.contextmanager
    def open(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        check_key(key)
        if (body := self.objects.get(key.as_posix())) is None:
            raise KeyMissing(f"{key} is not in memory")
        yield io.BytesIO(body)

    def read_pointer(self, key: PurePosixPath) -> Pointer | None:
        body = self.objects.get(check_key(key).as_posix())
        return None if body is None else Pointer(body=body, token=_token(body))

    def swap_pointer(self, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken:
        check_key(key)
        with self._changing("swap_pointer", key):
            now = self.read_pointer(key)
            if self.broken.races:
                self._let_others_look()
            if (now and now.token) != expected and not self.broken.ignores_swap_condition:
                raise PointerMoved(f"{key} in memory was changed by somebody else")
            self.objects[key.as_posix()] = body
        return _token(body)

    def move_new(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        check_key(staged)
        if self.folders:
            self._move_folder(staged, place, keys)
            return
        for key in keys:
            check_key(place / key)
            with self._changing("move_new", place / key):
                if (body := self.objects.get((staged / key).as_posix())) is None:
                    raise KeyMissing(f"{staged / key} is not in memory")
                if self.objects.get((place / key).as_posix()) != body:
                    self._create(place / key, body)

    def list(self, prefix: PurePosixPath) -> Iterator[Entry]:
        below = f"{prefix.as_posix()}/" if prefix.parts else ""
        with self.lock:
            found = sorted((key, len(body)) for key, body in self.objects.items() if key.startswith(below))
        for key, size in found:
            yield Entry(key=PurePosixPath(key), size_bytes=size)

    def names(self, start: str) -> Iterator[str]:
        with self.lock:
            found = {key.partition("/")[0] for key in self.objects}
        yield from sorted(name for name in found if name.startswith(start))

    def delete(self, prefix: PurePosixPath) -> None:
        check_staging(prefix)
        with self._changing("delete", prefix):
            self._remove(prefix.as_posix())

    @contextlib.contextmanager
    def alone(self, name: str, *, timeout_s: float) -> Iterator[None]:
        if not self.folders:
            yield
            return
        with self.lock:
            held = self.named_locks.setdefault(name, threading.Lock())
        if not held.acquire(timeout=timeout_s):
            raise RepositoryError(f"the lock {name} in memory has been held for {timeout_s:g} s")
        try:
            yield
        finally:
            held.release()

    def staging_is_alive(self, staging: PurePosixPath) -> bool | None:
        check_staging(staging)
        if not self.folders:
            return None
        return not self.dead and any(self.list(staging))

    def _move_folder(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        with self._changing("move_new", place):
            bodies = {(place / key).as_posix(): self.objects.get((staged / key).as_posix()) for key in keys}
            there = {entry.key.as_posix(): self.objects[entry.key.as_posix()] for entry in self.list(place)}
            if there and set(there) == set(bodies) and all(body in {None, there[key]} for key, body in bodies.items()):
                return
            if there:
                raise KeyTaken(f"{place} is in memory already")
            missing = [key for key, body in bodies.items() if body is None]
            if missing:
                raise KeyMissing(f"{missing[0]} was never staged in memory")
            self._remove(staged.as_posix())
            self.objects.update({key: body for key, body in bodies.items() if body is not None})

    def _create(self, key: PurePosixPath, body: bytes) -> None:
        taken = key.as_posix() in self.objects
        if self.broken.races:
            self._let_others_look()
        if taken and not self.broken.ignores_create_condition:
            raise KeyTaken(f"{key} is in memory already")
        self.objects[key.as_posix()] = body

    def _let_others_look(self) -> None:
        # Out of the lock for a moment, between the look and the write.
        self.lock.release()
        try:
            threading.Event().wait(0.01)
        finally:
            self.lock.acquire()

    def _checked(self, body: bytes | Path, sha256: str) -> bytes:
        content = body if isinstance(body, bytes) else body.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256 and not self.broken.takes_wrong_bytes:
            raise RepositoryError("the bytes are not those that were promised")
        return content

    def _remove(self, prefix: str) -> None:
        with self.lock:
            for key in [key for key in self.objects if key == prefix or key.startswith(f"{prefix}/")]:
                del self.objects[key]

    @contextlib.contextmanager
    def _changing(self, call: str, key: PurePosixPath) -> Iterator[None]:
        with self.lock:
            self.calls.append((call, key.as_posix()))
            fails = len(self.calls) == self.broken.fail_at
            if fails and self.broken.fail_before:
                raise self._failure(call, key)
            yield
            if fails:
                raise self._failure(call, key)

    def _failure(self, call: str, key: PurePosixPath) -> BaseException:
        if issubclass(self.broken.failure, OutcomeUnknown):
            return self.broken.failure(f"the answer to {call} {key} was lost")
        return self.broken.failure(f"{call} {key}")


def _token(body: bytes) -> PointerToken:
    return PointerToken(hashlib.sha256(body).hexdigest())
