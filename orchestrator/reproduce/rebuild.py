"""Builds cells again, each in a world of its own, and stages what they give beside nothing else."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from builders.errors import Interrupted, RelbuildError
from builders.interface import Builder
from builders.model import (
    BuildEvents,
    BuiltFile,
    Cell,
    Libc,
    Material,
    Placement,
    Recipe,
    SmokeHow,
    SmokeResult,
    Toolchain,
)
from builders.targets import Target
from builders.world import STANDARD, Axis, AxisState, BuildWorld, Fixed, Varies, described, varied_on
from orchestrator.events import Observer
from orchestrator.model import BuildReport, Failed, GateRules, Matrix, Plan, PolicyRules, Skipped, Verdict
from orchestrator.release import Engine
from orchestrator.reproduce.values import AxisOutcome, AxisSkipped, AxisVaried
from orchestrator.run import RunRules, Stop, run_plan
from orchestrator.stage import stage

_PLAIN: Final = PolicyRules(
    gate=GateRules(
        libc_floor=Verdict.IGNORE, interpreter=Verdict.IGNORE, needed=Verdict.IGNORE, rpath=Verdict.IGNORE,
        stripped=Verdict.IGNORE, build_id=Verdict.IGNORE, build_paths=Verdict.IGNORE,
    )
)  # fmt: skip
"""A rebuild is compared, not judged: the release was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where rebuilds are made: an engine, the matrix and plan of the release, and how a run is watched and stopped."""

    engine: Engine
    matrix: Matrix
    plan: Plan
    observer: Observer
    stop: Stop
    jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What came of a round of rebuilds: files by the names of their artifacts, and errors by cell."""

    files: Mapping[PurePosixPath, Path] = field(default_factory=dict)
    failures: Mapping[str, tuple[RelbuildError, Path | None]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def axes_of(bench: Bench, cell: Cell, wanted: Collection[Axis], libfaketime: str) -> dict[Axis, AxisOutcome]:
    """Say for each wanted axis how the worlds will differ around a cell, or why they will not."""
    other = varied_on(wanted, libfaketime)
    states = bench.engine.builders[cell.builder].axes(cell, other)
    texts = described(other)
    return {axis: _outcome(states[axis], texts[axis]) for axis in Axis if axis in wanted}


def varied(axes: Mapping[Axis, AxisOutcome]) -> tuple[Axis, ...]:
    """Name the axes on which the worlds differ."""
    return tuple(axis for axis, outcome in axes.items() if isinstance(outcome, AxisVaried))


def rebuild(bench: Bench, worlds: Mapping[str, BuildWorld], room: Path) -> Rebuilt:
    """Build the named cells in their worlds, in an empty folder, with no cell that was finished before.

    Raises Interrupted; a cell's own failure is a part of the result.
    """
    chosen = tuple(
        dataclasses.replace(each, cell=dataclasses.replace(each.cell, smoke=()))
        for each in bench.plan.cells
        if each.cell.id in worlds
    )
    plan = dataclasses.replace(bench.plan, cells=chosen, left_out=())
    builders: dict[str, Builder] = {
        name: _Elsewhere(builder, worlds) for name, builder in bench.engine.builders.items()
    }
    rules = RunRules(policy=_PLAIN, jobs=bench.jobs)
    report = run_plan(plan, builders=builders, dist=room, rules=rules, observer=bench.observer, stop=bench.stop)
    if bench.stop.cancelled.is_set():
        raise Interrupted("the rebuild was stopped", next_step="run it again")
    return _staged(report, bench.matrix, room)


def _staged(report: BuildReport, matrix: Matrix, room: Path) -> Rebuilt:
    failures: dict[str, tuple[RelbuildError, Path | None]] = {}
    for result in report.results:
        if isinstance(result, Failed):
            failures[result.cell.id] = result.error, result.log
        elif isinstance(result, Skipped):
            failures[result.cell.id] = Interrupted(result.reason), None
    if not report.built:
        return Rebuilt(failures=failures)
    staged = stage(report, matrix, room)
    return Rebuilt(
        files={each.path: staged.folder / each.path for each in staged.artifacts},
        failures=failures,
        seconds={each.cell.id: each.seconds for each in report.built},
    )


def _outcome(state: AxisState, text: str) -> AxisOutcome:
    match state:
        case Varies(usual=usual, other=other, limits=limits):
            return AxisVaried(usual=usual, other=other or text, limits=limits)
        case Fixed(reason=reason):
            return AxisSkipped(reason=reason)


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """A builder whose every cell is built in its own world. Nothing is smoke-tested: the release was."""

    inner: Builder
    worlds: Mapping[str, BuildWorld]

    @property
    def name(self) -> str:
        return self.inner.name

    def toolchain(self, recipe: Recipe, target: Target, libc: Libc, placement: Placement) -> Toolchain:
        return self.inner.toolchain(recipe, target, libc, placement)

    def check(self, cells: Sequence[Cell]) -> None:
        self.inner.check(cells)

    def build(self, cell: Cell, out_dir: Path, events: BuildEvents) -> tuple[BuiltFile, ...]:
        return self.inner.within(self.worlds.get(cell.id, STANDARD)).build(cell, out_dir, events)

    def smoke(self, _cell: Cell, _out_dir: Path, _events: BuildEvents) -> SmokeResult:
        return SmokeResult(how=SmokeHow.NONE)

    def materials(self, cell: Cell) -> tuple[Material, ...]:
        return self.inner.materials(cell)

    def axes(self, cell: Cell, other: BuildWorld) -> Mapping[Axis, AxisState]:
        return self.inner.axes(cell, other)

    def within(self, world: BuildWorld) -> Builder:
        return self.inner.within(world)
