"""The shape of [products.NAME]."""

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag

from builders.targets import DEFAULT_TARGETS
from orchestrator.config import texts
from orchestrator.config.base_shape import Shape, by_type
from orchestrator.config.texts import broken

T = TypeVar("T")

SOURCE_KINDS = ("debian", "pypi", "git", "archive")


def _source_tag(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    found = [kind for kind in SOURCE_KINDS if isinstance(value, dict) and kind in value]
    return f"<{found[0]}>" if found else None


def not_empty(value: list[T]) -> list[T]:
    if not value:
        raise broken("the list is empty", "leave the key out for its default, if it has one")
    return value


def _argv(value: list[str]) -> list[str]:
    if not value or not value[0].strip():
        raise broken("a command needs at least a program")
    return value


def _program_below(value: list[str]) -> list[str]:
    texts.below(value[0])
    return value


def _only_false(value: bool) -> bool:
    if value:
        raise broken("true is no choice here", "leave the key out for the default archive")
    return value


class Debian(Shape):
    """A Debian source package."""

    debian: texts.DebianName = Field(description="Name of the source package.")
    version: texts.DebianVersion = Field(description="Its version, with epoch and revision.")
    sha256: texts.Sha256 = Field(description="Digest of the .dsc file.")


class Pypi(Shape):
    """A source distribution of a Python project."""

    pypi: texts.PypiName = Field(description="Name of the project.")
    version: texts.PypiVersion = Field(description="Its version.")
    sha256: texts.Sha256 = Field(description="Digest of the source distribution.")


class Git(Shape):
    """A commit of a git repository."""

    git: texts.GitUrl = Field(description="URL of the repository.")
    commit: texts.Commit = Field(description="Full name of the commit.")


class Archive(Shape):
    """A tar or zip archive."""

    archive: texts.ArchiveLocation = Field(description="URL, or path below the project's root.")
    sha256: texts.Sha256 = Field(description="Digest of the archive.")


SourceShape = str | Debian | Pypi | Git | Archive
Source = Annotated[
    Annotated[texts.FolderPath, Tag("<text>")]
    | Annotated[Debian, Tag("<debian>")]
    | Annotated[Pypi, Tag("<pypi>")]
    | Annotated[Git, Tag("<git>")]
    | Annotated[Archive, Tag("<archive>")],
    Discriminator(
        _source_tag,
        custom_error_type="relbuild",
        custom_error_message="it must be a folder of the project, or a table with one of debian, pypi, git, archive",
    ),
]


class OutputShape(Shape):
    """A glob below $OUT."""

    glob: texts.Glob = Field(description="Glob, relative to $OUT; it must match at least one file.")
    one: bool = Field(default=False, description="Whether it must match exactly one file.")


class SmokeShape(Shape):
    """A command that must work on the target's machine."""

    run: Annotated[list[texts.Text], AfterValidator(_argv), AfterValidator(_program_below)] = Field(
        description="Program, as a path below $OUT, and its arguments."
    )
    stdout: texts.Text | None = Field(default=None, description="What it must print, exactly.")
    exit: Annotated[int, Field(ge=0, le=255)] = Field(default=0, description="The code that it must end with.")


class ArchiveShape(Shape):
    """How the outputs of a cell are packed."""

    format: Literal["tar.gz", "zip"] | None = Field(default=None, description="Default: tar.gz, and zip for Windows.")
    name: texts.Template | None = Field(
        default=None,
        description="File name without its ending; fields: {name} {product} {version} {os} {arch} {target}. "
        "Default: {name}_{version}_{os}_{arch}, with {product} for {name} where the matrix has several products.",
    )
    extra: list[texts.FolderPath] = Field(default=[], description="Files of the project put beside the outputs.")


Argv = Annotated[list[texts.Text], AfterValidator(_argv)]
Run = Annotated[
    Annotated[texts.Script, Tag("<script>")] | Annotated[list[Argv], AfterValidator(not_empty), Tag("<list>")],
    by_type({str: "<script>", list: "<list>"}, "one script, or a list of commands, each a list of strings"),
]
Output = Annotated[
    Annotated[texts.Glob, Tag("<text>")] | Annotated[OutputShape, Tag("<table>")],
    by_type({str: "<text>", dict: "<table>"}, "a glob, or a table with glob and one"),
]
Memory = Annotated[
    Annotated[texts.MemoryText, Tag("<text>")] | Annotated[texts.MemoryBytes, Tag("<number>")],
    by_type({str: "<text>", int: "<number>"}, 'a size such as "2GiB", or a number of bytes'),
]
ArchiveChoice = Annotated[
    Annotated[bool, AfterValidator(_only_false), Field(json_schema_extra={"const": False}), Tag("<flag>")]
    | Annotated[ArchiveShape, Tag("<table>")],
    by_type({bool: "<flag>", dict: "<table>"}, "false, or a table with format, name and extra"),
]


class ProductShape(Shape):
    """A thing to build."""

    source: Source = Field(default=".", description="Folder of the project, or an outside source with its digest.")
    recipe: Literal["command", "dockerfile", "go", "cargo", "python"] = Field(description="How it is built.")
    toolchain: texts.Toolchain = Field(
        default="gcc", description='For recipe "command": gcc, zig, go, rust, or "image:REFERENCE@sha256:DIGEST".'
    )
    run: Run | None = Field(
        default=None, description="Commands, or one script for sh -eu inside the sandbox; the source is read-only."
    )
    dockerfile: texts.FolderPath = Field(
        default="Dockerfile", description='For recipe "dockerfile": its path in the source.'
    )
    stage: texts.Stage = Field(default="", description='For recipe "dockerfile": the stage whose /out is taken.')
    outputs: Annotated[list[Output], AfterValidator(not_empty)] | None = Field(
        default=None, description='What is taken from $OUT. Default for go, cargo and python: ["*"].'
    )
    targets: Annotated[list[texts.Line], AfterValidator(not_empty)] = Field(
        default=list(DEFAULT_TARGETS), description="Targets, by name or alias."
    )
    placement: Literal["auto", "native", "cross", "emulate"] = Field(
        default="auto", description="Where its compiler runs."
    )
    env: dict[texts.EnvName, texts.Line] = Field(default={}, description="Variables for the recipe.")
    mounts: dict[texts.SandboxPath, texts.FolderPath] = Field(
        default={}, description="From absolute paths of the sandbox to folders of the project; read-only."
    )
    timeout_s: Annotated[float, Field(gt=0, le=86400)] = Field(
        default=3600.0, description="Seconds that the recipe may take."
    )
    network: bool = Field(default=False, description="Whether the recipe may reach the network.")
    cpus: Annotated[float, Field(gt=0, le=4096)] | None = Field(default=None, description="Processors that it may use.")
    memory: Memory | None = Field(default=None, description="Memory that it may use.")
    smoke: list[SmokeShape] = Field(
        default=[], description="Commands that must work on the target's machine or under QEMU."
    )
    libc: Literal["gnu", "musl"] = Field(default="gnu", description="C library of its programs.")
    glibc: texts.Floor | None = Field(default=None, description="Oldest glibc that its programs may need.")
    archive: ArchiveChoice | None = Field(
        default=None, description="false for no archive, or how its outputs are packed."
    )
