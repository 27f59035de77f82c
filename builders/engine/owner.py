"""Says by labels which process an engine's container or volume belongs to, and whether that process is dead."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from builders.model import Cell

CELL_LABEL = "relbuild.cell"
RUN_LABEL = "relbuild.run"
OWNER_LABEL = "relbuild.owner"
MACHINE_LABEL = "relbuild.machine"

_PROC = Path("/proc")
_START_TIME = 19
"""Where the start time stands in /proc/PID/stat after the program's name (field 22). Source: proc(5)."""


def labels(cell: Cell, run: str) -> dict[str, str]:
    """Give the labels of everything that this process makes in an engine for a cell."""
    return {CELL_LABEL: cell.id, RUN_LABEL: run, OWNER_LABEL: _owner(os.getpid()), MACHINE_LABEL: _machine()}


def is_left_over(found: Mapping[str, str]) -> bool:
    """Tell whether the process that made something is surely gone. An engine may serve several machines."""
    owner = found.get(OWNER_LABEL, "")
    boot, namespace, pid, _ = owner.split(":") if owner.count(":") == 3 else ("", "", "", "")  # noqa: PLR2004
    if not boot or not pid.isdigit():
        return False
    if boot != _boot():
        return found.get(MACHINE_LABEL) == _machine()
    # Processes of another PID namespace of this machine cannot be seen from here.
    return namespace == _pid_namespace() and _owner(int(pid)) != owner


def _owner(pid: int) -> str:
    return f"{_boot()}:{_pid_namespace()}:{pid}:{_start_time(pid)}"


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _pid_namespace() -> str:
    return str((_PROC / "self/ns/pid").stat().st_ino)


def _start_time(pid: int) -> str:
    """Give a process's start in clock ticks, so that a number used again is another process; empty where none runs."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in {"Z", "X"} else fields[_START_TIME]


def _machine() -> str:
    try:
        number = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        number = ""
    return f"{socket.gethostname()}:{number}"
