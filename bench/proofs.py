"""Builds and proves this project's own matrix and its examples, and writes what came out into a page.

    python -m bench.proofs [--engine docker|local] [MATRIX ...]

Each matrix is built for all its targets and staged, then rebuilt by `relbuild reproduce` in another world. The page
names what each product was built by, how often its artifacts came out again, and the axes on which the worlds differed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "reproducibility.md"
RELBUILD = (sys.executable, "-P", "-c", "from orchestrator.cli import main; main()")
OWN = ("matrix.toml", *(f"examples/{name}/matrix.toml" for name in ("upstream", "go", "rust", "cmake", "sharedlib")))
HEAD = """\
# What was proved reproducible

Made by `python -m bench.proofs` on one machine with the {engine} engine; do not edit it. Each product was built for all
its targets, then built again from its own source in a world that differs on the axes of the fourth column, and every
byte was compared. The last column says why the other axes were left as they were.

| matrix | product | verdicts | varied | not varied |
| --- | --- | --- | --- | --- |
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=["docker", "local"], default="docker")
    parser.add_argument("matrices", nargs="*", default=OWN, metavar="MATRIX")
    asked = parser.parse_args()
    page = HEAD.format(engine=asked.engine)
    for name in asked.matrices:
        page += "".join(proved(name, asked.engine))
        PAGE.write_text(page, encoding="utf-8")
    print(PAGE.relative_to(ROOT))


def proved(name: str, engine: str) -> Iterator[str]:
    """Build a matrix and prove it; give the row of each of its products."""
    with tempfile.TemporaryDirectory() as dist:
        place = ("--config", ROOT / name, "--output", dist)
        relbuild("matrix", *place, "--targets", "all", "--engine", engine, codes={0})
        said = json.loads(relbuild("reproduce", *place, "--json", codes=set(range(60, 65)) | {0}))
    products: dict[str, list[Mapping[str, Any]]] = {}
    for artifact in said["artifacts"]:
        products.setdefault(artifact["cell"].partition("/")[0] or "the source archive", []).append(artifact)
    for product, artifacts in products.items():
        print(f"{name}: {product}: {verdicts(artifacts)}", file=sys.stderr)
        yield f"| {name} | {product} | {verdicts(artifacts)} | {varied(artifacts)} | {unvaried(artifacts)} |\n"


def verdicts(artifacts: Sequence[Mapping[str, Any]]) -> str:
    words = [each["verdict"] for each in artifacts]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def varied(artifacts: Iterable[Mapping[str, Any]]) -> str:
    """Name the axes on which every artifact's world differed."""
    sets = [{axis["axis"] for axis in each["axes"] if axis["varied"]} for each in artifacts]
    return ", ".join(sorted(set.intersection(*sets))) or "compared as it is"


def unvaried(artifacts: Iterable[Mapping[str, Any]]) -> str:
    reasons = {axis["axis"]: axis["reason"] for each in artifacts for axis in each["axes"] if not axis["varied"]}
    return "; ".join(f"{axis}: {reason}" for axis, reason in sorted(reasons.items())).replace("|", "\\|") or "-"


def relbuild(*arguments: object, codes: set[int]) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*RELBUILD, *map(str, arguments)], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in codes:
        sys.exit(f"relbuild {' '.join(map(str, arguments))} ended in {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
