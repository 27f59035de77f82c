"""What `[ci]` says: how generated jobs run and which secrets which of them sees, and what a publication waits for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class ChecksFrom(StrEnum):
    """Who says which checks of a commit are green."""

    FILE = "file"
    GITHUB = "github"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRules:
    """Which checks must be green before a commit's release is published; none asks for nothing.

    file: `file`, signed by a key of the role "ci". github: `repository` (OWNER/NAME) at `api`, with the token that the
    variable `token` holds.
    """

    required: tuple[str, ...] = ()
    source: ChecksFrom = ChecksFrom.FILE
    file: Path = Path("dist/checks.json")
    repository: str = ""
    api: str = ""
    token: str = "GITHUB_TOKEN"  # noqa: S105 - the name of a variable, not what it holds


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRules:
    """Whether published versions are judged by strict SemVer, and whether they may be older than the newest."""

    strict: bool = False
    allow_older: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A machine of the provider. `host` is the target that it is itself.

    `label` is GitHub's word for it; `gitlab_tag` GitLab's, where "" takes any runner of the project.
    """

    label: str
    host: str
    gitlab_tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CiRules:
    """`setup` is shell that makes `program` runnable. `runners` are by target; others run on `runner`.

    `shard_key` and `rebuild_key` name the secrets with the keys of machines that build. `sign_files` and
    `publish_files` lay secrets into files of the project; `sign_variables` and `publish_variables` pass secrets by
    their own name.
    """

    setup: str = ""
    program: str = "relbuild"
    runner: Runner = Runner(label="ubuntu-24.04", host="x86_64")
    runners: Mapping[str, Runner] = field(default_factory=dict)
    branch_tags: str = "v*"
    environment: str = "release"
    sign_environment: str = "signing"
    build_environment: str = "build"
    rebuild_environment: str = "rebuild"
    shard_key: str = "RELBUILD_SHARD_KEY"
    rebuild_key: str = "RELBUILD_REBUILD_KEY"
    files: Mapping[str, str] = field(default_factory=dict)
    """Laid into every job that looks at the release: a trust file that is not committed."""
    sign_files: Mapping[str, str] = field(default_factory=dict)
    publish_files: Mapping[str, str] = field(default_factory=dict)
    sign_variables: tuple[str, ...] = ()
    publish_variables: tuple[str, ...] = ()
    timeout_minutes: int = 60
    image: str = "python:3.12-bookworm"
    """gitlab: what the jobs run in."""
    checks: CheckRules = CheckRules()
    versions: VersionRules = VersionRules()
