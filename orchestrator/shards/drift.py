"""What may not differ between the machine that planned, those that build, and the one that merges."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from builders.names import escaped
from orchestrator import __version__
from orchestrator.errors import (
    CommitDrift,
    ConfigDrift,
    DirtyDrift,
    OtherPlan,
    ProgramDrift,
    ShardError,
    SourceDrift,
    ToolchainDrift,
)
from orchestrator.model import Plan
from orchestrator.shards.basis import Way
from orchestrator.shards.plan_file import PlanFile
from orchestrator.shards.shard_file import Shard

_NAMED = 5
"""So many changed files are named."""
_SAME_COMMIT = "check the plan's commit out there, with nothing changed, or plan again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """Where a machine, or a shard, stands: what decides its bytes beside the cells themselves."""

    place: str
    program: str
    config_sha256: str
    commit: str
    dirty: bool
    changed: tuple[str, ...] = ()
    """What makes it dirty, where that can be told."""

    @classmethod
    def here(cls, *, commit: str, dirty: bool, config_sha256: str, changed: tuple[str, ...] = ()) -> "Stand":
        return cls(place="this machine", program=__version__, config_sha256=config_sha256, commit=commit, dirty=dirty,
                   changed=changed)  # fmt: skip

    @classmethod
    def of_shard(cls, shard: Shard) -> "Stand":
        return cls(place=f"the shard {shard.id}", program=shard.program, config_sha256=shard.config_sha256,
                   commit=shard.commit, dirty=shard.dirty)  # fmt: skip


def refuse_other_stand(planned: PlanFile, stand: Stand) -> None:
    """Raise ProgramDrift, ConfigDrift, CommitDrift or DirtyDrift for the first thing that differs from the plan."""
    for problem in _differences(planned, stand):
        raise problem


def _differences(planned: PlanFile, stand: Stand) -> Iterator[ShardError]:
    if stand.program != planned.program:
        yield ProgramDrift(
            f"the plan was made by relbuild {planned.program}, and {stand.place} has {stand.program}",
            next_step="install the same version everywhere; a lock file with hashes does it",
        )
    if stand.commit != planned.commit:
        yield CommitDrift(
            f"the plan is of commit {planned.commit or '(none)'}, and {stand.place} has {stand.commit or '(none)'}",
            next_step=_SAME_COMMIT,
        )
    if stand.dirty != planned.dirty:
        clean, changed = (stand.place, "the plan's tree") if planned.dirty else ("the plan's tree", stand.place)
        yield DirtyDrift(f"{changed} has files that no commit holds{_named(stand.changed)}, and {clean} has not",
                         next_step=_SAME_COMMIT)  # fmt: skip
    if stand.config_sha256 != planned.config_sha256:
        yield ConfigDrift(
            f"{stand.place} has another matrix.toml (sha256 {stand.config_sha256[:12]}...) than the plan "
            f"({planned.config_sha256[:12]}...)",
            next_step=_SAME_COMMIT,
        )


def _named(changed: tuple[str, ...]) -> str:
    shown = ", ".join(escaped(name) for name in changed[:_NAMED])
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    return f" ({shown}{more})" if changed else ""


def refuse_other_plan(planned: PlanFile, shard: Shard) -> None:
    """Raise OtherPlan for a shard of another plan. The plan's digest stands for its project, version and engine."""
    if shard.plan != planned.sha256:
        raise OtherPlan(
            f"the shard {shard.id} was built of the plan sha256 {shard.plan[:12]}..., and this one is "
            f"{planned.sha256[:12]}...",
            next_step="merge shards of one `relbuild plan --json` only, with that very file",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCell:
    """A cell as it would be, or was, built in some place, on a machine of the kind `host`."""

    place: str
    id: str
    host: str
    source: str
    way: Way


def cells_here(plan: Plan, host: str) -> Iterator[FoundCell]:
    """Give the cells as this machine would build them."""
    for planned in plan.cells:
        cell = planned.cell
        yield FoundCell(place="this machine", id=cell.id, host=host, source=cell.source.digest, way=Way.of(cell))


def cells_of_shard(shard: Shard) -> Iterator[FoundCell]:
    """Give the cells as another machine says that it built them."""
    for cell in shard.cells:
        yield FoundCell(place=f"the shard {shard.id}", id=cell.id, host=shard.host, source=cell.source, way=cell.way)


def refuse_other_cells(planned: PlanFile, cells: Iterable[FoundCell]) -> None:
    """Raise the error of the first cell that is not as the plan says: OtherPlan, SourceDrift, ToolchainDrift, ..."""
    for cell in cells:
        filed = planned.cells.get(cell.id)
        if filed is None:
            raise OtherPlan(f"the plan has no cell {cell.id}, and {cell.place} has",
                            next_step="take targets and products of this plan only")  # fmt: skip
        if cell.source != filed.source:
            raise SourceDrift(
                f"{cell.id}: {cell.place} has the source {cell.source}, and the plan names {filed.source}",
                next_step=_SAME_COMMIT,
            )
        if cell.host != filed.host:
            raise ToolchainDrift(
                f"{cell.id}: {cell.place} is of a machine that is {cell.host}, and the plan wants it built on "
                f"{filed.host}", next_step=f"build it on a machine that is {filed.host}, or plan without --host",
            )  # fmt: skip
        if filed.way is not None:
            _refuse_other_way(cell, filed.way)


def _refuse_other_way(cell: FoundCell, planned: Way) -> None:
    here, there = cell.way.toolchain, planned.toolchain
    pairs = (
        ("placement", cell.way.placement, planned.placement),
        ("builder", cell.way.builder, planned.builder),
        ("toolchain", here.identity, there.identity),
        ("isolation", here.isolation, there.isolation),
    )
    for name, found, wanted in pairs:
        if found != wanted:
            raise ToolchainDrift(
                f"{cell.id}: {cell.place} has the {name} {found}, and the plan names {wanted}",
                next_step=f"give that machine what the plan names ({there.description}), or plan again where it is",
            )
    if cell.way.key != planned.key:
        raise ConfigDrift(
            f"{cell.id}: {cell.place} has the key {cell.way.key[:12]}..., and the plan {planned.key[:12]}...: "
            "settings, version, commit time or mounted folders differ",
            next_step=_SAME_COMMIT,
        )
