"""Deterministic archives: the same members give the same bytes on every machine that has the same zlib.

Formats: POSIX.1-2001 pax inside gzip (RFC 1952, no name, no time), and zip (PKWARE APPNOTE 6.3.10).
"""

import hashlib
import os
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Protocol

from builders.copying import CHUNK_BYTES, Digests, copy_hashed, new_file, read_chunks
from builders.names import collision_key, escaped
from orchestrator.errors import StagingError

LEVEL: Final = 6
COMPRESSOR: Final = f"zlib {zlib.ZLIB_RUNTIME_VERSION} level {LEVEL}"
"""What the bytes of an archive depend on beside its members."""

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_UNIX = 3
_FIRST_ZIP_TIME, _LAST_ZIP_TIME = 315532800, 4354819198  # 1980-01-01 and 2107-12-31 23:59:58 UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file to pack. `sha256` is what its bytes must be, or empty where nobody knows yet.

    `link` is the text of a symbolic link, which has no content of its own.
    """

    name: PurePosixPath
    content: Path | bytes
    executable: bool = False
    sha256: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFile:
    """What went into an archive, by its name below the root folder. A link's bytes are its text."""

    name: PurePosixPath
    size_bytes: int
    sha256: str
    executable: bool
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A written archive: its own digests, and those of the files inside."""

    digests: Digests
    files: tuple[PackedFile, ...]


class ArchiveWriter(Protocol):
    def __call__(self, path: Path, root_dir: str, members: Sequence[Member], epoch: int) -> Packed:
        """Write a new archive, its members below one folder, and hash it."""


def write_tar_gz(path: Path, root_dir: str, members: Sequence[Member], epoch: int) -> Packed:
    """Write a new .tar.gz: sorted, owner 0, times at `epoch`, modes 0644 and 0755, all below `root_dir`.

    Raises StagingError where two members have one name or one has other bytes than it promises.
    """
    ordered = in_order(members)
    files: list[PackedFile] = []
    with new_file(path, executable=False) as descriptor:
        digests = copy_hashed(_gzipped(_tar(root_dir, ordered, epoch, files)), descriptor)
    return Packed(digests=digests, files=tuple(files))


def write_zip(path: Path, root_dir: str, members: Sequence[Member], epoch: int) -> Packed:
    """Write a new .zip with the same rules as `write_tar_gz`; times before 1980 become 1980-01-01."""
    files: list[PackedFile] = []
    with new_file(path, executable=False) as descriptor, os.fdopen(os.dup(descriptor), "w+b") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
            files.extend(_add_to_zip(archive, root_dir, member, epoch) for member in in_order(members))
        file.flush()
        digests = _hash_again(file)
    return Packed(digests=digests, files=tuple(files))


def write_plain(path: Path, member: Member) -> Packed:
    """Write a member as a file of its own. Raises StagingError where it has other bytes than it promises."""
    content = _Content(member)
    with new_file(path, executable=member.executable) as descriptor:
        digests = copy_hashed(content.chunks(), descriptor)
    return Packed(digests=digests, files=())


# --- members -----------------------------------------------------------------------------------------------------


def in_order(members: Iterable[Member]) -> list[Member]:
    """Sort members by name. Raises StagingError where two are one name on some file systems."""
    ordered = sorted(members, key=lambda member: str(member.name).encode())
    seen: dict[str, PurePosixPath] = {}
    for member in ordered:
        other = seen.setdefault(collision_key(str(member.name)), member.name)
        if other is not member.name:
            raise StagingError(
                f"an archive would hold {escaped(str(other))} and {escaped(str(member.name))}, which are one name on"
                " some file systems",
                next_step="rename one of them, or leave it out of `outputs` or `archive.extra`",
            )
    return ordered


class _Content:
    """Gives a member's bytes once, and tells afterwards what they were."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._digest = hashlib.sha256()
        self._descriptor = -1
        self.size_bytes = len(member.content) if isinstance(member.content, bytes) else self._open(member.content)

    def _open(self, path: Path) -> int:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._wrong(f"cannot be read: {error.strerror}") from error
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._descriptor)
            raise self._wrong("is not a plain file")
        return status.st_size

    def chunks(self) -> Iterator[bytes]:
        content = self._member.content
        left = self.size_bytes
        try:
            for chunk in (content,) if isinstance(content, bytes) else read_chunks(self._descriptor, left):
                left -= len(chunk)
                if left < 0:
                    break
                self._digest.update(chunk)
                yield chunk
        finally:
            if self._descriptor >= 0:
                os.close(self._descriptor)
        if left or self._member.sha256 not in {"", self._digest.hexdigest()}:
            raise self._wrong("has other bytes than when it was built")

    def packed(self) -> PackedFile:
        return PackedFile(
            name=self._member.name, size_bytes=self.size_bytes, sha256=self._digest.hexdigest(),
            executable=self._member.executable,
        )  # fmt: skip

    def _wrong(self, reason: str) -> StagingError:
        return StagingError(f"the file {escaped(str(self._member.name))} {reason}",
                            next_step="run again; `--clean` builds the cell anew")  # fmt: skip


def _packed_link(member: Member) -> PackedFile:
    text = member.link.encode()
    return PackedFile(
        name=member.name, size_bytes=len(text), sha256=hashlib.sha256(text).hexdigest(), executable=False,
        link=member.link,
    )  # fmt: skip


# --- tar ---------------------------------------------------------------------------------------------------------


def _tar(root_dir: str, members: Iterable[Member], epoch: int, files: list[PackedFile]) -> Iterator[bytes]:
    """Give the archive's bytes, and note in `files` what went in."""
    members = list(members)
    root = PurePosixPath(root_dir)
    folders = {parent for member in members for parent in member.name.parents}
    entries: list[tuple[PurePosixPath, Member | None]] = [(root / folder, None) for folder in folders]
    entries += [(root / member.name, member) for member in members]
    for name, member in sorted(entries, key=lambda entry: entry[0].parts):
        if member is None:
            yield _tar_header(name, tarfile.DIRTYPE, 0o755, 0, epoch)
            continue
        if member.link:
            yield _tar_header(name, tarfile.SYMTYPE, 0o777, 0, epoch, link=member.link)
            files.append(_packed_link(member))
            continue
        content = _Content(member)
        yield _tar_header(name, tarfile.REGTYPE, 0o755 if member.executable else 0o644, content.size_bytes, epoch)
        yield from content.chunks()
        yield bytes(-content.size_bytes % tarfile.BLOCKSIZE)
        files.append(content.packed())
    yield bytes(2 * tarfile.BLOCKSIZE)


def _tar_header(name: PurePosixPath, kind: bytes, mode: int, size: int, epoch: int, *, link: str = "") -> bytes:
    entry = tarfile.TarInfo(str(name))
    entry.type, entry.mode, entry.size, entry.mtime, entry.linkname = kind, mode, size, epoch, link
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8")


def _gzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    for chunk in chunks:
        if packed := compressor.compress(chunk):
            yield packed
    yield compressor.flush()


# --- zip ---------------------------------------------------------------------------------------------------------


def _add_to_zip(archive: zipfile.ZipFile, root_dir: str, member: Member, epoch: int) -> PackedFile:
    when = time.gmtime(min(max(epoch, _FIRST_ZIP_TIME), _LAST_ZIP_TIME))
    info = zipfile.ZipInfo(f"{root_dir}/{member.name}", date_time=when[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = _UNIX
    if member.link:
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, member.link.encode())
        return _packed_link(member)
    content = _Content(member)
    info.external_attr = (stat.S_IFREG | (0o755 if member.executable else 0o644)) << 16
    info.file_size = content.size_bytes
    with archive.open(info, "w") as to:
        for chunk in content.chunks():
            to.write(chunk)
    return content.packed()


def _hash_again(file: BinaryIO) -> Digests:
    """Hash a zip after it was written: its headers are mended in place, so it cannot be hashed on the way."""
    file.seek(0)
    sha256, sha512, size = hashlib.sha256(), hashlib.sha512(), 0
    while chunk := file.read(CHUNK_BYTES):
        sha256.update(chunk)
        sha512.update(chunk)
        size += len(chunk)
    return Digests(size_bytes=size, sha256=sha256.hexdigest(), sha512=sha512.hexdigest())
