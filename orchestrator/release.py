"""All stages in order: the page to read first.

matrix.toml -> Matrix -> World -> Plan -> BuildReport -> StagedRelease -> SignedRelease -> VerifiedRelease
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from builders.engine.node_model import Taker
from builders.errors import BuildError, CellError, CellsLeftOut, Interrupted, NodeUnavailable, RelbuildError
from builders.interface import Builder
from builders.model import Cell, Libc, Material, Placement, Toolchain
from builders.targets import Target, host
from orchestrator import documents, source_archive, stage, survey, verify
from orchestrator.cells import CellStore
from orchestrator.errors import BestEffortFailed, NothingToDo, TrustInvalid, UntrustedKey
from orchestrator.events import Note, Observer
from orchestrator.model import BuildReport, Failed, Matrix, Plan, Product, Skipped, StagedRelease, Verdict
from orchestrator.plan import Selection, World, make_plan, select
from orchestrator.run import RunRules, Stop, run_plan
from orchestrator.signing import sign
from orchestrator.signing.interface import Blob, Signer, Statement
from orchestrator.signing.openers import open_signers, refuse_unready
from orchestrator.signing.passphrase import Passphrases
from orchestrator.signing_rules import SigningRules
from orchestrator.source_archive import CommitSource
from orchestrator.trust import KeyId, SignedRelease, VerifiedRelease


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What builds: "docker" or "local", why that one, and its builders by name."""

    name: str
    reason: str
    builders: Mapping[str, Builder]
    prepare: Callable[[Matrix, Sequence[tuple[Product, Target]], Callable[[str], None]], None]
    """Make or fetch the toolchains that these cells could need and that are not here; tell what is done."""
    takers: Callable[[str], tuple[Taker, ...]] | None = None
    """By OCI platform, where there are BuildKit nodes."""

    def materials_of(self, cell: Cell) -> tuple[Material, ...]:
        """Name what the toolchain of a cell consists of. Raises a BuildError where it cannot be asked."""
        return self.builders[cell.builder].materials(cell)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run gave. `staged` is None where a required cell is missing; `error` then says why.

    `verified` is None where nobody signs, and where signing or verifying failed for the reason of `error`.
    """

    report: BuildReport
    staged: StagedRelease | None
    error: RelbuildError | None
    verified: VerifiedRelease | None = None


def plan_release(matrix: Matrix, selection: Selection, engine: Engine, dist: Path, observer: Observer) -> Plan:
    """See what is there, and decide what is to be built."""
    seen, world = look_around(matrix, selection, engine, dist, observer)
    return make_plan(seen, selection, world)


def look_around(
    matrix: Matrix,
    selection: Selection,
    engine: Engine,
    dist: Path,
    observer: Observer,
    *,
    version: str = "",
    apart: Collection[Path] = (),
) -> tuple[Matrix, World]:
    """See what decides a plan beside the matrix, and give the matrix with what its sources say filled in.

    `version` is what somebody decided already; a shallow clone could not tell it. Files `apart` make no checkout
    dirty by being there.
    """
    chosen = {product.name: product for product, _ in select(matrix, selection)}
    checkout = survey.checkout_state(matrix.root, apart)
    store = CellStore(dist / "cells")
    sources = survey.read_sources(
        matrix, chosen.values(), dist / "cache" / "sources", lambda text: observer(Note(text=text))
    )

    def find_toolchain(builder: str, product: Product, target: Target, libc: Libc, placement: Placement) -> Toolchain:
        return engine.builders[builder].toolchain(product.recipe, target, libc, placement)

    world = World(
        version=version or survey.version_of(matrix),
        commit=checkout.commit,
        dirty=checkout.dirty,
        epoch=survey.epoch_of(checkout),
        host=host(),
        engine=engine.name,
        engine_reason=engine.reason,
        sources=sources,
        mounts={name: survey.read_mounts(matrix, product) for name, product in chosen.items()},
        find_toolchain=find_toolchain,
        is_cached=store.has,
        estimate=store.estimate,
        takers=engine.takers,
    )
    return dataclasses.replace(matrix, products=survey.with_images(matrix.products, sources)), world


def build_release(
    matrix: Matrix, plan: Plan, engine: Engine, *, dist: Path, rules: RunRules, observer: Observer, stop: Stop
) -> Outcome:
    """Build the plan's cells and stage what they gave."""
    refuse_gaps(matrix, plan)
    source_archive.refuse_impossible(matrix, plan)
    report = run_plan(plan, builders=engine.builders, dist=dist, rules=rules, observer=observer, stop=stop)
    error = verdict(report, stop)
    staged = None if error else stage_release(report, matrix, engine.materials_of, dist, observer)
    return Outcome(report=report, staged=staged, error=error)


def trusted(outcome: Outcome, matrix: Matrix, passphrases: Passphrases, stop: Stop) -> Outcome:
    """Sign and verify what a run staged, if `[signing]` says so. What was stopped meanwhile is not verified."""
    if outcome.staged is None or matrix.signing is None or outcome.error or stop.interrupted:
        return _stopped(outcome, stop)
    try:
        verified = trust_release(outcome.staged, matrix.signing, open_signers(matrix.signing, None, passphrases))
    except RelbuildError as error:
        return dataclasses.replace(outcome, error=error)
    return _stopped(dataclasses.replace(outcome, verified=verified), stop)


def _stopped(outcome: Outcome, stop: Stop) -> Outcome:
    """Give an outcome its error where a run was stopped while nothing asked: as it staged, signed or verified."""
    if not stop.interrupted or outcome.error:
        return outcome
    return dataclasses.replace(outcome, error=_interrupted(), verified=None)


def _interrupted() -> Interrupted:
    return Interrupted("the run was stopped", next_step="run it again: what was finished is kept")


def stage_release(
    report: BuildReport, matrix: Matrix, materials_of: documents.MaterialsOf, dist: Path, observer: Observer
) -> StagedRelease:
    """Stage what was built, each artifact with its SBOMs and its provenance, and the commit that it was built of."""
    describe = documents.describer(report.plan, matrix, materials_of, dist / "cache")
    with source_archive.opened_source(matrix, report, dist) as source:
        for note in source.notes:
            observer(Note(text=note))
        return stage.stage(report, matrix, dist, describe, source if isinstance(source, CommitSource) else None)


def check_trust(rules: SigningRules, now: datetime) -> None:
    """Refuse keys and a trust file that would refuse the release, before anything is built. No private key is read."""
    if not rules.trust.exists():
        raise TrustInvalid(
            f"{rules.trust}, which [signing] names, is not there",
            next_step="`relbuild keys generate --trust FILE` makes it with a first key",
        )
    trust = verify.load_trust(rules.trust)
    if problems := trust.problems(now):
        raise TrustInvalid(
            f"{rules.trust} {'; it '.join(problems)}", next_step="`relbuild keys rotate` writes its next version"
        )
    for signer in rules.signers:
        refuse_unready(signer)


def sign_release(staged: StagedRelease, rules: SigningRules, passphrases: Passphrases) -> SignedRelease:
    """Sign a staged release, each signature verified at once against the trust file."""
    signers = open_signers(rules, None, passphrases)
    return sign.sign_release(staged, signers, rules, _checker(rules, datetime.now(UTC)))


def trust_release(staged: StagedRelease, rules: SigningRules, signers: Sequence[Signer]) -> VerifiedRelease:
    """Sign a staged release, read it again as a stranger would, and attest what that gave."""
    now = datetime.now(UTC).replace(microsecond=0)
    check = _checker(rules, now)
    sign.sign_release(staged, signers, rules, check)
    trust = verify.load_trust(rules.trust)
    wanted = verify.Expectations(
        version=staged.version,
        require_encryption=bool(rules.encryption.recipients),
        require_artifact_signatures=rules.each_artifact,
    )
    verified = verify.verify_release(staged.folder, trust, wanted, now)
    statement = verify.summary_statement(verified, now)
    summary = sign.sign_summary(staged.folder, staged.version, statement, signers, check)
    return verify.with_summary(verified, staged.folder / summary, trust, now)


def _checker(rules: SigningRules, now: datetime) -> sign.SignatureCheck:
    """Join the verifier to the signer: each key must be in the trust file, and its signature must hold."""
    keys = verify.load_trust(rules.trust).keys

    def check(subject: Blob | Statement, signature: bytes, key_id: KeyId) -> None:
        if key_id not in keys:
            raise UntrustedKey(
                f"the key {key_id} is not in {rules.trust}",
                next_step="`relbuild keys rotate --add PUB` puts it there; or sign with a key that is",
            )
        signed = subject.path if isinstance(subject, Blob) else subject.payload
        verify.check_signature(signed, signature, keys[key_id], now)

    return check


def refuse_gaps(matrix: Matrix, plan: Plan) -> None:
    """Raise CellsLeftOut when policy wants every required cell and this engine cannot build some."""
    gaps = [gap for gap in plan.left_out if gap.required]
    if not plan.cells and not plan.left_out:
        raise NothingToDo("the selection holds no cell", next_step="`relbuild plan` shows what there is")
    if (gaps and matrix.policy.left_out is Verdict.ERROR) or not plan.cells:
        lines = "\n".join(f"  {gap.product}/{gap.target}: {gap.reason}" for gap in plan.left_out)
        steps = dict.fromkeys(gap.next_step for gap in plan.left_out if gap.next_step)
        raise CellsLeftOut(
            f"the {plan.engine} engine cannot build {len(plan.left_out)} of the cells:\n{lines}",
            next_step="; or ".join(
                [*steps, *(["leave them out: left_out = 'warn' in [policy]"] if plan.cells else [])]
            ),
        )


def verdict(report: BuildReport, stop: Stop) -> RelbuildError | None:
    """Give the error that the run ends with, or None when every required cell was built."""
    failed = [result for result in report.results if isinstance(result, Failed) and result.cell.required]
    skipped = [result for result in report.results if isinstance(result, Skipped) and result.cell.required]
    if stop.interrupted:
        return _interrupted()
    if not failed and not skipped:
        return (
            None
            if report.built
            else BestEffortFailed("no cell was built", next_step="each has its error and its log above")
        )
    kinds = {type(result.error) for result in failed}
    # One kind of failure keeps its own code; a mixture is the run's.
    kind = (
        kinds.pop()
        if len(kinds) == 1
        else CellError
        if all(issubclass(each, CellError) for each in kinds)
        else BuildError
    )
    count = f"{len(failed)} required cell{'s' if len(failed) != 1 else ''} failed"
    rest = f", {len(skipped)} not tried" if skipped else ""
    next_step = "each has its error and its log above; mend them and run again"
    return kind(f"{count}{rest}{_lost_nodes(failed)}", next_step=next_step)


def _lost_nodes(failed: Sequence[Failed]) -> str:
    """Name the nodes that were lost, each with the cells that it did not finish."""
    cells: dict[str, list[str]] = {}
    for result in failed:
        if isinstance(result.error, NodeUnavailable) and result.error.node:
            cells.setdefault(result.error.node, []).append(result.cell.id)
    return "".join(f"; the node {node} was lost, with {', '.join(ids)}" for node, ids in cells.items())
