"""Folders and files reached from an open folder, one segment at a time: nothing on the way is followed or guessed."""

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from builders.copying import full_disk_named
from builders.names import escaped
from orchestrator.errors import RepositoryError

FRESH: Final = ".new-"
"""How the name begins of what is being made; its maker holds a flock on it, so that leftovers can be told."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO in the place of a file must not make the program wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_NOREPLACE = 1  # renameat2(2)
_LIBC = ctypes.CDLL(None, use_errno=True)
_REFUSALS = {
    errno.EROFS: ("the file system is read-only", "mount it for writing, or name another repository"),
    errno.EACCES: ("permission denied", "run as a user who may write there"),
    errno.EPERM: ("not permitted", "run as a user who may write there"),
    errno.ELOOP: ("it is a symbolic link", "remove the link: repositories hold plain files and folders only"),
    errno.ENOTDIR: ("it is not a plain folder", "move it away: repositories hold plain files and folders only"),
    errno.EISDIR: ("it is a folder", "move it away"),
    errno.EXDEV: ("it is on another device", "keep the whole repository, staging included, on one file system"),
}

NO_PROMISES: Final = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x65735546: "FUSE",
    0x01021997: "9p",
    0x5346414F: "AFS",
    0x00C36400: "CephFS",
    0x0BD00BD0: "Lustre",
    0x786F4256: "vboxsf",
    0x4D44: "FAT",
    0x2011BAB0: "exFAT",
}
"""File systems, by the magic of statfs(2), where a lock, a link or an fsync may not mean what it says."""

WHOLE_SYNC: Final = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x01021994})
"""ext4, XFS, btrfs and tmpfs, where syncfs(2) waits for data, folders and the disk's cache, and tells of errors."""


@contextlib.contextmanager
def named(place: Path) -> Iterator[None]:
    """Turn an OSError into an error that names the place and a way out."""
    try:
        with full_disk_named(place):
            yield
    except OSError as error:
        number = error.errno or 0
        what, next_step = _REFUSALS.get(number, (error.strerror or str(error), "look at the place, then run again"))
        raise RepositoryError(f"{escaped(str(place))} cannot be used: {what}", next_step=next_step) from error


@contextlib.contextmanager
def closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_folder(base: int, parts: Sequence[str], *, made: Callable[[int, str], None] | None = None) -> int:
    """Open a folder below another; `made(parent, name)` makes a missing one. The caller closes it."""
    device, at = os.fstat(base).st_dev, base
    for part in parts:
        try:
            if made is not None and not exists(at, part):
                made(at, part)
            inner = os.open(part, _FOLDER, dir_fd=at)
        finally:
            if at != base:
                os.close(at)
        at = inner
        if os.fstat(at).st_dev != device:
            os.close(at)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return os.dup(base) if at == base else at


def open_file(folder: int, name: str) -> int:
    """Open a plain file for reading. The caller closes it."""
    descriptor = os.open(name, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file")
    return descriptor


def exists(folder: int, name: str) -> bool:
    """Tell whether a name is there, as whatever."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def new_file(folder: int, name: str) -> int:
    """Open a new private file under its own name. Raises FileExistsError. The caller closes it."""
    return os.open(name, _NEW_FILE, 0o600, dir_fd=folder)


@contextlib.contextmanager
def fresh_file(base: int) -> Iterator[tuple[int, str]]:
    """Give a new private file and its name; the name is removed at the end unless the block renamed it away."""
    while True:
        name = f"{FRESH}{secrets.token_hex(16)}"
        descriptor = new_file(base, name)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A sweep may have taken it for a leftover before it was locked.
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)
    try:
        yield descriptor, name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=base)
        os.close(descriptor)


def fresh_folder(base: int) -> tuple[int, str]:
    """Make a new private folder, locked; the caller renames it and closes it to unlock it."""
    while True:
        name = f"{FRESH}{secrets.token_hex(16)}"
        os.mkdir(name, 0o700, dir_fd=base)
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(name, _FOLDER, dir_fd=base)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if exists(base, name):
                return descriptor, name
            os.close(descriptor)


def names(folder: int) -> list[str]:
    """Name what is in an open folder, in no order."""
    return os.listdir(folder)


def sweep(base: int) -> None:
    """Remove what killed makers left half made."""
    for name in names(base):
        if name.startswith(FRESH):
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                _remove_unlocked(base, name)


def _remove_unlocked(base: int, name: str) -> None:
    with closing(os.open(name, _FILE, dir_fd=base)) as found:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(found).st_mode):
            os.rmdir(name, dir_fd=base)
        else:
            os.unlink(name, dir_fd=base)


def rename_new(source: int, name: str, target: int, new_name: str) -> None:
    """Rename and never replace. Raises FileExistsError; OSError EINVAL where the file system cannot promise it."""
    if _LIBC.renameat2(source, os.fsencode(name), target, os.fsencode(new_name), _RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def file_system(descriptor: int) -> int:
    """Give the magic number of the file system, as statfs(2) lists them."""
    answer = (ctypes.c_long * 64)()
    if _LIBC.fstatfs(descriptor, ctypes.byref(answer)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(answer[0]) & 0xFFFFFFFF


def sync_all(descriptor: int) -> None:
    """Make the whole file system durable; errors since `descriptor` was opened are raised (Linux 5.8 and later)."""
    if _LIBC.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
