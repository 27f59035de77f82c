"""BuildKit nodes as values: what the configuration says of each, what it said itself, and which platform it takes."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit


class NodeKind(StrEnum):
    """What answers at an endpoint."""

    DOCKER = "docker"
    """A Docker Engine, whose own BuildKit is asked through the docker command line."""
    BUILDKIT = "buildkit"
    """A BuildKit daemon of its own."""
    KUBERNETES = "kubernetes"
    """A cluster, in which buildx runs BuildKit daemons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRules:
    """What `[engine.nodes]` says of a node. The three files are for TCP with TLS."""

    name: str
    endpoint: str
    platforms: tuple[str, ...]
    kind: NodeKind = NodeKind.DOCKER
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False

    @property
    def is_open(self) -> bool:
        """Tell whether whoever is on the way could read and change what is built there."""
        return self.endpoint.startswith("tcp://") and self.ca is None and not is_loopback(self.endpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node as it was found. `native` is the platform that its programs run on without QEMU, first of `handles`.

    Where it does not answer, `why` says so, and the rest is what it said the last time.
    """

    rules: NodeRules
    native: str = ""
    handles: tuple[str, ...] = ()
    version: str = ""
    answers: bool = True
    why: str = ""

    @property
    def name(self) -> str:
        return self.rules.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Taker:
    """The node that takes a platform. One that does not answer only stands for what it finished before."""

    node: str
    platform: str
    native: bool
    version: str
    answers: bool = True

    @property
    def reason(self) -> str:
        how = "native" if self.native else "under QEMU"
        gone = "" if self.answers else ", which no longer answers: finished before"
        return f"{how} on the node {self.node}{gone}"


_NOBODY: Final = 4


def takers(platform: str, nodes: Sequence[Node]) -> tuple[Taker, ...]:
    """Give the node that takes a platform, after those that are gone and could have finished its cells natively.

    A node that is declared for the platform comes before all others, a native one before QEMU; else the order is that
    of the configuration.
    """
    gone = [node for node in nodes if not node.answers and platform in node.rules.platforms and node.native == platform]
    ranked = sorted((rank, place) for place, node in enumerate(nodes) if (rank := _rank(platform, node)) < _NOBODY)
    # A living native node gives the same cells as the one that is gone.
    chosen = [nodes[place] for _, place in ranked[:1]]
    kept = gone if not any(node.native == platform for node in chosen) else []
    return tuple(
        Taker(node=node.name, platform=platform, native=node.native == platform, version=node.version,
              answers=node.answers)
        for node in (*kept, *chosen)
    )  # fmt: skip


def _rank(platform: str, node: Node) -> int:
    if not node.answers:
        return _NOBODY
    if platform in node.rules.platforms:
        return 0 if node.native == platform else 1
    if node.native == platform:
        return 2
    return 3 if _has_emulator(platform, node) else _NOBODY


def _has_emulator(platform: str, node: Node) -> bool:
    # BuildKit leaves linux/arm/v7 out of its list where linux/arm64 is in it.
    implied = platform == "linux/arm/v7" and "linux/arm64" in node.handles
    return platform in node.handles or implied


def is_loopback(endpoint: str) -> bool:
    """Tell whether an endpoint's host is this machine by its very address, which no name server can change."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
