"""The values that travel between the plan, the builders and staging."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import NewType, Protocol

from builders.targets import Target

Digest = NewType("Digest", str)
"""`sha256:` and 64 hexadecimal digits."""

CellKey = NewType("CellKey", str)
"""64 hexadecimal digits: same key, same bytes."""

DEFAULT_EPOCH = 315532800
"""1980-01-01, the first day that a zip archive can name: the epoch of a project without commits."""


class Placement(StrEnum):
    """Where a cell's compiler runs, seen from the target."""

    NATIVE = "native"
    CROSS = "cross"
    EMULATE = "emulate"


class LibcKind(StrEnum):
    GNU = "gnu"
    MUSL = "musl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Libc:
    """The C library of a product; `floor` is the oldest version that its programs may need."""

    kind: LibcKind = LibcKind.GNU
    floor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRecipe:
    """Commands run one after the other in the sandbox: argv lists, or one script for `sh -eu`."""

    toolchain: str
    commands: tuple[tuple[str, ...], ...] = ()
    script: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileRecipe:
    """A Dockerfile in the source, built for the target's platform; its last stage's /out is $OUT.

    `images` are those of its FROM lines; they are known once the source is here, and before a toolchain is named.
    """

    dockerfile: PurePosixPath
    stage: str = ""
    images: tuple[str, ...] = ()


Recipe = CommandRecipe | DockerfileRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One entry of a source tree. `link` is the text of a symbolic link, else empty."""

    path: PurePosixPath
    executable: bool
    sha256: str
    size_bytes: int
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """A folder's files by content, mode and name; `digest` covers all three and no times."""

    root: Path
    files: tuple[SourceFile, ...]
    digest: Digest
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """What compiles a cell. `identity` changes whenever its output could."""

    name: str
    identity: Digest
    description: str
    isolation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPattern:
    """A glob below $OUT. It must match at least one file; exactly one where `exactly_one`."""

    glob: str
    exactly_one: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoke:
    """A command that must work on the target. `run[0]` is a path below $OUT."""

    run: tuple[str, ...]
    stdout: str | None = None
    exit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a cell may use. `memory_bytes` and `cpus` of 0 mean no bound of their own."""

    timeout_s: float = 3600.0
    cpus: float = 0.0
    memory_bytes: int = 0
    pids: int = 4096
    log_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder of the project that the recipe sees, read-only, at an absolute path of the sandbox."""

    at: PurePosixPath
    tree: SourceTree


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One product for one target, with everything that decides its bytes."""

    product: str
    target: Target
    recipe: Recipe
    placement: Placement
    reason: str
    builder: str
    toolchain: Toolchain
    libc: Libc
    source: SourceTree
    mounts: tuple[Mount, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[OutputPattern, ...]
    smoke: tuple[Smoke, ...] = ()
    network: bool = False
    limits: Limits = Limits()
    version: str
    epoch: int
    required: bool = True
    key: CellKey

    @property
    def id(self) -> str:
        return f"{self.product}/{self.target.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltFile:
    """A plain file that a cell gave, copied out of the sandbox. `path` is relative to the cell's folder."""

    path: PurePosixPath
    size_bytes: int
    sha256: str
    sha512: str
    executable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A thing that a toolchain consists of. `purl` is a package URL; what nobody knows is empty.

    `license` is as the thing itself names it, an SPDX expression or not. `sha256` is that of what stands for its
    content: the record of a wheel, the identity of an image.
    """

    name: str
    version: str
    purl: str
    license: str = ""
    sha256: str = ""


class SmokeHow(StrEnum):
    """On what a smoke test ran."""

    NATIVE = "native"
    EMULATED = "emulated"
    NOT_RUN = "not run"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeRun:
    """A smoke command that ran, and what it gave: the first megabyte of its output by digest."""

    run: tuple[str, ...]
    exit: int
    stdout_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeResult:
    """How a cell's smoke tests went; `note` says why one was not run."""

    how: SmokeHow
    tests: int = 0
    note: str = ""
    runs: tuple[SmokeRun, ...] = ()


class BuildEvents(Protocol):
    """What a builder tells while it works on one cell, and the one thing it listens to."""

    cancelled: threading.Event

    def output(self, chunk: bytes) -> None:
        """Take bytes that the recipe printed (any bytes at all)."""

    def step(self, text: str) -> None:
        """Take one line about what the builder itself does."""

    def attach(self, name: str, content: bytes) -> None:
        """Take a document about the build, which is kept with the cell. `name` is a plain file name."""
