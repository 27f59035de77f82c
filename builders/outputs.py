"""Takes the outputs of a recipe out of a folder, or a tar stream, that the recipe could fill with anything."""

import itertools
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from builders.copying import Digests, copy_hashed, full_disk_named, make_folders, new_file, read_chunks
from builders.errors import OutputMissing, OutputUnsafe
from builders.globs import Glob, any_matches
from builders.model import BuiltFile, OutputPattern
from builders.names import escaped
from builders.output_rules import (
    MAX_ENTRIES,
    FoundFile,
    check_count,
    check_plain,
    check_size,
    checked_path,
    choose,
    unsafe,
)
from builders.tar_stream import EntryKind, Malformed, TarEntry, TarStream

DEFAULT_MAX_BYTES: Final = 16 << 30

_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


def collect(
    root: Path | int, patterns: Sequence[OutputPattern], out_dir: Path, *, cell_id: str,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> tuple[BuiltFile, ...]:  # fmt: skip
    """Copy the files that the patterns take from a folder (or a descriptor of one) into `out_dir`, hashed on the way.

    Everything in the folder must be a folder, a plain file, or a link that no pattern takes. Raises OutputUnsafe,
    OutputMissing, OutputAmbiguous, OutputCollision, DiskFull; what was copied until then stays in `out_dir`.
    """
    top = _open_top(root, cell_id)
    try:
        walk = _Walk(cell_id)
        walk.folder(top, "")
        _refuse_outer_hard_links(walk.found, cell_id)
        chosen = choose(walk.found, patterns, cell_id)
        check_size(sum(file.size_bytes for file in chosen), max_bytes, cell_id)
        with full_disk_named(out_dir):
            return tuple(_copy(top, file, out_dir, cell_id) for file in chosen)
    finally:
        os.close(top)


def collect_tar(
    stream: Iterable[bytes], patterns: Sequence[OutputPattern], out_dir: Path, *, cell_id: str,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> tuple[BuiltFile, ...]:  # fmt: skip
    """Do what `collect` does with a tar stream whose entries all lie below one top folder, which is $OUT.

    A hard link becomes a copy of its first name, which a pattern must take as well. Raises as `collect` does; what no
    pattern takes is never written.
    """
    globs = [Glob(pattern.glob) for pattern in patterns]
    found: dict[str, FoundFile] = {}
    digests: dict[str, Digests] = {}
    total = 0
    tar = TarStream(stream)
    try:
        with full_disk_named(out_dir):
            for count, entry in enumerate(tar):
                check_count(count, cell_id)
                if (file := _found_in_tar(entry, found, cell_id)) is None:
                    continue
                found[file.path] = file
                if not file.symlink and any_matches(globs, file.path):
                    total += file.size_bytes
                    check_size(total, max_bytes, cell_id)
                    digests[file.path] = _take(file, tar, out_dir, digests, cell_id)
    except Malformed as error:
        raise OutputUnsafe(f"{cell_id}: the outputs cannot be read from the engine: {error}") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputUnsafe(f"{cell_id}: {escaped(str(error.filename))} is a file and a folder at once") from error
    return tuple(_built(file, digests[file.path]) for file in choose(list(found.values()), patterns, cell_id))


# --- a folder ----------------------------------------------------------------------------------------------------


def _open_top(root: Path | int, cell_id: str) -> int:
    if isinstance(root, int):
        return os.dup(root)
    try:
        return os.open(root, _OPEN_FOLDER)
    except OSError as error:
        raise OutputMissing(f"{cell_id}: the recipe left no folder $OUT: {error.strerror}",
                            next_step="let it write below $OUT and keep that folder") from error  # fmt: skip


class _Walk:
    """Finds every file and link below an open folder. Never follows a link, never opens a file."""

    def __init__(self, cell_id: str) -> None:
        self.found: list[FoundFile] = []
        self._cell_id = cell_id
        self._entries = 0

    def folder(self, folder: int, below: str) -> None:
        with os.scandir(folder) as entries:
            names = sorted(os.fsencode(entry.name) for entry in itertools.islice(entries, MAX_ENTRIES + 1))
        self._entries += len(names)
        check_count(self._entries, self._cell_id)
        for name in names:
            path = checked_path(below, name, self._cell_id)
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    self._inner_folder(folder, name, path)
                else:
                    self.found.append(self._file(folder, name, path, status))
            except OSError as error:
                raise unsafe(self._cell_id, path, f"cannot be read: {error.strerror}") from error

    def _inner_folder(self, folder: int, name: bytes, path: str) -> None:
        inner = os.open(name, _OPEN_FOLDER, dir_fd=folder)
        try:
            self.folder(inner, path)
        finally:
            os.close(inner)

    def _file(self, folder: int, name: bytes, path: str, status: os.stat_result) -> FoundFile:
        if stat.S_ISLNK(status.st_mode):
            return FoundFile(path=path, symlink=True)
        check_plain(path, status.st_mode, self._cell_id)
        if not os.access(name, os.R_OK, dir_fd=folder):
            raise unsafe(self._cell_id, path, "cannot be read: its mode forbids it")
        return FoundFile(
            path=path, size_bytes=status.st_size, executable=bool(status.st_mode & stat.S_IXUSR),
            identity=(status.st_dev, status.st_ino), links=status.st_nlink,
        )  # fmt: skip


def _refuse_outer_hard_links(found: Sequence[FoundFile], cell_id: str) -> None:
    names = Counter(file.identity for file in found if not file.symlink)
    for file in found:
        if not file.symlink and file.links > names[file.identity]:
            raise unsafe(cell_id, file.path, "is a hard link to a file outside $OUT", "copy it there instead (cp)")


def _copy(top: int, file: FoundFile, out_dir: Path, cell_id: str) -> BuiltFile:
    try:
        descriptor = _open_beneath(top, file.path)
    except OSError as error:
        raise unsafe(cell_id, file.path, f"cannot be opened: {error.strerror}") from error
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode) or (before.st_dev, before.st_ino) != file.identity:
            raise unsafe(cell_id, file.path, "was replaced while the outputs were read")
        digests = _write(file, read_chunks(descriptor, before.st_size), out_dir)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if _stamp(before) != _stamp(after) or digests.size_bytes != file.size_bytes:
        raise unsafe(cell_id, file.path, "changed while it was copied",
                      "let no process of the recipe go on in the background")  # fmt: skip
    return _built(file, digests)


def _open_beneath(top: int, path: str) -> int:
    folder = os.dup(top)
    *parents, name = path.split("/")
    try:
        for parent in parents:
            inner = os.open(parent, _OPEN_FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(name, _OPEN_FILE, dir_fd=folder)
    finally:
        os.close(folder)


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


# --- a tar stream ------------------------------------------------------------------------------------------------


def _found_in_tar(entry: TarEntry, found: dict[str, FoundFile], cell_id: str) -> FoundFile | None:
    path = _path_in_tar(entry.name, cell_id)
    if path in found:
        raise unsafe(cell_id, path, "comes twice")
    match entry.kind:
        case EntryKind.FOLDER:
            return None
        case _ if not path:
            raise unsafe(cell_id, "$OUT", f"is {entry.kind}, not a folder")
        case EntryKind.SYMLINK:
            return FoundFile(path=path, symlink=True)
        case EntryKind.HARDLINK:
            first = _path_in_tar(entry.link, cell_id)
            original = found.get(first, FoundFile(path=first))
            return replace(original, path=path, first=first)
        case EntryKind.FILE:
            check_plain(path, stat.S_IFREG | entry.mode, cell_id)
            return FoundFile(path=path, size_bytes=entry.size_bytes, executable=bool(entry.mode & stat.S_IXUSR))
        case _:
            raise unsafe(cell_id, path, f"is {entry.kind}")


def _path_in_tar(name: bytes, cell_id: str) -> str:
    """Give a name without the top folder that an engine puts before all; empty for that folder itself."""
    parts = name.removesuffix(b"/").split(b"/")
    path = ""
    for part in parts[1:]:
        path = checked_path(path, part, cell_id)
    if parts[0] in {b"", b".."}:
        raise unsafe(cell_id, os.fsdecode(name), "leads out of $OUT")
    return path


def _take(file: FoundFile, tar: TarStream, out_dir: Path, digests: dict[str, Digests], cell_id: str) -> Digests:
    if not file.first:
        return _write(file, tar.content(), out_dir)
    if file.first not in digests:
        raise unsafe(cell_id, file.path, f"is a hard link to {escaped(file.first)}, which is no output",
                     "copy it instead (cp), or let a pattern take both names")  # fmt: skip
    with (out_dir / file.first).open("rb") as original:
        return _write(file, read_chunks(original.fileno()), out_dir)


# --- both --------------------------------------------------------------------------------------------------------


def _write(file: FoundFile, chunks: Iterable[bytes], out_dir: Path) -> Digests:
    to = out_dir / file.path
    make_folders(to.parent)
    with new_file(to, executable=file.executable) as descriptor:
        return copy_hashed(chunks, descriptor)


def _built(file: FoundFile, digests: Digests) -> BuiltFile:
    return BuiltFile(
        path=PurePosixPath(file.path), size_bytes=digests.size_bytes, sha256=digests.sha256, sha512=digests.sha512,
        executable=file.executable,
    )  # fmt: skip
