"""The one graph of jobs: plan, a build for each target, merge and sign, verify, rebuild if that gates, publish."""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from orchestrator.ci_rules import ChecksFrom, CiRules, Runner
from orchestrator.errors import CiInvalid
from orchestrator.model import Matrix
from orchestrator.reproduction_rules import ReproductionGate

PLAN, MERGE, VERIFY, REPRODUCE, PUBLISH = "plan", "merge", "verify", "reproduce", "publish"
PLAN_FILE: Final = "dist/plan.json"
SHARDS: Final = "dist/shards"
STAGING: Final = "dist/staging"
PROOFS: Final = "dist/reproductions"
_SHARD_KEY: Final = "dist/keys/shard.key"
_REBUILD_KEY: Final = "dist/keys/rebuild.key"
APART: Final = "mkdir -p dist && printf '*\\n' > dist/.gitignore"
"""What jobs lay into dist/ is then no change of the checkout."""
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")
"""What no service takes in the name of a job."""


class Parcel(StrEnum):
    """What jobs hand on, as plain files."""

    PLAN = "plan"
    SHARD = "shard"
    RELEASE = "release"
    PROOF = "proof"


_PATHS: Final = {
    Parcel.PLAN: PLAN_FILE, Parcel.SHARD: f"{SHARDS}/", Parcel.RELEASE: f"{STAGING}/", Parcel.PROOF: f"{PROOFS}/",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job. `commands` run in order; `files` lay secrets into files, by path; `target` is what a build is for."""

    name: str
    title: str
    runner: Runner
    commands: tuple[str, ...]
    needs: tuple[str, ...] = ()
    takes: tuple[Parcel, ...] = ()
    gives: Parcel | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    variables: tuple[str, ...] = ()
    environment: str = ""
    target: str = ""
    repository: str = ""
    """The folder of a local repository, where it lies in the project: jobs of one machine share it."""
    history: bool = False
    """Whether the version needs the repository's tags and history."""
    checks_token: str = ""
    """The variable that it reads the service's checks by, with a token of the service for reading them."""

    @property
    def secrets(self) -> frozenset[str]:
        """Name each variable that only jobs see which need it."""
        token = (self.checks_token,) if self.checks_token else ()
        return frozenset((*self.files.values(), *self.variables, *token))

    @property
    def path(self) -> str:
        """Say where lies what the job gives."""
        return _PATHS[self.gives or Parcel.PLAN]


def job_graph(matrix: Matrix, rules: CiRules) -> tuple[Job, ...]:
    """Give the jobs of a matrix, in an order that they can run in.

    Raises CiInvalid for targets of one name, and for a proof that no job could give.
    """
    used = {name for product in matrix.products for name in product.targets}
    targets = [name for name in matrix.targets if name in used]
    plan = Job(
        name=PLAN, title="Plan", runner=rules.runner, gives=Parcel.PLAN, history=True,
        commands=(f"{rules.program} plan --json{_hosts(targets, rules)} > {PLAN_FILE}",),
    )  # fmt: skip
    builds = tuple(_build(target, rules) for target in targets)
    _refuse_twins(builds)
    proof = (_reproduce(targets, rules),) if _blocks(matrix) else ()
    publish = (_publish(matrix, rules, proof),) if matrix.repository else ()
    return (plan, *builds, _merge(builds, rules), _verify(rules), *proof, *publish)


def _merge(builds: tuple[Job, ...], rules: CiRules) -> Job:
    return Job(
        name=MERGE, title="Merge and sign", runner=rules.runner, needs=(PLAN, *(each.name for each in builds)),
        takes=(Parcel.PLAN, Parcel.SHARD), gives=Parcel.RELEASE, history=True, environment=rules.sign_environment,
        files={**rules.files, **rules.sign_files}, variables=rules.sign_variables,
        commands=(f"{rules.program} merge --plan {PLAN_FILE} {SHARDS}/*",),
    )  # fmt: skip


def _verify(rules: CiRules) -> Job:
    return Job(
        name=VERIFY, title="Verify as a stranger", runner=rules.runner, needs=(MERGE,), takes=(Parcel.RELEASE,),
        files=rules.files, commands=(f"{rules.program} verify {STAGING}/*",),
    )  # fmt: skip


def _reproduce(targets: list[str], rules: CiRules) -> Job:
    """Rebuild all on one machine, with a key of its own: recipes run there, so no release key is there."""
    if foreign := _hosts(targets, rules):
        raise CiInvalid(
            f'[reproduce] has gate = "block", and no one machine can rebuild what [ci.runners] spreads over '
            f"several kinds ({foreign.strip()})",
            next_step='leave out `host` in [ci.runners], so that all is cross-built; or gate = "warn"',
        )
    return Job(
        name=REPRODUCE, title="Rebuild in another world", runner=rules.runner, needs=(MERGE,), takes=(Parcel.RELEASE,),
        gives=Parcel.PROOF, history=True, environment=rules.rebuild_environment,
        files={**rules.files, _REBUILD_KEY: rules.rebuild_key},
        commands=(f"{rules.program} reproduce --staged {STAGING}/* --key {_REBUILD_KEY}",),
    )  # fmt: skip


def _publish(matrix: Matrix, rules: CiRules, proof: tuple[Job, ...]) -> Job:
    return Job(
        name=PUBLISH, title="Publish", runner=rules.runner, needs=(MERGE, VERIFY, *(job.name for job in proof)),
        takes=(Parcel.RELEASE, *(job.gives for job in proof if job.gives)),
        environment=rules.environment, files={**rules.files, **rules.publish_files}, repository=_repository(matrix),
        variables=rules.publish_variables, history=True, checks_token=_checks_token(rules),
        commands=(f"{rules.program} publish --release-dir {STAGING}/*",),
    )  # fmt: skip


def _blocks(matrix: Matrix) -> bool:
    return matrix.reproduce is not None and matrix.reproduce.gate is ReproductionGate.BLOCK


def _build(target: str, rules: CiRules) -> Job:
    return Job(
        name=f"build-{_NOT_IN_A_NAME.sub('-', target)}", title=f"Build {target}", target=target,
        runner=rules.runners.get(target, rules.runner), needs=(PLAN,), takes=(Parcel.PLAN,), gives=Parcel.SHARD,
        files={_SHARD_KEY: rules.shard_key}, environment=rules.build_environment,
        commands=(
            f"{rules.program} build --plan {PLAN_FILE} --targets {target} --shard-key {_SHARD_KEY}",
        ),
    )  # fmt: skip


def _refuse_twins(builds: tuple[Job, ...]) -> None:
    """Raise CiInvalid where two targets would give jobs of one name, of which one would be lost."""
    seen: dict[str, str] = {}
    for job in builds:
        # A shell's functions have no dash, and some services no capitals.
        name = job.name.lower().replace("-", "_")
        if (other := seen.setdefault(name, job.target)) != job.target:
            raise CiInvalid(f"the targets {other} and {job.target} would both be built by the job {job.name}",
                            next_step="rename one of them in [targets]")  # fmt: skip


def _checks_token(rules: CiRules) -> str:
    asks = bool(rules.checks.required) and rules.checks.source is ChecksFrom.GITHUB
    return rules.checks.token if asks else ""


def _repository(matrix: Matrix) -> str:
    place = matrix.repository.repository.path if matrix.repository else None
    inside = place is not None and place.is_relative_to(matrix.root)
    return place.relative_to(matrix.root).as_posix() if place and inside else ""


def _hosts(targets: list[str], rules: CiRules) -> str:
    """Say which targets are built on machines of another kind than the planner's."""
    foreign = {target: rules.runners[target].host for target in targets if target in rules.runners}
    return "".join(f" --host {target}={host}" for target, host in foreign.items() if host != rules.runner.host)


def sweeping(paths: Iterable[str]) -> str:
    """Give the shell that removes what was laid down: a runner that is kept keeps no secret."""
    return f"rm -rf -- {shlex.join(paths)}"


def laying(path: str, variable: str, called: str) -> str:
    """Give the shell that writes a variable into a file that nobody else reads; a folder's is a tar.gz in base64.

    `called` is what people know the secret by: one that is not set is told by that name.
    """
    there = f': "${{{variable}:?the secret {called} is not set}}"'
    if path.endswith("/"):
        unpack = f'printf \'%s\' "${variable}" | base64 -d | tar --no-same-owner -xz -C "{path}"'
        return f'{there}\n(umask 077 && mkdir -p "{path}" && {unpack})'
    return f'{there}\nmkdir -p "$(dirname "{path}")" && (umask 077 && printf \'%s\\n\' "${variable}" > "{path}")'
