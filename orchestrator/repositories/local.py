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
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from builders.names import escaped
from orchestrator.errors import PointerMoved
from orchestrator.repositories import folders, local_moves, probe, streams, tree
from orchestrator.repositories.interface import Entry, Pointer, PointerToken, Upload
from orchestrator.repositories.keys import OWN, STAGING, check_key, check_replaceable, check_staging, is_staged
from orchestrator.repositories.local_disk import Disk
from orchestrator.repositories.local_lock import LOCK, WRITING_TIMEOUT_S, locked

_THREADS: Final = 4
_WHOLE_SYNC_FROM: Final = 64
"""So many files are synced faster by one syncfs than by an fsync each; it waits for other programs' writes too."""
_OPEN_FOLDERS: Final = 64
_KNOWN_TOKENS: Final = 2
"""The pointer as it was read and as it was made."""


class LocalRepository:
    """A folder. `unsafe_filesystem` accepts network and FUSE file systems, whose locks and syncs may be untrue."""

    def __init__(self, path: Path, *, unsafe_filesystem: bool = False) -> None:
        self._disk = Disk(path, unsafe_filesystem=unsafe_filesystem)
        self._tokens: tuple[tuple[bytes, PointerToken], ...] = ()

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
                self._disk.fill(fresh, body, sha256, key)
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
            for some in _few_folders(uploads):
                self._put_below(base, some, sync=not together)
            if together:
                self._disk.sync(base, self._disk.path, whole=True)

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
            if (None if now is None else self._token(now)) != expected:
                raise PointerMoved(
                    f"{escaped(str(place))} was changed by somebody else", next_step="read it again, then try again"
                )
            # The bytes come from memory, so there is nothing to hold them against.
            self._disk.replace(base, folder, key, body, None)
            self._disk.sync(folder, place)
        return self._token(body)

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
        with os.fdopen(self._disk.open_file(check_key(key)), "rb") as file:
            yield file

    def read_pointer(self, key: PurePosixPath) -> Pointer | None:
        with folders.named(self._disk.place(check_key(key))):
            try:
                with self._disk.reading(key.parts[:-1]) as folder:
                    body = tree.read_whole(folder, key.name)
            except FileNotFoundError:
                return None
        return None if body is None else Pointer(body=body, token=self._token(body))

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

    def _put_below(self, base: int, some: Mapping[tuple[str, ...], Sequence[Upload]], *, sync: bool) -> None:
        """Write what goes into a few folders; each is opened once, and with `sync` made durable in the end."""
        with contextlib.ExitStack() as stack:
            opened = {parts: stack.enter_context(self._disk.making(base, parts)) for parts in some}
            streams.side_by_side(
                [
                    partial(self._put_one, base, opened[parts], upload, sync=sync)
                    for parts, uploads in some.items()
                    for upload in uploads
                ],
                _THREADS,
            )
            for parts, folder in opened.items() if sync else ():
                self._disk.sync(folder, self._disk.path.joinpath(*parts))

    def _put_one(self, base: int, folder: int, upload: Upload, *, sync: bool) -> None:
        key = upload.key
        write = self._disk.add if is_staged(key) else self._disk.replace
        try:
            write(base, folder, key, upload.body, None if upload.read_back else upload.sha256, sync=sync)
        except OSError:
            with folders.named(self._disk.place(key)):
                raise

    def _token(self, body: bytes) -> PointerToken:
        """Give the SHA-256 of a pointer. Equal bytes are found faster than hashed, and a publish reads them often."""
        for known, token in self._tokens:
            if known == body:
                return token
        token = PointerToken(hashlib.sha256(body).hexdigest())
        self._tokens = ((body, token), *self._tokens[: _KNOWN_TOKENS - 1])
        return token


def _syncs_whole(base: int) -> bool:
    major, minor = (int("".join(filter(str.isdigit, part))) for part in os.uname().release.split(".")[:2])
    return (major, minor) >= (5, 8) and folders.file_system(base) in folders.WHOLE_SYNC


def _few_folders(uploads: Sequence[Upload]) -> Iterator[Mapping[tuple[str, ...], Sequence[Upload]]]:
    """Give the uploads by the folders that they go into, no more folders at once than may well be open."""
    found: dict[tuple[str, ...], list[Upload]] = {}
    for upload in uploads:
        found.setdefault(check_replaceable(upload.key).parts[:-1], []).append(upload)
    ordered = sorted(found)
    for start in range(0, len(ordered), _OPEN_FOLDERS):
        yield {parts: found[parts] for parts in ordered[start : start + _OPEN_FOLDERS]}
