"""plan.json: what one machine decided, for others to build and for one to merge.

Format: relbuild/plan/v1, as `relbuild plan --json` prints it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from builders.model import Cell, CellKey, Digest, Placement, SourceTree, Toolchain
from builders.names import escaped
from builders.targets import Target
from orchestrator import __version__
from orchestrator.canonical import Json
from orchestrator.errors import PlanInvalid
from orchestrator.model import CacheState, LeftOut, Plan, PlannedCell
from orchestrator.verify.json_strict import (
    SHA256,
    BadJson,
    boolean,
    check,
    exactly,
    integer,
    list_of,
    optional,
    parse,
    record,
    text,
)

SCHEMA: Final = "relbuild/plan/v1"
_MAX_BYTES: Final = 64 << 20
_MOST_CELLS: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a cell is built, as one machine decided."""

    key: CellKey
    placement: Placement
    builder: str
    toolchain: Toolchain


@dataclass(frozen=True, slots=True, kw_only=True)
class FiledCell:
    """A cell as a plan names it: from which source it is built, on which kind of machine (`host`), and how.

    `way` is None where another kind of machine than the planner's builds it: that one decides, and its shard tells.
    """

    id: str
    product: str
    target: str
    host: str
    way: Way | None
    source: Digest
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A cell that is built on another kind of machine than the planner's."""

    product: str
    target: str
    host: Target
    source: SourceTree
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """A plan that was read. `sha256` is that of the file; `program` is the version of relbuild that decided."""

    sha256: str
    program: str
    config_sha256: str
    project: str
    version: str
    commit: str
    dirty: bool
    epoch: int
    host: str
    engine: str
    cells: Mapping[str, FiledCell]
    """By id, in the plan's order."""
    left_out: tuple[LeftOut, ...]


def plan_json(plan: Plan, elsewhere: Sequence[Elsewhere] = (), *, host: Target, config_sha256: str) -> dict[str, Json]:
    """Give a plan as JSON. `host` is the machine that decided; what is cached and what it may take are its own."""
    return {
        "schema": SCHEMA,
        "program": __version__,
        "config": config_sha256,
        "project": plan.project,
        "version": plan.version,
        "commit": plan.commit,
        "dirty": plan.dirty,
        "epoch": plan.epoch,
        "host": host.name,
        "engine": plan.engine,
        "engine_reason": plan.engine_reason,
        "cells": [*(_cell_json(each, host) for each in plan.cells), *map(_elsewhere_json, elsewhere)],
        "left_out": [
            {"product": gap.product, "target": gap.target, "reason": gap.reason, "next_step": gap.next_step,
             "required": gap.required}
            for gap in plan.left_out
        ],
    }  # fmt: skip


def read_plan(path: Path) -> PlanFile:
    """Read a plan. Raises PlanInvalid."""
    place = escaped(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        return _plan(data, check(parse(data, _MAX_BYTES), _PLAN))
    except OSError as error:
        raise PlanInvalid(f"{place} cannot be read: {error.strerror}",
                          next_step="`relbuild plan --json > plan.json` writes a plan") from error  # fmt: skip
    except BadJson as error:
        raise PlanInvalid(
            f"{place} is no plan of this program: it {error}",
            next_step="write it anew with this version: relbuild plan --json > plan.json",
        ) from None


def config_digest(path: Path) -> str:
    """Give the SHA-256 of a matrix.toml, as plans and shards name it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- JSON --------------------------------------------------------------------------------------------------------


def seconds(value: object, where: str) -> None:
    """Look at a time span: a number of seconds, zero or more."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise BadJson(f"has no number of seconds at {where}")


_NAME = text(r"[^\x00-\x1f]{1,300}", "name")
_WORDS = text(r"[^\x00]{0,4000}", "text")
_DIGEST = text(r"sha256:[0-9a-f]{64}", "digest")
TOOLCHAIN = record({"name": _NAME, "identity": _DIGEST, "description": _WORDS, "isolation": _WORDS})
_CELL = record(
    {
        "id": _NAME,
        "product": _NAME,
        "target": _NAME,
        "host": _NAME,
        "key": optional(SHA256),
        "placement": optional(exactly(*(placement.value for placement in Placement))),
        "reason": _WORDS,
        "builder": optional(_NAME),
        "toolchain": optional(TOOLCHAIN),
        "source": record({"origin": _WORDS, "digest": _DIGEST}),
        "cached": boolean,
        "estimate_s": optional(seconds),
        "required": boolean,
    }
)
_GAP = record({"product": _NAME, "target": _NAME, "reason": _WORDS, "next_step": _WORDS, "required": boolean})
_PLAN = record(
    {
        "schema": exactly(SCHEMA),
        "program": _NAME,
        "config": SHA256,
        "project": _NAME,
        "version": _NAME,
        "commit": text(r"[0-9a-f]{0,64}", "commit"),
        "dirty": boolean,
        "epoch": integer,
        "host": _NAME,
        "engine": _NAME,
        "engine_reason": _WORDS,
        "cells": list_of(_CELL, most=_MOST_CELLS),
        "left_out": list_of(_GAP, most=_MOST_CELLS),
    }
)


def _cell_json(planned: PlannedCell, host: Target) -> dict[str, Json]:
    cell = planned.cell
    return {
        "id": cell.id,
        "product": cell.product,
        "target": cell.target.name,
        "host": host.name,
        "key": cell.key,
        "placement": cell.placement.value,
        "reason": cell.reason,
        "builder": cell.builder,
        "toolchain": toolchain_json(cell),
        "source": {"origin": cell.source.origin, "digest": cell.source.digest},
        "cached": planned.cache is CacheState.HIT,
        "estimate_s": planned.estimate_s,
        "required": cell.required,
    }


def _elsewhere_json(each: Elsewhere) -> dict[str, Json]:
    return {
        "id": f"{each.product}/{each.target}",
        "product": each.product,
        "target": each.target,
        "host": each.host.name,
        "key": None,
        "placement": None,
        "reason": f"decided on a machine that is {each.host.name}",
        "builder": None,
        "toolchain": None,
        "source": {"origin": each.source.origin, "digest": each.source.digest},
        "cached": False,
        "estimate_s": None,
        "required": each.required,
    }


def toolchain_json(cell: Cell) -> dict[str, Json]:
    """Give what compiles a cell, as plans name it."""
    toolchain = cell.toolchain
    return {
        "name": toolchain.name, "identity": toolchain.identity, "description": toolchain.description,
        "isolation": toolchain.isolation,
    }  # fmt: skip


def _plan(data: bytes, value: Mapping[str, Any]) -> PlanFile:
    cells: dict[str, FiledCell] = {}
    for entry in value["cells"]:
        if entry["id"] != f"{entry['product']}/{entry['target']}" or entry["id"] in cells:
            raise BadJson(f"names the cell {escaped(entry['id'])} twice, or wrongly")
        cells[entry["id"]] = _cell(entry)
    return PlanFile(
        sha256=hashlib.sha256(data).hexdigest(), program=value["program"], config_sha256=value["config"],
        project=value["project"], version=value["version"], commit=value["commit"], dirty=value["dirty"],
        epoch=value["epoch"], host=value["host"], engine=value["engine"], cells=cells,
        left_out=tuple(LeftOut(**gap) for gap in value["left_out"]),
    )  # fmt: skip


def _cell(entry: Mapping[str, Any]) -> FiledCell:
    return FiledCell(
        id=entry["id"], product=entry["product"], target=entry["target"], host=entry["host"], way=_way(entry),
        source=Digest(entry["source"]["digest"]), required=entry["required"],
    )  # fmt: skip


def _way(entry: Mapping[str, Any]) -> Way | None:
    parts = [entry[name] for name in ("key", "placement", "builder", "toolchain")]
    if all(part is None for part in parts):
        return None
    if any(part is None for part in parts):
        raise BadJson(f"says of the cell {escaped(entry['id'])} only half of how it is built")
    return Way(
        key=CellKey(entry["key"]), placement=Placement(entry["placement"]), builder=entry["builder"],
        toolchain=Toolchain(**entry["toolchain"]),
    )  # fmt: skip
