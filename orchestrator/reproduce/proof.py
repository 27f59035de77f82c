"""A release -> what a rebuild of it says: the page to read first.

origin -> cells planned again -> one rebuild in another world -> bytes compared -> causes, where they differ
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from builders.copying import full_disk_named, make_folders
from builders.errors import EngineUnavailable
from builders.hashing import file_sha256
from builders.local.local_builder import remove_folder
from builders.world import Axis, varied_on
from orchestrator.errors import DigestMismatch, OriginUnavailable, RebuildFailed, UnknownName
from orchestrator.events import Note, Observer
from orchestrator.model import Artifact, ArtifactKind, StagedRelease
from orchestrator.release import Engine
from orchestrator.reproduce import suspects
from orchestrator.reproduce.origin import Origin, open_origin
from orchestrator.reproduce.rebuild import Bench, Rebuilt, axes_of, rebuild, varied
from orchestrator.reproduce.replan import Replanned, cell_of, engine_of, replan
from orchestrator.reproduce.sources import remade
from orchestrator.reproduce.values import (
    AxisOutcome,
    AxisSkipped,
    Bad,
    Fail,
    Good,
    Outcome,
    Reproduced,
    Reproduction,
    Skip,
)
from orchestrator.run import Stop
from orchestrator.trust import ENCRYPTED

REBUILT: Final = ".rebuilt"
"""What the names of differing files end in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be proved: which cells (none named: all), on which axes, and how far to look for a cause.

    `checkout` is a folder with the source, for a release that no longer gives it. `rebuilds` bounds further rounds.
    """

    cells: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = tuple(Axis)
    checkout: Path | None = None
    libfaketime: str = ""
    rebuilds: int = 12
    jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """Where it is proved: engines by name, folders for work and for what later runs want again, who watches and stops.

    `aside` gets the differing files of BAD artifacts, and the logs of FAIL ones.
    """

    open_engine: Callable[[str], Engine]
    work: Path
    cache: Path
    observer: Observer
    stop: Stop
    now: Callable[[], datetime]
    aside: Path


def reproduce(staged: StagedRelease, project: str, wanted: Wanted, lab: Lab) -> Reproduction:
    """Rebuild a release that lies in a folder, and say of each artifact what came out.

    Signatures are not looked at: verify the release first. Raises OriginUnavailable where there is no source at all,
    UnknownName for a cell that the release does not have, DigestMismatch for a release whose bytes are not its own,
    Interrupted, DiskFull.
    """
    started = time.monotonic()
    _refuse_unknown(staged, wanted)
    with _room(lab.work) as room:
        origin = open_origin(
            staged.folder, room / "origin", checkout=wanted.checkout, on_step=lambda text: lab.observer(Note(text=text))
        )
        said: list[Reproduced] = []
        for engine, artifacts in _by_engine(origin, wanted).items():
            trial = _Trial(staged=staged, origin=origin, wanted=wanted, lab=lab, room=room / (engine or "none"))
            said += trial.of(engine, artifacts)
        packed = [each for each in staged.artifacts if each.kind is ArtifactKind.SOURCE and not wanted.cells]
        said += [remade(each, staged, origin, room) for each in packed]
    return Reproduction(
        project=project, version=origin.version, subject=staged.manifest_sha256, time=lab.now(),
        artifacts=tuple(sorted(said, key=lambda each: each.path)), asked=len(staged.artifacts), source=origin.words,
        seconds=time.monotonic() - started,
    )  # fmt: skip


def _refuse_unknown(staged: StagedRelease, wanted: Wanted) -> None:
    known = {cell_of(each) for each in staged.artifacts if each.kind is not ArtifactKind.SOURCE}
    for name in wanted.cells:
        if name not in known:
            raise UnknownName(
                f"the release {staged.version} has no cell {name!r}",
                next_step=f"there are {', '.join(sorted(known))}",
            )


def _by_engine(origin: Origin, wanted: Wanted) -> dict[str, list[Artifact]]:
    """Group the wanted artifacts by what built them; those of which nothing says it are under an empty name."""
    groups: dict[str, list[Artifact]] = {}
    for each in origin.artifacts:
        if not wanted.cells or cell_of(each) in wanted.cells:
            statement = origin.statements.get(each.path)
            groups.setdefault(engine_of(statement) if statement else "", []).append(each)
    return groups


@contextmanager
def _room(work: Path) -> Iterator[Path]:
    with full_disk_named(work):
        make_folders(work)
        room = Path(tempfile.mkdtemp(prefix="reproduce-", dir=work))
        try:
            yield room
        finally:
            remove_folder(room)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """The artifacts of one engine, from plan to verdict."""

    staged: StagedRelease
    origin: Origin
    wanted: Wanted
    lab: Lab
    room: Path

    def of(self, engine: str, artifacts: Sequence[Artifact]) -> list[Reproduced]:
        if not engine:
            missing = OriginUnavailable("no provenance in the release says how it was made", next_step="get it whole")
            return [_said(each, Fail(error=missing)) for each in artifacts]
        try:
            opened = self.lab.open_engine(engine)
            replanned = replan(self.origin, artifacts, opened, self.lab.cache, self.lab.observer)
        except (EngineUnavailable, OriginUnavailable) as error:
            missing = OriginUnavailable(error.what, next_step=error.next_step)
            return [_said(each, Fail(error=missing)) for each in artifacts]
        bench = Bench(
            engine=opened, matrix=self.origin.matrix, plan=replanned.plan, observer=self.lab.observer,
            stop=self.lab.stop, jobs=self.wanted.jobs,
        )  # fmt: skip
        return self._rebuilt(bench, replanned, artifacts)

    def _rebuilt(self, bench: Bench, replanned: Replanned, artifacts: Sequence[Artifact]) -> list[Reproduced]:
        axes = {
            name: axes_of(bench, cell, self.wanted.axes, self.wanted.libfaketime)
            for name, cell in replanned.cells.items()
        }
        worlds = {
            name: varied_on(varied(outcomes), self.wanted.libfaketime)
            for name, outcomes in axes.items()
            if varied(outcomes)
        }
        built = rebuild(bench, worlds, self.room / "other") if worlds else Rebuilt()
        said = [
            replace(self._judged(each, replanned, built, axes.get(cell_of(each), {})), axes=axes.get(cell_of(each), {}))
            for each in artifacts
        ]
        return self._investigated(bench, built, said)

    def _judged(
        self, artifact: Artifact, replanned: Replanned, built: Rebuilt, axes: Mapping[Axis, AxisOutcome]
    ) -> Reproduced:  # fmt: skip
        name = cell_of(artifact)
        if name in replanned.obstacles:
            return _said(artifact, Fail(error=replanned.obstacles[name]))
        cell = replanned.cells[name]
        return replace(
            _said(artifact, self._compared(artifact, built, axes)), builder=cell.builder,
            toolchain=cell.toolchain.identity, seconds=built.seconds.get(name, 0.0),
        )  # fmt: skip

    def _compared(self, artifact: Artifact, built: Rebuilt, axes: Mapping[Axis, AxisOutcome]) -> Outcome:
        name = cell_of(artifact)
        if not varied(axes):
            reasons = dict.fromkeys(each.reason for each in axes.values() if isinstance(each, AxisSkipped))
            return Skip(reason=f"nothing that was asked for can be varied here: {'; '.join(reasons) or 'no axis'}")
        if name in built.failures:
            error, log = built.failures[name]
            kept = self._kept_log(log)
            failed = RebuildFailed(f"{name} could not be built again: {error.what}", next_step=error.next_step)
            return Fail(error=failed, log=kept)
        if artifact.path not in built.files:
            return Fail(error=RebuildFailed(f"the rebuild of {name} gave no {artifact.path}",
                                            next_step="its recipe gives other files in another world"))  # fmt: skip
        self._own_bytes(artifact)
        rebuilt = file_sha256(built.files[artifact.path])
        return Good() if rebuilt == artifact.sha256 else Bad(rebuilt_sha256=rebuilt)

    def _own_bytes(self, artifact: Artifact) -> Path | None:
        """Give the release's own file, held to its manifest; None where only an encrypted copy is there."""
        path = self.staged.folder / artifact.path
        if not path.exists() and path.with_name(f"{path.name}{ENCRYPTED}").exists():
            return None
        if not path.is_file() or path.is_symlink() or file_sha256(path) != artifact.sha256:
            raise DigestMismatch(
                f"{artifact.path} of the release is missing, or has other bytes than its manifest promises",
                next_step="`relbuild verify` the release, and get it again",
            )
        return path

    def _kept_log(self, log: Path | None) -> Path | None:
        if log is None or not log.is_file():
            return None
        return log.replace(self.lab.aside / log.name)

    def _investigated(self, bench: Bench, built: Rebuilt, said: list[Reproduced]) -> list[Reproduced]:
        by_path = {each.path: each for each in self.staged.artifacts}
        odd = [
            suspects.Suspect(
                path=each.path, cell=each.cell, sha256=each.sha256, release=self._own_bytes(by_path[each.path]),
                rebuilt=built.files[each.path], axes=each.axes,
            )
            for each in said
            if isinstance(each.outcome, Bad)
        ]  # fmt: skip
        if not odd:
            return said
        inquiry = suspects.Inquiry(
            bench=bench, room=self.room, libfaketime=self.wanted.libfaketime, rebuilds=self.wanted.rebuilds
        )
        found = inquiry.investigate(odd)
        kept = {each.path: self._kept(each) for each in odd}
        return [
            replace(each, outcome=replace(found[each.path], kept=kept[each.path])) if each.path in found else each
            for each in said
        ]

    def _kept(self, odd: suspects.Suspect) -> Path:
        """Move what the rebuild gave to where a person finds it."""
        return odd.rebuilt.replace(self.lab.aside / f"{odd.path.name}{REBUILT}")


def _said(artifact: Artifact, outcome: Outcome) -> Reproduced:
    return Reproduced(path=artifact.path, sha256=artifact.sha256, cell=cell_of(artifact), outcome=outcome)
