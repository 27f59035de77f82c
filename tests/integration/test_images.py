"""`relbuild images` and the making of toolchain images, on a real engine."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from builders.engine import container, image_builds, image_lookup, pin_file, toolchains
from builders.engine.container import Engine
from builders.errors import BuildError, ToolchainUnavailable
from orchestrator.cli import images

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("gcc_image")]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(images.app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_list_tells_what_is_here_and_what_is_to_build(engine: Engine) -> None:
    rows = {(row["name"], row["platform"]): row for row in json.loads(run("list", "--json"))}
    host = engine.facts().os_arch
    assert {name for name, platform in rows if platform == host} == set(toolchains.IMAGES)
    reference, image = image_lookup.find(engine, "gcc", host)
    assert rows["gcc", host]["reference"] == reference
    assert rows["gcc", host]["identity"] == image.identity
    assert reference in run("list")


def test_build_leaves_alone_what_is_there(engine: Engine) -> None:
    host = engine.facts().os_arch
    before = image_lookup.find(engine, "gcc", host)
    assert before[1].identity in run("build", "gcc")
    assert image_lookup.find(engine, "gcc", host) == before
    base = engine.image(image_builds.USERS_BASE)
    assert base is not None


def test_missing_images_are_named_and_others_let_be(engine: Engine) -> None:
    host = engine.facts().os_arch
    wanted = {("gcc", host), ("image:debian@sha256:0", host)}
    assert image_builds.missing(wanted) == ()
    steps: list[str] = []
    image_builds.prepare(wanted, steps.append)
    assert steps == []


def test_an_image_of_changed_files_is_another_one(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = engine.facts().os_arch
    copy = _copy_of_containers(tmp_path)
    monkeypatch.setattr(toolchains, "folder", lambda: copy)
    assert image_lookup.look(engine, "gcc", host)[1] is not None
    dockerfile = copy / "gcc" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + "# changed\n")
    assert image_lookup.look(engine, "gcc", host)[1] is None
    with pytest.raises(ToolchainUnavailable) as failure:
        image_lookup.find(engine, "gcc", host)
    assert "relbuild images build gcc" in failure.value.next_step


def test_prune_removes_stale_names_only(engine: Engine) -> None:
    host = engine.facts().os_arch
    reference, image = image_lookup.find(engine, "base", host)
    suffix = reference.rpartition("-")[2]
    stale, foreign = f"relbuild/base:{'0' * 12}-{suffix}", "relbuild/base:of-somebody"
    for name in (stale, foreign):
        engine.tag(image.identity, name)
    try:
        assert f"removed {stale}" in run("prune")
        assert engine.image(stale) is None
        assert engine.image(foreign) is not None
        assert image_lookup.find(engine, "base", host)[0] == reference
    finally:
        engine.remove_image(foreign)


def test_a_fresh_image_is_built_from_the_base_by_its_dockerfile(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = engine.facts().os_arch
    copy = _copy_of_containers(tmp_path)
    (copy / "gcc" / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nRUN echo made >/made\n")
    monkeypatch.setattr(toolchains, "folder", lambda: copy)
    steps: list[str] = []
    works = image_builds.ImageWorks(on_step=steps.append, cache=tmp_path / "cache")
    made = works.ensure("gcc", host)
    reference, found = image_lookup.find(engine, "gcc", host)
    try:
        assert found == made
        assert len(steps) == 1
        assert reference in steps[0]
        assert works.ensure("gcc", host) == made
        assert len(steps) == 1
    finally:
        engine.remove_image(reference)


def test_a_failing_image_names_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = _copy_of_containers(tmp_path)
    (copy / "gcc" / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nRUN echo reason >&2; exit 9\n")
    monkeypatch.setattr(toolchains, "folder", lambda: copy)
    works = image_builds.ImageWorks(on_step=lambda _text: None, cache=tmp_path / "cache")
    with pytest.raises(BuildError, match=re.escape(str(tmp_path / "cache"))):
        works.ensure("gcc", container.engine_facts().os_arch)
    assert "reason" in (tmp_path / "cache" / "image-builds.log").read_text()


def test_pull_without_pins_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = _copy_of_containers(tmp_path)
    monkeypatch.setattr(toolchains, "folder", lambda: copy)
    (copy / "pins.toml").unlink(missing_ok=True)
    with pytest.raises(ToolchainUnavailable, match="no outside image is pinned"):
        image_builds.pull(lambda _text: None)


def test_pull_without_a_registry_names_the_image(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = _copy_of_containers(tmp_path)
    monkeypatch.setattr(toolchains, "folder", lambda: copy)
    pin = pin_file.OutsidePin(
        ref="relbuild.invalid/debian:12",
        index="sha256:" + "1" * 64,
        platforms={engine.facts().os_arch: "sha256:" + "2" * 64},
    )
    pin_file.write(copy / "pins.toml", pin_file.Pins(images={"base": pin}))
    with pytest.raises(ToolchainUnavailable, match=r"relbuild\.invalid/debian@sha256:2222"):
        image_builds.pull(lambda _text: None)


def _copy_of_containers(tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(toolchains.folder(), tmp_path / "containers"))
