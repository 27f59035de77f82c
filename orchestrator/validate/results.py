"""What a validation found, to programs (relbuild/validation/v1); the flat fields are the seed's ValidationResult."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from orchestrator.canonical import Json, canonical_json
from orchestrator.errors import (
    ApiBroken,
    BehaviourChanged,
    PerformanceWorse,
    SbomDeltaFailed,
    SecurityFailed,
    SlsaDeltaFailed,
    ValidationFailed,
)
from orchestrator.validate.values import CheckName, Finding, Gap
from orchestrator.validate.waivers import Waiver
from orchestrator.validation_rules import Severity

SCHEMA: Final = "relbuild/validation/v1"
ERRORS: Final[Mapping[CheckName, type[ValidationFailed]]] = {
    CheckName.SBOM_DELTA: SbomDeltaFailed,
    CheckName.SLSA_DELTA: SlsaDeltaFailed,
    CheckName.API_COMPAT: ApiBroken,
    CheckName.PERFORMANCE: PerformanceWorse,
    CheckName.SECURITY: SecurityFailed,
    CheckName.BEHAVIORAL: BehaviourChanged,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What became of one check. It passed where no error and no gap is left that nobody waived."""

    check: CheckName
    findings: tuple[Finding, ...] = ()
    gaps: tuple[Gap, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.severity is Severity.ERROR and not each.waived)

    @property
    def open_gaps(self) -> tuple[Gap, ...]:
        return tuple(each for each in self.gaps if not each.waived)

    @property
    def passed(self) -> bool:
        return not self.failures and not self.open_gaps


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The release that the new one was held against."""

    version: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """What all checks found. `subject` is the sha256 of the manifest judged; `baseline` is None for a first release.

    `waivers` are those that let something pass, `idle` those that did not.
    """

    version: str
    subject: str
    baseline: Baseline | None
    timestamp: datetime
    checks: tuple[Judged, ...]
    waivers: tuple[Waiver, ...] = ()
    idle: tuple[Waiver, ...] = ()

    @property
    def passed(self) -> bool:
        return {each.check for each in self.checks} == set(CheckName) and all(each.passed for each in self.checks)

    @property
    def exit_code(self) -> int:
        """Give 0, the code of the only check that failed, or that of several."""
        failed = [each.check for each in self.checks if not each.passed]
        if self.passed:
            return 0
        return ERRORS[failed[0]].exit_code if len(failed) == 1 else ValidationFailed.exit_code

    @property
    def sha256(self) -> str:
        return hashlib.sha256(to_json(self)).hexdigest()


def to_json(result: ValidationResult) -> bytes:
    """Write a result in canonical JSON."""
    baseline: Json = None
    if result.baseline:
        baseline = {"version": result.baseline.version, "manifest_sha256": result.baseline.manifest_sha256}
    return canonical_json(
        {
            "schema": SCHEMA,
            "version": result.version,
            "subject": result.subject,
            "baseline": baseline,
            "timestamp": result.timestamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "passed": result.passed,
            "exit_code": result.exit_code,
            "checks": {f"{each.check}_passed": each.passed for each in result.checks},
            "findings": [_finding(judged.check, each) for judged in result.checks for each in judged.findings],
            "not_checked": [_gap(judged.check, each) for judged in result.checks for each in judged.gaps],
            "notes": {judged.check.value: list(map(_text, judged.notes)) for judged in result.checks if judged.notes},
            "waived": _waivers(result.waivers),
            "idle_waivers": _waivers(result.idle),
        }
    )


def _finding(check: CheckName, finding: Finding) -> Json:
    return {
        "check": check.value, "rule": finding.rule, "place": _text(finding.place), "text": _text(finding.text),
        "severity": finding.severity.value, "waived": finding.waived,
    }  # fmt: skip


def _gap(check: CheckName, gap: Gap) -> Json:
    return {
        "check": check.value, "rule": gap.rule, "place": _text(gap.place), "text": _text(gap.reason),
        "waived": gap.waived,
    }  # fmt: skip


def _text(text: str) -> str:
    # Names of files need not be UTF-8, and JSON of others may hold half a character: neither may end the report.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _waivers(waivers: Sequence[Waiver]) -> list[Json]:
    return [
        {
            "rule": each.rule, "place": each.place, "owner": each.owner, "reason": each.reason,
            "expires": each.expires.isoformat(),
        }
        for each in waivers
    ]  # fmt: skip
