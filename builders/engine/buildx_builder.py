"""Builds for the target's own platform by BuildKit: a project's Dockerfile, or a recipe under QEMU.

A Dockerfile's last stage (or `stage`) is exported as files: its folder /out is $OUT, and where it has none its root
is. `FROM scratch` with one COPY is best, because every file of the stage travels. `FROM relbuild/NAME` means the
image that containers/ describes now, for the target's platform. A cell is one solve, so that cells fail one by one.
"""

import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from builders import materials, outputs, sources
from builders.engine import (
    buildx,
    buildx_world,
    emulated,
    image_builds,
    image_lookup,
    image_materials,
    node_solves,
    smoke_runs,
    toolchains,
)
from builders.engine.container import connect
from builders.engine.nodes import NodeSet
from builders.engine.spec import ImageFacts, check_mounts
from builders.errors import BuildError, TimedOut, ToolchainUnavailable
from builders.model import (
    BuildEvents,
    BuiltFile,
    Cell,
    CommandRecipe,
    Digest,
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

_ISOLATION = "BuildKit: a private container for each step, no network unless asked; memory and CPU are not bounded"
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
                return _dockerfile_toolchain(recipe, target, node_solves.version(self._nodes, target, placement))
            case CommandRecipe() if placement is Placement.EMULATE or self._nodes is not None:
                toolchains.check_supported(recipe.toolchain, target, libc)
                return _emulated_toolchain(recipe, target)
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
                _dockerfile_text(cell, cell.recipe)
            else:
                self.toolchain(cell.recipe, cell.target, cell.libc, cell.placement)
                emulated.check(cell)

    def build(self, cell: Cell, out_dir: Path, events: BuildEvents) -> tuple[BuiltFile, ...]:
        """Solve the cell and copy its outputs. Raises as every builder does; the solve in the engine stops as well."""
        post = node_solves.post(self._nodes, cell)
        with tempfile.TemporaryDirectory(prefix="relbuild-") as room:
            work = Path(room)
            sources.write_tree(cell.source, work / "src", epoch=cell.epoch)
            if isinstance(cell.recipe, DockerfileRecipe):
                solve = self._dockerfile_solve(cell, cell.recipe, work, events)
            else:
                solve = _emulated_solve(cell, cell.recipe, work, events, world=self._world)
            if post is not None:
                own = {name: image for name, _, image in _own_images(cell.recipe, cell.target)}
                solve = post.sent(solve, own)
            with _named(cell), post.blamed() if post else nullcontext():
                buildx.run(solve, on_output=events.output, cancelled=events.cancelled,
                           timeout_s=cell.limits.timeout_s, what=cell.id)  # fmt: skip
            self._record(cell, work, events, post)
            return outputs.collect(_outputs_folder(work / "result"), cell.outputs, out_dir, cell_id=cell.id)

    def smoke(self, cell: Cell, out_dir: Path, events: BuildEvents) -> SmokeResult:
        """Run the tests in a container of the target's platform."""
        return smoke_runs.run_tests(cell, out_dir, events, run=self._run, find_base=image_lookup.find_base)

    def materials(self, cell: Cell) -> tuple[Material, ...]:
        """Name the base images of a Dockerfile, or the packages of the image that a recipe is emulated in."""

        def ask() -> tuple[Material, ...]:
            if isinstance(cell.recipe, DockerfileRecipe):
                return _base_images(cell.recipe, cell.target)
            with connect() as engine:
                return image_materials.of_toolchain(engine, cell, run=self._run)

        return materials.kept_or_made(self._material_cache, cell.toolchain.identity, ask)

    def _record(self, cell: Cell, work: Path, events: BuildEvents, post: node_solves.Post | None) -> None:
        """Hand on what BuildKit says of the solve, and take it out of the outputs."""
        said = {"metadata": work / "metadata.json", "provenance": _provenance_file(work)}
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

    def _dockerfile_solve(self, cell: Cell, recipe: DockerfileRecipe, work: Path, events: BuildEvents) -> buildx.Solve:
        for image in unpinned_images(recipe.images):
            events.step(f"{recipe.dockerfile} stands on {image}, which names no digest: its bytes may change")
        scope = None if self._cache is None else self._cache / cell.target.name
        return buildx.Solve(
            context=work / "src", dockerfile=work / "src" / recipe.dockerfile, platforms=(cell.target.oci,),
            output=_output(work), stage=recipe.stage,
            args=_build_args(cell) | buildx_world.build_args(self._world),
            contexts=_mounted(cell, work) | {name: f"docker-image://{reference}" for name, reference, _ in
                                             _own_images(recipe, cell.target)},
            network=cell.network, fresh=self._fresh, cache=scope, provenance=True, metadata=work / "metadata.json",
        )  # fmt: skip


def unpinned_images(images: Sequence[str]) -> tuple[str, ...]:
    """Name those images of a Dockerfile that no digest holds to their bytes."""
    return tuple(image for image in images if "@sha256:" not in image and image not in _own_names())


def _dockerfile_toolchain(recipe: DockerfileRecipe, target: Target, version: str) -> Toolchain:
    """Cover BuildKit and those of relbuild's own images that the Dockerfile stands on; others count by their names."""
    own = {name: image.identity for name, _, image in _own_images(recipe, target)}
    missing = [image for image in recipe.images if image in _own_names() and image not in own]
    if missing:
        name = missing[0].removeprefix(f"{toolchains.REPOSITORY}/")
        raise ToolchainUnavailable(
            f"the image {missing[0]} for {target.oci}, on which {recipe.dockerfile} stands, is not built yet",
            next_step=f"`relbuild images build {name} --platform {target.oci}`; `relbuild matrix` does it by itself",
        )
    bases = [f"{image}@{own[image]}" if image in own else image for image in recipe.images]
    listing = json.dumps([version, bases, target.oci])
    return Toolchain(
        name="buildx",
        identity=Digest(f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}"),
        description=f"{version} for {target.oci} from {', '.join(bases) or 'scratch'}",
        isolation=_ISOLATION,
    )


def _emulated_toolchain(recipe: CommandRecipe, target: Target) -> Toolchain:
    with connect() as engine:
        reference, image = image_lookup.find(engine, recipe.toolchain, target.oci)
    return Toolchain(
        name=recipe.toolchain,
        identity=image.identity,
        description=f"{recipe.toolchain} image {reference} {image.identity} ({target.oci}, emulated)",
        isolation=_ISOLATION,
    )


def _own_names() -> frozenset[str]:
    return frozenset(f"{toolchains.REPOSITORY}/{name}" for name in toolchains.IMAGES)


def _own_images(recipe: Recipe, target: Target) -> tuple[tuple[str, str, ImageFacts], ...]:
    """Give the own images that a recipe uses: what a FROM line calls them, their present names, and them."""
    images = recipe.images if isinstance(recipe, DockerfileRecipe) else ()
    used = [name for name in toolchains.IMAGES if f"{toolchains.REPOSITORY}/{name}" in images]
    with connect() as engine:
        looked = [(name, *image_lookup.look(engine, name, target.oci)) for name in used]
    return tuple(
        (f"{toolchains.REPOSITORY}/{name}", reference, image) for name, reference, image in looked if image is not None
    )


def _base_images(recipe: DockerfileRecipe, target: Target) -> tuple[Material, ...]:
    own = {name: image.identity for name, _, image in _own_images(recipe, target)}
    return tuple(
        materials.image(name, own.get(name) or (f"sha256:{digest}" if digest else ""), target.oci)
        for name, _, digest in (image.partition("@sha256:") for image in recipe.images)
    )


def _build_args(cell: Cell) -> dict[str, str]:
    return {
        **cell.env,
        "SOURCE_DATE_EPOCH": str(cell.epoch),
        "RELBUILD_TARGET": cell.target.name,
        "RELBUILD_VERSION": cell.version,
    }


def _dockerfile_text(cell: Cell, recipe: DockerfileRecipe) -> str:
    if recipe.dockerfile not in {file.path for file in cell.source.files}:
        raise BuildError(
            f"{cell.id}: the Dockerfile {recipe.dockerfile} is not in the source",
            next_step="mend `dockerfile` of the product; files that git ignores are not part of the source",
        )
    return (cell.source.root / recipe.dockerfile).read_text(encoding="utf-8", errors="replace")


def _emulated_solve(
    cell: Cell, recipe: CommandRecipe, work: Path, events: BuildEvents, *, world: BuildWorld
) -> buildx.Solve:  # fmt: skip
    """Word a recipe as a solve. No earlier layer is used: a cell that is built again must really run again."""
    image = _emulated_image(cell, recipe, events)
    job = work / "job"
    emulated.write_job(cell, recipe, image, job, world=world)
    return buildx.Solve(
        context=job, dockerfile=job / "Dockerfile", platforms=(cell.target.oci,),
        output=_output(work), args={"SOURCE_DATE_EPOCH": str(cell.epoch)} | buildx_world.build_args(world),
        contexts={"src": str(work / "src"), "job": str(job), **_mounted(cell, work)},
        network=cell.network, fresh=True, provenance=True, metadata=work / "metadata.json",
    )  # fmt: skip


def _emulated_image(cell: Cell, recipe: CommandRecipe, events: BuildEvents) -> str:
    """Name the image of the plan, making it again where it was removed since."""
    image_builds.prepare([(recipe.toolchain, cell.target.oci)], events.step, events.cancelled)
    with connect() as engine:
        reference, image = image_lookup.find(engine, recipe.toolchain, cell.target.oci)
    if image.identity != cell.toolchain.identity:
        raise ToolchainUnavailable(
            f"{cell.id}: the image {reference} is {image.identity}, and the plan names {cell.toolchain.identity}",
            next_step="plan again: the images were built anew since",
        )
    return reference


def _mounted(cell: Cell, work: Path) -> dict[str, str]:
    """Copy the mounts beside the source; a Dockerfile takes them by `--mount=type=bind,from=mount0`."""
    folders: dict[str, str] = {}
    for number, mount in enumerate(cell.mounts):
        sources.write_tree(mount.tree, work / f"mount{number}", epoch=cell.epoch)
        folders[f"mount{number}"] = str(work / f"mount{number}")
    return folders


def _output(work: Path) -> dict[str, str]:
    # A random name, which no recipe can know: no file of a build takes the place of BuildKit's own word.
    return {"type": "local", "dest": str(work / "result"), "attestation-prefix": f"{work.name}."}


def _provenance_file(work: Path) -> Path:
    return work / "result" / f"{work.name}.provenance.json"


def _outputs_folder(result: Path) -> Path:
    inside = result / "out"
    return inside if inside.is_dir() and not inside.is_symlink() else result


@contextmanager
def _named(cell: Cell) -> Iterator[None]:
    try:
        yield
    except TimedOut as error:
        raise TimedOut(f"{cell.id}: {error.what}", next_step=error.next_step) from error
