"""What a release must show before it is published: rules as values, judged without input or output, failing closed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.errors import (
    DuplicateVersion,
    EncryptionRequired,
    MetadataMissing,
    PolicyViolation,
    PublicationError,
    SignatureRequired,
    ValidationRequired,
    VerificationRequired,
)
from orchestrator.policy_evidence import PolicyEvidence, PublishedArtifact
from orchestrator.publication import RuleOutcome
from orchestrator.publication_policy import IMMUTABILITY, SIGNATURES, VERIFICATION, PublicationPolicy
from orchestrator.publishing_rules import Waiver

# --- the judgement -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the rules said: every outcome, and of the broken ones those that only warn and those that stop."""

    outcomes: tuple[RuleOutcome, ...]
    warnings: tuple[str, ...]
    errors: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.errors and bool(self.outcomes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The rule holds; what was looked at."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The rule does not hold, and why."""

    text: str


Verdict = Held | Broken
Look = Callable[[PublicationPolicy, PolicyEvidence], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule by its name: how to look, and the error that it ends with."""

    name: str
    error: type[PublicationError]
    look: Look


def enforce(policy: PublicationPolicy, evidence: PolicyEvidence, rules: Mapping[str, Rule] | None = None) -> Judgement:
    """Judge a release by every rule of the policy and list all that is broken. Raises nothing."""
    known = RULES if rules is None else rules
    names = dict.fromkeys((IMMUTABILITY, *policy.rules))
    outcomes = tuple(_outcome(name, known, policy, evidence) for name in names)
    outcomes += tuple(_idle_waiver(waiver) for waiver in policy.waivers if waiver.rule not in names)
    broken = [outcome for outcome in outcomes if not outcome.passed]
    # What nobody looked at did not pass, and does not stop.
    silent = {rule: f"{_NOT_ASKED}: {why}" for rule, why in policy.not_asked if rule not in names}
    return Judgement(
        outcomes=(
            *outcomes,
            *(RuleOutcome(rule=each, passed=False, text=why, waived=_NOT_ASKED) for each, why in silent.items()),
        ),
        warnings=(
            *(f"{each.rule}: {each.text} (waived: {each.waived})" for each in broken if each.waived),
            *(f"{rule} was {why}" for rule, why in silent.items()),
        ),
        errors=tuple(f"{each.rule}: {each.text}" for each in broken if not each.waived),
    )


_NOT_ASKED: Final = "not asked for"
_WAY_OUT: Final = "mend them; or add a waiver with its reason by [[repository.waivers]], if you may"
_NO_WAIVER: Final = "a version that is taken stays so, and no waiver lifts that: publish under the next number"


def refuse_broken(outcomes: Sequence[RuleOutcome]) -> None:
    """Raise the error of the only kind of broken rule, PolicyViolation for several, or where there is no outcome."""
    if not outcomes:
        raise PolicyViolation("no rule was looked at", next_step="a policy without rules lets nothing through")
    broken = [each for each in outcomes if not each.passed and (not each.waived or each.rule == IMMUTABILITY)]
    if not broken:
        return
    kinds = {each.error for each in broken}
    kind = _ERRORS.get(kinds.pop(), PolicyViolation) if len(kinds) == 1 else PolicyViolation
    lines = "\n".join(f"  {each.rule}: {each.text}" for each in broken)
    raise kind(
        f"the policy refuses this release for {len(broken)} reason{'s' if len(broken) != 1 else ''}:\n{lines}",
        next_step=_WAY_OUT if all(each.rule != IMMUTABILITY for each in broken) else _NO_WAIVER,
    )


def _outcome(name: str, known: Mapping[str, Rule], policy: PublicationPolicy, evidence: PolicyEvidence) -> RuleOutcome:
    rule = known.get(name)
    if rule is None:
        return _broken(name, PolicyViolation, "is a rule that nobody knows", policy)
    try:
        verdict = rule.look(policy, evidence)
    except Exception as error:  # noqa: BLE001 - a rule that cannot say yes says no, whatever happened to it
        return _broken(name, rule.error, f"could not be judged: {type(error).__name__}", policy)
    match verdict:
        case Held(text=text):
            return RuleOutcome(rule=name, passed=True, text=text)
        case Broken(text=text):
            return _broken(name, rule.error, text, policy)
    # A rule that was added from outside may give anything; anything else than Held is a no.
    return _broken(name, rule.error, "gave no verdict", policy)


def _broken(name: str, error: type[PublicationError], text: str, policy: PublicationPolicy) -> RuleOutcome:
    return RuleOutcome(
        rule=name, passed=False, text=text, error=error.__name__, exit_code=error.exit_code,
        waived=policy.waived(name),
    )  # fmt: skip


def _idle_waiver(waiver: Waiver) -> RuleOutcome:
    # A misspelt waiver must not look as if it had done something.
    return RuleOutcome(
        rule=f"waiver of {waiver.rule}", passed=False, text="lifts a rule that this policy does not have",
        error=PolicyViolation.__name__, exit_code=PolicyViolation.exit_code,
    )  # fmt: skip


# --- the rules ---------------------------------------------------------------------------------------------------


def _immutable(_: PublicationPolicy, evidence: PolicyEvidence) -> Verdict:
    return Broken(text=evidence.taken) if evidence.taken else Held(text=f"{evidence.version} is free")


def _verified(_: PublicationPolicy, evidence: PolicyEvidence) -> Verdict:
    result = evidence.verification
    if result is None:
        return Broken(text="the release was not verified")
    if (result.subject, result.version) != (evidence.subject, evidence.version):
        return Broken(text="the verification is that of other bytes")
    if not result.evidence:
        return Broken(text="the verification looked at nothing")
    if not result.passed or result.exit_code or any(each.error for each in result.evidence):
        return Broken(text=f"the verification failed with {result.exit_code}")
    return Held(text=f"{len(result.evidence)} things held")


def _gate(name: str) -> Look:
    def look(_: PublicationPolicy, evidence: PolicyEvidence) -> Verdict:
        report = evidence.gates.get(name)
        if report is None:
            return Broken(text=f"there is no report of {name}")
        if report.error:
            return Broken(text=f"{name} said nothing: {report.error}")
        if report.subject != evidence.subject:
            return Broken(text=f"{name} looked at other bytes")
        if not report.checks:
            return Broken(text=f"{name} checked nothing")
        failed = [check for check, passed in report.checks if passed is not True]
        if failed or report.passed is not True or report.exit_code != 0:
            why = ", ".join(failed) or f"exit code {report.exit_code}"
            return Broken(text=f"{name} failed ({why}) {report.text}".strip())
        return Held(text=f"{len(report.checks)} checks of {name} passed {report.text}".strip())

    return look


def _manifest(_: PublicationPolicy, evidence: PolicyEvidence) -> Verdict:
    missing = sorted({"manifest.json", "checksums.txt", *(each.path for each in _plain(evidence))} - evidence.files)
    if not evidence.artifacts:
        return Broken(text="the manifest lists no artifact")
    return Broken(text=f"missing: {', '.join(missing)}") if missing else Held(text="all that it lists is there")


def _plain(evidence: PolicyEvidence) -> list[PublishedArtifact]:
    # An encrypted artifact may be there in its encrypted form alone.
    return [each for each in evidence.artifacts if not (each.encrypted and f"{each.path}.age" in evidence.files)]


def _each(what: str, has: Callable[[PublishedArtifact], bool], *, sources: bool = False) -> Look:
    """Look at each artifact that was built, and at source archives where `sources` is set."""

    def look(_: PublicationPolicy, evidence: PolicyEvidence) -> Verdict:
        asked = [each for each in evidence.artifacts if sources or each.source is not True]
        missing = sorted(each.path for each in asked if has(each) is not True)
        if not asked:
            return Broken(text="there is no artifact")
        return Broken(text=f"no {what}: {', '.join(missing)}") if missing else Held(text=f"each has its {what}")

    return look


def _signed(_: PublicationPolicy, evidence: PolicyEvidence) -> Verdict:
    result = evidence.verification
    # That there was no verification at all is its own rule's to say.
    if not any(evidence.signed_by) or (result is not None and not result.signature_verified):
        return Broken(text="no signature by a trusted key")
    return Held(text=f"signed by {len(set(evidence.signed_by))} keys")


def _targets(_: PublicationPolicy, evidence: PolicyEvidence) -> Verdict:
    missing = sorted(evidence.required_targets - {each.target for each in evidence.artifacts})
    if missing or evidence.absent:
        return Broken(text=f"required and not there: {', '.join([*missing, *evidence.absent])}")
    return Held(text=f"all {len(evidence.required_targets)} required targets are there")


def _approved(policy: PublicationPolicy, evidence: PolicyEvidence) -> Verdict:
    people = {each.by for each in evidence.approvals if each.subject == evidence.subject and each.by.strip()}
    others = sum(each.subject != evidence.subject for each in evidence.approvals)
    if len(people) < max(policy.approvals, 1):
        hint = f"; {others} are for other bytes" if others else ""
        return Broken(
            text=f"approved by {len(people)}, and {max(policy.approvals, 1)} must{hint}; see `relbuild approve`"
        )
    return Held(text=f"approved by {', '.join(sorted(people))}")


RULES: Final[Mapping[str, Rule]] = {
    rule.name: rule
    for rule in (
        Rule(name=IMMUTABILITY, error=DuplicateVersion, look=_immutable),
        Rule(name=VERIFICATION, error=VerificationRequired, look=_verified),
        Rule(name="validation", error=ValidationRequired, look=_gate("validation")),
        Rule(name="manifest", error=MetadataMissing, look=_manifest),
        Rule(name="sbom", error=MetadataMissing, look=_each("SBOM", lambda each: each.sbom)),
        Rule(name="provenance", error=MetadataMissing, look=_each("provenance", lambda each: each.provenance)),
        Rule(name=SIGNATURES, error=SignatureRequired, look=_signed),
        Rule(
            name="encryption",
            error=EncryptionRequired,
            look=_each("encrypted copy", lambda each: each.encrypted, sources=True),
        ),
        Rule(name="targets", error=PolicyViolation, look=_targets),
        Rule(name="ci", error=PolicyViolation, look=_gate("ci")),
        Rule(name="semver", error=PolicyViolation, look=_gate("semver")),
        Rule(name="reproducibility", error=PolicyViolation, look=_gate("reproducibility")),
        Rule(name="approvals", error=PolicyViolation, look=_approved),
    )
}
_ERRORS: Final[Mapping[str, type[PublicationError]]] = {rule.error.__name__: rule.error for rule in RULES.values()}
