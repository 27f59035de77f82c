"""What a cell is made of: commit, sources, mounts, toolchain and base images, as in-toto resource descriptors.

Package URLs: https://github.com/package-url/purl-spec.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import assert_never
from urllib.parse import quote

from builders.engine import pin_file, toolchains
from builders.hashing import file_sha256
from builders.model import CommandRecipe, Digest, DockerfileRecipe
from orchestrator.archive import PackedFile
from orchestrator.canonical import Json
from orchestrator.model import (
    ArchiveSource,
    Built,
    DebianSource,
    GitSource,
    OutsideSource,
    Plan,
    Product,
    PypiSource,
)
from orchestrator.provenance.buildkit import Account
from orchestrator.provenance.wording import Wording, without_credentials

_TREE_FORM = "relbuild source tree 1"
"""SHA-256 over that line and one line a file: kind, SHA-256 and path; builders/sources/trees.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a project is: `repository` is a URI, `commit` empty outside git."""

    repository: str
    commit: str
    dirty: bool

    @staticmethod
    def of(plan: Plan, repository: str) -> "Origin":
        return Origin(repository=repository, commit=plan.commit, dirty=plan.dirty)

    @property
    def digests(self) -> dict[str, Json]:
        """Give the commit where the bytes are the commit's; files that were changed since are in none."""
        return {"gitCommit": self.commit} if self.commit and not self.dirty else {}

    def below(self, folder: PurePosixPath) -> str:
        """Name a folder of the project."""
        return f"{self.repository}#{quote(str(folder))}" if folder.parts else self.repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """How one cell came to be. `account` is BuildKit's, `packed` what the archive holds."""

    product: Product
    built: Built
    origin: Origin
    words: Wording
    account: Account | None
    packed: Sequence[PackedFile]


def source_of(story: Story) -> dict[str, Json]:
    """Name the source by where it comes from and what it is."""
    match story.product.source:
        case PurePosixPath() as folder:
            tree = {"sha256": _hex(story.built.cell.source.digest)}
            return {"uri": story.origin.below(folder), "digest": {**tree, **story.origin.digests}}
        case outside:
            uri, digest = _outside(outside, story.origin)
            return {"uri": uri, "digest": digest}


def dependencies(story: Story) -> list[Json]:
    """List everything that went into the cell, in a fixed order."""
    return [
        *_project(story.origin),
        *_sources(story),
        *_mounts(story),
        _toolchain(story),
        *_base_images(story.built),
        *_materials(story.account),
        *_papers(story),
    ]


def _project(origin: Origin) -> Iterator[Json]:
    if not origin.commit:
        return
    entry: dict[str, Json] = {"name": "project", "uri": origin.repository}
    if origin.dirty:
        yield entry | {"annotations": {"dirty": True, "changed_since": origin.commit}}
    else:
        yield entry | {"digest": origin.digests}


def _sources(story: Story) -> Iterator[Json]:
    source, tree, origin = story.product.source, story.built.cell.source, story.origin
    notes: dict[str, Json] = {"form": _TREE_FORM, "origin": story.words.seen(tree.origin)}
    if isinstance(source, PurePosixPath):
        uri = origin.below(source)
        notes |= {"dirty": True} if origin.dirty else {}
    else:
        uri, digest = _outside(source, origin)
        yield {"name": "outside source", "uri": uri, "digest": digest}
    yield {"name": "source tree", "uri": uri, "digest": {"sha256": _hex(tree.digest)}, "annotations": notes}


def _outside(source: OutsideSource, origin: Origin) -> tuple[str, dict[str, Json]]:
    match source:
        case DebianSource():
            name, version = quote(source.package, safe=""), quote(source.version, safe="")
            return f"pkg:deb/debian/{name}@{version}?arch=source", {"sha256": source.sha256}
        case PypiSource():
            name, version = quote(source.package, safe=""), quote(source.version, safe="")
            return f"pkg:pypi/{name}@{version}", {"sha256": source.sha256}
        case GitSource():
            return f"git+{without_credentials(source.url).removeprefix('git+')}", {"gitCommit": source.commit}
        case ArchiveSource():
            outside = "://" in source.location
            uri = without_credentials(source.location) if outside else origin.below(PurePosixPath(source.location))
            return uri, {"sha256": source.sha256}
        case _:
            assert_never(source)


def _mounts(story: Story) -> Iterator[Json]:
    for mount in sorted(story.built.cell.mounts, key=lambda mount: str(mount.at)):
        folder = story.product.mounts.get(mount.at, PurePosixPath())
        yield {
            "name": f"mount {mount.at}",
            "uri": story.origin.below(folder),
            "digest": {"sha256": _hex(mount.tree.digest)},
            "annotations": {"at": str(mount.at), "form": _TREE_FORM, "origin": story.words.seen(mount.tree.origin)},
        }


# --- what compiles -----------------------------------------------------------------------------------------------


def _toolchain(story: Story) -> Json:
    cell = story.built.cell
    notes: dict[str, Json] = {
        "name": cell.toolchain.name,
        "description": story.words.seen(cell.toolchain.description),
        "compiles_for": {
            "triple": cell.target.gnu, "zig": cell.target.zig, "zig_cpu": cell.target.zig_cpu,
            "rust": cell.target.rust, "goos": cell.target.goos, "goarch": cell.target.goarch,
            "goarm": cell.target.goarm, "platform": cell.target.oci, "cflags": list(cell.target.cflags),
        },
    }  # fmt: skip
    uri = f"urn:relbuild:toolchain:{quote(cell.toolchain.name, safe='')}"
    if cell.builder != "local" and isinstance(cell.recipe, CommandRecipe):
        uri = _image_uri(cell.recipe.toolchain.removeprefix(toolchains.OUTSIDE_PREFIX))
        notes |= _made_from(cell.recipe.toolchain)
    return {
        "name": "toolchain", "uri": uri, "digest": {"sha256": _hex(cell.toolchain.identity)}, "annotations": notes,
    }  # fmt: skip


def _base_images(built: Built) -> Iterator[Json]:
    recipe = built.cell.recipe
    for image in recipe.images if isinstance(recipe, DockerfileRecipe) else ():
        name, _, digest = image.partition("@sha256:")
        own = image.removeprefix(f"{toolchains.REPOSITORY}/")
        entry: dict[str, Json] = {
            "name": f"image {image}",
            "uri": _image_uri(own if own in toolchains.IMAGES else name),
        }
        if digest:
            yield entry | {"digest": {"sha256": digest}}
        elif own != image and own in toolchains.IMAGES:
            yield entry | {"annotations": _made_from(own)}
        else:
            yield entry | {"annotations": {"unpinned": True}}


def _materials(account: Account | None) -> Iterator[Json]:
    for uri, digest in account.materials if account else ():
        yield {"name": "buildkit material", "uri": uri, **({"digest": digest} if digest else {})}


def _made_from(name: str) -> dict[str, Json]:
    """Say what an image that relbuild makes itself is made of: files of containers/, and what they are pinned to."""
    if name not in toolchains.IMAGES:
        return {}
    folder = toolchains.folder()
    images: list[Json] = [
        {"image": image.name, "files": {f"containers/{file}": file_sha256(folder / file) for file in image.files}}
        for image in toolchains.chain(name)
    ]
    return {"made_from": {"images": images, "pinned": _pins()}}


def _pins() -> dict[str, Json]:
    pins = pin_file.read(toolchains.folder() / "pins.toml")
    found: dict[str, Json] = {}
    if here := pins.bootstrap:
        found["bootstrap"] = {
            "distribution": here.distribution, "suite": here.suite, "epoch": here.epoch, "rootfs": dict(here.rootfs),
        }  # fmt: skip
    if outside := pins.images.get(toolchains.BASE.name):
        found["base"] = {"ref": outside.ref, "index": outside.index, "platforms": dict(outside.platforms)}
    return found


def _image_uri(reference: str) -> str:
    if reference in toolchains.IMAGES:
        return f"pkg:docker/{toolchains.REPOSITORY}/{reference}"
    return f"docker-image://{reference}"


# --- what is packed beside the outputs ---------------------------------------------------------------------------


def _papers(story: Story) -> Iterator[Json]:
    """Name the files of the project that went into the archive: a licence, a read-me, `archive.extra`."""
    outputs = {file.path for file in story.built.files}
    for file in sorted(story.packed, key=lambda file: str(file.name)):
        if file.name not in outputs:
            yield {"name": f"packed {file.name}", "digest": {"sha256": file.sha256}}


def _hex(digest: Digest | str) -> str:
    return digest.removeprefix("sha256:")
