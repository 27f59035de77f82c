"""The buildx builder on a real BuildKit: Dockerfiles, recipes under QEMU, and solves that end early."""

import dataclasses
import json
import re
import threading
import time
from pathlib import Path, PurePosixPath

import pytest

from builders import binaries, dockerfile, targets
from builders.engine import buildx, buildx_toolchains, image_builds
from builders.engine.buildx_builder import BuildxBuilder
from builders.errors import (
    BuildError,
    CommandFailed,
    EngineUnavailable,
    Interrupted,
    OutputUnsafe,
    ToolchainUnavailable,
)
from builders.model import (
    BuiltFile,
    CommandRecipe,
    DockerfileRecipe,
    Libc,
    Mount,
    OutputPattern,
    Placement,
    Smoke,
    SmokeHow,
)
from builders.targets import TARGETS, Target
from tests.integration.conftest import HELLO_C, Recorded, cell_for, engine_target, require_engine, script, write_source

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("base_images")]

DOCKERFILE = DockerfileRecipe(dockerfile=PurePosixPath("build/Dockerfile"))


@pytest.fixture(scope="module")
def base_images() -> None:
    require_engine()
    image_builds.prepare([("base", TARGETS[name].oci) for name in ("x86_64", "aarch64", "armv7")], print)


@pytest.fixture
def out_dir(tmp_path: Path) -> Path:
    (tmp_path / "collected").mkdir()
    return tmp_path / "collected"


def build_dockerfile(
    text: str, out_dir: Path, *, target: Target | None = None, events: Recorded | None = None,
    builder: BuildxBuilder | None = None, recipe: DockerfileRecipe = DOCKERFILE, **changes: object,
) -> tuple[BuiltFile, ...]:  # fmt: skip
    tree = write_source(out_dir.parent / "source", {"build/Dockerfile": text, "a.txt": "from the source\n"})
    builder = builder or BuildxBuilder()
    recipe = dataclasses.replace(recipe, images=dockerfile.base_images(text))
    cell = cell_for(builder, recipe, target or engine_target(), Placement.NATIVE, source=tree, **changes)
    builder.check([cell])
    return builder.build(cell, out_dir, events or Recorded())


SAY_MACHINE = """\
FROM relbuild/base AS work
ARG RELBUILD_TARGET RELBUILD_VERSION SOURCE_DATE_EPOCH OWN
COPY a.txt /out/
RUN echo "$(dpkg --print-architecture) $RELBUILD_TARGET $RELBUILD_VERSION $SOURCE_DATE_EPOCH $OWN" >/out/said
FROM scratch AS files
COPY --from=work /out /out
"""


@pytest.mark.emulation
@pytest.mark.parametrize("target", ["x86_64", "aarch64", "armv7"])
def test_a_dockerfile_is_built_for_the_targets_own_platform(out_dir: Path, target: str) -> None:
    built = build_dockerfile(SAY_MACHINE, out_dir, target=TARGETS[target], env={"OWN": "$x, y"}, epoch=1234567890)
    assert [str(file.path) for file in built] == ["a.txt", "said"]
    assert (out_dir / "said").read_text() == f"{TARGETS[target].deb} {target} 1.0.0 1234567890 $x, y\n"
    assert (out_dir / "a.txt").read_text() == "from the source\n"


def test_a_stage_without_a_folder_out_gives_its_root(out_dir: Path) -> None:
    text = "FROM scratch AS first\nCOPY a.txt /b/tool\nFROM relbuild/base\nRUN exit 1\n"
    recipe = DockerfileRecipe(dockerfile=DOCKERFILE.dockerfile, stage="first")
    built = build_dockerfile(text, out_dir, recipe=recipe, outputs=(OutputPattern(glob="**"),))
    assert [str(file.path) for file in built] == ["b/tool"]


def test_the_records_of_a_solve_are_kept(out_dir: Path) -> None:
    records = out_dir.parent / "records"
    text = "FROM scratch\nCOPY a.txt /out/a\n"
    build_dockerfile(text, out_dir, builder=BuildxBuilder(records=records))
    names = sorted(path.name for path in records.iterdir())
    os_arch = engine_target().os_arch
    assert names == [f"hello_{os_arch}.metadata.json", f"hello_{os_arch}.provenance.json"]
    said = json.loads((records / names[1]).read_text())
    assert "slsa" in said["predicateType"]


def test_layers_are_kept_per_target_and_used_again(out_dir: Path) -> None:
    cache = out_dir.parent / "layers"
    text = f"FROM relbuild/base\nRUN mkdir /out && echo {time.time_ns()} >/out/a\n"
    build_dockerfile(text, out_dir, builder=BuildxBuilder(cache=cache))
    assert (cache / engine_target().name / "index.json").is_file()
    events, again = Recorded(), out_dir.parent / "again"
    again.mkdir()
    build_dockerfile(text, again, builder=BuildxBuilder(cache=cache), events=events)
    assert b"CACHED" in events.log
    assert (again / "a").read_bytes() == (out_dir / "a").read_bytes()


@pytest.mark.fault(80)
def test_no_network_unless_asked(out_dir: Path) -> None:
    text = f"FROM relbuild/base\nRUN mkdir /out && ls /sys/class/net >/out/a # {time.time_ns()}\n"
    build_dockerfile(text, out_dir)
    assert (out_dir / "a").read_text().split() == ["lo"]
    (out_dir / "a").unlink()
    build_dockerfile(text, out_dir, network=True)
    assert set((out_dir / "a").read_text().split()) > {"lo"}


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("FROM relbuild/base\nRUN echo why >&2; exit 42\n", CommandFailed, "42"),
        ("FROM relbuild.invalid/none:1\nCOPY a.txt /out/\n", ToolchainUnavailable, "relbuild.invalid/none"),
        ("FROM relbuild/base\nNONSENSE\n", CommandFailed, "NONSENSE"),
        ("FROM relbuild/base\nCOPY missing.txt /out/\n", CommandFailed, "missing.txt"),
        ("FROM relbuild/base\nRUN mkdir /out && cp /bin/true /out/a && chmod u+s /out/a\n", OutputUnsafe, "a"),
        ("FROM relbuild/base\nRUN mkdir /out && ln -s /etc/passwd /out/a\n", OutputUnsafe, "a"),
    ],
    ids=["exit", "image", "syntax", "copy", "setuid", "symlink"],
)
def test_what_goes_wrong_is_named(out_dir: Path, text: str, kind: type[BuildError], said: str) -> None:
    with pytest.raises(kind, match=said) as failure:
        build_dockerfile(text, out_dir)
    assert f"hello/{engine_target().name}" in failure.value.what
    assert failure.value.next_step


def test_a_dockerfile_that_is_not_in_the_source_is_refused_before_building(out_dir: Path) -> None:
    recipe = DockerfileRecipe(dockerfile=PurePosixPath("Dockerfile.other"))
    with pytest.raises(BuildError, match=r"Dockerfile\.other"):
        build_dockerfile("FROM scratch\n", out_dir, recipe=recipe)


def test_outside_images_without_a_digest_are_told(out_dir: Path) -> None:
    text = (
        "FROM relbuild/base AS one\nFROM --platform=$BUILDPLATFORM debian:12 as Two\nFROM two\nfrom scratch\n"
        f"FROM alpine@sha256:{'0' * 64}\nFROM one\nFROM debian:12\n"
    )
    assert buildx_toolchains.unpinned_images(dockerfile.base_images(text)) == ("debian:12",)


def test_stopping_ends_the_solve_in_the_engine_too(out_dir: Path) -> None:
    marker = f"sleep {100_000 + time.time_ns() % 100_000}"
    events = Recorded(stop_at=b"started-now")
    started = time.monotonic()
    with pytest.raises(Interrupted):
        build_dockerfile(f"FROM relbuild/base\nRUN echo started-$(echo now); {marker}\n", out_dir, events=events)
    assert time.monotonic() - started < 60
    assert _gone_within(10, marker)


def _gone_within(seconds: float, words: str) -> bool:
    deadline = time.monotonic() + seconds
    wanted = words.replace(" ", "\0").encode()
    while time.monotonic() < deadline:
        if not any(wanted in _read(path) for path in Path("/proc").glob("[0-9]*/cmdline")):
            return True
        time.sleep(0.2)
    return False


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


# --- recipes in a container of the target's platform -------------------------------------------------------------


@pytest.mark.emulation
def test_a_recipe_compiles_under_qemu(out_dir: Path) -> None:
    foreign = next(TARGETS[name] for name in ("aarch64", "x86_64") if TARGETS[name] != engine_target())
    image_builds.prepare([("gcc", foreign.oci)], print)
    builder = BuildxBuilder()
    tree = write_source(out_dir.parent / "source", {"hello.c": HELLO_C})
    cell = cell_for(
        builder, script('"$CC" $CFLAGS hello.c -o "$OUT/hello"; uname -m >"$OUT/machine"'), foreign,
        Placement.EMULATE, source=tree, smoke=(Smoke(run=("hello",), stdout="hello\n"),),
    )  # fmt: skip
    builder.check([cell])
    builder.build(cell, out_dir, Recorded())
    facts = binaries.inspect(out_dir / "hello")
    assert facts is not None
    assert facts.machine == foreign.machine
    assert targets.find((out_dir / "machine").read_text().strip()) == foreign
    assert builder.smoke(cell, out_dir, Recorded()).how is SmokeHow.EMULATED


PROBE = """\
fails() { if "$@" 2>/dev/null; then echo "ALLOWED: $*"; fi; }
fails touch /src/new
for folder in / /etc /usr /var /run /home /root /opt /run/job; do fails touch "$folder/new"; done
fails test -S /var/run/docker.sock
fails su -c true
for interface in /sys/class/net/*; do
    if [ "${interface##*/}" != lo ]; then echo "ALLOWED: network ${interface##*/}"; fi
done
grep -E '^(CapEff|CapPrm|CapAmb|NoNewPrivs):' /proc/self/status
echo "id: $(id -u) $(id -g)"
cat /deps/more.txt
: >"$OUT/done"; : >"$TMPDIR/fine"; cp /bin/true /tmp/runs; /tmp/runs
"""


@pytest.mark.fault(80)
@pytest.mark.usefixtures("gcc_image")
def test_an_emulated_recipe_can_do_no_more_than_it_needs(out_dir: Path) -> None:
    events, builder = Recorded(), BuildxBuilder()
    tree = write_source(out_dir.parent / "source", {"hello.c": HELLO_C})
    more = write_source(out_dir.parent / "more", {"more.txt": "mounted\n"})
    mount = Mount(at=PurePosixPath("/deps"), tree=more)
    cell = cell_for(builder, script(PROBE), engine_target(), Placement.EMULATE, source=tree, mounts=(mount,))
    builder.check([cell])
    builder.build(cell, out_dir, events)
    log = events.log.decode()
    assert "ALLOWED" not in log.replace('echo "ALLOWED', ""), log
    assert "id: 1000 1000" in log
    assert "mounted" in log
    masks = re.findall(r"Cap(?:Eff|Prm|Amb):\s*(\w+)", log)
    assert [int(mask, 16) for mask in masks] == [0, 0, 0]
    assert re.search(r"NoNewPrivs:\s*1", log)


@pytest.mark.usefixtures("gcc_image")
def test_a_recipe_that_is_built_again_runs_again(out_dir: Path) -> None:
    builder = BuildxBuilder()
    tree = write_source(out_dir.parent / "source", {"hello.c": HELLO_C})
    cell = cell_for(builder, script('date +%s%N >"$OUT/now"'), engine_target(), Placement.EMULATE, source=tree)
    said = []
    for _ in range(2):
        builder.build(cell, out_dir, Recorded())
        said.append((out_dir / "now").read_text())
        (out_dir / "now").unlink()
    assert said[0] != said[1]


@pytest.mark.usefixtures("gcc_image")
def test_a_mount_path_cannot_become_dockerfile_text(out_dir: Path) -> None:
    builder = BuildxBuilder()
    tree = write_source(out_dir.parent / "source", {"hello.c": HELLO_C})
    mount = Mount(at=PurePosixPath("/deps,rw\nRUN id"), tree=tree)
    cell = cell_for(builder, script("true"), engine_target(), Placement.EMULATE, source=tree, mounts=(mount,))
    with pytest.raises(BuildError, match="characters"):
        builder.check([cell])


def test_only_what_buildkit_can_do_is_taken() -> None:
    builder = BuildxBuilder()
    with pytest.raises(ToolchainUnavailable, match="macos"):
        builder.toolchain(DOCKERFILE, TARGETS["aarch64-macos"], Libc(), Placement.EMULATE)
    with pytest.raises(ToolchainUnavailable, match="emulated"):
        builder.toolchain(CommandRecipe(toolchain="gcc", script="true"), engine_target(), Libc(), Placement.CROSS)


def test_a_daemon_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    solve = buildx.Solve(
        context=tmp_path, dockerfile=tmp_path / "Dockerfile", platforms=("linux/amd64",),
        output={"type": "local", "dest": str(tmp_path / "out")},
    )  # fmt: skip
    with pytest.raises(EngineUnavailable):
        buildx.run(solve, on_output=lambda _chunk: None, cancelled=threading.Event(), timeout_s=60, what="nothing")


def test_an_own_image_that_is_missing_is_named_before_the_build() -> None:
    recipe = DockerfileRecipe(dockerfile=PurePosixPath("Dockerfile"), images=("relbuild/rust",))
    with pytest.raises(ToolchainUnavailable, match="relbuild/rust for linux/arm64") as failure:
        BuildxBuilder().toolchain(recipe, TARGETS["aarch64"], Libc(), Placement.EMULATE)
    assert "relbuild images build rust" in failure.value.next_step


def test_only_the_images_that_a_dockerfile_names_decide_its_toolchain() -> None:
    target = engine_target()
    none, base = (
        BuildxBuilder().toolchain(
            DockerfileRecipe(dockerfile=PurePosixPath("Dockerfile"), images=images), target, Libc(), Placement.NATIVE
        )
        for images in ((), ("relbuild/base",))
    )
    assert none.identity != base.identity
    assert "relbuild/base@sha256:" in base.description
