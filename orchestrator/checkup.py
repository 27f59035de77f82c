"""What `relbuild doctor` finds: each thing a run needs, whether it is there, and what mends it."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from builders import command, emulation
from builders.engine.node_model import Node
from builders.errors import CellError, RelbuildError, ToolchainUnavailable
from builders.local import sandbox
from builders.targets import TARGETS, Target, host
from orchestrator import survey
from orchestrator.model import Matrix, Plan

_LOW_DISK = 5 << 30
_LOW_MEMORY = 1 << 30
_BUILD_TIMES = 1_600_000_000
"""A clock before this (2020) is wrong, and would make wrong archives elsewhere."""

BAD_QEMU = {"7.0": "arm programs that use robust futexes hang"}
"""Versions of QEMU that are known to break builds, and how."""


class Grade(StrEnum):
    OK = "ok"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """One thing that was looked at. `mend` is empty where nothing needs mending."""

    name: str
    grade: Grade
    text: str
    mend: str = ""


def examine(
    matrix: Matrix | None,
    dist: Path,
    engine: Callable[[], str],
    plan: Callable[[], Plan] | None,
    nodes: Callable[[], Sequence[Node]] | None = None,
) -> tuple[Symptom, ...]:
    """Look at everything. `engine` describes the container engine or raises; `plan` is the run to be, if any.

    `nodes` asks the BuildKit nodes, where there are some.
    """
    targets = _targets(matrix)
    found = [
        _engine(engine), *_handlers(targets), *_emulators(targets), _isolation(), _zig(), _disk(dist), _memory(),
        _clock(),
    ]  # fmt: skip
    if matrix is not None:
        found.append(_checkout(matrix))
    if nodes is not None:
        found += _nodes(nodes)
    if plan is not None:
        found += _cells(plan)
    return tuple(found)


def _targets(matrix: Matrix | None) -> tuple[Target, ...]:
    if matrix is None:
        return tuple(row for row in TARGETS.values() if row.os == "linux")
    return tuple(matrix.targets[name] for name in sorted({name for each in matrix.products for name in each.targets}))


def _engine(describe: Callable[[], str]) -> Symptom:
    try:
        return Symptom(name="engine", grade=Grade.OK, text=describe())
    except RelbuildError as error:
        return Symptom(
            name="engine", grade=Grade.NOTE, text=f"{error.what}; Dockerfiles and emulated builds are left out",
            mend="as root on Debian or Ubuntu: `ci/engine up`; elsewhere install Docker with buildx",
        )  # fmt: skip


def _nodes(look: Callable[[], Sequence[Node]]) -> Iterator[Symptom]:
    try:
        found = look()
    except RelbuildError as error:
        yield Symptom(name="nodes", grade=Grade.BAD, text=error.what, mend=error.next_step)
        return
    for node in found:
        name, place = f"node {node.name}", node.rules.endpoint
        if not node.answers:
            mend = f"start it, or mend its endpoint; until then others take {', '.join(node.rules.platforms)}"
            yield Symptom(name=name, grade=Grade.NOTE, text=f"{place} does not answer: {node.why}", mend=mend)
        elif node.rules.is_open:
            mend = "give ca, cert and key, or use ssh://"
            yield Symptom(name=name, grade=Grade.NOTE, text=f"{place} is INSECURE: TCP without TLS", mend=mend)
        else:
            text = f"{place} is {node.native}, takes {', '.join(node.rules.platforms)}"
            yield Symptom(name=name, grade=Grade.OK, text=text)


def _handlers(targets: Sequence[Target]) -> Iterator[Symptom]:
    for target in targets:
        if not target.qemu or emulation.runs_here(target):
            continue
        handler = emulation.find_handler(target)
        name = f"handler {target.name}"
        mend = "as root: `ci/engine up`, or install qemu-user-static and binfmt-support"
        if handler is None or not handler.enabled:
            yield Symptom(name=name, grade=Grade.NOTE, text="the kernel has no QEMU handler for it", mend=mend)
        elif not handler.fixed:
            text = f"{handler.interpreter} is registered without flag F: containers do not see it"
            yield Symptom(name=name, grade=Grade.NOTE, text=text, mend=mend)
        else:
            yield Symptom(name=name, grade=Grade.OK, text=f"{handler.interpreter}, flag F")


def _emulators(targets: Sequence[Target]) -> Iterator[Symptom]:
    for target in targets:
        if not target.qemu or emulation.runs_here(target):
            continue
        name, found = f"emulator {target.name}", emulation.find_emulator(target)
        if found is None:
            mend = "install qemu-user-static"
            yield Symptom(name=name, grade=Grade.NOTE, text="smoke tests for it do not run locally", mend=mend)
            continue
        bad = next((why for version, why in BAD_QEMU.items() if found.version.startswith(version)), "")
        text = f"QEMU {found.version}{': ' + bad if bad else ''}"
        if bad:
            yield Symptom(name=name, grade=Grade.BAD, text=text, mend="install a newer qemu-user-static")
        elif emulation.sysroot(target) is None:
            mend = f"install libc6-{target.deb}-cross for smoke tests of glibc programs without containers"
            yield Symptom(name=name, grade=Grade.NOTE, text=f"{text}, no C library for {target.name}", mend=mend)
        else:
            yield Symptom(name=name, grade=Grade.OK, text=text)


def _isolation() -> Symptom:
    found = sandbox.available()
    if found is sandbox.Isolation.BUBBLEWRAP:
        return Symptom(name="sandbox", grade=Grade.OK, text=found.value)
    return Symptom(name="sandbox", grade=Grade.NOTE, text=found.value, mend="install bubblewrap")


def _zig() -> Symptom:
    from builders.local import local_toolchains  # noqa: PLC0415  (only this check wants it)
    from builders.model import Libc  # noqa: PLC0415

    try:
        found = local_toolchains.find("zig", host(), Libc(), moved=False, tools="")
    except (ToolchainUnavailable, KeyError) as error:
        mend = getattr(error, "next_step", "")
        return Symptom(name="zig", grade=Grade.NOTE, text="not installed: the local engine lacks it", mend=mend)
    return Symptom(name="zig", grade=Grade.OK, text=found.description)


def _disk(dist: Path) -> Symptom:
    place = next(folder for folder in (dist.absolute(), *dist.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if not os.access(place, os.W_OK):
        return Symptom(name="disk", grade=Grade.BAD, text=f"{place} is not writable", mend="choose --output elsewhere")
    if free < _LOW_DISK:
        text = f"{free / (1 << 30):.1f} GiB free in {place}"
        return Symptom(name="disk", grade=Grade.BAD, text=text, mend="free 5 GiB, or choose --output elsewhere")
    return Symptom(name="disk", grade=Grade.OK, text=f"{free / (1 << 30):.0f} GiB free")


def _memory() -> Symptom:
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    text = f"{total / (1 << 30):.1f} GiB"
    if total < _LOW_MEMORY:
        return Symptom(name="memory", grade=Grade.BAD, text=text, mend="use --jobs 1 on a machine with 1 GiB or more")
    return Symptom(name="memory", grade=Grade.OK, text=f"{text}, {free / (1 << 30):.1f} GiB unused")


def _clock() -> Symptom:
    now = time.time()
    if now < _BUILD_TIMES:
        return Symptom(name="clock", grade=Grade.BAD, text="the clock stands before 2020", mend="set the clock")
    return Symptom(name="clock", grade=Grade.OK, text=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now)))


def _checkout(matrix: Matrix) -> Symptom:
    if not command.find_program("git"):
        text = "git is not installed: no commit, and ignored files count as source"
        return Symptom(name="git", grade=Grade.NOTE, text=text, mend="install git")
    state = survey.checkout_state(matrix.root)
    if not state.commit:
        text = "no commit: archives carry the date 1980-01-01"
        return Symptom(name="git", grade=Grade.NOTE, text=text, mend="commit, or set SOURCE_DATE_EPOCH")
    if state.dirty:
        text = f"{state.commit[:12]} with changes that are not committed"
        return Symptom(name="git", grade=Grade.NOTE, text=text, mend="commit them before a release")
    return Symptom(name="git", grade=Grade.OK, text=state.commit[:12])


def _cells(make_plan: Callable[[], Plan]) -> Iterator[Symptom]:
    try:
        plan = make_plan()
    except (RelbuildError, CellError) as error:
        yield Symptom(name="plan", grade=Grade.BAD, text=error.what, mend=error.next_step)
        return
    yield Symptom(
        name="plan", grade=Grade.OK if plan.cells else Grade.BAD,
        text=f"{len(plan.cells)} cells with the {plan.engine} engine",
    )  # fmt: skip
    for gap in plan.left_out:
        grade = Grade.BAD if gap.required else Grade.NOTE
        yield Symptom(name=f"{gap.product}/{gap.target}", grade=grade, text=gap.reason, mend=gap.next_step)
