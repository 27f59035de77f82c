"""Opens what holds files: tar, zip, `ar` and folders, for their entries and, one at a time, for their contents."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol

from builders.binaries import archive
from builders.binaries.facts import CorruptBinary, Window
from builders.copying import read_chunks
from builders.sources.zip_reader import ZipEntry, open_zip
from builders.tar_stream import EntryKind, Malformed, TarEntry, TarStream
from orchestrator.reproduce.causes.members import Key, Member
from orchestrator.reproduce.causes.regions import CHUNK_BYTES
from orchestrator.reproduce.causes.values import MAX_UNPACKED_BYTES

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_MOST_MEMBERS = 100_000
_XZ_MEMORY_BYTES = 256 << 20
_BUFFER_BYTES = 1 << 16
BROKEN: Final = (
    Malformed, CorruptBinary, EOFError, OSError, ValueError, LookupError, RuntimeError, NotImplementedError,
    struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
)  # fmt: skip
"""What reading a stranger's archive can raise."""


class Container(Protocol):
    """Something with files in it."""

    def entries(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Give each entry, and its bytes, which are there until the next one is asked for. Raises one of BROKEN."""


def chunks(window: Window) -> Iterator[bytes]:
    """Give the bytes of a file, piece by piece."""
    for at in range(0, window.size, CHUNK_BYTES):
        yield window.at(at, min(CHUNK_BYTES, window.size - at))


def digested(container: Container) -> list[Member]:
    """Read a container once: its entries with the digest of their bytes. Raises one of BROKEN."""
    found: list[Member] = []
    for member, content in container.entries():
        digest = hashlib.sha256()
        for chunk in content:
            digest.update(chunk)
        found.append(_with_digest(member, digest.digest()))
        if len(found) > _MOST_MEMBERS:
            raise Malformed(f"it holds more than {_MOST_MEMBERS} members")
    return found


def _with_digest(member: Member, digest: bytes) -> Member:
    return Member(name=member.name, kind=member.kind, mtime=member.mtime, mode=member.mode, owner=member.owner,
                  group=member.group, link=member.link, notes=member.notes, digest=digest)  # fmt: skip


# --- compression -------------------------------------------------------------------------------------------------


class _Raw(io.RawIOBase):
    """A window as the standard library's readers want it: they ask for more at once than a window gives."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self._window = window
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer)
        data = self._window.at(self._at, max(0, min(len(view), _BUFFER_BYTES, self._window.size - self._at)))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._window.size}[whence]
        self._at = max(0, min(base + offset, self._window.size))
        return self._at


def _file(window: Window) -> io.BufferedReader:
    return io.BufferedReader(_Raw(window), _BUFFER_BYTES)


def _gunzipped(window: Window) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=_file(window)) as unpacked:
        yield from iter(lambda: unpacked.read(CHUNK_BYTES), b"")


def _bunzipped(window: Window) -> Iterator[bytes]:
    with bz2.BZ2File(_file(window)) as unpacked:
        yield from iter(lambda: unpacked.read(CHUNK_BYTES), b"")


def _unxzed(window: Window) -> Iterator[bytes]:
    """Decompress one xz stream: LZMAFile would take as much memory as a stranger asks for."""
    decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
    for data in chunks(window):
        yield decompressor.decompress(data, CHUNK_BYTES)
        while not decompressor.needs_input and not decompressor.eof:
            yield decompressor.decompress(b"", CHUNK_BYTES)
        if decompressor.eof:
            return


_DECOMPRESSORS: Final[dict[str, Callable[[Window], Iterator[bytes]]]] = {
    "gzip": _gunzipped, "bzip2": _bunzipped, "xz": _unxzed, "plain": chunks,
}  # fmt: skip


def decompressed(window: Window, form: str) -> Iterator[bytes]:
    """Give what a compressed file holds, no more than MAX_UNPACKED_BYTES. Raises one of BROKEN."""
    size = 0
    for chunk in _DECOMPRESSORS[form](window):
        size += len(chunk)
        if size > MAX_UNPACKED_BYTES:
            raise Malformed(f"it decompresses to more than {MAX_UNPACKED_BYTES >> 30} GiB")
        yield chunk


# --- the forms ---------------------------------------------------------------------------------------------------


class TarFile:
    """A tar, compressed in a form of `decompressed`."""

    def __init__(self, window: Window, form: str) -> None:
        self._window = window
        self._form = form

    def entries(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Give the entries in their order."""
        stream = TarStream(decompressed(self._window, self._form))
        for entry in stream:
            yield _tar_member(entry), stream.content() if entry.kind is EntryKind.FILE else iter(())


def _tar_member(entry: TarEntry) -> Member:
    header = entry.header
    notes = {_text(name): _text(value) for name, value in entry.extended.items()}
    owner, group = notes.pop("uname", header.uname), notes.pop("gname", header.gname)
    uid, gid = notes.pop("uid", header.uid), notes.pop("gid", header.gid)
    notes.pop("path", None)
    notes.pop("linkpath", None)
    return Member(
        name=entry.name, kind=entry.kind, mtime=str(header.mtime), mode=entry.mode & 0o7777, owner=f"{owner}/{uid}",
        group=f"{group}/{gid}", link=entry.link, notes=notes,
    )  # fmt: skip


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


class ZipFile:
    """A zip, and what is made like one: wheels, jars."""

    def __init__(self, window: Window) -> None:
        self._window = window

    def entries(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Give the entries in the order of the directory."""
        size = 0
        with open_zip(_file(self._window)) as found:
            for entry in found:
                size += entry.size_bytes
                if size > MAX_UNPACKED_BYTES:
                    raise Malformed(f"it unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB")
                yield _zip_member(entry), entry.content()


def _zip_member(entry: ZipEntry) -> Member:
    info = entry.info
    notes = {"made by": str(info.create_system), "extra": info.extra.hex(" "), "comment": _text(info.comment),
             "method": str(info.compress_type)}  # fmt: skip
    year, month, day, hour, minute, second = info.date_time
    return Member(
        name=entry.name, kind=entry.kind, mode=(info.external_attr >> 16) & 0o7777, notes=notes,
        mtime=f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}",
    )  # fmt: skip


class ArFile:
    """A static library, or another `ar` archive such as a .deb."""

    def __init__(self, window: Window) -> None:
        self._window = window

    def entries(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Give the members in their order, without the tables of symbols and names."""
        self._window.expect_members()
        for row in archive.members(self._window):
            yield _ar_member(row), chunks(row.window)


def _ar_member(row: archive.Member) -> Member:
    """Read the fields of a header as text: date, owner, group and octal mode (ar(5))."""
    places = ((16, 28), (28, 34), (34, 40), (40, 48))
    mtime, owner, group, mode = (row.header[start:end].strip().decode("ascii", "replace") for start, end in places)
    is_octal = bool(mode) and set(mode) <= set("01234567")
    return Member(name=row.name.encode(), kind=EntryKind.FILE, mtime=mtime, owner=owner, group=group,
                  mode=int(mode, 8) & 0o7777 if is_octal else None)  # fmt: skip


class Folder:
    """An unpacked folder. Links are read as links, and what is neither file nor folder is only named.

    Of modes only the owner's right to execute counts: the others come from whoever unpacked it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def entries(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Give what is below, by name: a folder has no order that anybody chose, and its times are of the unpacking."""
        for path in sorted(self._root.rglob("*")):
            status = path.lstat()
            yield _folder_member(path, status, self._root), _content(path) if stat.S_ISREG(status.st_mode) else iter(())


def _folder_member(path: Path, status: os.stat_result, root: Path) -> Member:
    link = os.fsencode(path.readlink()) if stat.S_ISLNK(status.st_mode) else b""
    return Member(name=os.fsencode(path.relative_to(root)), kind=stat.filemode(status.st_mode)[0], link=link,
                  mode=None if link else 0o755 if status.st_mode & stat.S_IXUSR else 0o644)  # fmt: skip


def _content(path: Path) -> Iterator[bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield from read_chunks(descriptor)
    finally:
        os.close(descriptor)


# --- contents ----------------------------------------------------------------------------------------------------


def extracted(container: Container, wanted: Iterable[Key], limit_bytes: int, stack: ExitStack) -> dict[Key, IO[bytes]]:
    """Copy some of a container's files as `copied` does."""
    left, seen = set(wanted), Counter[bytes]()
    found: dict[Key, IO[bytes]] = {}
    for member, content in container.entries():
        key = member.name, seen[member.name]
        seen[member.name] += 1
        if key in left:
            left.discard(key)
            found[key] = copied(content, limit_bytes, stack)
        if not left:
            break
    return found


def copied(content: Iterator[bytes], limit_bytes: int, stack: ExitStack) -> IO[bytes]:
    """Copy bytes, up to the limit, into a file without a name, which lasts as long as the stack."""
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    for chunk in content:
        copy.write(chunk[: max(0, limit_bytes - copy.tell())])
    copy.flush()
    return copy
