"""From a signed folder to a published release: read it again, judge it, promote it, and tell what became of it.

The order stands in `_promoted`. No private key is read before the policy let the release out.
"""

import dataclasses
from collections.abc import Callable
from datetime import datetime

from builders.errors import RelbuildError
from orchestrator.errors import PublicationError, VerificationRequired
from orchestrator.publication import (
    AUDIT,
    INDEX,
    IndexKeys,
    Promotion,
    PublicationState,
    StageTime,
)
from orchestrator.publish.claims import Claimed, Free, Published, Standing, refused, standing, why_taken
from orchestrator.publish.desk import STAGES, Terms, seam_errors
from orchestrator.publish.entries import verification_json
from orchestrator.publish.index_keys import RepositoryTrust
from orchestrator.publish.journal import Attempt, append_attempt
from orchestrator.publish.pointer import KnownIndex
from orchestrator.publish.promote import promote
from orchestrator.publish.recover import recover
from orchestrator.publish.report import PublicationReport, report_of
from orchestrator.publish.version_names import checked_version
from orchestrator.publishing.judging import failures, judged, let_out
from orchestrator.publishing.request import Attempted, Press, Request, Seen
from orchestrator.publishing_evidence import Candidate, read_candidate
from orchestrator.repositories.interface import Repository, note_of
from orchestrator.repositories.preview import PreviewRepository
from orchestrator.trust import VerifiedRelease
from orchestrator.validation_evidence import Validation, settled_validation
from orchestrator.verify.trust_root import TrustRoot


def publish(request: Request, press: Press) -> Attempted:
    """Publish a release, and give what became of it, whatever that was. Raises nothing but defects of telling it."""
    version = request.version or request.folder.name
    seen = Seen(version=version, validation=request.validation, notes=[*request.notes])
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
def _promoted(request: Request, press: Press, seen: Seen) -> Promotion:
    checked_version(seen.version, timestamped=press.terms.timestamped)
    candidate = read_candidate(request.folder)
    if request.version not in {"", candidate.staged.version}:
        raise PublicationError(
            f"{candidate.staged.folder} holds {candidate.staged.version}, not {request.version}",
            next_step="name the folder of the version that you want published: --release-dir",
        )
    result, verified = judged(request, press, candidate)
    seen.version, seen.result = candidate.staged.version, result
    trust = RepositoryTrust(trust=press.trust, now=press.now())
    if verified is not None and request.validate is not None and request.validation is None:
        seen.validation = _validated(request.validate, press, candidate, trust)
    seen.notes += [f"validation let pass {each}" for each in (seen.validation.waived if seen.validation else ())]
    earlier, outcomes = let_out(request, press, candidate, trust, result=result, seen=seen)
    if denied := [each.text for each in outcomes if each.rule == "verification" and not each.passed and verified]:
        raise VerificationRequired(
            f"{seen.version} has a verification that says no, and no policy lets such a release out: {denied[0]}",
            next_step="leave out --verification-result where that one is wrong: all is verified again anyway",
        )
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
        approvals=tuple(
            dict.fromkeys(each.by for each in request.approvals if each.subject == candidate.staged.manifest_sha256)
        ),
    )  # fmt: skip
    keys = press.open_keys()
    if isinstance(earlier, Published | Claimed) and _signed_otherwise(verified, earlier):
        seen.notes.append("the same manifest was signed anew: the release stays as it was signed when it was published")
        return _finished(press, keys, trust, terms, earlier)
    return promote(
        verified, press.repository, keys, trust, outcomes=outcomes, now=press.now,
        observer=press.observer, terms=terms, again=not isinstance(earlier, Free),
    )  # fmt: skip


def _validated(
    validate: Callable[[], Validation], press: Press, candidate: Candidate, trust: RepositoryTrust
) -> Validation:  # fmt: skip
    """Validate what is to be published. What is out or claimed was judged then, and the index keeps what was found."""
    earlier = _earlier(press.repository, trust, candidate.staged.version)
    if not isinstance(earlier, Published | Claimed):
        return validate()
    entry = earlier.entry if isinstance(earlier, Published) else earlier.claim.entry
    ours = candidate.staged.manifest_sha256
    # Other bytes are refused as such; what was found of those says nothing of these.
    return settled_validation(ours, entry.validation if entry.manifest_sha256 == ours else None)


def _earlier(repository: Repository, trust: RepositoryTrust, version: str) -> Standing:
    return standing(repository, trust, KnownIndex(repository, trust).read().index, version)


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


# --- what is told ------------------------------------------------------------------------------------------------


def _report(
    request: Request, press: Press, seen: Seen, outcome: Promotion | BaseException
) -> PublicationReport:  # fmt: skip
    judgement = seen.judgement
    return report_of(
        seen.version, outcome, repository=press.repository.location, repository_note=note_of(press.repository),
        policy_mode=request.policy.mode,
        verification=verification_json(seen.result) if seen.result else {},
        validation=(seen.validation.listed or None) if seen.validation else None,
        warnings=(*(judgement.warnings if judgement else ()), *seen.notes),
        errors=(*(judgement.errors if judgement else ()), *(failures(seen.result) if seen.result else ())),
    )  # fmt: skip
