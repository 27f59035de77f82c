"""The README tells the truth: its exit codes are the code's, its commands exist."""

import importlib
import re
from pathlib import Path

from builders.errors import RelbuildError

ROOT = Path(__file__).parents[2]
HOMES = ("builders.errors", "orchestrator.errors")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def all_errors() -> dict[str, int]:
    for module in HOMES:
        importlib.import_module(module)

    def below(kind: type[RelbuildError]) -> list[type[RelbuildError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in below(child))]

    # A room may refine an error of the tree for its own use, with the code of what it refines.
    return {kind.__name__: kind.exit_code for kind in below(RelbuildError) if kind.__module__.startswith(HOMES)}


def test_the_exit_code_table_is_the_code() -> None:
    table = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| (\w+) \|", README, re.MULTILINE)}
    assert table == all_errors()


def test_every_error_has_its_own_code() -> None:
    codes = list(all_errors().values())
    assert len(codes) == len(set(codes))


def commands(text: str) -> set[str]:
    return set(re.findall(r"(?:^ {4,}|`)relbuild ([a-z]+)", text, re.MULTILINE))


def test_the_commands_of_the_readme_exist() -> None:
    from orchestrator.cli.main import app

    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    # As an example's line, or as words in code: "relbuild itself" is neither.
    assert commands(README) == known
    for page in (ROOT / "docs").rglob("*.md"):
        assert commands(page.read_text(encoding="utf-8")) <= known, page
    for script in re.findall(r"ci/[a-z]+", README):
        assert (ROOT / script).is_file()
