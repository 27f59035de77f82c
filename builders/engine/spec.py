"""What a container of relbuild may do: values that container.py turns into the engine's own words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from builders.engine.tars import RECIPE_USER
from builders.engine.toolchains import TOOLS
from builders.errors import BuildError, EngineUnavailable
from builders.model import Cell, Digest

ISOLATION = "container: read-only root, private /tmp, no capabilities, no new privileges, not root, own limits"

HOST_NAME = "relbuild"

IDLE = ("sh", "-c", "mkdir -p /tmp/home && exec sleep infinity")
"""Keeps a container alive for the commands that run in it."""

_FIXED = ("/src", "/out", "/tmp", TOOLS, "/proc", "/sys", "/dev")  # noqa: S108 - inside the sandbox


class ContainerEnded(EngineUnavailable):
    """A container that should wait for commands is no longer running: it could not start, or somebody ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What an engine says of itself. `endpoint` is where it was asked, `os_arch` an OCI platform."""

    version: str
    api: str
    os_arch: str
    containerd_store: bool
    cpus: int
    memory_bytes: int
    name: str
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """An image of the engine's own store. `created` is a Unix time; `names` are its tags."""

    identity: Digest
    platform: str
    env: tuple[str, ...]
    names: tuple[str, ...]
    created: int
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A volume and the place where a container sees it."""

    volume: str
    at: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container to make. A `loader` is never started: it only takes files into volumes.

    `cpu_set` names the CPUs that it sees, as the engine writes them; `memory_folders` are its own user's, and empty.
    """

    image: ImageFacts
    volumes: tuple[Bound, ...]
    labels: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = "/"
    network: bool = False
    cpus: float = 0.0
    memory_bytes: int = 0
    pids: int = 4096
    user: int = RECIPE_USER
    loader: bool = False
    host_name: str = HOST_NAME
    cpu_set: str = ""
    memory_folders: tuple[str, ...] = ()


def exact_env(spec: ContainerSpec) -> list[str]:
    """Give the environment as the engine takes it: a bare name takes a variable of the image away."""
    unwanted = {entry.partition("=")[0] for entry in spec.image.env} | {"HOSTNAME"}
    return [f"{name}={value}" for name, value in spec.env.items()] + sorted(unwanted - set(spec.env))


def check_mounts(cell: Cell) -> None:
    """Raise BuildError for a mount that would lie in or over a place that the sandbox has itself."""
    for mount in cell.mounts:
        taken = next((place for place in _FIXED if _overlap(mount.at, PurePosixPath(place))), None)
        if taken or not mount.at.is_absolute() or ".." in mount.at.parts or ":" in str(mount.at):
            raise BuildError(
                f"{cell.id}: the mount at {mount.at} is not possible" + (f": {taken} is taken" if taken else ""),
                next_step="mount it at a path of its own, such as /deps",
            )


def _overlap(one: PurePosixPath, other: PurePosixPath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)
