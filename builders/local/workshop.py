"""A cell's private folders on this machine: laid out for the world that the recipe is to see, and removed again."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from builders import recipe_env, sources, world
from builders.local import sandbox, zig_cache
from builders.local.local_toolchains import LocalToolchain
from builders.local.sandbox import Bind, Isolation
from builders.model import Cell
from builders.world import BuildWorld

TOOLS: Final = "/opt/toolchain/wrappers"
_FAKETIME: Final = "/opt/toolchain/clock/libfaketime.so.1"
_MEMORY: Final = Path("/dev/shm")  # noqa: S108  (only for folders that mkdtemp makes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """A cell's private folders on this machine, and how the recipe sees them. `plain_binds` are those of no world."""

    folder: Path
    source: Path
    paths: recipe_env.SandboxPaths
    binds: tuple[Bind, ...]
    plain_binds: tuple[Bind, ...]
    compilers: Mapping[str, str]
    world: BuildWorld
    preload: str = ""

    @property
    def out(self) -> Path:
        return self.folder / "out"


@contextmanager
def workshop(cell: Cell, tools: LocalToolchain, work: Path, around: BuildWorld) -> Iterator[Workshop]:
    """Lay out a cell's folders: the source as a copy, an empty $OUT and $TMPDIR, and the compilers' wrappers."""
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="cell-", dir=work))
    place = source_place(work) if around.disordered and world.fits_in_memory(cell.source) else work
    aside = Path(tempfile.mkdtemp(prefix=_aside_prefix(), dir=place)) if place != work else folder
    try:
        yield _furnish(cell, tools, folder, aside / "src", around)
    finally:
        for each in {folder, aside}:
            remove_folder(each)


def source_place(work: Path) -> Path:
    """Give a folder where names written last to first are listed in another order, or `work` where there is none."""
    flags = os.statvfs(_MEMORY).f_flag if os.access(_MEMORY, os.W_OK) else os.ST_NOEXEC
    if not world.order_shows(work, work) and not flags & os.ST_NOEXEC and world.order_shows(work, _MEMORY):
        return _MEMORY
    return work


def order_can_vary(work: Path) -> bool:
    """Tell whether some file system here lists a source's names in another order than `work` usually does."""
    work.mkdir(parents=True, exist_ok=True)
    return world.order_shows(work, source_place(work))


def remove_leftovers(work: Path) -> None:
    """Remove what killed runs left, never what a live one works in."""
    for leftover in work.glob("cell-*"):
        remove_folder(leftover)
    for aside in _MEMORY.glob("relbuild-*-*"):
        process = aside.name.split("-")[1]
        # Another run that begins may remove it, too.
        with contextlib.suppress(FileNotFoundError):
            if process.isdigit() and not Path("/proc", process).exists() and aside.lstat().st_uid == os.geteuid():
                remove_folder(aside)


def remove_folder(folder: Path) -> None:
    """Remove a folder whose files a recipe may have made unreadable or unwritable."""

    def allow_and_retry(_function: object, path: str, _error: object) -> None:
        os.chmod(Path(path).parent, 0o700)  # noqa: PTH101  (rmtree hands out text paths)
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            os.chmod(path, 0o700)  # noqa: PTH101
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink(missing_ok=True)

    shutil.rmtree(folder, onerror=allow_and_retry)


def _aside_prefix() -> str:
    return f"relbuild-{os.getpid()}-"


def _furnish(cell: Cell, tools: LocalToolchain, folder: Path, source: Path, around: BuildWorld) -> Workshop:
    for name in ("out", "tmp/home", "wrappers"):
        (folder / name).mkdir(parents=True)
    sources.write_tree(world.in_order(cell.source, around), source, epoch=cell.epoch)
    moved = sandbox.available() is Isolation.BUBBLEWRAP
    inside = TOOLS if moved else os.fspath(folder / "wrappers")
    for name, text in tools.wrappers.items():
        (folder / "wrappers" / name).write_text(text, encoding="utf-8")
        (folder / "wrappers" / name).chmod(0o755)
    fixed = [Bind(outside=root, inside=place) for place, root in tools.roots.items()]
    fixed += [Bind(outside=folder / "wrappers", inside=TOOLS)]
    for number, mount in enumerate(cell.mounts):
        copy = folder / f"mount-{number}"
        sources.write_tree(mount.tree, copy, epoch=cell.epoch)
        fixed.append(Bind(outside=copy, inside=str(mount.at)))
    paths = _paths(folder, source, around, moved=moved)
    paths = replace(paths, tools=inside, extra_path=tools.path)
    cache = zig_cache.INSIDE if moved else os.fspath(folder / "tmp" / "zig-cache")
    return Workshop(
        folder=folder, source=source, paths=paths, compilers=_placed(tools.compilers, inside, cache),
        binds=(*fixed, *_of_paths(folder, source, paths), *_of_world(folder, around)),
        plain_binds=(*fixed, *_of_paths(folder, source, recipe_env.SANDBOX)),
        preload=_preload(around, moved=moved), world=around,
    )  # fmt: skip


def _paths(folder: Path, source: Path, around: BuildWorld, *, moved: bool) -> recipe_env.SandboxPaths:
    if not moved:
        return recipe_env.SandboxPaths(
            source=os.fspath(source), out=os.fspath(folder / "out"), tmp=os.fspath(folder / "tmp")
        )
    return recipe_env.placed_below(around.root)


def _of_paths(folder: Path, source: Path, paths: recipe_env.SandboxPaths) -> tuple[Bind, ...]:
    return (
        Bind(outside=source, inside=paths.source),
        Bind(outside=folder / "out", inside=paths.out, writable=True),
        Bind(outside=folder / "tmp", inside=paths.tmp, writable=True),
    )


def _of_world(folder: Path, around: BuildWorld) -> Iterator[Bind]:
    if around.root:
        # Zig's own cache is a part of the toolchain, which stays where it was.
        (folder / "tmp" / "zig-cache").mkdir()
        yield Bind(outside=folder / "tmp" / "zig-cache", inside=zig_cache.INSIDE, writable=True)
    if around.clock_ahead_s:
        yield Bind(outside=Path(around.libfaketime), inside=_FAKETIME)
    if around.user_name:
        users = folder / "passwd"
        users.write_text(f"{around.user_name}:x:{around.user}:{around.user}::/:/bin/sh\n", encoding="ascii")
        users.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        yield Bind(outside=users, inside="/etc/passwd")


def _preload(around: BuildWorld, *, moved: bool) -> str:
    if not around.clock_ahead_s:
        return ""
    return _FAKETIME if moved else around.libfaketime


def _placed(compilers: Mapping[str, str], tools: str, cache: str) -> dict[str, str]:
    """Name the compilers where this cell's wrappers and Zig's cache lie."""
    placed = {name: value.replace("@TOOLS@", tools) for name, value in compilers.items()}
    return {name: cache if name.startswith("ZIG_") else value for name, value in placed.items()}
