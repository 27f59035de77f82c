"""BuildReport -> StagedRelease: dist/staging/<version>/ with archives, checksums, manifest.json and artifacts.json."""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builders.copying import full_disk_named, new_file, write_all
from builders.names import collision_key, escaped, unsafe_reason
from orchestrator.archive import ArchiveWriter, Member, Packed, write_plain, write_tar_gz, write_zip
from orchestrator.errors import StagingError
from orchestrator.folder_swap import new_folder
from orchestrator.manifest import (
    ARTIFACTS,
    MANIFEST,
    RESERVED,
    RESERVED_ENDINGS,
    SHA256_SUMS,
    SHA512_SUMS,
    Document,
    DocumentKind,
    Staged,
    StagedArtifact,
    StagedSource,
    checksums,
    goreleaser_artifacts,
    manifest,
)
from orchestrator.model import (
    ArchiveFormat,
    ArchiveRules,
    Artifact,
    ArtifactKind,
    BuildReport,
    Built,
    Matrix,
    Plan,
    Product,
    StagedRelease,
)
from orchestrator.source_archive import CommitSource, name_of, root_of

_WRITERS: dict[ArchiveFormat, ArchiveWriter] = {ArchiveFormat.TAR_GZ: write_tar_gz, ArchiveFormat.ZIP: write_zip}
_PAPERS = re.compile(r"(licen[cs]e|copying|readme)([._-].*)?(?<!~)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """An artifact to write: an archive of `members` below `root_dir`, or the only member itself."""

    name: str
    built: Built
    members: tuple[Member, ...]
    format: ArchiveFormat | None = None
    root_dir: str = ""


Describe = Callable[[StagedArtifact, Sequence[Member]], Iterable[Document]]
"""Makes the documents about an artifact, from it and from what was packed into it."""


def _no_documents(_artifact: StagedArtifact, _members: Sequence[Member]) -> tuple[Document, ...]:
    return ()


def stage(
    report: BuildReport, matrix: Matrix, dist: Path, describe: Describe = _no_documents,
    source: CommitSource | None = None,
) -> StagedRelease:  # fmt: skip
    """Write `dist/staging/<version>/` anew and put it in the place of an older one in one step.

    `source` is packed as it is, and described by the manifest alone: nothing was built there. Artifacts are packed and
    described side by side; the same results give the same bytes. Raises StagingError for nothing to stage, names that
    are reserved, unsafe or used twice, and files that are no longer what was built; DiskFull.
    """
    version = _folder_name(report.plan.version)
    jobs = _jobs(report, matrix)
    sources = _source_jobs(report.plan, source)
    _refuse_bad_names([*((job.name, job.built.cell.id) for job in jobs), *((each.name, "source") for each in sources)])
    place = dist / "staging" / version
    try:
        with full_disk_named(place), new_folder(place) as folder:
            with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
                packing = [pool.submit(_write_source, job, folder, report.plan.epoch) for job in sources]
                written = tuple(pool.map(lambda job: _write(job, folder, report.plan.epoch, describe), jobs))
                packed = [each.result() for each in packing]
            staged: list[Staged] = [*(one for one, _ in written), *packed]
            staged.sort(key=lambda one: str(one.artifact.path).encode())
            documents = [document for _, documents in written for document in documents]
            manifest_sha256 = _write_papers(staged, documents, report, matrix, folder)
    except OSError as error:
        raise StagingError(
            f"{escaped(str(place))} cannot be written: {error.strerror} ({escaped(str(error.filename))})",
            next_step="see who owns that folder, and that its file system is writable",
        ) from error
    artifacts = tuple(one.artifact for one in staged)
    return StagedRelease(folder=place, version=version, artifacts=artifacts, manifest_sha256=manifest_sha256)


# --- what to write -----------------------------------------------------------------------------------------------


def _jobs(report: BuildReport, matrix: Matrix) -> list[_Job]:
    if not report.built:
        raise StagingError(
            f"no cell of {report.plan.project} {report.plan.version} was built, so there is nothing to stage",
            next_step="see the errors of the cells above and mend one",
        )
    products = {product.name: product for product in matrix.products}
    papers = _papers(matrix.root)
    jobs = (job for built in report.built for job in _jobs_of(built, products, papers, matrix))
    return sorted(jobs, key=lambda job: job.name.encode())


def _jobs_of(built: Built, products: Mapping[str, Product], papers: Sequence[Member], matrix: Matrix) -> Iterable[_Job]:
    product = products.get(built.cell.product)
    if product is None:
        raise StagingError(f"the cell {built.cell.id} belongs to no product of {escaped(str(matrix.file))}")
    outputs = tuple(
        Member(name=file.path, content=built.folder / file.path, executable=file.executable, sha256=file.sha256)
        for file in built.files
    )
    if product.archive is not None:
        return (_archive_job(built, product.archive, outputs, papers, matrix),)
    stem = f"{product.name}_{built.cell.version}_{built.cell.target.os_arch}"
    return tuple(
        _Job(name=f"{stem}_{'_'.join(member.name.parts)}", built=built, members=(member,)) for member in outputs
    )


def _archive_job(
    built: Built, rules: ArchiveRules, outputs: Sequence[Member], papers: Sequence[Member], matrix: Matrix
) -> _Job:
    cell = built.cell
    extra = [_extra(path, matrix) for path in rules.extra]
    taken = {collision_key(str(member.name)) for member in (*outputs, *extra)}
    papers = [paper for paper in papers if collision_key(str(paper.name)) not in taken]
    form = rules.format_for(cell.target)
    try:
        root_dir = rules.stem(
            project=matrix.project.name, product=cell.product, version=cell.version, target=cell.target
        )
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise StagingError(f"the archive name {escaped(rules.name)} of {cell.product} cannot be filled in: {error}",
                           next_step="fields: {name} {product} {version} {os} {arch} {target}") from error  # fmt: skip
    members = (*outputs, *extra, *papers)
    return _Job(name=f"{root_dir}.{form.value}", built=built, members=members, format=form, root_dir=root_dir)


def _papers(root: Path) -> list[Member]:
    """Find the licence and the read-me at the top of the project; links are left out."""
    found = []
    with os.scandir(root) as entries:
        for entry in entries:
            wanted = _PAPERS.fullmatch(entry.name)
            if wanted and entry.is_file(follow_symlinks=False) and not unsafe_reason(os.fsencode(entry.name)):
                found.append(Member(name=PurePosixPath(entry.name), content=Path(entry.path)))
    return found


def _extra(path: PurePosixPath, matrix: Matrix) -> Member:
    file = (matrix.root / path).resolve()
    if ".." in path.parts or not file.is_relative_to(matrix.root.resolve()) or not file.is_file():
        raise StagingError(
            f"archive.extra names {escaped(str(path))}, which is not a file below {escaped(str(matrix.root))}",
            next_step="name a file by its path relative to the folder of matrix.toml",
        )
    return Member(name=path, content=file, executable=bool(file.stat().st_mode & stat.S_IXUSR))


@dataclass(frozen=True, slots=True, kw_only=True)
class _SourceJob:
    name: str
    source: CommitSource
    format: ArchiveFormat
    root_dir: str


def _source_jobs(plan: Plan, source: CommitSource | None) -> list[_SourceJob]:
    root_dir = root_of(plan.project, plan.version)
    return [
        _SourceJob(name=name_of(plan.project, plan.version, form), source=source, format=form, root_dir=root_dir)
        for form in (source.formats if source else ())
        if source
    ]


# --- names -------------------------------------------------------------------------------------------------------


def _folder_name(version: str) -> str:
    reason = "holds a slash" if "/" in version else unsafe_reason(version.encode("utf-8", "surrogateescape"))
    if reason or version.startswith("."):
        raise StagingError(
            f"the version {escaped(version)} cannot be the name of a folder: it {reason or 'starts with a dot'}",
            next_step="choose a version such as 1.2.3",
        )
    return version


def _refuse_bad_names(names: Iterable[tuple[str, str]]) -> None:
    """Look at names of artifacts, each with the cell that gives it."""
    reserved = {collision_key(name) for name in RESERVED}
    owners: dict[str, str] = {}
    for name, owner in names:
        key = collision_key(name)
        reason = "holds a slash" if "/" in name else unsafe_reason(name.encode("utf-8", "surrogateescape"))
        if _why_not(key, reserved) or reason or name.startswith("."):
            why = _why_not(key, reserved) or reason or "starts with a dot"
            raise StagingError(f"{owner} would give an artifact named {escaped(name)}, which {why}",
                               next_step="choose another archive.name")  # fmt: skip
        if key in owners:
            raise StagingError(
                f"{owners[key]} and {owner} would both give an artifact named {escaped(name)}",
                next_step="put {product} and {target} into archive.name",
            )
        owners[key] = owner


def _why_not(key: str, reserved: Collection[str]) -> str:
    if key in reserved:
        return "is reserved"
    ending = next((ending for ending in RESERVED_ENDINGS if key.endswith(ending)), "")
    return f"ends in {ending}, as documents and signatures do" if ending else ""


# --- writing -----------------------------------------------------------------------------------------------------


def _write(job: _Job, folder: Path, epoch: int, describe: Describe) -> tuple[StagedArtifact, tuple[Document, ...]]:
    path = folder / job.name
    if job.format is None:
        packed = write_plain(path, job.members[0])
    else:
        packed = _WRITERS[job.format](path, job.root_dir, job.members, epoch)
    staged = StagedArtifact(
        artifact=_artifact(job, packed), built=job.built, packed=packed, executable=job.members[0].executable,
        wrapped_in=job.root_dir, format=job.format.value if job.format else "",
    )  # fmt: skip
    return staged, tuple(describe(staged, job.members))


def _write_source(job: _SourceJob, folder: Path, epoch: int) -> StagedSource:
    packed = _WRITERS[job.format](folder / job.name, job.root_dir, job.source.members, epoch)
    artifact = Artifact(
        path=PurePosixPath(job.name), kind=ArtifactKind.SOURCE, product="", target="",
        size_bytes=packed.digests.size_bytes, sha256=packed.digests.sha256, sha512=packed.digests.sha512,
    )  # fmt: skip
    return StagedSource(
        artifact=artifact, commit=job.source.commit, tree=job.source.tree, matrix=job.source.matrix,
        wrapped_in=job.root_dir, format=job.format.value,
    )  # fmt: skip


def _write_papers(
    staged: Sequence[Staged], described: Sequence[Document], report: BuildReport, matrix: Matrix, folder: Path
) -> str:
    """Write what describes the artifacts, and give the digest of the manifest, which names all the rest."""
    papers = [
        Document(path=SHA256_SUMS, kind=DocumentKind.CHECKSUMS, content=checksums(staged, described, "sha256")),
        Document(path=SHA512_SUMS, kind=DocumentKind.CHECKSUMS, content=checksums(staged, described, "sha512")),
        Document(path=ARTIFACTS, kind=DocumentKind.GORELEASER, content=goreleaser_artifacts(staged, report.plan)),
    ]
    documents = [*described, *papers]
    text = manifest(staged, documents, report, matrix)
    for name, content in [*((each.path, each.content) for each in documents), (MANIFEST, text)]:
        with new_file(folder / name, executable=False) as descriptor:
            write_all(descriptor, content)
    return hashlib.sha256(text).hexdigest()


def _artifact(job: _Job, packed: Packed) -> Artifact:
    return Artifact(
        path=PurePosixPath(job.name),
        kind=ArtifactKind.ARCHIVE if job.format else ArtifactKind.FILE,
        product=job.built.cell.product,
        target=job.built.cell.target.name,
        size_bytes=packed.digests.size_bytes,
        sha256=packed.digests.sha256,
        sha512=packed.digests.sha512,
    )
