"""What a cell is built from: the outside sources that a matrix can name, and folders read by content."""

import dataclasses
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builders.copying import CHUNK_BYTES, full_disk_named, make_folders, new_file, read_chunks, write_all
from builders.errors import SourceUnavailable
from builders.model import Digest, SourceFile, SourceTree
from builders.names import decoded, escaped, has_control
from builders.sources import git

OUTPUT_FOLDER = "dist"
"""What a run writes; never a part of what it reads."""

_TOP = PurePosixPath()


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianSource:
    """A Debian source package; `sha256` is that of its .dsc file, which names all the others by digest."""

    package: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PypiSource:
    """An sdist; `sha256` is that of the archive."""

    package: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    """A commit of a repository; `commit` is the full object name."""

    url: str
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSource:
    """A tar or zip archive at a URL or a path below the project."""

    location: str
    sha256: str


OutsideSource = DebianSource | PypiSource | GitSource | ArchiveSource


def read_tree(folder: Path, *, origin: str, exclude: Sequence[str] = (), by_git: bool = True) -> SourceTree:
    """Read a folder of a project: what git tracks or does not ignore, or every file outside a git work tree.

    `exclude` names files and folders by their path below `folder`; `dist` at its top is always left out. Without
    `by_git` no git is asked: an unpacked commit may lie in somebody else's work tree.
    Raises SourceUnavailable for whatever is not a plain file, a folder or a link that stays inside.
    """
    left_out = _left_out(exclude)
    tracked = git.work_tree_files(folder) if by_git else ()
    # A file that was deleted and not yet committed is still on git's list.
    listed = (path for path in tracked if os.path.lexists(os.path.join(os.fsencode(folder), path)))  # noqa: PTH118
    paths = listed if tracked else _walk(folder)
    return _tree(folder, (path for path in paths if not _below_any(path, left_out)), origin)


def part_digest(whole: SourceTree, folder: PurePosixPath, *, exclude: Sequence[str] = ()) -> Digest:
    """Give the digest that `read_tree` would give a folder that holds just what this tree has below it."""
    left_out = _left_out(exclude)
    below = (
        dataclasses.replace(file, path=file.path.relative_to(folder))
        for file in whole.files
        if file.path.is_relative_to(folder)
    )
    return _digest(file for file in below if not _below_any(os.fsencode(file.path), left_out))


def read_whole(folder: Path, *, origin: str) -> SourceTree:
    """Read every file of a folder that relbuild itself unpacked. Raises SourceUnavailable as `read_tree` does."""
    return _tree(folder, _walk(folder), origin)


def write_tree(tree: SourceTree, destination: Path, *, epoch: int) -> None:
    """Copy a tree's files into a new or empty folder: modes 0644 and 0755, times at `epoch`.

    Raises SourceUnavailable where a file has other bytes than when the tree was read, DiskFull.
    """
    with full_disk_named(destination):
        make_folders(destination)
        for file in tree.files:
            _write(tree, file, destination / file.path, epoch)
        for folder in (*(destination / path for path in reversed(folders_of(tree.files))), destination):
            os.utime(folder, (epoch, epoch))


def tar_tree(
    tree: SourceTree, *, epoch: int, uid: int = 0, gid: int = 0, below: PurePosixPath = _TOP
) -> Iterator[bytes]:
    """Give a tree as a tar stream (POSIX.1-2001 pax), each entry under the path `below`, the same bytes every time.

    Raises SourceUnavailable, in the middle of the stream, where a file changed since the tree was read.
    """
    import tarfile  # noqa: PLC0415 - only a remote engine wants it

    def header(name: PurePosixPath, kind: bytes, mode: int, size: int = 0, link: str = "") -> bytes:
        entry = tarfile.TarInfo(str(name))
        entry.type, entry.mode, entry.size, entry.linkname = kind, mode, size, link
        entry.uid, entry.gid, entry.mtime = uid, gid, epoch
        return entry.tobuf(tarfile.PAX_FORMAT, "utf-8")

    tops = (path for path in reversed((below, *below.parents)) if path.name)
    for folder in (*tops, *(below / path for path in folders_of(tree.files))):
        yield header(folder, tarfile.DIRTYPE, 0o755)
    for file in tree.files:
        if file.link:
            yield header(below / file.path, tarfile.SYMTYPE, 0o777, link=file.link)
            continue
        yield header(below / file.path, tarfile.REGTYPE, 0o755 if file.executable else 0o644, file.size_bytes)
        yield from _unchanged(tree, file)
        yield bytes(-file.size_bytes % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def folders_of(files: Iterable[SourceFile]) -> tuple[PurePosixPath, ...]:
    """Give the folders that a tree's files lie in, parents first, without the top."""
    return tuple(sorted({parent for file in files for parent in file.path.parents if parent.name}))


# --- reading -----------------------------------------------------------------------------------------------------


def _tree(folder: Path, paths: Iterable[bytes], origin: str) -> SourceTree:
    if not folder.is_dir():
        raise SourceUnavailable(f"{origin}: the source folder {escaped(str(folder))} is not there")
    top = folder.resolve()
    files = tuple(_read(top, path, origin) for path in sorted(set(paths)))
    if not files:
        raise SourceUnavailable(
            f"{origin}: the source folder {escaped(str(folder))} holds no files",
            next_step="point `source` at the folder that the recipe compiles; git's ignored files do not count",
        )
    return SourceTree(root=top, files=files, digest=_digest(files), origin=origin)


def _digest(files: Iterable[SourceFile]) -> Digest:
    listing = hashlib.sha256(b"relbuild source tree 1\n")
    for file in files:
        kind = "link" if file.link else "program" if file.executable else "file"
        listing.update(f"{kind} {file.sha256} {file.path}\n".encode())
    return Digest(f"sha256:{listing.hexdigest()}")


def _walk(folder: Path, below: bytes = b"") -> Iterator[bytes]:
    try:
        with os.scandir(os.path.join(os.fsencode(folder), below)) as entries:  # noqa: PTH118 - bytes names
            for entry in entries:
                path = below + b"/" + entry.name if below else entry.name
                if not entry.is_dir(follow_symlinks=False):
                    yield path
                elif entry.name != b".git":
                    yield from _walk(folder, path)
    except OSError as error:
        place = escaped(os.path.join(os.fsencode(folder), below))  # noqa: PTH118 - bytes names
        raise SourceUnavailable(f"the source folder {place} cannot be read: {error.strerror}") from error


def _left_out(exclude: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(os.fsencode(path.strip("/")) for path in (OUTPUT_FOLDER, *exclude))


def _below_any(path: bytes, folders: Sequence[bytes]) -> bool:
    return any(path == folder or path.startswith(folder + b"/") for folder in folders)


def _read(top: Path, path: bytes, origin: str) -> SourceFile:
    name = decoded(path)
    if name is None or has_control(name):
        reason = "is not UTF-8" if name is None else "holds a control character"
        raise SourceUnavailable(f"{origin}: the name {escaped(path)} {reason}", next_step="rename that file")
    where = f"{origin}: {escaped(path)}"
    full = os.path.join(top, name)  # noqa: PTH118 - 10,000 Path objects cost more than the hashing
    try:
        mode = os.lstat(full).st_mode
        if stat.S_ISLNK(mode):
            return _read_link(top, full, PurePosixPath(name), where)
        if not stat.S_ISREG(mode):
            raise SourceUnavailable(f"{where} is {_kind(mode)}, and a source holds plain files only",
                                    next_step="remove it, or name it in .gitignore")  # fmt: skip
        return _read_file(full, PurePosixPath(name), where)
    except FileNotFoundError:
        raise _changed(where, "while it was read: it is gone") from None
    except OSError as error:
        raise SourceUnavailable(f"{where} cannot be read: {error.strerror}") from error


def _read_file(full: str, path: PurePosixPath, where: str) -> SourceFile:
    descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        digest, size = hashlib.sha256(), 0
        for chunk in read_chunks(descriptor, before.st_size):
            digest.update(chunk)
            size += len(chunk)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if _stamp(before) != _stamp(after) or size != after.st_size or not stat.S_ISREG(after.st_mode):
        raise _changed(where, "while it was read")
    executable = bool(before.st_mode & stat.S_IXUSR)
    return SourceFile(path=path, executable=executable, sha256=digest.hexdigest(), size_bytes=size)


def _read_link(top: Path, full: str, path: PurePosixPath, where: str) -> SourceFile:
    text = os.readlink(full)  # noqa: PTH115 - as above
    if not stays_inside(path, text) or not Path(full).parent.joinpath(text).resolve().is_relative_to(top):
        raise SourceUnavailable(f"{where} is a link to {escaped(text)}, which leaves the source",
                                next_step="put a copy of the file there instead")  # fmt: skip
    digest = hashlib.sha256(os.fsencode(text)).hexdigest()
    return SourceFile(path=path, executable=False, sha256=digest, size_bytes=len(os.fsencode(text)), link=text)


def stays_inside(path: PurePosixPath, link: str) -> bool:
    """Tell whether a link at `path` below some top is relative and climbs no higher than that top."""
    depth = len(path.parent.parts)
    for part in link.split("/"):
        depth += -1 if part == ".." else part not in {"", "."}
        if depth < 0:
            return False
    text = decoded(os.fsencode(link))
    return bool(text) and not link.startswith("/") and not has_control(link)


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


def _kind(mode: int) -> str:
    return next((text for test, text in _KINDS if test(mode)), "no plain file")


# --- writing -----------------------------------------------------------------------------------------------------


def _write(tree: SourceTree, file: SourceFile, to: Path, epoch: int) -> None:
    make_folders(to.parent)
    if file.link:
        to.symlink_to(file.link)
    else:
        with new_file(to, executable=file.executable) as descriptor:
            for chunk in _unchanged(tree, file):
                write_all(descriptor, chunk)
    os.utime(to, (epoch, epoch), follow_symlinks=False)


def _unchanged(tree: SourceTree, file: SourceFile) -> Iterator[bytes]:
    """Give a file's bytes, exactly as many as the tree knows, and raise if they were other ones."""
    where = f"{tree.origin}: {escaped(str(file.path))}"
    digest, left = hashlib.sha256(), file.size_bytes
    try:
        descriptor = os.open(tree.root / file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _changed(where, "since the plan was made") from error
    try:
        while left and (chunk := os.read(descriptor, min(left, CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
            yield chunk
        longer = os.read(descriptor, 1)
    finally:
        os.close(descriptor)
    if left or longer or digest.hexdigest() != file.sha256:
        raise _changed(where, "since the plan was made")


def _changed(where: str, when: str) -> SourceUnavailable:
    return SourceUnavailable(f"{where} changed {when}", next_step="let the editing finish, then run again")
