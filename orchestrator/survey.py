"""What a plan needs to know of the project's folder: its version, its commit, and the bytes of its sources."""

import dataclasses
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builders import command, sources
from builders.dockerfile import base_images
from builders.errors import SourceUnavailable
from builders.model import DEFAULT_EPOCH, DockerfileRecipe, Mount, SourceTree
from builders.sources import outside
from orchestrator.errors import VersionUnknown
from orchestrator.model import Matrix, OutsideSource, Product, VersionFile

_SEMVER_TAG = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")
_GIT_NEEDS = ("PATH", "HOME", "XDG_CONFIG_HOME")
_STATUS = re.compile(r"\s*\S+\s+")
"""What stands before a name in git's list of changes."""
_SAFE_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_~-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutState:
    """Where a project stands in git. All empty outside a repository, or in one without commits."""

    commit: str = ""
    dirty: bool = False
    epoch: int = 0
    changed: tuple[str, ...] = ()
    """What makes it dirty, as git names it: files, and folders (ending in a slash) of which it knows nothing."""


def checkout_state(root: Path, apart: Collection[Path] = ()) -> CheckoutState:
    """Ask git about the folder's commit. That the files `apart` are there makes no checkout dirty."""
    head = _git(root, "log", "-1", "--format=%H %ct")
    if not head:
        return CheckoutState()
    commit, _, seconds = head.partition(" ")
    inside = [path.relative_to(root) for path in apart if path.is_relative_to(root)]
    left_out = [f":(exclude,literal){path.as_posix()}" for path in inside]
    said = _asked(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", "--", ".", *left_out)
    changed = tuple(_STATUS.sub("", entry, count=1) for entry in (said or "").split("\0") if entry)
    # A git that cannot tell has not said that nothing was changed.
    return CheckoutState(commit=commit, dirty=said is None or bool(said), epoch=int(seconds), changed=changed)


def tags_at(root: Path, commit: str) -> tuple[str, ...]:
    """Name the tags of a commit; none outside a repository. Raises VersionUnknown where a repository cannot tell."""
    if not commit or _asked(root, "rev-parse", "--git-dir") is None:
        return ()
    said = _asked(root, "tag", "--points-at", commit)
    if said is None:
        raise VersionUnknown(
            f"git cannot tell the tags of {commit[:12]} in {root}",
            next_step="publish from a clone that has that commit and the tags; or semver = 'off' in [ci]",
        )
    return tuple(said.splitlines())


def epoch_of(state: CheckoutState) -> int:
    """Give SOURCE_DATE_EPOCH: the caller's own variable, else the commit's time, else 1980-01-01."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given and not re.fullmatch(r"\d{1,12}", given):
        raise VersionUnknown(
            f"SOURCE_DATE_EPOCH is {given!r}, which is no number of seconds", next_step="unset it or give seconds"
        )
    return int(given) if given else state.epoch or DEFAULT_EPOCH


def version_of(matrix: Matrix) -> str:
    """Give the project's version, by the rule that its configuration names. Raises VersionUnknown."""
    match matrix.project.version:
        case None:
            version = _version_from_git(matrix.root)
        case VersionFile() as rule:
            version = _version_from_file(matrix.root, rule)
        case str(literal):
            version = literal
    if not _SAFE_VERSION.fullmatch(version):
        raise VersionUnknown(
            f"the version {version!r} cannot stand in a file name",
            next_step="use SemVer, such as 1.2.3 or 1.2.3-rc.1",
        )
    return version


def read_sources(
    matrix: Matrix, products: Iterable[Product], cache: Path, on_step: Callable[[str], None], *, by_git: bool = True
) -> dict[str, SourceTree]:
    """Read or fetch the source of each product; equal sources are read once.

    Without `by_git` the project's folder is a commit that was unpacked: every file of it counts.
    Raises SourceMismatch or SourceUnavailable, before any compiler starts.
    """
    seen: dict[object, SourceTree] = {}
    trees: dict[str, SourceTree] = {}
    for product in products:
        if product.source not in seen:
            seen[product.source] = _read(matrix, product, cache, on_step, by_git=by_git)
        trees[product.name] = seen[product.source]
    return trees


def read_mounts(matrix: Matrix, product: Product, *, by_git: bool = True) -> tuple[Mount, ...]:
    """Read the folders that a product's recipe sees beside its source."""

    def read(folder: PurePosixPath) -> SourceTree:
        place = _below(matrix.root, str(folder), product)
        return sources.read_tree(place, origin=f"folder {folder}", by_git=by_git)

    return tuple(Mount(at=at, tree=read(folder)) for at, folder in sorted(product.mounts.items()))


def images_below(dockerfile: Path) -> tuple[str, ...]:
    """Name the images that a Dockerfile stands on; none where it cannot be read, which its builder then says."""
    try:
        return base_images(dockerfile.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ()


def with_images(products: Iterable[Product], trees: Mapping[str, SourceTree]) -> tuple[Product, ...]:
    """Fill in what the Dockerfiles of the products stand on, now that their sources are here."""
    return tuple(_with_images(product, trees.get(product.name)) for product in products)


def _with_images(product: Product, tree: SourceTree | None) -> Product:
    recipe = product.recipe
    if tree is None or not isinstance(recipe, DockerfileRecipe):
        return product
    images = images_below(tree.root / recipe.dockerfile)
    return dataclasses.replace(product, recipe=dataclasses.replace(recipe, images=images))


def _read(matrix: Matrix, product: Product, cache: Path, on_step: Callable[[str], None], *, by_git: bool) -> SourceTree:
    source = product.source
    if isinstance(source, OutsideSource):
        on_step(f"{product.name}: source {outside.describe(source)}")
        return outside.fetch(source, cache, matrix.root)
    folder = _below(matrix.root, str(source), product)
    # What matrix.toml decides is in each cell's key already: a changed comment or policy rebuilds nothing.
    own = [matrix.file.name] if folder.resolve() == matrix.file.parent.resolve() else []
    tree = sources.read_tree(folder, origin=f"folder {source}", exclude=own, by_git=by_git)
    if not tree.files:
        raise SourceUnavailable(
            f"the source of {product.name}, {source}, has no files", next_step="`source` names a folder of the project"
        )
    return tree


def _below(root: Path, folder: str, product: Product) -> Path:
    path = root / folder
    if not path.is_dir():
        raise SourceUnavailable(
            f"{product.name} names the folder {folder}, which is not in {root}",
            next_step="mend `source` or `mounts` of the product",
        )
    if not path.resolve().is_relative_to(root.resolve()):
        raise SourceUnavailable(
            f"{product.name} names the folder {folder}, which leads out of the project through a link",
            next_step="name a folder inside the project",
        )
    return path


def _version_from_file(root: Path, rule: VersionFile) -> str:
    path = root / rule.file
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VersionUnknown(
            f"the version file {rule.file} cannot be read: {error}", next_step="mend `version.file` in [project]"
        ) from error
    found = re.search(rule.pattern, text, re.MULTILINE)
    if not found or not found.groups():
        raise VersionUnknown(
            f"the pattern {rule.pattern!r} finds no version in {rule.file}",
            next_step="give `pattern` one group that matches the version",
        )
    return found[1]


def _version_from_git(root: Path) -> str:
    """Name a tagged commit by its tag, and any other by the tag before it, the distance and the commit."""
    described = _git(root, "describe", "--tags", "--long", "--dirty", "--match", "v[0-9]*", "--match", "[0-9]*")
    if described:
        tag, distance, commit = re.fullmatch(r"(.*)-(\d+)-(g[0-9a-f]+(?:-dirty)?)", described).groups()  # type: ignore[union-attr]  # --long always gives this form
        parts = _SEMVER_TAG.fullmatch(tag)
        if parts is None:
            raise VersionUnknown(f"the tag {tag!r} is not a SemVer version", next_step="tag releases as v1.2.3")
        if distance == "0" and not commit.endswith("-dirty"):
            return tag.removeprefix("v")
        major, minor, patch, pre = parts.groups()
        base = f"{major}.{minor}.{patch}{pre}" if pre else f"{major}.{minor}.{int(patch) + 1}"
        return f"{base}{'.' if pre else '-'}dev.{distance}.{commit.replace('-', '.')}"
    count = _git(root, "rev-list", "--count", "HEAD")
    if not count:
        raise VersionUnknown(
            f"the project in {root} has no commit, so git gives no version",
            next_step="commit once, or set version = '0.1.0' in [project]",
        )
    return f"0.0.0-dev.{count}.g{_git(root, 'rev-parse', '--short', 'HEAD')}"


def _git(root: Path, *arguments: str) -> str:
    """Ask git; nothing where there is no git, no repository, or no answer."""
    return _asked(root, *arguments) or ""


def _asked(root: Path, *arguments: str) -> str | None:
    """Ask git; None where it is not there, or fails."""
    if not command.find_program("git"):
        return None
    own = {name: value for name, value in os.environ.items() if name in _GIT_NEEDS or name.startswith("GIT_")}
    env = {**own, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    done = command.capture(["git", "-c", "core.fsmonitor=false", *arguments], cwd=root, env=env)
    return done.stdout.decode("utf-8", "replace").strip() if done.exit_code == 0 else None
