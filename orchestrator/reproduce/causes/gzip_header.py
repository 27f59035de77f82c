"""Compares what gzip notes beside the bytes that it holds (RFC 1952, section 2.3)."""

from typing import Final

from builders.binaries.facts import Window
from orchestrator.reproduce.causes.pieces import Finding, shown
from orchestrator.reproduce.causes.values import CauseKind, Hints

_HEAD_BYTES = 10
_TEXT_BYTES = 4096
_EXTRA, _NAME, _COMMENT = 4, 8, 16
_FIELDS: Final = (
    ("time", CauseKind.MTIME),
    ("flags of the compressor", CauseKind.COMPRESSION),
    ("system", CauseKind.ARCHIVE_METADATA),
    ("name", CauseKind.ARCHIVE_METADATA),
    ("comment", CauseKind.ARCHIVE_METADATA),
)


def gzip_findings(first: Window, second: Window, _hints: Hints) -> list[Finding]:
    """Name the fields of two headers that differ. Raises CorruptBinary where one is cut short."""
    mine, other = _header(first), _header(second)
    return [Finding(kind=kind, at=0, what=f"the {word} in the header is {a} in the first, {b} in the second")
            for (word, kind), a, b in zip(_FIELDS, mine, other, strict=True) if a != b]  # fmt: skip


def _header(window: Window) -> tuple[str, ...]:
    head = window.at(0, _HEAD_BYTES)
    flags, rest = head[3], window.at(_HEAD_BYTES, max(0, min(_TEXT_BYTES, window.size - _HEAD_BYTES)))
    if flags & _EXTRA:
        rest = rest[2 + int.from_bytes(rest[:2], "little") :]
    name = comment = b""
    if flags & _NAME:
        name, _, rest = rest.partition(b"\0")
    if flags & _COMMENT:
        comment, _, rest = rest.partition(b"\0")
    return str(int.from_bytes(head[4:8], "little")), str(head[8]), str(head[9]), shown(name), shown(comment)
