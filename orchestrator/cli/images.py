"""`relbuild images`: the toolchain images of containers/."""

from typing import Annotated

import typer

from orchestrator.cli import options

app = typer.Typer(help="Build, list, pin and remove the toolchain images.", no_args_is_help=True)

Platforms = Annotated[
    list[str] | None,
    typer.Option("--platform", help="Platforms or targets, comma-separated or repeated; default: the engine's."),
]


@app.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(help="base, gcc, zig, go, rust; default: all.")] = None,
    platform: Platforms = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Build even what is there, without earlier layers.")] = False,
) -> None:
    """Build images and those that they stand on. What is there as containers/ describes it is left alone."""
    from builders.engine import image_builds, toolchains  # noqa: PLC0415  (--help does not need the docker SDK)

    wanted = [toolchains.chain(name)[-1].name for name in names or toolchains.IMAGES]
    platforms = _platforms(platform)
    works = image_builds.ImageWorks(on_step=_say, fresh=fresh)
    for oci in platforms:
        for name in wanted:
            image = works.ensure(name, oci)
            print(f"{name}  {oci}  {image.identity}")
    works.name_base_for_users()


@app.command()
def pull() -> None:
    """Bring the outside images that containers/pins.toml pins for this engine, by digest."""
    from builders.engine import image_builds  # noqa: PLC0415  (as above)

    for name in image_builds.pull(_say):
        print(name)


@app.command(name="list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print the images as JSON.")] = False,
) -> None:
    """List the images that the engine has, and those that it lacks for its own platform."""
    import dataclasses  # noqa: PLC0415  (as above)

    from builders.engine import image_builds  # noqa: PLC0415
    from orchestrator.cli import tables  # noqa: PLC0415

    rows = image_builds.listing()
    if as_json:
        print(tables.to_json([dataclasses.asdict(row) for row in rows]))
        return
    lines = [
        (row.name, row.platform, row.reference, row.identity[:19] or "to build", tables.size(row.size_bytes))
        for row in rows
    ]
    print(tables.columns(("IMAGE", "PLATFORM", "NAME", "DIGEST", "SIZE"), lines))


@app.command()
def pin() -> None:
    """Write the digests of the root file systems that were made here into containers/pins.toml."""
    from builders.engine import image_builds  # noqa: PLC0415  (as above)

    path = image_builds.pins_file()
    pins = image_builds.pin(path, image_builds.default_cache())
    rootfs = pins.bootstrap.rootfs if pins.bootstrap else {}
    print("\n".join([f"{path}:", *(f"  {name}  {digest}" for name, digest in sorted(rootfs.items()))]))


@app.command()
def prune() -> None:
    """Remove images that relbuild built from older files of containers/."""
    from builders.engine import image_builds  # noqa: PLC0415  (as above)

    removed = image_builds.prune()
    print("\n".join([*(f"removed {name}" for name in removed), f"{len(removed)} images removed"]))


def _platforms(given: list[str] | None) -> tuple[str, ...]:
    from builders.engine import container, toolchains  # noqa: PLC0415  (as above)

    asked = options.names(given) or (container.engine_facts().os_arch,)
    return tuple(toolchains.platform_target(name).oci for name in asked)


def _say(text: str) -> None:
    typer.echo(text, err=True)
