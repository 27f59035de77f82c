"""Reads the traces that defences leave in programs, by lief."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lief import ELF, PE, MachO

from builders.binaries.desktop import parsed_bytes, reading, text_of
from builders.binaries.facts import BinaryFacts, BinaryKind, Window
from builders.binaries.hardening import Hardening, Mark, State, Trait
from builders.targets import Format

_GO: Final = b"\xff Go buildinf:"
_RUST: Final = re.compile(rb"/rustc/[0-9a-f]{40}|rustc version [0-9]")
_DF_BIND_NOW, _DF_1_NOW, _MH_PIE, _MH_STACK_EXECUTION = 0x8, 0x1, 0x200000, 0x20000
_CANARY = frozenset({"__stack_chk_fail", "__stack_chk_fail_local", "__stack_chk_guard", "__stack_smash_handler"})
_CHECKED = re.compile(r"__(?!stack)\w+_chk")
_CHECKABLE = frozenset({
    "memcpy", "memmove", "memset", "mempcpy", "strcpy", "strncpy", "stpcpy", "stpncpy", "strcat", "strncat",
    "sprintf", "snprintf", "vsprintf", "vsnprintf", "printf", "fprintf", "vprintf", "vfprintf", "dprintf",
    "asprintf", "vasprintf", "syslog", "gets", "fgets", "fread", "read", "pread", "recv", "recvfrom", "readlink",
    "getcwd", "realpath", "gethostname", "poll", "confstr", "getgroups", "mbstowcs", "wcstombs", "wmemcpy", "wcscpy",
    "swprintf",
})  # fmt: skip
"""Functions that glibc checks with _FORTIFY_SOURCE where it can (glibc manual, "Source Fortification")."""

_ON, _OFF = Mark(state=State.ON), Mark(state=State.OFF)


def traits(window: Window, facts: BinaryFacts) -> Hardening:
    """Give the defences of a program or a shared library. Raises CorruptBinary."""
    with reading(facts.format.value):
        return _READERS[facts.format](parsed_bytes(window), facts)


def _when(condition: object) -> Mark:
    return _ON if condition else _OFF


def _not_applicable(why: str) -> Mark:
    return Mark(state=State.NOT_APPLICABLE, why=why)


# --- ELF ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    """An ELF file with what the rules below ask of it. `language` is "Go", "Rust" or empty."""

    image: ELF.Binary
    facts: BinaryFacts
    language: str
    imports: frozenset[str]

    @property
    def fixed(self) -> bool:
        """Say whether nothing of it is moved or linked when it starts."""
        return self.facts.static and self.image.header.file_type is ELF.Header.FILE_TYPE.EXEC

    @property
    def musl(self) -> bool:
        names = (self.facts.interpreter, *self.facts.needed)
        return any("ld-musl-" in name or name.startswith("libc.musl-") for name in names)


def _elf(data: bytes, facts: BinaryFacts) -> Hardening:
    image = ELF.parse(data)
    if image is None:
        raise ValueError
    imports = frozenset(text_of(row.name) for row in image.dynamic_symbols if not row.shndx)
    program = _Program(image=image, facts=facts, language=_language(data), imports=imports)
    return {trait: look(program) for trait, look in _ELF_TRAITS.items()}


def _language(data: bytes) -> str:
    # Both link C's run time where they need it, so that symbols alone do not tell them from C.
    if _GO in data:
        return "Go"
    return "Rust" if _RUST.search(data) else ""


def _pie(program: _Program) -> Mark:
    if program.facts.kind is BinaryKind.SHARED:
        return _not_applicable("a shared library has no fixed address")
    if program.language == "Go" and program.fixed:
        return _not_applicable("Go links at a fixed address unless it is asked not to, and checks its bounds itself")
    return _when(program.image.header.file_type is ELF.Header.FILE_TYPE.DYN)


def _relro(program: _Program) -> Mark:
    there = any(row.type is ELF.Segment.TYPE.GNU_RELRO for row in program.image.segments)
    if not there and program.fixed:
        return _not_applicable("linked statically at a fixed address: the loader writes no tables into it")
    return _when(there)


def _bind_now(program: _Program) -> Mark:
    values = {row.tag: row.value for row in program.image.dynamic_entries}
    if not program.facts.needed:
        return _not_applicable("no symbol of another library is looked up")
    tags = ELF.DynamicEntry.TAG
    flags, more = values.get(tags.FLAGS, 0), values.get(tags.FLAGS_1, 0)
    return _when(tags.BIND_NOW in values or flags & _DF_BIND_NOW or more & _DF_1_NOW)


def _nx(program: _Program) -> Mark:
    stack = [row for row in program.image.segments if row.type is ELF.Segment.TYPE.GNU_STACK]
    if not stack:
        return Mark(state=State.OFF, why="it has no PT_GNU_STACK, and the kernel then may make its stack executable")
    return _when(not any(row.has(ELF.Segment.FLAGS.X) for row in stack))


def _canary(program: _Program) -> Mark:
    return _by_imports(program, lambda imports: _when(imports & _CANARY))


def _fortify(program: _Program) -> Mark:
    if program.musl:
        return _not_applicable("musl has no checked functions")
    return _by_imports(program, _fortified)


def _fortified(imports: frozenset[str]) -> Mark:
    if any(_CHECKED.fullmatch(name) for name in imports):
        return _ON
    return _OFF if imports & _CHECKABLE else _not_applicable("it calls nothing that glibc could check")


def _by_imports(program: _Program, look: Callable[[frozenset[str]], Mark]) -> Mark:
    if program.language:
        return _not_applicable(f"{program.language} checks its bounds itself")
    if program.facts.static or not program.facts.needed:
        return Mark(
            state=State.HIDDEN, why="it names no library: its own calls and those of a C library inside look the same"
        )
    return look(program.imports)


_ELF_TRAITS: Final[Mapping[Trait, Callable[[_Program], Mark]]] = {
    Trait.PIE: _pie, Trait.RELRO: _relro, Trait.BIND_NOW: _bind_now, Trait.NX: _nx, Trait.CANARY: _canary,
    Trait.FORTIFY: _fortify,
}  # fmt: skip


# --- Windows and macOS -------------------------------------------------------------------------------------------


def _pe(data: bytes, _: BinaryFacts) -> Hardening:
    image = PE.parse(data)
    if image is None:
        raise ValueError
    flags = PE.OptionalHeader.DLL_CHARACTERISTICS
    wanted = {
        Trait.PIE: flags.DYNAMIC_BASE, Trait.NX: flags.NX_COMPAT, Trait.HIGH_ENTROPY: flags.HIGH_ENTROPY_VA,
        Trait.GUARD_CF: flags.GUARD_CF,
    }  # fmt: skip
    return {trait: _when(image.optional_header.has(flag)) for trait, flag in wanted.items()}


def _macho(data: bytes, facts: BinaryFacts) -> Hardening:
    images = MachO.parse(data, MachO.ParserConfig.deep)  # kept while its slices are read: they die with it
    if not images or not len(images):
        raise ValueError
    language = _language(data)
    return _worst([_slice(image, facts, language) for image in images])


def _slice(image: MachO.Binary, facts: BinaryFacts, language: str) -> Hardening:
    flags = int(image.header.flags)
    imports = {text_of(row.name).removeprefix("_") for row in image.imported_symbols}
    pie = _when(flags & _MH_PIE)
    return {
        Trait.PIE: pie if facts.kind is BinaryKind.EXECUTABLE else _not_applicable("a library has no fixed address"),
        Trait.NX: _when(not flags & _MH_STACK_EXECUTION),
        Trait.CANARY: _not_applicable(f"{language} checks its bounds itself") if language else _when(imports & _CANARY),
    }


def _worst(slices: Iterable[Hardening]) -> Hardening:
    order = (State.OFF, State.HIDDEN, State.NOT_APPLICABLE, State.ON)
    first, *others = slices
    return {trait: min((mark, *(row[trait] for row in others)), key=lambda one: order.index(one.state))
            for trait, mark in first.items()}  # fmt: skip


_READERS: Final[Mapping[Format, Callable[[bytes, BinaryFacts], Hardening]]] = {
    Format.ELF: _elf, Format.PE: _pe, Format.MACHO: _macho,
}  # fmt: skip
