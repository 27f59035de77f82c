"""Finds out from the texts that two builds do not share what it was that got into them.

Strongest is the very value of an axis of the first world in the first text and of the second world in the second one;
then come forms that tell by themselves what they are: dates, paths, compilers, addresses. What has been explained is
masked in both texts, so that what is left needs another explanation.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from orchestrator.reproduce.causes.dates import DATE, date_kinds
from orchestrator.reproduce.causes.orders import other_words, reordered
from orchestrator.reproduce.causes.pieces import Explained, Finding, Piece, masked, matches, not_shared, pair_of
from orchestrator.reproduce.causes.values import CauseKind, Hints
from orchestrator.reproduce.causes.worlds import by_short_value, by_world


def compare(first: Sequence[Piece], second: Sequence[Piece], hints: Hints) -> list[Finding]:
    """Say why two sequences of texts differ: no finding where they are equal; UNKNOWN for what nothing explains."""
    mine, other = not_shared(first, second)
    if not mine and not other:
        return reordered(first, second)
    findings: list[Finding] = []
    for rule in _RULES:
        for found in rule(mine, other, hints):
            findings.append(found.finding)
            mine, other = not_shared(masked(mine, found.pattern), masked(other, found.other or found.pattern))
        if not mine and not other:
            return findings
    return [*findings, other_words(mine, other) or _unexplained(mine, other)]


def _by_date(mine: Sequence[Piece], other: Sequence[Piece], hints: Hints) -> Iterator[Explained]:
    a, b = matches(mine, DATE), matches(other, DATE)
    apart = [(x, y) for x, y in zip(a, b, strict=False) if x[1] != y[1]]
    for kind in date_kinds([x[1] for x, _ in apart], [y[1] for _, y in apart], hints) if apart else ():
        (piece, text), (_, second) = apart[0]
        yield Explained(finding=Finding(kind=kind, at=piece.at, what=pair_of(text, second)), pattern=DATE)


_FORMS: Final = (
    (CauseKind.COMPILER_VERSION, re.compile(
        rb"GCC: \([^)]*\) \S+|GNU [A-Z][A-Za-z0-9+]* \d[\w.]*|(?:clang|rustc|zig|LLD|gcc)[ -](?:version )?v?\d[^\s)]*"
        rb"|\bgo1\.\d+(?:\.\d+)?|-m(?:tune|arch|cpu)=\S+")),
    (CauseKind.ADDRESS, re.compile(rb"\b0x[0-9a-fA-F]{5,16}\b|\b(?:5[56][0-9a-f]|7ff?)[0-9a-f]{9,10}\b")),
    (CauseKind.TIME_ZONE, re.compile(
        rb"\b(?:Africa|America|Antarctica|Asia|Atlantic|Australia|Etc|Europe|Indian|Pacific)/[A-Za-z_+0-9/-]+")),
    (CauseKind.PATH, re.compile(rb"(?<![\w.~/-])/(?:[\w.+@~=-]+/)+[\w.+@~=-]*")),
    (CauseKind.LOCALE, re.compile(rb"\b(?:[a-z]{2}_[A-Z]{2}(?:\.[A-Za-z0-9-]+)?|C\.(?:UTF-8|utf8)|POSIX)(?![\w-])")),
    (CauseKind.USER, re.compile(rb"\b[ug]id=\d+(?:\([\w.-]+\))?")),
)  # fmt: skip


def _by_form(mine: Sequence[Piece], other: Sequence[Piece], _hints: Hints) -> Iterator[Explained]:
    for kind, pattern in _FORMS:
        a, b = matches(mine, pattern), matches(other, pattern)
        apart = [(x, y) for x, y in zip(a, b, strict=False) if x[1] != y[1]]
        if apart:
            (piece, text), (_, second) = apart[0]
            finding = Finding(kind=kind, at=piece.at, what=pair_of(text, second))
            yield Explained(finding=finding, pattern=pattern)
            mine, other = not_shared(masked(mine, pattern), masked(other, pattern))


def _unexplained(mine: Sequence[Piece], other: Sequence[Piece]) -> Finding:
    first, second = (mine[0].text if mine else b""), (other[0].text if other else b"")
    at = mine[0].at if mine else other[0].at
    return Finding(kind=CauseKind.UNKNOWN, at=at, what=pair_of(first, second), weak=True)


_RULES: Final = (by_world, _by_date, _by_form, by_short_value)
