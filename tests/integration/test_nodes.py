"""BuildKit nodes: the machine's own engine and a second real one, joined to one builder, and one of them killed."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pytest

from builders import dockerfile
from builders.engine import image_builds, relay
from builders.engine.buildx_builder import BuildxBuilder
from builders.engine.node_model import NodeRules
from builders.engine.nodes import NodeSet
from builders.errors import NodeUnavailable, WrongNode
from builders.model import Cell, DockerfileRecipe, OutputPattern, Placement
from builders.targets import TARGETS
from tests import second_engine
from tests.integration.conftest import Recorded, cell_for, require_engine, write_source
from tests.second_engine import SecondEngine

pytestmark = [pytest.mark.engine, pytest.mark.emulation]

ROOT = Path(__file__).parents[2]
RELBUILD = [sys.executable, "-P", "-c", "from orchestrator.cli import main; main()"]
TARGET_NAMES = ("x86_64", "aarch64", "armv7")
FOREIGN = ("linux/arm64", "linux/arm/v7")

QUICK = """\
FROM relbuild/base AS work
RUN mkdir /out && dpkg --print-architecture >/out/said
FROM scratch
COPY --from=work /out /out
"""
SLOW_S = f"60.{os.getpid()}"
"""How long the slow cell sleeps: a number by which its process is found."""
SLOW = QUICK.replace(">/out/said", f">/out/said && sleep {SLOW_S}")


@dataclass(frozen=True)
class Place:
    """A project, and what keeps its builder apart from those of the machine's user."""

    folder: Path
    env: dict[str, str]

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*RELBUILD, *arguments], cwd=self.folder, env=self.env, capture_output=True, text=True,
                              timeout=400, check=False)  # fmt: skip

    def good(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def buildx(self, *arguments: str) -> str:
        return subprocess.run(["docker", "buildx", *arguments], env=self.env, capture_output=True, text=True,
                              timeout=90, check=True).stdout  # fmt: skip

    @property
    def builder(self) -> str:
        return str(json.loads(self.state.read_text())["builder"])

    @property
    def state(self) -> Path:
        return next(Path(self.env["XDG_CACHE_HOME"]).glob("relbuild/nodes/*/state.json"))


@pytest.fixture(scope="module")
def second() -> Iterator[SecondEngine]:
    require_engine()
    if reason := second_engine.why_not():
        pytest.skip(reason)
    image_builds.prepare([("base", TARGETS[name].oci) for name in TARGET_NAMES], print)
    with second_engine.second_engine() as running:
        yield running


@pytest.fixture(scope="module")
def home(second: SecondEngine) -> Iterator[Path]:
    # Short, because sockets lie in it; of all tests here, because base images are exported into it.
    folder = Path(tempfile.mkdtemp(prefix="relbuild-n-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def place(home: Path, second: SecondEngine, tmp_path: Path) -> Iterator[Place]:
    if not second.answers():
        second.start()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(home), "BUILDX_CONFIG": str(home / "buildx")}
    made = Place(folder=tmp_path, env=env)
    write_project(made, second, quick=QUICK)
    yield made
    made.run("engine", "nodes", "down")


def write_project(place: Place, second: SecondEngine, **dockerfiles: str) -> None:
    lines = [
        '[project]\nname = "twonodes"\nversion = "1.0.0"\n[engine]\nkind = "docker"\njobs = 4',
        '[engine.nodes.a]\nendpoint = "context default"\nplatforms = ["linux/amd64"]',
        f'[engine.nodes.b]\nendpoint = "{second.endpoint}"\nplatforms = {json.dumps(FOREIGN)}',
    ]
    for name, text in dockerfiles.items():
        (place.folder / name).mkdir(exist_ok=True)
        # Layers of earlier tests are not used: each run really runs.
        (place.folder / name / "Dockerfile").write_text(f"{text}# {time.time_ns()}\n".replace("RUN ", _unlike()))
        targets = TARGET_NAMES if name == "quick" else ("aarch64",)
        lines.append(
            f'[products.{name}]\nrecipe = "dockerfile"\nsource = "{name}"\noutputs = ["said"]\n'
            f"targets = {json.dumps(targets)}"
        )
    (place.folder / "matrix.toml").write_text("\n".join(lines) + "\n")


def _unlike() -> str:
    return f"RUN : {time.time_ns()} && "


def why(plan: str) -> dict[str, str]:
    rows = (re.split(r"  +", line) for line in plan.splitlines() if re.match(r"\w+/", line))
    return {row[0]: row[-1] for row in rows}


@pytest.mark.timeout(600)
def test_each_platform_is_built_by_the_node_that_is_planned_for_it(place: Place, second: SecondEngine) -> None:
    up = place.good("engine", "nodes", "up")
    assert re.search(r"^a +running +linux/amd64 +linux/amd64 ", up, re.MULTILINE)
    assert re.search(r"^b +running +linux/arm64, linux/arm/v7 +linux/amd64 ", up, re.MULTILINE)
    planned = why(place.good("plan"))
    assert planned == {
        "quick/x86_64": "native on the node a",
        "quick/aarch64": "under QEMU on the node b",
        "quick/armv7": "under QEMU on the node b",
    }
    place.good("matrix")
    for cell, reason in planned.items():
        log = (place.folder / "dist/logs" / f"{cell.replace('/', '-')}.log").read_text()
        assert f"built {reason}, as BuildKit says itself" in log
    # What buildx and the second engine say themselves, without our reading of it.
    refs = Path(place.env["BUILDX_CONFIG"]) / "refs" / place.builder
    assert {node.name: len(list(node.iterdir())) for node in refs.iterdir()} == {"a": 1, "b": 2}
    held = subprocess.run(["docker", "--host", second.endpoint, "buildx", "du", "--verbose", "--builder", "default"],
                          capture_output=True, text=True, check=True, timeout=60).stdout  # fmt: skip
    assert held.count("dpkg --print-architecture") == 2
    for name in TARGET_NAMES:
        archive = next((place.folder / "dist/staging/1.0.0").glob(f"*_{name}.tar.gz"))
        said = subprocess.run(["tar", "-xzOf", archive, "--wildcards", "*said"], capture_output=True, check=True).stdout
        assert said.decode().strip() == TARGETS[name].deb


def test_up_twice_changes_nothing_and_down_removes_only_what_up_made(place: Place) -> None:
    refused = place.run("plan")
    assert refused.returncode == NodeUnavailable.exit_code
    assert "relbuild engine nodes up" in refused.stderr
    place.buildx("create", "--name", "somebodys", "--driver", "remote", "unix:///nowhere.sock")
    first = place.good("engine", "nodes", "up")
    folder, relay_pid = place.state.parent, (place.state.parent / "relay.lock").read_text()
    assert place.good("engine", "nodes", "up") == first
    assert (folder / "relay.lock").read_text() == relay_pid
    assert place.builder in place.buildx("ls")
    listed = json.loads(place.good("engine", "nodes", "list", "--json"))
    assert [(node["name"], node["answers"], node["platforms"]) for node in listed] == [
        ("a", True, ["linux/amd64"]), ("b", True, list(FOREIGN)),
    ]  # fmt: skip
    place.good("engine", "nodes", "down")
    left = place.buildx("ls")
    assert "somebodys" in left
    assert "relbuild-twonodes" not in left
    assert not folder.exists()
    assert ends_within(10, int(relay_pid))
    assert "nothing" in place.good("engine", "nodes", "down")
    place.buildx("rm", "somebodys")


def test_a_relay_that_died_is_started_again(place: Place) -> None:
    place.good("engine", "nodes", "up")
    folder = place.state.parent
    assert relay.stop(folder)
    assert not relay.stop(folder)
    assert place.good("engine", "nodes", "list").count("running") == 2


@pytest.mark.timeout(600)
def test_a_node_that_is_killed_in_a_run_is_named_and_the_next_run_builds_only_the_rest(
    place: Place, second: SecondEngine
) -> None:
    write_project(place, second, quick=QUICK, slow=SLOW)
    place.good("engine", "nodes", "up")
    process = subprocess.Popen([*RELBUILD, "matrix"], cwd=place.folder, env=place.env, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)  # fmt: skip
    log = place.folder / "dist/logs/slow-aarch64.log"
    try:
        wait_until(lambda: len(kept(place)) == 3 and is_sleeping(), process)
        second.kill()
        told, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == NodeUnavailable.exit_code, told
    assert "the node b was lost, with slow/aarch64" in told
    assert f"the node b ({second.endpoint}) was lost in the middle of the run" in told, told
    before = kept(place)
    assert len(before) == 3

    planned = place.good("plan")
    assert why(planned)["slow/aarch64"] == "under QEMU on the node a"
    assert planned.count("cached") == 3
    again = place.run("matrix")
    assert again.returncode == 0, again.stderr
    assert len(re.findall(r"^cached +quick/", again.stdout + again.stderr, re.MULTILINE)) == 3
    new = {path: when for path, when in kept(place).items() if path not in before}
    assert len(new) == 1
    assert {path: when for path, when in kept(place).items() if path in before} == before
    assert "built under QEMU on the node a" in log.read_text()
    gone = place.good("engine", "nodes", "list")
    assert re.search(r"^b +gone: ", gone, re.MULTILINE)

    second.start()
    assert place.good("engine", "nodes", "up").count("running") == 2


def test_nodes_that_do_not_answer_end_up_with_a_code_and_each_is_named(place: Place, second: SecondEngine) -> None:
    text = (place.folder / "matrix.toml").read_text()
    (place.folder / "matrix.toml").write_text(text.replace(second.endpoint, "tcp://127.0.0.1:9"))
    done = place.run("engine", "nodes", "up")
    assert done.returncode == NodeUnavailable.exit_code
    assert "the builder is there without b" in done.stderr
    assert why(place.good("plan"))["quick/armv7"] == "under QEMU on the node a"
    found = place.run("doctor", "--json").stdout
    grades = {each["name"]: each["grade"] for each in json.loads(found)}
    assert (grades["node a"], grades["node b"]) == ("ok", "note")


# --- the run asserts who built what ------------------------------------------------------------------------------


@pytest.fixture
def nodes(place: Place, second: SecondEngine, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeSet]:
    monkeypatch.setenv("BUILDX_CONFIG", place.env["BUILDX_CONFIG"])
    monkeypatch.setenv("XDG_CACHE_HOME", place.env["XDG_CACHE_HOME"])
    rules = (
        NodeRules(name="a", endpoint="context default", platforms=("linux/amd64",)),
        NodeRules(name="b", endpoint=second.endpoint, platforms=FOREIGN),
    )
    made = NodeSet("relbuild-test", rules, home / "relbuild/nodes/test")
    made.up(lambda _text: None)
    yield made
    made.down()


def cell_on(builder: BuildxBuilder, folder: Path, target: str, placement: Placement) -> Cell:
    tree = write_source(folder, {"Dockerfile": QUICK.replace("RUN ", _unlike())})
    recipe = DockerfileRecipe(dockerfile=PurePosixPath("Dockerfile"), images=dockerfile.base_images(QUICK))
    return cell_for(builder, recipe, TARGETS[target], placement, source=tree,
                    outputs=(OutputPattern(glob="said"),))  # fmt: skip


def test_a_cell_that_another_node_built_is_an_error(nodes: NodeSet, place: Place, tmp_path: Path) -> None:
    builder = BuildxBuilder(nodes=nodes)
    cell = cell_on(builder, tmp_path / "source", "armv7", Placement.EMULATE)
    builder.check([cell])
    # Somebody gives the platform to the other node meanwhile.
    socket = f"unix://{home_of(place)}/relbuild/nodes/test/a.sock"
    place.buildx("create", "--name", "relbuild-test", "--append", "--node", "a", "--driver", "remote", "--platform",
                 "linux/amd64,linux/arm/v7", socket)  # fmt: skip
    place.buildx("create", "--name", "relbuild-test", "--leave", "--node", "b")
    (tmp_path / "out").mkdir()
    with pytest.raises(WrongNode, match="the node b was planned, and buildx says that a built it"):
        builder.build(cell, tmp_path / "out", Recorded())


def test_a_cell_that_ran_emulated_although_it_was_planned_native_is_an_error(nodes: NodeSet, tmp_path: Path) -> None:
    # The node said that it is an arm64 machine, and is replaced by this one before the build.
    nodes._seen = tuple(
        replace(node, native="linux/arm64") if node.name == "b" else node for node in nodes.look()
    )  # fmt: skip
    builder = BuildxBuilder(nodes=nodes)
    cell = cell_on(builder, tmp_path / "source", "aarch64", Placement.NATIVE)
    builder.check([cell])
    (tmp_path / "out").mkdir()
    with pytest.raises(WrongNode, match="planned native on the node b, and ran emulated: the node is linux/amd64"):
        builder.build(cell, tmp_path / "out", Recorded())


def is_sleeping() -> bool:
    """Tell whether the slow cell is at its sleep, in whichever engine: their processes are seen from here."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            # The shell that starts it has the number in the middle of a word.
            if SLOW_S in path.read_bytes().decode("utf-8", "replace").split("\0"):
                return True
    return False


def ends_within(seconds: float, pid: int) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.1)
    return False


def home_of(place: Place) -> str:
    return place.env["XDG_CACHE_HOME"]


def kept(place: Place) -> dict[str, float]:
    """Give the finished cells, each with the time when it was finished."""
    found = (place.folder / "dist/cells").glob("*/build.json")
    return {path.parent.name: path.stat().st_mtime for path in found}


def wait_until(true: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 240
    while not true():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
