"""A report -> dist/shards/<id>/: copies of what was built, shard.json, and its signature."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builders.copying import full_disk_named, make_folders, new_file, write_all
from builders.model import Cell, Material
from builders.names import escaped
from builders.targets import host
from orchestrator import __version__
from orchestrator.archive import Member, write_plain
from orchestrator.canonical import canonical_json
from orchestrator.errors import ShardError
from orchestrator.folder_swap import new_folder
from orchestrator.model import BuildReport, Built, CellResult, Failed, Skipped
from orchestrator.shards.basis import Way
from orchestrator.shards.plan_file import PlanFile
from orchestrator.shards.shard_file import (
    SHARD,
    Absent,
    Listed,
    Shard,
    ShardCell,
    documents_folder,
    files_folder,
    log_file,
    shard_json,
)
from orchestrator.signing.interface import Blob, Signer
from orchestrator.trust import BUNDLE

SIGNATURE = f"{SHARD}{BUNDLE}"
_ID_DIGITS = 12
_ID_TARGETS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A shard that was written. `key_id` is empty where nobody signed it."""

    id: str
    folder: Path
    key_id: str
    size_bytes: int


def write_shard(
    report: BuildReport, planned: PlanFile, dist: Path, materials_of: Callable[[Cell], Sequence[Material]],
    signer: Signer | None,
) -> Written:  # fmt: skip
    """Write what a run built of a plan, in the place of an older shard of the same cells, in one step.

    Raises ShardError, StagingError where a file is no longer what was built, SigningFailed, DiskFull.
    """
    if not report.built:
        raise ShardError("nothing was built, so there is no shard to write", next_step="see the errors above")
    name = _id(report, planned)
    place = dist / "shards" / name
    try:
        with full_disk_named(place), new_folder(place) as folder:
            shard = _shard(name, report, planned, _Copies(folder=folder, logs=dist / "logs"), materials_of)
            text = canonical_json(shard_json(shard))
            _new(folder / SHARD, text)
            digest = hashlib.sha256(text).hexdigest()
            if signer is not None:
                _new(folder / SIGNATURE, _signed(signer, Blob(path=folder / SHARD, sha256=digest)))
    except OSError as error:
        raise ShardError(
            f"{escaped(str(place))} cannot be written: {error.strerror} ({escaped(str(error.filename))})",
            next_step="see who owns that folder, and that its file system is writable",
        ) from error
    size = sum(each.size_bytes for each in shard.listed)
    return Written(id=name, folder=place, key_id=signer.key_id if signer else "", size_bytes=size)


def _id(report: BuildReport, planned: PlanFile) -> str:
    cells = sorted(result.cell.id for result in report.results)
    targets = "-".join(sorted({result.cell.target.name for result in report.results}))[:_ID_TARGETS]
    digest = hashlib.sha256("\n".join([planned.sha256, *cells]).encode()).hexdigest()
    return f"{targets}-{digest[:_ID_DIGITS]}"


def _shard(
    name: str, report: BuildReport, planned: PlanFile, copies: "_Copies",
    materials_of: Callable[[Cell], Sequence[Material]],
) -> Shard:  # fmt: skip
    plan = report.plan
    cells, listed = [], []
    for built in report.built:
        listed += copies.of(built)
        cells.append(_cell(built, tuple(materials_of(built.cell))))
    return Shard(
        id=name, plan=planned.sha256, program=__version__, config_sha256=planned.config_sha256, project=plan.project,
        version=plan.version, commit=plan.commit, dirty=plan.dirty, epoch=plan.epoch, engine=plan.engine,
        host=host().name,
        cells=tuple(cells), absent=tuple(_absent(report.results)),
        listed=tuple(sorted(listed, key=lambda each: str(each.path))),
    )  # fmt: skip


def _cell(built: Built, materials: tuple[Material, ...]) -> ShardCell:
    cell = built.cell
    return ShardCell(
        id=cell.id, way=Way.of(cell), source=cell.source.digest, folder=_folder(cell),
        files=built.files, documents=tuple(sorted(built.documents)), findings=built.findings, smoke=built.smoke,
        materials=materials, seconds=built.seconds,
    )  # fmt: skip


def _folder(cell: Cell) -> str:
    # Products and targets are plain names by the configuration's own rules; two of them never share a key.
    return f"{cell.product}-{cell.target.name}-{cell.key[:_ID_DIGITS]}"


def _absent(results: Iterable[CellResult]) -> Iterable[Absent]:
    for result in results:
        match result:
            case Built():
                pass
            case Failed(cell=cell, error=error):
                yield Absent(id=cell.id, why=type(error).__name__)
            case Skipped(cell=cell):
                yield Absent(id=cell.id, why="skipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copies:
    """Copies files into a shard's folder; each must be what it was when it was built."""

    folder: Path
    logs: Path

    def of(self, built: Built) -> list[Listed]:
        cell = built.cell
        below = _folder(cell)
        log = self.logs / f"{cell.product}-{cell.target.name}.log"
        members = [
            Member(name=files_folder(below) / file.path, content=built.folder / file.path, sha256=file.sha256,
                   executable=file.executable)
            for file in built.files
        ]  # fmt: skip
        members += [
            Member(name=documents_folder(below) / name, content=content)
            for name, content in sorted(built.documents.items())
        ]
        members.append(Member(name=log_file(below), content=log if log.is_file() else b""))
        return [self._copy(member) for member in members]

    def _copy(self, member: Member) -> Listed:
        place = self.folder / member.name
        make_folders(place.parent)
        digests = write_plain(place, member).digests
        return Listed(path=PurePosixPath(member.name), size_bytes=digests.size_bytes, sha256=digests.sha256)


def _signed(signer: Signer, blob: Blob) -> bytes:
    if signer.suffix != BUNDLE:
        raise ShardError(f"{signer.name} signs no shards: they take a Sigstore bundle",
                         next_step="make a key: relbuild keys generate --out runner.key")  # fmt: skip
    return signer.sign(blob)


def _new(path: Path, content: bytes) -> None:
    with new_file(path, executable=False) as descriptor:
        write_all(descriptor, content)
