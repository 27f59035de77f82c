"""Matrix, selection and what was seen of the world -> Plan. Nothing here reads or writes anything."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from builders.engine.node_model import Taker
from builders.errors import ToolchainUnavailable
from builders.model import (
    Cell,
    CellKey,
    CommandRecipe,
    Libc,
    LibcKind,
    Mount,
    OutputPattern,
    Placement,
    Recipe,
    SourceTree,
    Toolchain,
)
from builders.targets import Target, near
from orchestrator.errors import UnknownName
from orchestrator.model import CacheState, LeftOut, Matrix, PlacementWish, Plan, PlannedCell, Product

KEY_SCHEMA = 2
"""Raised when a builder starts to give other bytes for the same cell."""

FindToolchain = Callable[[str, Product, Target, Libc, Placement], Toolchain]
"""(builder name, product, target, libc, placement) -> Toolchain, or ToolchainUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the user asked for. Empty `targets` or `products` mean all."""

    targets: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    forbid_emulation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything outside the matrix that decides a plan. `engine` is "docker" or "local"."""

    version: str
    commit: str
    dirty: bool
    epoch: int
    host: Target
    engine: str
    engine_reason: str
    sources: Mapping[str, SourceTree]
    mounts: Mapping[str, tuple[Mount, ...]]
    find_toolchain: FindToolchain
    is_cached: Callable[[CellKey], bool]
    estimate: Callable[[Cell], float | None]
    hosts: Mapping[str, Target] = field(default_factory=dict)
    """By target: machines that are not `host`, where that target's cells are built."""
    takers: Callable[[str], tuple[Taker, ...]] | None = None
    """By OCI platform, where there are BuildKit nodes: the node that takes it, after those that are gone."""

    def host_of(self, target: Target) -> Target:
        return self.hosts.get(target.name, self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One way to build a cell. `on_node` is a machine of its own; `only_kept` one that can build nothing any more."""

    placement: Placement
    builder: str
    reason: str
    on_node: bool = False
    only_kept: bool = False


def select(matrix: Matrix, selection: Selection) -> Iterator[tuple[Product, Target]]:
    """Give the product and target of every cell that was asked for. Raises UnknownName with a suggestion."""
    known = {product.name: product for product in matrix.products}
    for name in selection.products:
        if name not in known:
            raise _unknown("product", name, near(name, known), "`relbuild plan` lists the products")
    wanted = wanted_targets(matrix, selection.targets)
    used = {name for product in matrix.products for name in product.targets}
    for name in wanted or ():
        if name not in used:
            raise UnknownName(
                f"no product is built for the target {name!r}",
                next_step=f"add it to `targets` of a product; products are built for {', '.join(sorted(used))}",
            )
    for product in matrix.products:
        if not selection.products or product.name in selection.products:
            for name in product.targets:
                if wanted is None or name in wanted:
                    yield product, matrix.targets[name]


def make_plan(matrix: Matrix, selection: Selection, world: World) -> Plan:
    """Decide where each cell is built, with what, and whether it has to be."""
    planned: list[PlannedCell] = []
    left_out: list[LeftOut] = []
    for product, target in select(matrix, selection):
        cell = _place(matrix, product, target, selection, world)
        if isinstance(cell, LeftOut):
            left_out.append(cell)
            continue
        state = CacheState.HIT if world.is_cached(cell.key) else CacheState.MISS
        planned.append(PlannedCell(cell=cell, cache=state, estimate_s=world.estimate(cell)))
    return Plan(
        project=matrix.project.name,
        version=world.version,
        commit=world.commit,
        dirty=world.dirty,
        epoch=world.epoch,
        engine=world.engine,
        engine_reason=world.engine_reason,
        cells=tuple(planned),
        left_out=tuple(left_out),
    )


def cell_key(cell: Cell) -> CellKey:
    """Give the digest over everything that decides a cell's bytes. The cell's own `key` does not count."""
    material = {
        "schema": KEY_SCHEMA,
        "product": cell.product,
        "target": _fields(cell.target),
        "recipe": [type(cell.recipe).__name__, _fields(cell.recipe)],
        "placement": cell.placement,
        "builder": cell.builder,
        "toolchain": [cell.toolchain.identity, cell.toolchain.isolation],
        "libc": _fields(cell.libc),
        "source": cell.source.digest,
        "mounts": [[str(mount.at), mount.tree.digest] for mount in cell.mounts],
        "env": dict(cell.env),
        "outputs": [_fields(pattern) for pattern in cell.outputs],
        "network": cell.network,
        "version": cell.version,
        "epoch": cell.epoch,
    }
    text = json.dumps(material, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return CellKey(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest())


@functools.lru_cache(maxsize=4096)
def _fields(value: Target | Recipe | Libc | OutputPattern) -> object:
    """Take a value apart. Thousands of cells share a few of each, and taking one apart is most of what a key costs."""
    return _plain(dataclasses.asdict(value))


def wanted_targets(matrix: Matrix, asked: tuple[str, ...]) -> frozenset[str] | None:
    """Give canonical names, or None for all of them. Raises UnknownName with a suggestion."""
    if not asked or "all" in asked:
        return None
    by_name = {alias: row.name for row in matrix.targets.values() for alias in (row.name, *row.aliases)}
    for name in asked:
        if name.lower() not in by_name:
            hint = f"known are {', '.join(sorted(matrix.targets))}; `all` means every target of the products"
            raise _unknown("target", name, near(name.lower(), by_name), hint)
    return frozenset(by_name[name.lower()] for name in asked)


def _unknown(kind: str, name: str, suggestion: str, next_step: str) -> UnknownName:
    hint = f" (did you mean {suggestion!r}?)" if suggestion else ""
    return UnknownName(f"unknown {kind} {name!r}{hint}", next_step=next_step)


def _place(matrix: Matrix, product: Product, target: Target, selection: Selection, world: World) -> Cell | LeftOut:
    """Take the first way, in the order native, cross, emulate, whose toolchain is here."""
    obstacle = _no_way(product, target, world)
    required = target.name not in matrix.best_effort
    for way in _ways(product, target, world):
        if (
            way.placement is Placement.EMULATE
            and selection.forbid_emulation
            and product.placement is PlacementWish.AUTO
        ):
            obstacle = ToolchainUnavailable(
                "only emulation could build it, and --forbid-emulation is set",
                next_step="take a toolchain that cross-compiles, or give the product placement = 'emulate'",
            )
            continue
        try:
            cell = _cell(matrix, product, target, way, world)
        except ToolchainUnavailable as error:
            obstacle = error
            continue
        if not way.only_kept or world.is_cached(cell.key):
            return cell
    return LeftOut(
        product=product.name, target=target.name, reason=obstacle.what, next_step=obstacle.next_step, required=required
    )


_ADMITTED = {
    PlacementWish.AUTO: frozenset(Placement),
    PlacementWish.NATIVE: frozenset({Placement.NATIVE}),
    # The same compilers build for their own machine: "cross" means "not under QEMU".
    PlacementWish.CROSS: frozenset({Placement.NATIVE, Placement.CROSS}),
    PlacementWish.EMULATE: frozenset({Placement.EMULATE}),
}


def _ways(product: Product, target: Target, world: World) -> Iterator[_Way]:
    for way in _possible_ways(product.recipe, target, world):
        # A native node is the target's own container without the emulator.
        instead = way.on_node and way.placement is Placement.NATIVE and product.placement is PlacementWish.EMULATE
        if instead or way.placement in _ADMITTED[product.placement]:
            yield way


def _possible_ways(recipe: Recipe, target: Target, world: World) -> Iterator[_Way]:
    where = world.host_of(target)
    native = where.name == target.name
    host = f"this machine is {where.name}"
    compiler = Placement.NATIVE if native else Placement.CROSS
    if world.engine == "local":
        if isinstance(recipe, CommandRecipe):
            yield _Way(placement=compiler, builder="local", reason=host if native else f"cross compiler: {host}")
        return
    if isinstance(recipe, CommandRecipe):
        reason = host if native else f"cross compiler in a container: {host}"
        yield _Way(placement=compiler, builder="container", reason=reason)
    elif native and world.takers is None:
        yield _Way(placement=Placement.NATIVE, builder="buildx", reason=host)
    if world.takers is not None and target.oci and not (native and isinstance(recipe, CommandRecipe)):
        yield from map(_way_on, world.takers(target.oci))
    elif target.oci and not native:
        yield _Way(placement=Placement.EMULATE, builder="buildx", reason="container of the target under QEMU")


def _way_on(taker: Taker) -> _Way:
    placement = Placement.NATIVE if taker.native else Placement.EMULATE
    return _Way(placement=placement, builder="buildx", reason=taker.reason, on_node=True, only_kept=not taker.answers)


def _no_way(product: Product, target: Target, world: World) -> ToolchainUnavailable:
    wants_engine = product.placement is PlacementWish.EMULATE or not isinstance(product.recipe, CommandRecipe)
    if world.engine == "local" and wants_engine:
        return ToolchainUnavailable(
            "a Dockerfile or an emulated build needs a container engine, and this run has none",
            next_step="start one: `ci/engine up`",
        )
    if world.takers is not None and wants_engine and target.oci:
        return ToolchainUnavailable(
            f"no node of [engine.nodes] that answers takes {target.oci}, natively or under QEMU",
            next_step="`relbuild engine nodes list` says how each node is",
        )
    return ToolchainUnavailable(
        f"placement = '{product.placement}' cannot be had for {target.name} on this machine ({world.host.name})",
        next_step="set placement = 'auto' in the product, or take that target out of its `targets`",
    )


def _cell(matrix: Matrix, product: Product, target: Target, way: _Way, world: World) -> Cell:
    libc = _floored(matrix, product, target)
    toolchain = world.find_toolchain(way.builder, product, target, libc, way.placement)
    cell = Cell(
        product=product.name,
        target=target,
        recipe=product.recipe,
        placement=way.placement,
        reason=way.reason,
        builder=way.builder,
        toolchain=toolchain,
        libc=libc,
        source=world.sources[product.name],
        mounts=world.mounts.get(product.name, ()),
        env=product.env,
        outputs=product.outputs,
        smoke=product.smoke,
        network=product.network,
        limits=product.limits,
        version=world.version,
        epoch=world.epoch,
        required=target.name not in matrix.best_effort,
        key=CellKey(""),
    )
    return dataclasses.replace(cell, key=cell_key(cell))


def _floored(matrix: Matrix, product: Product, target: Target) -> Libc:
    floor = product.libc.floor or matrix.floors.get(target.name, "")
    return Libc(kind=product.libc.kind, floor=floor if product.libc.kind is LibcKind.GNU else "")


def _plain(value: object) -> object:
    """Turn the tuples and paths of a value into what JSON has."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
