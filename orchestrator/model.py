"""The values that travel from the configuration to the staged release."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath

from builders.engine.node_model import NodeRules
from builders.errors import RelbuildError
from builders.model import BuiltFile, Cell, Libc, Limits, OutputPattern, Recipe, Smoke, SmokeResult

# Said twice because a configuration is written with these names as much as with those below.
from builders.sources import ArchiveSource as ArchiveSource  # noqa: PLC0414
from builders.sources import DebianSource as DebianSource  # noqa: PLC0414
from builders.sources import GitSource as GitSource  # noqa: PLC0414
from builders.sources import OutsideSource as OutsideSource  # noqa: PLC0414
from builders.sources import PypiSource as PypiSource  # noqa: PLC0414
from builders.targets import Target
from orchestrator.ci_rules import CiRules
from orchestrator.publishing_rules import PublishingRules
from orchestrator.reproduction_rules import ReproductionRules
from orchestrator.signing_rules import SigningRules
from orchestrator.validation_rules import ValidationRules

# --- the configuration -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFile:
    """The version stands in a file of the project: group 1 of a regular expression."""

    file: PurePosixPath
    pattern: str


class ArchiveFormat(StrEnum):
    TAR_GZ = "tar.gz"
    ZIP = "zip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """`version` is a literal, a VersionFile, or None for "git"."""

    name: str
    version: str | VersionFile | None
    license: str = ""
    homepage: str = ""
    description: str = ""
    maintainer: str = ""
    source_archive: tuple[ArchiveFormat, ...] | None = None
    """The forms that the source archive is wanted in; None takes tar.gz where there can be one."""


class PlacementWish(StrEnum):
    """What a product asks of its placement."""

    AUTO = "auto"
    NATIVE = "native"
    CROSS = "cross"
    EMULATE = "emulate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRules:
    """How the outputs of a cell are packed. `format` None means tar.gz, and zip for Windows.

    `name` may hold {name} {product} {version} {os} {arch} {target}; `extra` are files of the project that go beside
    the outputs.
    """

    format: ArchiveFormat | None = None
    name: str = "{name}_{version}_{os}_{arch}"
    extra: tuple[PurePosixPath, ...] = ()

    def format_for(self, target: Target) -> ArchiveFormat:
        return self.format or (ArchiveFormat.ZIP if target.os == "windows" else ArchiveFormat.TAR_GZ)

    def stem(self, *, project: str, product: str, version: str, target: Target) -> str:
        """Fill `name` in. Raises KeyError, IndexError, ValueError or AttributeError for a field that is not one."""
        return self.name.format(
            name=project, product=product, version=version, os=target.os, arch=target.arch, target=target.name
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A thing to build. `source` as a path is relative to the project's root."""

    name: str
    source: PurePosixPath | OutsideSource
    recipe: Recipe
    outputs: tuple[OutputPattern, ...]
    targets: tuple[str, ...]
    libc: Libc = Libc()
    placement: PlacementWish = PlacementWish.AUTO
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[PurePosixPath, PurePosixPath] = field(default_factory=dict)
    """From an absolute path of the sandbox to a folder of the project."""
    limits: Limits = Limits()
    network: bool = False
    smoke: tuple[Smoke, ...] = ()
    archive: ArchiveRules | None = ArchiveRules()
    line: int = 0


class Verdict(StrEnum):
    """What a broken rule of the truth gate means."""

    ERROR = "error"
    WARN = "warn"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRules:
    """What `[policy]` says of each finding of the truth gate. A wrong machine is always an error."""

    libc_floor: Verdict = Verdict.ERROR
    interpreter: Verdict = Verdict.ERROR
    needed: Verdict = Verdict.WARN
    rpath: Verdict = Verdict.ERROR
    stripped: Verdict = Verdict.IGNORE
    build_id: Verdict = Verdict.IGNORE
    build_paths: Verdict = Verdict.WARN
    allow_needed: tuple[str, ...] = ()
    """Globs of shared libraries that programs may need, beside those of the C and C++ run times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRules:
    """What it means when a smoke test could not run, and when no builder here takes a cell."""

    gate: GateRules = GateRules()
    smoke_not_run: Verdict = Verdict.WARN
    left_out: Verdict = Verdict.ERROR


class EngineKind(StrEnum):
    AUTO = "auto"
    DOCKER = "docker"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRules:
    kind: EngineKind = EngineKind.AUTO
    jobs: int = 0
    """Cells side by side; 0 = as many as the CPUs carry."""
    nodes: tuple[NodeRules, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A whole matrix.toml, valid. `targets` holds the rows of the table, changed and added ones included."""

    file: Path
    root: Path
    project: Project
    targets: Mapping[str, Target]
    best_effort: frozenset[str]
    products: tuple[Product, ...]
    floors: Mapping[str, str] = field(default_factory=dict)
    """By canonical target: the oldest glibc that programs may need, where a product names none."""
    engine: EngineRules = EngineRules()
    policy: PolicyRules = PolicyRules()
    signing: SigningRules | None = None
    repository: PublishingRules | None = None
    reproduce: ReproductionRules | None = None
    validation: ValidationRules | None = None
    ci: CiRules = field(default_factory=CiRules)


# --- the plan and what came of it --------------------------------------------------------------------------------


class CacheState(StrEnum):
    HIT = "cached"
    MISS = "to build"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """A cell, whether its bytes are there already, and what building it is thought to take (None: never built)."""

    cell: Cell
    cache: CacheState
    estimate_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A cell that was asked for and that no builder of this engine takes."""

    product: str
    target: str
    reason: str
    next_step: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    project: str
    version: str
    commit: str
    """Empty outside a git repository."""
    dirty: bool
    epoch: int
    engine: str
    engine_reason: str
    cells: tuple[PlannedCell, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the truth gate says of one file, and how grave it is."""

    path: PurePosixPath
    rule: str
    text: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A cell that gave its files, and they are what they should be."""

    cell: Cell
    folder: Path
    files: tuple[BuiltFile, ...]
    findings: tuple[Finding, ...]
    smoke: SmokeResult
    seconds: float
    from_cache: bool
    documents: Mapping[str, bytes] = field(default_factory=dict)
    """What the builder itself says of the build, by name, as it was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    cell: Cell
    error: RelbuildError
    log: Path
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A cell that was not tried: the run was stopped before its turn."""

    cell: Cell
    reason: str


CellResult = Built | Failed | Skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    plan: Plan
    results: tuple[CellResult, ...]

    @property
    def built(self) -> tuple[Built, ...]:
        return tuple(result for result in self.results if isinstance(result, Built))


class ArtifactKind(StrEnum):
    ARCHIVE = "archive"
    FILE = "file"
    SOURCE = "source"
    """An archive of the commit itself: no product, no target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file of a release. `path` is relative to the release's folder."""

    path: PurePosixPath
    kind: ArtifactKind
    product: str
    target: str
    size_bytes: int
    sha256: str
    sha512: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedRelease:
    folder: Path
    version: str
    artifacts: tuple[Artifact, ...]
    manifest_sha256: str
