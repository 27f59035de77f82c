"""From the shape of [ci] to its rules."""

from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.ci_rules import CheckRules, ChecksFrom, CiRules, Runner, VersionRules
from orchestrator.config.ci_shape import CiShape, RunnerShape
from orchestrator.config.problems import Draft
from orchestrator.config.signing import full_path

_HERE = frozenset({"127.0.0.1", "::1", "localhost"})


def ci(shape: CiShape | None, root: Path, targets: Collection[str], drafts: list[Draft]) -> CiRules:
    """Give the rules, the usual ones where nothing is said, and add a draft for each target that nobody knows."""
    # Who had a matrix.toml before there was [ci] keeps publishing as before.
    versions = VersionRules(strict=shape is not None and shape.semver == "strict",
                            allow_older=shape is not None and shape.allow_older)  # fmt: skip
    shape = shape or CiShape()
    named = [("runner", "host", shape.runner.host)]
    for target, runner in shape.runners.items():
        named += [("runners", target, target), ("runners", target, runner.host)]
    for table, key, target in named:
        if target not in targets:
            what = f"{target!r} is no target"
            drafts.append(Draft(path=("ci", table, key), what=what, suggestion="`relbuild plan` lists them"))
    if shape.required_checks and shape.checks_from == "github" and shape.checks_repository is None:
        what = 'checks_from = "github" needs checks_repository'
        drafts.append(Draft(path=("ci", "checks_repository"), what=what, suggestion='write it as "OWNER/NAME"'))
    if urlsplit(shape.checks_api).scheme != "https" and urlsplit(shape.checks_api).hostname not in _HERE:
        what = "checks_api is not https, and the token would be there for all to read"
        drafts.append(Draft(path=("ci", "checks_api"), what=what, suggestion="write it with https://"))
    return CiRules(
        setup=(shape.setup or "").rstrip("\n"),
        program=shape.program,
        runner=_runner(shape.runner),
        runners={target: _runner(runner) for target, runner in shape.runners.items()},
        branch_tags=shape.tags,
        environment=shape.environment,
        sign_environment=shape.sign_environment,
        build_environment=shape.build_environment,
        rebuild_environment=shape.rebuild_environment,
        shard_key=shape.shard_key,
        rebuild_key=shape.rebuild_key,
        files=dict(shape.files),
        sign_files=dict(shape.sign_files),
        publish_files=dict(shape.publish_files),
        sign_variables=tuple(shape.sign_variables),
        publish_variables=tuple(shape.publish_variables),
        timeout_minutes=shape.timeout_minutes,
        image=shape.image,
        checks=_checks(shape, root),
        versions=versions,
    )


def _checks(shape: CiShape, root: Path) -> CheckRules:
    return CheckRules(
        required=tuple(dict.fromkeys(shape.required_checks)),
        source=ChecksFrom(shape.checks_from),
        file=full_path(shape.checks_file, root),
        repository=shape.checks_repository or "",
        api=shape.checks_api.rstrip("/"),
        token=shape.checks_token,
    )


def _runner(shape: RunnerShape) -> Runner:
    return Runner(label=shape.label, host=shape.host, gitlab_tag=shape.gitlab_tag or "")
