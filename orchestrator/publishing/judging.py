"""Reads a release again, sees where its version stands, and judges it by the policy."""

import dataclasses
from typing import assert_never

from orchestrator import verify
from orchestrator.errors import TooFewSignatures, ValidationRequired
from orchestrator.policy import enforce, refuse_broken
from orchestrator.policy_evidence import GateReport, judged_before
from orchestrator.publication import (
    Index,
    ReleaseStatus,
    RuleOutcome,
)
from orchestrator.publish.claims import Claimed, Free, Published, Standing, Taken, refused, standing
from orchestrator.publish.clock import clock_warnings
from orchestrator.publish.index_keys import RepositoryTrust
from orchestrator.publish.pointer import KnownIndex
from orchestrator.publish.version_guard import judge_version
from orchestrator.publishing.request import Press, Request, Seen
from orchestrator.publishing_evidence import OUR_RULES, Candidate, gather
from orchestrator.trust import ENCRYPTED, VerificationResult, VerifiedRelease
from orchestrator.validation_evidence import Validation, silent_validation


def let_out(
    request: Request, press: Press, candidate: Candidate, trust: RepositoryTrust, *,
    result: VerificationResult, seen: Seen,
) -> tuple[Standing, tuple[RuleOutcome, ...]]:  # fmt: skip
    """Give where the version stands and how each rule came out. Raises what refuses the release."""
    index = KnownIndex(press.repository, trust).read().index
    seen.notes += clock_warnings(index, press.now())
    earlier = standing(press.repository, trust, index, seen.version)
    ours = seen.validation is not None and seen.validation.report.subject == candidate.staged.manifest_sha256
    if request.validation is not None and not ours:
        seen.validation = silent_validation(ValidationRequired("it looked at other bytes"))
    if isinstance(earlier, Free) and seen.validation and ours and _against_nothing(seen.validation, index):
        seen.validation = silent_validation(
            ValidationRequired("it was made for a first release, and the repository has others")
        )
    if isinstance(earlier, Free) and seen.validation and seen.validation.settled:
        seen.validation = silent_validation(ValidationRequired("the version was taken when it was to be made"))
    taken = _why_taken(earlier, candidate)
    evidence = gather(
        candidate, result, attested=press.trust.attesting(press.now()) > 0, taken=taken,
        required=request.required_targets, validation=seen.validation, earlier=request.earlier,
        reproduction=request.reproduction, approvals=request.approvals,
        more=_more_gates(request, candidate, earlier, press, trust),
    )  # fmt: skip
    # A publish that is run again changes nothing, so that there is nothing to let out; promote() holds on to that.
    again = isinstance(earlier, Published | Claimed) and not taken
    policy = dataclasses.replace(request.policy, again=again)
    seen.judgement = judgement = enforce(policy, evidence, OUR_RULES)
    if taken and len(judgement.errors) == 1:
        raise refused(taken)
    refuse_broken(_reasons(judgement.outcomes, result))
    return earlier, judgement.outcomes


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
        gates["semver"] = judged_before(subject) if before else judged
    return gates


def judged(
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


def _reasons(outcomes: tuple[RuleOutcome, ...], result: VerificationResult) -> tuple[RuleOutcome, ...]:
    """Leave the verification out where it failed for nothing but signatures that are not there: that is one reason."""
    missing = {each.error for each in result.evidence if each.error} == {TooFewSignatures.__name__}
    told = any(each.rule == "signatures" and not each.passed for each in outcomes)
    return tuple(each for each in outcomes if not (missing and told and each.rule == "verification"))


def failures(result: VerificationResult) -> tuple[str, ...]:
    """Give a line for everything that a verification refused."""
    return tuple(f"{each.file or 'the release'}: {each.text}" for each in result.evidence if each.error)
