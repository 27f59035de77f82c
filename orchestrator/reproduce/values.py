"""What a rebuild said of a release: one outcome for each artifact, and on which axes the worlds differed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import assert_never

from builders.errors import RelbuildError
from builders.world import Axis
from orchestrator.errors import (
    NothingReproduced,
    NotReproducible,
    OriginUnavailable,
    RebuildFailed,
    ReproductionFailed,
)


class Verdict(StrEnum):
    """What is said of an artifact in a word."""

    GOOD = "GOOD"
    BAD = "BAD"
    FAIL = "FAIL"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisVaried:
    """The worlds differed on this axis: what it is for a release, what it was for the rebuild, how far that went."""

    usual: str
    other: str
    limits: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisSkipped:
    """The worlds were the same on this axis, and why."""

    reason: str


AxisOutcome = AxisVaried | AxisSkipped


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldCause:
    """Why bytes differ: the kind, the place inside the artifact, and a sentence."""

    kind: str
    place: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    """The rebuild gave the same bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """The rebuild gave other bytes. `guilty` are axes that alone make the difference, as further rebuilds showed.

    `unstable` is set where a rebuild in the usual world differed as well. `report` is a file beside the result.
    """

    rebuilt_sha256: str
    causes: tuple[ToldCause, ...] = ()
    guilty: tuple[Axis, ...] = ()
    unstable: bool = False
    report: str = ""
    kept: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """There is nothing to compare: the artifact could not be rebuilt from what the release says."""

    error: RelbuildError
    log: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """The artifact was not tried: nothing would have been proved."""

    reason: str


Outcome = Good | Bad | Fail | Skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """An artifact of a release, its digest there, and what a rebuild gave. `cell` is empty for a source archive."""

    path: PurePosixPath
    sha256: str
    cell: str
    outcome: Outcome
    axes: Mapping[Axis, AxisOutcome] = field(default_factory=dict)
    builder: str = ""
    toolchain: str = ""
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What a run said of a release (`subject`: SHA-256 of its manifest.json), which has `asked` artifacts in all."""

    project: str
    version: str
    subject: str
    time: datetime
    artifacts: tuple[Reproduced, ...]
    asked: int
    source: str
    seconds: float = 0.0

    def of(self, verdict: Verdict) -> tuple[Reproduced, ...]:
        return tuple(each for each in self.artifacts if each.verdict is verdict)


def verdict_of(outcome: Outcome) -> Verdict:
    """Give the word for an outcome."""
    match outcome:
        case Good():
            return Verdict.GOOD
        case Bad():
            return Verdict.BAD
        case Fail():
            return Verdict.FAIL
        case Skip():
            return Verdict.SKIPPED
        case _:
            assert_never(outcome)


def error_of(said: Reproduction) -> RelbuildError | None:
    """Give the error that a run ends with, or None where something was proved and nothing was disproved."""
    bad, failed = said.of(Verdict.BAD), said.of(Verdict.FAIL)
    names = ", ".join(str(each.path) for each in (*bad, *failed))
    if bad and failed:
        return ReproductionFailed(
            f"{len(bad)} artifacts came out with other bytes, and {len(failed)} not at all: {names}",
            next_step="each has its reason above",
        )
    if bad:
        return NotReproducible(
            f"a rebuild gave other bytes for {names}",
            next_step="each has its causes above; mend the recipe, release a new version and try again",
        )
    if failed:
        errors = [each.outcome.error for each in failed if isinstance(each.outcome, Fail)]
        if all(isinstance(each, OriginUnavailable) for each in errors):
            return OriginUnavailable(
                f"nothing to rebuild {names} from: {errors[0].what}", next_step=errors[0].next_step
            )
        return RebuildFailed(f"no rebuild of {names}", next_step="each has its reason above")
    if not said.of(Verdict.GOOD):
        return NothingReproduced(
            "nothing was proved: every artifact was skipped", next_step="ask for other axes, or use another machine"
        )
    return None
