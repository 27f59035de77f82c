"""The graph as a workflow of GitHub Actions.

Least permissions, actions pinned by commit, no expression inside a script, secrets only in the jobs that need them.
There is no cache step: each run of this workflow is a release, and what an earlier run of any branch left in a shared
cache is not what a release is built of (zizmor's cache-poisoning). Finished cells travel as signed shards instead.
"""

from typing import Any, Final

from orchestrator.ci_jobs import pins
from orchestrator.ci_jobs.graph import APART, PROOFS, SHARDS, STAGING, Job, Parcel, laying, sweeping
from orchestrator.ci_jobs.yaml_text import LONG_LINES, LONG_LINES_END, yaml_text
from orchestrator.ci_rules import CiRules

PATH: Final = ".github/workflows/release.yml"
_PYTHON_VERSION: Final = "3.12"
_KEPT_DAYS: Final = 5


def render(graph: tuple[Job, ...], rules: CiRules) -> str:
    """Give the text of the managed block."""
    workflow: dict[str, Any] = {
        "name": "release",
        "on": {"push": {"tags": [rules.branch_tags]}, "workflow_dispatch": {}},
        "permissions": {},
        # A publish that was begun is never cancelled: the next run would have to recover it.
        "concurrency": {"group": "release-${{ github.ref }}", "cancel-in-progress": False},
        "defaults": {"run": {"shell": "bash"}},
        "jobs": {job.name: _job(job, rules) for job in graph},
    }
    return LONG_LINES + _with_versions(yaml_text(workflow)) + LONG_LINES_END


def _job(job: Job, rules: CiRules) -> dict[str, Any]:
    found: dict[str, Any] = {"name": job.title, "runs-on": job.runner.label}
    if job.needs:
        found["needs"] = list(job.needs)
    found["permissions"] = {"contents": "read"} | ({"checks": "read"} if job.checks_token else {})
    if job.environment:
        found["environment"] = job.environment
    found["timeout-minutes"] = rules.timeout_minutes
    found["steps"] = _steps(job, rules)
    return found


def _steps(job: Job, rules: CiRules) -> list[dict[str, Any]]:
    fetch: dict[str, Any] = {"persist-credentials": False} | ({"fetch-depth": 0} if job.history else {})
    steps: list[dict[str, Any]] = [
        {"uses": pins.CHECKOUT.uses, "with": fetch},
        {"uses": pins.PYTHON.uses, "with": {"python-version": _PYTHON_VERSION}},
        *(_take(parcel) for parcel in job.takes),
    ]
    setup = f"{APART}\n{rules.setup}" if rules.setup else APART
    steps.append({"name": "Set up relbuild", "run": setup})
    # Last, so that what sets up sees no secret.
    steps += [_lay(path, secret) for path, secret in job.files.items()]
    run: dict[str, Any] = {"name": job.title, "run": "\n".join(job.commands)}
    seen = {name: f"${{{{ secrets.{name} }}}}" for name in job.variables}
    if job.checks_token:
        seen[job.checks_token] = "${{ github.token }}"
    if seen:
        run["env"] = seen
    steps.append(run)
    if job.gives is not None:
        steps.append(_give(job, job.gives))
    if job.files:
        steps.append({"name": "Remove what was laid down", "if": "always()", "run": sweeping(job.files)})
    return steps


def _take(parcel: Parcel) -> dict[str, Any]:
    match parcel:
        case Parcel.PLAN:
            wanted: dict[str, Any] = {"name": "plan", "path": "dist"}
        case Parcel.SHARD:
            wanted = {"pattern": "shard-*", "path": SHARDS, "merge-multiple": True}
        case Parcel.RELEASE:
            wanted = {"name": "release", "path": STAGING}
        case Parcel.PROOF:
            wanted = {"name": "proof", "path": PROOFS}
    return {"uses": pins.DOWNLOAD.uses, "with": wanted}


def _give(job: Job, parcel: Parcel) -> dict[str, Any]:
    name = job.name.replace("build-", "shard-", 1) if parcel is Parcel.SHARD else parcel.value
    kept: dict[str, Any] = {"name": name, "path": job.path, "if-no-files-found": "error", "retention-days": _KEPT_DAYS}
    if parcel is not Parcel.PLAN:
        # A product may well be a file whose name begins with a dot.
        kept["include-hidden-files"] = True
    # A proof that failed is what a person wants to see.
    failed = {"if": "always()"} if parcel is Parcel.PROOF else {}
    return {"uses": pins.UPLOAD.uses} | failed | {"with": kept}


def _lay(path: str, secret: str) -> dict[str, Any]:
    """Write a secret into a file that nobody else reads. It reaches the script by its environment, never its text."""
    script = laying(path, "SECRET", secret)
    return {"name": f"Lay down {path}", "env": {"SECRET": f"${{{{ secrets.{secret} }}}}"}, "run": script}


def _with_versions(text: str) -> str:
    """Put the release of each pinned action behind its commit, where update services look for it."""
    for action in pins.ACTIONS:
        text = text.replace(f"uses: {action.uses}\n", f"uses: {action.uses}  # {action.version}\n")
    return text
