"""A release -> the source that it was built from, for a stranger who has nothing but the release.

    origin = open_origin(folder, room, checkout=None, on_step=print_line)
    trees = origin.read_sources(products, cache, on_step)     # product name -> SourceTree, at the digests promised
    mounts = origin.read_mounts(product)                      # what World.mounts wants
    world = World(version=origin.version, commit=origin.commit, dirty=origin.dirty, epoch=origin.epoch, ...)

Sources of the source, in order: the source archive of the release, the git repository at the commit that the provenance
names, a folder that the caller names.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from builders.errors import DiskFull, RelbuildError
from builders.model import Mount, SourceTree
from builders.names import escaped
from orchestrator import config, survey
from orchestrator.errors import OriginUnavailable
from orchestrator.model import Artifact, Matrix, Product
from orchestrator.reproduce.places import Place, places_of
from orchestrator.reproduce.promises import Promise, ReleaseFacts, read_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a release came from. `root` holds matrix.toml and the sources, at the digests that provenance names.

    `matrix.project.version` is the release's version, whatever the file says. `artifacts` are those that cells made,
    not the source archives; `statements` are their checked in-toto statements, by path: one whose statement is not in
    the folder has none. `words` says where the source was found.
    """

    root: Path
    matrix: Matrix
    version: str
    commit: str
    dirty: bool
    epoch: int
    artifacts: tuple[Artifact, ...]
    statements: Mapping[PurePosixPath, Mapping[str, Any]] = field(repr=False)
    words: str
    promises: Mapping[str, Promise] = field(repr=False)
    by_git: bool = False
    """The root is somebody's own folder, where git knows which files count."""

    def read_sources(
        self, products: Iterable[Product], cache: Path, on_step: Callable[[str], None]
    ) -> dict[str, SourceTree]:
        """Read or fetch the source of each product.

        Raises OriginUnavailable where one is not what the release was built from, and what survey.read_sources does.
        """
        trees = survey.read_sources(self.matrix, products, cache, on_step, by_git=self.by_git)
        for name, tree in trees.items():
            if name not in self.promises or tree.digest != self.promises[name].source:
                raise _other(f"the source of {name}, {tree.origin},")
        return trees

    def read_mounts(self, product: Product) -> tuple[Mount, ...]:
        """Read the folders that a product's recipe sees beside its source. Raises as `read_sources` does."""
        mounts = survey.read_mounts(self.matrix, product, by_git=self.by_git)
        promised = self.promises[product.name].mounts if product.name in self.promises else {}
        if {mount.at: mount.tree.digest for mount in mounts} != promised:
            raise _other(f"what {product.name} mounts")
        return mounts


def open_origin(
    folder: Path, room: Path, *, checkout: Path | None = None, on_step: Callable[[str], None] = lambda _: None
) -> Origin:
    """Give the source of the release in `folder` (staged, or fetched and verified), unpacked below the new `room`.

    Signatures are not looked at: verify the release first. Raises OriginUnavailable with all that was tried, in order;
    ManifestInvalid, StagingError, DigestMismatch or ProvenanceInvalid where the folder holds no sound release.
    """
    facts = read_facts(folder)
    tried: list[str] = []
    for place in places_of(facts, room, checkout):
        on_step(f"looking for the source in {place.words}")
        found = _opened(place, facts, tried)
        if found is not None:
            return found
    lines = "\n".join(f"  {line}" for line in tried)
    raise OriginUnavailable(
        f"the source of {escaped(facts.project)} {escaped(facts.version)} is not to be had:\n{lines}",
        next_step="name a folder that holds it with --source: a checkout of the commit, or the unpacked source",
    )


def _opened(place: Place, facts: ReleaseFacts, tried: list[str]) -> Origin | None:
    """Try one place; what is wrong with it is added to `tried`."""
    try:
        roots = tuple(place.roots())
    except DiskFull:
        raise
    except RelbuildError as error:
        tried.append(f"{place.words}: {error.what}")
        return None
    reasons = []
    for root in roots:
        origin, reason = _candidate(root, place, facts)
        if origin is not None:
            return origin
        reasons.append(reason)
    # Among many folders with a configuration, the first is the project's own more often than any other.
    tried.append(f"{place.words}: {reasons[0] if reasons else f'it holds no {escaped(facts.matrix_name)}'}")
    return None


def _candidate(root: Path, place: Place, facts: ReleaseFacts) -> tuple[Origin | None, str]:
    try:
        matrix = config.load(root / facts.matrix_name)
        reason = next(_differences(matrix, facts, by_git=place.by_git), "")
    except RelbuildError as error:
        reason = error.what
    if reason:
        return None, reason
    # Outside a checkout there is no tag; and a version that the file gives must not stand against the release's own.
    project = dataclasses.replace(matrix.project, version=facts.version)
    origin = Origin(
        root=root,
        matrix=dataclasses.replace(matrix, project=project),
        version=facts.version,
        commit=facts.commit,
        dirty=facts.dirty,
        epoch=facts.epoch,
        artifacts=facts.artifacts,
        statements=facts.statements,
        words=place.words,
        promises=facts.promises,
        by_git=place.by_git,
    )
    return origin, ""


def _differences(matrix: Matrix, facts: ReleaseFacts, *, by_git: bool) -> Iterator[str]:
    """Say how a project's folder is not what the release was built from. Outside sources are not fetched here."""
    if matrix.project.name != facts.project:
        yield f"it is the project {matrix.project.name}"
    products = {product.name: product for product in matrix.products}
    for name, promise in sorted(facts.promises.items()):
        product = products.get(name)
        if product is None:
            yield f"it has no product {escaped(name)}"
            continue
        if isinstance(product.source, PurePosixPath):
            trees = survey.read_sources(matrix, [product], matrix.root, lambda _: None, by_git=by_git)
            if trees[name].digest != promise.source:
                yield _unlike(f"the source of {name}, {product.source},", trees[name].digest, promise.source)
        for mount in survey.read_mounts(matrix, product, by_git=by_git):
            if promise.mounts.get(mount.at) != mount.tree.digest:
                yield _unlike(f"what {name} mounts at {mount.at}", mount.tree.digest, promise.mounts.get(mount.at, ""))
        if promise.mounts.keys() - product.mounts.keys():
            yield f"{name} mounts less than the release's did"


def _unlike(what: str, found: str, promised: str) -> str:
    return f"{what} has the digest {found}, and the provenance names {promised or 'none'}"


def _other(what: str) -> OriginUnavailable:
    return OriginUnavailable(
        f"{what} is not what the release was built from: its digest is another than the provenance's",
        next_step="its bytes changed since they were found; begin again",
    )
