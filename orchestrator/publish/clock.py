"""A publisher's clock that cannot be right. It decides nothing, since revisions order all; so it is only told."""

from datetime import datetime, timedelta
from typing import Final

from orchestrator.publication import Index
from orchestrator.publish.index_json import written

_BEHIND: Final = timedelta(minutes=10)
_AHEAD: Final = timedelta(days=365)
"""Repositories rest for months, and indexes expire in about a year."""


def clock_warnings(index: Index | None, now: datetime) -> tuple[str, ...]:
    """Say when this machine's clock stands before the newest event of the index to extend, or a year behind it."""
    if index is None:
        return ()
    newest = index.last_updated
    told = f"it is {written(now)} by this machine's clock, and the newest event of the index is of {written(newest)}"
    if now < newest - _BEHIND:
        why = "one of the two clocks is wrong; revisions keep the order, but readers may take the new index for expired"
        return (f"clock: {told}: {why}",)
    if now > newest + _AHEAD:
        why = "if this clock is wrong, readers refuse the new index until its time has come"
        return (f"clock: {told}, more than a year ago: {why}",)
    return ()
