"""Worlds: each axis changes what it should and nothing else, and the usual world changes nothing at all."""

from pathlib import Path, PurePosixPath

import pytest

from builders import recipe_env, world
from builders.engine import container_world
from builders.engine.spec import ContainerSpec, ImageFacts
from builders.local import sandbox
from builders.model import Digest, SourceFile, SourceTree
from builders.world import OTHER, STANDARD, Axis, BuildWorld, described, varied_on
from tests.fakes import make_cell

LIBRARY = "/lib/libfaketime.so.1"
ENV = {"TMPDIR": "/tmp", "HOME": "/tmp/home", "TZ": "UTC", "LC_ALL": "C.UTF-8", "PATH": "/bin"}


@pytest.mark.parametrize("axis", Axis)
def test_a_world_differs_on_the_axes_that_were_asked_for(axis: Axis) -> None:
    assert varied_on({axis}, LIBRARY).varied == {axis}
    texts = described(varied_on({axis}, LIBRARY))
    assert [each for each, text in texts.items() if text] == [axis]


def test_all_axes_make_the_other_world() -> None:
    assert varied_on(tuple(Axis), LIBRARY).varied == set(Axis)
    assert varied_on(()) == STANDARD == BuildWorld()
    assert not any(described(STANDARD).values())


def test_without_libfaketime_the_clock_stays() -> None:
    assert varied_on(tuple(Axis)).varied == set(Axis) - {Axis.TIME}


def test_the_usual_world_starts_recipes_as_before() -> None:
    argv = ("sh", "-c", "true")
    assert world.entry(argv, STANDARD, taskset=True) == list(argv)
    assert world.environment(ENV, STANDARD, ()) == ENV
    assert container_world.paths(STANDARD) == recipe_env.SANDBOX == recipe_env.placed_below("")
    assert container_world.spec_in(spec(), STANDARD, make_cell(), "/src") == spec()


def test_the_other_world_reaches_a_recipe() -> None:
    whole = varied_on(tuple(Axis), LIBRARY)
    env = world.environment(ENV, whole, (), preload="/x.so")
    assert (env["TZ"], env["LC_ALL"], env["USER"]) == (OTHER.time_zone, "C", OTHER.user_name)
    assert env["HOME"] == "/tmp/home-of-another"
    assert (env["LD_PRELOAD"], env["FAKETIME"]) == ("/x.so", f"+{OTHER.clock_ahead_s}")
    assert env["PATH"] == "/bin"
    started = world.entry(("make",), whole, taskset=True)
    assert started[:3] == ["taskset", "-c", "0"]
    assert "umask 0027" in started[5]
    assert started[-1] == "make"


def test_what_a_product_sets_itself_stays() -> None:
    env = world.environment({**ENV, "TZ": "Europe/Paris"}, varied_on(tuple(Axis)), {"TZ"})
    assert env["TZ"] == "Europe/Paris"
    assert list(world.pinned({"TZ": "Europe/Paris", "OWN": "x"})) == [Axis.TIME_ZONE]


def test_source_names_are_written_in_the_other_order() -> None:
    files = tuple(
        SourceFile(path=PurePosixPath(name), executable=False, sha256="0" * 64, size_bytes=0) for name in "abc"
    )
    tree = SourceTree(root=Path(), files=files, digest=Digest("sha256:x"), origin="test")
    assert world.in_order(tree, STANDARD) is tree
    assert [str(each.path) for each in world.in_order(tree, varied_on({Axis.FILE_ORDER})).files] == ["c", "b", "a"]


def test_bubblewrap_has_its_usual_name_and_user_unless_told_otherwise() -> None:
    usual = sandbox.wrap(("true",), sandbox.Room(binds=(), cwd="/", env={}), sandbox.Isolation.BUBBLEWRAP)
    assert usual[usual.index("--hostname") + 1] == "relbuild"
    assert "--uid" not in usual
    room = sandbox.Room(binds=(), cwd="/", env={}, host_name="another-host", user=4217)
    other = sandbox.wrap(("true",), room, sandbox.Isolation.BUBBLEWRAP)
    assert other[other.index("--hostname") + 1] == "another-host"
    assert other[other.index("--uid") + 1] == "4217"


def test_a_container_in_another_world() -> None:
    made = container_world.spec_in(spec(), varied_on(tuple(Axis), LIBRARY), make_cell(), "/elsewhere/src")
    assert (made.user, made.host_name, made.cpu_set) == (4217, "another-host", "0")
    assert made.memory_folders == ("/elsewhere/src",)
    assert made.env["TZ"] == OTHER.time_zone


def test_libfaketime_is_found_where_it_is_named(tmp_path: Path) -> None:
    library = tmp_path / "libfaketime.so.1"
    assert world.find_libfaketime("x86_64-linux-gnu", library) == ""
    library.touch()
    assert world.find_libfaketime("x86_64-linux-gnu", library) == str(library)


def spec() -> ContainerSpec:
    image = ImageFacts(identity=Digest("sha256:x"), platform="linux/amd64", env=(), names=(), created=0)
    return ContainerSpec(image=image, volumes=(), labels={}, env=ENV, working_dir="/src")
