"""The policy that a publish is judged by: what the configuration says, what the options add, and what is lifted."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Final

from orchestrator.publishing_rules import PolicyMode, Waiver
from orchestrator.validation_rules import ValidationGate, ValidationRules

if TYPE_CHECKING:
    from orchestrator.cli.promotion import Wishes
    from orchestrator.cli.publisher import Publisher
    from orchestrator.model import Matrix
    from orchestrator.publication_policy import PublicationPolicy
    from orchestrator.publishing_rules import RuleWaiver

VALIDATION: Final = ("validation",)
DOCUMENTS: Final = ("sbom", "provenance")
"""What a release may lack. A byte or a signature that does not hold is lifted by nothing."""


def leniency(verification: PolicyMode | None, validation: PolicyMode | None) -> dict[str, str]:
    """Name the rules that only warn, each with the option that says so."""
    said = {"--verification-policy lenient": (verification, DOCUMENTS),
            "--validation-policy lenient": (validation, VALIDATION)}  # fmt: skip
    return {rule: option for option, (mode, rules) in said.items() if mode is PolicyMode.LENIENT for rule in rules}


def firmness(verification: PolicyMode | None, validation: PolicyMode | None) -> frozenset[str]:
    """Name the rules that stop whatever the policy's mode is, because an option says strict."""
    said = ((verification, DOCUMENTS), (validation, VALIDATION))
    return frozenset(rule for mode, rules in said if mode is PolicyMode.STRICT for rule in rules)


def policy_of(
    wishes: "Wishes", opened: "Publisher", matrix: "Matrix | None", today: date
) -> "tuple[PublicationPolicy, tuple[str, ...]]":  # fmt: skip
    """Give the policy, and what the report is to say of waivers that lift nothing."""
    from orchestrator.publication_policy import PublicationPolicy  # noqa: PLC0415  (heavy, and --help does not need it)

    mode = wishes.policy or opened.rules.mode
    chosen = PublicationPolicy.LENIENT if mode is PolicyMode.LENIENT else PublicationPolicy.STRICT
    chosen = _asked(chosen, wishes, matrix)
    if opened.rules.approvals:
        chosen = replace(chosen.requiring("approvals"), approvals=opened.rules.approvals)
    chosen = replace(chosen, waivers=tuple(_by_option(wishes, opened)), firm=wishes.firm)
    chosen = _with_validation(_with_proof(chosen, matrix), wishes, matrix)
    return _waived(chosen, opened.rules.waivers, today)


def refuse_unpassable(wishes: "Wishes", opened: "Publisher", matrix: "Matrix", today: date) -> None:
    """Refuse, before it is built, what no release can pass. Raises ValidationRequired."""
    from orchestrator.errors import ValidationRequired  # noqa: PLC0415  (as above)

    rules, _ = validation_rules(wishes, matrix)
    policy, _ = policy_of(wishes, opened, matrix, today)
    if rules is not None and not rules.passable and not policy.waived("validation"):
        raise ValidationRequired(
            "no release can pass the validation: known vulnerabilities are asked for, and nothing says where to look",
            next_step='osv_database = "FILE" in [validate], or vulnerabilities = "ignore" in [validate.security]; '
            'gate = "off" in [validate] asks for no validation at all',
        )


def _asked(policy: "PublicationPolicy", wishes: "Wishes", matrix: "Matrix | None") -> "PublicationPolicy":
    """Turn on the rules that the configuration or an option asks for, and say which usual one nobody wants."""
    from orchestrator.publishing_evidence import ARTIFACT_SIGNATURES  # noqa: PLC0415  (as above)

    signing = matrix.signing if matrix else None
    asked = {
        ARTIFACT_SIGNATURES: wishes.require_signatures or (signing and signing.each_artifact),
        "encryption": wishes.require_encryption or (signing and signing.encryption.recipients),
        "ci": matrix and matrix.ci.checks.required,
        "semver": matrix and matrix.ci.versions.strict,
    }
    policy = policy.requiring(*(rule for rule, wanted in asked.items() if wanted))
    _, unasked = validation_rules(wishes, matrix)
    return policy.unasked("validation", unasked) if unasked and wishes.validation is None else policy


def validation_rules(wishes: "Wishes", matrix: "Matrix | None") -> tuple[ValidationRules | None, str]:
    """Give the rules by which a release must be validated, or None and who said that it need not be.

    Without [validate] the usual rules hold: what nobody thought of is not let out unseen.
    """
    rules = (matrix.validation if matrix else None) or ValidationRules()
    if wishes.require_validation is False:
        return None, "--no-require-validation"
    if rules.gate is ValidationGate.OFF and not wishes.require_validation:
        return None, 'gate = "off" in [validate]'
    return rules, ""


def _with_validation(policy: "PublicationPolicy", wishes: "Wishes", matrix: "Matrix | None") -> "PublicationPolicy":
    """Let the rule warn where [validate] says so, unless an option asks for more."""
    rules, _ = validation_rules(wishes, matrix)
    if rules is None or rules.gate is not ValidationGate.WARN or wishes.require_validation:
        return policy
    waiver = Waiver(rule="validation", reason='gate = "warn" in [validate]', by="matrix.toml")
    return replace(policy, waivers=(*policy.waivers, waiver))


def _with_proof(policy: "PublicationPolicy", matrix: "Matrix | None") -> "PublicationPolicy":
    """Ask for reproducibility where [reproduce] says so; a gate that warns is a rule that is waived from the start."""
    from orchestrator.reproduction_rules import ReproductionGate  # noqa: PLC0415

    gate = matrix.reproduce.gate if matrix and matrix.reproduce else ReproductionGate.OFF
    match gate:
        case ReproductionGate.OFF:
            return policy
        case ReproductionGate.BLOCK:
            return policy.requiring("reproducibility")
        case ReproductionGate.WARN:
            waiver = Waiver(rule="reproducibility", reason='gate = "warn" in [reproduce]', by="matrix.toml")
            return replace(policy.requiring("reproducibility"), waivers=(*policy.waivers, waiver))


def _by_option(wishes: "Wishes", opened: "Publisher") -> "Iterator[Waiver]":
    for rule, option in wishes.lenient.items():
        yield Waiver(rule=rule, reason=option, by=opened.terms.actor)


def _waived(
    policy: "PublicationPolicy", waivers: "tuple[RuleWaiver, ...]", today: date
) -> "tuple[PublicationPolicy, tuple[str, ...]]":  # fmt: skip
    """Lift what [[repository.waivers]] lift today; say of the others why they lift nothing."""
    lifting, notes = [], []
    for each in waivers:
        name = f"the waiver of {each.rule} by {each.by}"
        if each.expires < today:
            notes.append(f"{name} expired on {each.expires.isoformat()}, and lifts nothing")
        elif each.rule not in policy.rules:
            notes.append(f"{name} lifts nothing: nobody asks this release for that")
        else:
            reason = f"{each.reason}, until {each.expires.isoformat()}"
            lifting.append(Waiver(rule=each.rule, reason=reason, by=each.by))
    # A waiver with somebody's reason tells more than an option, and the first one for a rule is told.
    return replace(policy, waivers=(*lifting, *policy.waivers)), tuple(notes)
