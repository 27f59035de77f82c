"""What growth costs: plans of 10,000 cells, shards by the hundred, cells side by side.

    python -m bench.scale [plan|schedule|merge|jobs ...]

plan      deciding 10,000 cells, writing the plan and reading it, against writing each cell's key material as JSON once
schedule  running 1,000 and 10,000 cells whose recipe is a file of a few bytes: the time of one, and the memory
merge     judging 100 shards of 1 MB and of 8 MB, against hashing their bytes once
jobs      this project's own three programs with one job and with two, against the sum of the cells and the longest
"""

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from builders.model import BuiltFile, Cell, SmokeHow, SmokeResult, SourceTree
from builders.targets import TARGETS
from orchestrator import verify
from orchestrator.model import BuildReport, Built, Matrix, Plan, PolicyRules
from orchestrator.plan import Selection, make_plan
from orchestrator.run import RunRules, Stop, run_plan
from orchestrator.shards.merge import collect, merge
from orchestrator.shards.plan_file import PlanFile, plan_json, read_plan
from orchestrator.shards.read import read_shard
from orchestrator.shards.write import write_shard
from orchestrator.signing import new_keys, public_keys, trust_file
from orchestrator.signing.key_file import KeyFileSigner, open_key_file, read_key
from tests.fakes import FakeBuilder, make_matrix, make_product, make_world, tree

CELLS = 10_000
SHARDS = 100
MEGABYTE = 1_000_000
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    what: str
    value: str
    baseline: str
    ratio: float | None = None

    def text(self) -> str:
        ratio = f"{self.ratio:.1f}" if self.ratio is not None else ""
        return f"| {self.what} | {self.value} | {self.baseline} | {ratio} |"


def main() -> None:
    parts: dict[str, Callable[[Path], list[Row]]] = {
        "plan": planning, "schedule": scheduling, "merge": merging, "jobs": side_by_side,
    }  # fmt: skip
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for part in sys.argv[1:] or parts:
            room = Path(name) / part
            room.mkdir()
            rows += parts[part](room)
    print(f"{len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.0f}, Python {sys.version.split()[0]}\n")
    print("| what | took | baseline | ratio |\n| --- | ---: | --- | ---: |")
    print("\n".join(row.text() for row in rows))


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- plan --------------------------------------------------------------------------------------------------------


def matrix_of(cells: int, root: Path) -> tuple[Matrix, dict[str, SourceTree]]:
    names = [f"product-{number:05}" for number in range(-(-cells // 3))]
    matrix = make_matrix(*(make_product(name) for name in names), root=root)
    (root / "matrix.toml").write_text("# one of many\n", encoding="ascii")
    return matrix, {name: tree(name, root) for name in names}


def plan_of(cells: int, root: Path) -> Plan:
    matrix, sources = matrix_of(cells, root)
    return make_plan(matrix, Selection(), make_world(sources=sources))


def planning(room: Path) -> list[Row]:
    matrix, sources = matrix_of(CELLS, room)
    world = make_world(sources=sources)
    made: list[Plan] = []
    planned_s = timed(lambda: made.append(make_plan(matrix, Selection(), world)))
    plan = made[0]
    bare_s = timed(lambda: [json.dumps(_material(each.cell), sort_keys=True) for each in plan.cells])
    place = room / "plan.json"
    told = plan_json(plan, host=TARGETS["x86_64"], config_sha256="0" * 64)
    written_s = timed(lambda: place.write_text(json.dumps(told, indent=2, sort_keys=True), encoding="utf-8"))
    read_s = timed(lambda: read_plan(place))
    count = f"{len(plan.cells):,} cells"
    wrote = f"write plan.json of {count}"
    baseline = f"writing the cells as JSON once: {bare_s:.2f} s"
    return [
        Row(what=f"plan {count}", value=f"{planned_s:.2f} s", baseline=baseline, ratio=planned_s / bare_s),
        Row(what=wrote, value=f"{written_s:.2f} s", baseline=baseline, ratio=written_s / bare_s),
        Row(what="read it", value=f"{read_s:.2f} s", baseline=baseline, ratio=read_s / bare_s),
        Row(what="peak memory", value=f"{peak_mb():.0f} MB", baseline=""),
    ]  # fmt: skip


def _material(cell: Cell) -> dict[str, object]:
    return {"id": cell.id, "target": asdict(cell.target), "recipe": str(cell.recipe), "outputs": str(cell.outputs),
            "libc": asdict(cell.libc), "env": dict(cell.env)}  # fmt: skip


# --- schedule ----------------------------------------------------------------------------------------------------


def scheduling(room: Path) -> list[Row]:
    rows = []
    for cells in (1_000, CELLS):
        place = room / str(cells)
        place.mkdir()
        plan = plan_of(cells, place)
        rules = RunRules(policy=PolicyRules(), jobs=2)
        before = peak_mb()
        run = _runner(plan, place, rules)
        took = timed(run)
        value = f"{took / len(plan.cells) * 1000:.1f} ms a cell, {peak_mb() - before:.0f} MB more at the peak"
        rows.append(Row(what=f"run {len(plan.cells):,} cells of a few bytes", value=value, baseline=""))
    return rows


def _runner(plan: Plan, place: Path, rules: RunRules) -> Callable[[], BuildReport]:
    builders = {"container": FakeBuilder(name="container")}
    return lambda: run_plan(
        plan, builders=builders, dist=place / "dist", rules=rules, observer=lambda _: None, stop=Stop()
    )


# --- merge -------------------------------------------------------------------------------------------------------


def merging(room: Path) -> list[Row]:
    rows = []
    for megabytes in (1, 8):
        place = room / str(megabytes)
        place.mkdir()
        plan, planned, folders, trust = shards_of(place, megabytes * MEGABYTE)
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        hashed_s = timed(lambda files=files: [_hash(path) for path in files])  # type: ignore[misc]  # bound at once
        now = datetime.now(UTC)

        def work() -> object:
            shards = [read_shard(folder, trust, now) for folder in folders]  # noqa: B023 - called at once
            return merge(collect(planned, shards), plan)  # noqa: B023 - likewise

        took = timed(work)
        rows.append(
            Row(what=f"judge and merge {SHARDS} shards of {megabytes} MB", value=f"{took:.2f} s",
                baseline=f"hashing them once: {hashed_s:.2f} s", ratio=took / hashed_s)
        )  # fmt: skip
    return rows


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shards_of(room: Path, size_bytes: int) -> tuple[Plan, PlanFile, list[Path], verify.TrustRoot]:
    plan = plan_of(SHARDS, room)
    plan = replace(plan, cells=plan.cells[:SHARDS])
    place = room / "plan.json"
    told = plan_json(plan, host=TARGETS["x86_64"], config_sha256="0" * 64)
    place.write_text(json.dumps(told), encoding="utf-8")
    planned = read_plan(place)
    signer, trust = keys(room)
    folders = []
    for number, each in enumerate(plan.cells):
        files = room / "files" / str(number)
        files.mkdir(parents=True)
        (files / "program").write_bytes(os.urandom(size_bytes))
        part = replace(plan, cells=(each,))
        report = BuildReport(plan=part, results=(_built(each.cell, files),))
        folders.append(write_shard(report, planned, room / f"machine-{number}", lambda _: (), signer).folder)
    return plan, planned, folders, trust


def _built(cell: Cell, folder: Path) -> Built:
    content = (folder / "program").read_bytes()
    file = BuiltFile(
        path=PurePosixPath("program"), size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(),
        sha512=hashlib.sha512(content).hexdigest(), executable=True,
    )  # fmt: skip
    smoke = SmokeResult(how=SmokeHow.NONE)
    return Built(cell=cell, folder=folder, files=(file,), findings=(), smoke=smoke, seconds=1.0, from_cache=False)


def keys(room: Path) -> tuple[KeyFileSigner, verify.TrustRoot]:
    now = datetime.now(UTC).replace(microsecond=0)
    trust = new_keys.NewTrust(path=room / "trust.json", project="hello", threshold=1)
    new_keys.make_key_file(room / "release.key", new_keys.pkcs8_form, None, trust, now)
    new_keys.make_key_file(room / "runner.key", new_keys.pkcs8_form, None, None, now)
    change = trust_file.Rotation(add=(public_keys.read_public_key(room / "runner.pub"),), role="shard")
    release_key = read_key(room / "release.key", lambda: None)
    data = trust_file.rotate(trust_file.read_trust(trust.path), change, [release_key], now)
    trust_file.write_trust(trust.path, data, new=False)
    return open_key_file(room / "runner.key", lambda: None), verify.load_trust(trust.path)


# --- jobs --------------------------------------------------------------------------------------------------------


def side_by_side(room: Path) -> list[Row]:
    relbuild = (sys.executable, "-P", "-c", "from orchestrator.cli import main; main()")
    matrix = (*relbuild, "matrix", "--log-format", "json", "--products", "hexsum", "--output", str(room))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(matrix, cwd=ROOT, env=env, check=True, capture_output=True)
    rows = []
    for jobs in (1, 2):
        started = time.perf_counter()
        done = subprocess.run(
            [*matrix, "--clean", "--jobs", str(jobs)], cwd=ROOT, env=env, check=True, capture_output=True
        )
        took = time.perf_counter() - started
        cells = [event["seconds"] for event in map(json.loads, done.stdout.splitlines()) if "seconds" in event]
        baseline = f"sum of the cells {sum(cells):.1f} s, the longest {max(cells):.1f} s"
        rows.append(
            Row(what=f"hexsum for three targets, --jobs {jobs}", value=f"{took:.1f} s", baseline=baseline,
                ratio=took / sum(cells))
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
