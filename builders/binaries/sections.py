"""Lists the sections of an ELF file (System V gABI, "Sections"): where each lies in the file, whatever is in it."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf.elffile import ELFFile

from builders.binaries.facts import CorruptBinary, Window, printable

_NAME_BYTES = 256
_MOST_SECTIONS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section with bytes in the file. `type` is SHT_STRTAB and its kin, or a number that nobody has named."""

    name: str
    type: str
    window: Window


def read_sections(window: Window) -> tuple[Section, ...]:
    """Give the sections that have bytes, in their order. Raises CorruptBinary."""
    try:
        return tuple(_sections(ELFFile(cast("IO[bytes]", window)), window))
    except (ELFError, struct.error, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CorruptBinary("has an ELF header, and what follows cannot be read") from error


def _sections(elf: ELFFile, window: Window) -> Iterator[Section]:
    size, count = elf.structs.Elf_Shdr.sizeof(), elf.num_sections()
    if count > _MOST_SECTIONS or (count and elf["e_shentsize"] != size):
        raise CorruptBinary("has a table of sections that no real program has")
    window.require(elf["e_shoff"], count * size)
    rows = [struct_parse(elf.structs.Elf_Shdr, elf.stream, elf["e_shoff"] + size * index) for index in range(count)]
    names = rows[elf.get_shstrndx()]["sh_offset"] if rows else 0
    for row in rows:
        if row["sh_type"] not in {"SHT_NOBITS", "SHT_NULL"} and row["sh_size"]:
            yield Section(
                name=_name(window, names + row["sh_name"]), type=str(row["sh_type"]),
                window=window.cut(row["sh_offset"], row["sh_size"]),
            )  # fmt: skip


def _name(window: Window, offset: int) -> str:
    data = window.at(offset, min(_NAME_BYTES, max(0, window.size - offset)))
    return printable(data.partition(b"\0")[0])
