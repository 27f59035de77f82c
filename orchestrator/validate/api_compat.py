"""Checks that whoever uses the last release can use this one: libraries by their symbols, programs by their options.

What is gone fails, unless the step from one version to the next announces it (semver) or `allow_api_breaks` names it.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

from builders.binaries import BinaryKind
from builders.errors import TimedOut, ToolchainUnavailable
from orchestrator.model import ArtifactKind
from orchestrator.validate import abidiff, libraries, options
from orchestrator.validate.libraries import Loss, Step
from orchestrator.validate.semver import may_break
from orchestrator.validate.trials import UNSTARTED, Booth, booth, executables
from orchestrator.validate.values import (
    FIRST_RELEASE,
    Compared,
    Finding,
    Gap,
    Outcome,
    Passed,
    Released,
    Side,
    outcome_of,
)
from orchestrator.validation_rules import AbiTool, Severity, ValidationRules

_HELP = "--help"


class _Seen:
    """What is found, artifact by artifact. A loss that is allowed becomes a note."""

    def __init__(self, old: Side, new: Side, rules: ValidationRules) -> None:
        self.old, self.new, self.rules = old, new, rules
        self.announced = may_break(old.version, new.version)
        self.findings: list[Finding] = []
        self.gaps: list[Gap] = []
        self.notes: list[str] = []

    def lose(self, rule: str, name: str, place: str, text: str) -> None:
        if self.announced:
            self.notes.append(f"{place}: {text} (a new major version)")
        elif any(fnmatchcase(name, glob) for glob in self.rules.allow_api_breaks):
            self.notes.append(f"{place}: {text} (allowed)")
        else:
            self.findings.append(Finding(rule=rule, place=place, text=text))


def check(compared: Compared) -> Outcome:
    """Judge every artifact that has a predecessor."""
    if compared.old is None:
        return Passed(notes=(FIRST_RELEASE,))
    seen = _Seen(compared.old, compared.new, compared.rules)
    for pair in compared.pairs:
        if pair.old is not None:
            _libraries(pair.new, pair.old, seen)
            _exit_codes(pair.new, pair.old, seen)
            _programs(pair.new, pair.old, seen)
    return outcome_of(seen.findings, seen.gaps, seen.notes)


# --- libraries ---------------------------------------------------------------------------------------------------


def _libraries(new: Released, old: Released, seen: _Seen) -> None:
    olds, old_gaps = libraries.libraries(old, seen.old.payload(old))
    news, new_gaps = libraries.libraries(new, seen.new.payload(new))
    seen.gaps += [*old_gaps, *new_gaps]
    for step in libraries.steps(olds, news):
        place = f"{new.place}: {step.new.path if step.new else step.old.path}"
        lost = list(libraries.losses(step))
        _lose_all(lost, place, seen)
        if step.new is not None:
            before, after = ({name.partition("@")[0] for name in each.surface.exports} for each in (step.old, step.new))
            seen.notes += [f"{place}: new symbols: {len(after - before)}"] if after - before else []
            _same_name_after_break(step, lost, place, seen)
            _ask_abidiff(step, place, seen)


def _lose_all(lost: Sequence[Loss], place: str, seen: _Seen) -> None:
    globs = () if seen.announced else seen.rules.allow_api_breaks
    allowed = [each for each in lost if any(_named(each.name, glob) for glob in globs)]
    if allowed:
        seen.notes.append(f"{place}: gone, and allowed to be: {', '.join(each.name for each in allowed)}")
    left = sorted((each for each in lost if each not in allowed), key=lambda each: each.rule)
    for _, group in groupby(left, key=lambda each: each.rule):
        finding = libraries.told(list(group), place)
        if seen.announced:
            seen.notes.append(f"{place}: {finding.text} (a new major version)")
        else:
            seen.findings.append(finding)


def _named(name: str, glob: str) -> bool:
    return fnmatchcase(name, glob) or fnmatchcase(name.partition("@")[0], glob)


def _same_name_after_break(step: Step, lost: Sequence[Loss], place: str, seen: _Seen) -> None:
    """Warn where a new major version breaks a library and programs of the old one would still load it."""
    name = step.old.surface.soname
    if seen.announced and name and step.new and step.new.surface.soname == name and lost:
        text = f"symbols are gone and its SONAME is {name} as before: old programs will load it and fail"
        seen.findings.append(Finding(rule="soname_kept", place=place, text=text, severity=Severity.WARN))


def _ask_abidiff(step: Step, place: str, seen: _Seen) -> None:
    shared, soname = step.old.surface.kind is BinaryKind.SHARED, step.old.surface.soname
    if step.new is not None and shared and not soname and seen.rules.abidiff is AbiTool.REQUIRE:
        if _is_elf(step.old.file):
            reason = "`abidiff` is required, and is only asked about a library with a SONAME: this one has none"
            seen.gaps.append(Gap(rule="abidiff", place=place, reason=reason))
        return
    elf = shared and ".so" in soname
    if step.new is None or not elf or (seen.announced and seen.rules.abidiff is AbiTool.AUTO):
        return
    findings, gaps = abidiff.ask(step.old.file, step.new.file, place, seen.rules.abidiff)
    for each in findings:
        if each.severity is Severity.ERROR:
            seen.lose(each.rule, f"abidiff:{step.old.name}", place, each.text)
        else:
            seen.findings.append(each)
    seen.gaps += gaps


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


# --- exit codes --------------------------------------------------------------------------------------------------


def _exit_codes(new: Released, old: Released, seen: _Seen) -> None:
    """Compare how smoke commands ended that both releases have on record; what has none is a gap of `_programs`."""
    after = {each.run: each.exit for each in new.smoke}
    for each in old.smoke:
        code = after.get(each.run, each.exit)
        if code != each.exit:
            words = " ".join(each.run)
            seen.lose("exit", f"exit:{words}", new.place, f"`{words}` ends with {code}, and ended with {each.exit}")


# --- options -----------------------------------------------------------------------------------------------------


def _programs(new: Released, old: Released, seen: _Seen) -> None:
    """Compare the options of every program that a smoke test of the old release, or of the new one, runs."""
    gone = _lose_programs(new, old, seen)
    names = sorted({each.run[0] for each in (*old.smoke, *new.smoke)} - gone)
    unrun = sorted(set(executables(seen.old.payload(old))) - set(names) - gone)
    if unrun and not names:
        reason = f"no smoke test on record runs {', '.join(unrun)}, so that nobody asks for its options"
        seen.gaps.append(Gap(rule="options", place=new.place, reason=reason))
    elif unrun:
        seen.notes.append(f"{new.place}: not asked for options, because no smoke test runs it: {', '.join(unrun)}")
    if not names:
        return
    places = booth(seen.old, old, names), booth(seen.new, new, names)
    if isinstance(places[0], Booth) and isinstance(places[1], Booth):
        for name in names:
            _options(name, places[0], places[1], new.place, seen)
        return
    reason = next(each for each in places if isinstance(each, str))
    seen.gaps.append(Gap(rule="options", place=new.place, reason=f"--help was not asked for: {reason}"))


def _lose_programs(new: Released, old: Released, seen: _Seen) -> set[str]:
    """Lose every program that the new release has not, whether or not a smoke test names it; give them all."""
    before, after = seen.old.payload(old), seen.new.payload(new)
    # A plain file may be named after its version, and what replaces it was found already.
    plain = old.kind is new.kind is ArtifactKind.FILE
    named = {each.run[0] for each in old.smoke} | {each.run[0] for each in new.smoke}
    had = {name for name in (*named, *(() if plain else executables(before))) if (before / name).is_file()}
    renamed = {name: name.replace(seen.old.version, seen.new.version) for name in had}
    gone = {name for name in had if not (after / name).is_file() and not (after / renamed[name]).is_file()}
    for name in sorted(gone):
        seen.lose("program_gone", name, f"{new.place}: {name}", f"the program {name} is gone")
    return gone


def _options(name: str, old: Booth, new: Booth, place: str, seen: _Seen) -> None:
    where = f"{place}: {name}"
    if not old.has(name) or not new.has(name):
        if old.has(name):
            seen.notes.append(f"{where}: not asked for options, because its name has another version in it now")
        return
    try:
        before, after = (each.run([name, _HELP]) for each in (old, new))
    except (TimedOut, ToolchainUnavailable) as error:
        seen.gaps.append(Gap(rule="options", place=where, reason=f"`{name} --help`: {error.what}"))
        return
    if before.exit_code in UNSTARTED:
        reason = f"`{name} --help` of the baseline cannot be started here: {_text(before.stderr).strip()[:200]!r}"
        seen.gaps.append(Gap(rule="options", place=where, reason=reason))
        return
    had, has = (options.options(f"{_text(each.stdout)}\n{_text(each.stderr)}") for each in (before, after))
    if not had:
        seen.notes.append(f"{where}: its --help named no option")
    for option in sorted(had - has):
        seen.lose("option_gone", option, where, f"--help names {option} no longer")
    if before.exit_code != after.exit_code:
        text = f"`{name} --help` ends with {after.exit_code}, and ended with {before.exit_code}"
        seen.lose("exit", f"exit:{name} {_HELP}", where, text)


def _text(printed: bytes) -> str:
    return printed.decode("utf-8", "replace")
