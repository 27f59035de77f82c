"""Runs recipes with native and cross compilers in a container of the engine's own architecture."""

import contextlib
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from builders import materials, outputs, recipe_env, sources
from builders.engine import container_world, image_lookup, image_materials, owner, smoke_runs, tars, toolchains
from builders.engine.container import Engine, connect
from builders.engine.pump import watch
from builders.engine.room import Room, remove_leftovers
from builders.engine.spec import ISOLATION, ContainerSpec, ImageFacts, check_mounts
from builders.errors import BuildError, CommandFailed, ToolchainUnavailable
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
from builders.world import STANDARD, Axis, AxisState, BuildWorld, entry, pinned

_MEGABYTE = 1 << 20
_TRIAL_S = 60.0


class ContainerBuilder:
    """The Builder for containers. `run` names this run in the labels of what it makes in the engine.

    `material_cache` is a folder for what images said of themselves.
    """

    name = "container"

    def __init__(
        self, *, run: str = "", material_cache: Path | None = None, world: BuildWorld = STANDARD
    ) -> None:  # fmt: skip
        self._run = run or uuid.uuid4().hex[:12]
        self._material_cache = material_cache
        self._world = world
        self._tried: dict[str, Mapping[Axis, AxisState]] = {}
        self._found: dict[str, Toolchain] = {}
        """One image serves all targets, and the engine is asked once for each: a run lives shorter than its images."""

    def within(self, world: BuildWorld) -> "ContainerBuilder":
        """Give this builder with its recipes in another world."""
        return ContainerBuilder(run=self._run, material_cache=self._material_cache, world=world)

    def axes(self, cell: Cell, other: BuildWorld) -> Mapping[Axis, AxisState]:
        """Say what can be varied around a cell, by a trial in its image."""
        with connect() as engine:
            image, cpus = _image_of(engine, cell), engine.facts().cpus
            if image.identity not in self._tried:
                clock = watch(cell, threading.Event(), _TRIAL_S)
                labels = owner.labels(cell, self._run)
                self._tried[image.identity] = container_world.trial(engine, image, labels, clock, other)
        return {**container_world.axes(cell, other, self._tried[image.identity], cpus), **pinned(cell.env)}

    def toolchain(self, recipe: Recipe, target: Target, libc: Libc, placement: Placement) -> Toolchain:
        """Name the image that the recipe would run in, by digest. Raises ToolchainUnavailable where it is not here."""
        command = _command_recipe(recipe, placement)
        toolchains.check_supported(command.toolchain, target, libc)
        if command.toolchain not in self._found:
            self._found[command.toolchain] = _look_up(command.toolchain)
        return self._found[command.toolchain]

    def check(self, cells: Sequence[Cell]) -> None:
        """Raise a BuildError for the first cell that cannot work: its image, mounts or limits.

        Removes what killed runs left in the engine.
        """
        remove_leftovers()
        with connect() as engine:
            facts = engine.facts()
            for cell in cells:
                command = _command_recipe(cell.recipe, cell.placement)
                toolchains.check_supported(command.toolchain, cell.target, cell.libc)
                _image_of(engine, cell)
                check_mounts(cell)
                if cell.limits.memory_bytes > facts.memory_bytes:
                    raise BuildError(
                        f"{cell.id}: wants {_megabytes(cell.limits.memory_bytes)} of memory, and the engine's machine "
                        f"has {_megabytes(facts.memory_bytes)}",
                        next_step="lower `memory` of the product, or use a larger machine",
                    )

    def build(self, cell: Cell, out_dir: Path, events: BuildEvents) -> tuple[BuiltFile, ...]:
        """Run the recipe and copy its outputs; nothing of it stays in the engine."""
        recipe = _command_recipe(cell.recipe, cell.placement)
        clock = watch(cell, events.cancelled)
        with connect() as engine:
            image = _image_of(engine, cell)
            with Room(engine=engine, image=image, labels=owner.labels(cell, self._run), watch=clock) as room:
                wrappers = toolchains.wrappers(recipe.toolchain, cell.target, cell.libc)
                world, paths = self._world, container_world.paths(self._world)
                spec = self._spec(cell, recipe, image, replace(paths, tools=toolchains.TOOLS if wrappers else ""))
                room.furnish(_read_only(cell, wrappers, world), [paths.out], user=spec.user)
                container = room.start(spec)
                if spec.memory_folders:
                    container_world.unpack(room, container, paths.source)
                for argv in recipe.commands or (("sh", "-eu", "-c", recipe.script),):
                    _run(room, container, cell, argv, events, world=world)
                # Nothing may go on writing while the outputs are read.
                engine.kill(container)
                with contextlib.closing(engine.get(container, paths.out)) as stream:
                    return outputs.collect_tar(clock.over(stream), cell.outputs, out_dir, cell_id=cell.id)

    def smoke(self, cell: Cell, out_dir: Path, events: BuildEvents) -> SmokeResult:
        """Run the tests in a container of the target's platform."""
        return smoke_runs.run_tests(cell, out_dir, events, run=self._run, find_base=image_lookup.find_base)

    def materials(self, cell: Cell) -> tuple[Material, ...]:
        """Name the packages of the cell's image."""

        def ask() -> tuple[Material, ...]:
            with connect() as engine:
                return image_materials.of_toolchain(engine, cell, run=self._run)

        return materials.kept_or_made(self._material_cache, cell.toolchain.identity, ask)

    def _spec(
        self, cell: Cell, recipe: CommandRecipe, image: ImageFacts, paths: recipe_env.SandboxPaths
    ) -> ContainerSpec:  # fmt: skip
        compilers = toolchains.compilers(recipe.toolchain, cell.target)
        spec = ContainerSpec(
            image=image, volumes=(), labels=owner.labels(cell, self._run),
            env=recipe_env.recipe_env(cell, compilers, paths), working_dir="/src", network=cell.network,
            cpus=cell.limits.cpus, memory_bytes=cell.limits.memory_bytes, pids=cell.limits.pids,
        )  # fmt: skip
        return container_world.spec_in(spec, self._world, cell, paths.source)


def _command_recipe(recipe: Recipe, placement: Placement) -> CommandRecipe:
    if isinstance(recipe, CommandRecipe) and placement is not Placement.EMULATE:
        return recipe
    raise ToolchainUnavailable(
        "the container builder runs commands on the engine's own architecture only",
        next_step="Dockerfiles and emulated cells are for the buildx builder",
    )


def _look_up(name: str) -> Toolchain:
    with connect() as engine:
        platform = engine.facts().os_arch
        reference, image = image_lookup.find(engine, name, platform)
    return Toolchain(
        name=name,
        identity=image.identity,
        description=f"{name} image {reference} {image.identity} ({platform})",
        isolation=ISOLATION,
    )


def _image_of(engine: Engine, cell: Cell) -> ImageFacts:
    """Give exactly the image that the cell was planned with."""
    image = engine.image(cell.toolchain.identity)
    if image is None:
        raise ToolchainUnavailable(
            f"{cell.id}: the engine no longer has the image {cell.toolchain.identity}, which the plan names",
            next_step=f"`relbuild images build {cell.toolchain.name}`, then plan again",
        )
    return image


def _read_only(cell: Cell, wrappers: dict[str, str], world: BuildWorld) -> dict[str, Iterator[bytes]]:
    return {
        **container_world.source_streams(cell, world),
        **{str(mount.at): sources.tar_tree(mount.tree, epoch=cell.epoch) for mount in cell.mounts},
        **({toolchains.TOOLS: tars.programs(wrappers)} if wrappers else {}),
        **container_world.clock_stream(world),
    }


def _run(
    room: Room, container: str, cell: Cell, argv: Sequence[str], events: BuildEvents, *, world: BuildWorld
) -> None:  # fmt: skip
    code = room.run(container, entry(argv, world), lambda piece: events.output(piece[0] or piece[1]))
    if code == 0:
        return
    if room.engine.out_of_memory(container):
        raise CommandFailed(
            f"{cell.id}: `{shown(argv)}` ended with exit code {code}: it reached the memory limit of "
            f"{_megabytes(cell.limits.memory_bytes)} and the kernel killed a process",
            next_step="raise `memory` of the product, or let it use fewer processes at once; $TMPDIR counts too",
        )
    raise CommandFailed(
        f"{cell.id}: `{shown(argv)}` ended with exit code {code}",
        next_step="see the log of the cell; its last lines say what the command missed",
    )


def shown(argv: Sequence[str]) -> str:
    """Give a command as an error names it: a script's whole text is too long."""
    return "the script" if tuple(argv[:3]) == ("sh", "-eu", "-c") else " ".join(argv)[:200]


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / _MEGABYTE:.0f} MiB" if size_bytes else "the machine"
