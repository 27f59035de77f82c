"""The stage that joins many machines: plan on one, build on any, merge on one."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from builders.engine.node_model import Taker
from builders.errors import ToolchainUnavailable
from builders.model import Libc, Placement, Toolchain
from builders.targets import Target
from orchestrator import release, survey
from orchestrator.errors import PlanInvalid
from orchestrator.events import Observer
from orchestrator.model import BuildReport, Matrix, Plan, Product, StagedRelease
from orchestrator.plan import Selection, World, make_plan, select
from orchestrator.run import Stop
from orchestrator.shards.claims import judged_again
from orchestrator.shards.drift import Stand, cells_here, refuse_other_cells, refuse_other_stand
from orchestrator.shards.merge import Collected, collect, merge
from orchestrator.shards.plan_file import Elsewhere, PlanFile, config_digest
from orchestrator.shards.read import ReadShard, read_shard
from orchestrator.shards.write import Written, write_shard
from orchestrator.signing.interface import Signer
from orchestrator.verify import TrustRoot


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A release that was staged from shards, and the report that it was staged from."""

    report: BuildReport
    staged: StagedRelease
    shards: tuple[ReadShard, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A project's folder as this machine has it, where output goes, and who listens."""

    matrix: Matrix
    dist: Path
    observer: Observer
    apart: tuple[Path, ...] = ()
    """Files of ours that may lie in the folder: that makes it no changed one."""

    def look_around(self, selection: Selection, engine: release.Engine, planned: PlanFile) -> tuple[Matrix, World]:
        """See what is here, and refuse another stand than the plan's. Raises the kinds of drift."""
        seen, world = release.look_around(
            self.matrix, selection, engine, self.dist, self.observer, version=planned.version, apart=self.apart
        )
        config_sha256 = config_digest(self.matrix.file)
        changed = survey.checkout_state(self.matrix.root, self.apart).changed if world.dirty else ()
        stand = Stand.here(commit=world.commit, dirty=world.dirty, config_sha256=config_sha256, changed=changed)
        refuse_other_stand(planned, stand)
        return seen, dataclasses.replace(world, epoch=planned.epoch)


def plan_here(checkout: Checkout, planned: PlanFile, selection: Selection, engine: release.Engine) -> Plan:
    """Plan cells of a plan file with this machine's own toolchains, and refuse whatever is not as the file says.

    Raises the kinds of drift, OtherPlan, ToolchainUnavailable.
    """
    seen, world = checkout.look_around(selection, engine, planned)
    made = make_plan(seen, selection, world)
    refuse_other_cells(planned, cells_here(made, world.host.name))
    for gap in made.left_out:
        if f"{gap.product}/{gap.target}" in planned.cells:
            raise ToolchainUnavailable(
                f"{gap.product}/{gap.target} is in the plan, and cannot be built here: {gap.reason}",
                next_step=gap.next_step or "build it on a machine like the one that planned",
            )
    return dataclasses.replace(made, left_out=())


def plan_on(
    checkout: Checkout, selection: Selection, engine: release.Engine, hosts: Mapping[str, Target]
) -> tuple[Plan, tuple[Elsewhere, ...]]:
    """Plan on this machine. Cells of targets that another kind of machine builds (`hosts`) are that one's to decide."""
    seen, world = release.look_around(
        checkout.matrix, selection, engine, checkout.dist, checkout.observer, apart=checkout.apart
    )
    foreign = {target: host for target, host in hosts.items() if host.name != world.host.name}
    made = make_plan(seen, selection, world)
    made = dataclasses.replace(
        made,
        cells=tuple(each for each in made.cells if each.cell.target.name not in foreign),
        left_out=tuple(gap for gap in made.left_out if gap.target not in foreign),
    )
    elsewhere = tuple(
        Elsewhere(
            product=product.name, target=target.name, host=foreign[target.name], source=world.sources[product.name],
            required=target.name not in seen.best_effort,
        )
        for product, target in select(seen, selection)
        if target.name in foreign
    )  # fmt: skip
    return made, elsewhere


def plan_as_filed(checkout: Checkout, planned: PlanFile, collected: Collected) -> Plan:
    """Give a filed plan as this checkout makes it, with the toolchains that the file or the shards name.

    None of them needs to be here. Raises the kinds of drift, OtherPlan, PlanInvalid.
    """
    nobody = release.Engine(name=planned.engine, reason="as planned", builders={}, prepare=lambda *_: None)
    wanted = Selection(
        targets=tuple(dict.fromkeys(cell.target for cell in planned.cells.values())),
        products=tuple(dict.fromkeys(cell.product for cell in planned.cells.values())),
    )
    seen, world = checkout.look_around(wanted, nobody, planned)
    made = make_plan(seen, wanted, _as_filed(world, planned, collected, checkout.matrix))
    cells = {each.cell.id: each for each in made.cells if each.cell.id in planned.cells}
    kept = tuple(cells[name] for name in planned.cells if name in cells)
    made = dataclasses.replace(made, cells=kept, left_out=planned.left_out)
    # What is left is an undecided cell that nobody built, and that nobody needs.
    for filed in (filed for name, filed in planned.cells.items() if name not in cells):
        if filed.required or filed.way or filed.id in collected.found:
            raise PlanInvalid(f"this checkout cannot make the cell {filed.id} as the plan or its shard names it",
                              next_step="plan and build again")  # fmt: skip
    for cell in cells_here(made, planned.host):
        filed = planned.cells[cell.id]
        refuse_other_cells(planned, [dataclasses.replace(cell, host=filed.host)])
    return made


def build_shard(
    report: BuildReport, planned: PlanFile, engine: release.Engine, dist: Path, signer: Signer | None
) -> Written:
    """Write the shard of what this machine built. Raises what `write_shard` does."""
    return write_shard(report, planned, dist, engine.materials_of, signer)


def refuse_other_promises(checkout: Checkout, planned: PlanFile, selection: Selection) -> None:
    """Hold a plan to what this checkout knows better: nobody signs plans, and whoever carries one could change it.

    Raises PlanInvalid for cells that the selection has and the plan has not, and for another version, commit time or
    word on what is required.
    """
    matrix = checkout.matrix
    known = {f"{gap.product}/{gap.target}": gap.required for gap in planned.left_out}
    known |= {cell.id: cell.required for cell in planned.cells.values()}
    for product, target in select(matrix, selection):
        name, required = f"{product.name}/{target.name}", target.name not in matrix.best_effort
        if known.get(name) is not required:
            what = "is not in the plan" if name not in known else f"is {'' if required else 'not '}required here"
            raise PlanInvalid(f"{name} {what}", next_step="plan again; --targets and --products name a part on purpose")
    state = survey.checkout_state(matrix.root, checkout.apart)
    for what, here, there in (
        ("version", survey.version_of(matrix), planned.version),
        ("commit time", survey.epoch_of(state), planned.epoch),
    ):
        if here != there:
            raise PlanInvalid(f"the plan has the {what} {there}, and this checkout {here}",
                              next_step="plan again; a clone that merges needs the tags and their history")  # fmt: skip


def merge_shards(checkout: Checkout, planned: PlanFile, folders: Sequence[Path], trust: TrustRoot | None) -> Merge:
    """Judge every shard, and stage what they hold together as one machine would have.

    `trust` None takes unsigned shards. Raises ShardError and its kinds, StagingError.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    shards = tuple(read_shard(folder, trust, now) for folder in folders)
    collected = collect(planned, shards)
    plan = plan_as_filed(checkout, planned, collected)
    release.refuse_gaps(checkout.matrix, plan)
    merged = merge(collected, plan)
    needles = (os.fsencode(checkout.matrix.root), os.fsencode(Path.home()))
    report = judged_again(merged.report, checkout.matrix.policy, needles)
    if error := release.verdict(report, Stop()):
        raise error
    staged = release.stage_release(
        report, checkout.matrix, lambda cell: merged.materials[cell.id], checkout.dist, checkout.observer
    )
    return Merge(report=report, staged=staged, shards=shards)


def _as_filed(world: World, planned: PlanFile, collected: Collected, matrix: Matrix) -> World:
    def find_toolchain(builder: str, product: Product, target: Target, _: Libc, placement: Placement) -> Toolchain:
        filed = planned.cells.get(f"{product.name}/{target.name}")
        way = collected.way_of(filed) if filed else None
        if way is None or (way.builder, way.placement) != (builder, placement):
            raise ToolchainUnavailable("the plan says otherwise")
        return way.toolchain

    def takers(platform: str) -> tuple[Taker, ...]:
        # Whichever node it was: the plan's own placement is the one that `find_toolchain` lets pass.
        return tuple(Taker(node="of the plan", platform=platform, native=way, version="") for way in (True, False))

    hosts = {cell.target: _host(cell.host, matrix) for cell in planned.cells.values()}
    return dataclasses.replace(
        world, host=_host(planned.host, matrix), hosts=hosts, engine_reason="as planned",
        find_toolchain=find_toolchain, is_cached=lambda _: False, estimate=lambda _: None,
        takers=takers if matrix.engine.nodes else None,
    )  # fmt: skip


def _host(name: str, matrix: Matrix) -> Target:
    try:
        return matrix.targets[name]
    except KeyError:
        raise PlanInvalid(
            f"the plan was made for a machine {name!r}, which is no target that is known", next_step="plan again"
        ) from None
