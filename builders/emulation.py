"""What lets this machine run programs of another one: QEMU's user emulators and the kernel's binfmt handlers."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from builders import command
from builders.errors import CellError, ToolchainUnavailable
from builders.targets import Target, host

_HANDLERS = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """A QEMU user emulator on PATH. `version` is empty where it would not tell."""

    program: Path
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A binfmt_misc entry. With `fixed` (flag F) it works inside containers that hold no emulator."""

    name: str
    interpreter: str
    enabled: bool
    fixed: bool


def runs_here(target: Target) -> bool:
    """Tell whether this machine's own processor and kernel run programs of this target."""
    return host().name == target.name


def find_emulator(target: Target) -> Emulator | None:
    """Find QEMU for a target; the static build is preferred, because it works in any root folder."""
    if not target.qemu:
        return None
    names = (f"qemu-{target.qemu}-static", f"qemu-{target.qemu}")
    found = next((path for path in map(command.find_program, names) if path), None)
    return Emulator(program=found, version=_version(found)) if found else None


def find_handler(target: Target) -> Handler | None:
    """Read the kernel's handler for a target. Source: Documentation/admin-guide/binfmt-misc.rst."""
    if not target.qemu:
        return None
    try:
        text = (_HANDLERS / f"qemu-{target.qemu}").read_text(encoding="ascii")
    except OSError:
        return None
    fields = dict(line.partition(" ")[::2] for line in text.splitlines())
    return Handler(
        name=f"qemu-{target.qemu}",
        interpreter=fields.get("interpreter", ""),
        enabled="enabled" in text.splitlines()[:1],
        fixed="F" in fields.get("flags:", ""),
    )


def sysroot(target: Target) -> Path | None:
    """Give the folder that holds the C library of a foreign target, as Debian's cross packages lay it out."""
    folder = Path("/usr") / target.gnu
    return folder if target.gnu and any(folder.glob("lib/ld-linux*")) else None


def _version(program: Path) -> str:
    try:
        done = command.capture([os.fspath(program), "--version"], timeout_s=5, env={})
    except (CellError, ToolchainUnavailable):
        return ""
    match = re.search(rb"version (\d+(?:\.\d+)*)", done.stdout)
    return match[1].decode() if match else ""
