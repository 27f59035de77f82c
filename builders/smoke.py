"""Smoke tests: does a program start on its target and do what the matrix says? Comparing, and running on the host."""

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builders import command, emulation
from builders.errors import SmokeFailed, TimedOut
from builders.local import sandbox
from builders.model import Cell, Smoke, SmokeHow, SmokeResult, SmokeRun
from builders.targets import Target, near

TIMEOUT_S = 60.0
"""How long one smoke test may take, emulated ones included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A program that ended, and the first megabyte of what it printed on each stream."""

    exit_code: int
    stdout: bytes
    stderr: bytes


_STDOUT_LIMIT = 1 << 20
_SHOWN = 400


def compare(cell: Cell, test: Smoke, *, exit_code: int, stdout: bytes, printed: bytes = b"") -> SmokeRun:
    """Raise SmokeFailed unless a test ended as it should. `printed` is what to show of standard error."""
    shown = " ".join(test.run)
    if exit_code != test.exit:
        raise SmokeFailed(
            f"{cell.id}: smoke test `{shown}` ended with {exit_code}, not {test.exit}; it printed "
            f"{_clip(printed or stdout)}",
            next_step="run it by hand, or mend `smoke` in the product",
        )
    if test.stdout is not None and stdout != test.stdout.encode():
        raise SmokeFailed(
            f"{cell.id}: smoke test `{shown}` printed {_clip(stdout)}, not {_clip(test.stdout.encode())}",
            next_step="mend the program, or `stdout` of the smoke test",
        )
    return SmokeRun(run=test.run, exit=exit_code, stdout_sha256=hashlib.sha256(stdout).hexdigest())


def refuse_missing(cell: Cell, test: Smoke, folder: Path) -> None:
    """Raise SmokeFailed for a test of a program that the cell did not give."""
    if (folder / test.run[0]).is_file():
        return
    there = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    meant = near(test.run[0], there)
    raise SmokeFailed(
        f"{cell.id}: smoke test wants to run {test.run[0]!r}, which is not among the outputs"
        + (f" (did you mean {meant!r}?)" if meant else ""),
        next_step="name a file that `outputs` collects, by its path below $OUT",
    )


def run_on_host(cell: Cell, folder: Path, cancelled: threading.Event) -> SmokeResult:
    """Run a cell's tests on this machine, in a sandbox where one works, under QEMU when the target is foreign."""
    if not cell.smoke:
        return SmokeResult(how=SmokeHow.NONE)
    prefix = prefix_of(cell.target, folder, [test.run[0] for test in cell.smoke])
    if isinstance(prefix, str):
        return SmokeResult(how=SmokeHow.NOT_RUN, tests=len(cell.smoke), note=prefix)
    runs = tuple(_run_one(cell, test, prefix, folder, cancelled) for test in cell.smoke)
    how = SmokeHow.NATIVE if emulation.runs_here(cell.target) else SmokeHow.EMULATED
    return SmokeResult(how=how, tests=len(cell.smoke), runs=runs)


def prefix_of(target: Target, folder: Path, programs: Sequence[str]) -> list[str] | str:
    """Give what stands before a program of a folder in its argument list, or why it cannot run here."""
    if emulation.runs_here(target):
        return []
    emulator = emulation.find_emulator(target)
    if emulator is None:
        hint = "install the package qemu-user-static" if target.qemu else "no emulator exists for it"
        return f"{target.name} programs do not run on this machine: {hint}"
    if not _needs_libc(folder, programs):
        return [os.fspath(emulator.program)]
    root = emulation.sysroot(target)
    if root is None:
        return f"no C library for {target.name} is here: install the package libc6-{target.deb}-cross"
    return [os.fspath(emulator.program), "-L", os.fspath(root)]


def _needs_libc(folder: Path, programs: Sequence[str]) -> bool:
    from builders import binaries  # noqa: PLC0415  (pyelftools and lief cost; most runs come from the cache)

    facts = (binaries.inspect(folder / name) for name in programs if (folder / name).is_file())
    return any(fact is not None and fact.interpreter for fact in facts)


def run_program(
    folder: Path, run: Sequence[str], *, prefix: Sequence[str], cancelled: threading.Event, before: Sequence[str] = ()
) -> Ran:
    """Run a program of a folder, which it sees read-only, apart from this machine where a sandbox works.

    `run[0]` is its path below the folder; `before` are the words of a command that starts it in its turn.
    Raises TimedOut after TIMEOUT_S, Interrupted.
    """
    isolation = sandbox.available()
    moved = isolation is sandbox.Isolation.BUBBLEWRAP
    inside = "/out" if moved else os.fspath(folder)
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/"}
    binds = (sandbox.Bind(outside=folder, inside="/out"), *_emulator_bind(prefix))
    room = sandbox.Room(binds=binds, cwd=inside, env=env)
    argv = sandbox.wrap([*before, *prefix, f"{inside}/{run[0]}", *run[1:]], room, isolation)
    collected = _Collected()
    code = command.stream(
        argv, on_output=collected.take, cancelled=cancelled, timeout_s=TIMEOUT_S,
        env=sandbox.own_env() if moved else env, cwd=None if moved else folder, on_error=collected.take_error,
    )  # fmt: skip
    return Ran(exit_code=code, stdout=bytes(collected.stdout), stderr=bytes(collected.stderr))


def _run_one(cell: Cell, test: Smoke, prefix: list[str], folder: Path, cancelled: threading.Event) -> SmokeRun:
    refuse_missing(cell, test, folder)
    try:
        ran = run_program(folder, test.run, prefix=prefix, cancelled=cancelled)
    except TimedOut as error:
        raise SmokeFailed(f"{cell.id}: smoke test `{' '.join(test.run)}`: {error.what}") from error
    return compare(cell, test, exit_code=ran.exit_code, stdout=ran.stdout, printed=ran.stderr)


def _emulator_bind(prefix: Sequence[str]) -> tuple[sandbox.Bind, ...]:
    if not prefix or prefix[0].startswith("/usr/"):
        return ()
    return (sandbox.Bind(outside=Path(prefix[0]), inside=prefix[0]),)


class _Collected:
    """What a test printed, the first megabyte of each stream."""

    def __init__(self) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()

    def take(self, chunk: bytes) -> None:
        self.stdout += chunk[: max(0, _STDOUT_LIMIT - len(self.stdout))]

    def take_error(self, chunk: bytes) -> None:
        self.stderr += chunk[: max(0, _STDOUT_LIMIT - len(self.stderr))]


def _clip(text: bytes) -> str:
    shown = ascii(text[:_SHOWN].decode("utf-8", "backslashreplace"))
    return f"{shown} and {len(text) - _SHOWN} bytes more" if len(text) > _SHOWN else shown
