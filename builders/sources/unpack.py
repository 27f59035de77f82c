"""Unpacks archives from strangers: tar (plain, gz, xz, bz2) and zip.

Regular files are streamed into a new folder that holds no links while that goes on; links come last. `tarfile` and
`zipfile` decode only: neither of them writes, because their extraction has let entries out of the folder before.
"""

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from builders.copying import CHUNK_BYTES, full_disk_named, make_folders, new_file, write_all
from builders.errors import SourceUnavailable
from builders.names import MAX_NAME_BYTES, decoded, escaped, has_control
from builders.sources import stays_inside
from builders.sources.zip_reader import ZipEntry, open_zip
from builders.tar_stream import EntryKind, Malformed, TarStream

_GIB = 1 << 30
_MIB = 1 << 20
_XZ_MEMORY_BYTES = 256 * _MIB
_HEADERS_PER_ENTRY = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackLimits:
    """`ratio` is unpacked to packed size; it does not bound an archive that unpacks to less than `free_bytes`."""

    entries: int = 200_000
    total_bytes: int = 4 * _GIB
    ratio: int = 200
    free_bytes: int = 64 * _MIB
    depth: int = 64


_DEFAULT_LIMITS = UnpackLimits()


def unpack(archive: Path, destination: Path, *, limits: UnpackLimits = _DEFAULT_LIMITS) -> None:
    """Unpack an archive into a new folder; its format is told by its first bytes.

    Raises SourceUnavailable, which names the entry, for anything that is broken, leaves the folder, is no plain file,
    folder or inner link, comes twice, or is beyond the limits; DiskFull. What was written until then stays.
    """
    with full_disk_named(destination), archive.open("rb") as packed:
        try:
            destination.mkdir()
            destination.chmod(0o755)
            folder = _Folder(destination, archive.stat().st_size, limits)
            _READERS[_format(packed)](packed, folder)
            folder.make_links()
        except _BROKEN as error:
            raise SourceUnavailable(
                f"the archive {escaped(archive.name)} cannot be unpacked safely: {error or 'it is broken'}",
                next_step="its bytes are those that its digest promises: ask whoever made it, or pack it anew",
            ) from error


_BROKEN = (Malformed, EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)


def sole_folder(destination: Path) -> Path:
    """Give the one folder that an archive has at its top, or the destination itself."""
    entries = list(destination.iterdir())
    only = entries[0] if len(entries) == 1 else destination
    return only if only.is_dir() and not only.is_symlink() else destination


class _Folder:
    """What has been unpacked so far, and the rules for the next entry."""

    def __init__(self, root: Path, packed_bytes: int, limits: UnpackLimits) -> None:
        self._root = root
        self._limits = limits
        self._kinds: dict[PurePosixPath, EntryKind] = {PurePosixPath(): EntryKind.FOLDER}
        self._links: dict[PurePosixPath, str] = {}
        self._entries = 0
        self._bytes = 0
        self._raw_bytes = 0
        self._most_bytes = min(limits.total_bytes, max(limits.free_bytes, packed_bytes * limits.ratio))

    def count_entry(self) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise Malformed(f"it holds more than {self._limits.entries} entries")

    def count_raw(self, size: int) -> None:
        self._raw_bytes += size
        if self._raw_bytes > self._most_bytes + _HEADERS_PER_ENTRY * self._limits.entries:
            raise Malformed(f"it decompresses to more than {self._most_bytes} bytes")

    def count_bytes(self, size: int, name: bytes) -> None:
        self._bytes += size
        if self._bytes > self._most_bytes:
            raise Malformed(f"with {escaped(name)} it unpacks to more than {self._most_bytes} bytes")

    def add_folder(self, name: bytes) -> None:
        path = self._path(name)
        if self._kinds.get(path) is not EntryKind.FOLDER:
            self._claim(path, EntryKind.FOLDER, name)
            make_folders(self._root / path)

    def add_file(self, name: bytes, chunks: Iterable[bytes], *, executable: bool) -> None:
        path = self._path(name)
        self._claim(path, EntryKind.FILE, name)
        make_folders((self._root / path).parent)
        with new_file(self._root / path, executable=executable) as descriptor:
            for chunk in chunks:
                self.count_bytes(len(chunk), name)
                write_all(descriptor, chunk)

    def add_copy(self, name: bytes, target: bytes) -> None:
        """Take a hard link for a copy of an earlier file, so that no two names share bytes."""
        first = self._path(target)
        if self._kinds.get(first) is not EntryKind.FILE:
            raise Malformed(f"{escaped(name)} is a hard link to {escaped(target)}, which is no file before it")
        original = self._root / first
        with original.open("rb") as source:
            self.add_file(name, _blocks(source), executable=bool(original.stat().st_mode & 0o100))

    def add_link(self, name: bytes, target: bytes) -> None:
        path, text = self._path(name), decoded(target)
        if text is None or not stays_inside(path, text):
            raise Malformed(f"{escaped(name)} is a link to {escaped(target)}, which leaves the archive")
        self._claim(path, EntryKind.SYMLINK, name)
        self._links[path] = text

    def make_links(self) -> None:
        """Make the links, then see that none of them leads out through another one."""
        for path, text in self._links.items():
            make_folders((self._root / path).parent)
            (self._root / path).symlink_to(text)
        top = self._root.resolve()
        for path, text in self._links.items():
            try:
                leads_to = (self._root / path).resolve()
            except RuntimeError:  # a ring of links, as pathlib says it; it leads nowhere
                leads_to = top
            if not leads_to.is_relative_to(top):
                raise Malformed(f"{escaped(str(path))} is a link to {escaped(text)}, which leaves the archive")

    def _claim(self, path: PurePosixPath, kind: EntryKind, name: bytes) -> None:
        if path in self._kinds:
            raise Malformed(f"{escaped(name)} comes twice")
        for parent in path.parents:
            if self._kinds.setdefault(parent, EntryKind.FOLDER) is not EntryKind.FOLDER:
                raise Malformed(f"{escaped(name)} lies below {escaped(str(parent))}, which is no folder")
        self._kinds[path] = kind

    def _path(self, name: bytes) -> PurePosixPath:
        text = decoded(name)
        if text is None or has_control(text) or "\\" in text:
            raise Malformed(f"the name {escaped(name)} is not UTF-8, or holds a control character or a backslash")
        parts = text.removesuffix("/").split("/")
        parts = parts[1:] if parts[0] == "." else parts
        if text.startswith("/") or not {"", ".", ".."}.isdisjoint(parts):
            raise Malformed(f"the name {escaped(name)} leads out of the archive or is empty")
        if len(parts) > self._limits.depth or max((len(p.encode()) for p in parts), default=0) > MAX_NAME_BYTES:
            raise Malformed(f"the name {escaped(name)} is too long or too deep")
        return PurePosixPath(*parts)


# --- formats -----------------------------------------------------------------------------------------------------


def _unpack_tar(chunks: Iterable[bytes], folder: _Folder) -> None:
    stream = TarStream(chunks)
    for entry in stream:
        folder.count_entry()
        match entry.kind:
            case EntryKind.FILE:
                folder.add_file(entry.name, stream.content(), executable=bool(entry.mode & 0o100))
            case EntryKind.FOLDER:
                folder.add_folder(entry.name)
            case EntryKind.SYMLINK:
                folder.add_link(entry.name, entry.link)
            case EntryKind.HARDLINK:
                folder.add_copy(entry.name, entry.link)
            case _:
                raise Malformed(f"{escaped(entry.name)} is {entry.kind}")


def _unpack_zip(packed: BinaryIO, folder: _Folder) -> None:
    with open_zip(packed) as entries:
        for entry in entries:
            folder.count_entry()
            if entry.kind is EntryKind.FOLDER:
                folder.add_folder(entry.name)
            elif entry.kind is EntryKind.FILE:
                folder.add_file(entry.name, entry.content(), executable=entry.executable)
            elif entry.kind is EntryKind.SYMLINK:
                folder.add_link(entry.name, _link_text(entry))
            else:
                raise Malformed(f"{escaped(entry.name)} is {entry.kind}")


def _link_text(entry: ZipEntry) -> bytes:
    if entry.size_bytes > os.pathconf("/", "PC_PATH_MAX"):
        raise Malformed(f"{escaped(entry.name)} is a link of {entry.size_bytes} bytes")
    return b"".join(entry.content())


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _bounded(chunks: Iterator[bytes], folder: _Folder) -> Iterator[bytes]:
    """Count what a decompressor gives, headers and padding too, before anything looks at it."""
    for chunk in chunks:
        folder.count_raw(len(chunk))
        yield chunk


def _xz(file: BinaryIO) -> Iterator[bytes]:
    """Decompress one xz stream after another; LZMAFile would take as much memory as the stranger asks for."""
    while True:
        decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
        data = file.read(1 << 16)
        if not data.strip(b"\0"):
            return
        while not decompressor.eof:
            yield decompressor.decompress(data, CHUNK_BYTES)
            data = file.read(1 << 16) if decompressor.needs_input else b""
            if decompressor.needs_input and not data:
                raise EOFError("it ends in the middle")
        file.seek(-len(decompressor.unused_data) - len(data), os.SEEK_CUR)


def _gz(file: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as unpacked:
        while chunk := unpacked.read(CHUNK_BYTES):
            yield chunk


def _bz2(file: BinaryIO) -> Iterator[bytes]:
    try:
        with bz2.BZ2File(file) as unpacked:
            while chunk := unpacked.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        if error.errno is None:  # how bz2 says that the data are not its own
            raise Malformed(str(error)) from error
        raise


def _tar_after(decompress: Callable[[BinaryIO], Iterator[bytes]]) -> Callable[[BinaryIO, _Folder], None]:
    return lambda packed, folder: _unpack_tar(_bounded(decompress(packed), folder), folder)


_READERS: dict[str, Callable[[BinaryIO, _Folder], None]] = {
    "gz": _tar_after(_gz),
    "xz": _tar_after(_xz),
    "bz2": _tar_after(_bz2),
    "tar": _tar_after(_blocks),
    "zip": _unpack_zip,
}
_MAGIC = ((b"\x1f\x8b", "gz"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bz2"), (b"PK\x03\x04", "zip"), (b"PK\x05\x06", "zip"))
_TAR_MAGIC_AT = 257


def _format(packed: BinaryIO) -> str:
    start = packed.read(_TAR_MAGIC_AT + 5)
    packed.seek(0)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        raise Malformed("it is compressed with zstd, which this Python cannot read; use a gz, xz, bz2 or zip archive")
    if start[_TAR_MAGIC_AT:] == b"ustar":
        return "tar"
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    raise Malformed("it is neither tar (plain, gz, xz, bz2) nor zip")
