"""Opens what is packed within an artifact, one level deep: wheels, jars, compressed manuals, archives of sources."""

import bz2
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from builders.names import escaped
from builders.sources.zip_reader import open_zip
from builders.tar_stream import EntryKind, Malformed

_CHUNK_BYTES: Final = 1 << 20
_MOST_BYTES: Final = 2 << 30
BROKEN: Final = (Malformed, EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, OSError)
"""What reading something packed can end with."""

_Opener = Callable[[BinaryIO], Iterator[tuple[str, Iterator[bytes]]]]
_Reader = gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File


def contents(file: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Give the name and the bytes of everything that is packed in a file; nothing for a file that is not packed.

    A compressed tar archive is given as it is, headers included, without a name. Raises what BROKEN lists.
    """
    with file.open("rb") as opened:
        start = opened.read(6)
        opened.seek(0)
        opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
        if opener is not None:
            yield from opener(opened)


def _zip(opened: BinaryIO) -> Iterator[tuple[str, Iterator[bytes]]]:
    with open_zip(opened) as entries:
        if sum(entry.size_bytes for entry in entries) > _MOST_BYTES:
            raise Malformed(f"it unpacks to more than {_MOST_BYTES >> 30} GiB")
        for entry in entries:
            if entry.kind is EntryKind.FILE:
                yield escaped(entry.name).strip("'"), entry.content()


def _stream(opener: Callable[[BinaryIO], _Reader]) -> _Opener:
    def read(opened: BinaryIO) -> Iterator[tuple[str, Iterator[bytes]]]:
        with contextlib.closing(opener(opened)) as unpacked:
            yield "", _bounded(unpacked)

    return read


def _bounded(unpacked: _Reader) -> Iterator[bytes]:
    size = 0
    while chunk := unpacked.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > _MOST_BYTES:
            raise Malformed(f"it unpacks to more than {_MOST_BYTES >> 30} GiB")
        yield chunk


_OPENERS: Final[dict[bytes, _Opener]] = {
    b"PK\x03\x04": _zip,
    b"\x1f\x8b": _stream(lambda opened: gzip.GzipFile(fileobj=opened)),
    b"\xfd7zXZ\x00": _stream(lzma.LZMAFile),
    b"BZh": _stream(bz2.BZ2File),
}
