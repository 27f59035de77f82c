"""The shape of [ci]."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from orchestrator.config import texts
from orchestrator.config.base_shape import Shape

_PLAIN = r"[A-Za-z0-9_.][A-Za-z0-9_./-]{0,200}"
# What stands in a job's script is a word there, whatever it holds.
JobPath = Annotated[texts.FolderPath, texts.Rule(_PLAIN, "a plain path (letters, digits and . _ / -)")]
Program = Annotated[str, texts.Rule(rf"/?{_PLAIN}", "a program's name or path (letters, digits and . _ / -)")]
TagGlob = Annotated[str, texts.Rule(r"[A-Za-z0-9_.*-]{1,100}", "a glob of tags (letters, digits and . _ * -)")]
_LABEL = r"[A-Za-z0-9][A-Za-z0-9._/ -]{0,98}[A-Za-z0-9]|[A-Za-z0-9]"
Label = Annotated[str, texts.Rule(_LABEL, "a runner's label (letters, digits, spaces and . _ / -)")]
_IMAGE = r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}"
Image = Annotated[str, texts.Rule(_IMAGE, "the name of an image (letters, digits and . _ / : @ -)")]
CheckName = Annotated[str, AfterValidator(texts.line), AfterValidator(texts.not_empty), Field(max_length=200)]
Slug = Annotated[str, texts.Rule(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}", "a repository (OWNER/NAME)")]


def _without_expressions(value: str) -> str:
    if "${{" in value:
        raise texts.broken("it holds ${{, which the service would put into the script", "read a variable instead")
    return value


Setup = Annotated[texts.Script, AfterValidator(_without_expressions)]


class RunnerShape(Shape):
    """A machine of the provider."""

    label: Label = Field(description="What GitHub calls it: runs-on.")
    gitlab_tag: Label | None = Field(
        default=None,
        description="The tag of a GitLab runner. Without one, `runner` takes any; a target's row is GitHub's alone.",
    )
    host: texts.TargetName = Field(default="x86_64", description="The target that it is itself.")


class CiShape(Shape):
    """How generated jobs run: `relbuild ci github|gitlab|shell --write`."""

    setup: Setup | None = Field(
        default=None,
        description="Shell that makes relbuild runnable in a job; jobs of GitHub and GitLab need it. Keys are "
        "laid down there later: install what is pinned by hashes.",
    )
    program: Program = Field(default=".venv/bin/relbuild", description="How a job calls it then.")
    runner: RunnerShape = Field(default=RunnerShape(label="ubuntu-24.04"), description="Where jobs run.")
    runners: dict[texts.TargetName, RunnerShape] = Field(
        default={}, description="Where the builds of single targets run: native machines where there are some."
    )
    tags: TagGlob = Field(default="v*", description="Glob of the tags that start a release.")
    environment: texts.Name = Field(default="release", description="Asks for an approval before publishing.")
    sign_environment: texts.Name = Field(default="signing", description="Holds the secrets of the job that signs.")
    build_environment: texts.Name = Field(default="build", description="Holds the secret of the jobs that build.")
    rebuild_environment: texts.Name = Field(default="rebuild", description="Holds that of the job that rebuilds.")
    shard_key: texts.EnvName = Field(
        default="RELBUILD_SHARD_KEY", description="Secret with the builders' own key, which must have no passphrase."
    )
    rebuild_key: texts.EnvName = Field(
        default="RELBUILD_REBUILD_KEY",
        description="Secret with the key of the job that rebuilds, which must have no passphrase, where [reproduce] "
        'has gate = "block"; `keys` there names its .pub.',
    )
    files: dict[JobPath, texts.EnvName] = Field(
        default={}, description="Files that every job that looks at the release needs, from variables."
    )
    sign_files: dict[JobPath, texts.EnvName] = Field(
        default={}, description="Files of the project that the signing job lays secrets into."
    )
    publish_files: dict[JobPath, texts.EnvName] = Field(default={}, description="Likewise, for publishing.")
    sign_variables: list[texts.EnvName] = Field(default=[], description="Secrets that the signing job sees by name.")
    publish_variables: list[texts.EnvName] = Field(default=[], description="Likewise, for publishing.")
    timeout_minutes: Annotated[int, Field(ge=1, le=1440)] = Field(default=60, description="What one job may take.")
    image: Image = Field(default="python:3.12-bookworm", description="gitlab: the image that jobs run in.")
    required_checks: list[CheckName] = Field(
        default=[], description="Check runs that must be green for the commit before it is published, by exact name."
    )
    checks_from: Literal["file", "github"] = Field(
        default="file", description="Who says so: a signed file (`relbuild checks write`), or GitHub itself."
    )
    checks_file: texts.AnyPath = Field(default="dist/checks.json", description="file: where it lies.")
    checks_repository: Slug | None = Field(default=None, description="github: OWNER/NAME.")
    checks_api: texts.HttpUrl = Field(default="https://api.github.com", description="github: the API.")
    checks_token: texts.EnvName = Field(default="GITHUB_TOKEN", description="github: the variable with the token.")
    semver: Literal["strict", "off"] = Field(
        default="strict",
        description="Whether a published version must be strict SemVer 2.0.0, newer than what is there, and its tag's.",
    )
    allow_older: bool = Field(
        default=False, description="Let a version be older than the newest, if it is the newest of its MAJOR.MINOR."
    )
