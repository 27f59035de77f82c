"""Reads a zip archive from a stranger: entries whose places, sizes and flags are consistent, or an error.

Format: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.4. Zip64 is refused: 65,535 entries and 4 GiB are enough here.
"""

import contextlib
import stat
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from builders.copying import CHUNK_BYTES
from builders.names import escaped
from builders.tar_stream import EntryKind, Malformed

_END: Final = struct.Struct("<4s4H2LH")
_LOCAL: Final = struct.Struct("<4s2B4HL2L2H")
_MAX_COMMENT: Final = 0xFFFF
_MAX_DIRECTORY_BYTES: Final = 16 << 20
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_UNIX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipEntry:
    """One entry, its name unchecked."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    @property
    def name(self) -> bytes:
        return self.info.orig_filename.encode("utf-8", "surrogateescape")

    @property
    def size_bytes(self) -> int:
        return self.info.file_size

    @property
    def kind(self) -> EntryKind:
        mode = _unix_mode(self.info)
        if self.info.orig_filename.endswith("/") or stat.S_ISDIR(mode):
            return EntryKind.FOLDER
        if stat.S_ISLNK(mode):
            return EntryKind.SYMLINK
        return EntryKind.FILE if stat.S_IFMT(mode) in {0, stat.S_IFREG} else EntryKind.UNKNOWN

    @property
    def executable(self) -> bool:
        return bool(_unix_mode(self.info) & stat.S_IXUSR)

    def content(self) -> Iterator[bytes]:
        """Give the bytes. Raises Malformed where they are not as many, or have another sum, than the archive says."""
        size = 0
        try:
            with self.archive.open(self.info) as member:
                while chunk := member.read(CHUNK_BYTES):
                    size += len(chunk)
                    yield chunk
        except zipfile.BadZipFile as error:
            raise Malformed(f"{escaped(self.name)} is broken: {error}") from error
        if size != self.info.file_size:
            raise Malformed(f"{escaped(self.name)} has {size} bytes and says that it has {self.info.file_size}")


@contextlib.contextmanager
def open_zip(packed: BinaryIO) -> Iterator[Sequence[ZipEntry]]:
    """Open a zip archive and check that its entries lie one behind the other. Raises Malformed."""
    count, directory_at = _end_record(packed)
    try:
        archive = zipfile.ZipFile(packed)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise Malformed(str(error)) from error
    with archive:
        infos = archive.infolist()
        if len(infos) != count:
            raise Malformed(f"it lists {len(infos)} entries and says that it has {count}")
        _check_places(packed, infos, directory_at)
        yield [ZipEntry(archive=archive, info=info) for info in infos]


def _end_record(packed: BinaryIO) -> tuple[int, int]:
    """Give the number of entries and the place of the directory, before anything reads as much as it claims."""
    size = packed.seek(0, 2)
    packed.seek(max(0, size - _END.size - _MAX_COMMENT))
    tail = packed.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise Malformed("it has no end record")
    _, disk, directory_disk, here, count, length, offset, comment = _END.unpack_from(tail, at)
    if 0xFFFF in (here, count) or 0xFFFFFFFF in (length, offset):  # noqa: PLR2004 - the marks of zip64
        raise Malformed("it is a zip64 archive; use tar for one this large")
    end_at = size - len(tail) + at
    if (disk, directory_disk, here) != (0, 0, count) or end_at + _END.size + comment != size:
        raise Malformed("its end record is inconsistent")
    if length > _MAX_DIRECTORY_BYTES or offset + length != end_at:
        raise Malformed("its directory is too large or not where the end record says")
    return count, offset


def _check_places(packed: BinaryIO, infos: Sequence[zipfile.ZipInfo], directory_at: int) -> None:
    free_from = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = escaped(info.orig_filename)
        if info.header_offset < free_from:
            raise Malformed(f"{name} overlaps the entry before it")
        if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
            raise Malformed(f"{name} is encrypted or compressed in a way other than deflate")
        free_from = _local_end(packed, info, name)
        if free_from > directory_at:
            raise Malformed(f"{name} overlaps the directory")


def _local_end(packed: BinaryIO, info: zipfile.ZipInfo, name: str) -> int:
    """Give where an entry ends, and see that the header beside its bytes says the same as the directory."""
    packed.seek(info.header_offset)
    header = packed.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        raise Malformed(f"{name} has no header of its own")
    _, _, _, flags, method, _, _, crc, packed_size, size, name_bytes, extra_bytes = _LOCAL.unpack(header)
    said = (info.CRC, info.compress_size, info.file_size)
    if method != info.compress_type or (not flags & _SIZES_FOLLOW and (crc, packed_size, size) != said):
        raise Malformed(f"{name} has other sizes in its header than in the directory")
    ends_at: int = info.header_offset + _LOCAL.size + name_bytes + extra_bytes + info.compress_size
    return ends_at


def _unix_mode(info: zipfile.ZipInfo) -> int:
    return info.external_attr >> 16 if info.create_system == _UNIX else 0
