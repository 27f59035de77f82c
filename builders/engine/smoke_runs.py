"""Runs smoke tests in a container of the target's own platform, under QEMU where the engine's machine is another."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from builders import recipe_env, smoke
from builders.engine import owner, tars
from builders.engine.container import Engine, connect
from builders.engine.pump import Watch, watch
from builders.engine.room import Room
from builders.engine.spec import ContainerEnded, ContainerSpec, ImageFacts
from builders.errors import EmulationUnavailable, SmokeFailed, TimedOut
from builders.model import BuildEvents, Cell, Smoke, SmokeHow, SmokeResult, SmokeRun

_SHOWN_LIMIT = 1 << 20
_ENV = {"PATH": recipe_env.RECIPE_PATH, "HOME": "/tmp", "LC_ALL": "C.UTF-8", "TZ": "UTC"}  # noqa: S108 - inside

FindBase = Callable[[Engine, str], ImageFacts | None]
"""Gives the base image of a platform, or None where the engine has none."""


def run_tests(cell: Cell, out_dir: Path, events: BuildEvents, *, run: str, find_base: FindBase) -> SmokeResult:
    """Run a cell's tests against the files of a folder. Raises SmokeFailed; says why where it could not run them."""
    if not cell.smoke:
        return SmokeResult(how=SmokeHow.NONE)
    if cell.target.os != "linux":
        return _not_run(cell, f"containers do not run programs for {cell.target.os}")
    with connect() as engine:
        base = find_base(engine, cell.target.oci)
        if base is None:
            mend = f"`relbuild images build base --platform {cell.target.oci}`"
            return _not_run(cell, f"the engine has no base image for {cell.target.oci}; {mend} makes it")
        native = engine.facts().os_arch == cell.target.oci
        try:
            room = Room(engine=engine, image=base, labels=owner.labels(cell, run), watch=_clock(cell, events))
            runs = _run_all(room, cell, out_dir, events)
        except EmulationUnavailable:
            why = f"the engine's machine does not run {cell.target.oci}: no QEMU handler; `ci/engine up` registers it"
            return _not_run(cell, why)
    return SmokeResult(how=SmokeHow.NATIVE if native else SmokeHow.EMULATED, tests=len(cell.smoke), runs=runs)


def check_runs(cell: Cell, *, run: str, find_base: FindBase) -> None:
    """Raise EmulationUnavailable where the engine's machine does not run programs of a cell's target.

    Says nothing where the engine has no base image to try it with.
    """
    clock = watch(cell, threading.Event(), smoke.TIMEOUT_S)
    with connect() as engine:
        base = find_base(engine, cell.target.oci)
        if base is None:
            return
        with Room(engine=engine, image=base, labels=owner.labels(cell, run), watch=clock) as room:
            _start(room, cell)


def _clock(cell: Cell, events: BuildEvents) -> Watch:
    return watch(cell, events.cancelled, smoke.TIMEOUT_S * max(1, len(cell.smoke)))


def _run_all(room: Room, cell: Cell, out_dir: Path, events: BuildEvents) -> tuple[SmokeRun, ...]:
    runs = []
    with room:
        room.furnish({"/out": tars.folder(out_dir)})
        container = _start(room, cell)
        for test in cell.smoke:
            smoke.refuse_missing(cell, test, out_dir)
            runs.append(_run_one(room, container, cell, test, events))
    return tuple(runs)


def _start(room: Room, cell: Cell) -> str:
    # The engine starts a foreign container without a word, and its first program then cannot be executed.
    container = room.start(_spec(room, cell))
    try:
        code = room.run(container, ("true",), lambda _piece: None)
    except ContainerEnded:
        code = None
    if code != 0:
        raise EmulationUnavailable(
            f"{cell.id}: the engine's machine does not run {cell.target.oci} programs",
            next_step="register QEMU's handlers: `ci/engine up`, or build with a cross toolchain",
        )
    return container


def _run_one(room: Room, container: str, cell: Cell, test: Smoke, events: BuildEvents) -> SmokeRun:
    printed = _Printed(events=events)
    program = f"/out/{test.run[0]}"
    try:
        code = room.run(container, (program, *test.run[1:]), printed.take)
    except TimedOut as error:
        raise SmokeFailed(
            f"{cell.id}: smoke test `{' '.join(test.run)}` did not end within {room.watch.timeout_s:g} s",
            next_step="run it by hand; a smoke test is short and needs no input",
        ) from error
    return smoke.compare(cell, test, exit_code=code, stdout=bytes(printed.stdout), printed=bytes(printed.stderr))


@dataclass(slots=True, kw_only=True)
class _Printed:
    """What a test printed, the first megabyte of each stream; all of it goes to the log."""

    events: BuildEvents
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)

    def take(self, piece: tuple[bytes, bytes]) -> None:
        for chunk, kept in zip(piece, (self.stdout, self.stderr), strict=True):
            if chunk:
                self.events.output(chunk)
                kept.extend(chunk[: max(0, _SHOWN_LIMIT - len(kept))])


def _spec(room: Room, cell: Cell) -> ContainerSpec:
    return ContainerSpec(
        image=room.image, volumes=(), labels=room.labels, env=_ENV, working_dir="/out",
        cpus=cell.limits.cpus, memory_bytes=cell.limits.memory_bytes, pids=cell.limits.pids,
    )  # fmt: skip


def _not_run(cell: Cell, note: str) -> SmokeResult:
    return SmokeResult(how=SmokeHow.NOT_RUN, tests=len(cell.smoke), note=note)
