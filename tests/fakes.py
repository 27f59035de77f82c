"""Small real implementations of our seams, and makers of the values that tests need."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from builders.errors import ToolchainUnavailable
from builders.model import (
    BuildEvents,
    BuiltFile,
    Cell,
    CellKey,
    CommandRecipe,
    Digest,
    Libc,
    Material,
    OutputPattern,
    Placement,
    Recipe,
    SmokeHow,
    SmokeResult,
    SourceFile,
    SourceTree,
    Toolchain,
)
from builders.targets import TARGETS, Target
from builders.world import STANDARD, Axis, AxisState, BuildWorld, Varies
from orchestrator.model import Matrix, Product, Project
from orchestrator.plan import World, cell_key

RECIPE = CommandRecipe(toolchain="gcc", script="true")


def digest(text: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


def tree(text: str = "source", root: Path = Path("/nowhere")) -> SourceTree:
    file = SourceFile(path=PurePosixPath("a"), executable=False, sha256="0" * 64, size_bytes=1)
    return SourceTree(root=root, files=(file,), digest=digest(text), origin="folder .")


def toolchain(name: str = "gcc") -> Toolchain:
    return Toolchain(name=name, identity=digest(name), description=name, isolation="none")


def make_cell(product: str = "hello", **changes: object) -> Cell:
    values: dict[str, object] = {
        "product": product, "target": TARGETS["x86_64"], "recipe": RECIPE, "placement": Placement.NATIVE,
        "reason": "test", "builder": "fake", "toolchain": toolchain(), "libc": Libc(), "source": tree(),
        "outputs": (OutputPattern(glob="*"),), "version": "1.0.0", "epoch": 1_700_000_000, "key": CellKey(""),
    }  # fmt: skip
    cell = Cell(**{**values, **changes})  # type: ignore[arg-type]  # the keywords are the test's own
    return Cell(**{**values, **changes, "key": cell_key(cell)})  # type: ignore[arg-type]  # likewise


def make_product(name: str = "hello", **changes: object) -> Product:
    values: dict[str, object] = {
        "name": name, "source": PurePosixPath(), "recipe": RECIPE, "outputs": (OutputPattern(glob="*"),),
        "targets": ("x86_64", "aarch64", "armv7"),
    }  # fmt: skip
    return Product(**{**values, **changes})  # type: ignore[arg-type]  # the keywords are the test's own


def make_matrix(*products: Product, root: Path = Path("/nowhere"), **changes: object) -> Matrix:
    values: dict[str, object] = {
        "file": root / "matrix.toml", "root": root, "project": Project(name="hello", version="1.0.0"),
        "targets": TARGETS, "best_effort": frozenset(), "products": products or (make_product(),),
    }  # fmt: skip
    return Matrix(**{**values, **changes})  # type: ignore[arg-type]  # the keywords are the test's own


def make_world(**changes: object) -> World:
    values: dict[str, object] = {
        "version": "1.0.0", "commit": "", "dirty": False, "epoch": 1_700_000_000, "host": TARGETS["x86_64"],
        "engine": "docker", "engine_reason": "test", "sources": {"hello": tree()}, "mounts": {},
        "find_toolchain": lambda *_asked: toolchain(), "is_cached": lambda _key: False, "estimate": lambda _cell: None,
    }  # fmt: skip
    return World(**{**values, **changes})  # type: ignore[arg-type]  # the keywords are the test's own


def write_output(cell: Cell, out_dir: Path, _events: BuildEvents) -> None:
    (out_dir / cell.product).write_text(f"{cell.id} {cell.source.digest}\n", encoding="utf-8")


@dataclass
class FakeBuilder:
    """Runs a Python function for each cell instead of a recipe; everything else about it is a real Builder."""

    recipe: Callable[[Cell, Path, BuildEvents], None] = write_output
    smoke_result: SmokeResult = SmokeResult(how=SmokeHow.NONE)  # noqa: RUF009  (frozen)
    toolchains: Mapping[str, Toolchain] = field(default_factory=lambda: {"gcc": toolchain()})
    name: str = "fake"
    built: list[str] = field(default_factory=list)
    smoked: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    world: BuildWorld = STANDARD

    def axes(self, _cell: Cell, _other: BuildWorld) -> Mapping[Axis, AxisState]:
        return {axis: Varies(usual=f"usual {axis}") for axis in Axis}

    def within(self, world: BuildWorld) -> "FakeBuilder":
        return replace(self, world=world)

    def toolchain(self, recipe: Recipe, target: Target, libc: Libc, placement: Placement) -> Toolchain:
        wanted = recipe.toolchain if isinstance(recipe, CommandRecipe) else ""
        if wanted not in self.toolchains:
            raise ToolchainUnavailable(f"no toolchain {wanted!r}")
        return self.toolchains[wanted]

    def check(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            self.toolchain(cell.recipe, cell.target, cell.libc, cell.placement)

    def build(self, cell: Cell, out_dir: Path, events: BuildEvents) -> tuple[BuiltFile, ...]:
        with self.lock:
            self.built.append(cell.id)
        self.recipe(cell, out_dir, events)
        return tuple(_built(path, out_dir) for path in sorted(out_dir.rglob("*")) if path.is_file())

    def smoke(self, cell: Cell, out_dir: Path, events: BuildEvents) -> SmokeResult:
        with self.lock:
            self.smoked.append(cell.id)
        return self.smoke_result

    def materials(self, cell: Cell) -> tuple[Material, ...]:
        name, digest_text = cell.toolchain.name, cell.toolchain.identity.removeprefix("sha256:")
        return (Material(name=name, version="1", purl=f"pkg:generic/{name}@1", license="MIT", sha256=digest_text),)


def _built(path: Path, root: Path) -> BuiltFile:
    data = path.read_bytes()
    return BuiltFile(
        path=PurePosixPath(path.relative_to(root).as_posix()),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        sha512=hashlib.sha512(data).hexdigest(),
        executable=False,
    )
