"""What is known of a program, library or object, and the bounded way in which its bytes are read."""

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from builders.errors import GateFailed
from builders.targets import Format

EM_ARM = 40
_READ_BYTES = 1 << 20
_FREE_READS = 50_000
_BYTES_PER_READ = 64
_MOST_READS = 200_000
_MOST_MEMBER_READS = 4_000_000


class BinaryKind(StrEnum):
    """What a binary is for. A position-independent executable is an executable."""

    EXECUTABLE = "executable"
    SHARED = "shared"
    OBJECT = "object"
    ARCHIVE = "archive"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFacts:
    """What 32-bit ARM code asks of its machine (ELF for the Arm Architecture, Addenda to the Base ABI).

    `float_abi` is "hard", "soft" or "" (the file does not say); `cpu_arch` is Tag_CPU_arch, -1 where there is none.
    """

    float_abi: str = ""
    cpu_arch: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryFacts:
    """One binary, as its own headers describe it.

    `machine` is e_machine, cputype or Machine, by `format`. `required_versions` has the highest symbol version for
    each prefix ("GLIBC": "2.34"); a version that is no number stands whole ("GLIBC_PRIVATE": ""). `members` are the
    slices of a universal Mach-O, or one object for each distinct machine of a static library.
    """

    format: Format
    machine: int
    machine_name: str
    kind: BinaryKind
    bits: int = 64
    big_endian: bool = False
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    soname: str = ""
    required_versions: Mapping[str, str] = field(default_factory=dict)
    rpath: tuple[str, ...] = ()
    stripped: bool = False
    build_id: str = ""
    static: bool = False
    arm: ArmFacts | None = None
    member: str = ""
    members: tuple["BinaryFacts", ...] = ()


class CorruptBinary(Exception):
    """The bytes break the format that they claim to have; `opened`, which knows the file, makes a GateFailed of it."""


class Window(io.RawIOBase):
    """Part of an open file, to be read in small pieces only.

    The number of reads is bounded by the size of the file, whatever its tables say: a loop that a corrupt table
    makes endless ends in CorruptBinary. Windows cut from one another share the bound.
    """

    def __init__(self, fd: int, start: int, size: int, budget: list[int] | None = None) -> None:
        super().__init__()
        self._fd = fd
        self._start = start
        self._position = 0
        self.size = size
        self._budget = budget or [min(_FREE_READS + size // _BYTES_PER_READ, _MOST_READS)]

    def cut(self, offset: int, size: int) -> "Window":
        """Give a part of this window. Raises CorruptBinary where it reaches outside."""
        self.require(offset, size)
        return Window(self._fd, self._start + offset, size, self._budget)

    def expect_members(self) -> None:
        """Allow what reading each of an archive's objects takes: their headers are a large part of their bytes."""
        self._budget[0] += min(self.size // 2, _MOST_MEMBER_READS)

    def require(self, offset: int, size: int) -> None:
        """Raise CorruptBinary unless these bytes are there."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise CorruptBinary("is cut short, or its tables point outside of it")

    def at(self, offset: int, size: int) -> bytes:
        """Read exactly these bytes. Raises CorruptBinary where they are not there."""
        self.require(offset, size)
        self.seek(offset)
        data = self.read(size)
        if len(data) != size:
            raise CorruptBinary("became shorter while it was read")
        return data

    def whole(self) -> bytes:
        """Read everything, for a parser that cannot do with less. The caller bounds `size`."""
        self.seek(0)
        return b"".join(iter(lambda: self.read(_READ_BYTES), b""))

    def read(self, size: int = -1) -> bytes:
        self._budget[0] -= 1
        left = max(self.size - self._position, 0)
        wanted = left if size < 0 else min(size, left)
        if self._budget[0] < 0 or wanted > _READ_BYTES:
            raise CorruptBinary("has tables that are larger than any real program's")
        data = os.pread(self._fd, wanted, self._start + self._position) if wanted else b""
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = base + offset
        if self._position < 0:
            raise CorruptBinary("has tables that point outside of it")
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def open_regular(path: Path) -> int:
    """Open a regular file and give its descriptor; never wait for a FIFO, never follow a link.

    Raises GateFailed for anything that is not a regular file or cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise GateFailed(f"{path} cannot be read: {error.strerror}", next_step=_PLAIN_FILES) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise GateFailed(f"{path} is not a regular file", next_step=_PLAIN_FILES)
    return fd


@contextmanager
def opened(path: Path, *, mend: str) -> Iterator[Window]:
    """Open a regular file to be read in small pieces. `mend` is the next step where its bytes are not what they claim.

    Raises GateFailed where it is no regular file, cannot be read, or breaks its format.
    """
    fd = open_regular(path)
    try:
        yield Window(fd, 0, os.fstat(fd).st_size)
    except CorruptBinary as error:
        raise GateFailed(f"{path} {error}", next_step=mend) from error
    except OSError as error:
        raise GateFailed(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)


_PLAIN_FILES = "let the recipe leave plain files only, readable by their owner"


def printable(data: bytes) -> str:
    """Give text that is safe on a terminal: what is not printable is escaped."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def version_order(version: str) -> tuple[int, ...]:
    """Give the sort key of a version: 2.9 is before 2.31, and 2.31.0 is 2.31."""
    return tuple(int(part) for part in re.findall(r"\d{1,18}", re.sub(r"(\.0+)+\Z", "", version), re.ASCII))
