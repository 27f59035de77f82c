"""Tells another order of the same texts, and whose order it is."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence

from orchestrator.reproduce.causes.pieces import Finding, Piece, pair_of
from orchestrator.reproduce.causes.values import CauseKind


def reordered(first: Sequence[Piece], second: Sequence[Piece]) -> list[Finding]:
    """Say where texts, the same in both, stand in another order; nothing where they do not."""
    texts, others = [piece.text for piece in first], [piece.text for piece in second]
    at = next((number for number, pair in enumerate(zip(texts, others, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        return []
    shown = f"the same texts stand in another order: first {pair_of(texts[at], others[at])}"
    if is_sorted_by_locale(texts, others):
        return [Finding(kind=CauseKind.LOCALE, at=first[at].at, what=f"{shown}; one is sorted by bytes, one as a "
                        "dictionary is")]  # fmt: skip
    return [Finding(kind=CauseKind.ORDER, at=first[at].at, what=shown, weak=True)]


_WORD = re.compile(rb"[^\s,;:\"']+")


def other_words(mine: Sequence[Piece], other: Sequence[Piece]) -> Finding | None:
    """Tell whether two texts are the same words in another order: a list within a line."""
    if not mine or not other:
        return None
    words, others = _WORD.findall(mine[0].text), _WORD.findall(other[0].text)
    if Counter(words) != Counter(others):
        return None
    what = f"the same words stand in another order: {pair_of(mine[0].text, other[0].text)}"
    kind = CauseKind.LOCALE if is_sorted_by_locale(words, others) else CauseKind.ORDER
    return Finding(kind=kind, at=mine[0].at, what=what, weak=kind is CauseKind.ORDER)


def is_sorted_by_locale(first: Sequence[bytes], second: Sequence[bytes]) -> bool:
    """Tell whether one of two orders is that of the bytes, and the other one that of letters without their case."""
    return any(_rises(a, bytes) and _rises(b, _letters) and not _rises(b, bytes)
               for a, b in ((first, second), (second, first)))  # fmt: skip


def _rises(texts: Sequence[bytes], key: Callable[[bytes], bytes]) -> bool:
    keys = [key(text) for text in texts]
    return all(a <= b for a, b in itertools.pairwise(keys))


def _letters(text: bytes) -> bytes:
    return re.sub(rb"[^a-z0-9\x80-\xff]", b"", text.lower())
