"""Makes both sides of a comparison from folders of real files, for the checks that look into payloads."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from builders.command import capture, find_program
from builders.model import SmokeHow, SmokeRun
from builders.targets import host
from orchestrator.model import ArtifactKind
from orchestrator.validate.runner import compare
from orchestrator.validate.values import (
    Broken,
    Compared,
    Finding,
    NotChecked,
    Outcome,
    PackedFile,
    Passed,
    Released,
    Side,
)
from orchestrator.validation_rules import ValidationRules

HERE = host().name
QUIET = hashlib.sha256(b"").hexdigest()
RULES = ValidationRules()


@dataclass(frozen=True, kw_only=True)
class Made:
    """A release of one artifact: its folder and what is told of it. `packed` is the artifact's own size."""

    folder: Path
    version: str = "1.0.0"
    smoke: Sequence[tuple[Sequence[str], int]] = ()
    target: str = HERE
    packed: int = 1000
    cell_key: str = "k1"
    cyclonedx: Mapping[str, Any] | None = None
    findings: tuple[Mapping[str, str], ...] = ()


def side(made: Made) -> Side:
    files = tuple(
        PackedFile(
            path=PurePosixPath(path.relative_to(made.folder)), size_bytes=path.stat().st_size, sha256="",
            executable=True,
        )
        for path in sorted(made.folder.rglob("*"))
        if path.is_file()
    )  # fmt: skip
    runs = tuple(SmokeRun(run=tuple(run), exit=code, stdout_sha256=QUIET) for run, code in made.smoke)
    released = Released(
        path="tool.tar.gz", kind=ArtifactKind.ARCHIVE, product="tool", target=made.target, size_bytes=made.packed,
        sha256=hashlib.sha256(made.version.encode()).hexdigest(), root="", files=files, cell_key=made.cell_key,
        smoke_how=SmokeHow.NATIVE if runs else SmokeHow.NONE, smoke_tests=len(runs), smoke_note="",
        smoke_recorded=True, smoke=runs, spdx={}, cyclonedx=made.cyclonedx or {}, provenance={},
    )  # fmt: skip
    manifest = {"artifacts": [{"path": "tool.tar.gz", "made": {"findings": list(made.findings)}}]}
    return Side(
        version=made.version, manifest_sha256="0" * 64, manifest=manifest, artifacts=(released,),
        payload=lambda _: made.folder,
    )  # fmt: skip


def compared(new: Made, old: Made | None, rules: ValidationRules = RULES, cells: Path | None = None) -> Compared:
    return compare(side(new), side(old) if old else None, rules, cells)


def errors(outcome: Outcome) -> list[Finding]:
    """Give the findings of a check that failed."""
    assert isinstance(outcome, Broken), outcome
    return [each for each in outcome.findings if each.severity.value == "error"]


def passed(outcome: Outcome) -> Passed:
    assert isinstance(outcome, Passed), outcome
    return outcome


def gaps(outcome: Outcome) -> list[str]:
    """Give the reasons of a check that did not see everything and found nothing wrong."""
    assert isinstance(outcome, NotChecked), outcome
    return [f"{each.rule}: {each.reason}" for each in outcome.gaps]


def compile_c(source: str, to: Path, *flags: str) -> Path:
    """Compile and link one C text with the machine's own compiler."""
    if find_program("gcc") is None:
        pytest.skip("no gcc on this machine")
    to.parent.mkdir(parents=True, exist_ok=True)
    argv = ["gcc", "-O1", "-x", "c", "-", "-x", "none", *flags, "-o", str(to)]
    done = capture(argv, timeout_s=120, stdin=source.encode())
    assert done.exit_code == 0, done.stderr.decode()
    return to
