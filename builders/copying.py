"""Copies bytes from one place to another once, and knows their digests afterwards."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builders.errors import DiskFull

CHUNK_BYTES: Final = 1 << 20

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_ZEROS = bytes(CHUNK_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """What was copied: its size and its digests in hexadecimal."""

    size_bytes: int
    sha256: str
    sha512: str


def copy_hashed(chunks: Iterable[bytes], to: int) -> Digests:
    """Write chunks to a file descriptor and hash them on the way. Whole chunks of zeros become holes."""
    sha256, sha512, size = hashlib.sha256(), hashlib.sha512(), 0
    for chunk in chunks:
        sha256.update(chunk)
        sha512.update(chunk)
        size += len(chunk)
        if chunk == _ZEROS:
            os.lseek(to, len(chunk), os.SEEK_CUR)
        else:
            write_all(to, chunk)
    os.ftruncate(to, size)
    return Digests(size_bytes=size, sha256=sha256.hexdigest(), sha512=sha512.hexdigest())


def write_all(to: int, data: bytes) -> None:
    """Write every byte; one os.write may write fewer."""
    view = memoryview(data)
    while view:
        view = view[os.write(to, view) :]


def read_chunks(descriptor: int, expected_bytes: int | None = None) -> Iterator[bytes]:
    """Give what is left of an open file, piece by piece; no more than one piece beyond what is expected of it."""
    size = 0
    # A file that somebody goes on writing to has no end.
    while (expected_bytes is None or size <= expected_bytes) and (chunk := os.read(descriptor, CHUNK_BYTES)):
        size += len(chunk)
        yield chunk


@contextlib.contextmanager
def new_file(path: Path, *, executable: bool) -> Iterator[int]:
    """Open a file that must not exist yet: private while it is written, 0644 or 0755 afterwards, whatever the umask."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
        os.fchmod(descriptor, 0o755 if executable else 0o644)
    finally:
        os.close(descriptor)


def make_folders(path: Path) -> None:
    """Make a folder and its missing parents, each with mode 0755, whatever the umask."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(0o755)


@contextlib.contextmanager
def full_disk_named(place: Path) -> Iterator[None]:
    """Raise DiskFull for an error that means no space, inodes or quota left at `place`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFull(
            f"no space left while writing below {place}: {error.strerror}",
            next_step="free some space or inodes there (`df -h`, `df -i`) and run again; finished cells are kept",
        ) from error
