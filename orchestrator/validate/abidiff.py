"""Asks libabigail's abidiff, where it is installed, what changed behind a library's names: types, sizes, layouts."""

import os
from pathlib import Path
from typing import Final

from builders import command
from builders.binaries.facts import printable
from builders.errors import TimedOut, ToolchainUnavailable
from orchestrator.validate.values import Finding, Gap
from orchestrator.validation_rules import AbiTool, Severity

_TIMEOUT_S: Final = 300.0
_FAILED, _CHANGED, _INCOMPATIBLE = 0b0011, 0b0100, 0b1000
"""Bits of its exit code (abidiff(1), "Return values")."""
_SHOWN_LINES: Final = 12


def ask(old: Path, new: Path, place: str, tool: AbiTool) -> tuple[list[Finding], list[Gap]]:
    """Compare two builds of a library. An incompatible change is an error, any other a warning."""
    program = None if tool is AbiTool.OFF else command.find_program("abidiff")
    if program is None:
        wanted = tool is AbiTool.REQUIRE
        reason = "`abidiff` is required, and not on this machine: install abigail-tools"
        return [], [Gap(rule="abidiff", place=place, reason=reason)] if wanted else []
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": "/"}
    try:
        done = command.capture(
            [os.fspath(program), "--no-default-suppression", "--no-added-syms", os.fspath(old), os.fspath(new)],
            env=env, timeout_s=_TIMEOUT_S,
        )  # fmt: skip
    except (TimedOut, ToolchainUnavailable) as error:
        return [], [Gap(rule="abidiff", place=place, reason=error.what)]
    if done.exit_code < 0 or done.exit_code & _FAILED:
        return [], [
            Gap(rule="abidiff", place=place, reason=f"`abidiff` failed: {_clipped(done.stderr or done.stdout)}")
        ]
    if not done.exit_code & (_CHANGED | _INCOMPATIBLE):
        return [], []
    grave = Severity.ERROR if done.exit_code & _INCOMPATIBLE else Severity.WARN
    text = f"`abidiff` found changes of the binary interface: {_clipped(done.stdout)}"
    return [Finding(rule="abidiff", place=place, text=text, severity=grave)], []


def _clipped(said: bytes) -> str:
    lines = [printable(line.strip()) for line in said.splitlines() if line.strip()]
    more = f"; and {len(lines) - _SHOWN_LINES} lines more" if len(lines) > _SHOWN_LINES else ""
    return "; ".join(lines[:_SHOWN_LINES]) + more
