"""Twelve faults that a rebuild elsewhere shows: each is BAD for its own reason, and GOOD once mended."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builders.targets import host
from orchestrator.errors import NotReproducible
from tests.integration.conftest import require_engine
from tests.planted import FAULTS, FAULTY, MENDED, Fault, write_project

ROOT = Path(__file__).parents[2]
RELBUILD = [sys.executable, "-P", "-c", "from orchestrator.cli import main; main()"]
IN_CONTAINERS = tuple(fault for fault in FAULTS if fault.name in {"umask", "zone"})
BY_NAME = {fault.name: fault for fault in FAULTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What `relbuild reproduce` said: its exit code and its result."""

    code: int
    result: Mapping[str, Any]

    def of(self, product: str) -> Mapping[str, Any]:
        (found,) = [row for row in self.result["artifacts"] if row["cell"].startswith(f"{product}/")]
        return dict(found)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*RELBUILD, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=800,
                          check=False)  # fmt: skip


def reproduced(folder: Path, faults: Sequence[Fault], state: str, engine: str) -> Said:
    """Build the project, commit and all, and reproduce what was staged."""
    write_project(folder, tuple(faults), state, host().name)
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    built = run(folder, "matrix", "--engine", engine)
    assert built.returncode == 0, built.stdout + built.stderr
    # Two further rounds are enough: one with nothing varied, one with the axis that the bytes speak of.
    done = run(folder, "reproduce", "--json", "--rebuilds", "2")
    assert done.returncode in {0, NotReproducible.exit_code}, done.stdout + done.stderr
    return Said(code=done.returncode, result=json.loads(done.stdout))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def faulty(project: Path) -> Said:
    return reproduced(project, FAULTS, FAULTY, "local")


@pytest.fixture(scope="module")
def mended(project: Path, faulty: Said) -> Said:
    """The same project, after its author took the advice."""
    return reproduced(project, FAULTS, MENDED, "local")


def check_bad(fault: Fault, said: Said) -> None:
    """Check verdict, causes and place; skip where this machine cannot vary the axis that shows the fault."""
    artifact = said.of(fault.name)
    skipped = {row["axis"]: row for row in artifact["axes"] if "reason" in row}
    if fault.axis in skipped:
        pytest.skip(f"{fault.axis} cannot be varied here: {skipped[fault.axis]['reason']}")
    assert artifact["verdict"] == "BAD"
    assert {cause["kind"] for cause in artifact["causes"]} == fault.kinds, artifact["causes"]
    assert all(fault.place in cause["place"] for cause in artifact["causes"]), artifact["causes"]
    expected = [fault.axis] if fault.axis else []
    assert artifact["guilty_axes"] == expected
    assert artifact["differs_in_the_same_world"] is (not fault.axis)


@pytest.mark.fault(85)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_fault_is_bad_for_its_own_reason(name: str, faulty: Said) -> None:
    assert faulty.code == NotReproducible.exit_code
    check_bad(BY_NAME[name], faulty)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_mended_product_is_good(name: str, mended: Said) -> None:
    artifact = mended.of(name)
    assert artifact["verdict"] == "GOOD", artifact.get("causes")
    assert mended.code == 0


@pytest.fixture(scope="module")
def in_containers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Said]:
    require_engine()
    folder = tmp_path_factory.mktemp("in-containers")
    return {state: reproduced(folder, IN_CONTAINERS, state, "docker") for state in (FAULTY, MENDED)}


@pytest.mark.engine
@pytest.mark.usefixtures("gcc_image")
@pytest.mark.parametrize("fault", IN_CONTAINERS, ids=lambda fault: fault.name)
def test_in_containers_too(fault: Fault, in_containers: Mapping[str, Said]) -> None:
    check_bad(fault, in_containers[FAULTY])
    assert in_containers[MENDED].of(fault.name)["verdict"] == "GOOD"
