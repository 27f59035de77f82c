"""A plan and shards of it -> the report that one machine would have given, or the first reason why not."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builders import errors as build_errors
from builders.errors import CellError, RelbuildError
from builders.model import Cell, Material
from orchestrator.errors import CellMissing, CellTwice, ConfigDrift, ShardTampered
from orchestrator.model import BuildReport, Built, CellResult, Failed, Plan, Skipped
from orchestrator.shards.basis import Way
from orchestrator.shards.drift import Stand, cells_of_shard, refuse_other_cells, refuse_other_plan, refuse_other_stand
from orchestrator.shards.plan_file import FiledCell, PlanFile
from orchestrator.shards.read import ReadShard
from orchestrator.shards.shard_file import ShardCell, documents_folder, files_folder

SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What shards gave together. `materials` are their toolchains', by cell."""

    report: BuildReport
    materials: Mapping[str, tuple[Material, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """Shards that fit a plan and one another, by cell. `absent` says why other cells are not there."""

    found: Mapping[str, "Found"]
    absent: Mapping[str, str]

    def way_of(self, cell: FiledCell) -> Way | None:
        """Say how a cell was built: as planned, or as the machine that built it decided."""
        one = self.found.get(cell.id)
        return cell.way or (one.cell.way if one else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    shard: ReadShard
    cell: ShardCell


def collect(planned: PlanFile, shards: Sequence[ReadShard]) -> Collected:
    """Hold shards to their plan. Raises OtherPlan, the kinds of drift, CellTwice, CellMissing."""
    for each in shards:
        refuse_other_plan(planned, each.shard)
        refuse_other_stand(planned, Stand.of_shard(each.shard))
        refuse_other_cells(planned, cells_of_shard(each.shard))
    found = _by_cell(shards)
    absent = {each.id: each.why for one in shards for each in one.shard.absent if each.id not in found}
    _refuse_missing(planned, found, absent)
    return Collected(found=found, absent=absent)


def merge(collected: Collected, plan: Plan) -> Merged:
    """Join shards. `plan` is their plan as this machine's checkout gives it. Raises ConfigDrift, ShardTampered."""
    for each in plan.cells:
        one = collected.found.get(each.cell.id)
        if one is not None and one.cell.way.key != each.cell.key:
            raise ConfigDrift(
                f"{each.cell.id}: the shard {one.shard.shard.id} has the key {one.cell.way.key[:12]}..., and this "
                f"machine {each.cell.key[:12]}...",
                next_step="merge where the plan's commit is checked out, with nothing changed",
            )
    results = tuple(_result(each.cell, collected.found, collected.absent) for each in plan.cells)
    materials = {name: one.cell.materials for name, one in collected.found.items()}
    return Merged(report=BuildReport(plan=plan, results=results), materials=materials)


def _by_cell(shards: Sequence[ReadShard]) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for shard in shards:
        for cell in shard.shard.cells:
            other = found.setdefault(cell.id, Found(shard=shard, cell=cell))
            if other.shard is not shard:
                raise CellTwice(
                    f"the cell {cell.id} is in the shards {other.shard.folder} and {shard.folder}",
                    next_step="leave one of them out",
                )
    return found


def _refuse_missing(planned: PlanFile, found: Mapping[str, Found], absent: Mapping[str, str]) -> None:
    missing = [cell for cell in planned.cells.values() if cell.required and cell.id not in found]
    if missing:
        lines = "\n".join(f"  {cell.id}: {absent.get(cell.id, 'in no shard')}" for cell in missing)
        targets = ",".join(dict.fromkeys(cell.target for cell in missing))
        raise CellMissing(
            f"required cells of the plan are missing:\n{lines}",
            next_step=f"build them with the same plan: relbuild build --plan plan.json --targets {targets}",
        )


def _result(cell: Cell, found: Mapping[str, Found], absent: Mapping[str, str]) -> CellResult:
    one = found.get(cell.id)
    if one is not None:
        return _built(cell, one)
    why = absent.get(cell.id, SKIPPED)
    if why == SKIPPED:
        return Skipped(cell=cell, reason="in no shard")
    return Failed(cell=cell, error=_error(why)(f"{cell.id} failed on the machine that was to build it"),
                  log=Path(), seconds=0.0)  # fmt: skip


def _built(cell: Cell, one: Found) -> Built:
    shard = one.cell
    return Built(
        cell=cell, folder=one.shard.folder / files_folder(shard.folder), files=shard.files, findings=shard.findings,
        smoke=shard.smoke, seconds=shard.seconds, from_cache=False, documents=dict(_documents(one.shard, shard)),
    )  # fmt: skip


def _documents(one: ReadShard, cell: ShardCell) -> Iterator[tuple[str, bytes]]:
    promised = {each.path: each.sha256 for each in one.shard.listed}
    for name in cell.documents:
        below = documents_folder(cell.folder) / name
        content = (one.folder / below).read_bytes()
        # Other files are held to their digests once more when they are packed; these are small, and held here.
        if hashlib.sha256(content).hexdigest() != promised[below]:
            raise ShardTampered(f"{one.folder / below} was changed while it was read", next_step="copy the shard again")
        yield name, content


def _error(name: str) -> type[RelbuildError]:
    """Give the error class of a name that a shard told; a stranger's name is a cell's error."""
    kind = getattr(build_errors, name, CellError)
    return kind if isinstance(kind, type) and issubclass(kind, RelbuildError) else CellError
