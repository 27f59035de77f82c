"""The embedded default: no daemon, no root. Cross-compiles with what PyPI or this machine has."""

import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from builders import command, materials, outputs, recipe_env, smoke
from builders.errors import CommandFailed, TimedOut, ToolchainUnavailable
from builders.local import local_axes, local_materials, local_toolchains, sandbox, zig_cache
from builders.local.local_toolchains import LocalToolchain
from builders.local.sandbox import Isolation, Room
from builders.local.workshop import TOOLS, Workshop, remove_leftovers, workshop
from builders.local.workshop import remove_folder as remove_folder  # noqa: PLC0414  (the room's name for it outside)
from builders.model import (
    BuildEvents,
    BuiltFile,
    Cell,
    CommandRecipe,
    Libc,
    Material,
    Placement,
    Recipe,
    SmokeResult,
    Toolchain,
)
from builders.targets import Target
from builders.world import STANDARD, Axis, AxisState, BuildWorld, entry, environment, pinned

_warming = threading.Lock()


class LocalBuilder:
    """Runs recipes on this machine, as far apart from it as `sandbox` finds possible.

    `work` is a folder for what dies with each cell, `cache` one for what is kept between runs:
    Zig's own, and what toolchains consist of.
    """

    name = "local"

    def __init__(self, *, work: Path, cache: Path, world: BuildWorld = STANDARD) -> None:
        self._work = work
        self._cache = cache
        self._world = world

    def within(self, world: BuildWorld) -> "LocalBuilder":
        """Give this builder with its recipes in another world."""
        return LocalBuilder(work=self._work, cache=self._cache, world=world)

    def axes(self, cell: Cell, other: BuildWorld) -> Mapping[Axis, AxisState]:
        """Say what can be varied around a cell here."""
        return {**local_axes.of_this_machine(cell, other, self._work), **pinned(cell.env)}

    def toolchain(self, recipe: Recipe, target: Target, libc: Libc, placement: Placement) -> Toolchain:
        """Name the compiler that this machine has for the recipe. Raises ToolchainUnavailable."""
        if placement is Placement.EMULATE or not isinstance(recipe, CommandRecipe):
            raise ToolchainUnavailable(
                "the local builder has no containers, which a Dockerfile and an emulated build need",
                next_step="start a container engine: `ci/engine up`",
            )
        found = self._find(recipe, target, libc)
        return Toolchain(
            name=found.name,
            identity=found.identity,
            description=found.description,
            isolation=sandbox.available().value,
        )

    def check(self, cells: Sequence[Cell]) -> None:
        """Raise ToolchainUnavailable for the first cell whose compiler is not here. Clears what a killed run left."""
        remove_leftovers(self._work)
        for cell in cells:
            self.toolchain(cell.recipe, cell.target, cell.libc, cell.placement)
            if cell.mounts and sandbox.available() is not Isolation.BUBBLEWRAP:
                raise ToolchainUnavailable(
                    f"{cell.id}: `mounts` need a file system of their own, and bubblewrap does not work here",
                    next_step="install bubblewrap, or use a container engine",
                )

    def build(self, cell: Cell, out_dir: Path, events: BuildEvents) -> tuple[BuiltFile, ...]:
        """Run the recipe in a fresh folder and collect its outputs."""
        recipe = cell.recipe
        if not isinstance(recipe, CommandRecipe):
            raise ToolchainUnavailable(f"{cell.id}: the local builder cannot build a Dockerfile")
        tools = self._find(recipe, cell.target, cell.libc)
        with workshop(cell, tools, self._work, self._world) as shop:
            if tools.zig_triple:
                self._warm(zig_cache.language(cell.source, recipe), tools, shop, events)
            env = recipe_env.recipe_env(cell, shop.compilers, shop.paths)
            env = environment(env, self._world, cell.env, preload=shop.preload)
            for argv in _commands(recipe):
                _run(cell, argv, shop, env, events)
            return outputs.collect(shop.out, cell.outputs, out_dir, cell_id=cell.id)

    def smoke(self, cell: Cell, out_dir: Path, events: BuildEvents) -> SmokeResult:
        """Run the tests on this machine, or under QEMU."""
        return smoke.run_on_host(cell, out_dir, events.cancelled)

    def materials(self, cell: Cell) -> tuple[Material, ...]:
        """Name the compilers of this machine that the cell is built with."""
        recipe = cell.recipe
        if not isinstance(recipe, CommandRecipe):
            raise ToolchainUnavailable(f"{cell.id}: the local builder cannot build a Dockerfile")
        return materials.kept_or_made(
            self._cache / materials.FOLDER,
            cell.toolchain.identity,
            lambda: local_materials.of_toolchain(self._find(recipe, cell.target, cell.libc), cell.target),
        )

    def _find(self, recipe: CommandRecipe, target: Target, libc: Libc) -> LocalToolchain:
        moved = sandbox.available() is Isolation.BUBBLEWRAP
        return local_toolchains.find(recipe.toolchain, target, libc, moved=moved, tools=TOOLS if moved else "@TOOLS@")

    def _warm(self, language: str, tools: LocalToolchain, shop: Workshop, events: BuildEvents) -> None:
        """Give the cell a private copy of what Zig builds once per target, made apart from any recipe.

        A copy, because a recipe that could write to the shared one could change the next product's bytes.
        """
        name = f"{tools.identity.removeprefix('sha256:')[:16]}-{sandbox.available().name.lower()}-{language}"
        kept = self._cache / "zig" / name
        with _warming:
            if not kept.is_dir():
                events.step(f"preparing {tools.description} (once per target)")
                compiler = shop.compilers["CXX" if language == "c++" else "CC"]
                fresh = shop.folder / "fresh"
                zig_cache.fill(
                    kept, fresh=fresh, compiler=compiler, lang=language, binds=shop.plain_binds, events=events
                )
        shutil.copytree(kept, shop.folder / "tmp" / "zig-cache", dirs_exist_ok=True)


def _commands(recipe: CommandRecipe) -> tuple[tuple[str, ...], ...]:
    return recipe.commands or (("sh", "-eu", "-c", recipe.script),)


def _run(cell: Cell, argv: Sequence[str], shop: Workshop, env: Mapping[str, str], events: BuildEvents) -> None:
    isolation = sandbox.available()
    room = Room(
        binds=shop.binds,
        cwd=shop.paths.source,
        env=env,
        network=cell.network,
        memory_bytes=cell.limits.memory_bytes,
        host_name=shop.world.host_name,
        user=shop.world.user,
    )
    own_files = isolation is Isolation.BUBBLEWRAP
    try:
        code = command.stream(
            sandbox.wrap(entry(argv, shop.world, taskset=True), room, isolation),
            on_output=events.output,
            cancelled=events.cancelled,
            timeout_s=cell.limits.timeout_s,
            cwd=None if own_files else shop.source,
            env=sandbox.own_env() if own_files else env,
        )
    except TimedOut as error:
        raise TimedOut(f"{cell.id}: {error.what}", next_step=error.next_step) from error
    if code != 0:
        shown = argv[0] if len(argv) < 4 else " ".join(argv[:3])  # noqa: PLR2004  (a script's text is too long)
        raise CommandFailed(
            f"{cell.id}: `{shown}` {_ending(code)}",
            next_step="read the cell's log; the last lines say what the command missed",
        )


def _ending(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
