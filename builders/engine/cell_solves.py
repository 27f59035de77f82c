"""Words a cell as a solve of BuildKit, and knows where in the cell's private folder the answer lies.

A Dockerfile's last stage (or `stage`) is exported as files: its folder /out is $OUT, and where it has none its root
is. `FROM scratch` with one COPY is best, because every file of the stage travels.
"""

from pathlib import Path

from builders import sources
from builders.engine import buildx, buildx_toolchains, buildx_world, emulated, image_builds, image_lookup
from builders.engine.container import connect
from builders.errors import BuildError, ToolchainUnavailable
from builders.model import BuildEvents, Cell, CommandRecipe, DockerfileRecipe
from builders.world import BuildWorld


def of_dockerfile(
    cell: Cell, recipe: DockerfileRecipe, work: Path, events: BuildEvents, *, world: BuildWorld, fresh: bool,
    cache: Path | None,
) -> buildx.Solve:  # fmt: skip
    """Word a project's Dockerfile as a solve of `work`/src. `cache` is a folder of layers, one scope per target."""
    for image in buildx_toolchains.unpinned_images(recipe.images):
        events.step(f"{recipe.dockerfile} stands on {image}, which names no digest: its bytes may change")
    own = {
        name: f"docker-image://{reference}" for name, reference, _ in buildx_toolchains.own_images(recipe, cell.target)
    }
    return buildx.Solve(
        context=work / "src", dockerfile=work / "src" / recipe.dockerfile, platforms=(cell.target.oci,),
        output=_output(work), stage=recipe.stage, args=_build_args(cell) | buildx_world.build_args(world),
        contexts=_mounted(cell, work) | own, network=cell.network, fresh=fresh,
        cache=None if cache is None else cache / cell.target.name, provenance=True, metadata=metadata_file(work),
    )  # fmt: skip


def of_emulated(
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
        network=cell.network, fresh=True, provenance=True, metadata=metadata_file(work),
    )  # fmt: skip


def check_dockerfile(cell: Cell, recipe: DockerfileRecipe) -> None:
    """Raise BuildError where the Dockerfile is not among the sources."""
    if recipe.dockerfile not in {file.path for file in cell.source.files}:
        raise BuildError(
            f"{cell.id}: the Dockerfile {recipe.dockerfile} is not in the source",
            next_step="mend `dockerfile` of the product; files that git ignores are not part of the source",
        )


def metadata_file(work: Path) -> Path:
    """Say where buildx writes what it says of a solve."""
    return work / "metadata.json"


def provenance_file(work: Path) -> Path:
    """Say where BuildKit writes its own provenance."""
    return work / "result" / f"{work.name}.provenance.json"


def outputs_folder(work: Path) -> Path:
    """Say where the outputs lie that were exported."""
    inside = work / "result" / "out"
    return inside if inside.is_dir() and not inside.is_symlink() else work / "result"


def _output(work: Path) -> dict[str, str]:
    # A random name, which no recipe can know: no file of a build takes the place of BuildKit's own word.
    return {"type": "local", "dest": str(work / "result"), "attestation-prefix": f"{work.name}."}


def _build_args(cell: Cell) -> dict[str, str]:
    return {
        **cell.env,
        "SOURCE_DATE_EPOCH": str(cell.epoch),
        "RELBUILD_TARGET": cell.target.name,
        "RELBUILD_VERSION": cell.version,
    }


def _mounted(cell: Cell, work: Path) -> dict[str, str]:
    """Copy the mounts beside the source; a Dockerfile takes them by `--mount=type=bind,from=mount0`."""
    folders: dict[str, str] = {}
    for number, mount in enumerate(cell.mounts):
        sources.write_tree(mount.tree, work / f"mount{number}", epoch=cell.epoch)
        folders[f"mount{number}"] = str(work / f"mount{number}")
    return folders


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
