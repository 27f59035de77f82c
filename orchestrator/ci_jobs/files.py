"""The file of a provider's jobs: as it should be, as it is, and how it gets from one to the other."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from builders.copying import make_folders
from orchestrator.ci_jobs import blocks, github, gitlab, shell, warning
from orchestrator.ci_jobs.graph import Job, job_graph
from orchestrator.ci_jobs.meaning import Difference, differences
from orchestrator.ci_jobs.yaml_text import read_yaml
from orchestrator.ci_rules import CiRules
from orchestrator.errors import CiInvalid
from orchestrator.model import Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class _Provider:
    path: str
    render: Callable[[tuple[Job, ...], CiRules], str]
    head: str
    """What stands before the block of a new file."""
    rules_of: Callable[[CiRules], CiRules]
    hosted: bool = True
    """Whether each job begins on a machine that has nothing yet, and that nobody keeps."""


_PROVIDERS = {
    "github": _Provider(path=github.PATH, render=github.render, head="---\n", rules_of=lambda rules: rules),
    "gitlab": _Provider(path=gitlab.PATH, render=gitlab.render, head="---\n", rules_of=gitlab.rules_of),
    "shell": _Provider(path=shell.PATH, render=shell.render, head=shell.HEAD, rules_of=shell.rules_of, hosted=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """A file of jobs. `found` is its text now, None where there is none; `wanted` keeps what people wrote around.

    `warnings` say what the jobs will not be able to do.
    """

    provider: str
    path: Path
    matrix: Path
    found: str | None
    wanted: str
    warnings: tuple[str, ...] = ()


def job_file(provider: str, matrix: Matrix) -> JobFile:
    """Render the jobs of a matrix for a provider. Raises CiInvalid where the file cannot be read."""
    kind = _PROVIDERS[provider]
    path = matrix.root / kind.path
    found = _text(path)
    parts = blocks.Parts(before=kind.head, block="", after="") if found is None else blocks.split(found, str(path))
    if parts is None:
        raise CiInvalid(
            f"{path} is there, and relbuild did not write it: it has no '{blocks.BEGIN}'",
            next_step="move it away; or put the two lines around what is to be replaced",
        )
    rules = kind.rules_of(matrix.ci)
    if kind.hosted:
        _refuse_without_setup(matrix)
    graph = job_graph(matrix, rules)
    lost = warning.of_repository(matrix, graph) if kind.hosted else None
    block = f"{lost.comment if lost else ''}{kind.render(graph, rules)}"
    wanted = blocks.join(blocks.Parts(before=parts.before, block=block, after=parts.after), provider)
    said = (*((lost.text,) if lost else ()), *warning.of_jobs(matrix, graph))
    return JobFile(provider=provider, path=path, matrix=matrix.file, found=found, wanted=wanted, warnings=said)


def _refuse_without_setup(matrix: Matrix) -> None:
    """Raise CiInvalid where nobody said how a job gets the program: a name on an index would be anybody's."""
    if not matrix.ci.setup:
        raise CiInvalid(
            f"{matrix.file} does not say how a job gets relbuild: [ci] has no `setup`",
            next_step='write shell that installs what is pinned, such as setup = "python3 -m venv .venv && '
            '.venv/bin/pip install --require-hashes -r relbuild.lock"; or setup = "true" where the machine has '
            "`program` already",
        )


def write(file: JobFile) -> bool:
    """Put the file in its place in one step, and tell whether it changed."""
    if file.found == file.wanted:
        return False
    make_folders(file.path.parent)
    fresh = file.path.with_name(f".{file.path.name}.{os.getpid()}")
    try:
        fresh.write_text(file.wanted, encoding="utf-8")
        fresh.chmod(0o755 if file.provider == "shell" else 0o644)
        fresh.replace(file.path)
    except OSError as error:
        raise CiInvalid(f"{file.path} cannot be written: {error.strerror}",
                        next_step="see who owns that folder") from error  # fmt: skip
    finally:
        fresh.unlink(missing_ok=True)
    return True


def compare(file: JobFile) -> tuple[Difference, ...]:
    """Name what the file does otherwise than it should. A script has no meaning but its text."""
    if file.found is None:
        return (Difference(place="the file", text="is not there", grave=True),)
    if file.provider == "shell":
        same = file.found == file.wanted
        return () if same else (Difference(place="the file", text="has other commands in its block"),)
    return differences(read_yaml(file.wanted, str(file.path)), read_yaml(file.found, str(file.path)))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CiInvalid(f"{path} cannot be read: {error}", next_step="move it away and write it anew") from error
