"""Reads the symbols that shared libraries export, by lief."""

from collections.abc import Iterator

from lief import ELF, PE, MachO

from builders.binaries.desktop import parsed_bytes, reading, text_of
from builders.binaries.facts import BinaryFacts, Window
from builders.binaries.surface import Export, SymbolKind
from builders.targets import Format

# Linkers make these for every library; which of them are there is the linker's matter, not the author's.
_LINKERS_OWN = frozenset(
    {"_init", "_fini", "_edata", "_end", "__bss_start", "__bss_start__", "__bss_end__", "_bss_end__", "__end__",
     "___dso_handle", "__mh_dylib_header"}
)  # fmt: skip
_SHN_ABS = 0xFFF1
_BASE_VERSION = 1
_ELF_KINDS = {
    ELF.Symbol.TYPE.FUNC: SymbolKind.FUNCTION, ELF.Symbol.TYPE.GNU_IFUNC: SymbolKind.FUNCTION,
    ELF.Symbol.TYPE.OBJECT: SymbolKind.OBJECT, ELF.Symbol.TYPE.COMMON: SymbolKind.OBJECT,
    ELF.Symbol.TYPE.TLS: SymbolKind.THREAD_LOCAL,
}  # fmt: skip
_SEEN_OUTSIDE = (ELF.Symbol.VISIBILITY.DEFAULT, ELF.Symbol.VISIBILITY.PROTECTED)
_BOUND_OUTSIDE = (ELF.Symbol.BINDING.GLOBAL, ELF.Symbol.BINDING.WEAK, ELF.Symbol.BINDING.GNU_UNIQUE)


def exports(window: Window, facts: BinaryFacts) -> tuple[str, dict[str, Export]]:
    """Give the name of a shared library and what it exports. Raises CorruptBinary."""
    with reading(facts.format.value):
        return _READERS[facts.format](parsed_bytes(window), facts)


def _elf(data: bytes, facts: BinaryFacts) -> tuple[str, dict[str, Export]]:
    image = ELF.parse(data)
    if image is None:
        raise ValueError
    return facts.soname, dict(_elf_exports(image))


def _elf_exports(image: ELF.Binary) -> Iterator[tuple[str, Export]]:
    for symbol in image.dynamic_symbols:
        name, version = text_of(symbol.name), _version(symbol)
        outside = symbol.binding in _BOUND_OUTSIDE and symbol.visibility in _SEEN_OUTSIDE and symbol.shndx
        # GNU ld before 2.35 lists the versions themselves as symbols.
        is_version = symbol.shndx == _SHN_ABS and name == version
        if not name or not outside or version is None or is_version or name in _LINKERS_OWN:
            continue
        kind = _ELF_KINDS.get(symbol.type, SymbolKind.OTHER)
        size = symbol.size if kind in {SymbolKind.OBJECT, SymbolKind.THREAD_LOCAL} else 0
        yield f"{name}@{version}" if version else name, Export(kind=kind, size_bytes=size)


def _version(symbol: ELF.Symbol) -> str | None:
    """Give the version that a symbol is defined with: empty for none, None where a version script keeps it inside."""
    version = symbol.symbol_version
    number = (version.value & 0x7FFF) if version else _BASE_VERSION  # the topmost bit marks all but the default
    if number == 0:
        return None
    known = version.symbol_version_auxiliary if version and number > _BASE_VERSION else None
    return text_of(known.name) if known else ""


def _pe(data: bytes, _: BinaryFacts) -> tuple[str, dict[str, Export]]:
    image = PE.parse(data)
    if image is None:
        raise ValueError
    table = image.get_export()
    if table is None:
        return "", {}
    # At once: lief's rows die with their image.
    names = [text_of(row.name) or f"#{row.ordinal}" for row in table.entries]
    return text_of(table.name), dict.fromkeys(names, Export(kind=SymbolKind.OTHER))


def _macho(data: bytes, facts: BinaryFacts) -> tuple[str, dict[str, Export]]:
    images = MachO.parse(data, MachO.ParserConfig.deep)
    slices = [{text_of(row.name) for row in image.exported_symbols} for image in images or ()]
    if not slices:
        raise ValueError
    # Of a universal library a program may load any slice: what is offered is what each of them has.
    names = set.intersection(*slices) - _LINKERS_OWN
    return facts.soname, dict.fromkeys(names, Export(kind=SymbolKind.OTHER))


_READERS = {Format.ELF: _elf, Format.PE: _pe, Format.MACHO: _macho}
