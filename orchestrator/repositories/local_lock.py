"""Locks of a folder repository: flock on a file, gone with whoever holds it, and naming them meanwhile."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from builders.names import escaped
from orchestrator.errors import RepositoryError
from orchestrator.repositories import folders

LOCK: Final = ".lock"
"""The lock under which the pointer is swapped; those that callers name are `.lock-NAME`."""
WRITING_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.02
_HOLDER_BYTES: Final = 200


@contextlib.contextmanager
def locked(base: int, lock: str, place: Path, *, timeout_s: float) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with folders.closing(os.open(lock, flags, 0o644, dir_fd=base)) as held:
        deadline = time.monotonic() + timeout_s
        while not _try_lock(held):
            if time.monotonic() > deadline:
                holder = os.pread(held, _HOLDER_BYTES, 0).decode("utf-8", "replace")
                raise RepositoryError(
                    f"{escaped(str(place))} has been held for {timeout_s:g} s by {escaped(holder)}",
                    next_step="wait for that process, or end it: the lock goes with it",
                )
            time.sleep(_POLL_S)
        os.ftruncate(held, 0)
        os.pwrite(held, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
