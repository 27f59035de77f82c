"""Builds for the target's own platform by BuildKit: a project's Dockerfile, or a recipe under QEMU.

A cell is one solve, so that cells fail one by one.
"""

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from builders import materials, outputs, sources
from builders.engine import (
    buildx,
    buildx_toolchains,
    buildx_world,
    cell_solves,
    emulated,
    image_lookup,
    image_materials,
    node_solves,
    smoke_runs,
    toolchains,
)
from builders.engine.container import connect
from builders.engine.nodes import NodeSet
from builders.engine.spec import check_mounts
from builders.errors import BuildError, TimedOut, ToolchainUnavailable
from builders.model import (
    BuildEvents,
    BuiltFile,
    Cell,
    CommandRecipe,
    DockerfileRecipe,
    Libc,
    Material,
    Placement,
    Recipe,
    SmokeResult,
    Toolchain,
)
from builders.targets import Target
from builders.world import STANDARD, Axis, AxisState, BuildWorld, pinned

PROVENANCE = "buildkit-provenance.json"
"""The name under which BuildKit's own provenance is attached to a build."""


class BuildxBuilder:
    """The Builder for Dockerfiles and for emulated recipes.

    `fresh` uses no layer of an earlier solve; `cache` is a folder of layers, one scope per target below it; `records`
    is a folder for BuildKit's metadata and provenance of each cell; `material_cache` one for what images said. With
    `nodes`, each platform is solved on the node that takes it; images of the engine travel there with the solve.
    """

    name = "buildx"

    def __init__(
        self, *, run: str = "", fresh: bool = False, cache: Path | None = None, records: Path | None = None,
        material_cache: Path | None = None, world: BuildWorld = STANDARD, nodes: NodeSet | None = None,
    ) -> None:  # fmt: skip
        self._world = world
        self._nodes = nodes
        self._run = run or uuid.uuid4().hex[:12]
        self._fresh = fresh
        self._cache = cache
        self._records = records
        self._material_cache = material_cache

    def within(self, world: BuildWorld) -> "BuildxBuilder":
        """Give this builder with its steps in another world; no layer of an earlier solve is then used."""
        return BuildxBuilder(
            run=self._run, fresh=True, cache=None, records=self._records, material_cache=self._material_cache,
            world=world, nodes=self._nodes,
        )  # fmt: skip

    def axes(self, cell: Cell, _other: BuildWorld) -> Mapping[Axis, AxisState]:
        """Say what can be varied around a cell."""
        if isinstance(cell.recipe, DockerfileRecipe):
            return buildx_world.axes(cell)
        return {**buildx_world.axes(cell), **pinned(cell.env)}

    def toolchain(self, recipe: Recipe, target: Target, libc: Libc, placement: Placement) -> Toolchain:
        """Name what would build this. Raises ToolchainUnavailable where the emulated image is not here."""
        if target.os != "linux":
            raise ToolchainUnavailable(
                f"BuildKit has no platform for {target.name}", next_step='use recipe = "command" with a cross toolchain'
            )
        match recipe:
            case DockerfileRecipe():
                return buildx_toolchains.of_dockerfile(
                    recipe, target, node_solves.version(self._nodes, target, placement)
                )
            case CommandRecipe() if placement is Placement.EMULATE or self._nodes is not None:
                toolchains.check_supported(recipe.toolchain, target, libc)
                return buildx_toolchains.of_emulated(recipe, target)
            case _:
                raise ToolchainUnavailable(
                    "the buildx builder runs Dockerfiles and emulated recipes only",
                    next_step="native and cross cells are for the container builder",
                )

    def check(self, cells: Sequence[Cell]) -> None:
        """Raise a BuildError for a missing buildx, image, emulator or Dockerfile, and for a mount that cannot be."""
        if self._nodes is None:
            buildx.version()
        else:
            self._nodes.prepare([cell.target.oci for cell in cells])
        for cell in {cell.target.name: cell for cell in cells}.values():
            smoke_runs.check_runs(cell, run=self._run, find_base=image_lookup.find_base)
        for cell in cells:
            check_mounts(cell)
            if isinstance(cell.recipe, DockerfileRecipe):
                cell_solves.check_dockerfile(cell, cell.recipe)
            else:
                self.toolchain(cell.recipe, cell.target, cell.libc, cell.placement)
                emulated.check(cell)

    def build(self, cell: Cell, out_dir: Path, events: BuildEvents) -> tuple[BuiltFile, ...]:
        """Solve the cell and copy its outputs. Raises as every builder does; the solve in the engine stops as well."""
        post = node_solves.post(self._nodes, cell)
        with tempfile.TemporaryDirectory(prefix="relbuild-") as room:
            work = Path(room)
            sources.write_tree(cell.source, work / "src", epoch=cell.epoch)
            solve = self._solve(cell, work, events)
            if post is not None:
                own = {name: image for name, _, image in buildx_toolchains.own_images(cell.recipe, cell.target)}
                solve = post.sent(solve, own)
            with _named(cell), post.blamed() if post else nullcontext():
                buildx.run(solve, on_output=events.output, cancelled=events.cancelled,
                           timeout_s=cell.limits.timeout_s, what=cell.id)  # fmt: skip
            self._record(cell, work, events, post)
            return outputs.collect(cell_solves.outputs_folder(work), cell.outputs, out_dir, cell_id=cell.id)

    def smoke(self, cell: Cell, out_dir: Path, events: BuildEvents) -> SmokeResult:
        """Run the tests in a container of the target's platform."""
        return smoke_runs.run_tests(cell, out_dir, events, run=self._run, find_base=image_lookup.find_base)

    def materials(self, cell: Cell) -> tuple[Material, ...]:
        """Name the base images of a Dockerfile, or the packages of the image that a recipe is emulated in."""

        def ask() -> tuple[Material, ...]:
            if isinstance(cell.recipe, DockerfileRecipe):
                return buildx_toolchains.base_images(cell.recipe, cell.target)
            with connect() as engine:
                return image_materials.of_toolchain(engine, cell, run=self._run)

        return materials.kept_or_made(self._material_cache, cell.toolchain.identity, ask)

    def _record(self, cell: Cell, work: Path, events: BuildEvents, post: node_solves.Post | None) -> None:
        """Hand on what BuildKit says of the solve, and take it out of the outputs."""
        said = {"metadata": cell_solves.metadata_file(work), "provenance": cell_solves.provenance_file(work)}
        if not said["provenance"].is_file():
            raise BuildError(
                f"{cell.id}: BuildKit gave no provenance of its solve",
                next_step="use an engine with BuildKit 0.11 or newer: `ci/engine up` sets one up",
            )
        if post is not None:
            events.step(post.check(said["metadata"], said["provenance"].read_bytes()))
        events.attach(PROVENANCE, said["provenance"].read_bytes())
        for kind, path in said.items():
            if self._records is not None and path.is_file():
                self._records.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, self._records / f"{cell.product}_{cell.target.os_arch}.{kind}.json")
            path.unlink(missing_ok=True)

    def _solve(self, cell: Cell, work: Path, events: BuildEvents) -> buildx.Solve:
        if isinstance(cell.recipe, DockerfileRecipe):
            return cell_solves.of_dockerfile(
                cell, cell.recipe, work, events, world=self._world, fresh=self._fresh, cache=self._cache
            )
        return cell_solves.of_emulated(cell, cell.recipe, work, events, world=self._world)


@contextmanager
def _named(cell: Cell) -> Iterator[None]:
    try:
        yield
    except TimedOut as error:
        raise TimedOut(f"{cell.id}: {error.what}", next_step=error.next_step) from error
