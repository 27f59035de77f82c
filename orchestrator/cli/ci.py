"""`relbuild ci`: the jobs of a release for a CI service, or as a shell script."""

import difflib
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.ci_jobs.files import JobFile


class Provider(StrEnum):
    GITHUB = "github"
    GITLAB = "gitlab"
    SHELL = "shell"


def ci(
    provider: Annotated[Provider, typer.Argument(help="What runs the jobs.")],
    write: Annotated[bool, typer.Option("--write", help="Write the file; what stands around the block stays.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Compare what the file does with what it should; say what differs.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show what --write would change.")] = False,
    config: options.Config = None,
) -> None:
    """Render plan, a build for each target, merge, verify and publish as jobs; without options, print them."""
    from orchestrator.ci_jobs import files  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.cli import wire  # noqa: PLC0415

    if write + check + diff > 1:
        raise typer.BadParameter("--write, --check and --diff are three things: give one")
    loaded = wire.load_matrix(config)
    job_file = files.job_file(provider.value, loaded)
    for text in job_file.warnings:
        print(f"warning: {text}", file=sys.stderr)
    if check:
        _check(job_file)
    elif write:
        changed = files.write(job_file)
        print(f"{job_file.path} {'is written' if changed else 'is as it should be'}")
    elif diff:
        _diff(job_file)
    else:
        print(job_file.wanted, end="")


def _check(job_file: "JobFile") -> None:
    from orchestrator.ci_jobs import files  # noqa: PLC0415  (as above)
    from orchestrator.errors import CiDrift  # noqa: PLC0415

    found = files.compare(job_file)
    for each in found:
        print(f"{'DANGER' if each.grave else 'differs'}: {each.place}: {each.text}", file=sys.stderr)
    if found:
        raise CiDrift(
            f"{job_file.path} does not do what {job_file.matrix} says: {len(found)} differences, "
            f"{sum(each.grave for each in found)} of them dangerous",
            next_step=f"`relbuild ci {job_file.provider} --diff` shows them as text; --write puts them right",
        )
    print(f"{job_file.path} does what {job_file.matrix} says")


def _diff(job_file: "JobFile") -> None:
    before, after = (text.splitlines(keepends=True) for text in (job_file.found or "", job_file.wanted))
    name = str(job_file.path)
    print("".join(difflib.unified_diff(before, after, fromfile=name, tofile=f"{name} (written)")), end="")
