"""From a signed folder to a published release: read it again, judge it, promote it, and tell what became of it.

The order stands in `_promoted`. No private key is read before the policy let the release out.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import assert_never

from builders.errors import RelbuildError
from orchestrator import verify
from orchestrator.errors import PublicationError, TooFewSignatures, ValidationRequired, VerificationRequired
from orchestrator.events import Observer
from orchestrator.policy import Judgement, PublicationPolicy, enforce, refuse_broken
from orchestrator.policy_evidence import GateReport
from orchestrator.publication import (
    AUDIT,
    INDEX,
    Index,
    IndexKeys,
    Promotion,
    PublicationState,
    ReleaseStatus,
    RuleOutcome,
    StageTime,
)
from orchestrator.publish.claims import Claimed, Free, Published, Standing, Taken, refused, standing, why_taken
from orchestrator.publish.desk import STAGES, Terms, seam_errors
from orchestrator.publish.entries import verification_json
from orchestrator.publish.index_keys import RepositoryTrust
from orchestrator.publish.journal import Attempt, append_attempt
from orchestrator.publish.pointer import KnownIndex
from orchestrator.publish.promote import promote
from orchestrator.publish.recover import recover
from orchestrator.publish.report import PublicationReport, report_of
from orchestrator.publish.version_guard import VersionGuard, judge_version, nothing_to_judge
from orchestrator.publish.version_names import checked_version
from orchestrator.publishing_evidence import OUR_RULES, Candidate, gather, read_candidate
from orchestrator.repositories.interface import Repository, note_of
from orchestrator.repositories.preview import PreviewRepository, Write
from orchestrator.trust import ENCRYPTED, VerificationResult, VerifiedRelease
from orchestrator.validation_evidence import Validation, silent_validation
from orchestrator.verify.trust_root import TrustRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody wants published. An empty `version` takes the manifest's; `earlier` is a result brought along.

    `verified` is given where this very process read every byte a moment ago.
    """

    folder: Path
    policy: PublicationPolicy
    version: str = ""
    required_targets: frozenset[str] = frozenset()
    verified: VerifiedRelease | None = None
    earlier: VerificationResult | None = None
    validation: Validation | None = None
    validate: Callable[[], Validation] | None = None
    """Makes the validation where none was brought along, once the release is verified."""
    reproduction: GateReport | None = None
    """What rebuilders said, where the policy asks for it."""
    checks: GateReport | None = None
    """What CI said of the commit, likewise."""
    versions: VersionGuard | None = None
    """What the version is held against, likewise."""
    notes: tuple[str, ...] = ()
    """What the report is to say beside its own."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """What publishes: a repository, the keys of its readers and its owner, terms, and where failures are kept."""

    repository: Repository
    trust: TrustRoot
    open_keys: Callable[[], IndexKeys]
    terms: Terms
    observer: Observer
    now: Callable[[], datetime]
    journal: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """A publish that ended. `error` is for the caller to raise; `writes` are those that a dry run left out."""

    report: PublicationReport
    error: BaseException | None
    writes: tuple[Write, ...] = ()
    journal_error: str = ""


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What is known so far, for the report. Not frozen: it fills while the publish goes on."""

    version: str
    result: VerificationResult | None = None
    validation: Validation | None = None
    judgement: Judgement | None = None
    notes: list[str] = field(default_factory=list)


def publish(request: Request, press: Press) -> Attempted:
    """Publish a release, and give what became of it, whatever that was. Raises nothing but defects of telling it."""
    version = request.version or request.folder.name
    seen = _Seen(version=version, validation=request.validation, notes=[*request.notes])
    preview = PreviewRepository(press.repository) if request.dry_run else None
    outcome: Promotion | BaseException
    try:
        outcome = _promoted(request, dataclasses.replace(press, repository=preview or press.repository), seen)
    except BaseException as error:  # noqa: BLE001 - the caller raises it after its state was told
        outcome = error
    writes = preview.writes if preview else ()
    if preview and isinstance(outcome, Promotion):
        seen.notes.append(f"a dry run: nothing was written, and {len(writes)} writes were left out")
        outcome = dataclasses.replace(outcome, state=PublicationState.NOT_PUBLISHED)
    failure = outcome if isinstance(outcome, BaseException) else None
    return Attempted(
        report=_report(request, press, seen, outcome), error=failure, writes=writes,
        journal_error=note_failure(press, "publish", seen.version, failure),
    )  # fmt: skip


def note_failure(press: Press, action: str, version: str, error: BaseException | None) -> str:
    """Write a refusal or a failure into the journal; say why where that does not work."""
    if not isinstance(error, RelbuildError):
        return ""
    attempt = Attempt.of(error, action=action, version=version, repository=press.repository.location, now=press.now())
    try:
        append_attempt(press.journal, attempt)
    except PublicationError as problem:
        return str(problem)
    return ""


def open_claims(repository: Repository, trust: TrustRoot, now: datetime) -> tuple[str, ...]:
    """Name the versions that are claimed, and neither published nor given up."""
    index = KnownIndex(repository, RepositoryTrust(trust=trust, now=now)).read().index
    claimed = [name.removesuffix(AUDIT) for name in repository.names("") if name.endswith(AUDIT)]
    return tuple(version for version in claimed if not why_taken(index, version))


# --- the order ---------------------------------------------------------------------------------------------------


@seam_errors()
def _promoted(request: Request, press: Press, seen: _Seen) -> Promotion:
    checked_version(seen.version, timestamped=press.terms.timestamped)
    candidate = read_candidate(request.folder)
    if request.version not in {"", candidate.staged.version}:
        raise PublicationError(
            f"{candidate.staged.folder} holds {candidate.staged.version}, not {request.version}",
            next_step="name the folder of the version that you want published: --release-dir",
        )
    result, verified = _judged(request, press, candidate)
    seen.version, seen.result = candidate.staged.version, result
    if verified is not None and request.validate is not None and request.validation is None:
        seen.validation = request.validate()
    seen.notes += [f"validation let pass {each}" for each in (seen.validation.waived if seen.validation else ())]
    trust = RepositoryTrust(trust=press.trust, now=press.now())
    index = KnownIndex(press.repository, trust).read().index
    earlier = standing(press.repository, trust, index, seen.version)
    ours = seen.validation is not None and seen.validation.report.subject == candidate.staged.manifest_sha256
    if isinstance(earlier, Free) and seen.validation and ours and _against_nothing(seen.validation, index):
        seen.validation = silent_validation(
            ValidationRequired("it was made for a first release, and the repository has others")
        )
    taken = _why_taken(earlier, candidate)
    evidence = gather(
        candidate, result, attested=press.trust.attesting(press.now()) > 0, taken=taken,
        required=request.required_targets, validation=seen.validation, earlier=request.earlier,
        reproduction=request.reproduction, more=_more_gates(request, candidate, earlier, press, trust),
    )  # fmt: skip
    seen.judgement = enforce(request.policy, evidence, OUR_RULES)
    if taken and len(seen.judgement.errors) == 1:
        raise refused(taken)
    refuse_broken(_reasons(seen.judgement.outcomes, result))
    if verified is None:
        raise VerificationRequired(
            f"{seen.version} does not hold, and no policy lets such a release out:\n  " + "\n  ".join(failures(result)),
            next_step=f"`relbuild verify {request.folder}` tells more",
        )
    if press.repository.read_pointer(INDEX) is None:
        press.repository.probe()
    terms = dataclasses.replace(
        press.terms, policy_mode=request.policy.mode,
        validation=seen.validation.listed if seen.validation else None,
        metadata={"project": candidate.project, "commit": candidate.commit},
    )  # fmt: skip
    keys = press.open_keys()
    if isinstance(earlier, Published | Claimed) and _signed_otherwise(verified, earlier):
        seen.notes.append("the same manifest was signed anew: the release stays as it was signed when it was published")
        return _finished(press, keys, trust, terms, earlier)
    return promote(
        verified, press.repository, keys, trust, outcomes=seen.judgement.outcomes, now=press.now,
        observer=press.observer, terms=terms,
    )  # fmt: skip


def _more_gates(
    request: Request, candidate: Candidate, earlier: Standing, press: Press, trust: RepositoryTrust
) -> dict[str, GateReport]:  # fmt: skip
    """Give what CI said, and what speaks for the version."""
    gates = {"ci": request.checks} if request.checks else {}
    if request.versions is not None:
        subject, version = candidate.staged.manifest_sha256, candidate.staged.version
        index = KnownIndex(press.repository, trust).read().index
        active = [each.version for each in index.releases if each.status is ReleaseStatus.ACTIVE] if index else []
        before = isinstance(earlier, Published | Claimed)
        judged = judge_version(version, subject, active, request.versions)
        gates["semver"] = nothing_to_judge(subject) if before else judged
    return gates


def _judged(
    request: Request, press: Press, candidate: Candidate
) -> tuple[VerificationResult, VerifiedRelease | None]:  # fmt: skip
    """Read every byte again. What is missing rather than wrong is the policy's to judge, by rules of its own."""
    if request.verified is not None and request.verified.manifest_sha256 == candidate.staged.manifest_sha256:
        return request.verified.result, request.verified
    sealed = [
        each.path
        for each in candidate.staged.artifacts
        if not (request.folder / each.path).exists() and (request.folder / f"{each.path}{ENCRYPTED}").exists()
    ]
    wanted = verify.Expectations(
        version=request.version, require_sbom=False, require_attestations=False, require_encryption=bool(sealed)
    )
    return verify.judge_release(request.folder, press.trust, wanted, press.now())


def _earlier(repository: Repository, trust: RepositoryTrust, version: str) -> Standing:
    return standing(repository, trust, KnownIndex(repository, trust).read().index, version)


def _against_nothing(validation: Validation, index: Index | None) -> bool:
    """Tell whether a validation says that there was nothing to compare with, where there is."""
    return validation.listed.get("baseline") == "none" and index is not None and bool(index.releases)


def _why_taken(earlier: Standing, candidate: Candidate) -> str:
    """Say why the version is not free. The manifest tells one release from another: it names every byte but signatures.

    Publishing the same one again is no crime, and whoever builds and signs again makes other signatures.
    """
    match earlier:
        case Free():
            return ""
        case Taken(why=why):
            return why
        case Published(entry=entry):
            what = "published"
        case Claimed(claim=claim):
            what, entry = "claimed", claim.entry
        case _:
            assert_never(earlier)
    if entry.manifest_sha256 == candidate.staged.manifest_sha256:
        return ""
    return f"{candidate.staged.version} is {what} already, with other bytes: its manifest.json differs"


def _signed_otherwise(verified: VerifiedRelease, earlier: Published | Claimed) -> bool:
    theirs = earlier.files if isinstance(earlier, Published) else earlier.claim.files
    return {(str(path), digest) for path, digest in verified.files} != {(file.path, file.sha256) for file in theirs}


def _finished(
    press: Press, keys: IndexKeys, trust: RepositoryTrust, terms: Terms, earlier: Published | Claimed
) -> Promotion:  # fmt: skip
    """Give the promotion of the same release with other signatures, finished first where its publisher died."""
    found: Standing = earlier
    if isinstance(earlier, Claimed):
        recover(press.repository, keys, trust, now=press.now, observer=press.observer, terms=terms)
        found = _earlier(press.repository, trust, earlier.claim.version)
    if not isinstance(found, Published):
        raise refused("the version is claimed by a publisher that runs, or whose claim cannot be finished")
    seen = KnownIndex(press.repository, trust).read()
    return Promotion(
        version=found.entry.version, state=PublicationState.PUBLISHED, no_op=True,
        revision=seen.index.revision if seen.index else 0, audit_id=found.audit_id,
        audit_sha256=found.entry.audit_sha256, index_sha256=seen.sha256,
        stages=tuple(StageTime(name=name, ms=0.0) for name in STAGES), files=found.files,
        total_bytes=sum(file.size_bytes for file in found.files),
    )  # fmt: skip


def _reasons(outcomes: tuple[RuleOutcome, ...], result: VerificationResult) -> tuple[RuleOutcome, ...]:
    """Leave the verification out where it failed for nothing but signatures that are not there: that is one reason."""
    missing = {each.error for each in result.evidence if each.error} == {TooFewSignatures.__name__}
    told = any(each.rule == "signatures" and not each.passed for each in outcomes)
    return tuple(each for each in outcomes if not (missing and told and each.rule == "verification"))


def failures(result: VerificationResult) -> tuple[str, ...]:
    """Give a line for everything that a verification refused."""
    return tuple(f"{each.file or 'the release'}: {each.text}" for each in result.evidence if each.error)


# --- what is told ------------------------------------------------------------------------------------------------


def _report(
    request: Request, press: Press, seen: _Seen, outcome: Promotion | BaseException
) -> PublicationReport:  # fmt: skip
    judgement = seen.judgement
    return report_of(
        seen.version, outcome, repository=press.repository.location, repository_note=note_of(press.repository),
        policy_mode=request.policy.mode,
        verification=verification_json(seen.result) if seen.result else {},
        validation=seen.validation.listed if seen.validation else None,
        warnings=(*(judgement.warnings if judgement else ()), *seen.notes),
        errors=(*(judgement.errors if judgement else ()), *(failures(seen.result) if seen.result else ())),
    )  # fmt: skip
