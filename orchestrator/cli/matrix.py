"""`relbuild matrix`: build everything, check it, stage it."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options, step_summary
from orchestrator.cli.progress import LogFormat, LogFormatChoice, choose, error_data, line, observer
from orchestrator.cli.promotion import Wishes, lacks_proof, promote_and_tell, state_told_last
from orchestrator.model import EngineKind

if TYPE_CHECKING:
    from orchestrator.model import BuildReport, Matrix, StagedRelease
    from orchestrator.release import Outcome
    from orchestrator.run import Stop
    from orchestrator.signing.passphrase import Passphrases
    from orchestrator.trust import VerifiedRelease


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says of a run."""

    config: Path | None
    targets: list[str] | None
    products: list[str] | None
    engine: EngineKind | None
    forbid_emulation: bool
    output: Path | None
    jobs: int | None
    fail_fast: bool
    clean: bool
    log_format: LogFormat


def matrix(  # noqa: PLR0917  (options are keyword-only on the command line)
    config: options.Config = None,
    targets: options.Targets = None,
    products: options.Products = None,
    engine: options.EngineChoice = None,
    forbid_emulation: options.ForbidEmulation = False,
    output: options.Output = None,
    jobs: options.Jobs = None,
    fail_fast: options.FailFast = False,
    clean: options.Clean = False,
    log_format: LogFormatChoice = LogFormat.AUTO,
    publish: Annotated[
        bool, typer.Option("--publish", help="Then publish it as [repository] says: `relbuild release`.")
    ] = False,
) -> None:
    """Build every selected product for every selected target, check what came out, and stage it."""
    asked = Asked(
        config=config, targets=targets, products=products, engine=engine, forbid_emulation=forbid_emulation,
        output=output, jobs=jobs, fail_fast=fail_fast, clean=clean, log_format=log_format,
    )  # fmt: skip
    run(asked, Wishes(as_json=log_format is LogFormat.JSON) if publish else None)


def run(asked: Asked, wishes: Wishes | None) -> None:
    """Build, stage, sign and verify; with wishes, publish what was verified."""
    from orchestrator import release  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator import run as runs  # noqa: PLC0415
    from orchestrator.cells import CellStore  # noqa: PLC0415
    from orchestrator.cli import wire  # noqa: PLC0415
    from orchestrator.plan import Selection  # noqa: PLC0415

    loaded = wire.load_matrix(asked.config)
    # First of all: no child of this run is to inherit a passphrase.
    passphrases = wire.take_passphrases(loaded.signing, loaded.repository, loaded.ci.checks)
    if loaded.signing is not None:
        release.check_trust(loaded.signing, datetime.now(UTC))
    dist = (asked.output or loaded.root / "dist").absolute()
    promote = publication(loaded, wishes, passphrases, dist) if wishes else None
    selection = Selection(
        targets=options.names(asked.targets), products=options.names(asked.products),
        forbid_emulation=asked.forbid_emulation,
    )  # fmt: skip
    rules = runs.RunRules(
        policy=loaded.policy,
        jobs=loaded.engine.jobs if asked.jobs is None else asked.jobs,
        fail_fast=asked.fail_fast,
        needles=(os.fsencode(loaded.root), os.fsencode(Path.home())),
    )
    stop, shown = runs.Stop(), choose(asked.log_format)
    with observer(shown) as watch, runs.locked(dist), stopped_by_signals(stop):
        chosen = wire.open_engine(asked.engine or loaded.engine.kind, dist, loaded)
        if asked.clean:
            CellStore(dist / "cells").clear()
        plan = wire.prepared_plan(loaded, selection, chosen, dist, watch)
        before = staged_names(dist, plan.version)
        outcome = release.build_release(loaded, plan, chosen, dist=dist, rules=rules, observer=watch, stop=stop)
        outcome = release.trusted(outcome, loaded, passphrases, stop)
    with state_told_last() if promote else nullcontext():
        report(outcome, shown, before)
    if promote and outcome.verified:
        promote(outcome.verified)


def publication(
    loaded: "Matrix", wishes: Wishes, passphrases: "Passphrases", dist: Path
) -> "Callable[[VerifiedRelease], None]":  # fmt: skip
    """Refuse, before anything is built, what would refuse the release; give what publishes it."""
    from orchestrator import survey  # noqa: PLC0415  (as above)
    from orchestrator.cli import places, policies, publisher  # noqa: PLC0415
    from orchestrator.errors import PublicationError  # noqa: PLC0415
    from orchestrator.publish.version_names import checked_version  # noqa: PLC0415

    with state_told_last():
        _refuse_impossible(loaded, wishes)
        if loaded.repository is None:
            raise PublicationError(f"{loaded.file} has no [repository] to publish in", next_step="say there which")
        place, owner = places.Place(kind=None, path=None), publisher.Owner(journal=dist / publisher.JOURNAL)
        opened = publisher.open_publisher(place, owner, loaded, None, passphrases)
        timestamped = loaded.repository.timestamped_versions
        version = checked_version(survey.version_of(loaded), timestamped=timestamped).text
        publisher.check_ready(opened)
        policies.refuse_unpassable(wishes, opened, loaded, publisher.now().date())

    def promote(verified: "VerifiedRelease") -> None:
        with state_told_last():
            if lacks_proof(opened, wishes, verified.folder, loaded):
                prove(loaded, verified.folder, dist, passphrases, as_json=wishes.as_json)
        promote_and_tell(opened, wishes, verified.folder, version, loaded, verified=verified)

    return promote


def _refuse_impossible(loaded: "Matrix", wishes: Wishes) -> None:
    """Refuse what is asked for and nothing in the configuration could do."""
    from orchestrator.errors import EncryptionRequired, SignatureRequired  # noqa: PLC0415  (as above)

    if wishes.sign and loaded.signing is None:
        raise SignatureRequired(f"--sign: {loaded.file} has no [signing]",
                                next_step="say there who signs, and which keys count")  # fmt: skip
    if wishes.require_encryption and not (loaded.signing and loaded.signing.encryption.recipients):
        raise EncryptionRequired(f"encryption is required, and {loaded.file} names nobody to encrypt for",
                                 next_step="name age keys: recipients in [signing.encryption]")  # fmt: skip


def prove(matrix: "Matrix", folder: Path, dist: Path, passphrases: "Passphrases", *, as_json: bool) -> None:
    """Rebuild what is staged in another world; whether that is proof enough is for the policy to say."""
    from orchestrator.cli import rebuild_text, rebuilding  # noqa: PLC0415  (as above)
    from orchestrator.reproduce.form import result_json  # noqa: PLC0415

    said = rebuilding.prove(rebuilding.Asked(staged=folder, output=dist), matrix, passphrases)
    if as_json:
        told = {"event": "reproduction_finished", **json.loads(result_json(said))}
        print(json.dumps(told, sort_keys=True), flush=True)
    else:
        print(rebuild_text.text(said), flush=True)


@contextmanager
def stopped_by_signals(stop: "Stop") -> Iterator[None]:
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


def staged_names(dist: Path, version: str) -> frozenset[str]:
    """Name the artifacts in a version's staging folder before the run replaces them."""
    from orchestrator.manifest import RESERVED_ENDINGS  # noqa: PLC0415

    folder = dist / "staging" / version
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return frozenset(name for name in names if not name.endswith(RESERVED_ENDINGS))


def write_summary(told: "BuildReport", staged: "StagedRelease | None") -> None:
    """Add what was built to the step summary of a CI service."""
    step_summary.add(step_summary.of_run(staged, told, [line(result) for result in told.results]))


def report(outcome: "Outcome", shown: LogFormat, before: frozenset[str]) -> None:
    from orchestrator.cli import tables  # noqa: PLC0415

    told = outcome.report
    write_summary(told, outcome.staged)
    if shown is LogFormat.JSON:
        staged = outcome.staged
        well = "verified" if outcome.verified else "staged"
        end = {"event": "run_finished", "outcome": "failed" if outcome.error else well}
        end |= error_data(outcome.error) if outcome.error else {}
        end |= {"folder": str(staged.folder), "manifest_sha256": staged.manifest_sha256} if staged else {}
        print(tables.to_json(end).replace("\n", ""))
    elif outcome.staged:
        print(tables.release_text(outcome.staged, told, outcome.verified))
    if outcome.staged and (gone := sorted(before - staged_names(outcome.staged.folder.parents[1], told.plan.version))):
        print(f"no longer staged, because this run did not build them: {', '.join(gone)}", file=sys.stderr)
    if outcome.error and before and not outcome.staged:
        print(f"the staged release {told.plan.version} is that of an earlier run, untouched", file=sys.stderr)
    for gap in told.plan.left_out:
        print(f"left out: {gap.product}/{gap.target}: {gap.reason}; {gap.next_step}", file=sys.stderr)
    if outcome.error:
        raise outcome.error
