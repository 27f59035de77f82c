"""Containers in another world: where things lie in them, what is sent into them, and what a trial shows to work."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from builders import recipe_env, sources
from builders.copying import read_chunks
from builders.engine import tars
from builders.engine.container import Engine
from builders.engine.pump import Watch
from builders.engine.room import Room
from builders.engine.spec import HOST_NAME, ContainerSpec, ImageFacts
from builders.errors import BuildError
from builders.model import Cell, SourceTree
from builders.world import (
    NO_LIBFAKETIME,
    SAMPLE,
    STANDARD,
    TOO_LARGE,
    Axis,
    AxisState,
    BuildWorld,
    Fixed,
    Varies,
    environment,
    fits_in_memory,
    in_order,
)

CLOCK: Final = "/clock"
_LIBRARY: Final = "libfaketime.so.1"
PACKED: Final = "/packed-source"
_TAR: Final = "source.tar"
_UNPACK: Final = ("sh", "-c", f'umask 022; exec tar -xf {PACKED}/{_TAR} -C "$0"')
_EPOCH: Final = 1_000_000_000


def paths(world: BuildWorld) -> recipe_env.SandboxPaths:
    """Say where a recipe finds things. What is temporary stays below /tmp, which is the container's own."""
    if not world.root:
        return recipe_env.SANDBOX
    return replace(recipe_env.placed_below(world.root), tmp=f"/tmp{world.root}")  # noqa: S108 - inside the container


def spec_in(spec: ContainerSpec, world: BuildWorld, cell: Cell, place: str) -> ContainerSpec:
    """Give a container of the recipe another world. `place` is where the source lies."""
    if world == STANDARD:
        return spec
    return replace(
        spec, env=environment(spec.env, world, cell.env, preload=f"{CLOCK}/{_LIBRARY}"), working_dir=place,
        user=spec.user if world.user is None else world.user, host_name=world.host_name or HOST_NAME,
        cpu_set=",".join(map(str, range(world.cpus))), memory_folders=(place,) if _in_memory(cell, world) else (),
    )  # fmt: skip


def source_streams(cell: Cell, world: BuildWorld) -> dict[str, Iterator[bytes]]:
    """Give the source as a volume: as it is, or packed where its names are to be written in another order."""
    if _in_memory(cell, world):
        return {PACKED: _packed(in_order(cell.source, world), cell.epoch)}
    return {paths(world).source: sources.tar_tree(cell.source, epoch=cell.epoch)}


def _in_memory(cell: Cell, world: BuildWorld) -> bool:
    return world.disordered and fits_in_memory(cell.source)


def clock_stream(world: BuildWorld) -> dict[str, Iterator[bytes]]:
    """Give libfaketime as a volume, where the world needs it."""
    if not world.clock_ahead_s:
        return {}
    return {CLOCK: tars.programs({_LIBRARY: Path(world.libfaketime).read_bytes()})}


def unpack(room: Room, container: str, place: str) -> None:
    """Write a packed source into the container's memory. Raises BuildError."""
    said = bytearray()
    if room.run(container, (*_UNPACK, place), lambda piece: said.extend(piece[0] or piece[1])):
        raise BuildError(f"the source cannot be unpacked in the container: {said.decode('utf-8', 'replace')[:300]}")


def _packed(tree: SourceTree, epoch: int) -> Iterator[bytes]:
    # A tar header tells a size before the bytes.
    with tempfile.TemporaryFile() as file:
        for chunk in sources.tar_tree(tree, epoch=epoch):
            file.write(chunk)
        size = file.tell()
        file.seek(0)
        yield from tars.file_of(_TAR, size, read_chunks(file.fileno()))


# --- what can be varied --------------------------------------------------------------------------------------------


def axes(cell: Cell, other: BuildWorld, tried: Mapping[Axis, AxisState], cpus: int) -> dict[Axis, AxisState]:
    """Say for every axis whether a container can have the other world's. `tried` is what a trial of the image gave."""
    many = Varies(usual=str(cpus)) if cpus > 1 else Fixed(reason="the engine's machine has one CPU")
    return {
        Axis.PATH: Varies(usual="/src, /out and /tmp"),
        Axis.TIME: tried[Axis.TIME] if other.libfaketime else NO_LIBFAKETIME,
        Axis.TIME_ZONE: Varies(usual="UTC"),
        Axis.LOCALE: Varies(usual="C.UTF-8"),
        Axis.UMASK: Varies(usual="0022"),
        Axis.HOST_NAME: Varies(usual=HOST_NAME),
        Axis.USER: Varies(usual=str(tars.RECIPE_USER), limits="the image knows neither by name"),
        Axis.CPU_COUNT: many,
        Axis.FILE_ORDER: tried[Axis.FILE_ORDER] if fits_in_memory(cell.source) else TOO_LARGE,
        Axis.ENVIRONMENT: Varies(usual="no more than the promised variables"),
    }


def trial(
    engine: Engine, image: ImageFacts, labels: Mapping[str, str], watch: Watch, other: BuildWorld
) -> dict[Axis, AxisState]:  # fmt: skip
    """Try in a container of the image whether its clock and the order of names can be other ones."""
    with tempfile.TemporaryDirectory(prefix="relbuild-trial-") as folder, Room(
        engine=engine, image=image, labels=labels, watch=watch
    ) as room:  # fmt: skip
        tree = _sample(Path(folder))
        read_only = {"/usual": sources.tar_tree(tree, epoch=_EPOCH), PACKED: _packed(in_order(tree, other), _EPOCH)}
        room.furnish({**read_only, **clock_stream(other)})
        env = {"PATH": recipe_env.RECIPE_PATH, "HOME": "/tmp"}  # noqa: S108 - inside the container
        container = room.start(
            ContainerSpec(image=image, volumes=(), labels=labels, env=env, memory_folders=("/disordered",))
        )
        return {Axis.TIME: _clock_tried(room, container, other), Axis.FILE_ORDER: _order_tried(room, container)}


def _clock_tried(room: Room, container: str, other: BuildWorld) -> AxisState:
    ahead = environment({}, replace(STANDARD, clock_ahead_s=other.clock_ahead_s), (), preload=f"{CLOCK}/{_LIBRARY}")
    words = [f"{name}={value}" for name, value in ahead.items()]
    told = _said(room, container, ("date", "+%s")), _said(room, container, ("env", *words, "date", "+%s"))
    if all(each.isdigit() for each in told) and int(told[1]) - int(told[0]) > other.clock_ahead_s // 2:
        return Varies(usual="the machine's clock", limits="static programs, as Go and Zig are, ask the kernel")
    return Fixed(reason="this machine's libfaketime does not work in the image")


def _order_tried(room: Room, container: str) -> AxisState:
    try:
        unpack(room, container, "/disordered")
    except BuildError:
        return Fixed(reason="the image has no tar to write the source in another order")
    usual, other = (_said(room, container, ("ls", "-U", place)) for place in ("/usual", "/disordered"))
    if sorted(usual.split()) != sorted(SAMPLE) or sorted(other.split()) != sorted(SAMPLE) or usual == other:
        return Fixed(reason="the engine lists names in the same order however they were written")
    return Varies(usual="names written first to last", limits="the source is then in memory, and its own user's")


def _said(room: Room, container: str, argv: tuple[str, ...]) -> str:
    said = bytearray()
    code = room.run(container, argv, lambda piece: said.extend(piece[0]))
    return said.decode("utf-8", "replace").strip() if code == 0 else ""


def _sample(folder: Path) -> SourceTree:
    for name in SAMPLE:
        (folder / name).touch()
    return sources.read_whole(folder, origin="a trial")
