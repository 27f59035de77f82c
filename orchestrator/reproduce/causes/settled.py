"""Makes causes of findings: the axes that were found guilty decide where the bytes alone do not tell."""

from collections.abc import Mapping, Sequence
from typing import Final

from orchestrator.reproduce.causes.pieces import Finding
from orchestrator.reproduce.causes.values import AXIS_KINDS, MENDS, NOTHING_VARIED, Cause, CauseKind, Hints

_ANY: Final = frozenset(AXIS_KINDS.values())
_MAY_BE: Final[Mapping[CauseKind, frozenset[CauseKind]]] = {
    CauseKind.UNKNOWN: _ANY,
    CauseKind.MISSING: _ANY - {CauseKind.ADDRESS},
    CauseKind.ORDER: frozenset({CauseKind.LOCALE, CauseKind.CPU_COUNT, CauseKind.ENVIRONMENT}),
    CauseKind.ARCHIVE_METADATA: frozenset({CauseKind.USER, CauseKind.UMASK}),
}
"""What a weak finding turns out to be where the guilty axis says so: no umask sorts lines."""


def settled(findings: Sequence[tuple[str, Finding]], hints: Hints) -> tuple[Cause, ...]:
    """Give a cause for each place and finding."""
    strong = {finding.kind for _, finding in findings if not finding.weak}
    open_axes = [axis for axis in hints.guilty_axes if AXIS_KINDS.get(axis) not in strong]
    return tuple(dict.fromkeys(_cause(place, finding, open_axes) for place, finding in findings))


def _cause(place: str, finding: Finding, open_axes: Sequence[str]) -> Cause:
    axis = _guilty(finding, open_axes)
    kind = AXIS_KINDS[axis] if axis else finding.kind
    return Cause(kind=kind, place=place, text=f"{finding.what}{_seen(axis)}; {MENDS[kind]}")


def _guilty(finding: Finding, open_axes: Sequence[str]) -> str:
    may_be = _MAY_BE.get(finding.kind, frozenset()) if finding.weak else frozenset()
    # Two builds in one world that differ are told last: an axis that adds to that is a reason of its own.
    ordered = sorted(open_axes, key=lambda axis: axis == NOTHING_VARIED)
    return next((axis for axis in ordered if AXIS_KINDS.get(axis) in may_be), "")


def _seen(axis: str) -> str:
    if not axis:
        return ""
    if axis == NOTHING_VARIED:
        return "; two builds in one and the same world differ here, too"
    return f"; so does a rebuild that varies the {axis.replace('_', ' ')} alone"
