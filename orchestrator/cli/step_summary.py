"""The step summary that a CI service shows below a job, where it names a file for that; GitLab has none."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.model import BuildReport, StagedRelease

SUMMARY_BYTES = 1 << 20
"""What a step may show on GitHub: https://docs.github.com/actions/using-workflows/workflow-commands-for-github-actions."""
_CUT = "\nThe rest of this summary is left out: it is larger than a step may show.\n"


def add(markdown: str) -> None:
    """Add a part to the step's summary; where that cannot be written, say so, and go on: nothing hangs on it."""
    if not (named := os.environ.get("GITHUB_STEP_SUMMARY")):
        return
    path = Path(named)
    try:
        # The service drops a summary that is larger as a whole, so what earlier commands of the step wrote counts.
        room = SUMMARY_BYTES - (path.stat().st_size if path.exists() else 0)
        with path.open("a", encoding="utf-8") as file:
            file.write(cut_to(markdown, room))
    except OSError as error:
        print(f"relbuild: the step summary {named} cannot be written: {error.strerror}", file=sys.stderr)


def of_run(staged: "StagedRelease | None", report: "BuildReport", lines: Sequence[str]) -> str:
    """Give what a run built: a line for each cell, and a table of what is staged."""
    cells = "\n".join(f"- {text.splitlines()[0]}" for text in lines)
    head = f"## {report.plan.project} {report.plan.version}\n\n{cells}\n"
    if staged is None:
        return head
    rows = "\n".join(
        f"| `{artifact.path}` | {artifact.target} | {artifact.size_bytes:,} | `{artifact.sha256}` |"
        for artifact in staged.artifacts
    )
    return f"{head}\n| artifact | target | bytes | SHA-256 |\n| --- | --- | ---: | --- |\n{rows}\n"


def of_text(head: str, text: str) -> str:
    """Give what a command printed below a heading, as it is: nothing in it is read as markup."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"## {head}\n\n{fence}text\n{text.rstrip()}\n{fence}\n"


def cut_to(text: str, room: int) -> str:
    """Keep the whole lines of a text that fit into so many bytes of UTF-8, and say where some are left out."""
    if len(text.encode()) <= room:
        return text
    kept, left = [], room - len(_CUT.encode())
    for each in text.splitlines(keepends=True):
        left -= len(each.encode())
        if left < 0:
            break
        kept.append(each)
    return "".join([*kept, _CUT]) if room >= len(_CUT.encode()) else ""
