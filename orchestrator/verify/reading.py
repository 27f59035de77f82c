"""Reads a release's folder: every file once, hashed while it is read, small ones kept from that same read."""

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builders.names import unsafe_reason
from orchestrator.trust import ARMOR, ATTESTATION, ENCRYPTED
from orchestrator.verify.json_strict import DOCUMENT_BYTES, BadJson

if TYPE_CHECKING:
    from hashlib import _Hash

_CHUNK_BYTES: Final = 1 << 20
_MOST_FILES: Final = 20_000
_KEPT_ENDINGS = (".json", ".jsonl", ATTESTATION, ARMOR, ".txt", ".sha512")
"""Endings of the files whose content is judged; of the others only the digests are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRead:
    """A file as it was read. `content` is None for what is not kept; `copy` is a private copy for a program to read."""

    name: str
    size_bytes: int
    sha256: str
    sha512: str
    hashes: Mapping[str, "_Hash"] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)
    copy: Path | None = None

    def kept(self) -> bytes:
        """Give the content. Raises BadJson for a file that was too large to be kept."""
        if self.content is None:
            raise BadJson("is too large for what it should be")
        return self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderRead:
    """The files of a folder by name, and what is there that is no readable regular file, with the reason."""

    files: Mapping[str, FileRead]
    refused: Mapping[str, str]


class Unreadable(Exception):
    """Why a file counts as not there, in words that follow its name."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder that only this user reads, and remove it afterwards. Its path is short: gpg's socket lies in it."""
    folder = Path(tempfile.mkdtemp(prefix="rv"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_folder(folder: Path, copies: Path, *, open_encrypted: bool) -> FolderRead:
    """Read everything in a folder, side by side. Raises Unreadable where the folder itself cannot be read.

    Files that have a GPG signature beside them (and encrypted ones, on wish) are copied into `copies` in that read.
    """
    try:
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no file system can hold that name"
        raise Unreadable(f"cannot be opened as a folder: {reason}") from None
    try:
        names = sorted(os.listdir(at), key=os.fsencode)  # noqa: PTH208 - a Path cannot list an open folder
        if len(names) > _MOST_FILES:
            raise Unreadable(f"holds more than {_MOST_FILES} files")
        copied = _to_copy(names, open_encrypted=open_encrypted)
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            places = [copies / f"{number}" if name in copied else None for number, name in enumerate(names)]
            read = list(pool.map(lambda name, copy: _read_or_reason(at, name, copy), names, places))
    finally:
        os.close(at)
    return FolderRead(
        files={name: found for name, found in zip(names, read, strict=True) if isinstance(found, FileRead)},
        refused={name: found for name, found in zip(names, read, strict=True) if isinstance(found, str)},
    )


def read_file(path: Path, copy: Path | None = None) -> FileRead:
    """Read one file. Raises Unreadable."""
    return _read(None, path.name, os.fspath(path), copy)


def _to_copy(names: Collection[str], *, open_encrypted: bool) -> set[str]:
    # F.asc and F.<12 digits>.asc both belong to F.
    signed = {name[: -len(ARMOR)] for name in names if name.endswith(ARMOR)}
    signed |= {stem.rpartition(".")[0] for stem in signed}
    return signed | ({name for name in names if name.endswith(ENCRYPTED)} if open_encrypted else set())


def _read_or_reason(at: int, name: str, copy: Path | None) -> FileRead | str:
    reason = unsafe_reason(os.fsencode(name))
    if reason:
        return reason
    try:
        return _read(at, name, name, copy)
    except Unreadable as error:
        return str(error)


def _read(at: int | None, name: str, path: str, copy: Path | None) -> FileRead:
    try:
        # O_NONBLOCK: opening a FIFO must not wait for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    except OSError as error:
        link = error.errno == errno.ELOOP
        raise Unreadable("is a symbolic link" if link else f"cannot be read: {error.strerror}") from None
    try:
        return _hash(descriptor, name, copy)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _hash(descriptor: int, name: str, copy: Path | None) -> FileRead:
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        raise Unreadable("is a folder" if stat.S_ISDIR(state.st_mode) else "is no regular file")
    hashes = {"sha256": hashlib.sha256(), "sha512": hashlib.sha512()}
    kept: list[bytes] | None = [] if _keeps(name, state.st_size) else None
    size = 0
    with _writer(copy) as write:
        while size <= state.st_size and (chunk := os.read(descriptor, _CHUNK_BYTES)):
            for each in hashes.values():
                each.update(chunk)
            size += len(chunk)
            write(chunk)
            if kept is not None:
                kept.append(chunk)
    if size != state.st_size:
        raise Unreadable("changed while it was read")
    return FileRead(
        name=name, size_bytes=size, sha256=hashes["sha256"].hexdigest(), sha512=hashes["sha512"].hexdigest(),
        hashes=hashes, content=None if kept is None else b"".join(kept), copy=copy,
    )  # fmt: skip


def _keeps(name: str, size_bytes: int) -> bool:
    return name.endswith(_KEPT_ENDINGS) and size_bytes <= DOCUMENT_BYTES


@contextmanager
def _writer(copy: Path | None) -> Iterator[Callable[[bytes], object]]:
    if copy is None:
        yield len
        return
    with copy.open("xb") as file:
        yield file.write
