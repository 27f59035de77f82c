"""Makes the tar streams that carry folders and small files into an engine's volumes (POSIX.1-2001 pax)."""

import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from builders.copying import read_chunks

RECIPE_USER = 1000
"""The user and the group that recipes and smoke tests run as, inside containers only."""


def folder_entry(name: str, owner: int = RECIPE_USER) -> Iterator[bytes]:
    """Give an archive of one empty folder that the recipe's user owns."""
    yield _header(name, tarfile.DIRTYPE, 0o755, owner=owner)
    yield bytes(2 * tarfile.BLOCKSIZE)


def programs(texts: Mapping[str, str | bytes]) -> Iterator[bytes]:
    """Give an archive of small programs, by file name."""
    for name, text in sorted(texts.items()):
        body = text.encode() if isinstance(text, str) else text
        yield _header(name, tarfile.REGTYPE, 0o755, size=len(body))
        yield body + bytes(-len(body) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def file_of(name: str, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Give an archive of one file of `size` bytes."""
    yield _header(name, tarfile.REGTYPE, 0o644, size=size)
    yield from chunks
    yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def folder(root: Path) -> Iterator[bytes]:
    """Give the folders and plain files of a folder that relbuild itself filled."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir() and not path.is_symlink():
            yield _header(name, tarfile.DIRTYPE, 0o755)
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
            yield _header(name, tarfile.REGTYPE, mode, size=status.st_size)
            yield from read_chunks(descriptor)
            yield bytes(-status.st_size % tarfile.BLOCKSIZE)
        finally:
            os.close(descriptor)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, kind: bytes, mode: int, *, size: int = 0, owner: int = 0) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.uid, entry.gid = kind, mode, size, owner, owner
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8")
