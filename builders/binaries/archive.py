"""Reads static libraries: the common `ar` format, with the long names of GNU (System V) and of BSD."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from builders.binaries.facts import CorruptBinary, Window, printable

MAGIC = b"!<arch>\n"
THIN_MAGIC = b"!<thin>\n"
_HEADER_BYTES = 60
_END = b"`\n"
_NAMES_BYTES = 1 << 20
_NO_OBJECTS = (b"/", b"//", b"/SYM64/", b"__.SYMDEF", b"__.SYMDEF SORTED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of an archive. `header` has its date, owner and mode as they stand there."""

    name: str
    window: Window
    header: bytes


def members(window: Window) -> Iterator[Member]:
    """Give the files of an archive, one at a time, without its symbol tables. Raises CorruptBinary."""
    at, long_names = len(MAGIC), b""
    while at < window.size:
        header = window.at(at, _HEADER_BYTES)
        size_text = header[48:58].strip()
        if header[58:] != _END or not size_text.isdigit():
            raise CorruptBinary("is an archive with a broken header inside")
        body = window.cut(at + _HEADER_BYTES, int(size_text))
        name = header[:16].rstrip(b" ")
        if name == b"//":
            long_names = body.at(0, min(body.size, _NAMES_BYTES))
        elif name not in _NO_OBJECTS:
            yield _named(header, body, long_names)
        at += _HEADER_BYTES + body.size + body.size % 2


def symbol_names(window: Window) -> frozenset[str] | None:
    """Give the names that an archive's own table lists for the linker; None where it has no table.

    Formats: System V (a count and offsets, big-endian, 4 or 8 bytes each, then the names), and BSD's ranlib.
    Raises CorruptBinary.
    """
    header = window.at(len(MAGIC), _HEADER_BYTES) if window.size > len(MAGIC) + _HEADER_BYTES else b" " * _HEADER_BYTES
    size_text = header[48:58].strip()
    if not size_text.isdigit():
        return None
    table = window.cut(len(MAGIC) + _HEADER_BYTES, int(size_text))
    name = header[:16].rstrip(b" ")
    if name.startswith(b"#1/") and name[3:].isdigit():
        length = int(name[3:])
        name = table.at(0, min(length, _NAMES_BYTES)).rstrip(b"\0")
        table = table.cut(length, table.size - length)
    reader = _TABLES.get(name)
    return reader(table.whole()) if reader else None


def _system_v(word: int) -> Callable[[bytes], frozenset[str]]:
    def read(table: bytes) -> frozenset[str]:
        count = int.from_bytes(table[:word], "big")
        names = table[word * (count + 1) :].split(b"\0")
        if len(names) <= count:
            raise CorruptBinary("has a table of symbols that is cut short")
        return frozenset(map(printable, names[:count]))

    return read


def _bsd(table: bytes) -> frozenset[str]:
    rows_bytes = int.from_bytes(table[:4], "little")
    strings = table[8 + rows_bytes :]
    starts = (int.from_bytes(table[at : at + 4], "little") for at in range(4, 4 + rows_bytes, 8))
    return frozenset(printable(strings[start:].partition(b"\0")[0]) for start in starts)


_TABLES: dict[bytes, Callable[[bytes], frozenset[str]]] = {
    b"/": _system_v(4), b"/SYM64/": _system_v(8), b"__.SYMDEF": _bsd, b"__.SYMDEF SORTED": _bsd,
}  # fmt: skip


def _named(header: bytes, body: Window, long_names: bytes) -> Member:
    name = header[:16].rstrip(b" ")
    if name.startswith(b"#1/") and name[3:].isdigit():
        length = int(name[3:])
        text = body.at(0, min(length, body.size, _NAMES_BYTES)).rstrip(b"\0")
        return Member(name=printable(text), window=body.cut(length, body.size - length), header=header)
    if name.startswith(b"/") and name[1:].isdigit():
        name = long_names[int(name[1:]) :].partition(b"\n")[0]
    return Member(name=printable(name.removesuffix(b"/")), window=body, header=header)
