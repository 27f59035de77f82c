"""Checks that a release is not larger, slower to start or slower to build than its budgets allow."""

from collections.abc import Iterator
from pathlib import Path

from builders.errors import TimedOut, ToolchainUnavailable
from builders.model import SmokeRun
from orchestrator.validate import startup
from orchestrator.validate.trials import Booth, booth, executables
from orchestrator.validate.values import (
    FIRST_RELEASE,
    Compared,
    Finding,
    Gap,
    Outcome,
    Passed,
    Released,
    outcome_of,
)
from orchestrator.validation_rules import BuildTime, Severity
from orchestrator.verify.json_strict import BadJson, parse
from orchestrator.verify.reading import Unreadable, read_file

_LEAST_S = 5.0
"""Builds that differ by less than this differ by chance."""

_Said = Finding | Gap | str
"""What a measurement gives: a finding, a gap, or a note."""


def check(compared: Compared) -> Outcome:
    """Measure every artifact that has a predecessor, each beside it."""
    if compared.old is None:
        return Passed(notes=(FIRST_RELEASE,))
    said: list[_Said] = []
    for pair in compared.pairs:
        if pair.old is None:
            said.append(f"{pair.new.place}: is new, and has nothing to be measured against")
            continue
        said += _sizes(pair.new, pair.old, compared.rules.size_budget)
        said += _starts(compared, pair.new, pair.old)
        said += _build_time(compared, pair.new, pair.old)
    return outcome_of(
        [each for each in said if isinstance(each, Finding)],
        [each for each in said if isinstance(each, Gap)],
        [each for each in said if isinstance(each, str)],
    )


# --- sizes -------------------------------------------------------------------------------------------------------


def _sizes(new: Released, old: Released, budget: float) -> Iterator[_Said]:
    """Compare what is downloaded and what is unpacked: compression hides much of what is added."""
    unpacked = [sum(file.size_bytes for file in each.files) for each in (old, new)]
    rows = {"the artifact": (old.size_bytes, new.size_bytes), "what it unpacks to": (unpacked[0], unpacked[1])}
    for what, (before, after) in rows.items():
        if not before:
            continue
        ratio = after / before
        text = f"{what} has {ratio:.3f} times the size ({after:,} bytes, before {before:,})"
        if ratio > budget:
            yield Finding(rule="size", place=new.place, text=f"{text}; the budget is {budget:g}")
        elif ratio != 1:
            yield f"{new.place}: {text}"


# --- starts ------------------------------------------------------------------------------------------------------


def _starts(compared: Compared, new: Released, old: Released) -> Iterator[_Said]:
    if compared.old is None:
        return
    commands = [each for each in dict.fromkeys(old.smoke) if each.run in {other.run for other in new.smoke}]
    if not commands:
        yield _nothing_started(new, compared.new.payload(new))
        return
    programs = {each.run[0] for each in commands}
    places = booth(compared.old, old, programs), booth(compared.new, new, programs)
    if not (isinstance(places[0], Booth) and isinstance(places[1], Booth)):
        reason = next(each for each in places if isinstance(each, str))
        yield Gap(rule="startup", place=new.place, reason=f"start-up time was not measured: {reason}")
        return
    for each in commands:
        yield _start(each, places[0], places[1], new.place, compared.rules.startup_budget)


def _nothing_started(new: Released, folder: Path) -> _Said:
    programs = ", ".join(executables(folder))
    if not programs:
        return f"{new.place}: holds no program whose start could be measured"
    reason = f"no smoke command is on record in both releases, so that nobody starts {programs}"
    return Gap(rule="startup", place=new.place, reason=reason)


def _start(command: SmokeRun, old: Booth, new: Booth, place: str, budget: float) -> _Said:
    words = " ".join(command.run)
    try:
        for side, which in ((old, "the baseline"), (new, "this release")):
            code = side.run(command.run).exit_code
            if code != command.exit:
                reason = f"`{words}` of {which} ends with {code} here, and ended with {command.exit} when it was built"
                return Gap(rule="startup", place=place, reason=reason)
        verdict = startup.compare(startup.sampler(old, command.run), startup.sampler(new, command.run), budget)
    except (TimedOut, ToolchainUnavailable) as error:
        return Gap(rule="startup", place=place, reason=f"`{words}`: {error.what}")
    except ValueError as error:
        return Gap(rule="startup", place=place, reason=f"`{words}` cannot be timed: {error}")
    text = f"`{words}` takes {verdict.timing}{' under QEMU' if new.emulated else ''}"
    if verdict.slower:
        return Finding(rule="startup", place=place, text=f"{text}; the budget is {budget:g}")
    return f"{place}: {text}"


# --- build times -------------------------------------------------------------------------------------------------


def _build_time(compared: Compared, new: Released, old: Released) -> Iterator[_Said]:
    """Compare what the builds took. Releases do not tell, so that they are the same everywhere; kept cells do."""
    if compared.rules.build_time is BuildTime.OFF:
        yield f'{new.place}: nobody compared what the builds took: build_time is "off"'
        return
    if new.cell_key == old.cell_key:
        yield f"{new.place}: is the very build of the baseline"
        return
    before, after = (_seconds(compared.cells, each) for each in (old, new))
    if before is None or after is None:
        which = "the baseline" if before is None else "this release"
        reason = f"what the build of {which} took is not on record here: its cell is not kept in dist/cells"
        yield _unknown_time(new.place, reason, compared.rules.build_time)
        return
    ratio = after / max(before, 1e-3)
    text = f"its build took {ratio:.2f} times as long ({after:.1f} s, before {before:.1f} s)"
    if ratio > compared.rules.build_time_budget and after - before > _LEAST_S:
        text += f"; the budget is {compared.rules.build_time_budget:g}"
        yield Finding(rule="build_time", place=new.place, text=text)
    else:
        yield f"{new.place}: {text}"


def _unknown_time(place: str, reason: str, wanted: BuildTime) -> Finding | Gap:
    """Say that times were not compared: a machine that built none of both could never pass, were that a failure."""
    if wanted is BuildTime.REQUIRE:
        return Gap(rule="build_time", place=place, reason=reason)
    return Finding(rule="build_time", place=place, text=f"not compared: {reason}", severity=Severity.WARN)


def _seconds(cells: Path | None, artifact: Released) -> float | None:
    """Read what a kept cell took to build, as orchestrator.cells writes it."""
    if cells is None:
        return None
    try:
        value = parse(read_file(cells / artifact.cell_key / "build.json").kept())["seconds"]
    except (Unreadable, BadJson, KeyError, TypeError):
        return None
    return float(value) if type(value) in {int, float} and value > 0 else None
