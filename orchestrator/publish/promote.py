"""The order of a promotion, written once over the repository's seam: stage, verify, claim, then finish.py.

Up to the claim a crash leaves a private area; from the claim on anybody with the index keys can finish; the swap of
index.json is the commit. Safety rests on creating without replacing and swapping on condition, on no clock and no lock.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import assert_never

from builders.errors import RelbuildError
from orchestrator.errors import (
    AtomicPublishError,
    DigestMismatch,
    KeyMissing,
    OutcomeUnknown,
    PolicyViolation,
    VerificationRequired,
)
from orchestrator.events import Observer
from orchestrator.publication import (
    IndexedFile,
    IndexKeys,
    IndexTrust,
    Promotion,
    PublicationState,
    RuleOutcome,
)
from orchestrator.publish.audit import audit_document
from orchestrator.publish.claims import (
    Claim,
    Claimed,
    Free,
    Published,
    Taken,
    claim_key,
    new_claim,
    refuse_other_bytes,
    refused,
    standing,
)
from orchestrator.publish.desk import (
    CLEAN,
    DELETE,
    DUPLICATE,
    PROMOTE,
    UPLOAD,
    VERIFY_STAGING,
    Desk,
    Draft,
    Stopwatch,
    Terms,
    behind_the_claim,
    open_desk,
    seam_errors,
)
from orchestrator.publish.entries import listed_files, release_entry
from orchestrator.publish.finish import finish
from orchestrator.publish.pointer import Seen
from orchestrator.publish.recover import recover_before
from orchestrator.publish.staging import (
    Fate,
    Staging,
    begin,
    check_files,
    create,
    decide,
    fill,
    is_whole,
    new_staging,
    read_fate,
    read_or_none,
    read_txn,
    sha256,
)
from orchestrator.publish.version_names import checked_version
from orchestrator.repositories.interface import Repository, Upload
from orchestrator.trust import VerifiedRelease


@seam_errors()
def promote(
    release: VerifiedRelease, repository: Repository, keys: IndexKeys, trust: IndexTrust, *,
    outcomes: Sequence[RuleOutcome], now: Callable[[], datetime], observer: Observer, terms: Terms, again: bool = False,
) -> Promotion:  # fmt: skip
    """Publish a verified release, after settling what dead publishers left.

    Published before with the same bytes: changes nothing. `again` says that the outcomes are those of a release that
    was published or claimed when it was judged; raises PolicyViolation where it is not. Raises DuplicateVersion for
    other bytes; AtomicPublishError where it stops behind the claim (`desk.state_of` tells); errors of the kind that
    happened where it stops before.
    """
    refuse_unfit(release, outcomes, terms)
    keys.preload()
    desk = open_desk(repository, keys, trust, now=now, observer=observer, terms=terms)
    watch = Stopwatch(desk=desk)
    with watch(CLEAN):
        recover_before(desk)
    with watch(DUPLICATE):
        files = listed_files(release)
    done = _promoted_before(desk, release.version, files, watch)
    if done is not None:
        return done
    if again:
        raise _freed(release.version, repository)
    draft = Draft(desk=desk, staging=new_staging())
    try:
        with draft.kept_or_removed():
            claim = _prepare(draft, release, files, outcomes, watch)
            with desk.alone():
                return _claim_and_finish(draft, claim, watch)
    except _Dropped:
        # It may have been dropped because the version is out: then that is what is told.
        done = _promoted_before(desk, release.version, files, watch)
        if done is not None:
            return done
        raise AtomicPublishError(
            f"`relbuild recover` took this publish of {release.version} for a dead one, and dropped what it staged",
            next_step="publish it again",
        ) from None


class _Dropped(Exception):
    """Somebody dropped our staging area, and nothing is claimed by it."""


def _freed(version: str, repository: Repository) -> PolicyViolation:
    return PolicyViolation(
        f"{version} was taken when it was judged, and is free now: something was removed from {repository.location}",
        next_step="`relbuild audit verify` says what is missing there; publish again to have it judged anew",
    )


def refuse_unfit(release: VerifiedRelease, outcomes: Sequence[RuleOutcome], terms: Terms) -> None:
    """Refuse a release that nobody judged, or that a rule stops which nobody waived: whoever calls, it fails closed."""
    checked_version(release.version, timestamped=terms.timestamped)
    if not release.result.passed or release.result.subject != release.manifest_sha256:
        raise VerificationRequired(
            f"{release.version} was not verified, or something else was", next_step="run `relbuild verify` on it"
        )
    broken = [outcome for outcome in outcomes if not outcome.passed and not outcome.waived]
    if broken or not outcomes:
        lines = "\n".join(f"  {outcome.rule}: {outcome.text}" for outcome in broken) or "  no rule was looked at"
        raise PolicyViolation(
            f"the policy does not let {release.version} out:\n{lines}", next_step="mend what is listed"
        )


# --- the steps up to the claim -----------------------------------------------------------------------------------


def _prepare(
    draft: Draft, release: VerifiedRelease, files: tuple[IndexedFile, ...], outcomes: Sequence[RuleOutcome],
    watch: Stopwatch,
) -> Claim:  # fmt: skip
    """Make all that finishing takes durable in the staging area, and read it back."""
    desk, staging, terms = draft.desk, draft.staging, draft.desk.terms
    with watch(UPLOAD):
        begin(desk.repository, staging, release.version)
        fill(desk.repository, staging, release.folder, files)
    with watch(VERIFY_STAGING):
        _check_staged(desk, staging, files)
        now = desk.now()
        audit = audit_document(
            release_entry(release, files, terms.validation, now), files, audit_id=staging.audit_id,
            repository_id=desk.repository_id, machine_id=terms.machine_id, now=now,
            repository_type=terms.repository_type, policy_mode=terms.policy_mode, outcomes=outcomes,
            metadata=terms.metadata, approvals=terms.approvals, tools=terms.tools,
        )  # fmt: skip
        seal = desk.keys.sign_audit(audit)
        desk.trust.check_audit(audit, seal)
        papers = ((staging.audit, audit), (staging.seal, seal))
        desk.repository.put_all([Upload(key=key, body=body, sha256=sha256(body)) for key, body in papers])
    return new_claim(release.version, staging, audit, seal)


def _check_staged(desk: Desk, staging: Staging, files: Sequence[IndexedFile]) -> None:
    try:
        check_files(desk.repository, staging.payload, files, desk.terms.readers)
    except (DigestMismatch, KeyMissing):
        if read_txn(desk.repository, staging):
            raise
        raise _Dropped from None


def _claim_and_finish(draft: Draft, claim: Claim, watch: Stopwatch) -> Promotion:
    desk = draft.desk
    with watch(DUPLICATE):
        # Others may have been here while the bytes were copied.
        earlier = _earlier(desk, claim.version, claim.files)
    if earlier is None:
        with watch(PROMOTE):
            earlier = _claim(draft, claim)
    if earlier is None:
        seen = finish(desk, claim, watch)
        audit = (claim.staging.audit_id, claim.audit_sha256)
        return _promotion(seen, claim.version, audit, claim.files, watch, no_op=False)
    with watch(DELETE):
        desk.repository.delete(draft.staging.folder)
    return _already(desk, earlier, watch)


def _claim(draft: Draft, claim: Claim) -> Published | Claimed | None:
    """Take the version: None where it is ours now, else what somebody else made of the same bytes meanwhile.

    Raises DuplicateVersion where their bytes differ, _Dropped where a clean-up dropped the area.
    """
    repository, key = draft.desk.repository, claim_key(claim.version)
    _win_fate(draft)
    # Only now, since whoever drops an area spoils txn.json before it removes the fate: is it all still there?
    if not is_whole(repository, claim.staging, claim.files) and read_or_none(repository, key) != claim.audit:
        draft.decided = False
        raise _Dropped
    if create(repository, key, claim.audit) == claim.audit:
        return None
    # The version is somebody else's for ever, so nobody will finish ours.
    draft.decided = False
    return _earlier(draft.desk, claim.version, claim.files)


def _win_fate(draft: Draft) -> None:
    """Decide that the area is going to be claimed, before a clean-up decides that it is dropped."""
    repository, staging = draft.desk.repository, draft.staging
    draft.decided = True
    try:
        fate = decide(repository, staging, Fate.CLAIMING)
    except OutcomeUnknown:
        raise
    except RelbuildError:
        # A full disk is one too. What did not get there cannot be finished by anyone.
        draft.decided = read_fate(repository, staging) is not None
        raise
    if fate is Fate.DROPPED:
        draft.decided = False
        raise _Dropped


def _earlier(desk: Desk, version: str, files: Sequence[IndexedFile]) -> Published | Claimed | None:
    """Give what somebody made of the same version and bytes before, or None. Raises DuplicateVersion."""
    found = standing(desk.repository, desk.trust, desk.known.read().index, version)
    match found:
        case Free():
            return None
        case Published():
            refuse_other_bytes(version, files, found.files, what="published")
            return found
        case Claimed():
            refuse_other_bytes(version, files, found.claim.files, what="claimed")
            return found
        case Taken():
            raise refused(found.why)
        case _:
            assert_never(found)


# --- what it gave ------------------------------------------------------------------------------------------------


def _promoted_before(
    desk: Desk, version: str, files: Sequence[IndexedFile], watch: Stopwatch
) -> Promotion | None:  # fmt: skip
    """Give the promotion of the same bytes by somebody else, or None where nobody made one. Raises DuplicateVersion."""
    with watch(DUPLICATE):
        earlier = _earlier(desk, version, files)
    if earlier is None:
        return None
    with desk.alone():
        return _already(desk, earlier, watch)


def _already(desk: Desk, earlier: Published | Claimed, watch: Stopwatch) -> Promotion:
    """Give the promotion of somebody else's publish of the same bytes, finished first where it is not yet."""
    match earlier:
        case Published():
            audit = (earlier.audit_id, earlier.entry.audit_sha256)
            return _promotion(desk.known.read(), earlier.entry.version, audit, earlier.files, watch, no_op=True)
        case Claimed(claim=claim):
            with behind_the_claim():
                seen = finish(desk, claim, watch)
            audit = (claim.staging.audit_id, claim.audit_sha256)
            return _promotion(seen, claim.version, audit, claim.files, watch, no_op=True)
        case _:
            assert_never(earlier)


def _promotion(
    seen: Seen, version: str, audit: tuple[str, str], files: Sequence[IndexedFile], watch: Stopwatch, *, no_op: bool
) -> Promotion:
    return Promotion(
        version=version, state=PublicationState.PUBLISHED, no_op=no_op,
        revision=seen.index.revision if seen.index else 0, audit_id=audit[0], audit_sha256=audit[1],
        index_sha256=seen.sha256, stages=watch.times(), files=tuple(files),
        total_bytes=sum(file.size_bytes for file in files),
    )  # fmt: skip
