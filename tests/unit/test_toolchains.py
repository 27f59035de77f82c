"""Names, tables and pins of toolchain images: no engine is asked."""

import shutil
from pathlib import Path, PurePosixPath

import pytest

from builders.engine import pin_file, toolchains
from builders.engine.pin_file import Bootstrap, OutsidePin, Pins
from builders.engine.spec import ContainerSpec, ImageFacts, check_mounts, exact_env
from builders.errors import BuildError, ToolchainUnavailable
from builders.model import Digest, Libc, LibcKind, Mount
from builders.targets import TARGETS
from tests.fakes import digest, make_cell, tree

PARENT = digest("parent")


@pytest.fixture
def containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = Path(shutil.copytree(toolchains.folder(), tmp_path / "containers"))
    monkeypatch.setattr(toolchains, "folder", lambda: copy)
    return copy


def tags(platform: str = "linux/amd64", parent: Digest = PARENT) -> dict[str, str]:
    return {name: toolchains.image_tag(name, parent, platform) for name in toolchains.IMAGES}


@pytest.mark.parametrize("name", toolchains.IMAGES)
def test_every_file_that_makes_an_image_changes_its_name(containers: Path, name: str) -> None:
    before = toolchains.image_tag(name, PARENT, "linux/amd64")
    for file in toolchains.IMAGES[name].files:
        (containers / file).write_text((containers / file).read_text() + "\n# changed\n")
        after = toolchains.image_tag(name, PARENT, "linux/amd64")
        assert after != before, f"{file} does not count"
        before = after


def test_the_files_of_the_table_are_all_that_a_dockerfile_takes(containers: Path) -> None:
    for name, image in toolchains.IMAGES.items():
        text = (containers / name / "Dockerfile").read_text()
        assert ("from=wheels" in text) is image.wheels
        if "source=scripts" in text:
            assert {f"scripts/{path.name}" for path in (containers / "scripts").iterdir()} <= set(image.files)


def test_a_name_follows_parent_and_platform() -> None:
    assert tags() == tags()
    assert not set(tags().values()) & set(tags(parent=digest("another")).values())
    assert not set(tags().values()) & set(tags(platform="linux/arm64").values())
    assert toolchains.image_tag("gcc", PARENT, "linux/arm/v7").endswith("-arm-v7")


def test_chains_start_at_the_root_file_system() -> None:
    assert [image.name for image in toolchains.chain("go")] == ["base", "gcc", "go"]
    with pytest.raises(ToolchainUnavailable, match="is 'gcc' meant"):
        toolchains.chain("gc")


@pytest.mark.parametrize("platform", ["windows/amd64", "linux/riscv64", "", "x"])
def test_no_image_is_made_for_other_platforms(platform: str) -> None:
    with pytest.raises(ToolchainUnavailable):
        toolchains.platform_target(platform)


@pytest.mark.parametrize(
    ("name", "target", "kind", "works"),
    [
        ("gcc", "armv7", LibcKind.GNU, True),
        ("gcc", "armv7", LibcKind.MUSL, False),
        ("gcc", "x86_64-windows", LibcKind.GNU, False),
        ("rust", "aarch64-macos", LibcKind.GNU, False),
        ("zig", "aarch64-macos", LibcKind.GNU, True),
        ("zig", "armv7", LibcKind.MUSL, True),
        ("go", "x86_64-windows", LibcKind.GNU, True),
        ("base", "x86_64", LibcKind.GNU, False),
        ("image:debian@sha256:0", "x86_64", LibcKind.MUSL, True),
    ],
)
def test_what_each_toolchain_compiles_for(name: str, target: str, kind: LibcKind, works: bool) -> None:
    libc = Libc(kind=kind)
    if works:
        toolchains.check_supported(name, TARGETS[target], libc)
        return
    with pytest.raises(ToolchainUnavailable) as failure:
        toolchains.check_supported(name, TARGETS[target], libc)
    assert "toolchain = " in failure.value.next_step


def test_zig_comes_with_wrappers_at_the_place_that_its_variables_name() -> None:
    target = TARGETS["aarch64"]
    wrappers = toolchains.wrappers("zig", target, Libc(floor="2.28"))
    assert "aarch64-linux-gnu.2.28" in wrappers["cc"]
    assert toolchains.compilers("zig", target)["CC"] == f"{toolchains.TOOLS}/cc"
    assert toolchains.wrappers("gcc", target, Libc()) == {}
    assert toolchains.compilers("go", TARGETS["x86_64-windows"]) == {}


# --- pins --------------------------------------------------------------------------------------------------------

ONE, TWO = (f"sha256:{number * 64}" for number in "12")


def test_the_pins_of_this_project_are_sound() -> None:
    pins = pin_file.read(toolchains.folder() / "pins.toml")
    assert pins.bootstrap
    assert set(pins.bootstrap.rootfs) == {TARGETS[name].oci for name in ("x86_64", "aarch64", "armv7")}


def test_pins_are_written_as_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pins.toml"
    path.write_text("# why\n# and how\n\nschema = 1\n")
    pins = Pins(
        bootstrap=Bootstrap(distribution="debian", suite="bookworm", epoch=5, rootfs={"linux/amd64": ONE}),
        images={"base": OutsidePin(ref="registry:5000/debian:12", index=ONE, platforms={"linux/amd64": TWO})},
    )
    pin_file.write(path, pins)
    assert pin_file.read(path) == pins
    assert path.read_text().startswith("# why\n# and how\n")
    assert pin_file.read(path).images["base"].by_digest("linux/amd64") == f"registry:5000/debian@{TWO}"
    pin_file.write(path, pin_file.read(path))
    assert pin_file.read(path) == pins


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema = 2\n", "schema"),
        ("schema = 1\n[", "not a file of pins"),
        ('schema = 1\n[bootstrap]\nsuite = "x"\n', "not a file of pins"),
        ('schema = 1\n[images.a]\nref = "r"\nindex = "sha256:12"\nplatforms = {}\n', "no digest"),
        (f'schema = 1\n[images.a]\nref = "r"\nindex = "{ONE}"\nplatforms = {{ "linux/amd64" = "{ONE}" }}\n', "equal"),
        (
            f'schema = 1\n[images.a]\nref = "r"\nindex = "{ONE}"\n'
            f'platforms = {{ "linux/amd64" = "{TWO}", "linux/arm64" = "{TWO}" }}\n',
            "equal",
        ),
    ],
    ids=["schema", "toml", "keys", "digest", "index", "platforms"],
)
def test_pins_that_pin_nothing_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "pins.toml").write_text(text)
    with pytest.raises(BuildError, match=said):
        pin_file.read(tmp_path / "pins.toml")


def test_another_root_file_system_is_told_with_both_digests() -> None:
    pinned = Bootstrap(distribution="debian", suite="bookworm", epoch=5, rootfs={"linux/amd64": ONE})
    pins = Pins(bootstrap=pinned)
    difference = pin_file.other_root(pins, "bookworm", "linux/amd64", TWO)
    assert ONE in difference
    assert TWO in difference
    assert pin_file.other_root(pins, "bookworm", "linux/amd64", ONE) == ""
    assert pin_file.other_root(pins, "trixie", "linux/amd64", TWO) == ""


def test_nothing_is_pinned_where_no_file_is(tmp_path: Path) -> None:
    assert pin_file.read(tmp_path / "pins.toml") == Pins()


def test_requirements_of_wheels_carry_hashes() -> None:
    for name, image in toolchains.IMAGES.items():
        if image.wheels:
            assert "--hash=sha256:" in (toolchains.folder() / name / "requirements.txt").read_text()


# --- the sandbox -------------------------------------------------------------------------------------------------


def test_variables_of_the_image_are_taken_away() -> None:
    image = ImageFacts(
        identity=PARENT, platform="linux/amd64", env=("PATH=/x", "GOLANG_VERSION=1", "A=b=c"), names=(), created=0
    )
    spec = ContainerSpec(image=image, volumes=(), labels={}, env={"PATH": "/bin", "OUT": "/out"})
    assert exact_env(spec) == ["PATH=/bin", "OUT=/out", "A", "GOLANG_VERSION", "HOSTNAME"]


@pytest.mark.parametrize(
    "at", ["/src", "/src/below", "/", "/out/x", "/tmp", "/proc/1", "/tools", "relative", "/a/../b", "/a:b"]
)
def test_a_mount_takes_no_place_of_the_sandbox(at: str) -> None:
    with pytest.raises(BuildError, match="mount"):
        check_mounts(make_cell(mounts=(Mount(at=PurePosixPath(at), tree=tree()),)))


def test_a_mount_of_its_own_place_is_fine() -> None:
    check_mounts(make_cell(mounts=(Mount(at=PurePosixPath("/deps/a"), tree=tree()),)))
