"""`relbuild build` and `relbuild merge`: one plan, built by many machines and merged on one."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import matrix as matrix_command
from orchestrator.cli import options
from orchestrator.cli.progress import LogFormat, LogFormatChoice, choose, observer
from orchestrator.cli.promotion import Wishes, state_told_last
from orchestrator.cli.sharing import To, WhereFrom

if TYPE_CHECKING:
    from orchestrator.model import Matrix
    from orchestrator.plan import Selection
    from orchestrator.run import RunRules
    from orchestrator.shards import plan_file
    from orchestrator.signing.interface import Signer
    from orchestrator.signing.passphrase import Passphrases
    from orchestrator.signing_rules import SignerRules
    from orchestrator.verify import TrustRoot

PlanFile = Annotated[Path, typer.Option("--plan", help="What `relbuild plan --json` wrote on one machine.")]
ShardKey = Annotated[
    Path | None, typer.Option("--shard-key", help="This machine's own key; trust.json lists it in the role 'shard'.")
]
ShardPassphrase = Annotated[
    str | None,
    typer.Option("--passphrase-env", metavar="NAME", help="The variable with the passphrase of --shard-key."),
]
Unsigned = Annotated[
    bool, typer.Option("--unsafe-unsigned", help="Take shards that nobody signed: whoever can write them is believed.")
]


def build(  # noqa: PLR0917  (options are keyword-only on the command line)
    plan: PlanFile,
    config: options.Config = None,
    targets: options.Targets = None,
    products: options.Products = None,
    output: options.Output = None,
    jobs: options.Jobs = None,
    fail_fast: options.FailFast = False,
    log_format: LogFormatChoice = LogFormat.AUTO,
    shard_key: ShardKey = None,
    passphrase_env: ShardPassphrase = None,
    to: To = None,
) -> None:
    """Build cells of a plan on this machine, and write them as a shard: plain files that any store can move."""
    from orchestrator import release, sharding  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator import run as runs  # noqa: PLC0415
    from orchestrator.cli import sharing, wire  # noqa: PLC0415
    from orchestrator.events import Note  # noqa: PLC0415
    from orchestrator.model import EngineKind  # noqa: PLC0415
    from orchestrator.plan import select  # noqa: PLC0415
    from orchestrator.shards.plan_file import read_plan  # noqa: PLC0415

    loaded, planned = wire.load_matrix(config), read_plan(plan)
    rules, passphrases = _signer_rules(shard_key, passphrase_env)
    dist = (output or loaded.root / "dist").absolute()
    selection, run_rules = _selection(planned, targets, products), _run_rules(loaded, jobs, fail_fast=fail_fast)
    stop, shown = runs.Stop(), choose(log_format)
    with observer(shown) as watch, runs.locked(dist), matrix_command.stopped_by_signals(stop):
        chosen = wire.open_engine(EngineKind(planned.engine), dist, loaded)
        chosen.prepare(loaded, tuple(select(loaded, selection)), lambda text: watch(Note(text=text)))
        checkout = sharding.Checkout(matrix=loaded, dist=dist, observer=watch, apart=(plan.absolute(),))
        made = sharding.plan_here(checkout, planned, selection, chosen)
        report = runs.run_plan(made, builders=chosen.builders, dist=dist, rules=run_rules, observer=watch, stop=stop)
        matrix_command.write_summary(report, None)
        if error := release.verdict(report, stop):
            raise error
        written = sharding.build_shard(report, planned, chosen, dist, _open(rules, passphrases))
    print(f"shard {written.id}: {len(report.built)} cells in {written.folder}")
    print(f"signed by {written.key_id}" if written.key_id else "not signed: `relbuild merge` refuses it without a key")
    if to:
        print(f"sent to {sharing.send(to, written.folder, planned)}")


def merge(  # noqa: PLR0917  (options are keyword-only on the command line)
    plan: PlanFile,
    shards: Annotated[list[Path] | None, typer.Argument(help="Folders of shards: dist/shards/*.")] = None,
    config: options.Config = None,
    targets: options.Targets = None,
    products: options.Products = None,
    output: options.Output = None,
    trust: Annotated[Path | None, typer.Option("--trust", help="The trust file; default: [signing] trust.")] = None,
    unsafe_unsigned: Unsigned = False,
    where_from: WhereFrom = None,
    log_format: LogFormatChoice = LogFormat.AUTO,
    publish: Annotated[bool, typer.Option("--publish", help="Then publish it as [repository] says.")] = False,
) -> None:
    """Judge every shard of a plan, refuse all drift, and stage, sign and verify what one machine would have built."""
    from orchestrator import release, sharding  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator import run as runs  # noqa: PLC0415
    from orchestrator.cli import sharing, wire  # noqa: PLC0415
    from orchestrator.plan import Selection  # noqa: PLC0415
    from orchestrator.shards.plan_file import read_plan  # noqa: PLC0415

    loaded, planned = wire.load_matrix(config), read_plan(plan)
    passphrases = wire.take_passphrases(loaded.signing, loaded.repository, loaded.ci.checks)
    dist = (output or loaded.root / "dist").absolute()
    root = None if unsafe_unsigned else _trust(trust or (loaded.signing.trust if loaded.signing else None))
    wishes = Wishes(as_json=log_format is LogFormat.JSON) if publish else None
    promote = matrix_command.publication(loaded, wishes, passphrases, dist) if wishes else None
    shown = choose(log_format)
    with observer(shown) as watch, runs.locked(dist):
        folders = [*(shards or ()), *(sharing.receive(where_from, planned, dist) if where_from else ())]
        before = matrix_command.staged_names(dist, planned.version)
        checkout = sharding.Checkout(matrix=loaded, dist=dist, observer=watch, apart=(plan.absolute(),))
        chosen = Selection(targets=options.names(targets), products=options.names(products))
        sharding.refuse_other_promises(checkout, planned, chosen)
        merged = sharding.merge_shards(checkout, planned, folders, root)
        outcome = release.Outcome(report=merged.report, staged=merged.staged, error=None)
        outcome = release.trusted(outcome, loaded, passphrases, runs.Stop())
    for each in merged.shards:
        print(f"merged {each.shard.id}: {len(each.shard.cells)} cells, signed by {each.key_id or 'nobody'}")
    with state_told_last() if promote else nullcontext():
        matrix_command.report(outcome, shown, before)
    if promote and outcome.verified:
        promote(outcome.verified)


def _selection(planned: "plan_file.PlanFile", targets: list[str] | None, products: list[str] | None) -> "Selection":
    """Select what was asked for; nothing said means all that the plan has."""
    from orchestrator.plan import Selection  # noqa: PLC0415  (as above)

    cells = planned.cells.values()
    return Selection(
        targets=options.names(targets) or tuple(dict.fromkeys(cell.target for cell in cells)),
        products=options.names(products) or tuple(dict.fromkeys(cell.product for cell in cells)),
    )


def _run_rules(matrix: "Matrix", jobs: int | None, *, fail_fast: bool) -> "RunRules":
    from orchestrator.run import RunRules  # noqa: PLC0415  (as above)

    return RunRules(
        policy=matrix.policy, jobs=matrix.engine.jobs if jobs is None else jobs, fail_fast=fail_fast,
        needles=(os.fsencode(matrix.root), os.fsencode(Path.home())),
    )  # fmt: skip


def _trust(path: Path | None) -> "TrustRoot":
    from orchestrator import verify  # noqa: PLC0415  (as above)
    from orchestrator.errors import ShardUntrusted  # noqa: PLC0415

    if path is None:
        raise ShardUntrusted(
            "no trust file says which keys may sign shards",
            next_step="name one by --trust or in [signing]; --unsafe-unsigned takes shards from anybody",
        )
    return verify.load_trust(path)


def _signer_rules(key: Path | None, passphrase_env: str | None) -> "tuple[SignerRules | None, Passphrases]":
    """Take the passphrase out of the environment before any child can inherit it. No key is read yet."""
    from orchestrator.cli import wire  # noqa: PLC0415  (as above)
    from orchestrator.signing.openers import refuse_unready  # noqa: PLC0415
    from orchestrator.signing_rules import (  # noqa: PLC0415
        PassphraseFrom,
        PassphraseSource,
        SignerKind,
        SignerRules,
    )

    passphrases = wire.take_passphrases(None)
    if key is None:
        return None, passphrases
    source = PassphraseSource(kind=PassphraseFrom.ENV, where=passphrase_env) if passphrase_env else PassphraseSource()
    wire.take_variable(passphrases, source)
    rules = SignerRules(kind=SignerKind.KEY_FILE, key=str(key), passphrase=source)
    refuse_unready(rules)
    return rules, passphrases


def _open(rules: "SignerRules | None", passphrases: "Passphrases") -> "Signer | None":
    """Read the key, now that all builds are over."""
    from orchestrator.signing.openers import open_signers  # noqa: PLC0415  (as above)
    from orchestrator.signing_rules import SigningRules  # noqa: PLC0415

    return open_signers(SigningRules(signers=(rules,), trust=Path()), None, passphrases)[0] if rules else None
