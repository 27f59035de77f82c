"""The folder that a repository lives in: opened without following anything, written durably, and given up on doubt.

A failed fsync ends its use: the kernel forgets the error, so asking again would give a false yes.
"""

import contextlib
import errno
import hashlib
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from builders.copying import write_all
from builders.names import escaped
from orchestrator.errors import KeyMissing, RepositoryError
from orchestrator.repositories import folders, streams, tree
from orchestrator.repositories.keys import STAGING
from orchestrator.repositories.local_lock import LOCK, WRITING_TIMEOUT_S, locked


class Disk:
    """A folder of one file system; the staging areas that this process makes in it stay locked while it lives."""

    def __init__(self, path: Path, *, unsafe_filesystem: bool) -> None:
        self.path = path.resolve()
        self._unsafe = unsafe_filesystem
        self._failed_sync = ""
        self._settled: set[tuple[str, ...]] = set()
        self._settling = threading.Lock()
        self._alive: dict[str, int] = {}
        weakref.finalize(self, _close_all, self._alive)

    def place(self, key: PurePosixPath) -> Path:
        return self.path / key

    def release(self, staging: str) -> None:
        """Forget a staging area that was removed, and its lock."""
        with self._settling:
            self._settled = {parts for parts in self._settled if parts[:1] != (staging,)}
            if (held := self._alive.pop(staging, None)) is not None:
                os.close(held)

    # --- opening ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self, parts: Sequence[str]) -> Iterator[int]:
        """Open a folder of the repository. Raises FileNotFoundError."""
        base = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            folder = folders.open_folder(base, parts)
        finally:
            os.close(base)
        with folders.closing(folder):
            yield folder

    def open_file(self, key: PurePosixPath) -> int:
        """Open a plain file for reading. Raises KeyMissing. The caller closes it."""
        try:
            with self.reading(key.parts[:-1]) as folder:
                return folders.open_file(folder, key.name)
        except FileNotFoundError:
            raise missing_file(self.place(key)) from None
        except OSError:
            with folders.named(self.place(key)):
                raise

    @contextlib.contextmanager
    def writing(self, place: Path) -> Iterator[int]:
        """Open the repository to write `place`, which errors name; make it where it is not there."""
        if self._failed_sync:
            raise RepositoryError(self._failed_sync, next_step="check the disk, then run again: it looks at everything")
        with folders.named(place):
            if not self.path.is_dir():
                tree.make_base(self.path)
            with folders.closing(os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as base:
                self._check_file_system(base)
                yield base

    def _check_file_system(self, base: int) -> None:
        kind = folders.NO_PROMISES.get(folders.file_system(base))
        if kind and not self._unsafe:
            raise RepositoryError(
                f"{escaped(str(self.path))} is on {kind}, where locks, links and syncs may not mean what they say",
                next_step="put the repository on a local disk, or accept the danger by unsafe_filesystem = true",
            )

    @contextlib.contextmanager
    def making(self, base: int, parts: tuple[str, ...]) -> Iterator[int]:
        """Open a folder, made and durable before."""
        with self._settling:
            if parts not in self._settled:
                folder = folders.open_folder(base, parts, made=lambda at, name: self._make(base, at, name))
                # Whoever made it, it must be on disk before what is put into it is acknowledged.
                with folders.closing(folder):
                    self._sync_chain(base, parts)
                self._settled.add(parts)
        with folders.closing(folders.open_folder(base, parts)) as folder:
            yield folder

    def _make(self, base: int, at: int, name: str) -> None:
        """Make a folder that appears with its mode, and a staging area that appears locked by this process."""
        made, fresh = folders.fresh_folder(base)
        staging = name.startswith(STAGING) and os.path.samestat(os.fstat(at), os.fstat(base))
        os.fchmod(made, 0o700 if staging else 0o755)
        self.sync(made, self.path / name)
        try:
            self.rename_new(base, (base, fresh), (at, name))
        except FileExistsError:
            # Still locked, so that nobody else sweeps it away first.
            os.rmdir(fresh, dir_fd=base)
            os.close(made)
            return
        if staging:
            self._alive[name] = made
        else:
            os.close(made)

    # --- files ------------------------------------------------------------------------------------------------------

    def replace(
        self, base: int, folder: int, key: PurePosixPath, body: bytes | Path, promised: str | None, *, sync: bool = True
    ) -> None:
        """Put a fresh file in the place of another; its folder is the caller's to sync. `promised` as in `fill`."""
        with folders.fresh_file(base) as (fresh, name):
            self.fill(fresh, body, promised, key)
            if sync:
                self.sync(fresh, self.place(key))
            os.rename(name, key.name, src_dir_fd=base, dst_dir_fd=folder)

    def add(
        self, base: int, folder: int, key: PurePosixPath, body: bytes | Path, promised: str | None, *, sync: bool
    ) -> None:
        """Write a file of a staging area in its place: nobody reads it before its maker says that it is whole."""
        try:
            fresh = folders.new_file(folder, key.name)
        except FileExistsError:
            self.replace(base, folder, key, body, promised, sync=sync)
            return
        with folders.closing(fresh):
            self.fill(fresh, body, promised, key)
            if sync:
                self.sync(fresh, self.place(key))

    def fill(self, fresh: int, body: bytes | Path, promised: str | None, key: PurePosixPath) -> None:
        """Write what `key` is to become, if it has the promised SHA-256; None: somebody else looks at that."""
        if isinstance(body, bytes):
            executable, found = False, "" if promised is None else hashlib.sha256(body).hexdigest()
            write_all(fresh, body)
        else:
            executable, found = tree.copy(body, fresh, hashed=promised is not None)
        if promised is not None:
            streams.require(found, promised, escaped(str(self.place(key))))
        os.fchmod(fresh, 0o755 if executable else 0o644)

    def settle_existing(self, folder: int, name: str, place: Path) -> None:
        """Make what is there durable: who finds its own bytes goes on, and their maker may have been killed."""
        with contextlib.suppress(OSError), folders.closing(folders.open_file(folder, name)) as found:
            self.sync(found, place)
        self.sync(folder, place)

    def rename_new(self, base: int, source: tuple[int, str], target: tuple[int, str]) -> None:
        """Rename without replacing. Raises FileExistsError."""
        try:
            folders.rename_new(*source, *target)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOSYS}:
                raise
            if not self._unsafe:
                raise OSError(error.errno, "its file system cannot rename without replacing") from error
            # Without the flag only the lock stands between two publishers, and nothing between us and strangers.
            with locked(base, LOCK, self.path / LOCK, timeout_s=WRITING_TIMEOUT_S):
                if folders.exists(*target):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
                os.rename(source[1], target[1], src_dir_fd=source[0], dst_dir_fd=target[0])

    # --- durability -------------------------------------------------------------------------------------------------

    def sync(self, descriptor: int, place: Path, *, whole: bool = False) -> None:
        """Make a file or a folder durable, or with `whole` its file system; a failure ends all writing."""
        try:
            folders.sync_all(descriptor) if whole else os.fsync(descriptor)
        except OSError as error:
            self._failed_sync = (
                f"{escaped(str(place))} may not be on the disk, because syncing it failed: {error.strerror}; "
                "nothing more is written by this run"
            )
            raise

    def _sync_chain(self, base: int, parts: tuple[str, ...]) -> None:
        for depth in range(len(parts)):
            with folders.closing(folders.open_folder(base, parts[:depth])) as folder:
                self.sync(folder, self.path.joinpath(*parts[:depth]))


def missing_file(place: Path) -> KeyMissing:
    return KeyMissing(f"{escaped(str(place))} is not there", next_step="check the version and the repository's path")


def _close_all(descriptors: dict[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
