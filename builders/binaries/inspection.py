"""Says what a built file is: for which machine, what it needs, and what of the build it gives away."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from builders.binaries import archive
from builders.binaries.archive import Member
from builders.binaries.coff import read_coff
from builders.binaries.facts import (
    EM_ARM,
    ArmFacts,
    BinaryFacts,
    BinaryKind,
    CorruptBinary,
    Window,
    open_regular,
    opened,
    printable,
    version_order,
)
from builders.errors import GateFailed

__all__ = ["ArmFacts", "BinaryFacts", "BinaryKind", "build_paths", "inspect", "version_order"]

_HEAD_BYTES = 64
_CHUNK_BYTES = 1 << 20
_COFF_SUFFIXES = (".o", ".obj")


def inspect(path: Path) -> BinaryFacts | None:
    """Give the facts of a binary, or None where the file is no program, library or object at all.

    Raises GateFailed where the file is not a regular one, or claims a format and breaks it.
    """
    with opened(path, mend="build it again; if it is meant to be like this, leave it out of `outputs`") as window:
        return _read(window, path.name)


def build_paths(path: Path, needles: Sequence[bytes]) -> tuple[str, ...]:
    """Give those of the absolute build paths that occur in the file, in the order asked. Raises GateFailed.

    Memory stays flat: chunks overlap by the longest path.
    """
    wanted = [needle for needle in dict.fromkeys(needles) if needle.strip(b"/")]
    found: set[bytes] = set()
    tail = b""
    for chunk in _chunks(path) if wanted else ():
        data = tail + chunk
        found.update(needle for needle in wanted if needle not in found and needle in data)
        if len(found) == len(wanted):
            break
        overlap = max(map(len, wanted)) - 1
        tail = data[len(data) - min(overlap, len(data)) :]
    return tuple(printable(needle) for needle in wanted if needle in found)


def _chunks(path: Path) -> Iterator[bytes]:
    fd = open_regular(path)
    try:
        while chunk := os.read(fd, _CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise GateFailed(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)


def _read(window: Window, name: str) -> BinaryFacts | None:
    head = window.at(0, min(window.size, _HEAD_BYTES))
    if head.startswith(archive.THIN_MAGIC):
        raise CorruptBinary("is a thin archive: it names its objects and does not hold them")
    if head.startswith(archive.MAGIC):
        return _read_archive(window)
    return _read_single(window, head, name)


def _read_single(window: Window, head: bytes, name: str) -> BinaryFacts | None:
    reader = next((reader for magic, reader in _READERS.items() if head.startswith(magic)), None)
    if reader:
        return reader(window, name)
    return read_coff(head) if name.lower().endswith(_COFF_SUFFIXES) else None


def _elf(window: Window, _: str) -> BinaryFacts:
    from builders.binaries.elf import read_elf  # noqa: PLC0415 - pyelftools costs 0.1 s, and --help needs it not

    return read_elf(window)


def _pe(window: Window, name: str) -> BinaryFacts | None:
    from builders.binaries.desktop import read_pe  # noqa: PLC0415 - lief costs more than a second

    return read_pe(window, name)


def _macho(window: Window, _: str) -> BinaryFacts | None:
    from builders.binaries.desktop import read_macho  # noqa: PLC0415 - lief costs more than a second

    return read_macho(window)


_ELF_MAGIC = b"\x7fELF"
_MACHO_MAGICS = (
    b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf",
    b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf",
)  # fmt: skip
_READERS: dict[bytes, Callable[[Window, str], BinaryFacts | None]] = {
    _ELF_MAGIC: _elf, b"MZ": _pe, **dict.fromkeys(_MACHO_MAGICS, _macho),
}  # fmt: skip


def _read_archive(window: Window) -> BinaryFacts | None:
    """Give one object for each distinct machine; an archive without objects (a .deb) is no binary."""
    seen: dict[tuple[object, ...], BinaryFacts] = {}
    heads: set[bytes] = set()
    window.expect_members()
    for member in archive.members(window):
        head = member.window.at(0, min(member.window.size, _HEAD_BYTES))
        # A large library has thousands of objects with one and the same header; only ARM hides differences elsewhere.
        sketch = head[:8] + head[16:20]
        if head.startswith(_ELF_MAGIC) and sketch in heads:
            continue
        facts = _member_facts(member, head)
        if facts is not None:
            seen.setdefault((facts.format, facts.machine, facts.bits, facts.big_endian, facts.arm), facts)
            heads.update({sketch} if facts.machine != EM_ARM else ())
    if not seen:
        return None
    found = tuple(seen.values())
    first = found[0]
    return BinaryFacts(
        format=first.format, machine=first.machine, machine_name=" and ".join(row.machine_name for row in found),
        kind=BinaryKind.ARCHIVE, bits=first.bits, big_endian=first.big_endian, arm=first.arm, members=found,
    )  # fmt: skip


def _member_facts(member: Member, head: bytes) -> BinaryFacts | None:
    try:
        facts = _read_single(member.window, head, ".o")
    except CorruptBinary as error:
        raise CorruptBinary(f"has a member {member.name!r} that {error}") from error
    return replace(facts, member=member.name) if facts else None
