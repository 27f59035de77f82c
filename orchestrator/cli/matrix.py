"""`relbuild matrix`: build everything, check it, stage it."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.progress import LogFormat, choose, error_data, line, observer

if TYPE_CHECKING:
    from orchestrator.release import Outcome
    from orchestrator.run import Stop


def matrix(  # noqa: PLR0917  (options are keyword-only on the command line)
    config: options.Config = None,
    targets: options.Targets = None,
    products: options.Products = None,
    engine: options.EngineChoice = None,
    forbid_emulation: options.ForbidEmulation = False,
    output: options.Output = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=0, help="Cells side by side; 0: by the CPUs.")] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first required cell that fails.")] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Forget the finished cells of every engine and build again.")
    ] = False,
    log_format: Annotated[LogFormat, typer.Option("--log-format", help="How the run shows itself.")] = LogFormat.AUTO,
) -> None:
    """Build every selected product for every selected target, check what came out, and stage it."""
    from orchestrator import release, run  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.cells import CellStore  # noqa: PLC0415
    from orchestrator.cli import wire  # noqa: PLC0415
    from orchestrator.plan import Selection  # noqa: PLC0415

    loaded = wire.load_matrix(config)
    # First of all: no child of this run is to inherit a passphrase.
    passphrases = wire.take_passphrases(loaded.signing)
    if loaded.signing is not None:
        release.check_trust(loaded.signing, datetime.now(UTC))
    dist = (output or loaded.root / "dist").absolute()
    selection = Selection(
        targets=options.names(targets), products=options.names(products), forbid_emulation=forbid_emulation
    )
    rules = run.RunRules(
        policy=loaded.policy,
        jobs=loaded.engine.jobs if jobs is None else jobs,
        fail_fast=fail_fast,
        needles=(os.fsencode(loaded.root), os.fsencode(Path.home())),
    )
    stop, shown = run.Stop(), choose(log_format)
    with observer(shown) as watch, run.locked(dist), _stopped_by_signals(stop):
        chosen = wire.open_engine(engine or loaded.engine.kind, dist)
        if clean:
            CellStore(dist / "cells").clear()
        plan = wire.prepared_plan(loaded, selection, chosen, dist, watch)
        before = _staged_names(dist, plan.version)
        outcome = release.build_release(loaded, plan, chosen, dist=dist, rules=rules, observer=watch, stop=stop)
        outcome = release.trusted(outcome, loaded, passphrases)
    _report(outcome, shown, before)


@contextmanager
def _stopped_by_signals(stop: "Stop") -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into an orderly end; a second one ends at once."""

    def handle(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.interrupt()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _staged_names(dist: Path, version: str) -> frozenset[str]:
    """Name the artifacts in a version's staging folder before the run replaces them."""
    from orchestrator.manifest import RESERVED_ENDINGS  # noqa: PLC0415

    folder = dist / "staging" / version
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return frozenset(name for name in names if not name.endswith(RESERVED_ENDINGS))


def _report(outcome: "Outcome", shown: LogFormat, before: frozenset[str]) -> None:
    from orchestrator.cli import tables  # noqa: PLC0415

    report = outcome.report
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(tables.summary_markdown(outcome.staged, report, [line(result) for result in report.results]))
    if shown is LogFormat.JSON:
        staged = outcome.staged
        well = "verified" if outcome.verified else "staged"
        end = {"event": "run_finished", "outcome": "failed" if outcome.error else well}
        end |= error_data(outcome.error) if outcome.error else {}
        end |= {"folder": str(staged.folder), "manifest_sha256": staged.manifest_sha256} if staged else {}
        print(tables.to_json(end).replace("\n", ""))
    elif outcome.staged:
        print(tables.release_text(outcome.staged, report, outcome.verified))
    if outcome.staged and (
        gone := sorted(before - _staged_names(outcome.staged.folder.parents[1], report.plan.version))
    ):
        print(f"no longer staged, because this run did not build them: {', '.join(gone)}", file=sys.stderr)
    if outcome.error and before and not outcome.staged:
        print(f"the staged release {report.plan.version} is that of an earlier run, untouched", file=sys.stderr)
    for gap in report.plan.left_out:
        print(f"left out: {gap.product}/{gap.target}: {gap.reason}; {gap.next_step}", file=sys.stderr)
    if outcome.error:
        raise outcome.error
