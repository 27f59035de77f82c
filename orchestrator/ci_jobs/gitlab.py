"""The graph as a pipeline of GitLab CI.

Secrets are the project's protected variables, by name (a key of many lines cannot be masked); each job that needs some
names the environment that they can be scoped to. What a variable holds is there for the whole job, its setup too:
GitLab knows no steps.
"""

from dataclasses import replace
from typing import Any, Final

from orchestrator.ci_jobs.graph import APART, PUBLISH, Job, Parcel, laying, sweeping
from orchestrator.ci_jobs.yaml_text import LONG_LINES, LONG_LINES_END, yaml_text
from orchestrator.ci_rules import CiRules

PATH: Final = ".gitlab-ci.yml"
_KEPT: Final = "5 days"


def rules_of(rules: CiRules) -> CiRules:
    """Give the rules as GitLab can follow them: a machine that it has no tag for is none of its own."""
    return replace(rules, runners={target: each for target, each in rules.runners.items() if each.gitlab_tag})


def render(graph: tuple[Job, ...], rules: CiRules) -> str:
    """Give the text of the managed block."""
    stages = list(dict.fromkeys(_stage(job) for job in graph))
    pattern = rules.branch_tags.replace(".", r"\.").replace("*", ".*")
    pipeline: dict[str, Any] = {
        "stages": stages,
        "workflow": {"rules": [{"if": f"$CI_COMMIT_TAG =~ /^{pattern}$/"}, {"if": "$CI_PIPELINE_SOURCE == 'web'"}]},
        "default": {"image": rules.image, "interruptible": False, "timeout": f"{rules.timeout_minutes} minutes"},
    }
    return LONG_LINES + yaml_text(pipeline | {job.name: _job(job, rules) for job in graph}) + LONG_LINES_END


def _stage(job: Job) -> str:
    return "build" if job.target else job.name


def _job(job: Job, rules: CiRules) -> dict[str, Any]:
    found: dict[str, Any] = {"stage": _stage(job)}
    if job.runner.gitlab_tag:
        found["tags"] = [job.runner.gitlab_tag]
    if job.needs:
        found["needs"] = [{"job": name, "artifacts": True} for name in job.needs]
    if job.history:
        found["variables"] = {"GIT_DEPTH": "0"}
    if job.environment:
        # Only what publishes deploys: GitLab holds back all but the newest deployment of an environment.
        found["environment"] = {"name": job.environment} | ({} if job.name == PUBLISH else {"action": "access"})
    if job.name == PUBLISH:
        # A person starts it: protected environments ask for who may.
        found |= {"when": "manual", "allow_failure": False, "resource_group": "publish"}
    laid = (laying(path, secret, secret) for path, secret in job.files.items())
    found["script"] = [APART, *filter(None, [rules.setup]), *laid, *job.commands]
    if job.files:
        found["after_script"] = [sweeping(job.files)]
    if job.gives is not None:
        # A proof that failed is what a person wants to see.
        failed = {"when": "always"} if job.gives is Parcel.PROOF else {}
        found["artifacts"] = {"paths": [job.path], "expire_in": _KEPT} | failed
    return found
