"""Reads a tar stream from a stranger entry by entry: memory stays flat, and nothing is written.

Formats: POSIX.1-1988 ustar, POSIX.1-2001 pax, and GNU long names. `tarfile` gives the decoding of one header block
only; its own stream reader takes extended headers of any size into memory.
"""

import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_BLOCK: Final = 512
_MAX_HEADER_BYTES: Final = 1 << 20


class Malformed(Exception):
    """The stream is no tar archive, is cut short, or uses a form that no honest source needs."""


class EntryKind(StrEnum):
    FILE = "a file"
    FOLDER = "a folder"
    SYMLINK = "a symbolic link"
    HARDLINK = "a hard link"
    CHARACTER_DEVICE = "a character device"
    BLOCK_DEVICE = "a block device"
    FIFO = "a FIFO"
    UNKNOWN = "of an unknown kind"


@dataclass(frozen=True, slots=True, kw_only=True)
class TarEntry:
    """One entry as it stands in the archive, unchecked. `link` is the target of either sort of link.

    `header` and `extended` (pax records) are all that it says of itself; the other fields follow from them.
    """

    name: bytes
    kind: EntryKind
    size_bytes: int
    mode: int
    link: bytes
    header: tarfile.TarInfo
    extended: Mapping[bytes, bytes]


_KINDS = {
    tarfile.REGTYPE: EntryKind.FILE,
    tarfile.AREGTYPE: EntryKind.FILE,
    tarfile.CONTTYPE: EntryKind.FILE,
    tarfile.DIRTYPE: EntryKind.FOLDER,
    tarfile.SYMTYPE: EntryKind.SYMLINK,
    tarfile.LNKTYPE: EntryKind.HARDLINK,
    tarfile.CHRTYPE: EntryKind.CHARACTER_DEVICE,
    tarfile.BLKTYPE: EntryKind.BLOCK_DEVICE,
    tarfile.FIFOTYPE: EntryKind.FIFO,
}

_GNU_LONG = {tarfile.GNUTYPE_LONGNAME: b"path", tarfile.GNUTYPE_LONGLINK: b"linkpath"}


class TarStream:
    """Iterate to get entries; between two of them `content` gives the bytes of the last one, or they are skipped."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = b""
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[TarEntry]:
        """Give the entries up to the end mark, then read the stream to its end. Raises Malformed."""
        extended: dict[bytes, bytes] = {}
        while (header := self._header()) is not None:
            if header.type in _GNU_LONG:
                extended[_GNU_LONG[header.type]] = self._extension(header).rstrip(b"\0")
            elif header.type == tarfile.XHDTYPE:
                extended |= _pax_records(self._extension(header))
            elif header.type == tarfile.XGLTYPE:
                _refuse_global(_pax_records(self._extension(header)))
            else:
                yield self._entry(header, extended)
                extended = {}
        for _ in self._chunks:
            pass  # the decompressor before this one checks its own sum at the end

    def content(self) -> Iterator[bytes]:
        """Give the bytes of the entry that was given last. Raises Malformed where the stream is cut short."""
        while self._left:
            chunk = self._some(self._left)
            self._left -= len(chunk)
            yield chunk

    def _entry(self, header: tarfile.TarInfo, extended: dict[bytes, bytes]) -> TarEntry:
        kind = _KINDS.get(header.type, EntryKind.UNKNOWN)
        size = _size(extended.get(b"size"), header.size)
        if kind in {EntryKind.FILE, EntryKind.UNKNOWN}:
            self._left, self._padding = size, -size % _BLOCK
        return TarEntry(
            name=extended.get(b"path", os.fsencode(header.name)),
            kind=kind,
            size_bytes=size if kind is EntryKind.FILE else 0,
            mode=header.mode,
            link=extended.get(b"linkpath", os.fsencode(header.linkname)),
            header=header,
            extended=extended,
        )

    def _header(self) -> tarfile.TarInfo | None:
        for _ in self.content():
            pass
        self._exactly(self._padding)
        self._padding = 0
        try:
            header = tarfile.TarInfo.frombuf(self._exactly(_BLOCK), "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            # A block of zeros is the end mark; its error class is not exported.
            if type(error).__name__ == "EOFHeaderError":
                return None
            raise Malformed(f"a header is broken: {error}") from error
        if header.size < 0:
            raise Malformed("an entry has a negative size")
        return header

    def _extension(self, header: tarfile.TarInfo) -> bytes:
        if header.size > _MAX_HEADER_BYTES:
            raise Malformed(f"an extended header has {header.size} bytes; {_MAX_HEADER_BYTES} are allowed")
        self._padding = -header.size % _BLOCK
        return self._exactly(header.size)

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            parts.append(self._some(size))
            size -= len(parts[-1])
        return b"".join(parts)

    def _some(self, at_most: int) -> bytes:
        while not self._buffer:
            try:
                self._buffer = next(self._chunks)
            except StopIteration:
                raise Malformed("it ends in the middle") from None
        taken, self._buffer = self._buffer[:at_most], self._buffer[at_most:]
        return taken


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """Read `LENGTH KEY=VALUE\\n` records (POSIX.1-2001, pax extended header)."""
    records = {}
    while data:
        digits = data.partition(b" ")[0]
        length = int(digits) if digits.isdigit() and len(digits) < len(str(_MAX_HEADER_BYTES)) + 1 else 0
        record, data = data[len(digits) + 1 : length], data[length:]
        key, equals, value = record.removesuffix(b"\n").partition(b"=")
        if not equals or not record.endswith(b"\n"):
            raise Malformed("a pax record is broken")
        if key.startswith(b"GNU.sparse."):
            raise Malformed("it holds a sparse file")
        records[key] = value
    return records


def _refuse_global(records: dict[bytes, bytes]) -> None:
    if not records.keys().isdisjoint({b"path", b"linkpath", b"size"}):
        raise Malformed("a global header names all files at once")


def _size(extended: bytes | None, plain: int) -> int:
    if extended is None:
        return plain
    if not extended.isdigit() or len(extended) > len(str(1 << 64)):
        raise Malformed("a size is no number")
    return int(extended)
