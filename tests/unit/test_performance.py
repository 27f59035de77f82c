"""Budgets of size, start and build time: real programs that are larger and slower, and clocks that are noisy."""

import json
import random
from pathlib import Path

import pytest

from orchestrator.validate import performance, startup
from orchestrator.validate.values import FIRST_RELEASE, Outcome
from orchestrator.validation_rules import BuildTime, ValidationRules
from tests.unit.payloads import Made, compared, compile_c, errors, gaps, passed

SLEEPER = """
#include <time.h>
int main(void) { struct timespec t = {0, %d * 1000000L}; nanosleep(&t, 0); return 0; }
"""
SMOKE = ((("bin/tool",), 0),)


def tool(folder: Path, sleeps_ms: int = 2, *flags: str) -> Path:
    compile_c(SLEEPER % sleeps_ms, folder / "bin" / "tool", *flags)
    return folder


def keep(cells: Path, **seconds: float) -> Path:
    for key, value in seconds.items():
        (cells / key).mkdir(parents=True)
        (cells / key / "build.json").write_text(json.dumps({"seconds": value}))
    return cells


def judged(new: Made, old: Made | None, cells: Path | None = None, rules: ValidationRules | None = None) -> Outcome:
    return performance.check(compared(new, old, rules or ValidationRules(), cells))


# --- sizes -------------------------------------------------------------------------------------------------------


def test_same_size_start_and_build_pass(tmp_path: Path) -> None:
    cells = keep(tmp_path / "cells", k1=10.0, k2=12.0)
    old = Made(folder=tool(tmp_path / "a"), smoke=SMOKE)
    new = Made(folder=tool(tmp_path / "b"), version="1.0.1", smoke=SMOKE, cell_key="k2", packed=1090)
    notes = passed(judged(new, old, cells)).notes
    assert any("1.090 times the size (1,090 bytes, before 1,000)" in note for note in notes)
    assert any("build took 1.20 times as long" in note for note in notes)
    assert any("`bin/tool` takes" in note and "ratios from" in note for note in notes)


@pytest.mark.parametrize(("packed", "fails"), [(1100, False), (1101, True), (1300, True), (700, False)])
def test_artifact_beyond_the_budget_fails(tmp_path: Path, packed: int, fails: bool) -> None:
    (tmp_path / "a").mkdir()
    old = Made(folder=tmp_path / "a")
    outcome = judged(Made(folder=tmp_path / "a", version="1.0.1", packed=packed), old)
    if fails:
        (finding,) = errors(outcome)
        assert finding.rule == "size"
        assert f"({packed:,} bytes, before 1,000); the budget is 1.1" in finding.text
    else:
        passed(outcome)


def test_growth_that_compression_hides_fails(tmp_path: Path) -> None:
    old, new = tool(tmp_path / "a"), tool(tmp_path / "b")
    size = (old / "bin" / "tool").stat().st_size
    with (new / "bin" / "tool").open("ab") as file:
        file.truncate(size * 13 // 10)
    (finding,) = [
        each
        for each in errors(judged(Made(folder=new, smoke=SMOKE), Made(folder=old, smoke=SMOKE)))
        if each.rule == "size"
    ]
    assert "what it unpacks to has 1.300 times the size" in finding.text


# --- starts ------------------------------------------------------------------------------------------------------


def test_slower_start_fails_with_its_ratio(tmp_path: Path) -> None:
    old = Made(folder=tool(tmp_path / "a", 5), smoke=SMOKE)
    new = Made(folder=tool(tmp_path / "b", 25), smoke=SMOKE, version="1.0.1")
    (finding,) = errors(judged(new, old))
    assert finding.rule == "startup"
    ratio = float(finding.text.split("takes ")[1].split(" times")[0])
    assert 1.5 < ratio < 6


def test_start_of_another_end_or_machine_is_not_measured(tmp_path: Path) -> None:
    folder = tool(tmp_path / "a")
    wrong = Made(folder=folder, smoke=((("bin/tool",), 3),))
    assert "ends with 0 here, and ended with 3" in gaps(judged(wrong, wrong))[0]
    windows = Made(folder=folder, smoke=SMOKE, target="x86_64-windows")
    assert "do not run on this machine" in gaps(judged(windows, windows))[0]
    unrun = Made(folder=folder)
    assert "nobody starts bin/tool" in gaps(judged(unrun, unrun))[0]


def clock(mean_s: float, seed: int, *, spikes: float = 0.0) -> startup.Sample:
    """Give a clock of a busy machine: half as much again by chance, and now and then five times as much."""
    chance = random.Random(seed)

    def sample(starts: int) -> float:
        spike = 5 if chance.random() < spikes else 1
        return mean_s * chance.uniform(1, 1.5) * spike

    return sample


@pytest.mark.parametrize("seed", range(40))
def test_noise_neither_makes_nor_hides_a_slower_start(seed: int) -> None:
    same = startup.compare(clock(0.02, seed, spikes=0.2), clock(0.02, seed + 1000, spikes=0.2), 1.25)
    assert not same.slower, same.timing
    twice = startup.compare(clock(0.02, seed, spikes=0.2), clock(0.04, seed + 1000, spikes=0.2), 1.25)
    assert twice.slower, twice.timing


def test_difference_that_nobody_feels_is_none() -> None:
    def steady(seconds: float) -> startup.Sample:
        return lambda _: seconds

    assert not startup.compare(steady(0.0005), steady(0.001), 1.25).slower
    assert startup.compare(steady(0.005), steady(0.0075), 1.25).slower


def test_machine_without_a_fine_clock_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "_LOOP", "echo 17:00")
    made = Made(folder=tool(tmp_path / "a"), smoke=SMOKE)
    assert "cannot be timed" in gaps(judged(made, made))[0]


# --- builds ------------------------------------------------------------------------------------------------------


def test_slower_build_fails_and_an_unknown_one_is_not_checked(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    old, new = Made(folder=tmp_path / "a"), Made(folder=tmp_path / "a", version="1.0.1", cell_key="k2")
    cells = keep(tmp_path / "cells", k1=20.0, k2=31.0)
    (finding,) = errors(judged(new, old, cells))
    assert (finding.rule, "1.55 times as long (31.0 s, before 20.0 s)" in finding.text) == ("build_time", True)
    wanted, off = (ValidationRules(build_time=each) for each in (BuildTime.REQUIRE, BuildTime.OFF))
    assert "what the build of the baseline took" in gaps(judged(new, old, rules=wanted))[0]
    assert passed(judged(new, old, cells, rules=off)).warnings == ()
    (cells / "k2" / "build.json").write_text("{}")
    assert "what the build of this release took" in gaps(judged(new, old, cells, rules=wanted))[0]
    (warning,) = passed(judged(new, old, cells)).warnings
    assert (warning.rule, warning.text.startswith("not compared: what the build of this")) == ("build_time", True)
    short = keep(tmp_path / "short", k1=1.0, k2=3.0)
    passed(judged(new, old, short))


def test_first_release_has_nothing_to_be_measured_against(tmp_path: Path) -> None:
    assert passed(judged(Made(folder=tmp_path), None)).notes == (FIRST_RELEASE,)
