"""Where two files differ: their bytes are read in windows, so that memory stays flat whatever their size."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from builders.binaries.facts import Window
from orchestrator.reproduce.causes.evidence import compare
from orchestrator.reproduce.causes.pieces import Finding, Piece
from orchestrator.reproduce.causes.values import CauseKind, Hints

CHUNK_BYTES: Final = 1 << 20
_BLOCK_BYTES = 4096
_AROUND_BYTES = 256
_MOST_REGIONS = 16
_TEXT = re.compile(rb"[\x20-\x7e\t]{4,}")
_EPOCHS = range(978_307_200, 2_145_916_800)  # 2001 to 2037
_NEAR_S = 3 * 366 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Bytes of two files where they differ, with some around them; `apart` is the first one that differs."""

    at: int
    first: bytes
    second: bytes
    apart: int


def are_equal(first: Window, second: Window) -> bool:
    """Compare two files window by window."""
    return first.size == second.size and first_difference(first, second) is None


def first_difference(first: Window, second: Window) -> int | None:
    """Give the offset of the first byte that is not the same, or None where one begins with the other."""
    for at in range(0, min(first.size, second.size), CHUNK_BYTES):
        size = min(CHUNK_BYTES, first.size - at, second.size - at)
        a, b = first.at(at, size), second.at(at, size)
        if a != b:
            return at + apart_at(a, b)
    return None if first.size == second.size else min(first.size, second.size)


def apart_at(first: bytes, second: bytes) -> int:
    """Give the index of the first byte that differs, in a few steps; the shorter length where none does."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def regions(first: Window, second: Window) -> Iterator[Region]:
    """Give the first places where two files differ; a small file is one region, so that what moved is found, too."""
    apart = first_difference(first, second)
    if apart is None:
        return
    if max(first.size, second.size) <= CHUNK_BYTES:
        yield Region(at=0, first=first.at(0, first.size), second=second.at(0, second.size), apart=apart)
    elif first.size != second.size:
        yield _from(first, second, apart, CHUNK_BYTES - _AROUND_BYTES)
    else:
        yield from _blocks(first, second, apart)


def _blocks(first: Window, second: Window, apart: int) -> Iterator[Region]:
    """Give blocks that differ of two files of one size: nothing has moved between them."""
    found, at = 0, apart
    while at < first.size and found < _MOST_REGIONS:
        size = min(CHUNK_BYTES, first.size - at)
        a, b = first.at(at, size), second.at(at, size)
        if a == b:
            at += size
            continue
        region = _from(first, second, at + apart_at(a, b), _BLOCK_BYTES)
        yield region
        found, at = found + 1, region.at + len(region.first)


def _from(first: Window, second: Window, apart: int, size: int) -> Region:
    at = max(0, apart - _AROUND_BYTES)
    return Region(at=at, first=_cut(first, at, apart + size), second=_cut(second, at, apart + size), apart=apart)


def _cut(window: Window, start: int, end: int) -> bytes:
    return window.at(min(start, window.size), max(0, min(end, window.size) - start))


def byte_findings(first: Window, second: Window, hints: Hints) -> list[Finding]:
    """Say why two files of no known form differ; what is not explained is told once, and last."""
    findings: dict[CauseKind, Finding] = {}
    for region in regions(first, second):
        for finding in _region_findings(region, hints):
            findings.setdefault(finding.kind, finding)
    unknown = findings.pop(CauseKind.UNKNOWN, None)
    return list(findings.values()) or ([unknown] if unknown else [])


def _region_findings(region: Region, hints: Hints) -> list[Finding]:
    found = compare(_pieces(region.first, region.at), _pieces(region.second, region.at), hints)
    known = [finding for finding in found if finding.kind is not CauseKind.UNKNOWN]
    return known or _numbers(region) or found or [_plain(region)]


def _pieces(data: bytes, start: int) -> list[Piece]:
    return [Piece(at=start + found.start(), text=found.group()) for found in _TEXT.finditer(data)]


def _numbers(region: Region) -> list[Finding]:
    """Take the number in which two files differ first for a time, where nothing else there differs and both are near.

    A chance of one in thousands is left that a number that is none looks like a time.
    """
    at = (region.apart & ~3) - region.at
    a, b = (data[at : at + 4] for data in (region.first, region.second))
    alone = region.first[at + 4 : at + 8] == region.second[at + 4 : at + 8]
    for first, second in ((int.from_bytes(a, "little"), int.from_bytes(b, "little")),
                          (int.from_bytes(a, "big"), int.from_bytes(b, "big"))):  # fmt: skip
        if alone and first in _EPOCHS and second in _EPOCHS and abs(first - second) < _NEAR_S:
            what = f"a number of 32 bits is {first} in the first and {second} in the second: seconds since 1970"
            return [Finding(kind=CauseKind.DATE_STRING, at=region.at + at, what=what)]
    return []


def _plain(region: Region) -> Finding:
    start = region.apart - region.at
    a, b = region.first[start : start + 16].hex(" "), region.second[start : start + 16].hex(" ")
    what = f"the bytes {a or 'end'} in the first, {b or 'end'} in the second"
    return Finding(kind=CauseKind.UNKNOWN, at=region.apart, what=what, weak=True)
