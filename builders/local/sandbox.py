"""What keeps a recipe or a smoke test apart from this machine where no container engine does.

bubblewrap gives it a file system of its own; unshare takes the network and the other processes away; where neither
works the recipe runs beside everything else, and every place that reports the cell says so.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from builders import command
from builders.errors import CellError, ToolchainUnavailable

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM_FILES = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d")
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/pip.conf")


HOST_NAME = "relbuild"
"""What bubblewrap's recipes see as the machine's name, unless their world has another."""


class Isolation(StrEnum):
    """How far a recipe is kept apart, best first."""

    BUBBLEWRAP = "bubblewrap: own file system, network and processes"
    NAMESPACES = "namespaces: own network and processes, the machine's file system"
    NONE = "none: clean environment and fresh folder only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A folder or file of the machine, seen at `inside` by the sandboxed program."""

    outside: Path
    inside: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a sandboxed program has: its folders, its working folder, its environment.

    Only bubblewrap gives it a host name and a user of its own; empty and None are the usual ones.
    """

    binds: tuple[Bind, ...]
    cwd: str
    env: Mapping[str, str]
    network: bool = False
    memory_bytes: int = 0
    host_name: str = ""
    user: int | None = None


@functools.cache
def available() -> Isolation:
    """Try what works on this machine, once per run of the program."""
    trials = {
        Isolation.BUBBLEWRAP: ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"],
        Isolation.NAMESPACES: [*_unshare(network=False), "true"],
    }
    return next((kind for kind, argv in trials.items() if _works(argv)), Isolation.NONE)


def wrap(argv: Sequence[str], room: Room, isolation: Isolation) -> list[str]:
    """Give the argument list that runs `argv` in the room."""
    limited = [*_memory_limit(room.memory_bytes), *argv]
    match isolation:
        case Isolation.BUBBLEWRAP:
            return [*_bubblewrap(room), *limited]
        case Isolation.NAMESPACES:
            return [*_unshare(network=room.network), *limited]
        case Isolation.NONE:
            return limited


def _memory_limit(size_bytes: int) -> list[str]:
    return ["prlimit", f"--as={size_bytes}", "--"] if size_bytes else []


def _unshare(*, network: bool) -> list[str]:
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *user, *([] if network else ["--net"]), "--pid", "--fork", "--kill-child", "--mount-proc"]


def _bubblewrap(room: Room) -> list[str]:
    argv = ["bwrap", "--unshare-all", *(["--share-net"] if room.network else [])]
    argv += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", room.host_name or HOST_NAME]
    if room.user is not None:
        argv += ["--unshare-user", "--uid", str(room.user), "--gid", str(room.user)]
    argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108  (a path inside the sandbox)
    for path in (*_SYSTEM, *_SYSTEM_FILES, *(_NETWORK_FILES if room.network else ())):
        argv += _system_path(path)
    for bind in room.binds:
        argv += ["--bind" if bind.writable else "--ro-bind", os.fspath(bind.outside), bind.inside]
    argv += ["--remount-ro", "/", "--chdir", room.cwd, "--clearenv"]
    for name, value in room.env.items():
        argv += ["--setenv", name, value]
    return [*argv, "--"]


def _system_path(path: str) -> list[str]:
    # /bin and its kin are links into /usr on merged systems: they stay links, so that both names are one file.
    if path in _SYSTEM and Path(path).is_symlink():
        return ["--symlink", os.readlink(path), path]  # noqa: PTH115  (the link's text, unresolved)
    return ["--ro-bind-try", path, path]


def own_env() -> dict[str, str]:
    """Give what bubblewrap itself is started with: its first process stays, and a recipe can read /proc/1/environ."""
    return {"PATH": os.environ.get("PATH", os.defpath)}


def _works(argv: Sequence[str]) -> bool:
    try:
        return command.capture(argv, timeout_s=10, env=own_env()).exit_code == 0
    except (ToolchainUnavailable, CellError):
        return False
