"""Reads ELF files (System V gABI, Linux Standard Base for versions and notes) by what the loader uses.

Sections are for linkers and debuggers and can be cut away or forged, so names, libraries and versions come from the
program headers; only symbols and debug information, which have no other place, come from sections.
"""

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import ARMAttributesSection

from builders.binaries.facts import (
    EM_ARM,
    ArmFacts,
    BinaryFacts,
    BinaryKind,
    CorruptBinary,
    Window,
    printable,
    version_order,
)
from builders.targets import Format

_STRING_BYTES = 4096
_NOTE_BYTES = 1 << 16
_NT_GNU_BUILD_ID = 3
_DF_1_PIE = 0x08000000
_VER_FLG_WEAK = 2
_SHF_ALLOC = 2
_EF_ARM_FLOAT = {0x400: "hard", 0x200: "soft"}
_VERSION = re.compile(r"(.+)_(\d+(?:\.\d+)*)\Z", re.ASCII)
# Relative relocations need a loader that knows them; the marker's name has no version, glibc's release notes do.
_MARKERS = {"GLIBC_ABI_DT_RELR": ("GLIBC", "2.36")}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    name: str
    type: str | int
    flags: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Linked:
    """What the dynamic linker is told."""

    needed: tuple[str, ...] = ()
    soname: str = ""
    rpath: tuple[str, ...] = ()
    versions: Mapping[str, str]
    pie: bool = False


def read_elf(window: Window) -> BinaryFacts:
    """Give the facts of an ELF file. Raises CorruptBinary."""
    try:
        return _facts(window)
    except (ELFError, struct.error, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CorruptBinary("has an ELF header, and what follows cannot be read") from error
    except RecursionError as error:
        raise CorruptBinary("has ELF attributes nested too deeply") from error


def _facts(window: Window) -> BinaryFacts:
    # Window is a raw stream whose read never gives None; the annotation of ELFFile wants the file protocol.
    elf = ELFFile(cast("IO[bytes]", window))
    _require_table(window, elf["e_shoff"], elf.num_sections(), elf["e_shentsize"], elf.structs.Elf_Shdr.sizeof())
    if elf["e_type"] == "ET_REL":
        return _described(elf, window, BinaryKind.OBJECT)
    sections = tuple(_sections(elf, window))
    if _is_detached(sections) or elf["e_type"] not in {"ET_EXEC", "ET_DYN"}:
        return _described(elf, window, BinaryKind.OTHER)
    return _program(elf, window, sections)


def _program(elf: ELFFile, window: Window, sections: Sequence[_Section]) -> BinaryFacts:
    segments = _segments(elf, window)
    interpreter = next((_interpreter(window, row) for row in segments if row["p_type"] == "PT_INTERP"), "")
    linked = _linked(elf, window, segments)
    kind = BinaryKind.EXECUTABLE
    # libc.so.6 has an interpreter too, so that it can be started to print its version: a soname decides first.
    if elf["e_type"] == "ET_DYN" and not linked.pie and (linked.soname or not interpreter):
        kind = BinaryKind.SHARED
    return _described(
        elf, window, kind, interpreter=interpreter, needed=linked.needed, soname=linked.soname,
        required_versions=linked.versions, rpath=linked.rpath, build_id=_build_id(elf, window, segments),
        stripped=not any(row.type == "SHT_SYMTAB" or row.name.startswith((".debug_", ".zdebug_")) for row in sections),
        static=kind is BinaryKind.EXECUTABLE and not interpreter and not linked.needed,
    )  # fmt: skip


def _described(elf: ELFFile, window: Window, kind: BinaryKind, **facts: Any) -> BinaryFacts:
    machine: int = struct.unpack(">H" if not elf.little_endian else "<H", window.at(18, 2))[0]
    arm = _arm_facts(elf, kind) if machine == EM_ARM else None
    name = str(elf["e_machine"]).removeprefix("EM_")
    traits = (f"{elf.elfclass}-bit", "" if elf.little_endian else "big-endian", f"{arm.float_abi}-float" if arm else "")
    return BinaryFacts(
        format=Format.ELF, machine=machine, machine_name=f"{name} ({', '.join(filter(None, traits))})", kind=kind,
        bits=elf.elfclass, big_endian=not elf.little_endian, arm=arm, **facts,
    )  # fmt: skip


def _require_table(window: Window, offset: int, count: int, entry_size: int, proper_size: int) -> None:
    if count and entry_size != proper_size:
        raise CorruptBinary("has a header table with entries of a wrong size")
    window.require(offset, count * entry_size)


def _segments(elf: ELFFile, window: Window) -> list[Any]:
    size = elf.structs.Elf_Phdr.sizeof()
    count = elf.num_segments()
    _require_table(window, elf["e_phoff"], count, elf["e_phentsize"], size)
    rows = [struct_parse(elf.structs.Elf_Phdr, elf.stream, elf["e_phoff"] + size * at) for at in range(count)]
    for row in rows:
        if row["p_type"] == "PT_LOAD":
            window.require(row["p_offset"], row["p_filesz"])
    if not any(row["p_type"] == "PT_LOAD" for row in rows):
        raise CorruptBinary("is a program of which nothing would be loaded")
    return rows


def _sections(elf: ELFFile, window: Window) -> Iterator[_Section]:
    size = elf.structs.Elf_Shdr.sizeof()

    def header(index: int) -> Any:
        return struct_parse(elf.structs.Elf_Shdr, elf.stream, elf["e_shoff"] + size * index)

    count = elf.num_sections()
    names = header(elf.get_shstrndx())["sh_offset"] if count and elf.get_shstrndx() else 0
    for index in range(count):
        row = header(index)
        name = _string(window, names + row["sh_name"]) if names and row["sh_name"] else ""
        yield _Section(name=name, type=row["sh_type"], flags=row["sh_flags"])


def _is_detached(sections: Sequence[_Section]) -> bool:
    """Say whether this is debug information that was split off: what would be loaded is there in name only."""
    loaded = [row.type for row in sections if row.flags & _SHF_ALLOC and row.type != "SHT_NOTE"]
    return bool(loaded) and all(kind == "SHT_NOBITS" for kind in loaded)


def _interpreter(window: Window, segment: Any) -> str:
    return printable(window.at(segment["p_offset"], min(segment["p_filesz"], _STRING_BYTES)).partition(b"\0")[0])


def _linked(elf: ELFFile, window: Window, segments: Sequence[Any]) -> _Linked:
    entries = [entry for row in segments if row["p_type"] == "PT_DYNAMIC" for entry in _entries(elf, window, row)]
    values = dict(reversed(entries))
    if "DT_STRTAB" not in values:
        return _Linked(versions={}, pie=bool(values.get("DT_FLAGS_1", 0) & _DF_1_PIE))
    strings = _file_offset(segments, values["DT_STRTAB"])

    def named(*tags: str) -> tuple[str, ...]:
        return tuple(_string(window, strings + value) for tag, value in entries if tag in tags)

    return _Linked(
        needed=named("DT_NEEDED"), soname=next(iter(named("DT_SONAME")), ""),
        rpath=tuple(part for text in named("DT_RPATH", "DT_RUNPATH") for part in text.split(":")),
        versions=_highest(_required(elf, window, segments, values, strings)),
        pie=bool(values.get("DT_FLAGS_1", 0) & _DF_1_PIE),
    )  # fmt: skip


def _entries(elf: ELFFile, window: Window, segment: Any) -> Iterator[tuple[str | int, int]]:
    window.require(segment["p_offset"], segment["p_filesz"])
    size = elf.structs.Elf_Dyn.sizeof()
    for at in range(segment["p_filesz"] // size):
        entry = struct_parse(elf.structs.Elf_Dyn, elf.stream, segment["p_offset"] + at * size)
        if entry["d_tag"] == "DT_NULL":
            return
        yield entry["d_tag"], entry["d_val"]


def _file_offset(segments: Sequence[Any], address: int) -> int:
    for row in segments:
        if row["p_type"] == "PT_LOAD" and 0 <= address - row["p_vaddr"] < row["p_filesz"]:
            return int(address - row["p_vaddr"] + row["p_offset"])
    raise CorruptBinary("has a dynamic table that points outside of what is loaded")


def _required(
    elf: ELFFile, window: Window, segments: Sequence[Any], values: Mapping[str | int, int], strings: int
) -> Iterator[str]:
    """Give the names of the symbol versions that must be there: the chains of DT_VERNEED."""
    at = _file_offset(segments, values["DT_VERNEED"]) if "DT_VERNEED" in values else 0
    for _ in range(values.get("DT_VERNEEDNUM", 0) if at else 0):
        library = struct_parse(elf.structs.Elf_Verneed, elf.stream, at)
        version_at = at + library["vn_aux"]
        for _ in range(library["vn_cnt"]):
            version = struct_parse(elf.structs.Elf_Vernaux, elf.stream, version_at)
            # The loader starts a program without its weak versions.
            if not version["vna_flags"] & _VER_FLG_WEAK:
                yield _string(window, strings + version["vna_name"])
            version_at += version["vna_next"]
        at += library["vn_next"]


def _highest(names: Iterator[str]) -> dict[str, str]:
    highest: dict[str, str] = {}
    for name in names:
        match = _VERSION.match(name)
        prefix, version = _MARKERS.get(name) or (match.groups() if match else (name, ""))
        highest[prefix] = max(highest.get(prefix, ""), version, key=version_order)
    return highest


def _build_id(elf: ELFFile, window: Window, segments: Sequence[Any]) -> str:
    for row in segments:
        if row["p_type"] == "PT_NOTE":
            data = window.at(row["p_offset"], min(row["p_filesz"], _NOTE_BYTES))
            for owner, kind, description in _notes(data, max(row["p_align"], 4), elf.little_endian):
                if (owner, kind) == (b"GNU\0", _NT_GNU_BUILD_ID):
                    return description.hex()
    return ""


def _notes(data: bytes, align: int, little_endian: bool) -> Iterator[tuple[bytes, int, bytes]]:
    """Give owner, type and description of each note (gABI, "Note Section")."""
    head = struct.Struct("<III" if little_endian else ">III")
    at = 0
    while at + head.size <= len(data):
        name_size, size, kind = head.unpack_from(data, at)
        owner = data[at + head.size : at + head.size + name_size]
        start = _rounded(at + head.size + name_size, align)
        yield owner, kind, data[start : start + size]
        at = _rounded(start + size, align)


def _rounded(offset: int, align: int) -> int:
    return -(-offset // align) * align


def _string(window: Window, offset: int) -> str:
    window.seek(offset)
    text, end, _ = window.read(_STRING_BYTES).partition(b"\0")
    if not end:
        raise CorruptBinary("has a name without an end")
    return printable(text)


def _arm_facts(elf: ELFFile, kind: BinaryKind) -> ArmFacts:
    tags = _arm_attributes(elf)
    cpu_arch = tags.get("TAG_CPU_ARCH", -1)
    if kind is not BinaryKind.OBJECT:
        marked = (name for bit, name in _EF_ARM_FLOAT.items() if elf["e_flags"] & bit)
        return ArmFacts(float_abi=next(marked, ""), cpu_arch=cpu_arch)
    # Objects have no flag. Assembly says nothing; compiled code that names a number model and no way to pass
    # arguments passes them in the integer registers.
    passing = {1: "hard", 0: "soft" if tags.get("TAG_ABI_FP_NUMBER_MODEL") else ""}
    return ArmFacts(float_abi=passing.get(tags.get("TAG_ABI_VFP_ARGS", 0), ""), cpu_arch=cpu_arch)


def _arm_attributes(elf: ELFFile) -> dict[str, int]:
    return {
        tag.tag: tag.value
        for section in elf.iter_sections("SHT_ARM_ATTRIBUTES")
        if isinstance(section, ARMAttributesSection)
        for vendor in section.iter_subsections("aeabi")
        for scope in vendor.iter_subsubsections("TAG_FILE")
        for tag in scope.iter_attributes()
        if isinstance(tag.value, int)
    }
