"""What a folder repository holds: plain files read whole, hashed or listed, and nothing followed."""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from builders.copying import read_chunks, write_all
from orchestrator.repositories import folders
from orchestrator.repositories.interface import Entry
from orchestrator.repositories.keys import OWN


def copy(source: Path, target: int, *, hashed: bool) -> tuple[bool, str]:
    """Copy a plain file, and tell whether its owner may run it, and its SHA-256; an empty one if it was not asked."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    digest = hashlib.sha256()
    with folders.named(source), folders.closing(os.open(source, flags)) as opened:
        mode = os.fstat(opened).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a plain file")
        for chunk in read_chunks(opened):
            if hashed:
                digest.update(chunk)
            write_all(target, chunk)
    return bool(mode & stat.S_IXUSR), digest.hexdigest() if hashed else ""


def read_whole(folder: int, name: str) -> bytes | None:
    """Give a plain file's bytes, or None where it is not there."""
    try:
        descriptor = folders.open_file(folder, name)
    except FileNotFoundError:
        return None
    with folders.closing(descriptor):
        return b"".join(read_chunks(descriptor))


def digest(base: int, key: PurePosixPath) -> str:
    """Give the SHA-256 of a file below an open folder, in hexadecimal."""
    found = hashlib.sha256()
    with folders.closing(folders.open_folder(base, key.parts[:-1])) as folder:
        descriptor = folders.open_file(folder, key.name)
    with folders.closing(descriptor):
        for chunk in read_chunks(descriptor):
            found.update(chunk)
    return found.hexdigest()


def entries(folder: int, prefix: PurePosixPath) -> Iterator[Entry]:
    """Give what is below an open folder, links and other foreign things included, by whole key."""
    found = []
    for name in folders.names(folder):
        if prefix.parts or not name.startswith(OWN):
            with contextlib.suppress(FileNotFoundError):
                found.append((name, os.stat(name, dir_fd=folder, follow_symlinks=False)))
    # With the slash, `a/b` comes where an object store puts it: after `a.txt`.
    for name, status in sorted(found, key=lambda one: one[0] + "/" * stat.S_ISDIR(one[1].st_mode)):
        if stat.S_ISDIR(status.st_mode):
            with contextlib.suppress(FileNotFoundError), folders.closing(folders.open_folder(folder, (name,))) as inner:
                yield from entries(inner, prefix / name)
        else:
            yield Entry(key=prefix / name, size_bytes=status.st_size)


def make_base(path: Path) -> None:
    """Make the repository's folder and its parents, each synced into the one above."""
    if not path.parent.is_dir():
        make_base(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(0o755)
    with folders.closing(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as above:
        os.fsync(above)
