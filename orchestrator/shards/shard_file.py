"""shard.json: what one machine built of a plan, and from what.

Format: relbuild/shard/v1, canonical JSON. Every file beside it is listed with its size and digest.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from builders.model import BuiltFile, Material, SmokeHow, SmokeResult, SmokeRun
from builders.names import escaped, unsafe_reason
from orchestrator.canonical import Json
from orchestrator.model import Finding, Verdict
from orchestrator.shards.basis import BASIS, NAME, WAY, Basis, Way, basis_json, basis_of, seconds, way_json, way_of
from orchestrator.verify.json_strict import (
    DIGEST,
    SHA256,
    SHA512,
    BadJson,
    Shape,
    boolean,
    check,
    exactly,
    integer,
    list_of,
    parse_canonical,
    record,
    text,
)

SCHEMA: Final = "relbuild/shard/v1"
SHARD: Final = "shard.json"
MAX_BYTES: Final = 64 << 20
_MOST: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A file of a shard, relative to its folder."""

    path: PurePosixPath
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCell:
    """A cell that was built, checked and run. `files` lie below `folder`, and so do the documents and the log."""

    id: str
    way: Way
    source: str
    folder: str
    files: tuple[BuiltFile, ...]
    documents: tuple[str, ...]
    findings: tuple[Finding, ...]
    smoke: SmokeResult
    materials: tuple[Material, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A cell that this machine was to build and did not: `why` is the class of the error, or "skipped"."""

    id: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard(Basis):
    """What a machine built. `plan` is the SHA-256 of the plan.json that it was given."""

    id: str
    plan: str
    cells: tuple[ShardCell, ...]
    absent: tuple[Absent, ...]
    listed: tuple[Listed, ...]


def shard_json(shard: Shard) -> dict[str, Json]:
    """Give a shard as JSON."""
    return {
        "schema": SCHEMA,
        "id": shard.id,
        "plan": shard.plan,
        **basis_json(shard),
        "cells": [_cell_json(cell) for cell in shard.cells],
        "absent": [{"id": each.id, "why": each.why} for each in shard.absent],
        "files": [{"path": str(each.path), "size": each.size_bytes, "sha256": each.sha256} for each in shard.listed],
    }


def parse_shard(data: bytes) -> Shard:
    """Read a shard.json. Raises BadJson."""
    value = check(parse_canonical(data, MAX_BYTES), _SHARD)
    listed = tuple(
        Listed(path=_path(each["path"]), size_bytes=each["size"], sha256=each["sha256"]) for each in value["files"]
    )
    if len({each.path for each in listed}) != len(listed):
        raise BadJson("lists a file twice")
    cells = tuple(_cell(entry) for entry in value["cells"])
    shard = Shard(
        **basis_of(value), id=value["id"], plan=value["plan"], cells=cells, listed=listed,
        absent=tuple(Absent(id=each["id"], why=each["why"]) for each in value["absent"]),
    )  # fmt: skip
    _refuse_loose_ends(shard)
    return shard


def files_folder(cell_folder: str) -> PurePosixPath:
    """Say where a cell's outputs lie in a shard."""
    return PurePosixPath("cells", cell_folder, "files")


def documents_folder(cell_folder: str) -> PurePosixPath:
    """Say where lies what the builder itself said of a cell."""
    return PurePosixPath("cells", cell_folder, "documents")


def log_file(cell_folder: str) -> PurePosixPath:
    """Say where the log of a cell lies."""
    return PurePosixPath("cells", cell_folder, "log")


# --- writing -----------------------------------------------------------------------------------------------------


def _cell_json(cell: ShardCell) -> dict[str, Json]:
    return {
        "id": cell.id,
        **way_json(cell.way),
        "source": cell.source,
        "folder": cell.folder,
        "files": [
            {"path": str(file.path), "size": file.size_bytes, "sha256": file.sha256, "sha512": file.sha512,
             "executable": file.executable}
            for file in cell.files
        ],
        "documents": list(cell.documents),
        "findings": [
            {"path": str(each.path), "rule": each.rule, "text": each.text, "verdict": each.verdict.value}
            for each in cell.findings
        ],
        "smoke": {
            "how": cell.smoke.how.value, "tests": cell.smoke.tests, "note": cell.smoke.note,
            "runs": [
                {"run": list(each.run), "exit": each.exit, "stdout_sha256": each.stdout_sha256}
                for each in cell.smoke.runs
            ],
        },
        "materials": [dataclasses.asdict(each) for each in cell.materials],
        "seconds": cell.seconds,
    }  # fmt: skip


# --- reading -----------------------------------------------------------------------------------------------------


def _exit(value: object, where: str) -> None:
    if type(value) is not int:
        raise BadJson(f"has no exit code at {where}")


_WORDS = text(r"[^\x00]{0,20000}", "text")
_FOLDER = text(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}", "folder name")
_LISTED: dict[str, Shape] = {"path": _WORDS, "size": integer, "sha256": SHA256}
_FILE = record({**_LISTED, "sha512": SHA512, "executable": boolean})
_FINDING = record({"path": _WORDS, "rule": NAME, "text": _WORDS, "verdict": exactly(*(each.value for each in Verdict))})
_SMOKE: dict[str, Shape] = {
    "how": exactly(*(each.value for each in SmokeHow)), "tests": integer, "note": _WORDS,
    "runs": list_of(record({"run": list_of(_WORDS, least=1, most=_MOST), "exit": _exit, "stdout_sha256": SHA256})),
}  # fmt: skip
_MATERIAL = record(
    {field.name: _WORDS for field in dataclasses.fields(Material)}
    | {"purl": text(r"(?:pkg:[^\x00-\x20]{1,2000})?", "package URL"), "sha256": text(r"(?:[0-9a-f]{64})?", "SHA-256")}
)
_CELL = record(
    {
        "id": NAME,
        **WAY,
        "source": DIGEST,
        "folder": _FOLDER,
        "files": list_of(_FILE, least=1, most=_MOST),
        "documents": list_of(_FOLDER, most=_MOST),
        "findings": list_of(_FINDING, most=_MOST),
        "smoke": record(_SMOKE),
        "materials": list_of(_MATERIAL, most=_MOST),
        "seconds": seconds,
    }
)
_SHARD = record(
    {
        "schema": exactly(SCHEMA),
        "id": _FOLDER,
        "plan": SHA256,
        **BASIS,
        "cells": list_of(_CELL, most=_MOST),
        "absent": list_of(record({"id": NAME, "why": NAME}), most=_MOST),
        "files": list_of(record(_LISTED), most=_MOST),
    }
)


def _cell(entry: Mapping[str, Any]) -> ShardCell:
    return ShardCell(
        id=entry["id"], way=way_of(entry), source=entry["source"],
        folder=entry["folder"], files=tuple(_file(each) for each in entry["files"]),
        documents=tuple(entry["documents"]), findings=tuple(_finding(each) for each in entry["findings"]),
        smoke=_smoke(entry["smoke"]),
        materials=tuple(Material(**each) for each in entry["materials"]), seconds=entry["seconds"],
    )  # fmt: skip


def _file(entry: Mapping[str, Any]) -> BuiltFile:
    return BuiltFile(
        path=_path(entry["path"]), size_bytes=entry["size"], sha256=entry["sha256"], sha512=entry["sha512"],
        executable=entry["executable"],
    )  # fmt: skip


def _smoke(entry: Mapping[str, Any]) -> SmokeResult:
    runs = tuple(
        SmokeRun(run=tuple(each["run"]), exit=each["exit"], stdout_sha256=each["stdout_sha256"])
        for each in entry["runs"]
    )
    return SmokeResult(how=SmokeHow(entry["how"]), tests=entry["tests"], note=entry["note"], runs=runs)


def _finding(entry: Mapping[str, Any]) -> Finding:
    return Finding(path=PurePosixPath(entry["path"]), rule=entry["rule"], text=entry["text"],
                   verdict=Verdict(entry["verdict"]))  # fmt: skip


def _path(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    for part in name.split("/"):
        if reason := unsafe_reason(part.encode("utf-8", "surrogateescape")):
            raise BadJson(f"names the file {escaped(name)}, which {reason}")
    return path


def _refuse_loose_ends(shard: Shard) -> None:
    """Raise BadJson where cells name files that are not listed, with other digests, or the same twice."""
    listed = {each.path: (each.size_bytes, each.sha256) for each in shard.listed}
    ids = [cell.id for cell in shard.cells] + [each.id for each in shard.absent]
    folders = [cell.folder for cell in shard.cells]
    if len(set(ids)) != len(ids) or len(set(folders)) != len(folders):
        raise BadJson("names a cell twice")
    wanted: dict[PurePosixPath, tuple[int, str] | None] = {}
    for cell in shard.cells:
        names = [*(str(file.path) for file in cell.files), *(f"documents/{name}" for name in cell.documents)]
        if len(set(names)) != len(names):
            raise BadJson(f"names a file of {escaped(cell.id)} twice")
        for file in cell.files:
            wanted[files_folder(cell.folder) / file.path] = (file.size_bytes, file.sha256)
        wanted |= {documents_folder(cell.folder) / name: None for name in cell.documents}
        wanted[log_file(cell.folder)] = None
    for path, promise in wanted.items():
        if path not in listed or (promise is not None and listed[path] != promise):
            raise BadJson(f"does not list {escaped(str(path))} as its cell names it")
    if foreign := sorted(set(map(str, listed)) - set(map(str, wanted))):
        raise BadJson(f"lists {escaped(foreign[0])}, which belongs to no cell")
