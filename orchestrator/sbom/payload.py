"""Reads the files of an artifact by content, and lays them out for Syft."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builders.copying import new_file, read_chunks, write_all
from builders.names import escaped
from orchestrator.archive import Member
from orchestrator.errors import SbomFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadFile:
    """A file inside an artifact; its path is relative, without the archive's root folder. SPDX wants the SHA-1."""

    path: PurePosixPath
    content: Path | bytes
    sha1: str
    sha256: str
    sha512: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """All files, sorted by path. `digest` covers paths and bytes."""

    files: tuple[PayloadFile, ...]
    digest: str


def read(payload: Sequence[Member] | Path) -> Payload:
    """Hash the files of an artifact.

    Raises SbomFailed for what is not a plain file, for a path that leaves the artifact, is not Unicode or stands
    there twice, and for other bytes than a member promises.
    """
    members = payload if not isinstance(payload, Path) else tuple(_members(payload))
    files = sorted((_hashed(member) for member in members), key=lambda file: str(file.path).encode())
    if len({file.path for file in files}) != len(files):
        raise SbomFailed("two files of an artifact have one path", next_step="rename one, or leave it out of `outputs`")
    covered = hashlib.sha256(b"".join(f"{file.sha256} {file.path}\0".encode() for file in files))
    return Payload(files=tuple(files), digest=covered.hexdigest())


def lay_out(payload: Payload, folder: Path) -> None:
    """Put the files into an empty folder: hard links where the file system can, else copies. Raises OSError."""
    for file in payload.files:
        place = folder / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(file.content, bytes):
            with new_file(place, executable=False) as descriptor:
                write_all(descriptor, file.content)
            continue
        try:
            os.link(file.content, place, follow_symlinks=False)
        except OSError:  # another file system, or one without links
            shutil.copyfile(file.content, place, follow_symlinks=False)


def _members(folder: Path) -> Iterator[Member]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield Member(name=PurePosixPath(path.relative_to(folder).as_posix()), content=path)


def _hashed(member: Member) -> PayloadFile:
    name = member.name
    if name.is_absolute() or not name.parts or ".." in name.parts or "\0" in str(name):
        raise _refused(name, "does not lie inside the artifact")
    try:
        str(name).encode()
    except UnicodeEncodeError:
        raise _refused(name, "has a name that is not UTF-8") from None
    digests = hashlib.sha1(usedforsecurity=False), hashlib.sha256(), hashlib.sha512()
    for chunk in _chunks(member):
        for digest in digests:
            digest.update(chunk)
    sha1, sha256, sha512 = (digest.hexdigest() for digest in digests)
    if member.sha256 not in {"", sha256}:
        raise _refused(name, "has other bytes than when it was built")
    return PayloadFile(path=name, content=member.content, sha1=sha1, sha256=sha256, sha512=sha512)


def _chunks(member: Member) -> Iterator[bytes]:
    if isinstance(member.content, bytes):
        yield member.content
        return
    try:
        descriptor = os.open(member.content, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(member.name, f"cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _refused(member.name, "is not a plain file")
        yield from read_chunks(descriptor)
    finally:
        os.close(descriptor)


def _refused(name: PurePosixPath, reason: str) -> SbomFailed:
    return SbomFailed(f"no SBOM can list the file {escaped(str(name))}: it {reason}",
                      next_step="run again; `--clean` builds the cell anew")  # fmt: skip
