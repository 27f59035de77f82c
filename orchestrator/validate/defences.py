"""Judges how programs and libraries are hardened: what they lost since the baseline, and what each must have."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builders.binaries import inspect
from builders.binaries.facts import BinaryFacts
from builders.binaries.hardening import Hardening, Mark, State, Trait, read_hardening
from builders.errors import GateFailed
from orchestrator.validate.values import Finding, Gap, Released
from orchestrator.validation_rules import SecurityRules, Severity

_WORDS: Final = {
    Trait.PIE: "is a position-independent program (PIE, ASLR)", Trait.RELRO: "has read-only relocations (RELRO)",
    Trait.BIND_NOW: "binds all symbols at its start (BIND_NOW, full RELRO)", Trait.NX: "has no executable stack (NX)",
    Trait.CANARY: "guards its stack with canaries", Trait.FORTIFY: "calls glibc's checked functions (FORTIFY)",
    Trait.HIGH_ENTROPY: "uses 64-bit ASLR (HIGH_ENTROPY_VA)", Trait.GUARD_CF: "has control flow guard (GUARD_CF)",
}  # fmt: skip
_DEMANDED: Final = (Trait.PIE, Trait.RELRO, Trait.NX, Trait.CANARY, Trait.FORTIFY)
"""What a program must have without a baseline, too; the rest is only not to be lost."""
_RULES: Final = {Trait.BIND_NOW: "relro", Trait.HIGH_ENTROPY: "pie", Trait.GUARD_CF: "nx"}
"""Whose level in [validate.security] the other defences follow."""
_MAY_CEASE: Final = (Trait.CANARY, Trait.FORTIFY, Trait.BIND_NOW)
"""What is not lost where it no longer applies: in a language with checks of its own, or with nothing to bind."""
_ORIGINS: Final = ("$ORIGIN", "${ORIGIN}", "@loader_path", "@executable_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A program or library of a payload."""

    path: str
    facts: BinaryFacts
    marks: Hardening


def binaries(artifact: Released, folder: Path) -> tuple[dict[str, Binary], list[Gap]]:
    """Read every program and shared library of a payload, by path, and name the files that cannot be read."""
    found: dict[str, Binary] = {}
    gaps = []
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        path = file.relative_to(folder).as_posix()
        try:
            facts, marks = inspect(file), read_hardening(file)
        except GateFailed as error:
            said = error.what.removeprefix(f"{file} ")
            gaps.append(Gap(rule="hardening", place=f"{artifact.place}: {path}", reason=f"the file {said}"))
            continue
        if facts is not None and marks is not None:
            found[path] = Binary(path=path, facts=facts, marks=marks)
    return found, gaps


def judge(new: Binary, old: Binary | None, place: str, rules: SecurityRules) -> Iterator[Finding | str]:
    """Give a finding for each defence that is lost or missing, and a note for each that does not apply, with why."""
    for trait, mark in new.marks.items():
        before = old.marks.get(trait) if old else None
        severity: Severity = getattr(rules, _RULES.get(trait, trait.value))
        if before is not None and _is_lost(trait, before, mark):
            lost = severity if severity is Severity.IGNORE else Severity.ERROR
            text = f"the baseline {_WORDS[trait]}, and this does not{_why(mark)}"
            yield Finding(rule=trait.value, place=place, text=text, severity=lost)
        elif trait in _DEMANDED and mark.state is State.OFF:
            text = f"it is not so that it {_WORDS[trait]}{_why(mark)}"
            yield Finding(rule=trait.value, place=place, text=text, severity=severity)
    yield from _rpath(new, old, place, rules.rpath)
    yield from _notes(new.marks, place)


def _is_lost(trait: Trait, before: Mark, now: Mark) -> bool:
    if before.state is not State.ON or now.state is State.ON:
        return False
    return not (trait in _MAY_CEASE and now.state is State.NOT_APPLICABLE)


def _why(mark: Mark) -> str:
    return f" ({mark.state}: {mark.why})" if mark.why else ""


def _notes(marks: Hardening, place: str) -> Iterator[str]:
    whys: dict[str, list[str]] = {}
    for trait, mark in marks.items():
        if mark.state in {State.NOT_APPLICABLE, State.HIDDEN}:
            whys.setdefault(f"{mark.state}: {mark.why}", []).append(trait.value)
    for why, traits in whys.items():
        yield f"{place}: {', '.join(traits)} {why}"


def _rpath(new: Binary, old: Binary | None, place: str, severity: Severity) -> Iterator[Finding]:
    """Object to every fixed folder that libraries are looked for in, and to every entry that the baseline lacks."""
    known = _entries(old.facts) if old else {}
    for entry in _entries(new.facts):
        shown = entry or "the working directory (an empty entry)"
        if entry.split("/", 1)[0] not in _ORIGINS:
            text = f"it looks for libraries in {shown}, which whoever can write there can replace"
        elif old is not None and entry not in known:
            text = f"it looks for libraries in {shown}, and the baseline did not"
        else:
            continue
        yield Finding(rule="rpath", place=place, text=text, severity=severity)


def _entries(facts: BinaryFacts) -> Mapping[str, None]:
    return dict.fromkeys(entry for row in (facts, *facts.members) for entry in row.rpath)
