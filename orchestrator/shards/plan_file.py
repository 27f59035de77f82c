"""plan.json: what one machine decided, for others to build and for one to merge.

Format: relbuild/plan/v1, as `relbuild plan --json` prints it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from builders.model import Digest, SourceTree
from builders.names import escaped
from builders.targets import Target
from orchestrator import __version__
from orchestrator.canonical import Json
from orchestrator.errors import PlanInvalid
from orchestrator.model import CacheState, LeftOut, Plan, PlannedCell
from orchestrator.shards.basis import BASIS, NAME, WAY, Basis, Way, basis_json, basis_of, seconds, way_json, way_of
from orchestrator.verify.json_strict import (
    DIGEST,
    BadJson,
    boolean,
    check,
    exactly,
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
class PlanFile(Basis):
    """A plan that was read. `sha256` is that of the file."""

    sha256: str
    cells: Mapping[str, FiledCell]
    """By id, in the plan's order."""
    left_out: tuple[LeftOut, ...]


def plan_json(plan: Plan, elsewhere: Sequence[Elsewhere] = (), *, host: Target, config_sha256: str) -> dict[str, Json]:
    """Give a plan as JSON. `host` is the machine that decided; what is cached and what it may take are its own."""
    basis = Basis(
        program=__version__, config_sha256=config_sha256, project=plan.project, version=plan.version,
        commit=plan.commit, dirty=plan.dirty, epoch=plan.epoch, engine=plan.engine, host=host.name,
    )  # fmt: skip
    return {
        "schema": SCHEMA,
        **basis_json(basis),
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


_WORDS = text(r"[^\x00]{0,4000}", "text")
_CELL = record(
    {
        "id": NAME,
        "product": NAME,
        "target": NAME,
        "host": NAME,
        **{name: optional(shape) for name, shape in WAY.items()},
        "reason": _WORDS,
        "source": record({"origin": _WORDS, "digest": DIGEST}),
        "cached": boolean,
        "estimate_s": optional(seconds),
        "required": boolean,
    }
)
_GAP = record({"product": NAME, "target": NAME, "reason": _WORDS, "next_step": _WORDS, "required": boolean})
_PLAN = record(
    {
        "schema": exactly(SCHEMA),
        **BASIS,
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
        **way_json(Way.of(cell)),
        "reason": cell.reason,
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
        **dict.fromkeys(WAY),
        "reason": f"decided on a machine that is {each.host.name}",
        "source": {"origin": each.source.origin, "digest": each.source.digest},
        "cached": False,
        "estimate_s": None,
        "required": each.required,
    }


def _plan(data: bytes, value: Mapping[str, Any]) -> PlanFile:
    cells: dict[str, FiledCell] = {}
    for entry in value["cells"]:
        if entry["id"] != f"{entry['product']}/{entry['target']}" or entry["id"] in cells:
            raise BadJson(f"names the cell {escaped(entry['id'])} twice, or wrongly")
        cells[entry["id"]] = _cell(entry)
    return PlanFile(
        **basis_of(value), sha256=hashlib.sha256(data).hexdigest(), cells=cells,
        left_out=tuple(LeftOut(**gap) for gap in value["left_out"]),
    )  # fmt: skip


def _cell(entry: Mapping[str, Any]) -> FiledCell:
    return FiledCell(
        id=entry["id"], product=entry["product"], target=entry["target"], host=entry["host"], way=_way(entry),
        source=Digest(entry["source"]["digest"]), required=entry["required"],
    )  # fmt: skip


def _way(entry: Mapping[str, Any]) -> Way | None:
    parts = [entry[name] for name in WAY]
    if all(part is None for part in parts):
        return None
    if any(part is None for part in parts):
        raise BadJson(f"says of the cell {escaped(entry['id'])} only half of how it is built")
    return way_of(entry)
