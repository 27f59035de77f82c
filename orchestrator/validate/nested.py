"""Opens what is packed within an artifact, one level deep: wheels, jars, compressed manuals, sources, .deb.

Formats: ar(5), deb(5), and the file signatures that each packer's own format tells.
"""

import bz2
import contextlib
import gzip
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from builders.binaries import archive
from builders.binaries.facts import CorruptBinary, Window
from builders.names import escaped
from builders.sources.zip_reader import open_zip
from builders.tar_stream import EntryKind, Malformed

_CHUNK_BYTES: Final = 1 << 20
_MOST_BYTES: Final = 2 << 30
BROKEN: Final = (Malformed, CorruptBinary, EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, OSError)
"""What reading something packed can end with."""

_Opener = Callable[[BinaryIO], Iterator[tuple[str, Iterator[bytes]]]]
_Reader = gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File
_Of = TypeVar("_Of")


def contents(file: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Give the name and the bytes of everything that is packed in a file; nothing for a file that is not packed.

    A compressed tar archive is given as it is, headers included, without a name. Raises what BROKEN lists, also for a
    file that is packed in a way that is not opened here, at the end of what can be given.
    """
    with file.open("rb") as opened:
        start = opened.read(_MAGIC_BYTES)
        opened.seek(0)
        if start.startswith(archive.MAGIC):
            yield from _ar(Window(opened.fileno(), 0, os.fstat(opened.fileno()).st_size))
            return
        if (packer := _first(_UNOPENED, start)) is not None:
            raise Malformed(f"{packer} is not opened here")
        if (opener := _first(_OPENERS, start)) is not None:
            yield from opener(opened)


def _first(table: Mapping[bytes, _Of], start: bytes) -> _Of | None:
    return next((found for magic, found in table.items() if start.startswith(magic)), None)


def _ar(window: Window) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Open the packed members of an archive, such as those of a .deb; the others lie open in the file itself."""
    unopened: list[str] = []
    window.expect_members()
    for member in archive.members(window):
        start = member.window.at(0, min(_MAGIC_BYTES, member.window.size))
        member.window.seek(0)
        if (packer := _first(_UNOPENED, start)) is not None:
            unopened.append(f"{member.name} ({packer})")
        elif (opener := _first(_OPENERS, start)) is not None:
            with tempfile.TemporaryFile() as copy:  # a window is read in small pieces, which decoders do not ask for
                copy.writelines(iter(partial(member.window.read, _CHUNK_BYTES), b""))
                copy.seek(0)
                for name, chunks in opener(copy):
                    yield f"{member.name}/{name}".removesuffix("/"), chunks
    if unopened:
        raise Malformed(f"these members are not opened here: {', '.join(unopened)}")


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
_UNOPENED: Final[dict[bytes, str]] = {
    b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf\x27\x1c": "7z", b"\xed\xab\xee\xdb": "rpm", b"\x04\x22\x4d\x18": "lz4",
    b"Rar!\x1a\x07": "rar", b"LZIP\x01": "lzip", b"\x89LZO\x00\r\n\x1a": "lzop", b"\x1f\x9d": "compress",
    b"MSCF\x00\x00\x00\x00": "a cabinet", b"xar!\x00\x1c": "xar", b"PK\x07\x08": "a zip in several parts",
}  # fmt: skip
_MAGIC_BYTES: Final = 8
