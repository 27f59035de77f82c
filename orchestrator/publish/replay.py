"""What the events of an index lead to, worked out once: one that extends it then needs only its new lines read.

Whatever is kept here was read and checked in this process; nothing of it is ever written down.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.publication import EventType, Index
from orchestrator.publish import index_rows
from orchestrator.publish.history import BadEvent, History
from orchestrator.publish.index_json import BadIndex
from orchestrator.publish.merkle import Peaks, head_of, peaks_of, peaks_with

_KINDS: Final = {kind.value: kind for kind in EventType}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The state behind the last event. Its history is shared: whoever lets something happen takes a copy."""

    history: History
    audits: Mapping[str, str]
    """The audit of each published version, in the order of publication."""
    peaks: Peaks

    @property
    def root(self) -> str:
        """Give the tree head over the events."""
        return head_of(self.peaks)


START: Final = Replay(history=History(), audits={}, peaks=())


def replay_of(index: Index | None) -> Replay:
    """Give the state that an index's events lead to. Raises BadIndex."""
    if index is None:
        return START
    if not isinstance(index.replay, Replay):
        keep(index, replayed(index.events.lines))
    assert isinstance(index.replay, Replay)  # noqa: S101 - kept just now
    return index.replay


def history_of(index: Index | None) -> History:
    """Give a copy of an index's history, for the caller to go on with."""
    return replay_of(index).history.copy()


def keep(index: Index, replay: Replay) -> None:
    """Keep a state beside the index whose events led to it."""
    object.__setattr__(index, "replay", replay)


def replayed(rows: Sequence[bytes], before: Replay = START, seen: int = 0) -> Replay:
    """Let the events happen that the lines tell, `seen` of which led to `before`.

    Raises BadIndex that names the first one that does not follow, or cannot happen.
    """
    history, audits = before.history.copy(), dict(before.audits)
    prev = digest(rows[seen - 1]) if seen else ""
    for number, row in enumerate(rows[seen:], start=seen + 1):
        try:
            seq, link, kind, version, audit = index_rows.check_event(row)
            _refuse_stray(follows=seq == number and link == prev, holds=(kind == EventType.PUBLISH) == bool(audit))
            history.apply(_KINDS[kind], version)
        except (BadIndex, BadEvent) as error:
            raise BadIndex(f"fails at event {number}: {error}") from None
        if audit:
            audits[version] = audit
        prev = digest(row)
    return Replay(history=history, audits=audits, peaks=_peaks(rows, before, seen))


def digest(row: bytes) -> str:
    """Give what the next event calls this one."""
    return hashlib.sha256(row).hexdigest()


def _peaks(rows: Sequence[bytes], before: Replay, seen: int) -> Peaks:
    if not seen:
        return peaks_of(rows)
    peaks = before.peaks
    for row in rows[seen:]:
        peaks = peaks_with(peaks, row)
    return peaks


def _refuse_stray(*, follows: bool, holds: bool) -> None:
    if not follows:
        raise BadIndex("it does not follow the event before: one was removed, moved or changed")
    if not holds:
        raise BadIndex("only a publication names an audit, and each does")
