"""Which programs a Makefile builds, as far as its text says so. GNU make, https://www.gnu.org/software/make/manual/."""

import re

_PROGRAM_VARIABLES = ("PROG", "PROGRAM", "PROGS", "PROGRAMS", "BIN", "BINARY", "EXE", "EXECUTABLE", "TARGET")
_COLLECTIVE = frozenset({"all", "default", "build", "everything"})
_NO_PROGRAM = (".o", ".a", ".so", ".c", ".h")
_ASSIGNMENT = re.compile(r"^[ ]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*(?::{1,3}|\?)?=[ \t]*([^#\n]*)", re.MULTILINE)
_RULE = re.compile(r"^([^\s#:=.%][^#:=%\n]*)::?(?!=)([^#;=\n]*)(?:[#;].*)?$", re.MULTILINE)
_PHONY = re.compile(r"^\.PHONY[ \t]*:[ \t]*(.*)$", re.MULTILINE)
_VARIABLE = re.compile(r"\$[({]([A-Za-z_][A-Za-z0-9_]*)[)}]")
_PLAIN = re.compile(r"(?:\./)?[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
_DEEPEST = 5
_LONGEST_LINE = 10_000


def program_names(makefile: str) -> tuple[str, ...]:
    """Give the paths of the programs that plain `make` builds, or nothing where the text does not tell."""
    text = _joined(makefile)
    variables = dict(_ASSIGNMENT.findall(text))
    rules = _rules(text, variables)
    phony = _phony(text, variables)
    wanted = [goal(makefile)] if goal(makefile) else list(rules)[:1]
    for _ in range(_DEEPEST):
        if phony.isdisjoint(wanted):
            break
        wanted = [below for name in wanted for below in (rules.get(name, []) if name in phony else [name])]
    named = wanted if _are_programs(wanted) and phony.isdisjoint(wanted) else _from_variables(variables)
    return tuple(dict.fromkeys(name.removeprefix("./") for name in named))


def goal(makefile: str) -> str:
    """Give the target to ask for where plain `make` builds nothing, as where it prints help; else an empty string."""
    text = _joined(makefile)
    variables = dict(_ASSIGNMENT.findall(text))
    rules = _rules(text, variables)
    first = next(iter(rules), "")
    if first not in _phony(text, variables) - _COLLECTIVE or rules[first]:
        return ""
    return next((name for name in ("all", "build") if name in rules), "")


def has_rule(makefile: str, target: str) -> bool:
    text = _joined(makefile)
    return target in _rules(text, dict(_ASSIGNMENT.findall(text)))


def _joined(makefile: str) -> str:
    """Join lines that end with a backslash, and drop the lines of recipes."""
    text = re.sub(r"\\\r?\n[ \t]*", " ", makefile)
    lines = (line.rstrip() for line in text.splitlines() if not line.startswith("\t"))
    return "\n".join(line for line in lines if len(line) <= _LONGEST_LINE)


def _phony(text: str, variables: dict[str, str]) -> frozenset[str]:
    return _COLLECTIVE.union(*(_expand(words, variables).split() for words in _PHONY.findall(text)))


def _rules(text: str, variables: dict[str, str]) -> dict[str, list[str]]:
    """Give the prerequisites by target, in the order of the file."""
    rules: dict[str, list[str]] = {}
    for targets, prerequisites in _RULE.findall(text):
        for target in _expand(targets, variables).split():
            rules.setdefault(target, []).extend(_expand(prerequisites, variables).split())
    return rules


def _expand(text: str, variables: dict[str, str]) -> str:
    for _ in range(_DEEPEST):
        expanded = _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), text)
        if expanded == text or len(expanded) > 10 * len(text) + 10_000:
            break
        text = expanded
    return text


def _are_programs(names: list[str]) -> bool:
    return bool(names) and all(_PLAIN.fullmatch(name) and not name.endswith(_NO_PROGRAM) for name in names)


def _from_variables(variables: dict[str, str]) -> list[str]:
    for variable in _PROGRAM_VARIABLES:
        names = _expand(variables.get(variable, ""), variables).split()
        if _are_programs(names):
            return names
    return []
