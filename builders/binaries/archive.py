"""Reads static libraries: the common `ar` format, with the long names of GNU (System V) and of BSD."""

from collections.abc import Iterator
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
    """One file of an archive."""

    name: str
    window: Window


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
            yield _named(name, body, long_names)
        at += _HEADER_BYTES + body.size + body.size % 2


def _named(name: bytes, body: Window, long_names: bytes) -> Member:
    if name.startswith(b"#1/") and name[3:].isdigit():
        length = int(name[3:])
        text = body.at(0, min(length, body.size, _NAMES_BYTES)).rstrip(b"\0")
        return Member(name=printable(text), window=body.cut(length, body.size - length))
    if name.startswith(b"/") and name[1:].isdigit():
        name = long_names[int(name[1:]) :].partition(b"\n")[0]
    return Member(name=printable(name.removesuffix(b"/")), window=body)
