"""The commit of a release -> what its source archives hold, or why there can be none."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from builders.copying import full_disk_named, make_folders
from builders.errors import SourceUnavailable
from builders.model import Digest, SourceFile, SourceTree
from builders.sources import git, part_digest, read_whole
from builders.sources.unpack import unpack
from orchestrator.archive import Member, in_order
from orchestrator.errors import StagingError
from orchestrator.model import ArchiveFormat, BuildReport, Matrix, Plan

_DEFAULT: Final = (ArchiveFormat.TAR_GZ,)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitSource:
    """What a commit holds below the project's folder, as `git archive` gives it; the files lie in a private folder.

    `tree` is the digest of all of it, by the rules of builders/sources/trees.py. `notes` say what an archive of it is
    not good for.
    """

    formats: tuple[ArchiveFormat, ...]
    commit: str
    matrix: str
    """Name of the configuration in it."""
    tree: Digest
    members: tuple[Member, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSource:
    """There is no source archive; `notes` say why, and are empty where nobody wants one."""

    notes: tuple[str, ...] = ()


def refuse_impossible(matrix: Matrix, plan: Plan) -> None:
    """Raise StagingError where matrix.toml asks for a source archive and no commit holds what is built."""
    reason = _why_not(plan)
    if matrix.project.source_archive and reason:
        raise StagingError(
            f"`source_archive` in [project] asks for a source archive, and {reason}",
            next_step="commit first; or take `source_archive` out, and there is one whenever there can be",
        )


@contextlib.contextmanager
def opened_source(matrix: Matrix, report: BuildReport, dist: Path) -> Iterator[CommitSource | NoSource]:
    """Give what the release's commit holds; its files are there until the block ends.

    Raises StagingError and SourceUnavailable where matrix.toml asks for an archive that cannot be made, DiskFull.
    """
    refuse_impossible(matrix, report.plan)
    wanted = matrix.project.source_archive
    reason = _why_not(report.plan)
    if wanted == () or reason:
        yield NoSource() if wanted == () else _none(reason)
        return
    place = dist / "work"
    with full_disk_named(place):
        make_folders(place)
        with tempfile.TemporaryDirectory(prefix="source.", dir=place) as room:
            yield _read(matrix, report, Path(room))


def root_of(project: str, version: str) -> str:
    """Name the one folder that a source archive has at its top."""
    return f"{project}-{version}"


def name_of(project: str, version: str, form: ArchiveFormat) -> str:
    """Name a source archive."""
    return f"{project}_{version}_source.{form.value}"


def _none(reason: str) -> NoSource:
    return NoSource(notes=(f"no source archive: {reason}",))


def _why_not(plan: Plan) -> str:
    if not plan.commit:
        return "the project has no commit in git"
    return f"files were changed since the commit {plan.commit[:12]}" if plan.dirty else ""


# --- reading -----------------------------------------------------------------------------------------------------


def _read(matrix: Matrix, report: BuildReport, room: Path) -> CommitSource | NoSource:
    try:
        tree = _tree(matrix.root, report.plan.commit, room)
        members = in_order(_member(tree, file) for file in tree.files)
    except (SourceUnavailable, StagingError) as error:
        if matrix.project.source_archive:
            raise
        return _none(error.what)
    return CommitSource(
        formats=matrix.project.source_archive or _DEFAULT,
        commit=report.plan.commit,
        matrix=matrix.file.name,
        tree=tree.digest,
        members=tuple(members),
        notes=tuple(dict.fromkeys(_differences(matrix, report, tree))),
    )


def _tree(folder: Path, commit: str, room: Path) -> SourceTree:
    archive, unpacked = room / "commit.tar", room / "commit"
    git.archive_commit(folder, commit, archive)
    unpack(archive, unpacked)
    archive.unlink()
    return read_whole(unpacked, origin=f"commit {commit}")


def _member(tree: SourceTree, file: SourceFile) -> Member:
    return Member(
        name=file.path, content=tree.root / file.path, executable=file.executable, sha256=file.sha256, link=file.link
    )


def _differences(matrix: Matrix, report: BuildReport, tree: SourceTree) -> Iterator[str]:
    """Say which products were built from something that a commit's archive does not give back."""
    products = {product.name: product for product in matrix.products}
    for built in report.built:
        product = products.get(built.cell.product)
        if product is None:
            continue
        parts = {product.mounts[mount.at]: mount.tree for mount in built.cell.mounts if mount.at in product.mounts}
        if isinstance(product.source, PurePosixPath):
            parts[product.source] = built.cell.source
        for folder, used in parts.items():
            own = [matrix.file.name] if not folder.parts and used is built.cell.source else []
            if part_digest(tree, folder, exclude=own) != used.digest:
                yield (
                    f"the source archive does not give back {folder}, of which {product.name} was built: a submodule,"
                    " export-ignore, export-subst or a link makes the commit's archive another"
                )
