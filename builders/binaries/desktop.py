"""Reads Mach-O (universal too) and PE files.

The machine comes from the first bytes; the rest is lief's work, which holds the whole file in memory: hence a bound.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from lief import PE, MachO, logging

from builders.binaries.coff import COFF_HEADER, machine_name
from builders.binaries.facts import BinaryFacts, BinaryKind, CorruptBinary, Window, printable
from builders.targets import Format

_PARSED_BYTES = 512 << 20
_HEAD_BYTES = 32
_THIN_MAGICS = {
    b"\xce\xfa\xed\xfe": ("<", 32), b"\xcf\xfa\xed\xfe": ("<", 64),
    b"\xfe\xed\xfa\xce": (">", 32), b"\xfe\xed\xfa\xcf": (">", 64),
}  # fmt: skip
_FAT_MAGICS = {b"\xca\xfe\xba\xbe": ">2I3I", b"\xca\xfe\xba\xbf": ">2I2Q2I"}
# Java classes begin with the same four bytes; the number that follows is their version, 45 or more.
_MOST_SLICES = 44
_MACHO_KINDS = {1: BinaryKind.OBJECT, 2: BinaryKind.EXECUTABLE, 6: BinaryKind.SHARED, 8: BinaryKind.SHARED}
_IMAGE_FILE_DLL = 0x2000
_PE_SUFFIXES = (".exe", ".dll", ".sys", ".pyd")


def read_macho(window: Window) -> BinaryFacts | None:
    """Give the facts of a Mach-O file, or None where the bytes are none. Raises CorruptBinary."""
    with reading("Mach-O"):
        return _macho(window)


def _macho(window: Window) -> BinaryFacts | None:
    head = window.at(0, min(window.size, _HEAD_BYTES))
    if head[:4] in _THIN_MAGICS:
        return _slice(window, head, "")
    layout = _FAT_MAGICS.get(head[:4])
    count = int.from_bytes(head[4:8], "big")
    if layout is None or not 0 < count <= _MOST_SLICES:
        return None
    slices = tuple(_slices(window, struct.Struct(layout), count))
    first = slices[0]
    return BinaryFacts(
        format=Format.MACHO, machine=first.machine, machine_name="+".join(row.machine_name for row in slices),
        kind=first.kind, soname=first.soname, members=slices,
    )  # fmt: skip


def _slices(window: Window, row: struct.Struct, count: int) -> Iterator[BinaryFacts]:
    for index in range(count):
        _, _, offset, size, *_ = row.unpack(window.at(8 + index * row.size, row.size))
        part = window.cut(offset, size)
        head = part.at(0, min(part.size, _HEAD_BYTES))
        if head[:4] not in _THIN_MAGICS:
            raise CorruptBinary("is a universal file with a slice that is no program")
        yield _slice(part, head, f"slice {index + 1}")


def _slice(window: Window, head: bytes, member: str) -> BinaryFacts:
    order, bits = _THIN_MAGICS[head[:4]]
    window.require(0, _HEAD_BYTES)
    cpu, _, kind, commands, commands_size = struct.unpack(f"{order}5I", head[4:24])
    window.require(0, commands_size + (32 if bits == 64 else 28))  # noqa: PLR2004 - mach_header_64, mach_header
    binary = MachO.parse(parsed_bytes(window), MachO.ParserConfig.quick)
    image = binary.at(0) if binary is not None and len(binary) else None
    if image is None or len(image.commands) != commands:
        raise ValueError
    _require_segments(window, image)
    return _image_facts(image, machine=cpu, kind=_MACHO_KINDS.get(kind, BinaryKind.OTHER), bits=bits, member=member)


def _require_segments(window: Window, image: MachO.Binary) -> None:
    for segment in image.segments:
        window.require(segment.file_offset, segment.file_size)


def _image_facts(image: MachO.Binary, *, machine: int, kind: BinaryKind, bits: int, member: str) -> BinaryFacts:
    libraries = [(row.command, text_of(row.name)) for row in image.libraries]
    own = MachO.LoadCommand.TYPE.ID_DYLIB
    symbols = image.dynamic_symbol_command
    return BinaryFacts(
        format=Format.MACHO, machine=machine, machine_name=machine_name(Format.MACHO, machine), kind=kind, bits=bits,
        interpreter=text_of(image.dylinker.name) if image.dylinker else "",
        needed=tuple(name for command, name in libraries if command != own),
        soname=next((name for command, name in libraries if command == own), ""),
        rpath=tuple(text_of(row.path) for row in image.rpaths),
        stripped=not (symbols and symbols.nb_local_symbols),
        build_id=bytes(image.uuid.uuid).hex() if image.uuid else "", member=member,
    )  # fmt: skip


def read_pe(window: Window, name: str) -> BinaryFacts | None:
    """Give the facts of a file that begins with MZ, or None where nothing else says that it is a program."""
    offset = int.from_bytes(window.at(60, 4), "little") if window.size >= 64 else window.size  # noqa: PLR2004 - DOS header
    if offset + 24 > window.size or window.at(offset, 4) != b"PE\0\0":
        if name.lower().endswith(_PE_SUFFIXES):
            raise CorruptBinary("begins like a Windows program and has no PE header")
        return None
    machine, _, _, _, _, _, flags = COFF_HEADER.unpack(window.at(offset + 4, COFF_HEADER.size))
    kind = BinaryKind.SHARED if flags & _IMAGE_FILE_DLL else BinaryKind.EXECUTABLE
    with reading("PE"):
        return _pe_facts(window, machine, kind)


def _pe_facts(window: Window, machine: int, kind: BinaryKind) -> BinaryFacts:
    wanted = PE.ParserConfig()
    wanted.parse_signature = wanted.parse_rsrc = wanted.parse_reloc = wanted.parse_exports = False
    image = PE.parse(parsed_bytes(window), wanted)
    if image is None:
        raise ValueError
    for section in image.sections:
        window.require(section.pointerto_raw_data, section.sizeof_raw_data)
    debug = image.codeview_pdb
    return BinaryFacts(
        format=Format.PE, machine=machine, machine_name=machine_name(Format.PE, machine), kind=kind,
        needed=tuple(_imports(image)), build_id=text_of(debug.guid) if debug else "",
        stripped=not (
            image.header.numberof_symbols or any(text_of(row.name)[:7] == ".debug_" for row in image.sections)
        ),
    )  # fmt: skip


def _imports(image: PE.Binary) -> Iterator[str]:
    for row in image.imports:
        yield text_of(row.name)
    for late in image.delay_imports:
        yield text_of(late.name)


@contextmanager
def reading(form: str) -> Iterator[None]:
    """Turn what lief raises over hostile bytes into CorruptBinary: names that are no UTF-8, fields out of range."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, struct.error) as error:
        raise CorruptBinary(f"has a {form} header, and what follows cannot be read") from error


def parsed_bytes(window: Window) -> bytes:
    """Give a whole file for lief, which is kept from printing. Raises CorruptBinary for one that is too large."""
    if window.size > _PARSED_BYTES:
        raise CorruptBinary(f"is larger than the {_PARSED_BYTES >> 20} MiB that can be looked into")
    logging.disable()
    return window.whole()


def text_of(name: str | bytes) -> str:
    """Give a name of lief's as text that is safe on a terminal."""
    return printable(name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape"))
