"""Reads the first bytes of COFF objects (PE Format, "COFF File Header"), and names the machines of PE and Mach-O."""

import struct

from builders.binaries.facts import BinaryFacts, BinaryKind
from builders.targets import Format

COFF_HEADER = struct.Struct("<HHIIIHH")
_NAMES = {
    (Format.MACHO, 0x01000007): "x86_64", (Format.MACHO, 0x0100000C): "arm64", (Format.MACHO, 7): "i386",
    (Format.MACHO, 12): "arm", (Format.MACHO, 18): "ppc", (Format.PE, 0x8664): "x86_64", (Format.PE, 0xAA64): "arm64",
    (Format.PE, 0x14C): "i386", (Format.PE, 0x1C4): "arm", (Format.PE, 0x1C0): "arm",
}  # fmt: skip
_MACHINES = frozenset(machine for form, machine in _NAMES if form is Format.PE)


def machine_name(form: Format, machine: int) -> str:
    """Name a cputype or Machine for people."""
    return f"{_NAMES.get((form, machine), hex(machine))} ({form})"


def read_coff(head: bytes) -> BinaryFacts | None:
    """Give the machine of a COFF object or of an import library's entry, or None where the bytes are neither."""
    if len(head) < COFF_HEADER.size:
        return None
    machine, sections, _, _, _, optional_size, _ = COFF_HEADER.unpack_from(head)
    if (machine, sections) == (0, 0xFFFF):  # an import entry, or an object with many sections
        machine, optional_size = int.from_bytes(head[6:8], "little"), 0
    if machine not in _MACHINES or optional_size:
        return None
    return BinaryFacts(
        format=Format.PE, machine=machine, machine_name=machine_name(Format.PE, machine), kind=BinaryKind.OBJECT
    )
