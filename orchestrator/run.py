"""Plan -> BuildReport: cells side by side, each built, checked and kept; what was finished before is found again."""

import contextlib
import errno
import fcntl
import os
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from builders.errors import (
    BuildError,
    DiskFull,
    FolderBusy,
    Interrupted,
    RelbuildError,
    SmokeNotRun,
)
from builders.interface import Builder
from builders.model import Cell, SmokeHow, SmokeResult
from orchestrator import gate
from orchestrator.cell_log import CellLog
from orchestrator.cells import CellStore, KeptBuild, KeptChecks
from orchestrator.events import CellFinished, CellOutput, CellStarted, CellStep, Observer, RunStarted
from orchestrator.model import BuildReport, Built, CellResult, Failed, Plan, PolicyRules, Skipped, Verdict
from orchestrator.slots import Slots


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRules:
    """How a plan is run. `jobs` 0 = as many cells as the CPUs carry."""

    policy: PolicyRules
    jobs: int = 0
    fail_fast: bool = False
    needles: tuple[bytes, ...] = ()
    """Absolute folders of this machine that no program may name."""


@dataclass(slots=True)
class Stop:
    """The one switch that ends a run: `cancelled` by Ctrl-C, `reason` says why cells were not tried."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    interrupted: bool = False
    reason: str = "the run was stopped"

    def interrupt(self) -> None:
        """End the run as Ctrl-C does."""
        self.interrupted = True
        self.cancelled.set()

    def fail_fast(self, cell_id: str) -> None:
        """End the run because a cell failed."""
        self.reason = f"{cell_id} failed, and --fail-fast is set"
        self.cancelled.set()


@contextmanager
def locked(dist: Path) -> Iterator[None]:
    """Hold an output folder alone. Raises FolderBusy with the holder's process id."""
    dist.mkdir(parents=True, exist_ok=True)
    ignore = dist / ".gitignore"
    if not ignore.exists():
        # Git then neither lists nor commits what is here, and a checkout with an output folder is not a changed one.
        ignore.write_text("*\n", encoding="ascii")
    with (dist / ".lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise FolderBusy(
                f"another run holds {dist} (process {lock.read(20).strip() or 'unknown'})",
                next_step="wait for it to end, or end that process",
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def run_plan(
    plan: Plan, *, builders: Mapping[str, Builder], dist: Path, rules: RunRules, observer: Observer, stop: Stop
) -> BuildReport:
    """Build what is not built yet. One cell's failure is a result, not an exception; the order is the plan's."""
    store = CellStore(dist / "cells")
    store.tidy()
    observer(RunStarted(plan=plan))
    to_check: dict[str, list[Cell]] = {}
    for planned in plan.cells:
        if not store.has(planned.cell.key):
            to_check.setdefault(planned.cell.builder, []).append(planned.cell)
    for name, cells in to_check.items():
        builders[name].check(cells)
    slots = Slots.of_this_machine(rules.jobs)
    crew = _Crew(builders=builders, store=store, logs=dist / "logs", rules=rules, observer=observer, stop=stop)
    with ThreadPoolExecutor(max_workers=max(1, slots.most)) as pool:
        futures = [pool.submit(crew.work, planned.cell, slots) for planned in plan.cells]
        return BuildReport(plan=plan, results=tuple(future.result() for future in futures))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Crew:
    """What every cell's worker shares."""

    builders: Mapping[str, Builder]
    store: CellStore
    logs: Path
    rules: RunRules
    observer: Observer
    stop: Stop
    times: threading.Lock = field(default_factory=threading.Lock)

    def work(self, cell: Cell, slots: Slots) -> CellResult:
        with slots.taken(cell.limits, self.stop.cancelled):
            result = self._result(cell)
            # While the slot is still taken, so that no waiting cell starts in between.
            if isinstance(result, Failed) and self.rules.fail_fast and cell.required:
                self.stop.fail_fast(cell.id)
        self.observer(CellFinished(result=result))
        return result

    def _result(self, cell: Cell) -> CellResult:
        if self.stop.cancelled.is_set():
            return Skipped(cell=cell, reason=self.stop.reason)
        log_path = self.logs / f"{cell.product}-{cell.target.name}.log"
        started = time.monotonic()
        try:
            return self._from_cache(cell, log_path) or self._fresh(cell, log_path, started)
        except Interrupted:
            return Skipped(cell=cell, reason=self.stop.reason)
        except RelbuildError as error:
            return self._failed(cell, error, log_path, started)
        except OSError as error:
            return self._failed(cell, _translated(cell, error), log_path, started)
        except Exception as error:  # noqa: BLE001  (a defect of one cell's builder must not lose the other cells)
            with contextlib.suppress(OSError), log_path.open("a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
            defect = BuildError(f"{cell.id}: relbuild itself failed: {error!r}", next_step=f"report it with {log_path}")
            return self._failed(cell, defect, log_path, started)

    def _failed(self, cell: Cell, error: RelbuildError, log: Path, started: float) -> Failed:
        return Failed(cell=cell, error=error, log=log, seconds=time.monotonic() - started)

    def _from_cache(self, cell: Cell, log_path: Path) -> Built | None:
        kept = self.store.load(cell.key) if self.store.has(cell.key) else None
        if kept is None:
            return None
        checks = self.store.load_checks(cell, self.rules.policy.gate)
        if checks is None:
            with self._log(cell, log_path) as log:
                checks = self._check(cell, kept, log)
        self._judge_not_run(cell, checks.smoke)
        return self._built(cell, kept, checks, from_cache=True)

    def _fresh(self, cell: Cell, log_path: Path, started: float) -> Built:
        with self._log(cell, log_path) as log, self.store.room() as room:
            log.remark(cell.toolchain.isolation)
            log.step(cell.toolchain.description)
            files = self.builders[cell.builder].build(cell, room, log)
            kept = KeptBuild(files=files, seconds=time.monotonic() - started, documents=log.documents)
            self.store.keep(cell.key, room, kept)
            with self.times:
                self.store.remember_time(cell, kept.seconds)
            checks = self._check(cell, kept, log)
        self._judge_not_run(cell, checks.smoke)
        return self._built(cell, kept, checks, from_cache=False)

    def _check(self, cell: Cell, kept: KeptBuild, log: CellLog) -> KeptChecks:
        folder = self.store.files_of(cell.key)
        findings = gate.judge(folder, kept.files, cell.target, cell.libc, self.rules.policy.gate, self.rules.needles)
        smoke = self.builders[cell.builder].smoke(cell, folder, log)
        checks = KeptChecks(findings=findings, smoke=smoke)
        self.store.keep_checks(cell, self.rules.policy.gate, checks)
        return checks

    def _judge_not_run(self, cell: Cell, smoke: SmokeResult) -> None:
        if smoke.how is SmokeHow.NOT_RUN and self.rules.policy.smoke_not_run is Verdict.ERROR:
            raise SmokeNotRun(
                f"{cell.id}: its smoke tests could not run: {smoke.note}",
                next_step="mend that, or set smoke_not_run = 'warn' in [policy]",
            )

    def _built(self, cell: Cell, kept: KeptBuild, checks: KeptChecks, *, from_cache: bool) -> Built:
        return Built(
            cell=cell,
            folder=self.store.files_of(cell.key),
            files=kept.files,
            findings=checks.findings,
            smoke=checks.smoke,
            seconds=kept.seconds,
            from_cache=from_cache,
            documents=kept.documents,
        )

    def _log(self, cell: Cell, path: Path) -> CellLog:
        self.observer(CellStarted(cell=cell.id, log=str(path)))
        return CellLog(
            path,
            limit_bytes=cell.limits.log_bytes,
            cancelled=self.stop.cancelled,
            on_line=lambda text: self.observer(CellOutput(cell=cell.id, text=text)),
            on_step=lambda text: self.observer(CellStep(cell=cell.id, text=text)),
        )


def _translated(cell: Cell, error: OSError) -> RelbuildError:
    place = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"{cell.id}: {os.strerror(error.errno)}{place}", next_step="free some space and run again; nothing is lost"
        )
    return BuildError(f"{cell.id}: {error.strerror or error}{place}", next_step="mend that and run again")
