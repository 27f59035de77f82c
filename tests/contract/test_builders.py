"""What every Builder does, whichever it is. Each runs the same recipes for the machine that the tests are on."""

import hashlib
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pytest

from builders import targets
from builders.engine import buildx_builder, container, container_builder, image_builds
from builders.errors import (
    CommandFailed,
    Interrupted,
    OutputMissing,
    OutputUnsafe,
    SmokeFailed,
    TimedOut,
    ToolchainUnavailable,
)
from builders.interface import Builder
from builders.local import local_builder, sandbox
from builders.model import Cell, CommandRecipe, Libc, Limits, Mount, OutputPattern, Placement, Smoke, SmokeHow
from builders.targets import Target
from builders.world import STANDARD, Axis, BuildWorld, Fixed, Varies, find_libfaketime, varied_on
from tests.integration.conftest import Recorded, cell_for, engine_target, require_engine, write_source

EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True)
class Subject:
    """A builder under test, the target that it builds for here, how it places the cell, where materials are kept."""

    builder: Builder
    target: Target
    placement: Placement
    kept: Path


def _container(folder: Path) -> Subject:
    require_engine()
    image_builds.prepare([("gcc", container.engine_facts().os_arch)], print)
    builder = container_builder.ContainerBuilder(material_cache=folder / "materials")
    return Subject(builder, engine_target(), Placement.NATIVE, folder / "materials")


def _buildx(folder: Path) -> Subject:
    # The engine's own platform: the same path as an emulated one, without QEMU's slowness.
    require_engine()
    image_builds.prepare([("gcc", container.engine_facts().os_arch)], print)
    builder = buildx_builder.BuildxBuilder(material_cache=folder / "materials")
    return Subject(builder, engine_target(), Placement.EMULATE, folder / "materials")


def _local(folder: Path) -> Subject:
    # One folder for what Zig prepares, beside those of all tests of this worker.
    cache = folder.parents[1] / "zig-cache"
    builder = local_builder.LocalBuilder(work=folder / "work", cache=cache)
    return Subject(builder, targets.host(), Placement.NATIVE, cache / "materials")


SUBJECTS: dict[str, Callable[[Path], Subject]] = {"container": _container, "buildx": _buildx, "local": _local}
"""Every builder by name; each maker gets a folder of its own and skips where it cannot work."""

ENGINES = {"container", "buildx"}


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.engine] * (name in ENGINES)) for name in SUBJECTS])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    return SUBJECTS[request.param](tmp_path / "builder")


@pytest.fixture
def out_dir(tmp_path: Path) -> Path:
    (tmp_path / "collected").mkdir()
    return tmp_path / "collected"


MakeCell = Callable[..., Cell]


@pytest.fixture
def make(subject: Subject, tmp_path: Path) -> MakeCell:
    tree = write_source(tmp_path / "source", {"data.txt": "from the source\n", "deep/er/more.txt": "more\n"})

    def make_one(script: str = "", **changes: object) -> Cell:
        recipe = changes.pop("recipe", CommandRecipe(toolchain="gcc", script=script))
        assert isinstance(recipe, CommandRecipe)
        return cell_for(subject.builder, recipe, subject.target, subject.placement, source=tree, **changes)

    return make_one


def build(subject: Subject, cell: Cell, out_dir: Path, events: Recorded | None = None) -> dict[str, bytes]:
    built = subject.builder.build(cell, out_dir, events or Recorded())
    for file in built:
        data = (out_dir / file.path).read_bytes()
        assert (file.size_bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert file.sha512 == hashlib.sha512(data).hexdigest()
    return {str(file.path): (out_dir / file.path).read_bytes() for file in built}


def test_outputs_come_out_whole(subject: Subject, make: MakeCell, out_dir: Path) -> None:
    cell = make(
        'mkdir "$OUT/bin"; cp deep/er/more.txt "$OUT/bin/tool"; chmod +x "$OUT/bin/tool"; cp data.txt "$OUT"; >$OUT/x',
        outputs=(OutputPattern(glob="bin/*"), OutputPattern(glob="data.txt", exactly_one=True)),
    )
    subject.builder.check([cell])
    assert build(subject, cell, out_dir) == {"bin/tool": b"more\n", "data.txt": b"from the source\n"}
    assert (out_dir / "bin/tool").stat().st_mode & EXECUTABLE == EXECUTABLE
    assert not (out_dir / "data.txt").stat().st_mode & EXECUTABLE
    assert not (out_dir / "x").exists()


def test_commands_are_argument_lists(subject: Subject, make: MakeCell, out_dir: Path) -> None:
    nasty = "a b; $(touch $OUT/no) `touch $OUT/no` ' \" \\ * $HOME\n'; exit 1 #"
    write = 'printf "%s" "$1" >"$OUT/said"'
    recipe = CommandRecipe(toolchain="gcc", commands=(("sh", "-c", write, "sh", nasty), ("true", "-x", "&& false")))
    assert build(subject, make(recipe=recipe), out_dir) == {"said": nasty.encode()}


def test_the_environment_is_the_promised_one_and_nothing_more(
    subject: Subject, make: MakeCell, out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "hunter2")
    monkeypatch.setenv("CFLAGS", "-DFROM_THE_HOST")
    cell = make('env -0 >"$OUT/env"', env={"OWN": "a $b 'c'\n\"d\"", "OUT": "/elsewhere"}, epoch=1234567890)
    text = build(subject, cell, out_dir)["env"].decode()
    env = dict(entry.split("=", 1) for entry in text.split("\0") if entry)
    assert env["OWN"] == "a $b 'c'\n\"d\""
    assert (env["SOURCE_DATE_EPOCH"], env["RELBUILD_TARGET"]) == ("1234567890", subject.target.name)
    assert (env["RELBUILD_VERSION"], env["LC_ALL"], env["TZ"]) == ("1.0.0", "C.UTF-8", "UTC")
    assert env["OUT"] != "/elsewhere"
    assert "hunter2" not in text
    assert "FROM_THE_HOST" not in text
    assert not {"HOSTNAME", "USER", "SSH_AUTH_SOCK", "DOCKER_HOST"} & set(env)


def test_home_and_tmpdir_are_there_and_forgotten(subject: Subject, make: MakeCell, tmp_path: Path) -> None:
    cell = make(
        'test -d "$HOME" -a -w "$TMPDIR"; ls "$TMPDIR/kept" 2>/dev/null || echo gone >"$OUT/a"; : >"$TMPDIR/kept"'
    )
    for number in "12":
        (tmp_path / number).mkdir()
        assert build(subject, cell, tmp_path / number) == {"a": b"gone\n"}


def test_mounts_are_seen_where_they_were_asked_for(
    subject: Subject, make: MakeCell, out_dir: Path, tmp_path: Path
) -> None:
    if subject.builder.name == "local" and sandbox.available() is not sandbox.Isolation.BUBBLEWRAP:
        pytest.skip("a mount needs a file system of its own, and bubblewrap does not work on this machine")
    mount = Mount(at=PurePosixPath("/deps/more"), tree=write_source(tmp_path / "deps", {"lib.txt": "library\n"}))
    cell = make('cp /deps/more/lib.txt "$OUT"; if touch /deps/more/new 2>/dev/null; then exit 9; fi', mounts=(mount,))
    assert build(subject, cell, out_dir) == {"lib.txt": b"library\n"}


def test_a_failing_command_is_named(subject: Subject, make: MakeCell, out_dir: Path) -> None:
    recipe = CommandRecipe(
        toolchain="gcc", commands=(("true",), ("sh", "-c", "echo reason >&2; exit 7"), ("touch", "x"))
    )
    events = Recorded()
    with pytest.raises(CommandFailed, match=rf"hello/{subject.target.name}.*7") as failure:
        subject.builder.build(make(recipe=recipe), out_dir, events)
    assert "log" in failure.value.next_step
    assert b"reason" in events.log
    assert list(out_dir.iterdir()) == []


def test_a_script_stops_at_its_first_error(subject: Subject, make: MakeCell, out_dir: Path) -> None:
    with pytest.raises(CommandFailed):
        subject.builder.build(make('false\n: >"$OUT/a"'), out_dir, Recorded())
    with pytest.raises(CommandFailed):
        subject.builder.build(make('echo "$NOT_SET"\n: >"$OUT/a"'), out_dir, Recorded())


def test_output_arrives_while_the_recipe_runs(subject: Subject, make: MakeCell, out_dir: Path) -> None:
    events = Recorded(stop_at=b"one-two")
    started = time.monotonic()
    with pytest.raises(Interrupted):
        subject.builder.build(make('printf "%s-" one; echo two; exec sleep 300'), out_dir, events)
    assert time.monotonic() - started < 60


def test_a_recipe_that_takes_too_long_is_ended(subject: Subject, make: MakeCell, out_dir: Path) -> None:
    cell = make("sleep 300 & sleep 300", limits=Limits(timeout_s=4))
    started = time.monotonic()
    with pytest.raises(TimedOut, match=rf"hello/{subject.target.name}.* 4 s"):
        subject.builder.build(cell, out_dir, Recorded())
    assert time.monotonic() - started < 40


def test_stopping_takes_no_time(subject: Subject, make: MakeCell, out_dir: Path) -> None:
    events = Recorded()
    timer = threading.Timer(3, events.cancelled.set)
    started = time.monotonic()
    timer.start()
    with pytest.raises(Interrupted):
        subject.builder.build(make("exec sleep 300"), out_dir, events)
    timer.join()
    assert time.monotonic() - started < 30


def test_an_output_that_is_not_there_is_named(subject: Subject, make: MakeCell, out_dir: Path) -> None:
    with pytest.raises(OutputMissing, match=r"lib\*"):
        subject.builder.build(make(': >"$OUT/a"', outputs=(OutputPattern(glob="lib*"),)), out_dir, Recorded())


@pytest.mark.fault(67)
@pytest.mark.parametrize(
    "left",
    ['ln -s /etc/passwd "$OUT/a"', 'mkfifo "$OUT/a"', 'ln -s /etc "$OUT/d"; : >"$OUT/a"; ln -s ../a "$OUT/b"'],
    ids=["symlink", "fifo", "links"],
)
def test_only_plain_files_come_out(subject: Subject, make: MakeCell, out_dir: Path, left: str) -> None:
    with pytest.raises(OutputUnsafe):
        subject.builder.build(make(left, outputs=(OutputPattern(glob="**"),)), out_dir, Recorded())
    assert all(path.is_file() and not path.is_symlink() for path in out_dir.rglob("*"))


def test_an_unknown_toolchain_is_refused_with_a_hint(subject: Subject) -> None:
    with pytest.raises(ToolchainUnavailable) as failure:
        subject.builder.toolchain(
            CommandRecipe(toolchain="gccc", script="true"), subject.target, Libc(), subject.placement
        )
    assert failure.value.next_step


def test_a_toolchain_keeps_its_identity(subject: Subject) -> None:
    recipe = CommandRecipe(toolchain="gcc", script="true")
    asked = [subject.builder.toolchain(recipe, subject.target, Libc(), subject.placement) for _ in range(2)]
    assert asked[0] == asked[1]
    assert asked[0].identity.startswith("sha256:")
    assert asked[0].isolation


PROGRAM = '#!/bin/sh\necho "$0 $# $1"\necho warned >&2\nexit "${2:-0}"\n'


@pytest.fixture
def program(out_dir: Path) -> Path:
    path = out_dir / "bin" / "tool"
    path.parent.mkdir()
    path.write_text(PROGRAM)
    path.chmod(0o755)
    return out_dir


def test_smoke_tests_compare_output_and_exit_code(subject: Subject, make: MakeCell, program: Path) -> None:
    tests = (Smoke(run=("bin/tool", "a b", "3"), exit=3), Smoke(run=("bin/tool",)))
    result = subject.builder.smoke(make("true", smoke=tests), program, Recorded())
    assert (result.how, result.tests) == (SmokeHow.NATIVE, 2)


def test_a_smoke_test_that_fails_shows_what_it_printed(subject: Subject, make: MakeCell, program: Path) -> None:
    wrong_text = make("true", smoke=(Smoke(run=("bin/tool", "x"), stdout="other\n"),))
    with pytest.raises(SmokeFailed, match=r"1 x.*other"):
        subject.builder.smoke(wrong_text, program, Recorded())
    wrong_code = make("true", smoke=(Smoke(run=("bin/tool", "x", "5")),))
    with pytest.raises(SmokeFailed, match=r"5, not 0.*warned"):
        subject.builder.smoke(wrong_code, program, Recorded())


def test_no_smoke_test_is_no_result(subject: Subject, make: MakeCell, program: Path) -> None:
    assert subject.builder.smoke(make("true"), program, Recorded()).how is SmokeHow.NONE


def test_materials_say_what_the_toolchain_consists_of(subject: Subject, make: MakeCell) -> None:
    found = subject.builder.materials(make("true"))
    assert {"gcc", "gcc-12", "gcc-14", "ziglang"} & {one.name for one in found}
    assert all(one.version and one.purl.startswith(f"pkg:{one.purl[4:].partition('/')[0]}/") for one in found)
    assert list(found) == sorted(set(found), key=lambda one: (one.name, one.version, one.purl))
    assert subject.builder.materials(make("true")) == found


def test_materials_are_asked_for_once(subject: Subject, make: MakeCell) -> None:
    cell = make("true")
    found = subject.builder.materials(cell)
    place = subject.kept / f"{cell.toolchain.identity.removeprefix('sha256:')}.json"
    whole = place.read_bytes()
    place.write_bytes(whole.replace(found[0].version.encode(), b"from-the-cache"))
    assert "from-the-cache" in {one.version for one in subject.builder.materials(cell)}
    place.write_bytes(whole[:-9])
    assert subject.builder.materials(cell) == found
    assert place.read_bytes() == whole
    assert [path.name for path in place.parent.iterdir() if path.name.startswith(".")] == []


# --- worlds --------------------------------------------------------------------------------------------------------

PROBES = {
    Axis.PATH: "pwd",
    Axis.TIME: "date +%Y",
    Axis.TIME_ZONE: "date -d @0 +%H%M",
    Axis.LOCALE: 'echo "$LC_ALL"',
    Axis.UMASK: "umask",
    Axis.HOST_NAME: "uname -n",
    Axis.USER: "id -u",
    Axis.CPU_COUNT: "nproc",
    Axis.FILE_ORDER: "ls -U",
    Axis.ENVIRONMENT: "env | grep -c OTHER_WORLD || true",
}
"""What each axis looks like from inside a recipe."""


@pytest.fixture
def probe(subject: Subject, make: MakeCell, tmp_path: Path) -> Cell:
    names = {f"{letter}.txt": letter for letter in "acegikmoqsuwy"}
    script = "; ".join(f'{{ {command}; }} >"$OUT/{axis}"' for axis, command in PROBES.items())
    return replace(make(script), source=write_source(tmp_path / "many", names))


def seen(subject: Subject, cell: Cell, world: BuildWorld, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    moved = Subject(subject.builder.within(world), subject.target, subject.placement, subject.kept)
    return build(moved, cell, folder)


def test_a_recipe_sees_every_axis_that_can_be_varied_and_the_others_stay(
    subject: Subject, probe: Cell, tmp_path: Path
) -> None:
    library = find_libfaketime(targets.host().gnu)
    states = subject.builder.axes(probe, varied_on(tuple(Axis), library))
    assert set(states) == set(Axis)
    varied = {axis for axis, state in states.items() if isinstance(state, Varies)}
    assert {Axis.TIME_ZONE, Axis.LOCALE, Axis.UMASK, Axis.ENVIRONMENT} <= varied
    assert all(state.reason for state in states.values() if isinstance(state, Fixed))
    usual = build(subject, probe, _made(tmp_path / "usual"))
    other = seen(subject, probe, varied_on(varied, library), tmp_path / "other")
    assert {axis for axis in Axis if usual[axis] != other[axis]} == varied
    again = seen(subject, probe, STANDARD, tmp_path / "again")
    assert again == usual


def test_one_axis_varied_alone_changes_nothing_else(subject: Subject, probe: Cell, tmp_path: Path) -> None:
    usual = build(subject, probe, _made(tmp_path / "usual"))
    other = seen(subject, probe, varied_on({Axis.UMASK}), tmp_path / "other")
    assert {axis for axis in Axis if usual[axis] != other[axis]} == {Axis.UMASK}


def test_what_a_product_sets_itself_is_not_varied(subject: Subject, make: MakeCell) -> None:
    states = subject.builder.axes(make("true", env={"TZ": "UTC-3"}), varied_on(tuple(Axis)))
    assert isinstance(states[Axis.TIME_ZONE], Fixed)
    assert isinstance(states[Axis.LOCALE], Varies)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
