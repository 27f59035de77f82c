"""The truth gate over real files: each rule is seen to pass and to break."""

import hashlib
import importlib.util
import os
import shutil
import sys
from dataclasses import fields, replace
from pathlib import Path, PurePosixPath

import pytest

from builders.command import capture
from builders.errors import GateFailed, WrongMachine
from builders.model import BuiltFile, Libc, LibcKind
from builders.targets import TARGETS, Target
from orchestrator import gate
from orchestrator.model import Finding, GateRules, Verdict

X86 = TARGETS["x86_64"]


def every(verdict: Verdict) -> GateRules:
    return GateRules(
        libc_floor=verdict, interpreter=verdict, needed=verdict, rpath=verdict, stripped=verdict, build_id=verdict,
        build_paths=verdict,
    )  # fmt: skip


STRICTEST, WARNING, QUIET = map(every, (Verdict.ERROR, Verdict.WARN, Verdict.IGNORE))
STRICT = replace(STRICTEST, stripped=Verdict.IGNORE, build_id=Verdict.IGNORE)


def run(*argv: str) -> None:
    done = capture(argv, timeout_s=400)
    assert done.exit_code == 0, done.stderr.decode()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of programs by the host's compiler."""
    if shutil.which("gcc") is None or os.uname().machine != "x86_64":
        pytest.skip("wants gcc on an x86_64 machine")
    folder = tmp_path_factory.mktemp("made")
    (folder / "main.c").write_text('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')
    (folder / "answer.c").write_text("int answer(void) { return 42; }\n")
    (folder / "asks.c").write_text("int answer(void);\nint main(void) { return answer() - 42; }\n")
    (folder / "path.c").write_text('const char *where = "/home/builder/project/main.c"; int main(void) { return 0; }\n')
    variants = {
        "good": ["main.c", "-s", "-Wl,--build-id=sha1"],
        "static": ["main.c", "-static", "-s"],
        "symbols": ["main.c", "-Wl,--build-id=none"],
        "rpath": ["main.c", "-s", "-Wl,-rpath,/opt/lib:$ORIGIN/../lib"],
        "origin": ["main.c", "-s", "-Wl,-rpath,$ORIGIN:${ORIGIN}/../lib"],
        "look-alike": ["main.c", "-s", "-Wl,-rpath,$ORIGINAL/lib"],
        "loader": ["main.c", "-s", "-Wl,--dynamic-linker=/opt/ld.so"],
        "musl": ["main.c", "-s", "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"],
        "path": ["path.c", "-s"],
        "libanswer.so.1.0": ["answer.c", "-s", "-shared", "-fPIC", "-Wl,-soname,libanswer.so.1"],
    }
    for name, (source, *flags) in variants.items():
        run("gcc", str(folder / source), *flags, "-o", str(folder / name))
    run("gcc", str(folder / "asks.c"), str(folder / "libanswer.so.1.0"), "-s", "-o", str(folder / "asks"))
    return folder


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of objects and a program by zig."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the running interpreter has no ziglang: install the extra relbuild[zig]")
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "answer.c").write_text("double answer(double x) { return x * 42; }\n")
    (folder / "main.c").write_text('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')
    objects = {
        "aarch64.o": ("aarch64-linux-gnu", ""),
        "armv7.o": ("arm-linux-gnueabihf", "-mcpu=generic+v7a"),
        "armv8.o": ("arm-linux-gnueabihf", "-mcpu=cortex_a53"),
        "armsoft.o": ("arm-linux-gnueabi", "-mcpu=generic+v7a"),
        "x32.o": ("x86_64-linux-gnux32", ""),
        "windows.obj": ("x86_64-windows-gnu", ""),
        "macos.o": ("aarch64-macos", ""),
    }
    for name, (triple, cpu) in objects.items():
        flags = ["-target", triple, *([cpu] if cpu else []), "-c", str(folder / "answer.c"), "-o", str(folder / name)]
        run(sys.executable, "-m", "ziglang", "cc", "-O2", "-fno-sanitize=undefined", *flags)
    for name, triple in {
        "old": "x86_64-linux-gnu.2.31",
        "hello.exe": "x86_64-windows-gnu",
        "mac": "aarch64-macos",
    }.items():
        argv = ("-target", triple, str(folder / "main.c"), "-o", str(folder / name))
        run(sys.executable, "-m", "ziglang", "cc", "-O2", "-fno-sanitize=undefined", *argv)
    return folder


def built(folder: Path, *names: str) -> tuple[BuiltFile, ...]:
    def one(name: str) -> BuiltFile:
        body = (folder / name).read_bytes() if (folder / name).is_file() else b""
        return BuiltFile(
            path=PurePosixPath(name), size_bytes=len(body), sha256=hashlib.sha256(body).hexdigest(),
            sha512=hashlib.sha512(body).hexdigest(), executable=True,
        )  # fmt: skip

    return tuple(map(one, names))


def judge(
    folder: Path, *names: str, target: Target = X86, libc: Libc = Libc(), rules: GateRules = STRICT,
    needles: tuple[bytes, ...] = (),
) -> tuple[Finding, ...]:  # fmt: skip
    return gate.judge(folder, built(folder, *names), target, libc, rules, needles)


def refused(folder: Path, *names: str, **how: object) -> str:
    with pytest.raises(GateFailed) as caught:
        judge(folder, *names, **how)  # type: ignore[arg-type]  # the keywords of judge, handed on as they are
    return str(caught.value)


def test_good_programs_pass_in_silence(made: Path) -> None:
    assert judge(made, "good", "main.c", rules=STRICTEST, needles=(b"/home/builder",)) == ()
    assert judge(made, "static", "origin") == ()


def test_a_cell_without_binaries_is_fine(made: Path) -> None:
    assert judge(made, "main.c", "answer.c") == ()
    assert judge(made) == ()


WRONG = [
    ("aarch64.o", "x86_64", "AARCH64"),
    ("aarch64.o", "armv7", "AARCH64"),
    ("armv8.o", "armv7", "Tag_CPU_arch 14"),
    ("armsoft.o", "armv7", "soft-float"),
    ("x32.o", "x86_64", "32-bit"),
    ("windows.obj", "x86_64", "pe"),
    ("windows.obj", "aarch64-windows", "x86_64"),
    ("macos.o", "aarch64", "macho"),
    ("macos.o", "x86_64-macos", "arm64"),
]


@pytest.mark.parametrize(("name", "target", "said"), WRONG)
def test_another_machine_is_an_error_whatever_the_policy(foreign: Path, name: str, target: str, said: str) -> None:
    with pytest.raises(WrongMachine) as caught:
        judge(foreign, name, target=TARGETS[target], rules=QUIET)
    assert f"{name} is for " in caught.value.what
    assert said in caught.value.what
    assert target in caught.value.what
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("name", "target"),
    [("aarch64.o", "aarch64"), ("armv7.o", "armv7"), ("windows.obj", "x86_64-windows"), ("macos.o", "aarch64-macos")],
)
def test_the_right_machine_is_taken(foreign: Path, name: str, target: str) -> None:
    assert judge(foreign, name, target=TARGETS[target]) == ()


def test_programs_of_other_systems_pass_their_own_rules(foreign: Path) -> None:
    assert judge(foreign, "hello.exe", target=TARGETS["x86_64-windows"]) == ()
    assert judge(foreign, "mac", target=TARGETS["aarch64-macos"]) == ()


def test_all_wrong_files_are_named(made: Path) -> None:
    with pytest.raises(WrongMachine) as caught:
        judge(made, "good", "static", "main.c", target=TARGETS["aarch64"])
    assert "good is for" in caught.value.what
    assert "static is for" in caught.value.what
    assert "main.c" not in caught.value.what


def test_wrong_object_inside_a_static_library(made: Path, foreign: Path, tmp_path: Path) -> None:
    run("gcc", "-c", str(made / "answer.c"), "-o", str(tmp_path / "right.o"))
    run("ar", "rc", str(tmp_path / "lib.a"), str(tmp_path / "right.o"), str(foreign / "aarch64.o"))
    with pytest.raises(WrongMachine, match=r"lib\.a is for AARCH64 .* in its member aarch64\.o"):
        judge(tmp_path, "lib.a")


@pytest.mark.parametrize(
    ("floor", "fine"), [("2.9", False), ("2.31", False), ("2.34", True), ("2.100", True), ("", True)]
)
def test_the_floor_is_a_number_not_a_text(made: Path, floor: str, fine: bool) -> None:
    """The host's compiler is of a glibc from 2.34 on, whose start-up symbol has that version."""
    libc = Libc(floor=floor)
    if fine:
        assert judge(made, "good", libc=libc) == ()
    else:
        said = refused(made, "good", libc=libc)
        assert f"good: libc_floor: needs GLIBC_2.34, the floor is {floor}" in said
        assert "[policy.gate]: libc_floor" in said


def test_a_large_static_library_for_arm_is_read_to_its_last_object(foreign: Path, tmp_path: Path) -> None:
    members = [tmp_path / f"{index}.o" for index in range(400)]
    for member in members:
        shutil.copy(foreign / "armv7.o", member)
    run("ar", "rcS", str(tmp_path / "lib.a"), *map(str, members))
    assert judge(tmp_path, "lib.a", target=TARGETS["armv7"]) == ()
    run("ar", "rcS", str(tmp_path / "lib.a"), str(foreign / "armsoft.o"))
    with pytest.raises(WrongMachine, match=r"in its member armsoft\.o"):
        judge(tmp_path, "lib.a", target=TARGETS["armv7"])


def test_an_old_symbol_is_below_a_floor_that_sorts_before_it_as_text(foreign: Path) -> None:
    assert judge(foreign, "old", libc=Libc(floor="2.17")) == ()


def test_a_product_keeps_to_its_c_library(made: Path) -> None:
    said = refused(made, "good", libc=Libc(kind=LibcKind.MUSL))
    assert "libc_floor: needs glibc, and the product is for musl" in said
    assert "interpreter: is started by /lib64/ld-linux-x86-64.so.2" in said
    assert "libc_floor: needs musl" in refused(made, "musl")
    assert judge(made, "static", libc=Libc(kind=LibcKind.MUSL)) == ()


def test_a_newer_libstdcxx_is_told_and_never_fails(made: Path, tmp_path: Path) -> None:
    (tmp_path / "main.cc").write_text("#include <iostream>\nint main() { std::cout << 42; }\n")
    run("g++", str(tmp_path / "main.cc"), "-o", str(tmp_path / "stream"))
    found = judge(tmp_path, "stream", libc=Libc(floor="2.100"))
    assert [(row.rule, row.verdict) for row in found] == [("libc_floor", Verdict.WARN)]
    assert "GLIBCXX_3.4" in found[0].text


def test_interpreter(made: Path) -> None:
    assert "loader: interpreter: is started by /opt/ld.so" in refused(made, "loader")


def test_rpath(made: Path) -> None:
    said = refused(made, "rpath", "look-alike")
    assert "rpath: rpath: looks for libraries in /opt/lib" in said
    assert "look-alike: rpath: looks for libraries in $ORIGINAL/lib" in said
    assert "$ORIGIN/../lib" not in said


def test_needed_libraries_are_known_shipped_or_allowed(made: Path) -> None:
    assert "asks: needed: needs libanswer.so.1" in refused(made, "asks")
    assert judge(made, "asks", "libanswer.so.1.0") == ()
    assert judge(made, "asks", rules=replace(STRICT, allow_needed=("libans*.so.*",))) == ()
    assert "allow_needed" in refused(made, "asks")


def test_symbols_and_build_id(made: Path) -> None:
    said = refused(made, "symbols", rules=replace(QUIET, stripped=Verdict.ERROR, build_id=Verdict.ERROR))
    assert "symbols: stripped:" in said
    assert "symbols: build_id:" in said


def test_build_paths_in_programs_and_in_texts(made: Path) -> None:
    said = refused(made, "path", "path.c", needles=(b"/home/builder/project", b"/elsewhere"))
    assert "path: build_paths: has the build folder /home/builder/project inside" in said
    assert "path.c: build_paths:" in said
    assert "/elsewhere" not in said


def test_the_policy_decides(made: Path) -> None:
    names = ("rpath", "loader", "asks", "symbols", "path")
    assert judge(made, *names, rules=QUIET, needles=(b"/home/builder/project",)) == ()
    found = judge(made, *names, rules=WARNING, libc=Libc(floor="2.9"), needles=(b"/home/builder/project",))
    assert {row.verdict for row in found} == {Verdict.WARN}
    assert {row.rule for row in found} == {row.name for row in fields(GateRules)} - {"allow_needed"}


def test_all_errors_are_listed_and_warnings_are_not(made: Path) -> None:
    said = refused(made, "rpath", "loader", "asks", rules=replace(STRICT, needed=Verdict.WARN))
    assert "2 broken rules" in said
    assert "rpath: rpath:" in said
    assert "loader: interpreter:" in said
    assert "libanswer" not in said
    assert "[policy.gate]: rpath, interpreter" in said


def test_unreadable_files_are_listed_too(made: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes((made / "good").read_bytes()[:3000])
    os.mkfifo(tmp_path / "fifo")
    said = refused(tmp_path, "cut", "fifo", rules=replace(QUIET, build_paths=Verdict.WARN), needles=(b"/home/x",))
    assert "cut: readable: is cut short" in said
    assert "fifo: readable: is not a regular file" in said
