"""What each way to keep a recipe apart really takes away, asked from inside."""

import dataclasses
import os
from pathlib import Path, PurePosixPath

import pytest

from builders import command, targets
from builders.errors import ToolchainUnavailable
from builders.local import sandbox
from builders.local.local_builder import LocalBuilder
from builders.local.sandbox import Bind, Isolation, Room
from builders.model import CommandRecipe, Mount, Placement
from tests.fakes import tree
from tests.integration.conftest import Recorded, cell_for, write_source

UNSHARE_WORKS = sandbox._works([*sandbox._unshare(network=False), "true"])
BUBBLEWRAP = pytest.param(
    Isolation.BUBBLEWRAP,
    marks=pytest.mark.skipif(sandbox.available() is not Isolation.BUBBLEWRAP, reason="bubblewrap does not work here"),
)
NAMESPACES = pytest.param(
    Isolation.NAMESPACES, marks=pytest.mark.skipif(not UNSHARE_WORKS, reason="unshare does not work here")
)
NONE = pytest.param(Isolation.NONE)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    for name in ("src", "out"):
        (tmp_path / name).mkdir()
    binds = (
        Bind(outside=tmp_path / "src", inside="/src"),
        Bind(outside=tmp_path / "out", inside="/out", writable=True),
    )
    return Room(binds=binds, cwd="/", env={"PATH": "/usr/bin:/bin", "OWN": "a"})


def said(script: str, room: Room, isolation: Isolation) -> str:
    done = command.capture(sandbox.wrap(["sh", "-c", script], room, isolation), timeout_s=20)
    assert done.exit_code == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.fault(80)
@pytest.mark.parametrize("isolation", [BUBBLEWRAP, NAMESPACES])
def test_the_network_is_there_only_when_asked_for(isolation: Isolation, room: Room) -> None:
    here = Path("/proc/self/ns/net").readlink()
    script = "readlink /proc/self/ns/net"
    assert said(script, room, isolation).strip() != str(here)
    assert said(script, dataclasses.replace(room, network=True), isolation).strip() == str(here)


@pytest.mark.fault(80)
@pytest.mark.parametrize("isolation", [BUBBLEWRAP, NAMESPACES])
def test_other_processes_cannot_be_seen(isolation: Isolation, room: Room) -> None:
    assert len([line for line in said("ls /proc", room, isolation).split() if line.isdigit()]) < 8


@pytest.mark.parametrize("isolation", [BUBBLEWRAP, NAMESPACES, NONE])
def test_memory_is_bounded(isolation: Isolation, room: Room) -> None:
    bounded = dataclasses.replace(room, memory_bytes=512 << 20)
    assert said("ulimit -v", bounded, isolation) == f"{512 << 10}\n"


@pytest.mark.fault(80)
@pytest.mark.parametrize("isolation", [BUBBLEWRAP])
def test_bubblewrap_leaves_only_what_was_given(
    isolation: Isolation, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "hunter2")
    assert sorted(said("env", room, isolation).split()) == ["OWN=a", "PATH=/usr/bin:/bin", "PWD=/"]
    assert said("grep CapEff /proc/self/status", room, isolation).split()[1].strip("0") == ""
    tried = "for at in / /src /out /usr; do (: >$at/x) 2>/dev/null && echo $at; done; true"
    assert said(tried, room, isolation) == "/out\n"
    assert {"home", "root", "var", "run"} & set(said("ls /", room, isolation).split()) == set()


def test_what_is_told_is_what_works_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bwrap", "unshare"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert sandbox.available.__wrapped__() is Isolation.NONE
    (tmp_path / "unshare").write_text("#!/bin/sh\nexit 0\n")
    assert sandbox.available.__wrapped__() is Isolation.NAMESPACES
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 0\n")
    assert sandbox.available.__wrapped__() is Isolation.BUBBLEWRAP


@pytest.mark.parametrize("isolation", [NONE])
def test_a_recipe_without_bubblewrap_has_a_clean_environment_and_the_cell_says_so(
    isolation: Isolation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "available", lambda: isolation)
    monkeypatch.setenv("SECRET_OF_THE_HOST", "hunter2")
    source = write_source(tmp_path / "source", {"data.txt": "text\n"})
    builder = LocalBuilder(work=tmp_path / "work", cache=tmp_path / "cache")
    recipe = CommandRecipe(toolchain="gcc", script='env >"$OUT/env"; echo more >>data.txt || true')
    cell = cell_for(builder, recipe, targets.host(), Placement.NATIVE, source=source)
    (tmp_path / "collected").mkdir()
    builder.build(cell, tmp_path / "collected", Recorded())
    assert cell.toolchain.isolation == isolation.value
    assert "hunter2" not in (tmp_path / "collected" / "env").read_text()
    assert (tmp_path / "source" / "data.txt").read_text() == "text\n"
    assert list((tmp_path / "work").iterdir()) == []
    mounted = dataclasses.replace(cell, mounts=(Mount(at=PurePosixPath("/deps"), tree=tree()),))
    with pytest.raises(ToolchainUnavailable, match="bubblewrap does not work here"):
        builder.check([mounted])


def test_folders_of_killed_cells_are_removed_even_when_locked(tmp_path: Path) -> None:
    locked = tmp_path / "work" / "cell-killed" / "locked"
    locked.mkdir(parents=True)
    (locked / "file").touch()
    locked.chmod(0o500)
    LocalBuilder(work=tmp_path / "work", cache=tmp_path / "cache").check([])
    assert list((tmp_path / "work").iterdir()) == []
