"""Bad recipes, hostile outputs and a hostile machine, through the real program: each its own error, code, next step."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from builders.local import sandbox

RELBUILD = [sys.executable, "-P", "-c", "from orchestrator.cli import main; main()"]
HEAD = '[project]\nname = "bad"\nversion = "1.0.0"\nlicense = "Apache-2.0"\n'
PRODUCT = '[products.bad]\nrecipe = "command"\ntargets = ["x86_64"]\noutputs = ["*"]\n'
GOOD_RUN = "run = 'echo hello > \"$OUT/data\"'\n"
NEEDS_BUBBLEWRAP = pytest.mark.skipif(
    sandbox.available() is not sandbox.Isolation.BUBBLEWRAP, reason="bubblewrap does not work on this machine"
)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Case:
    """`matrix` is the whole matrix.toml; `says` must all stand in what is printed."""

    name: str
    matrix: str
    code: int
    says: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def product(run: str, extra: str = "", head: str = PRODUCT) -> str:
    return f"{HEAD}{head}run = '''{run}'''\n{extra}"


def swap(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


C_PROGRAM = 'printf "int main(void){return 0;}" > "$TMPDIR/a.c"; $CC -O2 "$TMPDIR/a.c" -o "$OUT/data"'

CASES = [
    Case("command-fails", product("echo why >&2; exit 3"), 80, ("ended with 3", "| why", "log:")),
    Case("command-signalled", product("kill -SEGV $$"), 80, ("bad/x86_64",)),
    Case("command-not-found", product("no-such-program"), 80, ("not found",)),
    Case("argv-not-found", f'{HEAD}{PRODUCT}run = [["no-such-program"]]\n', 80, ("no-such-program",)),
    Case("unset-variable", product('echo "$NOT_SET_AT_ALL"'), 80, ("NOT_SET_AT_ALL",)),
    Case("hangs", product("sleep 98761", "timeout_s = 2\n"), 24, ("longer than 2 s", "raise timeout_s")),
    Case("hangs-deaf", product("trap '' TERM INT; sleep 98762 & wait; sleep 98762", "timeout_s = 2\n"), 24, ("2 s",)),
    Case("hangs-silent", product("exec >/dev/null 2>&1; sleep 98763", "timeout_s = 2\n"), 24, ("2 s",)),
    Case("no-output", product("true"), 25, ("no file matches", "$OUT is empty")),
    Case("other-output", product("touch $OUT/b", head=swap(PRODUCT, '"*"', '"a"')), 25, ("'a'", "b")),
    Case("two-for-one", product("touch $OUT/a $OUT/b", head=swap(PRODUCT, '"*"', '{ glob = "*", one = true }')), 81,
         ("a", "b")),
    Case("symlink", product("ln -s /etc/passwd $OUT/data"), 82, ("symbolic link", "data")),
    Case("symlink-folder", product("ln -s /etc $OUT/data"), 82, ("data",)),
    Case("fifo", product("mkfifo $OUT/pipe; touch $OUT/data"), 82, ("pipe",)),
    Case("set-uid", product("touch $OUT/data; chmod 4755 $OUT/data"), 82, ("data",)),
    Case("hard-link", product("echo x > $TMPDIR/x; ln $TMPDIR/x $OUT/data || { ln $OUT/missing $OUT/data; }"), 80,
         ("data",)),
    Case("newline-name", product("touch \"$OUT/$(printf 'a\\nb')\""), 82, (r"a\nb",)),
    Case("escape-name", product("touch \"$OUT/$(printf 'a\\033[31mb')\""), 82, (r"\x1b",)),
    Case("non-utf8-name", product("touch \"$OUT/$(printf 'a\\377b')\""), 82, (r"\xff",)),
    Case("dash-name", product('touch "$OUT/-rf"'), 82, ("-rf",)),
    Case("device-name", product('touch "$OUT/CON"'), 82, ("CON",)),
    Case("case-pair", product("touch $OUT/Data $OUT/data"), 83, ("Data", "data")),
    Case("sparse-giant", product("truncate -s 20G $OUT/data"), 82, ("bytes",)),
    Case("other-machine", product("cp /bin/true $OUT/data", head=swap(PRODUCT, "x86_64", "aarch64")), 26,
         ("data", "aarch64")),
    Case("rpath", product(C_PROGRAM + " -Wl,-rpath,/opt/evil"), 84, ("/opt/evil", "rpath")),
    Case("smoke-exit", product(C_PROGRAM, 'smoke = [{ run = ["data"], exit = 7 }]\n'), 85, ("ended with 0, not 7",)),
    Case("smoke-text", product(C_PROGRAM, 'smoke = [{ run = ["data"], stdout = "hi\\n" }]\n'), 85, (r"'hi\n'",)),
    Case("smoke-missing", product(C_PROGRAM, 'smoke = [{ run = ["other"] }]\n'), 85, ("'other'",)),
    Case("smoke-no-emulator", product("$CC -x c -O2 -o $OUT/data - <<E\nint main(void){return 0;}\nE",
         'smoke = [{ run = ["data"] }]\n[policy]\nsmoke_not_run = "error"\n', swap(PRODUCT, "x86_64", "aarch64")), 86,
         ("qemu-user-static",), env={"PATH": "@no-qemu@"}),
    Case("no-engine", product("true"), 21, ("no container engine answers",), ("--engine", "docker"),
         {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}),
    Case("dockerfile-without-engine", f'{HEAD}[products.image]\nrecipe = "dockerfile"\noutputs = ["*"]\n', 19,
         ("image/x86_64", "ci/engine up")),
    Case("image-without-engine", product("true", f'toolchain = "image:x@sha256:{"0" * 64}"\n'), 19, ("container",)),
    Case("unknown-target", product("true"), 14, ("did you mean 'aarch64'",), ("--targets", "aarch46")),
    Case("unknown-product", product("true"), 14, ("did you mean 'bad'",), ("--products", "bat")),
    Case("target-unused", product("true"), 14, ("x86_64-windows",), ("--targets", "x86_64-windows")),
    Case("bad-option", product("true"), 2, ("--engine",), ("--engine", "podman")),
    Case("negative-jobs", product("true"), 2, ("--jobs",), ("--jobs", "-1")),
    Case("source-missing", product("true", 'source = "nowhere"\n'), 13, ("nowhere",)),
    Case("archive-missing", product("true", f'source = {{ archive = "no.tar.gz", sha256 = "{"0" * 64}" }}\n'), 18,
         ("no.tar.gz",)),
    Case("archive-wrong-digest", product("true", f'source = {{ archive = "a.tar", sha256 = "{"0" * 64}" }}\n'), 16,
         ("a.tar", "0" * 64)),
    Case("git-missing", product("true", f'source = {{ git = "file:///nowhere/x.git", commit = "{"a" * 40}" }}\n'), 18,
         ("x.git",)),
    Case("version-file-missing", swap(product("true"), '"1.0.0"', '{ file = "V", pattern = "(.*)" }'), 17, ("V",)),
    Case("version-git-without-git", swap(product("true"), '"1.0.0"', '"git"'), 17, ("no commit",)),
    Case("bad-epoch", product("true"), 17, ("SOURCE_DATE_EPOCH",), env={"SOURCE_DATE_EPOCH": "yesterday"}),
    Case("config-missing", product("true"), 11, ("other.toml",), ("-c", "other.toml")),
    Case("config-is-a-folder", product("true"), 11, (".",), ("-c", ".")),
]  # fmt: skip


@pytest.fixture(scope="session")
def shared_dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One output folder for all cases of a worker, so that Zig prepares its run time once."""
    return tmp_path_factory.mktemp("shared") / "dist"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "file.txt").write_text("source\n")
    (folder / "a.tar").write_bytes(b"\0" * 10240)
    return folder


def relbuild(
    project: Path, dist: Path, *arguments: str, command: str = "matrix", env: Mapping[str, str] | None = None
) -> Done:
    clean = {"PATH": os.environ["PATH"], "HOME": str(project.parent / "home"), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [*RELBUILD, command, "--engine", "local", "--output", str(dist), *arguments],
        cwd=project, env={**clean, **(env or {})}, capture_output=True, text=True, errors="replace", timeout=240,
        check=False,
    )  # fmt: skip
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mode, path.lstat().st_size) for path in sorted(folder.rglob("*"))}


def running_with(marker: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if marker in line and "pytest" not in line:
            found.append(line)
    return found


def path_without_qemu(folder: Path) -> str:
    """Give a PATH that has everything of this machine's but QEMU."""
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            link = folder / program.name
            if not program.name.startswith("qemu-") and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


@pytest.mark.fault(65, 67, 68)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_fault_has_its_error(case: Case, project: Path, shared_dist: Path) -> None:
    (project / "matrix.toml").write_text(case.matrix)
    before = listing(project.parent)
    env = dict(case.env)
    if env.get("PATH") == "@no-qemu@":
        (shared_dist.parent / f"bin-{case.name}").mkdir(exist_ok=True)
        env["PATH"] = path_without_qemu(shared_dist.parent / f"bin-{case.name}")
    done = relbuild(project, shared_dist, *case.arguments, env=env)
    assert done.code == case.code, done.text
    for words in case.says:
        assert words in done.text
    assert "Traceback" not in done.text
    assert "\x1b" not in done.text
    if case.code not in {0, 2}:
        assert "next:" in done.err or "next step" in done.err.lower()
    assert listing(project.parent) == before, "something outside the output folder changed"
    assert not list((shared_dist / "work").glob("*")), "a cell's folder was left"
    _wait_for(lambda: not running_with("sleep 9876"), 20)


def test_a_hundred_megabytes_of_output_pass_and_are_bounded(project: Path, shared_dist: Path) -> None:
    run = 'head -c 100000000 /dev/zero | tr "\\\\0" "x" | fold -w 1000; echo done > $OUT/data'
    (project / "matrix.toml").write_text(product(run))
    done = relbuild(project, shared_dist)
    assert done.code == 0, done.text
    log = shared_dist / "logs" / "bad-x86_64.log"
    assert log.stat().st_size < 40_000_000
    assert "bytes more were printed" in log.read_text()[-200:]


@pytest.mark.fault(82)
def test_escape_codes_reach_neither_terminal_nor_log(project: Path, shared_dist: Path) -> None:
    run = r"printf '\033]0;owned\007\033[2J\r\n::set-output name=x::y\n\302\233m'; exit 1"
    (project / "matrix.toml").write_text(product(run))
    done = relbuild(project, shared_dist)
    assert done.code == 80
    for text in (done.text, (shared_dist / "logs" / "bad-x86_64.log").read_text()):
        assert not any(ord(character) < 32 and character != "\n" for character in text)
        assert "\x9b" not in text
        assert "\n::" not in text
    assert r"\x1b]0;owned\x07" in done.text


@pytest.mark.fault(74)
@pytest.mark.parametrize(
    "evil", ["$(touch {})", "`touch {}`", "; touch {};", "&& touch {}", "| touch {}", "\\$(touch {})"]
)
def test_no_string_of_the_config_reaches_a_shell(evil: str, project: Path, shared_dist: Path, tmp_path: Path) -> None:
    """Every string that may hold such text does; those that may not are refused. The canary never appears."""
    canary = tmp_path / "canary"
    text = evil.format(canary).replace("\\", "\\\\")
    fields = {
        "license": "[project]", "homepage": "[project]", "description": "[project]", "maintainer": "[project]",
        "name": "[project]", "version": "[project]", "source": "[products.bad]", "toolchain": "[products.bad]",
        "glibc": "[products.bad]", "placement": "[products.bad]",
    }  # fmt: skip
    for name, table in fields.items():
        base = "\n".join(line for line in product("true").splitlines() if not line.startswith(f"{name} ="))
        (project / "matrix.toml").write_text(swap(base, table, f'{table}\n{name} = "{text}"') + "\n")
        done = relbuild(project, shared_dist)
        assert done.code in {13, 17, 18, 25}, (name, done.text)
        assert not canary.exists(), name
    extra = f'env = {{ A = "{text}" }}\nsmoke = [{{ run = ["data", "{text}"] }}]\n'
    (project / "matrix.toml").write_text(product('printf "%s" "$A" > $OUT/value; ' + C_PROGRAM, extra))
    done = relbuild(project, shared_dist)
    assert done.code == 0, done.text
    (project / "matrix.toml").write_text(f'{HEAD}{PRODUCT}run = [["touch", "{text}"]]\n')
    relbuild(project, shared_dist)
    assert not canary.exists()


def test_what_is_no_longer_staged_is_named(project: Path, tmp_path: Path) -> None:
    two = PRODUCT.replace("bad", "aaa") + GOOD_RUN + PRODUCT + GOOD_RUN
    (project / "matrix.toml").write_text(HEAD + two)
    dist = tmp_path / "dist"
    assert relbuild(project, dist).code == 0
    done = relbuild(project, dist, "--products", "bad")
    assert "no longer staged, because this run did not build them: aaa_1.0.0_linux_x86_64.tar.gz" in done.err
    (project / "matrix.toml").write_text(HEAD + two.replace("echo hello", "exit 1; echo hello"))
    done = relbuild(project, dist)
    assert done.code == 80
    assert "is that of an earlier run, untouched" in done.err


@pytest.mark.fault(80)
@NEEDS_BUBBLEWRAP
def test_a_recipe_sees_nothing_of_the_machine(project: Path, shared_dist: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    probe = f"""
    ! cat {secret} && ! ls {Path.home()}/.[a-z]* && ! ls /var/run/docker.sock && ! ls /run/docker.sock
    ! touch /src/x && ! touch /usr/x && ! touch /x
    test "$(ls -A /proc/sys/net/ipv4/conf | grep -v -e all -e default -e lo | wc -l)" = 0
    test -z "${{SECRET_TOKEN:-}}"
    test "$(ps ax 2>/dev/null | wc -l)" -lt 10
    grep -q '^CapEff:.0000000000000000$' /proc/self/status
    env > $OUT/env
    """
    (project / "matrix.toml").write_text(product(probe))
    done = relbuild(project, shared_dist, env={"SECRET_TOKEN": "canary-93751"})
    assert done.code == 0, done.text
    assert not [path for path in (shared_dist / "cells").rglob("env") if "canary-93751" in path.read_text()]


@pytest.mark.fault(80, 81)
@NEEDS_BUBBLEWRAP
def test_a_recipe_spoils_neither_caches_nor_outputs_of_others(project: Path, tmp_path: Path) -> None:
    """The first cell appends to every file that it finds in caches and output folders; the second builds as ever."""
    dist = tmp_path / "dist"
    spoil = f"""
    for place in "$TMPDIR" "$HOME" "${{ZIG_GLOBAL_CACHE_DIR:-$TMPDIR}}" {dist} {dist}/cells {dist}/cache; do
        find "$place" -type f -exec sh -c 'for file; do echo poison >>"$file"; done' sh {{}} + || true
    done
    ! ls {dist}
    echo spoilt > $OUT/data
    """
    evil = product(spoil, head=swap(PRODUCT, "products.bad", "products.aaa"))
    good = product(C_PROGRAM)
    alone = tmp_path / "alone"
    (project / "matrix.toml").write_text(good)
    assert relbuild(project, alone).code == 0
    # The same warm compiler cache, so that there is something to spoil.
    shutil.copytree(alone / "cache", dist / "cache", symlinks=True)
    kept = {path: path.read_bytes() for path in (dist / "cache").rglob("*") if path.is_file()}
    (project / "matrix.toml").write_text(evil + good.removeprefix(HEAD))
    done = relbuild(project, dist, "--jobs", "1")
    assert done.code == 0, done.text
    name = "staging/1.0.0/bad_1.0.0_linux_x86_64.tar.gz"
    assert (dist / name).read_bytes() == (alone / name).read_bytes()
    assert {path: path.read_bytes() for path in kept} == kept


@pytest.mark.fault(88)
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("option", ["noexec", "size=4k", "ro"])
def test_a_bad_folder_for_temporary_files_is_no_matter_or_told(
    option: str, project: Path, shared_dist: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "tmp"
    bad.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(bad)], check=False).returncode:
        pytest.skip("this machine does not let the tests mount a tmpfs")
    try:
        if option.startswith("size"):
            (bad / "full").write_bytes(bytes(4096))
        smoked = 'smoke = [{ run = ["data"] }]\n'
        (project / "matrix.toml").write_text(product(f"cp /bin/true $OUT/data; : {option}", smoked))
        done = relbuild(project, shared_dist, env={"TMPDIR": str(bad)})
        assert "Traceback" not in done.text
        assert done.code == 0 or str(bad) in done.text, done.text
    finally:
        subprocess.run(["umount", "-l", str(bad)], check=True)


@pytest.mark.fault(11)
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_told_and_nothing_is_lost(project: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let the tests mount a tmpfs")
    try:
        (project / "matrix.toml").write_text(product("head -c 3000000 /dev/zero > $OUT/data"))
        done = relbuild(project, small / "dist")
        assert done.code == 90, done.text
        assert "Traceback" not in done.text
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_busy_folder_is_told(project: Path, tmp_path: Path) -> None:
    (project / "matrix.toml").write_text(product("sleep 98765"))
    dist = tmp_path / "dist"
    first = _start(project, dist)
    try:
        _wait_for(lambda: (dist / ".lock").is_file() and bool(running_with("sleep 98765")))
        done = relbuild(project, dist)
        assert done.code == 91
        assert str(first.pid) in done.err
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)


@pytest.mark.fault(22)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_and_keeps_what_was_finished(number: signal.Signals, project: Path, tmp_path: Path) -> None:
    two = PRODUCT.replace("bad", "aaa") + GOOD_RUN + PRODUCT + "run = 'sleep 98766; echo 1 > $OUT/data'\n"
    (project / "matrix.toml").write_text(HEAD + two)
    dist = tmp_path / "dist"
    process = _start(project, dist)
    _wait_for(lambda: bool(list(dist.glob("cells/*/build.json"))) and bool(running_with("sleep 98766")))
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    _wait_for(lambda: not running_with("sleep 98766"), 20)
    (project / "matrix.toml").write_text(HEAD + two.replace("sleep 98766; ", ""))
    done = relbuild(project, dist)
    assert done.code == 0
    assert "cached   aaa/x86_64" in done.err


@pytest.mark.fault(1)
def test_kill_minus_nine_loses_nothing_that_was_finished(project: Path, tmp_path: Path) -> None:
    two = PRODUCT.replace("bad", "aaa") + GOOD_RUN + PRODUCT + "run = 'sleep 98767; echo 1 > $OUT/data'\n"
    (project / "matrix.toml").write_text(HEAD + two)
    dist = tmp_path / "dist"
    process = _start(project, dist)
    _wait_for(lambda: bool(list(dist.glob("cells/*/build.json"))) and bool(running_with("sleep 98767")))
    process.kill()
    process.communicate(timeout=60)
    _wait_for(lambda: not running_with("sleep 98767"))
    (project / "matrix.toml").write_text(HEAD + two.replace("sleep 98767; ", ""))
    done = relbuild(project, dist)
    assert done.code == 0, done.text
    assert "cached   aaa/x86_64" in done.err
    assert not list((dist / "work").glob("*")), "what the killed run left is gone"


def _start(project: Path, dist: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RELBUILD, "matrix", "--engine", "local", "--output", str(dist)], cwd=project, text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(project.parent), "PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _wait_for(holds: Callable[[], bool], limit_s: float = 120.0) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    yield
    _wait_for(lambda: not running_with("sleep 9876"), 20)
