"""A publish by the command line: how it is to go, what it says, and its state as the last line."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

import typer

from builders.errors import RelbuildError
from orchestrator.cli import step_summary
from orchestrator.publishing_rules import PolicyMode

if TYPE_CHECKING:
    from orchestrator.cli.publisher import Publisher
    from orchestrator.model import Matrix
    from orchestrator.policy_evidence import GateReport
    from orchestrator.publish.report import PublicationReport
    from orchestrator.publishing.request import Attempted
    from orchestrator.trust import VerifiedRelease
    from orchestrator.validation_evidence import Validation

_UNASKED: Final = "no matrix.toml was read, so that none of the rules was asked that only it turns on"
_USUAL: Final = "validation is by its usual rules, because {}; --no-require-validation asks for none"


class _Validating(TypedDict, total=False):
    """What a request says of validation."""

    validation: "Validation"
    validate: "Callable[[], Validation]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How a publish is to go and to be told."""

    policy: PolicyMode | None = None
    require_signatures: bool = False
    require_encryption: bool = False
    json_report: Path | None = None
    text_report: Path | None = None
    dry_run: bool = False
    verbose: bool = False
    as_json: bool = False
    verification: Path | None = None
    validation: Path | None = None
    require_validation: bool | None = None
    """Whether an option asks for a validation; None: it is as [validate] says."""
    baseline: str = ""
    """The version that validation compares with, instead of the last good one."""
    lenient: Mapping[str, str] = field(default_factory=dict)
    firm: frozenset[str] = frozenset()
    """Rules that only warn, each with the option that says so."""
    sign: bool = False
    """Refuse, before anything is built, a release that nobody is to sign."""


def promote_and_tell(
    opened: "Publisher", wishes: Wishes, folder: Path, version: str, matrix: "Matrix | None", *,
    verified: "VerifiedRelease | None" = None,
) -> None:  # fmt: skip
    """Publish, write the reports, and say the state last. Raises typer.Exit with the error's code."""
    from orchestrator import publishing, publishing_evidence  # noqa: PLC0415  (as above)
    from orchestrator.cli import approve, checks, policies, publisher  # noqa: PLC0415
    from orchestrator.errors import PublicationError  # noqa: PLC0415
    from orchestrator.publish.report import report_text  # noqa: PLC0415
    from orchestrator.publishing.request import Request  # noqa: PLC0415

    with state_told_last():
        policy, notes = policies.policy_of(wishes, opened, matrix, publisher.now().date())
        approved = approve.approvals(opened, folder)
        request = Request(
            folder=folder, version=version, verified=verified, dry_run=wishes.dry_run,
            policy=policy, required_targets=publisher.required_targets(matrix),
            earlier=publishing_evidence.read_verification(wishes.verification) if wishes.verification else None,
            reproduction=_reproduced(opened, folder, matrix), checks=checks.gate_report(opened, folder, matrix),
            versions=checks.version_guard(folder, matrix), approvals=approved.held if approved else (),
            notes=(*notes, *(approved.notes if approved else ()), *_left_to_defaults(wishes, matrix)),
            **_validation(wishes, opened, folder, matrix),
        )  # fmt: skip
    done = publishing.publish(request, opened.press(publisher.say(wishes.verbose)))
    unwritten = _write_reports(wishes, done.report)
    head = "Publication (a dry run)" if wishes.dry_run else "Publication"
    step_summary.add(step_summary.of_text(head, report_text(done.report)))
    _tell(done, as_json=wishes.as_json, verbose=wishes.verbose)
    if done.error is None and unwritten:
        raise typer.Exit(PublicationError.exit_code)
    if isinstance(done.error, RelbuildError):
        raise typer.Exit(done.error.exit_code)
    if done.error is not None:
        raise done.error


def _left_to_defaults(wishes: Wishes, matrix: "Matrix | None") -> "Iterator[str]":
    """Say what the configuration says nothing of."""
    if matrix is None:
        yield _UNASKED
    said = wishes.validation is not None or wishes.require_validation is not None
    if not said and (matrix is None or matrix.validation is None):
        yield _USUAL.format(f"{matrix.file.name} has no [validate]" if matrix else "no matrix.toml was read")


def _reproduced(opened: "Publisher", folder: Path, matrix: "Matrix | None") -> "GateReport | None":
    """Say what rebuilders said of a staged release, where [reproduce] asks for it."""
    from orchestrator.cli import publisher  # noqa: PLC0415  (as above)
    from orchestrator.publishing_evidence import read_candidate  # noqa: PLC0415
    from orchestrator.reproduce import gate  # noqa: PLC0415
    from orchestrator.reproduction_rules import ReproductionGate  # noqa: PLC0415
    from orchestrator.verify import trust_of_keys  # noqa: PLC0415

    rules = matrix.reproduce if matrix else None
    if matrix is None or rules is None or rules.gate is ReproductionGate.OFF:
        return None
    roots = (opened.trust, *((trust_of_keys(rules.keys),) if rules.keys else ()))
    staged = read_candidate(folder).staged
    # dist/staging/VERSION lies beside dist/reproductions; so does the staging folder of any other --output.
    return gate.report_on(staged, staged.folder.parent.parent, rules, roots, publisher.now())


def _validation(wishes: Wishes, opened: "Publisher", folder: Path, matrix: "Matrix | None") -> "_Validating":
    """Read the validation that was brought along, or say how to make one where one is asked for."""
    from orchestrator import validation_evidence  # noqa: PLC0415  (as above)
    from orchestrator.cli import policies, publisher, validate  # noqa: PLC0415

    rules, _ = policies.validation_rules(wishes, matrix)
    if wishes.validation is not None:
        whole = rules is not None
        found = validation_evidence.read_validation(wishes.validation, publisher.now(), whole=whole)
        return {"validation": found}
    return {"validate": lambda: validate.for_publication(folder, rules, opened, wishes.baseline)} if rules else {}


def lacks_proof(opened: "Publisher", wishes: Wishes, folder: Path, matrix: "Matrix") -> bool:
    """Tell whether [reproduce] blocks a staged release until it is rebuilt, and nobody lifted that."""
    from orchestrator.cli import policies, publisher  # noqa: PLC0415  (as above)
    from orchestrator.reproduction_rules import ReproductionGate  # noqa: PLC0415

    if matrix.reproduce is None or matrix.reproduce.gate is not ReproductionGate.BLOCK:
        return False
    policy, _ = policies.policy_of(wishes, opened, matrix, publisher.now().date())
    if any(each.rule == "reproducibility" for each in policy.waivers):
        return False
    said = _reproduced(opened, folder, matrix)
    return said is not None and not said.passed


def _write_reports(wishes: Wishes, report: "PublicationReport") -> bool:
    """Write the reports that were asked for; say what cannot be written, and tell whether something could not."""
    from orchestrator.publish.report import report_json, report_text  # noqa: PLC0415  (as above)

    unwritten = False
    papers = (
        (wishes.json_report, report_json(report) if wishes.json_report else b""),
        (wishes.text_report, report_text(report).encode() if wishes.text_report else b""),
    )
    for path, body in papers:
        if path is not None:
            try:
                path.write_bytes(body)
            except OSError as error:
                print(f"relbuild: the report {path} cannot be written: {error.strerror}", file=sys.stderr)
                unwritten = True
    return unwritten


def _tell(done: "Attempted", *, as_json: bool, verbose: bool) -> None:
    from orchestrator.cli import tables  # noqa: PLC0415  (as above)
    from orchestrator.publish.report import judged, report_json  # noqa: PLC0415

    report = done.report
    if done.journal_error:
        print(f"relbuild: {done.journal_error}", file=sys.stderr)
    if isinstance(done.error, RelbuildError):
        for text in report.errors[:-1]:
            if text not in str(done.error):
                print(f"relbuild: {text}", file=sys.stderr)
        print(f"relbuild: {done.error}", file=sys.stderr, flush=True)
    if as_json:
        told = json.loads(report_json(report))
        print(json.dumps({"event": "publication_finished", **told}, sort_keys=True))
        return
    if done.error is None:
        print(report.summary)
        print(f"policy: {report.policy_mode.value}; verification: passed; validation: {judged(report.validation)}")
    print(f"repository: {report.repository}")
    for each in (each for each in done.writes if verbose or not str(each.key).startswith(".staging-")):
        print(f"would {each.verb} {each.key}{f' ({tables.size(each.size_bytes)})' if each.size_bytes else ''}")
    for text in report.warnings:
        print(f"warning: {text}")
    print(report.state_line, flush=True)


@contextmanager
def state_told_last() -> Iterator[None]:
    """Say "not published" as the last line where the block fails: it does so before anything was tried."""
    try:
        yield
    except RelbuildError as error:
        print(f"relbuild: {error}", file=sys.stderr, flush=True)
        print("not published", flush=True)
        raise typer.Exit(error.exit_code) from None
