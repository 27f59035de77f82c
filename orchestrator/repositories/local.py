"""A repository in a folder of one file system: created by link, moved by rename, durable by fsync.

Every step is acknowledged only after the file and then the folder that names it were synced. A failed fsync ends the
use of the repository: the kernel forgets the error, so asking again would give a false yes.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from builders.copying import write_all
from builders.names import escaped
from orchestrator.errors import KeyMissing, KeyTaken, PointerMoved, RepositoryError
from orchestrator.repositories import folders, probe, streams, tree
from orchestrator.repositories.interface import Entry, Pointer, PointerToken, Upload
from orchestrator.repositories.keys import OWN, STAGING, check_key, check_replaceable, check_staging

_THREADS: Final = 4
_POLL_S: Final = 0.02
_SWAP_TIMEOUT_S: Final = 60.0
_WHOLE_SYNC_FROM: Final = 64
"""So many files are synced faster by one syncfs than by an fsync each; it waits for other programs' writes too."""
_LOCK: Final = ".lock"
_HOLDER_BYTES: Final = 200
_MOVED_AWAY: Final = "it was removed while it was being used"


class LocalRepository:
    """A folder. `unsafe_filesystem` accepts network and FUSE file systems, whose locks and syncs may be untrue."""

    def __init__(self, path: Path, *, unsafe_filesystem: bool = False) -> None:
        self._path = path.resolve()
        self._unsafe = unsafe_filesystem
        self._failed_sync = ""
        self._settled: set[tuple[str, ...]] = set()
        self._settling = threading.Lock()
        self._alive: dict[str, int] = {}
        weakref.finalize(self, _close_all, self._alive)

    @property
    def location(self) -> str:
        return str(self._path)

    def probe(self) -> None:
        """Refuse a file system without the promises; also remove what killed processes left half made."""
        with self._writing(self._path) as base:
            folders.sweep(base)
        area = PurePosixPath(f"{STAGING}probe-{secrets.token_hex(8)}")
        try:
            # The kernel decides here, not a server: two racers in one round tell whether it does.
            probe.race(self, area, rounds=1, racers=2)
        finally:
            self.delete(area)

    # --- writing ----------------------------------------------------------------------------------------------------

    def put_new(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        place = self._place(check_key(key))
        with self._writing(place) as base, self._making(base, key.parts[:-1]) as folder:
            with folders.fresh_file(base) as (fresh, name):
                self._fill(fresh, body, sha256, place)
                self._sync(fresh, place)
                try:
                    os.link(name, key.name, src_dir_fd=base, dst_dir_fd=folder, follow_symlinks=False)
                except FileExistsError:
                    self._settle_existing(folder, key.name, place)
                    raise _taken(place) from None
            self._sync(folder, place)

    def put(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        place = self._place(check_replaceable(key))
        with self._writing(place) as base, self._making(base, key.parts[:-1]) as folder:
            self._replace(base, folder, key, body, sha256)
            self._sync(folder, place)

    def put_all(self, uploads: Sequence[Upload]) -> None:
        """Write files with several threads. Many are made durable by one syncfs, where the file system is known to."""
        with self._writing(self._path) as base:
            together = len(uploads) >= _WHOLE_SYNC_FROM and _syncs_whole(base)
            streams.side_by_side(
                [partial(self._put_one, base, upload, sync=not together) for upload in uploads], _THREADS
            )
            if together:
                self._sync(base, self._path, whole=True)
            else:
                self._sync_folders(base, {upload.key.parts[:-1] for upload in uploads})

    def move_new(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        """Rename the staged folder to its place in one step, if it holds exactly these keys."""
        source, target = self._place(check_key(staged)), self._place(check_key(place))
        for key in keys:
            check_key(place / key)
        with self._writing(target) as base, self._making(base, place.parts[:-1]) as above:
            if not self._holds_exactly(base, staged, keys):
                self._require_moved(base, staged, place, keys)
            else:
                with folders.closing(folders.open_folder(base, staged.parts[:-1])) as below:
                    try:
                        self._rename_new(base, (below, staged.name), (above, place.name))
                    except FileExistsError:
                        if not self._same(base, staged, place, keys):
                            raise _taken(target) from None
                    self._sync(below, source)
            self._sync(above, target)

    def swap_pointer(self, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken:
        place = self._place(check_key(key))
        with (
            self._writing(place) as base, self._making(base, key.parts[:-1]) as folder,
            self._locked(base, _LOCK, timeout_s=_SWAP_TIMEOUT_S),
        ):  # fmt: skip
            now = tree.read_whole(folder, key.name)
            if (None if now is None else _token(now)) != expected:
                raise PointerMoved(
                    f"{escaped(str(place))} was changed by somebody else", next_step="read it again, then try again"
                )
            self._replace(base, folder, key, body, hashlib.sha256(body).hexdigest())
            self._sync(folder, place)
        return _token(body)

    def delete(self, prefix: PurePosixPath) -> None:
        place = self._place(check_staging(prefix))
        with self._writing(place) as base:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(prefix.name, dir_fd=base)
            self._sync(base, place)
            with self._settling:
                self._settled = {parts for parts in self._settled if parts[:1] != prefix.parts}
                if (held := self._alive.pop(prefix.name, None)) is not None:
                    os.close(held)

    # --- reading ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def open(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        place = self._place(check_key(key))
        try:
            with folders.named(place, missing=False), self._reading(key.parts[:-1]) as folder:
                descriptor = folders.open_file(folder, key.name)
        except FileNotFoundError:
            raise _missing(place) from None
        with os.fdopen(descriptor, "rb") as file:
            yield file

    def read_pointer(self, key: PurePosixPath) -> Pointer | None:
        with folders.named(self._place(check_key(key))):
            try:
                with self._reading(key.parts[:-1]) as folder:
                    body = tree.read_whole(folder, key.name)
            except FileNotFoundError:
                return None
        return None if body is None else Pointer(body=body, token=_token(body))

    def list(self, prefix: PurePosixPath) -> Iterator[Entry]:
        absent = contextlib.suppress(FileNotFoundError)
        with folders.named(self._place(prefix)), absent, self._reading(prefix.parts) as folder:
            yield from tree.entries(folder, prefix)

    def names(self, start: str) -> Iterator[str]:
        absent = contextlib.suppress(FileNotFoundError)
        with folders.named(self._path), absent, self._reading(()) as base:
            yield from sorted(
                name for name in folders.names(base) if name.startswith(start) and not name.startswith(OWN)
            )

    # --- processes --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def alone(self, name: str, *, timeout_s: float) -> Iterator[None]:
        """Hold the lock `.lock-NAME`. What an earlier holder left is made durable, or removed, first."""
        lock = f"{_LOCK}-{name}"
        place = self._place(check_key(PurePosixPath("locks", name)).with_name(lock))
        with self._writing(place) as base, self._locked(base, lock, timeout_s=timeout_s):
            # A holder killed between rename and fsync leaves a state that everybody sees and no disk has.
            self._sync(base, place)
            folders.sweep(base)
            yield

    def staging_is_alive(self, staging: PurePosixPath) -> bool | None:
        check_staging(staging)
        with folders.named(self._place(staging)):
            try:
                with self._reading(staging.parts) as folder:
                    fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except FileNotFoundError:
                return False
            except BlockingIOError:
                return True
        return False

    # --- how --------------------------------------------------------------------------------------------------------

    def _place(self, key: PurePosixPath) -> Path:
        return self._path / key

    @contextlib.contextmanager
    def _reading(self, parts: Sequence[str]) -> Iterator[int]:
        base = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with folders.closing(base), folders.closing(folders.open_folder(base, parts)) as folder:
            yield folder

    @contextlib.contextmanager
    def _writing(self, place: Path) -> Iterator[int]:
        if self._failed_sync:
            raise RepositoryError(self._failed_sync, next_step="check the disk, then run again: it looks at everything")
        with folders.named(place):
            if not self._path.is_dir():
                tree.make_base(self._path)
            with folders.closing(os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as base:
                self._check_file_system(base)
                yield base

    def _check_file_system(self, base: int) -> None:
        kind = folders.NO_PROMISES.get(folders.file_system(base))
        if kind and not self._unsafe:
            raise RepositoryError(
                f"{escaped(self.location)} is on {kind}, where locks, links and syncs may not mean what they say",
                next_step="put the repository on a local disk, or accept the danger by unsafe_filesystem = true",
            )

    @contextlib.contextmanager
    def _making(self, base: int, parts: tuple[str, ...]) -> Iterator[int]:
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
        self._sync(made, self._path / name)
        try:
            self._rename_new(base, (base, fresh), (at, name))
        except FileExistsError:
            os.close(made)
            os.rmdir(fresh, dir_fd=base)
            return
        if staging:
            self._alive[name] = made
        else:
            os.close(made)

    def _put_one(self, base: int, upload: Upload, *, sync: bool) -> None:
        key = check_replaceable(upload.key)
        with folders.named(self._place(key)), self._making(base, key.parts[:-1]) as folder:
            self._replace(base, folder, key, upload.body, upload.sha256, sync=sync)

    def _replace(
        self, base: int, folder: int, key: PurePosixPath, body: bytes | Path, sha256: str, *, sync: bool = True
    ) -> None:
        place = self._place(key)
        with folders.fresh_file(base) as (fresh, name):
            self._fill(fresh, body, sha256, place)
            if sync:
                self._sync(fresh, place)
            os.rename(name, key.name, src_dir_fd=base, dst_dir_fd=folder)

    def _fill(self, fresh: int, body: bytes | Path, sha256: str, place: Path) -> None:
        if isinstance(body, bytes):
            executable, found = False, hashlib.sha256(body).hexdigest()
            write_all(fresh, body)
        else:
            executable, found = tree.copy(body, fresh)
        if found != sha256:
            raise RepositoryError(
                f"what was to become {escaped(str(place))} has the SHA-256 {found}, and {sha256} was promised",
                next_step="something changed the file meanwhile: stage the release again",
            )
        os.fchmod(fresh, 0o755 if executable else 0o644)

    def _settle_existing(self, folder: int, name: str, place: Path) -> None:
        """Make what is there durable: who finds its own bytes goes on, and their maker may have been killed."""
        with contextlib.suppress(OSError), folders.closing(folders.open_file(folder, name)) as found:
            self._sync(found, place)
        self._sync(folder, place)

    def _rename_new(self, base: int, source: tuple[int, str], target: tuple[int, str]) -> None:
        try:
            folders.rename_new(*source, *target)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOSYS}:
                raise
            if not self._unsafe:
                raise OSError(error.errno, "its file system cannot rename without replacing") from error
            # Without the flag only the lock stands between two publishers, and nothing between us and strangers.
            with self._locked(base, _LOCK, timeout_s=_SWAP_TIMEOUT_S):
                if folders.exists(*target):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
                os.rename(source[1], target[1], src_dir_fd=source[0], dst_dir_fd=target[0])

    def _holds_exactly(self, base: int, staged: PurePosixPath, keys: Sequence[PurePosixPath]) -> bool:
        """Tell whether the staged folder is there; refuse one that lacks a key or holds something else."""
        try:
            folder = folders.open_folder(base, staged.parts)
        except FileNotFoundError:
            return False
        with folders.closing(folder):
            found = {entry.key for entry in tree.entries(folder, PurePosixPath())}
        if missing := sorted(set(keys) - found):
            raise _missing(self._place(staged / missing[0]))
        if foreign := sorted(found - set(keys)):
            raise RepositoryError(
                f"{escaped(str(self._place(staged / foreign[0])))} is no part of the release",
                next_step="find out who put it there, remove it, then run `relbuild recover`",
            )
        return True

    def _require_moved(
        self, base: int, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]
    ) -> None:
        for key in keys:
            try:
                with folders.closing(folders.open_folder(base, (place / key).parts[:-1])) as folder:
                    os.close(folders.open_file(folder, key.name))
            except FileNotFoundError:
                raise _missing(self._place(staged / key)) from None

    def _same(self, base: int, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> bool:
        try:
            with folders.closing(folders.open_folder(base, place.parts)) as folder:
                there = {entry.key for entry in tree.entries(folder, PurePosixPath())}
            return there == set(keys) and all(
                tree.digest(base, staged / key) == tree.digest(base, place / key) for key in keys
            )
        except OSError:
            return False

    def _sync(self, descriptor: int, place: Path, *, whole: bool = False) -> None:
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
                self._sync(folder, self._path.joinpath(*parts[:depth]))

    def _sync_folders(self, base: int, found: set[tuple[str, ...]]) -> None:
        for parts in sorted(found):
            with folders.closing(folders.open_folder(base, parts)) as folder:
                self._sync(folder, self._path.joinpath(*parts))

    @contextlib.contextmanager
    def _locked(self, base: int, lock: str, *, timeout_s: float) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with folders.closing(os.open(lock, flags, 0o644, dir_fd=base)) as held:
            deadline = time.monotonic() + timeout_s
            while not _try_lock(held):
                if time.monotonic() > deadline:
                    holder = os.pread(held, _HOLDER_BYTES, 0).decode("utf-8", "replace")
                    raise RepositoryError(
                        f"{escaped(str(self._path / lock))} has been held for {timeout_s:g} s by {escaped(holder)}",
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


def _syncs_whole(base: int) -> bool:
    major, minor = (int("".join(filter(str.isdigit, part))) for part in os.uname().release.split(".")[:2])
    return (major, minor) >= (5, 8) and folders.file_system(base) in folders.WHOLE_SYNC


def _token(body: bytes) -> PointerToken:
    return PointerToken(hashlib.sha256(body).hexdigest())


def _taken(place: Path) -> KeyTaken:
    return KeyTaken(f"{escaped(str(place))} is there already", next_step="choose another version: nothing is replaced")


def _missing(place: Path) -> KeyMissing:
    return KeyMissing(f"{escaped(str(place))} is not there", next_step="check the version and the repository's path")


def _close_all(descriptors: dict[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
