"""From the shape of a product to the product, with the rules that tie its keys together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from builders.model import CommandRecipe, DockerfileRecipe, Libc, LibcKind, Limits, OutputPattern, Recipe, Smoke
from builders.recipes import default_script
from orchestrator.config import product_shapes as shapes
from orchestrator.config.lines import KeyPath
from orchestrator.config.problems import Draft
from orchestrator.config.targeting import TargetTable
from orchestrator.config.texts import shown, size_bytes
from orchestrator.model import (
    ArchiveFormat,
    ArchiveRules,
    ArchiveSource,
    DebianSource,
    GitSource,
    OutsideSource,
    PlacementWish,
    Product,
    PypiSource,
)

_RECIPES_OF_KEY = {
    "toolchain": ("command",),
    "run": ("command", "go", "cargo", "python"),
    "dockerfile": ("dockerfile",),
    "stage": ("dockerfile",),
}
_KEYS_OF_RECIPE = {"command": ("run", "outputs"), "dockerfile": ("outputs",)}
_NAME_FOR_RECIPE = {"go": "goos", "cargo": "rust", "dockerfile": "oci"}
"""The name that a target must have in the outside world for a recipe to work."""

_SET_BY_BUILDER = {
    "SOURCE_DATE_EPOCH": "it is the time of the commit",
    "OUT": "it is where the recipe puts its files",
    "SOURCE": "it is where the source is",
    "RELBUILD_TARGET": "it is the name of the target",
    "RELBUILD_VERSION": "it is the version that is built",
    "PATH": "it leads to the toolchain",
    "HOME": "it is an empty folder of the sandbox",
    "TMPDIR": "it is a folder of the sandbox that is removed afterwards",
}
_ONE_PRODUCT = "{name}_{version}_{os}_{arch}"
_SEVERAL_PRODUCTS = "{product}_{version}_{os}_{arch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a product's rules need to know of the rest: the project's root, the targets, whether it has company."""

    root: Path
    table: TargetTable
    several: bool
    folders: dict[str, str] = field(default_factory=dict)
    """What was found about each folder so far: products often share one."""


def product(name: str, shape: shapes.ProductShape, line: int, around: Surroundings, drafts: list[Draft]) -> Product:
    """Give the product; what breaks a rule is added to `drafts` and the rest of the product still checked."""
    path: KeyPath = ("products", name)
    targets = _targets(path, shape, around.table, drafts)
    drafts.extend(_mismatched_keys(path, shape))
    drafts.extend(_folders(path, shape, around))
    drafts.extend(_environment(path, shape.env))
    drafts.extend(_overlaps(path, shape.mounts))
    return Product(
        name=name,
        source=_source(shape.source),
        recipe=_recipe(name, shape),
        outputs=tuple(_output(output) for output in shape.outputs or ["*"]),
        targets=targets,
        libc=Libc(kind=LibcKind(shape.libc), floor=shape.glibc or ""),
        placement=PlacementWish(shape.placement),
        env=dict(shape.env),
        mounts={PurePosixPath(at): PurePosixPath(folder) for at, folder in shape.mounts.items()},
        limits=Limits(timeout_s=shape.timeout_s, cpus=shape.cpus or 0.0, memory_bytes=size_bytes(shape.memory or 0)),
        network=shape.network,
        smoke=tuple(Smoke(run=tuple(test.run), stdout=test.stdout, exit=test.exit) for test in shape.smoke),
        archive=_archive(shape.archive, several=around.several),
        line=line,
    )


# --- rules ---------------------------------------------------------------------------------------------------------


def _targets(path: KeyPath, shape: shapes.ProductShape, table: TargetTable, drafts: list[Draft]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    needed = _NAME_FOR_RECIPE.get(shape.recipe, "name")
    for index, name in enumerate(shape.targets):
        place = (*path, "targets", index)
        target = table.names.get(name.lower())
        if target is None:
            drafts.append(
                Draft(path=place, what=f"there is no target {shown(name)}", name=name.lower(), known=table.names)
            )
        elif target in first:
            drafts.append(Draft(path=place, what=f"it is the target {target}, named before as {first[target]}"))
        elif not getattr(table.rows[target], needed):
            what = f'recipe "{shape.recipe}" cannot build for {target}, which has no {needed} name'
            drafts.append(Draft(path=place, what=what))
        first.setdefault(target or name, name)
    return tuple(first)


def _mismatched_keys(path: KeyPath, shape: shapes.ProductShape) -> Iterable[Draft]:
    given = shape.model_fields_set
    for key, recipes in _RECIPES_OF_KEY.items():
        if key in given and shape.recipe not in recipes:
            what = f'recipe "{shape.recipe}" takes no {key}'
            yield Draft(path=(*path, key), what=what, suggestion=f"it is for {', '.join(recipes)}")
    for key in _KEYS_OF_RECIPE.get(shape.recipe, ()):
        if key not in given:
            yield Draft(path=(*path, key), what=f'recipe "{shape.recipe}" needs this key')
    if shape.libc == "musl" and shape.glibc:
        yield Draft(path=(*path, "glibc"), what='a floor of glibc goes with libc = "gnu" only')


def _folders(path: KeyPath, shape: shapes.ProductShape, around: Surroundings) -> Iterable[Draft]:
    wanted: dict[KeyPath, str] = {(*path, "mounts", at): folder for at, folder in shape.mounts.items()}
    if isinstance(shape.source, str):
        wanted[*path, "source"] = shape.source
    for place, folder in wanted.items():
        if folder not in around.folders:
            around.folders[folder] = _not_a_folder(around.root, folder)
        if what := around.folders[folder]:
            yield Draft(path=place, what=what)


def _not_a_folder(root: Path, folder: str) -> str:
    """Say why a path is no folder of the project, following links; empty when it is one."""
    try:
        real = (root / folder).resolve(strict=True)
    except (OSError, RuntimeError):
        return f"there is no folder {shown(folder)} in the project"
    if not real.is_relative_to(root.resolve()):
        return f"{shown(folder)} leads out of the project"
    return "" if real.is_dir() else f"{shown(folder)} is not a folder"


def _environment(path: KeyPath, env: Mapping[str, str]) -> Iterable[Draft]:
    for name in env:
        if reason := _SET_BY_BUILDER.get(name):
            yield Draft(path=(*path, "env", name), what=f"the builder sets {name} itself: {reason}")


def _overlaps(path: KeyPath, mounts: Mapping[str, str]) -> Iterable[Draft]:
    for inner in mounts:
        for outer in PurePosixPath(inner).parents:
            if str(outer) in mounts:
                yield Draft(path=(*path, "mounts", inner), what=f"it lies inside the mount {outer}")


# --- values --------------------------------------------------------------------------------------------------------


def _source(shape: shapes.SourceShape) -> PurePosixPath | OutsideSource:
    match shape:
        case shapes.Debian():
            return DebianSource(package=shape.debian, version=shape.version, sha256=shape.sha256)
        case shapes.Pypi():
            return PypiSource(package=shape.pypi, version=shape.version, sha256=shape.sha256)
        case shapes.Git():
            return GitSource(url=shape.git, commit=shape.commit)
        case shapes.Archive():
            return ArchiveSource(location=shape.archive, sha256=shape.sha256)
        case str():
            return PurePosixPath(shape)


def _recipe(name: str, shape: shapes.ProductShape) -> Recipe:
    if shape.recipe == "dockerfile":
        return DockerfileRecipe(dockerfile=PurePosixPath(shape.dockerfile), stage=shape.stage)
    if shape.recipe == "command":
        base = CommandRecipe(toolchain=shape.toolchain)
    else:
        base = default_script(shape.recipe, name, network=shape.network)
    match shape.run:
        case None:
            return base
        case str():
            return replace(base, script=shape.run)
        case _:
            return replace(base, script="", commands=tuple(tuple(argv) for argv in shape.run))


def _output(shape: str | shapes.OutputShape) -> OutputPattern:
    if isinstance(shape, str):
        return OutputPattern(glob=shape)
    return OutputPattern(glob=shape.glob, exactly_one=shape.one)


def _archive(shape: bool | shapes.ArchiveShape | None, *, several: bool) -> ArchiveRules | None:
    name = _SEVERAL_PRODUCTS if several else _ONE_PRODUCT
    match shape:
        case None:
            return ArchiveRules(name=name)
        case bool():
            return None
        case shapes.ArchiveShape():
            return ArchiveRules(
                format=ArchiveFormat(shape.format) if shape.format else None,
                name=shape.name or name,
                extra=tuple(PurePosixPath(extra) for extra in shape.extra),
            )
