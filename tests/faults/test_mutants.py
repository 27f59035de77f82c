"""Each mechanism of the commit, removed in a copy of the program, is missed by the test that is named for it.

By default every fifth; all of them in CI, where an engine is required, and with RELBUILD_FAULTS=full.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("RELBUILD_FAULTS") == "full" or bool(os.environ.get("RELBUILD_REQUIRE_ENGINE"))
CHOSEN = MUTANTS if FULL else MUTANTS[::5]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the program and its tests."""
    base = tmp_path_factory.mktemp("mutants")
    for room in ("orchestrator", "builders", "tests"):
        shutil.copytree(ROOT / room, base / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", base)
    return base


def quick(house: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests in the copy, whose modules come first."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(house), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", "100", *tests]
    return subprocess.run(command, cwd=house, env=env, capture_output=True, text=True, timeout=600, check=False)


def test_there_are_enough_and_each_removes_one_thing() -> None:
    print(f"mutants: {len(CHOSEN)} of {len(MUTANTS)}")
    assert len(MUTANTS) >= 25
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        assert (ROOT / mutant.module).read_text(encoding="utf-8").count(mutant.old) == 1, mutant.name


def test_the_copy_itself_passes(house: Path) -> None:
    """The control: what fails below fails for the mutant's sake."""
    done = quick(house, *{mutant.caught_by for mutant in CHOSEN})
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("mutant", CHOSEN, ids=lambda mutant: mutant.name)
def test_its_removal_is_noticed(house: Path, mutant: Mutant) -> None:
    module = house / mutant.module
    whole = module.read_text(encoding="utf-8")
    module.write_text(whole.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        done = quick(house, mutant.caught_by)
    finally:
        module.write_text(whole, encoding="utf-8")
    # 1 is a test that failed; anything else (no such test, a crash of pytest) is no catch.
    assert done.returncode == 1, f"{mutant.name} was not noticed:\n{done.stdout[-2000:]}"
    assert "error" not in done.stdout.splitlines()[-1].split(" in ")[0], done.stdout[-2000:]
