"""Writes docs/reference/faults.md from the marks `fault` on the tests: `python -m tests.fault_table`.

The marks are read from the source, so that the page is the same where a package or a program is missing.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.fault_rows import FAULTS, LATER, Fault

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference/faults.md"
COMMAND = "python -m tests.fault_table"
MARK = "pytest.mark.fault"

HEAD = """\
# Faults and the tests that provoke them

Made by `{command}` from the marks `@pytest.mark.fault(...)` on the tests; do not edit it. A unit
test fails when it is stale.

Kills, power cuts, failing calls, races and broken connections count only where a real process, kernel or server goes
through them; edited bytes count wherever the real reader meets them. Tests that need root, strace, loop devices, a
container engine or an object store are skipped where these are missing. `tests/faults/test_commit.py` takes a sample
of the calls of a publish, and `tests/faults/test_store_commit.py` one of its requests; with `RELBUILD_FAULTS=full` they
take them all. What a row lacks stands below its tests.

{count} rows: {whole} covered, {part} covered in part, {open} open. Of the open ones {later} belong to rooms that do
not exist yet.
"""
COLUMNS = "| # | Fault | What must come of it | Tests |\n|---|---|---|---|\n"


class BadMark(ValueError):
    """A mark that cannot be read from the source, or that no test has."""


def marks() -> dict[str, tuple[int, ...]]:
    """Give the rows of each marked test, by its id without parameters, in the order of the ids."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if MARK not in text:
            continue
        place, tree = path.relative_to(ROOT).as_posix(), ast.parse(text)
        used = sum(ast.unparse(node) == MARK for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        here = dict(_marked(tree.body, place))
        if used != len(here):
            raise BadMark(f"{place}: {used} marks, of which {len(here)} stand on tests of their own")
        found |= here
    return dict(sorted(found.items()))


def _marked(body: list[ast.stmt], place: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _marked(node.body, f"{place}::{node.name}")
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == MARK:
                    yield f"{place}::{node.name}", _rows(decorator, f"{place}::{node.name}")


def _rows(mark: ast.Call, place: str) -> tuple[int, ...]:
    rows = tuple(each.value for each in mark.args if isinstance(each, ast.Constant) and isinstance(each.value, int))
    if mark.keywords or not rows or len(rows) != len(mark.args) or sorted(set(rows)) != list(rows):
        raise BadMark(f"{place}: a mark holds plain numbers of rows, each once, rising")
    if unknown := set(rows) - {fault.number for fault in FAULTS}:
        raise BadMark(f"{place}: tests/fault_rows.py has no row {sorted(unknown)}")
    return rows


def tests_of_rows() -> dict[int, tuple[str, ...]]:
    """Give the tests of each row, none for an open one."""
    marked = marks()
    return {
        fault.number: tuple(test for test, rows in marked.items() if fault.number in rows) for fault in FAULTS
    }  # fmt: skip


def page() -> str:
    """Give the page as Markdown."""
    tests = tests_of_rows()
    later = {number for rows in LATER.values() for number in rows}
    covered = [fault for fault in FAULTS if tests[fault.number]]
    part = sum(bool(fault.lacks) for fault in covered)
    head = HEAD.format(
        command=COMMAND, count=len(FAULTS), whole=len(covered) - part, part=part, open=len(FAULTS) - len(covered),
        later=sum(not tests[number] for number in later),
    )  # fmt: skip
    parts = [head, "## Building, staging, trust and publication\n", _table(set(tests) - later, tests)]
    parts.append("## Rooms that do not exist yet\n")
    for room, rows in LATER.items():
        parts += [f"### {room}\n", _table(set(rows), tests)]
    return "\n".join(parts)


def _table(numbers: set[int], tests: Mapping[int, tuple[str, ...]]) -> str:
    return COLUMNS + "".join(_line(fault, tests[fault.number]) for fault in FAULTS if fault.number in numbers)


def _line(fault: Fault, tests: tuple[str, ...]) -> str:
    cells = [f"`{test}`" for test in tests] or ["open"]
    if tests and fault.lacks:
        cells.append(f"lacks: {fault.lacks}")
    return f"| {fault.number} | {fault.fault} | {fault.outcome} | {'<br>'.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
