"""Compares a workflow with what it should be, by what it does: jobs, targets, order, runners, permissions, pins."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_SHOWN: Final = 200
_PINNED: Final = re.compile(r"[^@]+@[0-9a-f]{40}|docker://[^@]+@sha256:[0-9a-f]{64}")
_OPEN_DOOR: Final = "pull_request_target"
_SECRET: Final = re.compile(r"\bsecrets\s*(?:\.\s*([A-Za-z0-9_]+)|\b)")
_TOKEN: Final = re.compile(r"\bgithub\s*\.\s*token\b")
_TOP: Final = {
    "on": "what starts it", "workflow": "what starts it", "permissions": "its permissions", "stages": "its stages",
    "concurrency": "what may run at once", "defaults": "its defaults", "default": "its defaults",
    "env": "the environment of every job", "variables": "the environment of every job",
    "before_script": "what runs before every job", "after_script": "what runs after every job",
    "image": "what every job runs in", "services": "what runs beside every job", "cache": "a cache of every job",
    "include": "files that are taken in",
}  # fmt: skip
_MILD: Final = frozenset({"concurrency", "stages", "timeout-minutes", "name", "resource_group"})
"""What opens no door where it differs."""
_MILD_OF_ARTIFACTS: Final = frozenset({"expire_in", "when", "name", "expose_as"})
"""All else says which files leave the job, or who sees them: keys may lie beside them."""

_OF_A_JOB: Final = {
    "needs": "waits for", "runs-on": "runs on", "tags": "runs on", "permissions": "has the permissions",
    "environment": "has the environment", "when": "starts", "resource_group": "has the resource group",
    "artifacts": "hands on", "variables": "has the variables", "name": "is called",
    "timeout-minutes": "may take", "allow_failure": "may fail:", "if": "runs if", "continue-on-error": "goes on:",
    "uses": "calls", "secrets": "gets the secrets", "env": "has the variables",
    "container": "runs in", "services": "runs beside", "strategy": "is run as", "rules": "starts by",
    "before_script": "runs before", "after_script": "runs after", "image": "runs in", "cache": "keeps",
}  # fmt: skip
_KNOWN: Final = frozenset({"name", "run-name", "jobs", *_TOP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A thing that means something else than what would be written. `grave` ones open a door or drop a target."""

    place: str
    text: str
    grave: bool = False


def differences(wanted: Any, found: Any) -> tuple[Difference, ...]:
    """Name all that differs. Both are workflows as they were read."""
    if not isinstance(found, Mapping):
        return (Difference(place="the file", text="is no mapping of keys", grave=True),)
    return (*_top(wanted, found), *_jobs(_jobs_of(wanted), _jobs_of(found)), *_foreign_jobs(wanted, found))


def _top(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    for key, words in _TOP.items():
        if wanted.get(key) != found.get(key) and (key in wanted or key in found):
            text = f"{words} ({key}): {_shown(found.get(key))}, not {_shown(wanted.get(key))}"
            yield Difference(place="the file", text=text, grave=key not in _MILD)
    if _OPEN_DOOR in str(found.get("on")):
        text = f"{_OPEN_DOOR} runs it for strangers' changes, with this project's secrets at hand"
        yield Difference(place="the file", text=text, grave=True)


# --- our jobs ----------------------------------------------------------------------------------------------------


def _jobs(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    for name, job in wanted.items():
        other = found.get(name)
        if not isinstance(other, Mapping):
            target = name.removeprefix("build-") if name.startswith("build-") else ""
            what = f"the target {target} is dropped" if target else "the job is gone"
            yield Difference(place=f"job {name}", text=what, grave=True)
            continue
        yield from _job(name, job, other)
    present = [name for name in found if name in wanted]
    if present != [name for name in wanted if name in found]:
        yield Difference(place="the file", text=f"the order of the jobs is {', '.join(present)}")


def _job(name: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    place = f"job {name}"
    for key in dict.fromkeys((*wanted, *found)):
        if key not in {"steps", "script"} and wanted.get(key) != found.get(key):
            words = _OF_A_JOB.get(key, f"has the key {key}:")
            text = f"{words} {_shown(found.get(key))}, not {_shown(wanted.get(key))}"
            yield Difference(place=place, text=text, grave=_opens(key, wanted.get(key), found.get(key)))
    for secret in sorted(_secrets(found) - _secrets(wanted)):
        yield Difference(place=place, text=f"sees {secret}, which it does not need", grave=True)
    yield from _unpinned(place, found)
    yield from _steps(place, _list(wanted), _list(found))


def _opens(key: str, wanted: Any, found: Any) -> bool:
    """Tell whether a difference below a key of a job opens a door."""
    if key != "artifacts" or not isinstance(wanted, Mapping) or not isinstance(found, Mapping):
        return key not in _MILD
    return any(wanted.get(each) != found.get(each) for each in {*wanted, *found} - _MILD_OF_ARTIFACTS)


def _list(job: Mapping[str, Any]) -> list[Any]:
    steps = job.get("steps", job.get("script", []))
    return steps if isinstance(steps, list) else [steps]


def _steps(place: str, wanted: list[Any], found: list[Any]) -> Iterator[Difference]:
    """Name the steps that are new, gone or otherwise; all of them run with the secrets of their job."""
    ours, theirs = [repr(step) for step in wanted], [repr(step) for step in found]
    for _, begin, end, first, last in _changes(ours, theirs):
        for number, step in enumerate(wanted[begin:end], begin + 1):
            yield Difference(place=f"{place}, step {number}", text=f"is gone: {_shown(step)}", grave=True)
        for number, step in enumerate(found[first:last], first + 1):
            text = f"is not written by relbuild: {_shown(step)}"
            yield Difference(place=f"{place}, step {number}", text=text, grave=True)


def _changes(before: list[str], after: list[str]) -> Iterator[tuple[str, int, int, int, int]]:
    matched = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    return (each for each in matched.get_opcodes() if each[0] != "equal")


# --- jobs of people ----------------------------------------------------------------------------------------------


def _foreign_jobs(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    """Look at jobs of people: they may be there, but none may reach what is kept for ours alone."""
    own = _jobs_of(wanted)
    kept = {secret for job in own.values() for secret in _secrets(job)} - {"github.token"}
    guarded = {name for job in own.values() if (name := _environment(job))}
    for name, job in _jobs_of(found).items():
        if name in own or not isinstance(job, Mapping):
            continue
        place = f"job {name}"
        yield from _unpinned(place, job)
        if job.get("permissions") == "write-all":
            yield Difference(place=place, text="takes the permissions write-all", grave=True)
        for secret in sorted(_secrets(job) & (kept | {"all secrets"})):
            yield Difference(place=place, text=f"sees {secret}, which is kept for jobs of relbuild", grave=True)
        if (environment := _environment(job)) in guarded:
            text = f"enters the environment {environment}, which is kept for jobs of relbuild"
            yield Difference(place=place, text=text, grave=True)


def _unpinned(place: str, job: Mapping[str, Any]) -> Iterator[Difference]:
    places = [(place, job), *((f"{place}, step {number}", step) for number, step in enumerate(_list(job), 1))]
    for where, step in places:
        uses = step.get("uses", "") if isinstance(step, Mapping) else ""
        if isinstance(uses, str) and uses and not uses.startswith("./") and not _PINNED.fullmatch(uses):
            yield Difference(place=where, text=f"the action {uses} is not pinned by a commit", grave=True)


def _secrets(job: Any) -> frozenset[str]:
    """Name the secrets that a job sees; "all secrets" where it is not one by its name."""
    text = str(job)
    named = {f"the secret {found[1]}" if found[1] else "all secrets" for found in _SECRET.finditer(_expressions(text))}
    inherits = isinstance(job, Mapping) and job.get("secrets") == "inherit"
    token = {"github.token"} if _TOKEN.search(_expressions(text)) else set()
    return frozenset(named | token | ({"all secrets"} if inherits else set()))


def _expressions(text: str) -> str:
    return " ; ".join(re.findall(r"\$\{\{(.*?)\}\}", text, re.DOTALL))


def _environment(job: Any) -> str:
    given = job.get("environment", "") if isinstance(job, Mapping) else ""
    name = given.get("name", "") if isinstance(given, Mapping) else given
    return name if isinstance(name, str) else ""


def _jobs_of(workflow: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the jobs: below a key of their own, or beside the other keys."""
    jobs = workflow.get("jobs")
    if isinstance(jobs, Mapping):
        return jobs
    return {key: value for key, value in workflow.items() if key not in _KNOWN}


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
