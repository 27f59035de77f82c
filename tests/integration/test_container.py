"""The container builder on a real engine: what goes in, what comes out, what a recipe may not do, what stays behind."""

import contextlib
import gc
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from builders import binaries
from builders.engine import buildx, container, container_builder, image_lookup, owner, room, smoke_runs
from builders.engine.container import Engine
from builders.errors import (
    BuildError,
    CommandFailed,
    EmulationUnavailable,
    EngineUnavailable,
    TimedOut,
    ToolchainUnavailable,
)
from builders.model import (
    BuiltFile,
    CommandRecipe,
    DockerfileRecipe,
    Libc,
    LibcKind,
    Limits,
    OutputPattern,
    Placement,
    Smoke,
    SmokeHow,
)
from builders.targets import TARGETS
from tests.fakes import make_cell
from tests.integration.conftest import (
    HELLO_C,
    Recorded,
    cell_for,
    engine_target,
    script,
    things_of,
    write_source,
)

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("gcc_image")]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def builder(run_name: str) -> container_builder.ContainerBuilder:
    return container_builder.ContainerBuilder(run=run_name)


@pytest.fixture
def out_dir(tmp_path: Path) -> Path:
    (tmp_path / "collected").mkdir()
    return tmp_path / "collected"


def run_script(
    builder: container_builder.ContainerBuilder,
    text: str,
    tmp_path: Path,
    events: Recorded | None = None,
    **changes: object,
) -> tuple[BuiltFile, ...]:
    tree = write_source(tmp_path / "source", {"hello.c": HELLO_C})
    cell = cell_for(builder, script(text), engine_target(), Placement.NATIVE, source=tree, **changes)
    return builder.build(cell, tmp_path / "collected", events or Recorded())


@pytest.mark.emulation
@pytest.mark.parametrize("target", ["x86_64", "aarch64", "armv7"])
def test_c_program_for_each_target_builds_and_runs(
    builder: container_builder.ContainerBuilder, engine: Engine, run_name: str, out_dir: Path, target: str
) -> None:
    tree = write_source(out_dir.parent / "source", {"hello.c": HELLO_C})
    row = TARGETS[target]
    compile_it = script('"$CC" $CFLAGS -static hello.c -o "$OUT/hello"')
    native = row == engine_target()
    cell = cell_for(
        builder, compile_it, row, Placement.NATIVE if native else Placement.CROSS, source=tree,
        smoke=(Smoke(run=("hello",), stdout="hello\n"),),
    )  # fmt: skip
    builder.check([cell])
    built = builder.build(cell, out_dir, Recorded())
    assert [str(file.path) for file in built] == ["hello"]
    facts = binaries.inspect(out_dir / "hello")
    assert facts is not None
    assert facts.machine == row.machine
    result = builder.smoke(cell, out_dir, Recorded())
    assert result.how is (SmokeHow.NATIVE if native else SmokeHow.EMULATED), result.note
    assert things_of(run_name, engine) == []


PROBE = """\
fails() { if "$@" 2>/dev/null; then echo "ALLOWED: $*"; fi; }
fails touch /src/new
fails sh -c 'echo x >>/src/hello.c'
for folder in / /etc /usr /usr/local /var /var/tmp /run /home /root /opt /lib /proc /sys /tools; do
    fails touch "$folder/new"
done
fails test -S /var/run/docker.sock
fails test -e /run/docker.sock
fails unshare -n true
fails mount -t tmpfs none /tmp
fails mknod /tmp/device c 1 3
fails chown 0 /out
fails su -c true
fails sh -c 'kill -0 1 && test "$(id -u)" = 0'
fails bash -c 'exec 3<>/dev/tcp/1.1.1.1/53'
for interface in /sys/class/net/*; do
    if [ "${interface##*/}" != lo ]; then echo "ALLOWED: network ${interface##*/}"; fi
done
grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/self/status
echo "id: $(id -u) $(id -g) $(hostname)"
echo "pids: $(cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null)"
: >"$OUT/done"; : >/tmp/fine; cp /bin/true /tmp/runs; /tmp/runs; touch /dev/shm/fine
"""


@pytest.mark.fault(80)
def test_a_recipe_can_do_what_it_needs_and_nothing_else(
    builder: container_builder.ContainerBuilder, out_dir: Path, tmp_path: Path
) -> None:
    events = Recorded()
    run_script(builder, PROBE, tmp_path, events, limits=Limits(pids=77))
    log = events.log.decode()
    assert "ALLOWED" not in log, log
    capabilities = re.findall(r"^Cap(?:Inh|Prm|Eff|Bnd|Amb):\s*(\w+)$", log, re.MULTILINE)
    assert len(capabilities) == 5
    assert {int(mask, 16) for mask in capabilities} == {0}
    assert re.search(r"^NoNewPrivs:\s*1$", log, re.MULTILINE)
    assert re.search(r"^Seccomp:\s*2$", log, re.MULTILINE)
    assert "id: 1000 1000 relbuild" in log
    assert "pids: 77" in log


def test_a_network_is_there_only_when_asked_for(
    builder: container_builder.ContainerBuilder, out_dir: Path, tmp_path: Path
) -> None:
    events = Recorded()
    run_script(builder, 'ls /sys/class/net | tr "\\n" " "; : >"$OUT/a"', tmp_path, events, network=True)
    assert set(events.log.decode().split()) > {"lo"}


@pytest.mark.fault(67)
@pytest.mark.parametrize("left", ["chmod u+s", "chmod g+s"])
def test_set_id_programs_do_not_come_out(
    builder: container_builder.ContainerBuilder, out_dir: Path, tmp_path: Path, left: str
) -> None:
    with pytest.raises(BuildError, match="tool"):
        run_script(builder, f'cp /bin/true "$OUT/tool"; {left} "$OUT/tool"', tmp_path)
    assert list(out_dir.iterdir()) == []


def test_a_recipe_that_uses_too_much_memory_is_told_so(
    builder: container_builder.ContainerBuilder, out_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(CommandFailed, match="memory limit of 64 MiB"):
        run_script(builder, "head -c 200m /dev/zero | tail -c 150m >/dev/null; exit 1", tmp_path,
                   limits=Limits(memory_bytes=64 << 20))  # fmt: skip


@pytest.mark.parametrize("end", ["time", "stop", "error", "success"])
def test_nothing_stays_in_the_engine(
    builder: container_builder.ContainerBuilder, engine: Engine, run_name: str, out_dir: Path, end: str
) -> None:
    text = {"error": "exit 3", "success": ': >"$OUT/a"'}.get(end, "echo here; sleep 300 & sleep 300")
    events = Recorded(stop_at=b"here" if end == "stop" else b"")
    with contextlib.suppress(BuildError) if end != "stop" else pytest.raises(Exception, match="stopped"):
        run_script(builder, text, out_dir.parent, events, limits=Limits(timeout_s=3 if end == "time" else 60))
    assert things_of(run_name, engine) == []


def test_a_large_output_takes_no_memory(
    builder: container_builder.ContainerBuilder, out_dir: Path, tmp_path: Path
) -> None:
    run_script(builder, ': >"$OUT/warm"', tmp_path)
    (out_dir / "warm").unlink()
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmHWM")
    built = run_script(builder, 'yes 0123456789abcdef | head -c 100000000 >"$OUT/big"', tmp_path)
    assert built[0].size_bytes == 100_000_000
    assert _memory("VmHWM") - before < 32 << 20


def _memory(name: str) -> int:
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_a_loud_recipe_does_not_fill_memory_when_nobody_listens_fast(
    builder: container_builder.ContainerBuilder, out_dir: Path, tmp_path: Path
) -> None:
    class Slow(Recorded):
        def output(self, chunk: bytes) -> None:
            self.size = getattr(self, "size", 0) + len(chunk)
            if self.size < 1 << 20:
                time.sleep(0.01)

    events = Slow()
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmHWM")
    run_script(builder, 'yes 0123456789abcdef | head -c 60000000; : >"$OUT/a"', tmp_path, events)
    assert getattr(events, "size", 0) == 60_000_000
    assert _memory("VmHWM") - before < 32 << 20


# --- what killed runs left ---------------------------------------------------------------------------------------

MAKE_AND_WAIT = """\
import sys, threading, time
from pathlib import Path
from builders.engine import container, image_lookup, owner
from builders.engine.pump import watch
from builders.engine.room import Room
from builders.engine.spec import ContainerSpec
from tests.fakes import make_cell
cell = make_cell()
with container.connect() as engine:
    _, image = image_lookup.find(engine, "gcc", engine.facts().os_arch)
    labels = owner.labels(cell, sys.argv[1])
    room = Room(engine=engine, image=image, labels=labels, watch=watch(cell, threading.Event()))
    room.furnish({}, ["/out"])
    room.start(ContainerSpec(image=image, volumes=(), labels=labels))
    print("ready", flush=True)
    time.sleep(300)
"""


@contextlib.contextmanager
def other_run(name: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE_AND_WAIT, name], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert process.stdout
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.fault(1)
def test_leftovers_of_a_killed_run_are_removed_and_a_live_run_is_let_be(engine: Engine, run_name: str) -> None:
    with other_run(run_name) as process:
        assert len(things_of(run_name, engine)) == 3  # a loader, a container, a volume
        room.remove_leftovers()
        assert len(things_of(run_name, engine)) == 3
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        # Another test's run may remove them at the same instant, and each may find what the other is at.
        while things_of(run_name, engine):
            assert time.monotonic() < deadline
            room.remove_leftovers()


def test_what_cannot_be_judged_from_here_is_let_be() -> None:
    mine = owner.labels(make_cell(), "run")
    boot, namespace, _, start = mine[owner.OWNER_LABEL].split(":")
    dead = f"{boot}:{namespace}:4194304:{start}"
    assert owner.is_left_over({**mine, owner.OWNER_LABEL: dead})
    assert not owner.is_left_over(mine)
    other_namespace = f"{boot}:1:4194304:{start}"
    assert not owner.is_left_over({**mine, owner.OWNER_LABEL: other_namespace})
    other_boot = f"another-boot:{namespace}:{os.getpid()}:{start}"
    assert owner.is_left_over({**mine, owner.OWNER_LABEL: other_boot})
    elsewhere = {owner.OWNER_LABEL: other_boot, owner.MACHINE_LABEL: "another:machine"}
    assert not owner.is_left_over(elsewhere)
    assert not owner.is_left_over({owner.OWNER_LABEL: "nonsense"})
    reused_number = f"{boot}:{namespace}:{os.getpid()}:1"
    assert owner.is_left_over({**mine, owner.OWNER_LABEL: reused_number})


# --- engines that do not answer ----------------------------------------------------------------------------------


def test_no_engine_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    started = time.monotonic()
    with pytest.raises(EngineUnavailable, match="no container engine answers"):
        container.engine_facts()
    assert time.monotonic() - started < 10


def test_an_engine_that_hangs_is_told_in_two_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
        started = time.monotonic()
        with pytest.raises(EngineUnavailable):
            container.engine_facts()
        # The machine may be busy with compilers.
        assert container._QUICK_S < 2
        assert time.monotonic() - started < 10


class Relay:
    """Carries bytes between a socket of its own and the engine's, until it is cut."""

    def __init__(self, path: Path) -> None:
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.open: list[socket.socket] = [self.server]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for each in self.open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.server.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect("/var/run/docker.sock")
                self.open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


# The SDK leaves the socket of a refused connection to the garbage collector.
@pytest.mark.fault(83)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not Path("/var/run/docker.sock").exists(), reason="the engine is not on this machine")
def test_an_engine_that_dies_during_a_build_is_named(
    builder: container_builder.ContainerBuilder, out_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(tmp_path / "r")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/r")

    class Cutting(Recorded):
        def output(self, chunk: bytes) -> None:
            relay.cut()

    with pytest.raises(EngineUnavailable):
        run_script(builder, "echo here; sleep 300", tmp_path, Cutting())
    gc.collect()


# --- what is asked for and cannot be ---------------------------------------------------------------------------


def test_what_the_builder_cannot_do_is_refused_with_a_way_out(builder: container_builder.ContainerBuilder) -> None:
    native, musl = engine_target(), Libc(kind=LibcKind.MUSL)
    gcc = CommandRecipe(toolchain="gcc", script="true")
    with pytest.raises(ToolchainUnavailable) as failure:
        builder.toolchain(gcc, native, musl, Placement.NATIVE)
    assert 'toolchain = "zig"' in failure.value.next_step
    with pytest.raises(ToolchainUnavailable) as failure:
        builder.toolchain(gcc, TARGETS["x86_64-macos"], Libc(), Placement.CROSS)
    assert 'toolchain = "zig"' in failure.value.next_step
    with pytest.raises(ToolchainUnavailable, match="own architecture"):
        builder.toolchain(gcc, native, Libc(), Placement.EMULATE)
    with pytest.raises(ToolchainUnavailable, match="not pinned"):
        builder.toolchain(CommandRecipe(toolchain="image:debian:12", script="true"), native, Libc(), Placement.NATIVE)
    with pytest.raises(ToolchainUnavailable, match="own architecture"):
        builder.toolchain(DockerfileRecipe(dockerfile=PurePosixPath("Dockerfile")), native, Libc(), Placement.NATIVE)


def test_an_outside_image_by_digest_is_used_as_it_is(
    builder: container_builder.ContainerBuilder, engine: Engine, out_dir: Path, tmp_path: Path
) -> None:
    reference, image = image_lookup.find(engine, "gcc", engine.facts().os_arch)
    named = f"image:{reference.rpartition(':')[0]}@{image.identity}"
    tree = write_source(tmp_path / "source", {"a": "a"})
    recipe = CommandRecipe(toolchain=named, script='gcc --version >"$OUT/version"')
    cell = cell_for(builder, recipe, engine_target(), Placement.NATIVE, source=tree)
    assert cell.toolchain.identity == image.identity
    assert builder.build(cell, out_dir, Recorded())[0].size_bytes > 0


def test_an_image_that_no_registry_gives_is_named(builder: container_builder.ContainerBuilder) -> None:
    recipe = CommandRecipe(toolchain=f"image:relbuild.invalid/none@sha256:{'0' * 64}", script="true")
    with pytest.raises(ToolchainUnavailable, match=r"relbuild\.invalid/none"):
        builder.toolchain(recipe, engine_target(), Libc(), Placement.NATIVE)


def test_a_limit_that_the_machine_cannot_give_is_refused_before_building(
    builder: container_builder.ContainerBuilder,
) -> None:
    cell = cell_for(builder, script("true"), engine_target(), Placement.NATIVE, limits=Limits(memory_bytes=1 << 50))
    with pytest.raises(BuildError, match="memory"):
        builder.check([cell])


def test_smoke_of_a_foreign_system_is_not_run(builder: container_builder.ContainerBuilder, out_dir: Path) -> None:
    cell = cell_for(builder, script("true"), engine_target(), Placement.NATIVE, smoke=(Smoke(run=("a",)),))
    result = builder.smoke(replace(cell, target=TARGETS["x86_64-windows"]), out_dir, Recorded())
    assert (result.how, result.tests) == (SmokeHow.NOT_RUN, 1)
    assert "windows" in result.note


def test_programs_that_the_machine_cannot_run_are_not_run(
    builder: container_builder.ContainerBuilder, engine: Engine, run_name: str, out_dir: Path
) -> None:
    """An ELF header of a machine without a handler stands in for a missing one."""
    source = out_dir.parent / "image"
    source.mkdir()
    no_such_machine = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xfe\xca" + bytes(44)
    (source / "sh").write_bytes(no_such_machine)
    (source / "sh").chmod(0o755)
    (source / "Dockerfile").write_text("FROM scratch\nCOPY sh /bin/sh\nWORKDIR /out\n")
    name = f"relbuild/test:{run_name}"
    solve = buildx.Solve(context=source, dockerfile=source / "Dockerfile", platforms=(engine_target().oci,),
                         output={"type": "image", "name": name})  # fmt: skip
    buildx.run(solve, on_output=lambda _: None, cancelled=threading.Event(), timeout_s=60, what="image")
    cell = cell_for(builder, script("true"), engine_target(), Placement.NATIVE, smoke=(Smoke(run=("a",)),))
    try:
        result = smoke_runs.run_tests(
            cell, out_dir, Recorded(), run=run_name, find_base=lambda engine, _: engine.image(name)
        )
        assert result.how is SmokeHow.NOT_RUN
        assert "ci/engine up" in result.note
        with pytest.raises(EmulationUnavailable, match=cell.id):
            smoke_runs.check_runs(cell, run=run_name, find_base=lambda engine, _: engine.image(name))
        missing = smoke_runs.run_tests(cell, out_dir, Recorded(), run=run_name, find_base=lambda *_: None)
        assert missing.how is SmokeHow.NOT_RUN
        assert "images build base" in missing.note
        assert things_of(run_name, engine) == []
    finally:
        engine.remove_image(name)


def test_time_runs_out_while_outputs_are_copied_too(
    builder: container_builder.ContainerBuilder, engine: Engine, run_name: str, out_dir: Path, tmp_path: Path
) -> None:
    # 6 GB of zeros cost the recipe nothing, and the copy more than what is left of its time.
    with pytest.raises(TimedOut):
        run_script(builder, 'truncate -s 6G "$OUT/big"; sleep 2', tmp_path, limits=Limits(timeout_s=5),
                   outputs=(OutputPattern(glob="big"),))  # fmt: skip
    assert things_of(run_name, engine) == []
