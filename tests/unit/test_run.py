"""The runner over a fake builder: results, resuming, stopping, the lock, the log."""

import dataclasses
import errno
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

from builders import targets
from builders.errors import (
    BuildError,
    CellError,
    CellsLeftOut,
    CommandFailed,
    DiskFull,
    FolderBusy,
    Interrupted,
    SmokeNotRun,
    TimedOut,
    ToolchainUnavailable,
    WrongMachine,
)
from builders.model import BuildEvents, Cell, Limits, Smoke, SmokeHow, SmokeResult
from orchestrator.cells import CellStore
from orchestrator.errors import BestEffortFailed, NothingToDo
from orchestrator.events import Event
from orchestrator.model import (
    BuildReport,
    Built,
    CacheState,
    Failed,
    GateRules,
    LeftOut,
    Plan,
    PlannedCell,
    PolicyRules,
    Skipped,
    Verdict,
)
from orchestrator.release import refuse_gaps, verdict
from orchestrator.run import RunRules, Stop, locked, run_plan
from orchestrator.slots import Slots
from tests.fakes import FakeBuilder, make_cell, make_matrix, write_output

CELLS = tuple(make_cell(product=name) for name in ("a", "b", "c"))


def make_plan(*cells: Cell) -> Plan:
    planned = tuple(PlannedCell(cell=cell, cache=CacheState.MISS, estimate_s=None) for cell in cells or CELLS)
    return Plan(
        project="p", version="1.0.0", commit="", dirty=False, epoch=0, engine="fake", engine_reason="", cells=planned
    )


def run(
    dist: Path, builder: FakeBuilder, *cells: Cell, stop: Stop | None = None, observer: object = None, **rules: object
) -> BuildReport:
    return run_plan(
        make_plan(*cells), builders={"fake": builder}, dist=dist,
        rules=RunRules(**{"policy": PolicyRules(), **rules}),  # type: ignore[arg-type]  # the test's own keywords
        observer=observer or (lambda _event: None), stop=stop or Stop(),  # type: ignore[arg-type]  # an Observer
    )  # fmt: skip


def fails_for(product: str) -> FakeBuilder:
    def recipe(cell: Cell, out_dir: Path, events: BuildEvents) -> None:
        if cell.product == product:
            raise CommandFailed(f"{cell.id}: `make` ended with 2")
        write_output(cell, out_dir, events)

    return FakeBuilder(recipe=recipe)


def test_results_keep_the_order_of_the_plan(tmp_path: Path) -> None:
    report = run(tmp_path, FakeBuilder())
    assert [result.cell.product for result in report.results] == ["a", "b", "c"]
    assert all(isinstance(result, Built) and not result.from_cache for result in report.results)


def test_a_second_run_builds_nothing(tmp_path: Path) -> None:
    run(tmp_path, FakeBuilder())
    again = FakeBuilder()
    report = run(tmp_path, again)
    assert again.built == []
    assert all(isinstance(result, Built) and result.from_cache for result in report.results)


def test_a_changed_cell_is_the_only_one_built(tmp_path: Path) -> None:
    run(tmp_path, FakeBuilder())
    again = FakeBuilder()
    run(tmp_path, again, CELLS[0], make_cell(product="b", version="2.0.0"), CELLS[2])
    assert again.built == ["b/x86_64"]


def test_a_flipped_bit_in_a_kept_file_builds_the_cell_again(tmp_path: Path) -> None:
    report = run(tmp_path, FakeBuilder())
    kept = report.built[1].folder / "b"
    kept.write_bytes(bytes([kept.read_bytes()[0] ^ 1]) + kept.read_bytes()[1:])
    again = FakeBuilder()
    mended = run(tmp_path, again)
    assert again.built == ["b/x86_64"]
    assert [result.from_cache for result in mended.built] == [True, False, True]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": [{}], "seconds": 1}', '{"files": [], "seconds": "x"}'])
def test_a_kept_cell_that_cannot_be_read_is_built_again(tmp_path: Path, text: str) -> None:
    (kept,) = run(tmp_path, FakeBuilder(), CELLS[0]).built
    (kept.folder.parent / "build.json").write_text(text)
    again = FakeBuilder()
    assert len(run(tmp_path, again, CELLS[0]).built) == 1
    assert again.built == ["a/x86_64"]


def test_the_time_of_the_last_build_is_the_next_estimate(tmp_path: Path) -> None:
    (built,) = run(tmp_path, FakeBuilder(), CELLS[0]).built
    store = CellStore(tmp_path / "cells")
    assert store.estimate(make_cell(product="a", version="2.0.0")) == pytest.approx(built.seconds, abs=0.01)
    assert store.estimate(CELLS[1]) is None


def test_a_line_of_times_that_a_kill_cut_short_loses_no_other(tmp_path: Path) -> None:
    store, other = CellStore(tmp_path), make_cell(product="b")
    for seconds in (9.0, 2.5):
        store.remember_time(CELLS[0], seconds)
    store.remember_time(other, 4.0)
    with (tmp_path / "times.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"c/x86_64 nat')
    again = CellStore(tmp_path)
    assert (again.estimate(CELLS[0]), again.estimate(other)) == (2.5, 4.0)
    again.tidy()
    assert len((tmp_path / "times.jsonl").read_text().splitlines()) == 2
    assert CellStore(tmp_path).estimate(CELLS[0]) == 2.5


def test_a_cleared_store_has_nothing(tmp_path: Path) -> None:
    run(tmp_path, FakeBuilder())
    store = CellStore(tmp_path / "cells")
    assert store.has(CELLS[0].key)
    store.clear()
    store.clear()
    assert not store.has(CELLS[0].key)


def test_a_build_that_was_cut_off_leaves_nothing_that_counts(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def recipe(cell: Cell, out_dir: Path, events: BuildEvents) -> None:
        write_output(cell, out_dir, events)
        raise Killed

    with pytest.raises(Killed):
        run(tmp_path, FakeBuilder(recipe=recipe), CELLS[0])
    assert not list((tmp_path / "cells").glob(".new-*"))
    again = FakeBuilder()
    run(tmp_path, again, CELLS[0])
    assert again.built == ["a/x86_64"]


def test_one_failure_leaves_the_others_alone(tmp_path: Path) -> None:
    report = run(tmp_path, fails_for("b"))
    assert [type(result) for result in report.results] == [Built, Failed, Built]
    error = verdict(report, Stop())
    assert isinstance(error, CommandFailed)
    assert error.exit_code == 80


def test_fail_fast_skips_what_was_not_started(tmp_path: Path) -> None:
    report = run(tmp_path, fails_for("a"), jobs=1, fail_fast=True)
    assert [type(result) for result in report.results] == [Failed, Skipped, Skipped]
    assert "a/x86_64 failed" in report.results[1].reason  # type: ignore[union-attr]  # a Skipped, as asserted above


def test_best_effort_failures_do_not_decide(tmp_path: Path) -> None:
    lesser = dataclasses.replace(CELLS[1], required=False)
    report = run(tmp_path, fails_for("b"), lesser, CELLS[0], CELLS[2], jobs=1, fail_fast=True)
    assert [type(result) for result in report.results] == [Failed, Built, Built]
    assert verdict(report, Stop()) is None


def report_of(*results: Failed | Skipped) -> BuildReport:
    return BuildReport(plan=make_plan(*(result.cell for result in results)), results=results)


def failed(cell: Cell, error: BuildError) -> Failed:
    return Failed(cell=cell, error=error, log=Path("log"), seconds=1.0)


def test_the_run_ends_with_the_kind_of_its_failures() -> None:
    one_kind = report_of(failed(CELLS[0], CommandFailed("a")), failed(CELLS[1], CommandFailed("b")))
    assert type(verdict(one_kind, Stop())) is CommandFailed
    mixed = report_of(failed(CELLS[0], CommandFailed("a")), failed(CELLS[1], TimedOut("b")))
    assert type(verdict(mixed, Stop())) is CellError
    worse = report_of(failed(CELLS[0], CommandFailed("a")), failed(CELLS[1], DiskFull("b")))
    assert type(verdict(worse, Stop())) is BuildError


def test_a_required_cell_that_was_not_tried_is_no_success(tmp_path: Path) -> None:
    built = run(tmp_path, FakeBuilder(), CELLS[0])
    skipped = Skipped(cell=CELLS[1], reason="stopped")
    error = verdict(dataclasses.replace(built, results=(*built.results, skipped)), Stop())
    assert error is not None
    assert "1 not tried" in error.what
    lesser = dataclasses.replace(skipped, cell=dataclasses.replace(CELLS[1], required=False))
    assert verdict(dataclasses.replace(built, results=(*built.results, lesser)), Stop()) is None


def test_a_run_that_built_nothing_is_no_success() -> None:
    lesser = dataclasses.replace(CELLS[0], required=False)
    assert isinstance(verdict(report_of(failed(lesser, CommandFailed("a"))), Stop()), BestEffortFailed)


@pytest.mark.parametrize(
    ("required", "policy", "cells", "refused"),
    [
        (True, Verdict.ERROR, CELLS, True),
        (False, Verdict.ERROR, CELLS, False),
        (True, Verdict.WARN, CELLS, False),
        (False, Verdict.WARN, (), True),
    ],
    ids=["required", "best-effort", "policy-warns", "nothing-left"],
)
def test_left_out_cells_follow_policy(required: bool, policy: Verdict, cells: tuple[Cell, ...], refused: bool) -> None:
    gap = LeftOut(product="d", target="armv7", reason="no compiler", next_step="get one", required=required)
    planned = make_plan().cells if cells else ()
    plan = dataclasses.replace(make_plan(), cells=planned, left_out=(gap,))
    matrix = make_matrix(policy=PolicyRules(left_out=policy))
    if refused:
        with pytest.raises(CellsLeftOut, match="d/armv7: no compiler"):
            refuse_gaps(matrix, plan)
    else:
        refuse_gaps(matrix, plan)


def test_a_selection_of_nothing_is_refused() -> None:
    with pytest.raises(NothingToDo, match="no cell"):
        refuse_gaps(make_matrix(), dataclasses.replace(make_plan(), cells=()))


def test_a_missing_compiler_is_told_before_anything_is_built(tmp_path: Path) -> None:
    bare = FakeBuilder(toolchains={})
    with pytest.raises(ToolchainUnavailable):
        run(tmp_path, bare)
    assert bare.built == []
    run(tmp_path, FakeBuilder())
    assert len(run(tmp_path, bare).built) == 3, "finished cells need no compiler"


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "cells" / ".new-killed" / "files").mkdir(parents=True)
    run(tmp_path, FakeBuilder(), CELLS[0])
    assert not list((tmp_path / "cells").glob(".new-*"))


def test_an_interrupt_keeps_what_was_finished(tmp_path: Path) -> None:
    stop = Stop()

    def recipe(cell: Cell, out_dir: Path, events: BuildEvents) -> None:
        if cell.product == "b":
            stop.interrupt()
            raise Interrupted("stopped")
        write_output(cell, out_dir, events)

    report = run(tmp_path, FakeBuilder(recipe=recipe), stop=stop, jobs=1)
    assert [type(result) for result in report.results] == [Built, Skipped, Skipped]
    error = verdict(report, stop)
    assert error is not None
    assert error.exit_code == 130
    again = FakeBuilder()
    run(tmp_path, again, jobs=1)
    assert again.built == ["b/x86_64", "c/x86_64"]


def test_cells_run_side_by_side_within_the_bound(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=20)

    def recipe(cell: Cell, out_dir: Path, events: BuildEvents) -> None:
        if cell.product in {"a", "b"}:
            together.wait()
        write_output(cell, out_dir, events)

    report = run(tmp_path, FakeBuilder(recipe=recipe), jobs=2)
    assert len(report.built) == 3


def test_no_more_cells_run_than_jobs_says(tmp_path: Path) -> None:
    running: list[str] = []
    seen: list[int] = []

    def recipe(cell: Cell, out_dir: Path, events: BuildEvents) -> None:
        running.append(cell.id)
        seen.append(len(running))
        time.sleep(0.05)
        running.remove(cell.id)
        write_output(cell, out_dir, events)

    cells = tuple(make_cell(product=name, limits=Limits(cpus=0.1)) for name in "abcdef")
    assert len(run(tmp_path, FakeBuilder(recipe=recipe), *cells, jobs=2).built) == 6
    assert max(seen) <= 2


def test_without_jobs_each_processor_takes_a_cell() -> None:
    assert Slots.of_this_machine(0).most == len(os.sched_getaffinity(0))


def enters_beside(slots: Slots, limits: Limits, cancelled: threading.Event) -> threading.Event:
    """Try to take a slot on a thread of its own; what comes back is set once it is held."""
    entered = threading.Event()

    def take() -> None:
        with slots.taken(limits, cancelled):
            entered.set()

    threading.Thread(target=take, daemon=True).start()
    return entered


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (Limits(memory_bytes=60), Limits(memory_bytes=30), True),
        (Limits(memory_bytes=60), Limits(memory_bytes=60), False),
        (Limits(cpus=3), Limits(cpus=1), True),
        (Limits(cpus=3), Limits(cpus=2), False),
        (Limits(cpus=9), Limits(), False),
    ],
    ids=["memory", "too-much-memory", "cpus", "too-many-cpus", "alone"],
)
def test_cells_share_the_machine_within_its_bounds(first: Limits, second: Limits, together: bool) -> None:
    slots = Slots(most=8, cpus=4.0, memory_bytes=100)
    with slots.taken(first, threading.Event()):
        entered = enters_beside(slots, second, threading.Event())
        assert entered.wait(10 if together else 0.3) is together
    assert entered.wait(10)


def test_stopping_ends_the_wait_for_a_slot() -> None:
    cancelled = threading.Event()
    slots = Slots(most=1, cpus=1.0, memory_bytes=1)
    with slots.taken(Limits(), cancelled):
        entered = enters_beside(slots, Limits(), cancelled)
        assert not entered.wait(0.3)
        cancelled.set()
        assert entered.wait(10)


def test_a_cell_larger_than_the_machine_runs_alone(tmp_path: Path) -> None:
    huge = make_cell(limits=Limits(memory_bytes=1 << 60))
    assert len(run(tmp_path, FakeBuilder(), huge, CELLS[0], jobs=2).built) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=["space", "quota"])
def test_a_full_disk_has_its_own_error(tmp_path: Path, number: int) -> None:
    def recipe(cell: Cell, out_dir: Path, events: BuildEvents) -> None:
        raise OSError(number, "no space", str(out_dir))

    result = run(tmp_path, FakeBuilder(recipe=recipe), CELLS[0]).results[0]
    assert isinstance(result, Failed)
    assert isinstance(result.error, DiskFull)


def test_a_defect_in_a_builder_fails_its_cell_and_names_the_log(tmp_path: Path) -> None:
    def recipe(cell: Cell, out_dir: Path, events: BuildEvents) -> None:
        raise ZeroDivisionError

    result = run(tmp_path, FakeBuilder(recipe=recipe), CELLS[0]).results[0]
    assert isinstance(result, Failed)
    assert "relbuild itself failed" in result.error.what
    assert "ZeroDivisionError" in result.log.read_text()


def test_smoke_that_cannot_run_follows_policy(tmp_path: Path) -> None:
    cell = make_cell(smoke=(Smoke(run=("hello",)),))
    not_run = SmokeResult(how=SmokeHow.NOT_RUN, tests=1, note="no emulator")
    builder = FakeBuilder(smoke_result=not_run)
    assert isinstance(run(tmp_path, builder, cell).results[0], Built)
    result = run(tmp_path, builder, cell, policy=PolicyRules(smoke_not_run=Verdict.ERROR)).results[0]
    assert isinstance(result, Failed)
    assert isinstance(result.error, SmokeNotRun)
    assert builder.built == [cell.id], "the files were kept; only the test was tried again"


def test_a_smoke_test_that_could_not_run_is_tried_again(tmp_path: Path) -> None:
    cell = make_cell(smoke=(Smoke(run=("hello",)),))
    run(tmp_path, FakeBuilder(smoke_result=SmokeResult(how=SmokeHow.NOT_RUN, tests=1)), cell)
    native = SmokeResult(how=SmokeHow.NATIVE, tests=1)
    assert [result.smoke for result in run(tmp_path, FakeBuilder(smoke_result=native), cell).built] == [native]


def test_a_kept_cell_is_judged_by_todays_policy(tmp_path: Path) -> None:
    def recipe(cell: Cell, out_dir: Path, events: BuildEvents) -> None:
        shutil.copy(Path(sys.executable).resolve(), out_dir / "program")

    cell = make_cell(target=targets.host())
    builder = FakeBuilder(recipe=recipe)
    found = {}
    for judged in (Verdict.IGNORE, Verdict.WARN, Verdict.ERROR):
        gate = GateRules(
            libc_floor=Verdict.IGNORE, interpreter=Verdict.IGNORE, needed=judged, rpath=Verdict.IGNORE,
            build_paths=Verdict.IGNORE, stripped=judged, build_id=judged,
        )  # fmt: skip
        found[judged] = run(tmp_path, builder, cell, policy=PolicyRules(gate=gate)).results[0]
    assert [type(result) for result in found.values()] == [Built, Built, Failed]
    assert [len(result.findings) > 0 for result in found.values() if isinstance(result, Built)] == [False, True]
    assert builder.built == [cell.id]


def test_a_program_for_another_machine_fails_its_cell_each_time(tmp_path: Path) -> None:
    def recipe(cell: Cell, out_dir: Path, events: BuildEvents) -> None:
        shutil.copy(Path(sys.executable).resolve(), out_dir / "program")

    foreign = next(row for row in targets.TARGETS.values() if row.os == "linux" and row != targets.host())
    for _ in range(2):
        result = run(tmp_path, FakeBuilder(recipe=recipe), make_cell(target=foreign)).results[0]
        assert isinstance(result, Failed)
        assert isinstance(result.error, WrongMachine)


def test_a_changed_smoke_test_runs_again_without_a_build(tmp_path: Path) -> None:
    builder = FakeBuilder(smoke_result=SmokeResult(how=SmokeHow.NATIVE, tests=1))
    run(tmp_path, builder, make_cell(smoke=(Smoke(run=("hello",)),)))
    run(tmp_path, builder, make_cell(smoke=(Smoke(run=("hello",)),)))
    run(tmp_path, builder, make_cell(smoke=(Smoke(run=("hello", "--version")),)))
    assert (len(builder.built), len(builder.smoked)) == (1, 2)


def test_two_runs_do_not_share_an_output_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(FolderBusy, match=r"process \d+"), locked(tmp_path):
        pass


@pytest.mark.fault(82)
def test_the_log_is_harmless_and_bounded(tmp_path: Path) -> None:
    seen: list[Event] = []

    def recipe(cell: Cell, out_dir: Path, events: BuildEvents) -> None:
        events.output(b"\x1b[31mred\x1b[0m \x9b \xe2\x80\xae\n::add-mask::secret\nover\rwritten\n\xff\n")
        for _ in range(1000):
            events.output(b"y" * 1000 + b"\n")
        write_output(cell, out_dir, events)

    cell = make_cell(limits=Limits(log_bytes=10_000))
    run(tmp_path, FakeBuilder(recipe=recipe), cell, observer=seen.append)
    text = (tmp_path / "logs" / "hello-x86_64.log").read_text()
    assert r"\x1b[31mred\x1b[0m" in text
    assert r"over\x0dwritten" in text
    assert "\n::" not in text
    assert r"\u202e" not in text
    assert "\u202e" not in text
    assert "bytes more were printed" in text
    assert len(text) < 20_000


def test_output_without_a_line_end_is_bounded_too(tmp_path: Path) -> None:
    def recipe(cell: Cell, out_dir: Path, events: BuildEvents) -> None:
        for _ in range(1000):
            events.output(b"y" * 1000)
        write_output(cell, out_dir, events)

    run(tmp_path, FakeBuilder(recipe=recipe), make_cell(limits=Limits(log_bytes=10_000)))
    text = (tmp_path / "logs" / "hello-x86_64.log").read_text()
    assert len(text) < 30_000
    assert "bytes more were printed" in text


def test_git_neither_lists_nor_commits_the_output_folder(tmp_path: Path) -> None:
    with locked(tmp_path / "dist"):
        pass
    assert (tmp_path / "dist" / ".gitignore").read_text() == "*\n"
