"""How far the local builder can make another world of this machine."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from builders import command
from builders.local import sandbox
from builders.local.sandbox import Isolation
from builders.local.workshop import order_can_vary
from builders.model import Cell
from builders.world import NO_LIBFAKETIME, TOO_LARGE, Axis, AxisState, BuildWorld, Fixed, Varies, fits_in_memory

_OWN_PLACES = "/src, /out and /tmp"


def of_this_machine(cell: Cell, other: BuildWorld, work: Path) -> Mapping[Axis, AxisState]:
    """Say for every axis whether a recipe run here can see the other world. `work` is where cells are laid out."""
    own = sandbox.available() is Isolation.BUBBLEWRAP
    return {
        Axis.PATH: _path(own=own),
        Axis.TIME: _time(other),
        Axis.TIME_ZONE: Varies(usual="UTC"),
        Axis.LOCALE: Varies(usual="C.UTF-8"),
        Axis.UMASK: Varies(usual=_umask()),
        Axis.HOST_NAME: Varies(usual=sandbox.HOST_NAME) if own else _needs_bubblewrap("a host name"),
        Axis.USER: Varies(usual="whoever runs the build") if own else _needs_bubblewrap("a user"),
        Axis.CPU_COUNT: _cpus(),
        Axis.FILE_ORDER: _file_order(cell, work),
        Axis.ENVIRONMENT: Varies(usual="no more than the promised variables"),
    }


def _path(*, own: bool) -> AxisState:
    if own:
        return Varies(usual=_OWN_PLACES)
    return Varies(usual="a new folder for each build", other="a new folder for each build")


def _time(other: BuildWorld) -> AxisState:
    if not other.libfaketime:
        return NO_LIBFAKETIME
    return Varies(usual="the machine's clock", limits="static programs, as Zig and Go are, ask the kernel")


def _needs_bubblewrap(what: str) -> Fixed:
    return Fixed(reason=f"{what} of its own needs bubblewrap, which does not work here")


def _umask() -> str:
    """Read this process's umask, which asking by os.umask would change for a moment."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^Umask:\s*(\d+)$", status, re.MULTILINE)
    return found[1] if found else "that of whoever runs the build"


def _cpus() -> AxisState:
    count = len(os.sched_getaffinity(0))
    if count < 2:  # noqa: PLR2004  (one is what the other world has)
        return Fixed(reason="this machine has one CPU")
    if command.find_program("taskset") is None:
        return Fixed(reason="taskset is not on this machine (Debian: util-linux)")
    return Varies(usual=str(count))


def _file_order(cell: Cell, work: Path) -> AxisState:
    if not fits_in_memory(cell.source):
        return TOO_LARGE
    if order_can_vary(work):
        return Varies(usual="names written first to last")
    return Fixed(reason="the file systems here list names in the same order however they were written")
