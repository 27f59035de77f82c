"""Reads and writes files with private keys, and refuses those that others could have read or put there."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from builders.copying import read_chunks, write_all
from builders.names import escaped
from orchestrator.errors import KeyRefused

MAX_KEY_BYTES: Final = 64 << 10
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a named pipe (FIFO)"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)
_OPEN_ERRORS = {
    errno.ENOENT: ("is missing", "name the key's file, or make one: relbuild keys generate"),
    errno.ELOOP: ("is a symbolic link", "name the file that it points to"),
    errno.ENXIO: ("is a socket", "name the key's own file"),
}


def read_private(path: Path) -> bytes:
    """Give the bytes of a private file. Raises KeyRefused, with its own words for each reason."""
    with _opened(path) as descriptor:
        data = b"".join(read_chunks(descriptor, MAX_KEY_BYTES))
    if len(data) > MAX_KEY_BYTES:
        raise refused(path, f"is larger than {MAX_KEY_BYTES} bytes", "name a key's file")
    return data


def refuse_bad_file(path: Path) -> None:
    """Raise KeyRefused where `read_private` would, without reading the file."""
    with _opened(path):
        pass


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        # Without O_NONBLOCK a FIFO would hold the run until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        reason, step = _OPEN_ERRORS.get(error.errno or 0, (f"cannot be read: {error.strerror}", "see who owns it"))
        raise refused(path, reason, step) from error
    try:
        _refuse_bad(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def refuse_bad_folder(path: Path) -> None:
    """Raise KeyRefused where a folder of keys is missing, a link, another user's, or open to others."""
    try:
        status = path.lstat()
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror}", "name a folder that is there") from error
    if stat.S_ISLNK(status.st_mode):
        raise refused(path, "is a symbolic link", "name the folder that it points to")
    if not stat.S_ISDIR(status.st_mode):
        raise refused(path, "is not a folder", "name the folder of the keys")
    _refuse_strangers(path, status, "chmod 700")


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read. Raises KeyRefused where something is there already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise refused_to_write(path, error) from error
    try:
        # A umask can only take bits away, and a file that its owner cannot read is no use.
        os.fchmod(descriptor, 0o600)
        write_all(descriptor, data)
        os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def refused_to_write(path: Path, error: OSError) -> KeyRefused:
    """Give the error for a key that cannot be written."""
    if isinstance(error, FileExistsError):
        return refused(path, "is there already and is not overwritten", "name another file, or move that one away")
    if isinstance(error, FileNotFoundError):
        folder = escaped(str(path.parent))
        return refused(path, f"cannot be written: the folder {folder} is missing", "make it, or name another one")
    return refused(path, f"cannot be written: {error.strerror}", "name a folder that you may write to")


def refused(path: Path, reason: str, next_step: str) -> KeyRefused:
    """Give the error that names a key's file, what is wrong with it, and a way out."""
    return KeyRefused(f"the key {escaped(str(path))} {reason}", next_step=next_step)


def _refuse_bad(path: Path, status: os.stat_result) -> None:
    for test, reason in _KINDS:
        if test(status.st_mode):
            raise refused(path, reason, "name the key's own file")
    _refuse_strangers(path, status, "chmod 600")
    if status.st_size == 0:
        raise refused(path, "is empty", "make a key: relbuild keys generate")
    if status.st_size > MAX_KEY_BYTES:
        raise refused(path, f"is larger than {MAX_KEY_BYTES} bytes", "name a key's file")


def _refuse_strangers(path: Path, status: os.stat_result, mend: str) -> None:
    if status.st_uid != os.geteuid():
        raise refused(path, f"belongs to another user (uid {status.st_uid})", "use a key that is your own")
    if status.st_mode & _OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        raise refused(path, f"is open to other users (mode {mode:04o})",
                      f"{mend} {escaped(str(path))}; if others may have read it, make a new key")  # fmt: skip
