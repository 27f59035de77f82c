"""Finishes or removes what dead publishers left. It removes nothing but staging areas that nobody can finish.

An area with a claim is rolled forward, and so is one whose maker had decided to claim: its bytes are whole. Any other
is dropped, once its fate says so. What is foreign or corrupt is told, and left where it is.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

from orchestrator.errors import DuplicateVersion, KeyMissing, KeyTaken, PublicationError, VerificationError
from orchestrator.events import Observer
from orchestrator.publication import AUDIT, AUDIT_SIGNATURE, INDEX, INDEX_SIGNATURES, INDEX_VIEW, IndexKeys, IndexTrust
from orchestrator.publish.audit import parse_audit
from orchestrator.publish.claims import Claim, claim_key, read_claim, why_taken
from orchestrator.publish.desk import Desk, Stopwatch, Terms, open_desk, seam_errors
from orchestrator.publish.finish import finish, refresh_view
from orchestrator.publish.staging import (
    PREFIX,
    Fate,
    Staging,
    create,
    decide,
    discard,
    is_whole,
    read_fate,
    read_or_none,
    read_txn,
    staging_of,
)
from orchestrator.repositories.interface import Repository

_PROBE: Final = f"{PREFIX}probe-"


class Became(StrEnum):
    """What became of one thing that recovery looked at."""

    ROLLED_FORWARD = "rolled forward"
    DROPPED = "dropped"
    ALIVE = "alive"
    """Its maker runs, or may run: left alone."""
    REPORTED = "reported"
    """Foreign or corrupt: left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One thing that recovery looked at: its place in the repository, its version if known, and why."""

    place: str
    became: Became
    version: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryReport:
    """All that recovery looked at, in the order of the places."""

    found: tuple[Found, ...]

    def of(self, became: Became) -> tuple[Found, ...]:
        return tuple(each for each in self.found if each.became is became)


@seam_errors()
def recover(
    repository: Repository, keys: IndexKeys, trust: IndexTrust, *, now: Callable[[], datetime], observer: Observer,
    terms: Terms,
) -> RecoveryReport:  # fmt: skip
    """Settle every staging area and every claim, and name what is foreign.

    Where a store cannot tell whether a publisher lives, an area that is still being filled is dropped; its publisher
    then starts over. Raises VerificationError for an index that does not hold, RepositoryError.
    """
    desk = open_desk(repository, keys, trust, now=now, observer=observer, terms=terms)
    with desk.alone():
        areas = [_settle(desk, name, cautious=False) for name in _areas(desk)]
        claims = [found for version in _open_claims(desk) if (found := _settle_claim(desk, version))]
        refresh_view(desk.known)
        return RecoveryReport(found=(*areas, *claims, *_foreign(desk)))


@seam_errors()
def refuse_no_repository(repository: Repository) -> None:
    """Raise PublicationError where nothing shows that anybody ever published: most likely the name is mistyped."""
    for name in repository.names(""):
        if name == str(INDEX) or name.endswith(AUDIT) or name.startswith(PREFIX):
            return
    raise PublicationError(
        f"there is no repository in {repository.location}: neither an index, nor a claim, nor anything staged",
        next_step="look whether that is the right place; the first publish makes a new repository",
    )


def recover_before(desk: Desk) -> RecoveryReport:
    """Settle what dead publishers left, before a publish; leave areas alone whose makers may run."""
    names = [name for name in _areas(desk) if not _may_run(desk, name)]
    if not names:
        return RecoveryReport(found=())
    with desk.alone():
        report = RecoveryReport(found=tuple(_settle(desk, name, cautious=True) for name in names))
        if report.of(Became.DROPPED):
            # Its maker may have died between the index and the page.
            refresh_view(desk.known)
    for found in report.of(Became.REPORTED):
        desk.note(f"{found.place}: {found.why}")
    return report


# --- staging areas -----------------------------------------------------------------------------------------------


def _areas(desk: Desk) -> list[str]:
    return list(desk.repository.names(PREFIX))


def _may_run(desk: Desk, name: str) -> bool:
    """Tell whether a publisher is at work on an area that recovery before a publish should not even look at."""
    return staging_of(name) is None or desk.repository.staging_is_alive(PurePosixPath(name)) is True


def _settle(desk: Desk, name: str, *, cautious: bool) -> Found:
    staging = staging_of(name)
    if staging is None:
        return _settle_stranger(desk, name)
    alive = desk.repository.staging_is_alive(staging.folder)
    if alive:
        return Found(place=name, became=Became.ALIVE, why="its publisher runs")
    try:
        return _settle_area(desk, staging, may_drop=not cautious or alive is False)
    except (VerificationError, KeyTaken, KeyMissing) as error:
        version = read_txn(desk.repository, staging) or _claimed_as(desk, staging)
        return Found(place=name, became=Became.REPORTED, version=version, why=error.what)


def _settle_stranger(desk: Desk, name: str) -> Found:
    if name.startswith(_PROBE):
        if desk.repository.staging_is_alive(PurePosixPath(name)):
            return Found(place=name, became=Became.ALIVE, why="somebody tries what the store promises")
        desk.repository.delete(PurePosixPath(name))
        return Found(place=name, became=Became.DROPPED, why="what a probe left")
    return Found(place=name, became=Became.REPORTED, why="no area of a publisher: look at it, and remove it by hand")


def _settle_area(desk: Desk, staging: Staging, *, may_drop: bool) -> Found:
    version, audit = _named_in(desk.repository, staging)
    settled = why_taken(desk.known.read().index, version) if version else ""
    if settled and (may_drop or read_fate(desk.repository, staging)):
        # What the history has settled needs no area any more, whatever state that is in.
        return _drop(desk, staging, version, settled)
    claimed_by = read_or_none(desk.repository, claim_key(version)) if version else None
    if claimed_by is not None and parse_audit(claimed_by).audit_id == staging.audit_id:
        return _roll_forward(desk, read_claim(desk.repository, desk.trust, version, claimed_by))
    fate = read_fate(desk.repository, staging)
    if fate is None:
        if not may_drop:
            return Found(place=str(staging.folder), became=Became.ALIVE, version=version, why="its publisher may run")
        fate = decide(desk.repository, staging, Fate.DROPPED)
    if fate is Fate.CLAIMING and claimed_by is None and read_txn(desk.repository, staging):
        return _claim_for(desk, staging, version, audit)
    if fate is Fate.CLAIMING and claimed_by is None and (lost := _claimed_as(desk, staging)):
        why = f"it is claimed, and its papers are gone: put them back, or `relbuild abandon {lost}`"
        return Found(place=str(staging.folder), became=Became.REPORTED, version=lost, why=why)
    return _drop(desk, staging, version)


def _named_in(repository: Repository, staging: Staging) -> tuple[str, bytes | None]:
    """Give the version that an area is for, from whichever of its papers is still there, and its audit."""
    audit = read_or_none(repository, staging.audit)
    if version := read_txn(repository, staging):
        return version, audit
    return (parse_audit(audit).version if audit else ""), audit


def _claim_for(desk: Desk, staging: Staging, version: str, audit: bytes | None) -> Found:
    """Claim a version in the place of a publisher who had decided to, and died."""
    claim = read_claim(desk.repository, desk.trust, version, audit) if audit else None
    if claim is None or claim.staging != staging or not is_whole(desk.repository, staging, claim.files):
        why = "its publisher was about to claim the version, and something of it is gone or foreign"
        return Found(place=str(staging.folder), became=Became.REPORTED, version=version, why=why)
    if create(desk.repository, claim_key(version), claim.audit) != claim.audit:
        return _drop(desk, staging, version)
    return _roll_forward(desk, claim)


def _roll_forward(desk: Desk, claim: Claim) -> Found:
    place = str(claim.staging.folder)
    try:
        finish(desk, claim, Stopwatch(desk=desk))
    except DuplicateVersion as error:
        return Found(place=place, became=Became.DROPPED, version=claim.version, why=error.what)
    return Found(place=place, became=Became.ROLLED_FORWARD, version=claim.version)


def _drop(desk: Desk, staging: Staging, version: str, why: str = "nobody claimed it") -> Found:
    discard(desk.repository, staging)
    return Found(place=str(staging.folder), became=Became.DROPPED, version=version, why=why)


def _claimed_as(desk: Desk, staging: Staging) -> str:
    """Look through the open claims for this area's, when none of its papers says the version; empty for none."""
    for version in _open_claims(desk):
        body = read_or_none(desk.repository, claim_key(version))
        # A claim that cannot be read is told by its own name, and is nobody's area.
        with contextlib.suppress(VerificationError):
            if body is not None and parse_audit(body).audit_id == staging.audit_id:
                return version
    return ""


# --- claims without an area, and what is nobody's -----------------------------------------------------------------


def _claims(desk: Desk) -> Iterator[str]:
    yield from (name.removesuffix(AUDIT) for name in desk.repository.names("") if name.endswith(AUDIT))


def _open_claims(desk: Desk) -> list[str]:
    """Give the claimed versions about which the index says nothing."""
    index = desk.known.read().index
    return [version for version in _claims(desk) if not why_taken(index, version)]


def _settle_claim(desk: Desk, version: str) -> Found | None:
    """Finish a claim whose area is gone, if its files and its signature are in place already."""
    place = claim_key(version)
    try:
        body = read_or_none(desk.repository, place)
        if body is None or next(iter(desk.repository.list(Staging(audit_id=parse_audit(body).audit_id).folder)), None):
            return None
        claim = read_claim(desk.repository, desk.trust, version, body)
        return _roll_forward(desk, claim)
    except (VerificationError, KeyTaken, KeyMissing) as error:
        why = f"it cannot be finished: {error.what}; `relbuild abandon {version}` gives the version up"
        return Found(place=str(place), became=Became.REPORTED, version=version, why=why)


def _foreign(desk: Desk) -> Iterator[Found]:
    """Name what lies at the top of the repository and belongs to no claim."""
    names = list(desk.repository.names(""))
    claimed = {name.removesuffix(AUDIT) for name in names if name.endswith(AUDIT)}
    ours = {str(INDEX), str(INDEX_VIEW), str(INDEX_SIGNATURES)} | claimed
    ours |= {f"{version}{ending}" for version in claimed for ending in (AUDIT, AUDIT_SIGNATURE)}
    for name in names:
        if name not in ours and not name.startswith(PREFIX):
            yield Found(place=name, became=Became.REPORTED, why="no claim speaks of it: relbuild did not put it there")
