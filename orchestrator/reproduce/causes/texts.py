"""Compares files of lines: another order of the same lines is told from other lines, however long the file is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from builders.binaries.facts import Window
from orchestrator.reproduce.causes.evidence import compare
from orchestrator.reproduce.causes.orders import reordered
from orchestrator.reproduce.causes.pieces import Finding, Piece
from orchestrator.reproduce.causes.regions import CHUNK_BYTES
from orchestrator.reproduce.causes.values import CauseKind, Hints

_HEAD_BYTES = 8192
_KEPT_BYTES: Final = 1 << 20
_KEPT_LINES: Final = 20_000
_LINE_BYTES = 1 << 16


def is_text(window: Window) -> bool:
    """Tell whether a file begins like lines of UTF-8 text."""
    head = window.at(0, min(window.size, _HEAD_BYTES))
    if not head or b"\0" in head:
        return False
    try:
        head[:-4].decode()
    except UnicodeDecodeError:
        return False
    return not any(byte < 7 or 13 < byte < 27 for byte in head)  # noqa: PLR2004 - controls that no text has


@dataclass(slots=True)
class _Lines:
    """What is kept of a file: the lines that differ at the same number, and a sum that no order changes."""

    sum: int = 0
    count: int = 0
    kept: list[Piece] = field(default_factory=list)
    kept_bytes: int = 0

    def add(self, line: bytes | None, *, keep: bool) -> None:
        if line is None:
            return
        self.count += 1
        self.sum += hash(line)  # keyed anew in each process, so that nobody can choose lines that have one sum
        if keep and self.kept_bytes + len(line) <= _KEPT_BYTES and len(self.kept) < _KEPT_LINES:
            self.kept.append(Piece(at=self.count, text=line))
            self.kept_bytes += len(line)


def text_findings(first: Window, second: Window, hints: Hints) -> list[Finding]:
    """Say why two texts differ. `at` of a finding is a line, from 1."""
    mine, other = _Lines(), _Lines()
    lines, others = _lines(first), _lines(second)
    apart = False
    while True:
        a, b = next(lines, None), next(others, None)
        if a is None and b is None:
            break
        apart = apart or a != b  # from there on all lines are kept: one more line in one file moves the others
        mine.add(a, keep=apart)
        other.add(b, keep=apart)
    if (mine.sum, mine.count) == (other.sum, other.count):
        return _same_lines(mine, other)
    return compare(mine.kept, other.kept, hints) or [_beyond(mine)]


def _same_lines(mine: _Lines, other: _Lines) -> list[Finding]:
    if not mine.kept:
        return [Finding(kind=CauseKind.UNKNOWN, at=mine.count, what="only one ends with an end of line", weak=True)]
    return reordered(mine.kept, other.kept)


def _beyond(mine: _Lines) -> Finding:
    at = mine.kept[-1].at if mine.kept else mine.count
    return Finding(kind=CauseKind.UNKNOWN, at=at, what="lines after this one differ", weak=True)


def _lines(window: Window) -> Iterator[bytes]:
    """Give lines without their end; a longer one than _LINE_BYTES is given in parts."""
    rest = b""
    for at in range(0, window.size, CHUNK_BYTES):
        *whole, rest = (rest + window.at(at, min(CHUNK_BYTES, window.size - at))).split(b"\n")
        for line in whole:
            yield from _parts(line)
        while len(rest) > _LINE_BYTES:
            yield rest[:_LINE_BYTES]
            rest = rest[_LINE_BYTES:]
    if rest:
        yield rest


def _parts(line: bytes) -> Iterator[bytes]:
    if not line:
        yield line
    for at in range(0, len(line), _LINE_BYTES):
        yield line[at : at + _LINE_BYTES]
