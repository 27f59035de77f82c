"""A repository in a folder of one file system: created by link, moved by rename, durable by fsync.

Every step is acknowledged only after the file and then the folder that names it were synced. A failed fsync ends the
use of the repository: the kernel forgets the error, so asking again would give a false yes.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from builders.names import escaped
from orchestrator.errors import PointerMoved
from orchestrator.repositories import folders, local_moves, probe, streams, tree
from orchestrator.repositories.interface import Entry, Pointer, PointerToken, Upload
from orchestrator.repositories.keys import OWN, STAGING, check_key, check_replaceable, check_staging
from orchestrator.repositories.local_disk import Disk
from orchestrator.repositories.local_lock import LOCK, WRITING_TIMEOUT_S, locked

_THREADS: Final = 4
_WHOLE_SYNC_FROM: Final = 64
"""So many files are synced faster by one syncfs than by an fsync each; it waits for other programs' writes too."""


class LocalRepository:
    """A folder. `unsafe_filesystem` accepts network and FUSE file systems, whose locks and syncs may be untrue."""

    def __init__(self, path: Path, *, unsafe_filesystem: bool = False) -> None:
        self._disk = Disk(path, unsafe_filesystem=unsafe_filesystem)

    @property
    def location(self) -> str:
        return str(self._disk.path)

    def probe(self) -> None:
        """Refuse a file system without the promises; also remove what killed processes left half made."""
        with self._disk.writing(self._disk.path) as base:
            folders.sweep(base)
        area = PurePosixPath(f"{STAGING}probe-{secrets.token_hex(8)}")
        try:
            # The kernel decides here, not a server: two racers in one round tell whether it does.
            probe.race(self, area, rounds=1, racers=2)
        finally:
            self.delete(area)

    # --- writing ----------------------------------------------------------------------------------------------------

    def put_new(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        place = self._disk.place(check_key(key))
        with self._disk.writing(place) as base, self._disk.making(base, key.parts[:-1]) as folder:
            with folders.fresh_file(base) as (fresh, name):
                self._disk.fill(fresh, body, sha256, place)
                self._disk.sync(fresh, place)
                try:
                    os.link(name, key.name, src_dir_fd=base, dst_dir_fd=folder, follow_symlinks=False)
                except FileExistsError:
                    self._disk.settle_existing(folder, key.name, place)
                    raise local_moves.taken(place) from None
            self._disk.sync(folder, place)

    def put(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        place = self._disk.place(check_replaceable(key))
        with self._disk.writing(place) as base, self._disk.making(base, key.parts[:-1]) as folder:
            self._disk.replace(base, folder, key, body, sha256)
            self._disk.sync(folder, place)

    def put_all(self, uploads: Sequence[Upload]) -> None:
        """Write files with several threads. Many are made durable by one syncfs, where the file system is known to."""
        with self._disk.writing(self._disk.path) as base:
            together = len(uploads) >= _WHOLE_SYNC_FROM and _syncs_whole(base)
            streams.side_by_side(
                [partial(self._put_one, base, upload, sync=not together) for upload in uploads], _THREADS
            )
            if together:
                self._disk.sync(base, self._disk.path, whole=True)
            else:
                self._disk.sync_folders(base, {upload.key.parts[:-1] for upload in uploads})

    def move_new(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        """Rename the staged folder to its place in one step, if it holds exactly these keys."""
        check_key(staged)
        check_key(place)
        for key in keys:
            check_key(place / key)
        local_moves.move_new(self._disk, staged, place, keys)

    def swap_pointer(self, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken:
        place = self._disk.place(check_key(key))
        with (
            self._disk.writing(place) as base, self._disk.making(base, key.parts[:-1]) as folder,
            locked(base, LOCK, self._disk.place(PurePosixPath(LOCK)), timeout_s=WRITING_TIMEOUT_S),
        ):  # fmt: skip
            now = tree.read_whole(folder, key.name)
            if (None if now is None else _token(now)) != expected:
                raise PointerMoved(
                    f"{escaped(str(place))} was changed by somebody else", next_step="read it again, then try again"
                )
            self._disk.replace(base, folder, key, body, hashlib.sha256(body).hexdigest())
            self._disk.sync(folder, place)
        return _token(body)

    def delete(self, prefix: PurePosixPath) -> None:
        place = self._disk.place(check_staging(prefix))
        with self._disk.writing(place) as base:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(prefix.name, dir_fd=base)
            self._disk.sync(base, place)
            self._disk.release(prefix.name)

    # --- reading ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def open(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        place = self._disk.place(check_key(key))
        try:
            with folders.named(place, missing=False), self._disk.reading(key.parts[:-1]) as folder:
                descriptor = folders.open_file(folder, key.name)
        except FileNotFoundError:
            raise local_moves.missing_file(place) from None
        with os.fdopen(descriptor, "rb") as file:
            yield file

    def read_pointer(self, key: PurePosixPath) -> Pointer | None:
        with folders.named(self._disk.place(check_key(key))):
            try:
                with self._disk.reading(key.parts[:-1]) as folder:
                    body = tree.read_whole(folder, key.name)
            except FileNotFoundError:
                return None
        return None if body is None else Pointer(body=body, token=_token(body))

    def list(self, prefix: PurePosixPath) -> Iterator[Entry]:
        absent = contextlib.suppress(FileNotFoundError)
        with folders.named(self._disk.place(prefix)), absent, self._disk.reading(prefix.parts) as folder:
            yield from tree.entries(folder, prefix)

    def names(self, start: str) -> Iterator[str]:
        absent = contextlib.suppress(FileNotFoundError)
        with folders.named(self._disk.path), absent, self._disk.reading(()) as base:
            yield from sorted(
                name for name in folders.names(base) if name.startswith(start) and not name.startswith(OWN)
            )

    # --- processes --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def alone(self, name: str, *, timeout_s: float) -> Iterator[None]:
        """Hold the lock `.lock-NAME`. What an earlier holder left is made durable, or removed, first."""
        lock = f"{LOCK}-{name}"
        place = self._disk.place(check_key(PurePosixPath("locks", name)).with_name(lock))
        with self._disk.writing(place) as base, locked(base, lock, place, timeout_s=timeout_s):
            # A holder killed between rename and fsync leaves a state that everybody sees and no disk has.
            self._disk.sync(base, place)
            folders.sweep(base)
            yield

    def staging_is_alive(self, staging: PurePosixPath) -> bool | None:
        check_staging(staging)
        with folders.named(self._disk.place(staging)):
            try:
                with self._disk.reading(staging.parts) as folder:
                    fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except FileNotFoundError:
                return False
            except BlockingIOError:
                return True
        return False

    # --- how --------------------------------------------------------------------------------------------------------

    def _put_one(self, base: int, upload: Upload, *, sync: bool) -> None:
        key = check_replaceable(upload.key)
        with folders.named(self._disk.place(key)), self._disk.making(base, key.parts[:-1]) as folder:
            self._disk.replace(base, folder, key, upload.body, upload.sha256, sync=sync)


def _syncs_whole(base: int) -> bool:
    major, minor = (int("".join(filter(str.isdigit, part))) for part in os.uname().release.split(".")[:2])
    return (major, minor) >= (5, 8) and folders.file_system(base) in folders.WHOLE_SYNC


def _token(body: bytes) -> PointerToken:
    return PointerToken(hashlib.sha256(body).hexdigest())
