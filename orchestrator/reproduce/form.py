"""The result of a reproduction as JSON (relbuild/reproduction/v1), and the in-toto statement about it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, assert_never

from builders.world import Axis
from orchestrator import __version__
from orchestrator.canonical import Json, canonical_json
from orchestrator.reproduce.values import (
    AxisOutcome,
    AxisSkipped,
    AxisVaried,
    Bad,
    Fail,
    Good,
    Outcome,
    Reproduced,
    Reproduction,
    Skip,
    error_of,
)

RESULT: Final = "relbuild/reproduction/v1"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "urn:relbuild:rebuild:v1"
MANIFEST: Final = "manifest.json"
TIME_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"


def result_json(said: Reproduction) -> bytes:
    """Write all that a run found, for those who ran it: it may name paths of this machine."""
    error = error_of(said)
    return canonical_json(
        {
            "schema": RESULT,
            "project": said.project,
            "version": said.version,
            "subject": said.subject,
            "time": _written(said.time),
            "passed": error is None,
            "exit_code": error.exit_code if error else 0,
            "source": said.source,
            "seconds": round(said.seconds, 1),
            "asked": said.asked,
            "artifacts": [{**_artifact(each), **_private(each.outcome)} for each in said.artifacts],
        }
    )


def statement_json(said: Reproduction, key_ids: Sequence[str]) -> bytes:
    """Write the statement that gets signed. It names nothing of the machine that the rebuild ran on."""
    subjects: list[Json] = [{"name": MANIFEST, "digest": {"sha256": said.subject}}]
    subjects += [{"name": str(each.path), "digest": {"sha256": each.sha256}} for each in said.artifacts]
    return canonical_json(
        {
            "_type": STATEMENT,
            "subject": subjects,
            "predicateType": PREDICATE,
            "predicate": {
                "release": {"project": said.project, "version": said.version, "artifacts": said.asked},
                "rebuilder": {"keys": list(key_ids), "version": {"relbuild": __version__}},
                "timeRebuilt": _written(said.time),
                "artifacts": [_artifact(each) for each in said.artifacts],
            },
        }
    )


def axes_json(axes: Mapping[Axis, AxisOutcome]) -> list[Json]:
    """List every axis that was asked for: both values, or why the worlds were the same on it."""
    return [{"axis": axis.value, **_axis(outcome)} for axis, outcome in axes.items()]


def _artifact(each: Reproduced) -> dict[str, Json]:
    return {
        "name": str(each.path),
        "sha256": each.sha256,
        "cell": each.cell,
        "verdict": each.verdict.value,
        "builder": each.builder,
        "toolchain": each.toolchain,
        "axes": axes_json(each.axes),
        **_public(each.outcome),
    }


def _public(outcome: Outcome) -> dict[str, Json]:
    match outcome:
        case Good():
            return {}
        case Bad(rebuilt_sha256=digest, causes=causes, guilty=guilty, unstable=unstable):
            return {
                "rebuilt_sha256": digest,
                "causes": [{"kind": cause.kind, "place": cause.place} for cause in causes],
                "guilty_axes": [axis.value for axis in guilty],
                "differs_in_the_same_world": unstable,
            }
        case Fail(error=error):
            return {"error": type(error).__name__, "exit_code": error.exit_code}
        case Skip():
            return {}
        case _:
            assert_never(outcome)


def _private(outcome: Outcome) -> dict[str, Json]:
    match outcome:
        case Bad(causes=causes, report=report, kept=kept):
            told: list[Json] = [{"kind": each.kind, "place": each.place, "text": each.text} for each in causes]
            return {"causes": told, "diffoscope": report, "kept": kept.name if kept else ""}
        case Fail(error=error, log=log):
            return {"text": error.what, "next_step": error.next_step, "log": log.name if log else ""}
        case Skip(reason=reason):
            return {"reason": reason}
        case Good():
            return {}
        case _:
            assert_never(outcome)


def _axis(outcome: AxisOutcome) -> dict[str, Json]:
    match outcome:
        case AxisVaried(usual=usual, other=other, limits=limits):
            return {"varied": True, "release": usual, "rebuild": other, "limits": limits}
        case AxisSkipped(reason=reason):
            return {"varied": False, "reason": reason}
        case _:
            assert_never(outcome)


def _written(time: datetime) -> str:
    return time.astimezone(UTC).strftime(TIME_FORM)
