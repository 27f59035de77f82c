"""Origin -> the cells of a release, planned again: the same toolchain, source and recipe, or the reason why not."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from builders.model import Cell, Libc, Placement, Toolchain
from builders.targets import Target, host
from orchestrator import survey
from orchestrator.errors import OriginUnavailable
from orchestrator.events import Note, Observer
from orchestrator.model import Artifact, Plan, Product
from orchestrator.plan import Selection, World, make_plan
from orchestrator.release import Engine
from orchestrator.reproduce.origin import Origin
from orchestrator.reproduce.sources import other_compressor

_SHORT: Final = 19
"""`sha256:` and the first digits of a digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replanned:
    """The plan that a release had, as far as it can be made here: cells by name, and why the others cannot."""

    plan: Plan
    cells: Mapping[str, Cell]
    obstacles: Mapping[str, OriginUnavailable]


def engine_of(statement: Mapping[str, Any]) -> str:
    """Name the engine that provenance says built an artifact."""
    return str(_own(statement).get("engine", ""))


def cell_of(artifact: Artifact) -> str:
    """Name the cell that gave an artifact."""
    return f"{artifact.product}/{artifact.target}"


def replan(
    origin: Origin, wanted: Sequence[Artifact], engine: Engine, cache: Path, observer: Observer
) -> Replanned:  # fmt: skip
    """Plan the cells of the wanted artifacts with what is here, and hold each to what provenance says of it."""

    def say(text: str) -> None:
        observer(Note(text=text))

    names = {each.product for each in wanted}
    products = [each for each in origin.matrix.products if each.name in names]
    pairs = {(each.product, each.target) for each in wanted}
    engine.prepare(origin.matrix, _pairs(origin, products, pairs), say)
    trees = origin.read_sources(products, cache / "sources", say)
    matrix = dataclasses.replace(origin.matrix, products=survey.with_images(origin.matrix.products, trees))

    def find(builder: str, product: Product, target: Target, libc: Libc, placement: Placement) -> Toolchain:
        return engine.builders[builder].toolchain(product.recipe, target, libc, placement)

    world = World(
        version=origin.version, commit=origin.commit, dirty=origin.dirty, epoch=origin.epoch, host=host(),
        engine=engine.name, engine_reason=engine.reason, sources=trees,
        mounts={each.name: origin.read_mounts(each) for each in products}, find_toolchain=find,
        is_cached=lambda _key: False, estimate=lambda _cell: None,
    )  # fmt: skip
    selection = Selection(products=tuple(sorted(names)), targets=tuple(sorted({each.target for each in wanted})))
    return _judged(origin, wanted, make_plan(matrix, selection, world))


def _pairs(
    origin: Origin, products: Iterable[Product], pairs: set[tuple[str, str]]
) -> tuple[tuple[Product, Target], ...]:  # fmt: skip
    return tuple(
        (product, origin.matrix.targets[name])
        for product in products
        for name in product.targets
        if (product.name, name) in pairs
    )


def _judged(origin: Origin, wanted: Sequence[Artifact], plan: Plan) -> Replanned:
    planned = {each.cell.id: each.cell for each in plan.cells}
    left_out = {f"{each.product}/{each.target}": each for each in plan.left_out}
    cells: dict[str, Cell] = {}
    obstacles: dict[str, OriginUnavailable] = {}
    for artifact in wanted:
        name = cell_of(artifact)
        if name in left_out:
            gap = left_out[name]
            obstacles[name] = OriginUnavailable(f"{name}: {gap.reason}", next_step=gap.next_step)
        elif name not in planned:
            obstacles[name] = OriginUnavailable(
                f"{name} is no cell of the source's matrix.toml",
                next_step="the source is not that of this release: name another by --source",
            )
        elif problem := (
            why_another(planned[name], origin.statements[artifact.path])
            or other_compressor(str(_own(origin.statements[artifact.path]).get("compressor", "")))
        ):
            obstacles[name] = problem
        else:
            cells[name] = planned[name]
    kept = tuple(each for each in plan.cells if each.cell.id in cells)
    return Replanned(plan=dataclasses.replace(plan, cells=kept, left_out=()), cells=cells, obstacles=obstacles)


def why_another(cell: Cell, statement: Mapping[str, Any]) -> OriginUnavailable | None:
    """Say why a rebuild of this cell would prove nothing about what provenance describes, or give None."""
    asked, own = _definition(statement).get("externalParameters", {}), _own(statement)
    if own.get("cell_key") == cell.key:
        # The key covers toolchain, source, recipe, environment and all else that decides the bytes.
        return None
    toolchain, source = _digest(statement, "toolchain"), _digest(statement, "source tree")
    if toolchain != cell.toolchain.identity:
        return OriginUnavailable(
            f"{cell.id}: another toolchain: the release was made with {toolchain[:_SHORT]}, and here is "
            f"{cell.toolchain.identity[:_SHORT]} ({cell.toolchain.description})",
            next_step=f"use the version of relbuild that made it ({own.get('relbuild', 'unknown')}), with the same "
            "images or packages: `relbuild images list`, `relbuild doctor`",
        )
    if source != cell.source.digest:
        return OriginUnavailable(
            f"{cell.id}: another source: the release's is {source[:_SHORT]}, and here is {cell.source.digest[:_SHORT]}",
            next_step="name the folder of the release's own commit by --source",
        )
    mine = {"placement": cell.placement.value, "isolation": cell.toolchain.isolation}
    said = {"placement": str(asked.get("placement")), "isolation": str(own.get("isolation", ""))}
    odd = [f"{name}: {said[name]}, and here {mine[name]}" for name in mine if mine[name] not in said[name]]
    return OriginUnavailable(
        f"{cell.id}: the release's cell is another one ({'; '.join(odd) or 'by its recipe, environment or version'})",
        next_step=f"use the version of relbuild that made it ({own.get('relbuild', 'unknown')}), on such a machine",
    )


def _definition(statement: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = statement["predicate"]["buildDefinition"]
    return found


def _own(statement: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _definition(statement).get("internalParameters", {})
    return found


def _digest(statement: Mapping[str, Any], name: str) -> str:
    for each in _definition(statement).get("resolvedDependencies", ()):
        if each.get("name") == name:
            return f"sha256:{each.get('digest', {}).get('sha256', '')}"
    return "sha256:unknown"
