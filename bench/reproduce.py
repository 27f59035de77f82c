"""What proving a release costs, as a ratio to building it, and what another world adds to one build.

    python -m bench.reproduce [--engine local|docker] [--rounds N]

A project with one C program for the machine itself, the local engine by default. "Built" is `relbuild matrix` with no
finished cell and the compiler's own preparations done; "proved" is `relbuild reproduce` of that release. The pairs of
worlds are the same cell built by the same builder, in its usual world and in one varied on every axis. Medians of pairs
that run one after the other; only ratios and differences are worth comparing.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from builders.model import Cell
from builders.targets import host
from builders.world import STANDARD, Axis, BuildWorld, Varies, find_libfaketime, varied_on
from orchestrator import config, release
from orchestrator.cli import wire
from orchestrator.model import EngineKind
from orchestrator.plan import Selection
from tests.integration.conftest import Recorded

RELBUILD = (sys.executable, "-P", "-c", "from orchestrator.cli import main; main()")
ROOT = Path(__file__).parents[1]
MATRIX = f"""
[project]
name = "hexsum"
version = "1.0.0"
[products.hexsum]
source = "src"
recipe = "command"
targets = ["{host().name}"]
run = '$CC -std=c11 $CFLAGS -D_FILE_OFFSET_BITS=64 -DRELBUILD_VERSION="\\"1\\"" -s -o "$OUT/hexsum" *.c'
outputs = ["hexsum"]
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=["local", "docker"], default="local")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        project = make_project(Path(name))
        print(f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, engine {asked.engine}\n")
        print(
            "| what | baseline | baseline | relbuild | ratio | difference |\n| --- | --- | ---: | ---: | ---: | ---: |"
        )
        relbuild(project, "matrix", "--engine", asked.engine)
        row("reproduce", "matrix, nothing finished", asked.rounds,
            lambda: relbuild(project, "matrix", "--engine", asked.engine, "--clean"),
            lambda: relbuild(project, "reproduce"))  # fmt: skip
        usual, other = worlds(project, EngineKind(asked.engine))
        row("one cell in a world varied on all axes", "the same cell, usual world", asked.rounds * 3, usual, other)


def make_project(folder: Path) -> Path:
    shutil.copytree(ROOT / "examples" / "hexsum", folder / "src", ignore=shutil.ignore_patterns("tests", "Dockerfile"))
    (folder / "matrix.toml").write_text(MATRIX, encoding="utf-8")
    return folder


def relbuild(project: Path, *arguments: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*RELBUILD, *arguments], cwd=project, env=env, check=True, capture_output=True)


def worlds(project: Path, kind: EngineKind) -> tuple[Callable[[], None], Callable[[], None]]:
    """Give what builds one cell in its usual world, and in another."""
    matrix, dist = config.load(project / "matrix.toml"), project / "dist"
    engine = wire.open_engine(kind, dist)
    plan = release.plan_release(matrix, Selection(), engine, dist, lambda _event: None)
    cell = replace(plan.cells[0].cell, smoke=())
    builder = engine.builders[cell.builder]
    library = find_libfaketime(host().gnu)
    states = builder.axes(cell, varied_on(tuple(Axis), library))
    varied = [axis for axis, state in states.items() if isinstance(state, Varies)]
    print(f"axes varied: {', '.join(varied)}", file=sys.stderr)

    def build(cell: Cell, world: BuildWorld) -> None:
        with tempfile.TemporaryDirectory() as out:
            builder.within(world).build(cell, Path(out), Recorded())

    return (lambda: build(cell, STANDARD)), (lambda: build(cell, varied_on(varied, library)))


def row(what: str, baseline: str, rounds: int, first: Callable[[], None], second: Callable[[], None]) -> None:
    pairs = [(timed(first), timed(second)) for _ in range(rounds)]
    one, two = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    difference = statistics.median(b - a for a, b in pairs)
    print(f"| {what} | {baseline} | {one:.2f} s | {two:.2f} s | {ratio:.2f} | {difference:+.2f} s |", flush=True)


def timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
