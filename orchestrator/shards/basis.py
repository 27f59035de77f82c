"""What plans and shards say in the same words: on what they stand, and how a cell is built."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from builders.model import Cell, CellKey, Placement, Toolchain
from orchestrator.canonical import Json
from orchestrator.verify.json_strict import DIGEST, SHA256, BadJson, Shape, boolean, exactly, integer, record, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """On what a plan or a shard stands. `program` is the version of relbuild, `host` the machine that wrote it."""

    program: str
    config_sha256: str
    project: str
    version: str
    commit: str
    dirty: bool
    epoch: int
    engine: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a cell is built, as one machine decided."""

    key: CellKey
    placement: Placement
    builder: str
    toolchain: Toolchain

    @classmethod
    def of(cls, cell: Cell) -> "Way":
        return cls(key=cell.key, placement=cell.placement, builder=cell.builder, toolchain=cell.toolchain)


# --- JSON --------------------------------------------------------------------------------------------------------


def seconds(value: object, where: str) -> None:
    """Look at a time span: a number of seconds, zero or more."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise BadJson(f"has no number of seconds at {where}")


NAME: Final = text(r"[^\x00-\x1f]{1,300}", "name")
_WORDS = text(r"[^\x00]{0,4000}", "text")
BASIS: Final[Mapping[str, Shape]] = {
    "program": NAME,
    "config": SHA256,
    "project": NAME,
    "version": NAME,
    "commit": text(r"[0-9a-f]{0,64}", "commit"),
    "dirty": boolean,
    "epoch": integer,
    "engine": NAME,
    "host": NAME,
}
WAY: Final[Mapping[str, Shape]] = {
    "key": SHA256,
    "placement": exactly(*(placement.value for placement in Placement)),
    "builder": NAME,
    "toolchain": record({"name": NAME, "identity": DIGEST, "description": _WORDS, "isolation": _WORDS}),
}


def basis_json(basis: Basis) -> dict[str, Json]:
    """Give the members of a document that say on what it stands."""
    return {
        "program": basis.program, "config": basis.config_sha256, "project": basis.project, "version": basis.version,
        "commit": basis.commit, "dirty": basis.dirty, "epoch": basis.epoch, "engine": basis.engine,
        "host": basis.host,
    }  # fmt: skip


def basis_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields of a Basis from a document that has its shape."""
    named = {name: value[name] for name in BASIS if name != "config"}
    return {**named, "config_sha256": value["config"]}


def way_json(way: Way) -> dict[str, Json]:
    """Give the members of a cell that say how it is built."""
    return {
        "key": way.key, "placement": way.placement.value, "builder": way.builder,
        "toolchain": dataclasses.asdict(way.toolchain),
    }  # fmt: skip


def way_of(entry: Mapping[str, Any]) -> Way:
    """Read how a cell is built from an entry that has its shape."""
    return Way(
        key=CellKey(entry["key"]), placement=Placement(entry["placement"]), builder=entry["builder"],
        toolchain=Toolchain(**entry["toolchain"]),
    )  # fmt: skip
