"""Smoke tests: does a program start on its target and do what the matrix says? Comparing, and running on the host."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from builders import command, emulation
from builders.errors import SmokeFailed, TimedOut
from builders.local import sandbox
from builders.model import Cell, Smoke, SmokeHow, SmokeResult
from builders.targets import near

TIMEOUT_S = 60.0
"""How long one smoke test may take, emulated ones included."""

_STDOUT_LIMIT = 1 << 20
_SHOWN = 400


def compare(cell: Cell, test: Smoke, *, exit_code: int, stdout: bytes, printed: bytes = b"") -> None:
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
    prefix = _prefix(cell, folder)
    if isinstance(prefix, str):
        return SmokeResult(how=SmokeHow.NOT_RUN, tests=len(cell.smoke), note=prefix)
    for test in cell.smoke:
        _run_one(cell, test, prefix, folder, cancelled)
    how = SmokeHow.NATIVE if emulation.runs_here(cell.target) else SmokeHow.EMULATED
    return SmokeResult(how=how, tests=len(cell.smoke))


def _prefix(cell: Cell, folder: Path) -> list[str] | str:
    """Give what stands before the program in its argument list, or why it cannot run here."""
    target = cell.target
    if emulation.runs_here(target):
        return []
    emulator = emulation.find_emulator(target)
    if emulator is None:
        hint = "install the package qemu-user-static" if target.qemu else "no emulator exists for it"
        return f"{target.name} programs do not run on this machine: {hint}"
    if not _needs_libc(folder, cell.smoke):
        return [os.fspath(emulator.program)]
    root = emulation.sysroot(target)
    if root is None:
        return f"no C library for {target.name} is here: install the package libc6-{target.deb}-cross"
    return [os.fspath(emulator.program), "-L", os.fspath(root)]


def _needs_libc(folder: Path, tests: Sequence[Smoke]) -> bool:
    from builders import binaries  # noqa: PLC0415  (pyelftools and lief cost; most runs come from the cache)

    facts = (binaries.inspect(folder / test.run[0]) for test in tests if (folder / test.run[0]).is_file())
    return any(fact is not None and fact.interpreter for fact in facts)


def _run_one(cell: Cell, test: Smoke, prefix: list[str], folder: Path, cancelled: threading.Event) -> None:
    isolation = sandbox.available()
    inside = "/out" if isolation is sandbox.Isolation.BUBBLEWRAP else os.fspath(folder)
    program = f"{inside}/{test.run[0]}"
    refuse_missing(cell, test, folder)
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/"}
    binds = (sandbox.Bind(outside=folder, inside="/out"), *_emulator_bind(prefix))
    room = sandbox.Room(binds=binds, cwd=inside, env=env)
    argv = sandbox.wrap([*prefix, program, *test.run[1:]], room, isolation)
    collected = _Collected()
    moved = isolation is sandbox.Isolation.BUBBLEWRAP
    try:
        code = command.stream(
            argv, on_output=collected.take, cancelled=cancelled, timeout_s=TIMEOUT_S,
            env=sandbox.own_env() if moved else env, cwd=None if moved else folder, on_error=collected.take_error,
        )  # fmt: skip
    except TimedOut as error:
        raise SmokeFailed(f"{cell.id}: smoke test `{' '.join(test.run)}`: {error.what}") from error
    compare(cell, test, exit_code=code, stdout=bytes(collected.stdout), printed=bytes(collected.stderr))


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
