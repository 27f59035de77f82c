"""The shape of matrix.toml: which tables and keys there are, and what each holds."""

from typing import Annotated, Literal

from pydantic import Field, Tag

from orchestrator.config import texts
from orchestrator.config.base_shape import Shape, by_type
from orchestrator.config.ci_shape import CiShape
from orchestrator.config.nodes_shape import NodeName, NodeShape
from orchestrator.config.product_shapes import ProductShape
from orchestrator.config.repository_shape import RepositoryShape
from orchestrator.config.reproduction_shape import ReproductionShape
from orchestrator.config.signing_shapes import SigningShape
from orchestrator.config.validation_shape import ValidateShape

Verdict = Literal["error", "warn", "ignore"]


class VersionFileShape(Shape):
    """The version stands in a file of the project."""

    file: texts.FolderPath = Field(description="File of the project, relative to its root.")
    pattern: texts.Expression = Field(description="Regular expression; its group 1 is the version.")


Version = Annotated[
    Annotated[texts.Version, Tag("<text>")] | Annotated[VersionFileShape, Tag("<table>")],
    by_type({str: "<text>", dict: "<table>"}, "a string, or a table with file and pattern"),
]


class ProjectShape(Shape):
    """What the project is called and whose it is."""

    name: texts.Name = Field(description="Name of the project; archives begin with it.")
    version: Version = Field(
        default="git", description='"git", a literal version, or a file and a pattern to find it there.'
    )
    license: texts.Line = Field(default="", description="SPDX licence expression.")
    homepage: texts.HttpUrl = Field(default="", description="URL of the project.")
    description: texts.Text = Field(default="", description="What the project is, in a sentence or two.")
    maintainer: texts.Line = Field(default="", description="Name and address of who keeps it.")
    source_archive: list[Literal["tar.gz", "zip"]] | None = Field(
        default=None,
        description="Forms of the commit's source archive; [] for none. Default: tar.gz where the commit is built.",
    )


class TargetShape(Shape):
    """A change of a known target (tier and floor only), or a target of your own."""

    tier: Literal["required", "best-effort"] = Field(
        default="required", description="Whether its failure fails the run."
    )
    floor: texts.Floor = Field(
        default="", description="Oldest glibc that programs for it may need, where a product says none."
    )
    os: texts.ForeignName | None = Field(default=None, description='Operating system in file names, such as "linux".')
    arch: texts.ForeignName | None = Field(default=None, description='Architecture in file names, such as "riscv64".')
    format: Literal["elf", "macho", "pe"] | None = Field(default=None, description="Format of its programs.")
    machine: Annotated[int, Field(ge=1, le=0xFFFFFFFF)] | None = Field(
        default=None, description="e_machine (ELF), cputype (Mach-O) or Machine (PE) in the header of its programs."
    )
    gnu: texts.ForeignName = Field(default="", description="GNU triple.")
    rust: texts.ForeignName = Field(default="", description="Rust target triple.")
    goos: texts.ForeignName = Field(default="", description="GOOS of Go.")
    goarch: texts.ForeignName = Field(default="", description="GOARCH of Go.")
    goarm: texts.ForeignName = Field(default="", description="GOARM of Go.")
    zig: texts.ForeignName = Field(default="", description="Target of zig, without libc.")
    oci: texts.ForeignName = Field(default="", description='Platform of container images, such as "linux/riscv64".')
    deb: texts.ForeignName = Field(default="", description="Architecture of Debian packages.")
    rpm: texts.ForeignName = Field(default="", description="Architecture of RPM packages.")
    apk: texts.ForeignName = Field(default="", description="Architecture of Alpine packages.")
    qemu: texts.ForeignName = Field(default="", description="Name of QEMU's user emulator, without qemu-.")
    aliases: list[texts.TargetName] = Field(default=[], description="Other names that it answers to.")


class EngineShape(Shape):
    """What builds."""

    kind: Literal["auto", "docker", "local"] = Field(
        default="auto", description="Containers, or this machine's own tools."
    )
    jobs: Annotated[int, Field(ge=0, le=4096)] = Field(
        default=0, description="Cells side by side; 0: as the CPUs carry."
    )
    nodes: dict[NodeName, NodeShape] = Field(
        default={}, description="Machines that share the work of BuildKit, by name: `relbuild engine nodes up`."
    )


class GateShape(Shape):
    """What each finding of the truth gate means. A wrong machine is always an error."""

    libc_floor: Verdict = Field(default="error", description="A program needs a newer libc than the floor.")
    interpreter: Verdict = Field(default="error", description="A program asks for another loader than its target's.")
    needed: Verdict = Field(
        default="warn", description="A program needs a shared library that allow_needed does not name."
    )
    rpath: Verdict = Field(default="error", description="A program looks for libraries in a fixed folder.")
    stripped: Verdict = Field(default="ignore", description="A program still holds its symbols.")
    build_id: Verdict = Field(default="ignore", description="A program has no build-id.")
    build_paths: Verdict = Field(default="warn", description="A program holds paths of the place where it was built.")
    allow_needed: list[texts.Line] = Field(default=[], description="Globs of shared libraries that programs may need.")


class PolicyShape(Shape):
    """What findings mean."""

    left_out: Verdict = Field(default="error", description="A cell that no builder here takes.")
    smoke_not_run: Verdict = Field(default="warn", description="A smoke test that could not be run.")
    gate: GateShape = GateShape()


class MatrixShape(Shape):
    """The whole of matrix.toml."""

    project: ProjectShape
    targets: dict[texts.TargetName, TargetShape] = Field(default={}, description="Targets added or changed, by name.")
    products: dict[texts.Name, ProductShape] = Field(default={}, description="What is built, by name.", min_length=1)
    engine: EngineShape = EngineShape()
    policy: PolicyShape = PolicyShape()
    signing: SigningShape | None = None
    repository: RepositoryShape | None = None
    reproduce: ReproductionShape | None = None
    validation: ValidateShape | None = Field(default=None, alias="validate")
    ci: CiShape | None = None
