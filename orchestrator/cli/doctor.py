"""`relbuild doctor`."""

import dataclasses
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.model import Matrix, Plan


def doctor(
    config: options.Config = None,
    engine: options.EngineChoice = None,
    output: options.Output = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at everything that a run needs, with the mend for each finding. Exits 0 only if the run could work."""

    from orchestrator import (  # noqa: PLC0415  (heavy imports wait until --help is past)
        checkup,
        release,
        repository_checkup,
        trust_checkup,
    )
    from orchestrator.cli import tables, wire  # noqa: PLC0415
    from orchestrator.errors import NotReady  # noqa: PLC0415
    from orchestrator.plan import Selection  # noqa: PLC0415
    from orchestrator.repositories import open_repository  # noqa: PLC0415

    matrix = wire.find_matrix(config)
    dist = output or (matrix.root if matrix else Path.cwd()) / "dist"

    def make_plan(loaded: "Matrix") -> "Plan":
        chosen = wire.open_engine(engine or loaded.engine.kind, dist, loaded)
        return release.plan_release(loaded, Selection(), chosen, dist, lambda _event: None)

    planner = partial(make_plan, matrix) if matrix else None
    nodes = wire.node_set(matrix) if matrix else None
    found = [
        *checkup.examine(matrix, dist, wire.describe_engine, planner, nodes.look if nodes else None),
        *trust_checkup.examine_trust(matrix.signing if matrix else None, datetime.now(UTC)),
        *repository_checkup.examine_repository(
            matrix.repository.repository if matrix and matrix.repository else None, open_repository
        ),
    ]
    if as_json:
        print(tables.to_json([dataclasses.asdict(symptom) for symptom in found]))
    else:
        print(tables.columns(("", "WHAT", "FOUND"), [(each.grade, each.name, each.text) for each in found]))
        mends = dict.fromkeys(f"  {each.name}: {each.mend}" for each in found if each.mend)
        print("\n".join(["", "mend:", *mends]) if mends else "\nnothing to mend")
        if matrix is None:
            print("\nno matrix.toml here: `relbuild init` writes one")
    if any(each.grade is checkup.Grade.BAD for each in found):
        raise NotReady("what is marked bad stops the run", next_step="mend it as said above, then `relbuild doctor`")
