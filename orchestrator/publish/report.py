"""What a publish tells afterwards, to programs (JSON) and to people (text); its last line is the state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from builders.errors import RelbuildError
from orchestrator.canonical import Json, canonical_json
from orchestrator.publication import IndexedFile, PolicyMode, Promotion, PublicationState, StageTime
from orchestrator.publish.desk import STAGES, state_of

SCHEMA: Final = "relbuild/publication/v1"

_LAST_LINES: Final = {
    PublicationState.NOT_PUBLISHED: "not published",
    PublicationState.CLAIMED: "claimed (run recover)",
    PublicationState.PUBLISHED: "published",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationReport:
    """A publish that ended, well or not. `promotion` is None where it did not end well."""

    version: str
    state: PublicationState
    exit_code: int
    repository: str
    policy_mode: PolicyMode
    promotion: Promotion | None
    verification: Mapping[str, Json]
    validation: Mapping[str, Json] | None
    warnings: tuple[str, ...]
    errors: tuple[str, ...]
    repository_note: str = ""
    """Which way the bytes took, where the store has several."""

    @property
    def status(self) -> str:
        return "success" if self.exit_code == 0 else "failed"

    @property
    def state_line(self) -> str:
        """Give the last line of every publish."""
        return _LAST_LINES[self.state]

    @property
    def summary(self) -> str:
        """Say in one line what happened."""
        match self.promotion:
            case None:
                return f"{self.version} is not out: {self.errors[0] if self.errors else 'it failed'}"
            case Promotion(no_op=True, revision=revision):
                return f"{self.version} was published before with the same bytes (index revision {revision:,})"
            case Promotion(files=files, total_bytes=total, revision=revision):
                return f"{self.version}: {len(files):,} files, {total:,} bytes, index revision {revision:,}"


def report_of(
    version: str, outcome: Promotion | BaseException, *, repository: str, policy_mode: PolicyMode,
    verification: Mapping[str, Json], validation: Mapping[str, Json] | None, warnings: Sequence[str] = (),
    errors: Sequence[str] = (), repository_note: str = "",
) -> PublicationReport:  # fmt: skip
    """Make the report of a promotion, or of the error that it ended with."""
    promoted = isinstance(outcome, Promotion)
    return PublicationReport(
        version=version,
        state=outcome.state if isinstance(outcome, Promotion) else state_of(outcome),
        exit_code=0 if promoted else _code(outcome),
        repository=repository,
        repository_note=repository_note,
        policy_mode=policy_mode,
        promotion=outcome if isinstance(outcome, Promotion) else None,
        verification=verification,
        validation=validation,
        warnings=tuple(warnings),
        errors=(*errors, *(() if isinstance(outcome, Promotion) else (_words(outcome),))),
    )


def report_json(report: PublicationReport) -> bytes:
    """Write the report for programs."""
    done = report.promotion
    return canonical_json(
        {
            "schema": SCHEMA,
            "version": report.version,
            "status": report.status,
            "state": report.state.value,
            "exit_code": report.exit_code,
            "summary": report.summary,
            "policy_mode": report.policy_mode.value,
            "repository": report.repository,
            "repository_note": report.repository_note,
            "no_op": done.no_op if done else False,
            "stages": [{"name": stage.name, "ms": stage.ms} for stage in _stages(done)],
            "artifacts_published": [_file_json(file) for file in done.files] if done else [],
            "total_bytes": done.total_bytes if done else 0,
            "warnings": list(report.warnings),
            "errors": list(report.errors),
            "verification": report.verification,
            "validation": report.validation,
            "index": {"revision": done.revision, "sha256": done.index_sha256} if done else None,
            "audit": {"audit_id": done.audit_id, "sha256": done.audit_sha256} if done else None,
        }
    )


def report_text(report: PublicationReport) -> str:
    """Write the report for people; the last line is the state."""
    done = report.promotion
    lines = [
        f"Publication of {report.version}: {report.status}",
        report.summary,
        f"Repository: {report.repository}",
        *([f"Moves: {report.repository_note}"] if report.repository_note else []),
        f"Policy: {report.policy_mode.value}",
        f"Verification: {judged(report.verification)}",
        f"Validation: {judged(report.validation)}",
    ]
    if done:
        lines += [f"Audit: {done.audit_id} ({done.audit_sha256})", f"Index: {done.index_sha256}", "Stages:"]
        lines += [f"  {stage.name:<24}{stage.ms:>12,.1f} ms" for stage in done.stages]
        lines += ["Files:", *(f"  {file.size_bytes:>15,}  {file.sha256}  {file.path}" for file in done.files)]
    lines += [f"Warning: {text}" for text in report.warnings]
    lines += [f"Error: {text}" for text in report.errors]
    return "\n".join([*lines, report.state_line]) + "\n"


def _stages(done: Promotion | None) -> tuple[StageTime, ...]:
    return done.stages if done else tuple(StageTime(name=name, ms=0.0) for name in STAGES)


def _file_json(file: IndexedFile) -> dict[str, Json]:
    return {"path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256}


def judged(result: Mapping[str, Json] | None) -> str:
    if not result:
        return "not done"
    return "passed" if result.get("passed") is True else "failed"


def _code(outcome: object) -> int:
    if isinstance(outcome, RelbuildError):
        return outcome.exit_code
    return 130 if isinstance(outcome, KeyboardInterrupt) else 1


def _words(outcome: BaseException) -> str:
    if isinstance(outcome, RelbuildError):
        return f"{type(outcome).__name__}: {outcome.what}"
    return "Interrupted: it was stopped" if isinstance(outcome, KeyboardInterrupt) else type(outcome).__name__
