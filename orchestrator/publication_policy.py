"""What a publication is judged by: which rules count, which are lifted and by whom, and how strictly."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Final

from orchestrator.publishing_rules import PolicyMode, Waiver

IMMUTABILITY: Final = "immutability"
VERIFICATION: Final = "verification"
SIGNATURES: Final = "signatures"
JUDGED_BEFORE: Final = "the version was judged when it was claimed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationPolicy:
    """Which rules count, and whether a broken one stops. "immutability" always does."""

    mode: PolicyMode
    rules: tuple[str, ...]
    approvals: int = 1
    """How many different keys must approve, where that rule is on."""
    waivers: tuple[Waiver, ...] = ()
    firm: frozenset[str] = frozenset()
    """Rules that stop in the lenient mode, too."""
    not_asked: tuple[tuple[str, str], ...] = ()
    """Usual rules that are off, each with the reason: reports and audits tell."""
    again: bool = False
    """Whether these very bytes are published or claimed already: only a doubt of that still refuses them."""

    STRICT: ClassVar["PublicationPolicy"]
    LENIENT: ClassVar["PublicationPolicy"]

    def requiring(self, *rules: str) -> "PublicationPolicy":
        """Turn rules on. Unknown ones stay in, and fail."""
        return dataclasses.replace(self, rules=tuple(dict.fromkeys((*self.rules, *rules))))

    def without(self, *rules: str) -> "PublicationPolicy":
        """Turn rules off; immutability stays on."""
        return dataclasses.replace(self, rules=tuple(rule for rule in self.rules if rule not in rules))

    def unasked(self, rule: str, why: str) -> "PublicationPolicy":
        """Turn a rule off, and let every judgement say so."""
        return dataclasses.replace(self.without(rule), not_asked=(*self.not_asked, (rule, why)))

    def waived(self, rule: str) -> str:
        """Say who lets a release pass that breaks a rule, and why; "" where it stops."""
        if rule == IMMUTABILITY:
            return ""
        if self.again and rule not in {VERIFICATION, SIGNATURES}:
            return JUDGED_BEFORE
        for waiver in self.waivers:
            if waiver.rule == rule and waiver.reason.strip() and waiver.by.strip():
                return f"{waiver.reason} (by {waiver.by})"
        return "the policy is lenient" if self.mode is PolicyMode.LENIENT and rule not in self.firm else ""


_USUAL: Final = (
    IMMUTABILITY, VERIFICATION, "validation", "manifest", "sbom", "provenance", SIGNATURES, "targets",
)  # fmt: skip

PublicationPolicy.STRICT = PublicationPolicy(mode=PolicyMode.STRICT, rules=_USUAL)
PublicationPolicy.LENIENT = PublicationPolicy(mode=PolicyMode.LENIENT, rules=_USUAL)
