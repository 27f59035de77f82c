"""Bytes on their way into and out of a store."""

import contextlib
import errno
import hashlib
import io
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from orchestrator.errors import RepositoryError
from orchestrator.repositories import folders

_BUFFER_BYTES: Final = 1 << 20
_Answer = TypeVar("_Answer")


@contextlib.contextmanager
def opened(body: bytes | Path) -> Iterator[tuple[BinaryIO, int]]:
    """Give what is to be written as a stream, from its beginning, and its size. Only plain files are read."""
    if isinstance(body, bytes):
        yield io.BytesIO(body), len(body)
        return
    with folders.named(body):
        descriptor = os.open(body, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is not a plain file")
    with os.fdopen(descriptor, "rb") as file:
        yield file, status.st_size


def require(found: str, promised: str | None, what: str) -> None:
    """Refuse bytes with another SHA-256 than was promised for them; None: nobody did."""
    if promised is not None and found != promised:
        raise RepositoryError(
            f"what was to become {what} has the SHA-256 {found}, and {promised} was promised",
            next_step="something changed the file meanwhile: stage the release again",
        )


def digest(stream: BinaryIO) -> str:
    """Give the SHA-256 of what is left of a stream, in hexadecimal."""
    return digest_and_size(stream)[0]


def digest_and_size(stream: BinaryIO) -> tuple[str, int]:
    """Give the SHA-256 of what is left of a stream, in hexadecimal, and how many bytes that was."""
    found, size = hashlib.sha256(), 0
    while chunk := stream.read(_BUFFER_BYTES):
        found.update(chunk)
        size += len(chunk)
    return found.hexdigest(), size


def side_by_side(asks: Sequence[Callable[[], _Answer]], threads: int) -> list[_Answer]:
    """Run all with several threads, and give the answers in their order; an error leaves out what has not begun."""
    if threads <= 1 or len(asks) <= 1:
        return [ask() for ask in asks]
    left, answers = deque(enumerate(asks)), dict[int, _Answer]()

    def drain() -> None:
        # One task for each thread, not for each ask: thousands of small ones would cost more than their work.
        while True:
            try:
                at, ask = left.popleft()
            except IndexError:
                return
            try:
                answers[at] = ask()
            except BaseException:
                left.clear()
                raise

    with ThreadPoolExecutor(threads) as pool:
        try:
            for each in [pool.submit(drain) for _ in range(min(threads, len(asks)))]:
                each.result()
        finally:
            # Behind an error, or when somebody interrupts the wait, nothing more is begun.
            left.clear()
    return [answers[at] for at in range(len(asks))]


class Checked:
    """A stream of known size that fails instead of giving its last bytes when the whole is not what was promised."""

    def __init__(self, stream: BinaryIO, size: int, sha256: str, what: str) -> None:
        self._stream = stream
        self._left = size
        self._at = 0
        self._sha256 = sha256
        self._what = what
        self._passed = hashlib.sha256()

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._passed.update(chunk)
        self._left -= len(chunk)
        self._at += len(chunk)
        if not self._left:
            require(self._passed.hexdigest(), self._sha256, self._what)
        return chunk


class Bounded:
    """Reads so many bytes and never asks for one beyond the end: a range past it is an error to some servers."""

    def __init__(self, read: Callable[[int], bytes], size: int) -> None:
        self._read = read
        self._left = size

    def read(self, size: int) -> bytes:
        chunk = self._read(min(size, self._left)) if self._left else b""
        self._left -= len(chunk)
        return chunk


class _Translated(io.RawIOBase):
    def __init__(self, read: Callable[[int], bytes], guard: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__()
        self._read = read
        self._guard = guard

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the buffer is always a memoryview here
        with self._guard():
            chunk = self._read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


def translated(read: Callable[[int], bytes], guard: Callable[[], AbstractContextManager[None]]) -> BinaryIO:
    """Give a stream over `read`, each call of which happens inside a `guard()` that translates its errors."""
    return io.BufferedReader(_Translated(read, guard), _BUFFER_BYTES)
