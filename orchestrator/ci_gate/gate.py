"""Judges the checks of a release's commit for the policy's rule "ci"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from builders.errors import RelbuildError
from builders.names import escaped
from orchestrator.ci_gate.interface import CheckRun, CheckSource
from orchestrator.errors import PolicyViolation
from orchestrator.policy_evidence import GateReport

GREEN: Final = "success"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What a manifest says of where its release comes from. `subject` is the manifest's SHA-256."""

    subject: str
    commit: str
    dirty: bool


def green(release: Released, required: Sequence[str], source: CheckSource) -> GateReport:
    """Say whether every required check of the release's commit is green. Raises nothing that a source should raise."""
    if not _COMMIT.fullmatch(release.commit):
        return _silent(release, "the manifest names no commit")
    if release.dirty:
        return _silent(release, f"the release was built of a changed tree, not of {release.commit}")
    try:
        runs = source.checks(release.commit)
    except RelbuildError as error:
        return _silent(release, f"{type(error).__name__}: {error.what}")
    found = {name: [run for run in runs if run.name == name] for name in required}
    checks = tuple((name, bool(each) and all(run.conclusion == GREEN for run in each)) for name, each in found.items())
    passed = bool(checks) and all(well for _, well in checks)
    lines = [f"\n    {escaped(name)}: {_told(found[name])}" for name, well in checks if not well]
    return GateReport(
        subject=release.subject, passed=passed, text=f"for {release.commit}{''.join(lines)}", checks=checks,
        exit_code=0 if passed else PolicyViolation.exit_code,
    )  # fmt: skip


def _told(runs: Sequence[CheckRun]) -> str:
    if not runs:
        return "nobody made that check"
    words = (f"{run.conclusion or 'has not ended'}{f' ({escaped(run.url)})' if run.url else ''}" for run in runs)
    return ", ".join(words)


def _silent(release: Released, error: str) -> GateReport:
    return GateReport(
        subject=release.subject, passed=False, text="", error=error, exit_code=PolicyViolation.exit_code
    )  # fmt: skip
