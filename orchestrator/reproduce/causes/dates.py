"""Finds dates in bytes, and tells a clock that went on from a clock in another zone."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from orchestrator.reproduce.causes.values import CauseKind, Hints

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rb"(?P<month#>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_TIME = rb"(?P<hour#>\d\d):(?P<minute#>\d\d)(?::(?P<second#>\d\d)(?:\.\d+)?)?"
_ZONE = rb"(?: ?(?P<zone#>Z\b|[A-Z]{3,5}\b|[+-]\d\d(?::?\d\d)?\b))"
_DAY_NAME = rb"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +)?"
_FORMS: Final = (
    # 2026-11-21T09:11:19+01:00, 2026/11/21, 2026-11-21 09:11
    rb"(?P<year#>(?:19|20)\d\d)[-/.](?P<day_month#>\d\d)[-/.](?P<day#>\d\d)(?:[T _-]+" + _TIME + rb"(?:" + _ZONE
    + rb")?)?",
    # Sat Nov 21 09:11:19 UTC 2026 (date, ctime)
    _DAY_NAME + _MONTH + rb" +(?P<day#>\d{1,2}),? +" + _TIME + rb"(?: [AP]M)?(?:" + _ZONE
    + rb")? +(?P<year#>(?:19|20)\d\d)",
    # Nov 21 2026 (__DATE__), Nov 21 2026 09:11:19
    _MONTH + rb" +(?P<day#>\d{1,2}),? +(?P<year#>(?:19|20)\d\d)(?:,? *" + _TIME + rb"(?:" + _ZONE + rb")?)?",
    # Sat, 21 Nov 2026 09:11:19 +0100 (RFC 5322), 21-Nov-2026
    _DAY_NAME + rb"(?P<day#>\d{1,2})[ -]" + _MONTH + rb"[ -](?P<year#>(?:19|20)\d\d)(?: +" + _TIME + rb"(?:"
    + _ZONE + rb")?)?",
    # 20261121T091119Z, 20261121-0911, 20261121
    rb"(?P<year#>(?:19|20)\d\d)(?P<day_month#>[01]\d)(?P<day#>[0-3]\d)"
    rb"(?:[T_-]?(?P<hour#>[0-2]\d)(?P<minute#>[0-5]\d)(?P<second#>[0-5]\d)?(?P<zone#>Z)?)?",
    # seconds since 1970 between 2001 and 2033, with a fraction or in milliseconds
    rb"(?P<epoch#>1\d{9})(?:\d{3}|\.\d+)?",
    # 09:11:19 (__TIME__)
    _TIME + rb"(?:" + _ZONE + rb")?",
)  # fmt: skip


def _numbered(form: bytes, number: int) -> bytes:
    # A group has one name in a pattern only, so each form has names of its own.
    return form.replace(b"#", str(number).encode())


DATE: Final = re.compile(
    rb"(?<![0-9A-Za-z:])(?:" + rb"|".join(_numbered(form, at) for at, form in enumerate(_FORMS)) + rb")(?![0-9A-Za-z:])"
)
"""Any form of a date or a time of day."""

_QUARTER_S = 900
_FARTHEST_S = 26 * 3600
_DAY_S = 86400
_NEAR_S = 120
_POSIX_ZONE = re.compile(r"<?[A-Za-z0-9+-]*?[A-Za-z]*>?(?P<sign>[+-]?)(?P<hours>\d{1,2})(?::(?P<minutes>\d\d))?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A date as it stands there. `offset_s` is None where it does not say its zone in figures."""

    wall: datetime
    zone: str = ""
    offset_s: int | None = None
    exact: bool = False
    epoch: bool = False


def read_moment(text: bytes) -> Moment | None:
    """Read what DATE has found, or give None where the figures are no date."""
    found = DATE.fullmatch(text)
    if found is None:
        return None
    fields = {name.rstrip("0123456789"): value.decode() for name, value in found.groupdict().items() if value}
    try:
        return _moment(fields)
    except (ValueError, OverflowError):
        return None


def _moment(fields: Mapping[str, str]) -> Moment:
    if "epoch" in fields:
        return Moment(wall=_EPOCH + timedelta(seconds=int(fields["epoch"])), exact=True, epoch=True)
    month = _MONTHS.index(fields["month"].lower()) + 1 if "month" in fields else int(fields.get("day_month", 1))
    wall = datetime(
        int(fields.get("year", 1970)), month, int(fields.get("day", 1)), int(fields.get("hour", 0)),
        int(fields.get("minute", 0)), int(fields.get("second", 0)), tzinfo=UTC,
    )  # fmt: skip
    zone = fields.get("zone", "")
    return Moment(wall=wall, zone=zone, offset_s=_figures(zone), exact="hour" in fields)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _figures(zone: str) -> int | None:
    if zone in {"Z", "UTC", "GMT"}:
        return 0
    if zone[:1] not in {"+", "-"}:
        return None
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (1 if zone[0] == "+" else -1) * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)


def date_kinds(first: Sequence[bytes], second: Sequence[bytes], hints: Hints) -> tuple[CauseKind, ...]:
    """Say whether dates differ for their time zone, their time, or both."""
    kinds: dict[CauseKind, None] = {}
    for left, right in zip(first, second, strict=False):
        if left != right:
            a, b = read_moment(left), read_moment(right)
            kinds |= dict.fromkeys(_kinds(a, b, hints) if a and b else (CauseKind.DATE_STRING,))
    return tuple(kinds) or (CauseKind.DATE_STRING,)


def _kinds(a: Moment, b: Moment, hints: Hints) -> tuple[CauseKind, ...]:
    apart_s = (b.wall - a.wall).total_seconds()
    if a.epoch or b.epoch:
        return (CauseKind.DATE_STRING,)
    if a.offset_s is not None and b.offset_s is not None and a.offset_s != b.offset_s:
        same = apart_s == b.offset_s - a.offset_s
        return (CauseKind.TIME_ZONE,) if same else (CauseKind.TIME_ZONE, CauseKind.DATE_STRING)
    if _is_zone(a, b, apart_s, hints):
        return (CauseKind.TIME_ZONE,)
    return (CauseKind.DATE_STRING, CauseKind.TIME_ZONE) if a.zone != b.zone else (CauseKind.DATE_STRING,)


def _is_zone(a: Moment, b: Moment, apart_s: float, hints: Hints) -> bool:
    if not a.exact or not b.exact:
        # A day alone: the zone may have moved it over midnight, and only a rebuild can tell.
        return abs(apart_s) == _DAY_S and "time_zone" in hints.guilty_axes and "time" not in hints.guilty_axes
    zones = hints.worlds.get("time_zone")
    known = [offset_of(zone, a.wall) for zone in zones] if zones else []
    if len(known) == 2 and known[0] is not None and known[1] is not None:  # noqa: PLR2004 - the two worlds
        apart = known[1] - known[0]
        # A time of day alone has gone over midnight.
        return apart != 0 and apart_s - apart in {0, _DAY_S, -_DAY_S}
    passed = _time_between(hints)
    if passed is not None and abs(apart_s - passed) < _NEAR_S:
        return False
    return 0 < abs(apart_s) <= _FARTHEST_S and apart_s % _QUARTER_S == 0


_AHEAD = re.compile(r"(\d{1,6}) days and (\d{1,6}) minutes ahead\Z")


def _time_between(hints: Hints) -> float | None:
    """Give how far the clocks of the worlds were apart: seconds since 1970 each, or how far one was set ahead."""
    first, second = hints.worlds.get("time", ("", ""))
    ahead = _AHEAD.match(second)
    if ahead:
        return int(ahead[1]) * _DAY_S + int(ahead[2]) * 60
    try:
        return float(second) - float(first)
    except ValueError:
        return None


def offset_of(zone: str, at: datetime) -> int | None:
    """Give the seconds east of Greenwich of a TZ value: a name of the database, or the POSIX form (UTC-12)."""
    if zone in {"", "UTC", "GMT", "UTC0"}:
        return 0
    posix = _POSIX_ZONE.match(zone)
    if posix:
        size = int(posix["hours"]) * 3600 + int(posix["minutes"] or 0) * 60
        return size if posix["sign"] == "-" else -size
    return _named_offset(zone, at)


def _named_offset(zone: str, at: datetime) -> int | None:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - only where a zone has a name

    try:
        passed = ZoneInfo(zone).utcoffset(at.replace(tzinfo=None))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
    return int(passed.total_seconds()) if passed is not None else None
