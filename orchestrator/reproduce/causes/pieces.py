"""The texts of a file that another one does not share, and what is found out about them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from builders.names import escaped
from orchestrator.reproduce.causes.values import CauseKind

_SHOWN_BYTES: Final = 100
_BEFORE_BYTES = 30
_MOST_PIECES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A text of a file, and where it stands: its line, or its offset."""

    at: int
    text: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A difference and its reason. A `weak` one is for the guilty axes to settle. `at` is the place in the first."""

    kind: CauseKind
    at: int
    what: str
    weak: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A finding, and what is to be masked for it; `other` is for the second text where that is not the same."""

    finding: Finding
    pattern: re.Pattern[bytes]
    other: re.Pattern[bytes] | None = None


def not_shared(first: Sequence[Piece], second: Sequence[Piece]) -> tuple[list[Piece], list[Piece]]:
    """Give the texts of each that the other has not, or not as often."""
    return _without(first, second), _without(second, first)


def _without(pieces: Sequence[Piece], others: Sequence[Piece]) -> list[Piece]:
    left = Counter(piece.text for piece in others)
    kept: list[Piece] = []
    for piece in pieces:
        if left[piece.text] > 0:
            left[piece.text] -= 1
        elif len(kept) < _MOST_PIECES:
            kept.append(piece)
    return kept


def masked(pieces: Sequence[Piece], pattern: re.Pattern[bytes]) -> list[Piece]:
    """Take out of texts what has been explained."""
    return [Piece(at=piece.at, text=pattern.sub(b"\0", piece.text)) for piece in pieces]


def matches(pieces: Sequence[Piece], pattern: re.Pattern[bytes]) -> list[tuple[Piece, bytes]]:
    """Give what a pattern finds, with the text that it stands in."""
    return [(piece, found.group()) for piece in pieces for found in pattern.finditer(piece.text)]


def pair_of(first: bytes, second: bytes) -> str:
    """Show two texts from a little before the place where they part."""
    start = max(0, _common(first, second) - _BEFORE_BYTES)
    return f"{shown(first[start:])} in the first, {shown(second[start:])} in the second"


def _common(first: bytes, second: bytes) -> int:
    return next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), 0)


def shown(text: bytes) -> str:
    """Quote bytes of an artifact for people, cut to what fits a line."""
    if not text:
        return "nothing"
    return escaped(text.replace(b"\0", b"*")[:_SHOWN_BYTES]) + ("..." if len(text) > _SHOWN_BYTES else "")
