"""What relbuild costs beside the work itself, as ratios against a baseline in the same run.

    python bench/overhead.py [--engine local|docker] [--rounds N]

Prints a Markdown table. Each figure is the median over the rounds of a pair that ran one after the other: the
baseline, then relbuild. Times are shown for orientation; the ratio, or the difference, is what counts.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RELBUILD = [sys.executable, "-P", "-c", "from orchestrator.cli import main; main()"]
TARGETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu", "armv7": "arm-linux-gnueabihf"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    name: str
    baseline: str
    baseline_s: float
    relbuild_s: float

    def row(self) -> str:
        ratio = self.relbuild_s / self.baseline_s
        more = self.relbuild_s - self.baseline_s
        return (
            f"| {self.name} | {self.baseline} | {self.baseline_s:.2f} s | {self.relbuild_s:.2f} s | {ratio:.2f} | "
            f"{more:+.2f} s |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", choices=["local", "docker"], default="local")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} CPUs, Python {sys.version.split()[0]}, engine {given.engine}\n")
    print("| what | baseline | baseline | relbuild | ratio | difference |\n| --- | --- | ---: | ---: | ---: | ---: |")
    with project() as folder:
        for figure in figures(folder, given.engine, given.rounds):
            print(figure.row(), flush=True)


def figures(folder: Path, engine: str, rounds: int) -> Iterator[Figure]:
    start = [sys.executable, "-c", "pass"]
    yield paired("relbuild --help", "python -c pass", rounds, run(start), run([*RELBUILD, "--help"], cwd=folder))
    build = [*RELBUILD, "matrix", "--targets", "all", "--engine", engine, "--output", str(folder / "dist")]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    yield paired("nothing changed: all from cache", "python -c pass", rounds, run(start), run(build, cwd=folder))
    bare = bare_docker(folder) if engine == "docker" else bare_zig(folder)
    again = [*build, "--clean", "--jobs", "1"]
    yield paired(
        "three targets built again, one by one", "the bare compile commands", rounds, bare, run(again, cwd=folder)
    )


def paired(name: str, baseline: str, rounds: int, first: Callable[[], None], second: Callable[[], None]) -> Figure:
    pairs = [(timed(first), timed(second)) for _ in range(rounds)]
    return Figure(
        name=name,
        baseline=baseline,
        baseline_s=statistics.median(pair[0] for pair in pairs),
        relbuild_s=statistics.median(pair[1] for pair in pairs),
    )


def timed(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def run(argv: list[str], cwd: Path | None = None) -> Callable[[], None]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return lambda: void(subprocess.run(argv, cwd=cwd, check=True, capture_output=True, env=environment))


def void(_result: object) -> None:
    """Drop a result, so that an action is an action."""


def bare_zig(folder: Path) -> Callable[[], None]:
    """Give the three zig commands that the local engine runs, each from a copy of a warm cache, as it does."""
    import ziglang  # noqa: PLC0415  (only this baseline wants it)

    zig = str(Path(next(iter(ziglang.__path__))) / "zig")
    empty = folder / "empty.c"
    empty.write_text("int main(void) { return 0; }\n", encoding="utf-8")

    def compile_one(triple: str, sources: list[Path], cache: Path) -> None:
        env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
        argv = [zig, "cc", "-target", f"{triple}.2.34", "-O2", "-s", "-fno-sanitize=undefined", "-o", f"{cache}.out"]
        subprocess.run([*argv, *map(str, sources)], check=True, env=env, capture_output=True)

    for target, triple in TARGETS.items():
        compile_one(triple, [empty], folder / "warm" / target)

    def compile_all() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            for target, triple in TARGETS.items():
                shutil.copytree(folder / "warm" / target, Path(work) / target)
                compile_one(triple, sorted((folder / "src").glob("*.c")), Path(work) / target)

    return compile_all


def bare_docker(folder: Path) -> Callable[[], None]:
    """Give three `docker run` of the cross compilers in relbuild's own image, with the project mounted."""
    plan = [*RELBUILD, "plan", "--json", "--engine", "docker", "--output", str(folder / "dist")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(plan, cwd=folder, check=True, capture_output=True, env=environment).stdout
    image = json.loads(said)["cells"][0]["toolchain"]["identity"]
    sources = " ".join(f"/src/{path.name}" for path in sorted((folder / "src").glob("*.c")))

    def compile_all() -> None:
        for triple in TARGETS.values():
            command = f"{triple}-gcc -O2 -s -o /tmp/out {sources}"
            argv = [
                "docker",
                "run",
                "--rm",
                "--network",
                "none",
                "--cap-drop",
                "ALL",
                "-v",
                f"{folder / 'src'}:/src:ro",
            ]
            subprocess.run([*argv, image, "sh", "-c", command], check=True, capture_output=True)

    return compile_all


@contextlib.contextmanager
def project() -> Iterator[Path]:
    """Give a folder with the hexsum example as its only product."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "examples" / "hexsum", folder / "src", ignore=shutil.ignore_patterns("dist"))
        (folder / "matrix.toml").write_text(
            '[project]\nname = "bench"\nversion = "1.0.0"\n[products.hexsum]\nsource = "src"\nrecipe = "command"\n'
            'glibc = "2.34"\noutputs = ["hexsum"]\nrun = \'$CC -O2 -s -o "$OUT/hexsum" *.c\'\n',
            encoding="utf-8",
        )
        yield folder


if __name__ == "__main__":
    main()
