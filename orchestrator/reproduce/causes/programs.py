"""Compares programs section by section: what a linker derives from the rest is told only where the rest is equal."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from builders.binaries.facts import Window
from orchestrator.reproduce.causes.evidence import compare
from orchestrator.reproduce.causes.pieces import Finding, Piece
from orchestrator.reproduce.causes.regions import CHUNK_BYTES, are_equal, byte_findings
from orchestrator.reproduce.causes.values import CauseKind, Hints

_DERIVED: Final = frozenset({".note.gnu.build-id", ".note.go.buildid", ".gnu_debuglink", ".gnu.build.attributes"})
_TELLING: Final = (".rodata", ".data", ".comment", ".debug_line_str", ".debug_str", ".debug", ".strtab", ".dynstr")
"""Sections whose texts tell most, best first."""
_WITH_DATES: Final = (".rodata", ".data", ".debug_str", ".note")
_NAMES: Final = frozenset({".strtab", ".dynstr", ".shstrtab"})
_NAME = re.compile(rb"[^\0]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A finding in a section, or in the whole file where `section` is empty."""

    section: str
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class _Both:
    name: str
    first: Window | None
    second: Window | None


def elf_spots(first: Window, second: Window, hints: Hints) -> list[Spot]:
    """Say why two ELF files differ. Raises CorruptBinary."""
    apart = sorted(_apart(first, second), key=lambda both: _rank(both.name))
    found = [Spot(section=both.name, finding=finding) for both in apart if both.name not in _DERIVED
             for finding in _section_findings(both, hints)]  # fmt: skip
    known = _one_of_a_kind(spot for spot in found if spot.finding.kind is not CauseKind.UNKNOWN)
    if known or found:
        return known or found[:1]
    return [_derived(both) for both in apart][:1]


def _apart(first: Window, second: Window) -> list[_Both]:
    mine, other = _sections(first), _sections(second)
    pairs = [_Both(name=key[0], first=mine.get(key), second=other.get(key)) for key in {**mine, **other}]
    return [both for both in pairs if not (both.first and both.second and are_equal(both.first, both.second))]


def _sections(window: Window) -> dict[tuple[str, int], Window]:
    from builders.binaries.sections import read_sections  # noqa: PLC0415 - pyelftools costs 0.1 s

    seen: Counter[str] = Counter()
    found: dict[tuple[str, int], Window] = {}
    for section in read_sections(window):
        found[section.name, seen[section.name]] = section.window
        seen[section.name] += 1
    return found


def _rank(name: str) -> int:
    return next((rank for rank, prefix in enumerate(_TELLING) if name.startswith(prefix)), len(_TELLING))


def _one_of_a_kind(spots: Iterable[Spot]) -> list[Spot]:
    kept: dict[CauseKind, Spot] = {}
    for spot in spots:
        kept.setdefault(spot.finding.kind, spot)
    return list(kept.values())


def _section_findings(both: _Both, hints: Hints) -> list[Finding]:
    if both.first is None or both.second is None:
        where = "second" if both.first is None else "first"
        return [Finding(kind=CauseKind.MISSING, at=0, what=f"the section is in the {where} only", weak=True)]
    if both.name in _NAMES and max(both.first.size, both.second.size) <= CHUNK_BYTES:
        return compare(_names(both.first), _names(both.second), hints)
    found = byte_findings(both.first, both.second, hints)
    if both.name == ".comment":
        return [Finding(kind=CauseKind.COMPILER_VERSION, at=row.at, what=row.what) for row in found]
    # A number in code or in a table of lines may look like a time by chance.
    keeps = both.name.startswith(_WITH_DATES) or all(row.kind is not CauseKind.DATE_STRING for row in found)
    return found if keeps else [Finding(kind=CauseKind.UNKNOWN, at=row.at, what=row.what, weak=True) for row in found]


def _names(window: Window) -> list[Piece]:
    return [Piece(at=found.start(), text=found.group()) for found in _NAME.finditer(window.at(0, window.size))]


def _derived(both: _Both) -> Spot:
    ids = [window.at(max(0, window.size - 20), min(window.size, 20)).hex() if window else "not there"
           for window in (both.first, both.second)]  # fmt: skip
    what = f"all else is equal, and it ends in {ids[0]} in the first, {ids[1]} in the second"
    return Spot(section=both.name, finding=Finding(kind=CauseKind.BUILD_ID, at=0, what=what))


# --- PE, and byte-compiled Python --------------------------------------------------------------------------------

_PE_AT, _PE_TIME_AT = 60, 8
_PYC_HEAD = re.compile(rb"..\r\n\0\0\0\0", re.DOTALL)


def pe_spots(first: Window, second: Window, _hints: Hints) -> list[Spot]:
    """Compare the time that a PE header notes (PE Format, "COFF File Header")."""
    at = int.from_bytes(first.at(_PE_AT, 4), "little") + _PE_TIME_AT
    times = [int.from_bytes(window.at(at, 4), "little") for window in (first, second)]
    return _time_spot("COFF header", at, times, "link with -Wl,--no-insert-timestamp")


def pyc_spots(first: Window, second: Window, _hints: Hints) -> list[Spot]:
    """Compare the time of the source that byte-compiled Python notes (PEP 552)."""
    times = [int.from_bytes(window.at(8, 4), "little") for window in (first, second)]
    return _time_spot("header", 8, times, "compile with --invalidation-mode checked-hash")


def _time_spot(section: str, at: int, times: list[int], mend: str) -> list[Spot]:
    if times[0] == times[1]:
        return []
    what = f"the time is {times[0]} in the first, {times[1]} in the second (seconds since 1970); {mend}"
    return [Spot(section=section, finding=Finding(kind=CauseKind.MTIME, at=at, what=what))]


def reader_of(first: Window, second: Window) -> Callable[[Window, Window, Hints], list[Spot]] | None:
    """Give what compares two programs of one form, or None where they are none."""
    heads = [window.at(0, min(window.size, 64)) for window in (first, second)]
    if all(head.startswith(b"\x7fELF") for head in heads):
        return elf_spots
    if all(head.startswith(b"MZ") and len(head) == 64 for head in heads):  # noqa: PLR2004 - the DOS header
        return pe_spots
    return pyc_spots if all(_PYC_HEAD.match(head) and len(head) >= 16 for head in heads) else None  # noqa: PLR2004 - PEP 552
