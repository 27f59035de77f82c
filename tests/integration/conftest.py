"""What tests on a real container engine share."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from builders import sources, targets
from builders.engine import container, image_builds
from builders.engine.container import Engine
from builders.engine.owner import RUN_LABEL
from builders.errors import EngineUnavailable
from builders.interface import Builder
from builders.model import Cell, CommandRecipe, Libc, Placement, Recipe, SourceTree
from builders.targets import Target
from tests.fakes import make_cell

HELLO_C = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'


@dataclass
class Recorded:
    """Events that keep what they are told, and set `cancelled` when the recipe prints `stop_at`."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    log: bytearray = field(default_factory=bytearray)
    steps: list[str] = field(default_factory=list)
    stop_at: bytes = b""
    documents: dict[str, bytes] = field(default_factory=dict)

    def output(self, chunk: bytes) -> None:
        self.log += chunk
        if self.stop_at and self.stop_at in self.log:
            self.cancelled.set()

    def step(self, text: str) -> None:
        self.steps.append(text)

    def attach(self, name: str, content: bytes) -> None:
        self.documents[name] = content


def require_engine() -> None:
    """Skip where no daemon answers; fail where RELBUILD_REQUIRE_ENGINE=1 says that one must."""
    try:
        container.engine_facts()
    except EngineUnavailable as error:
        if os.environ.get("RELBUILD_REQUIRE_ENGINE") == "1":
            pytest.fail(f"RELBUILD_REQUIRE_ENGINE=1, and {error}")
        pytest.skip(f"no container engine: {error.what}")


def engine_target() -> Target:
    """Give the target that the engine's own machine is."""
    found = targets.find(container.engine_facts().os_arch)
    assert found is not None
    return found


def write_source(folder: Path, files: dict[str, str]) -> SourceTree:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return sources.read_tree(folder, origin="test source")


def cell_for(builder: Builder, recipe: Recipe, target: Target, placement: Placement, **changes: object) -> Cell:
    """Make a cell whose toolchain is the builder's own answer."""
    toolchain = builder.toolchain(recipe, target, Libc(), placement)
    given: dict[str, object] = {
        "target": target, "recipe": recipe, "placement": placement, "builder": builder.name, "toolchain": toolchain,
    }  # fmt: skip
    return make_cell("hello", **{**given, **changes})


def script(text: str, toolchain: str = "gcc") -> CommandRecipe:
    return CommandRecipe(toolchain=toolchain, script=text)


def things_of(run: str, engine: Engine) -> list[str]:
    """Name every container and volume that a run made and that is still there."""
    label = f"{RUN_LABEL}={run}"
    return [*engine.containers_with(label), *engine.volumes_with(label)]


@pytest.fixture
def engine() -> Iterator[Engine]:
    require_engine()
    with container.connect() as opened:
        yield opened


@pytest.fixture(scope="session")
def gcc_image() -> None:
    require_engine()
    image_builds.prepare([("gcc", container.engine_facts().os_arch)], print)


@pytest.fixture
def run_name(engine: Engine, request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the test a name for what it makes in the engine, and leave nothing of that name behind."""
    name = f"test-{os.getpid()}-{abs(hash(request.node.name))}"
    yield name
    for found in engine.containers_with(f"{RUN_LABEL}={name}"):
        engine.remove_container(found)
    for found in engine.volumes_with(f"{RUN_LABEL}={name}"):
        engine.remove_volume(found)
