"""Compares what smoke tests printed: with the baseline's record, and across the targets of one product."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from builders.model import SmokeHow, SmokeRun
from orchestrator.validate.values import FIRST_RELEASE, Compared, Finding, Gap, Outcome, Pair, Released, outcome_of
from orchestrator.validation_rules import Severity, ValidationRules

_Given = tuple[tuple[int, str], ...]
"""Exit code and digest of the output, for each time that a command was run."""


def check(compared: Compared) -> Outcome:
    """Judge exit codes and standard output of every smoke command, as they were recorded when each side was built."""
    findings = [each for pair in compared.pairs for each in _changes(pair, compared.rules)]
    findings += _unlike(compared.pairs, compared.rules.different_outputs)
    notes = [] if compared.old else [FIRST_RELEASE]
    notes += [f"{each.place}: {each.text} (allowed)" for each in findings if each.severity is Severity.IGNORE]
    return outcome_of(findings, _gaps(compared.pairs), notes)


# --- what was not seen -------------------------------------------------------------------------------------------


def _gaps(pairs: Sequence[Pair]) -> Iterator[Gap]:
    for pair in pairs:
        yield from _gaps_of(pair.new, pair.new.place, "it")
        if pair.old is not None and pair.old.smoke_how is not SmokeHow.NONE:
            yield from _gaps_of(pair.old, pair.new.place, "the baseline")


def _gaps_of(artifact: Released, place: str, which: str) -> Iterator[Gap]:
    match artifact.smoke_how:
        case SmokeHow.NONE:
            yield Gap(rule="no_smoke", place=place, reason=f"{which} has no smoke test")
        case SmokeHow.NOT_RUN:
            why = artifact.smoke_note or "nobody says why"
            yield Gap(rule="not_run", place=place, reason=f"smoke tests of {which} did not run: {why}")
        case SmokeHow.NATIVE | SmokeHow.EMULATED if len(artifact.smoke) < max(artifact.smoke_tests, 1):
            ran = f"{len(artifact.smoke)} of {artifact.smoke_tests} smoke tests"
            yield Gap(rule="not_recorded", place=place, reason=f"{which} has the output of {ran} on record")


# --- with the baseline -------------------------------------------------------------------------------------------


def _changes(pair: Pair, rules: ValidationRules) -> Iterator[Finding]:
    new, old = _given(pair.new), _given(pair.old) if pair.old else {}
    for command, before in old.items():
        now = new.get(command)
        if now is None and not pair.new.smoke:
            continue  # none ran, which is a gap of its own
        if now is None:
            yield Finding(rule="command_gone", place=pair.new.place, text=f"`{command}` is not tested any more")
        elif _codes(now) != _codes(before):
            text = f"`{command}` ended with {_codes(now)}, and with {_codes(before)} before"
            yield Finding(rule="exit_changed", place=pair.new.place, text=text)
        elif now != before:
            allowed = _named(command, rules.changing_outputs)
            text = f"`{command}` printed something else (sha256 {_prints(now)}) than before ({_prints(before)})"
            severity = Severity.IGNORE if allowed else Severity.ERROR
            yield Finding(rule="output_changed", place=pair.new.place, text=text, severity=severity)


# --- across targets ----------------------------------------------------------------------------------------------


def _unlike(pairs: Sequence[Pair], allowed: Sequence[str]) -> Iterator[Finding]:
    """Object to what a command gave on fewer targets; among equals, to what the baseline did not know."""
    by_command: dict[tuple[str, str], dict[str, _Given]] = {}
    known: set[tuple[str, str, _Given]] = set()
    for pair in pairs:
        for command, given in _given(pair.new).items():
            by_command.setdefault((pair.new.product, command), {})[pair.new.target] = given
        known |= {(pair.new.product, *item) for item in _given(pair.old).items()} if pair.old else set()
    for (product, command), targets in by_command.items():
        answers = list(targets.values())
        weights = {given: (answers.count(given), (product, command, given) in known) for given in answers}
        usual = max(weights, key=weights.__getitem__)
        for target, given in targets.items():
            if given == usual or (_named(command, allowed) and _codes(given) == _codes(usual)):
                continue
            like = ", ".join(name for name, other in targets.items() if other == usual)
            text = f"`{command}` gave {_told(given)} here, and {_told(usual)} on {like}"
            yield Finding(rule="targets_differ", place=f"{product}/{target}", text=text)


# --- what was recorded -------------------------------------------------------------------------------------------


def _given(artifact: Released) -> Mapping[str, _Given]:
    found: dict[str, _Given] = {}
    for each in artifact.smoke:
        found[_words(each)] = (*found.get(_words(each), ()), (each.exit, each.stdout_sha256))
    return found


def _words(run: SmokeRun) -> str:
    return " ".join(run.run)


def _named(command: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(command, glob) for glob in globs)


def _codes(given: _Given) -> str:
    return ", ".join(str(code) for code, _ in given)


def _prints(given: _Given) -> str:
    return ", ".join(digest[:12] for _, digest in given)


def _told(given: _Given) -> str:
    return f"{_codes(given)} with output {_prints(given)}"
