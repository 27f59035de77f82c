"""Runs all checks over two releases. A check that ends with an error has failed, whatever it saw before."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, assert_never

from builders.errors import Interrupted, RelbuildError
from orchestrator.validate import api_compat, behavioral, performance, sbom_delta, security, slsa_delta
from orchestrator.validate.baseline import Shelf, Wish, open_baseline
from orchestrator.validate.results import Baseline, Judged, ValidationResult
from orchestrator.validate.sides import open_side, pair_up
from orchestrator.validate.values import (
    EVERYWHERE,
    Broken,
    Check,
    CheckName,
    Compared,
    Finding,
    Gap,
    NotChecked,
    Outcome,
    Passed,
    Released,
    Side,
)
from orchestrator.validate.waivers import RAISED, Waiver, lift, read_waivers
from orchestrator.validation_rules import ValidationRules
from orchestrator.verify.trust_root import TrustRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A staged folder to judge, against what, and by which rules. `cells` is dist/cells where it is at hand.

    `shelf` is the repository that holds the baseline; `trust` the keys that must have signed it.
    """

    folder: Path
    wish: Wish
    rules: ValidationRules
    shelf: Shelf | None = None
    trust: TrustRoot | None = None
    cells: Path | None = None


CHECKS: Final[Mapping[CheckName, Check]] = {
    CheckName.SBOM_DELTA: sbom_delta.check,
    CheckName.SLSA_DELTA: slsa_delta.check,
    CheckName.API_COMPAT: api_compat.check,
    CheckName.PERFORMANCE: performance.check,
    CheckName.SECURITY: security.check,
    CheckName.BEHAVIORAL: behavioral.check,
}
_GONE_BELONGS_TO: Final = CheckName.API_COMPAT


def validate_release(request: Request, now: datetime) -> ValidationResult:
    """Read both releases, and judge the new one by every check.

    Raises WaiverInvalid, BaselineUnusable, StagingError, ManifestInvalid, and ValidationFailed for a folder whose files
    are not what its manifest promises.
    """
    waivers = read_waivers(request.rules.waivers, now.date()) if request.rules.waivers else ()
    with tempfile.TemporaryDirectory(prefix="relbuild-validate-") as room:
        new = open_side(request.folder, Path(room) / "new")
        old = open_baseline(request.wish, new, Path(room), now, shelf=request.shelf, trust=request.trust)
        return validate(compare(new, old, request.rules, request.cells), waivers, now)


def compare(new: Side, old: Side | None, rules: ValidationRules, cells: Path | None = None) -> Compared:
    """Put two releases side by side. `cells` is dist/cells of the project, where it is at hand."""
    pairs, gone = pair_up(new, old)
    return Compared(new=new, old=old, pairs=pairs, gone=gone, rules=rules, cells=cells)


def validate(
    compared: Compared, waivers: Sequence[Waiver], now: datetime, checks: Mapping[CheckName, Check] = CHECKS
) -> ValidationResult:
    """Judge a release by every check. What a check raises is a finding of its own."""
    judged = tuple(_judged(name, checks.get(name, _nobody), compared, waivers) for name in CheckName)
    old = compared.old
    used = tuple(each for each in waivers if any(_lifts(each, one) for one in judged))
    return ValidationResult(
        version=compared.new.version,
        subject=compared.new.manifest_sha256,
        baseline=Baseline(version=old.version, manifest_sha256=old.manifest_sha256) if old else None,
        timestamp=now,
        checks=judged,
        waivers=used,
        idle=tuple(each for each in waivers if each not in used),
    )


def _judged(name: CheckName, check: Check, compared: Compared, waivers: Sequence[Waiver]) -> Judged:
    findings, gaps, notes = _seen(check, compared)
    if name is _GONE_BELONGS_TO:
        findings = (*findings, *map(_gone, compared.gone))
    return Judged(check=name, findings=lift(name, findings, waivers), gaps=lift(name, gaps, waivers), notes=notes)


_Seen = tuple[tuple[Finding, ...], tuple[Gap, ...], tuple[str, ...]]


def _seen(check: Check, compared: Compared) -> _Seen:
    try:
        return _parts(check(compared))
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001 - a check that cannot say yes says no, whatever happened to it
        what = error.what if isinstance(error, RelbuildError) else str(error)
        text = f"the check ended with {type(error).__name__}: {what}"
        return (Finding(rule=RAISED, place=EVERYWHERE, text=text),), (), ()


def _parts(outcome: Outcome) -> _Seen:
    match outcome:
        case Passed(notes=notes, warnings=findings):
            return findings, (), notes
        case Broken(findings=findings, gaps=gaps, notes=notes):
            return findings, gaps, notes
        case NotChecked(gaps=gaps, warnings=findings, notes=notes):
            return findings, gaps, notes
        case _:
            assert_never(outcome)


def _nobody(_: Compared) -> Outcome:
    return NotChecked(gaps=(Gap(rule="missing", place=EVERYWHERE, reason="nobody looked"),))


def _gone(artifact: Released) -> Finding:
    text = f"the baseline has {artifact.path}, and this release has nothing in its place"
    return Finding(rule="artifact_gone", place=artifact.place, text=text)


def _lifts(waiver: Waiver, judged: Judged) -> bool:
    things: tuple[Finding | Gap, ...] = (*judged.findings, *judged.gaps)
    return any(waiver.lifts(judged.check, each) for each in things)
