"""The embedded default: no daemon, no root. Cross-compiles with what PyPI or this machine has."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builders import command, materials, outputs, recipe_env, smoke, sources
from builders.errors import CommandFailed, TimedOut, ToolchainUnavailable
from builders.local import local_materials, local_toolchains, sandbox, zig_cache
from builders.local.local_toolchains import LocalToolchain
from builders.local.sandbox import Bind, Isolation, Room
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

_TOOLS = "/opt/toolchain/wrappers"
_warming = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Workshop:
    """A cell's private folders on this machine, and how the recipe sees them."""

    folder: Path
    paths: recipe_env.SandboxPaths
    binds: tuple[Bind, ...]
    compilers: Mapping[str, str]

    @property
    def out(self) -> Path:
        return self.folder / "out"


class LocalBuilder:
    """Runs recipes on this machine, as far apart from it as `sandbox` finds possible.

    `work` is a folder for what dies with each cell, `cache` one for what is kept between runs:
    Zig's own, and what toolchains consist of.
    """

    name = "local"

    def __init__(self, *, work: Path, cache: Path) -> None:
        self._work = work
        self._cache = cache

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
        for leftover in self._work.glob("cell-*"):
            remove_folder(leftover)
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
        with self._workshop(cell, tools) as shop:
            if tools.zig_triple:
                self._warm(zig_cache.language(cell.source, recipe), tools, shop, events)
            env = recipe_env.recipe_env(cell, shop.compilers, shop.paths)
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
        return local_toolchains.find(recipe.toolchain, target, libc, moved=moved, tools=_TOOLS if moved else "@TOOLS@")

    @contextmanager
    def _workshop(self, cell: Cell, tools: LocalToolchain) -> Iterator[_Workshop]:
        self._work.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="cell-", dir=self._work))
        try:
            yield _furnish(cell, tools, folder)
        finally:
            remove_folder(folder)

    def _warm(self, language: str, tools: LocalToolchain, shop: _Workshop, events: BuildEvents) -> None:
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
                zig_cache.fill(kept, fresh=fresh, compiler=compiler, lang=language, binds=shop.binds, events=events)
        shutil.copytree(kept, shop.folder / "tmp" / "zig-cache", dirs_exist_ok=True)


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


def _furnish(cell: Cell, tools: LocalToolchain, folder: Path) -> _Workshop:
    """Lay out a cell's folders: the source as a copy, an empty $OUT and $TMPDIR, and the compilers' wrappers."""
    for name in ("src", "out", "tmp/home", "wrappers"):
        (folder / name).mkdir(parents=True)
    sources.write_tree(cell.source, folder / "src", epoch=cell.epoch)
    moved = sandbox.available() is Isolation.BUBBLEWRAP
    inside = _TOOLS if moved else os.fspath(folder / "wrappers")
    for name, text in tools.wrappers.items():
        (folder / "wrappers" / name).write_text(text, encoding="utf-8")
        (folder / "wrappers" / name).chmod(0o755)
    binds = [Bind(outside=root, inside=place) for place, root in tools.roots.items()]
    binds += [
        Bind(outside=folder / "wrappers", inside=_TOOLS),
        Bind(outside=folder / "src", inside="/src"),
        Bind(outside=folder / "out", inside="/out", writable=True),
        Bind(outside=folder / "tmp", inside="/tmp", writable=True),  # noqa: S108  (inside the sandbox)
    ]
    for number, mount in enumerate(cell.mounts):
        copy = folder / f"mount-{number}"
        sources.write_tree(mount.tree, copy, epoch=cell.epoch)
        binds.append(Bind(outside=copy, inside=str(mount.at)))
    paths = (
        recipe_env.SandboxPaths(tools=inside, extra_path=tools.path)
        if moved
        else recipe_env.SandboxPaths(
            source=os.fspath(folder / "src"),
            out=os.fspath(folder / "out"),
            tmp=os.fspath(folder / "tmp"),
            tools=inside,
            extra_path=tools.path,
        )
    )
    cache = zig_cache.INSIDE if moved else os.fspath(folder / "tmp" / "zig-cache")
    compilers = _placed(tools.compilers, inside, cache)
    return _Workshop(folder=folder, paths=paths, binds=tuple(binds), compilers=compilers)


def _placed(compilers: Mapping[str, str], tools: str, cache: str) -> dict[str, str]:
    """Name the compilers where this cell's wrappers and Zig's cache lie."""
    placed = {name: value.replace("@TOOLS@", tools) for name, value in compilers.items()}
    return {name: cache if name.startswith("ZIG_") else value for name, value in placed.items()}


def _commands(recipe: CommandRecipe) -> tuple[tuple[str, ...], ...]:
    return recipe.commands or (("sh", "-eu", "-c", recipe.script),)


def _run(cell: Cell, argv: Sequence[str], shop: _Workshop, env: Mapping[str, str], events: BuildEvents) -> None:
    isolation = sandbox.available()
    room = Room(
        binds=shop.binds,
        cwd=shop.paths.source,
        env=env,
        network=cell.network,
        memory_bytes=cell.limits.memory_bytes,
    )
    own_files = isolation is Isolation.BUBBLEWRAP
    try:
        code = command.stream(
            sandbox.wrap(argv, room, isolation),
            on_output=events.output,
            cancelled=events.cancelled,
            timeout_s=cell.limits.timeout_s,
            cwd=None if own_files else shop.folder / "src",
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
