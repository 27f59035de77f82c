"""What events do to releases: the rules that writing an index and reading one share."""

from collections.abc import Callable
from dataclasses import dataclass, field

from builders.names import escaped
from orchestrator.publication import EventType, ReleaseStatus
from orchestrator.publish.version_names import VersionName, latest_of, read_version

_ACTIVE, _YANKED = ReleaseStatus.ACTIVE, ReleaseStatus.YANKED
_REVOKED, _SUPERSEDED = ReleaseStatus.REVOKED, ReleaseStatus.SUPERSEDED


class BadEvent(ValueError):
    """Why an event cannot happen now, in words of their own."""


class VersionTaken(BadEvent):
    """The version is published or abandoned, or too like one that is."""


@dataclass(slots=True, kw_only=True)
class History:
    """The state that events lead to. Not frozen: a replay changes it event by event."""

    statuses: dict[str, ReleaseStatus] = field(default_factory=dict)
    """Every published version in the order of publication."""
    abandoned: set[str] = field(default_factory=set)
    taken: dict[str, str] = field(default_factory=dict)
    """What versions collide in, with the version that took it."""
    _latest: str | None = field(default=None, compare=False)
    """None where it has to be looked for."""

    def copy(self) -> "History":
        """Give the same state, to go on with."""
        return History(
            statuses=dict(self.statuses), abandoned=set(self.abandoned), taken=dict(self.taken), _latest=self._latest
        )

    @property
    def latest(self) -> str:
        """Name the release that a reader gets who names none."""
        if self._latest is None:
            self._latest = latest_of(version for version, status in self.statuses.items() if status is _ACTIVE)
        return self._latest

    def apply(self, kind: EventType, version: str) -> None:
        """Let an event happen. Raises BadEvent."""
        before, self._latest = self._latest, None
        _RULES[kind](self, version)
        if kind is EventType.PUBLISH and before is not None:
            # Of the newest so far and one more, the newer one is the newest of all.
            self._latest = latest_of((before, version))

    def take(self, version: str) -> None:
        """Use a version number up, for ever. Raises VersionTaken."""
        collision = _name(version).collision
        if collision in self.taken:
            raise VersionTaken(self._why_taken(version, self.taken[collision]))
        self.taken[collision] = version

    def _why_taken(self, version: str, taker: str) -> str:
        what = "is abandoned" if taker in self.abandoned else "is published already"
        return f"{version} {what}" if taker == version else f"{version} is too like {taker}, which {what}"


def _publish(history: History, version: str) -> None:
    history.take(version)
    history.statuses[version] = _ACTIVE


def _abandon(history: History, version: str) -> None:
    history.take(version)
    history.abandoned.add(version)


def _moves(to: ReleaseStatus, *since: ReleaseStatus) -> Callable[[History, str], None]:
    def move(history: History, version: str) -> None:
        _ask_for(history, version, since)
        history.statuses[version] = to

    return move


def _rollback(history: History, version: str) -> None:
    _ask_for(history, version, (_ACTIVE, _SUPERSEDED))
    target = _name(version).order
    history.statuses[version] = _ACTIVE
    for other, status in history.statuses.items():
        if status is _ACTIVE and _name(other).order > target:
            history.statuses[other] = _SUPERSEDED
    if history.latest != version:
        raise BadEvent(f"{version} is a pre-release, and {history.latest} would still be the latest")


def _renew(history: History, version: str) -> None:  # noqa: ARG001 - the table's form
    if version:
        raise BadEvent("a renewal names no version")


_RULES: dict[EventType, Callable[[History, str], None]] = {
    EventType.PUBLISH: _publish,
    EventType.ABANDON: _abandon,
    EventType.YANK: _moves(_YANKED, _ACTIVE, _SUPERSEDED),
    EventType.UNYANK: _moves(_ACTIVE, _YANKED),
    EventType.REVOKE: _moves(_REVOKED, _ACTIVE, _YANKED, _SUPERSEDED),
    EventType.ROLLBACK: _rollback,
    EventType.RENEW: _renew,
}


def _ask_for(history: History, version: str, allowed: tuple[ReleaseStatus, ...]) -> None:
    status = history.statuses.get(version)
    if status is None:
        why = "is abandoned" if version in history.abandoned else "is not published"
        raise BadEvent(f"{escaped(version[:200])} {why}")
    if status not in allowed:
        raise BadEvent(f"{version} is {status.value}")


def _name(version: str) -> VersionName:
    name = read_version(version)
    if name is None:
        raise BadEvent(f"{escaped(version[:200])} is no version")
    return name
