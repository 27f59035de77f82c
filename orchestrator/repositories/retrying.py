"""Asks a repository again after OutcomeUnknown, and only then: a bounded number of times, with growing pauses.

A write whose answer was lost may have happened. So when a later attempt finds the key taken or the pointer moved, what
is there is read back: our own bytes mean that the first attempt did it.
"""

import contextlib
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, TypeVar

import tenacity

from orchestrator.errors import KeyTaken, OutcomeUnknown, PointerMoved
from orchestrator.repositories import streams
from orchestrator.repositories.interface import Entry, Pointer, PointerToken, Repository, Upload, note_of

_BUFFER_BYTES: Final = 1 << 20
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a request is made at most, and the random pauses between, up to twice as long each time."""

    attempts: int = 6
    first_pause_s: float = 0.1
    longest_pause_s: float = 8.0


class RetryingRepository:
    """Another repository, asked patiently."""

    def __init__(self, inner: Repository, patience: Patience = Patience()) -> None:
        self._inner = inner
        self._patience = patience

    @property
    def location(self) -> str:
        return self._inner.location

    @property
    def note(self) -> str:
        return note_of(self._inner)

    def probe(self) -> None:
        self._again(self._inner.probe)

    def put_new(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        lost = _Lost()
        try:
            self._again(lambda: self._inner.put_new(key, body, sha256), lost)
        except KeyTaken:
            if not lost.once or self._digest(key) != sha256:
                raise

    def open(self, key: PurePosixPath) -> AbstractContextManager[BinaryIO]:
        return self._opened(key)

    def read_pointer(self, key: PurePosixPath) -> Pointer | None:
        return self._again(lambda: self._inner.read_pointer(key))

    def swap_pointer(self, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken:
        lost = _Lost()
        try:
            return self._again(lambda: self._inner.swap_pointer(key, body, expected), lost)
        except PointerMoved:
            now = self.read_pointer(key) if lost.once else None
            if now is None or now.body != body:
                raise
            return now.token

    def move_new(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        self._again(lambda: self._inner.move_new(staged, place, keys))

    def list(self, prefix: PurePosixPath) -> Iterator[Entry]:
        # Whole before the first is given: half a listing cannot be taken up again.
        yield from self._again(lambda: tuple(self._inner.list(prefix)))

    def names(self, start: str) -> Iterator[str]:
        yield from self._again(lambda: tuple(self._inner.names(start)))

    def put(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        self._again(lambda: self._inner.put(key, body, sha256))

    def put_all(self, uploads: Sequence[Upload]) -> None:
        self._again(lambda: self._inner.put_all(uploads))

    def delete(self, prefix: PurePosixPath) -> None:
        self._again(lambda: self._inner.delete(prefix))

    def alone(self, name: str, *, timeout_s: float) -> AbstractContextManager[None]:
        return self._inner.alone(name, timeout_s=timeout_s)

    def staging_is_alive(self, staging: PurePosixPath) -> bool | None:
        return self._again(lambda: self._inner.staging_is_alive(staging))

    def _again(self, ask: Callable[[], _Answer], lost: "_Lost | None" = None) -> _Answer:
        def noted(state: tenacity.RetryCallState) -> None:
            del state
            if lost is not None:
                lost.once = True

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(OutcomeUnknown),
            stop=tenacity.stop_after_attempt(self._patience.attempts),
            wait=tenacity.wait_random_exponential(
                multiplier=self._patience.first_pause_s, max=self._patience.longest_pause_s
            ),
            after=noted,
            reraise=True,
        )
        return attempts(ask)

    def _digest(self, key: PurePosixPath) -> str:
        with self.open(key) as stream:
            return streams.digest(stream)

    @contextlib.contextmanager
    def _opened(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        resumed = _Resumed(lambda: self._inner.open(key), self._again)
        try:
            self._again(resumed.start)
            with io.BufferedReader(resumed, _BUFFER_BYTES) as stream:
                yield stream
        finally:
            resumed.stop()


class _Lost:
    """Whether an answer was lost at least once."""

    once = False


class _Resumed(io.RawIOBase):
    """A stream that is opened again, and read up to where it was, when the store breaks off.

    A checksum tells whether those were the same bytes. It need not be a strong one: readers hold the whole against
    what was promised for it, and a strong one would cost every read as much again.
    """

    def __init__(
        self, reopen: Callable[[], AbstractContextManager[BinaryIO]], again: Callable[[Callable[[], int]], int]
    ) -> None:
        super().__init__()
        self._reopen = reopen
        self._again = again
        self._stack = contextlib.ExitStack()
        self._stream: BinaryIO | None = None
        self._at = 0
        self._passed = 0

    def readable(self) -> bool:
        return True

    def start(self) -> int:
        self.stop()
        self._stream = self._stack.enter_context(self._reopen())
        passed, left = 0, self._at
        while left and (chunk := self._stream.read(min(left, _BUFFER_BYTES))):
            passed = zlib.crc32(chunk, passed)
            left -= len(chunk)
        if left or passed != self._passed:
            self.stop()
            raise OutcomeUnknown("what is being read was changed meanwhile", next_step="run again")
        return self._at

    def stop(self) -> None:
        self._stream = None
        self._stack.close()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the buffer is always a memoryview here
        return self._again(lambda: self._read(buffer))

    def _read(self, buffer: memoryview) -> int:
        if self._stream is None:
            self.start()
        assert self._stream is not None  # noqa: S101 - start() opened it or raised
        try:
            chunk = self._stream.read(len(buffer))
        except OutcomeUnknown:
            self.stop()
            raise
        buffer[: len(chunk)] = chunk
        self._at += len(chunk)
        self._passed = zlib.crc32(chunk, self._passed)
        return len(chunk)
