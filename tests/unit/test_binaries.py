"""Real programs of every target, and what is left of them after damage."""

import importlib.util
import os
import random
import shutil
import struct
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from builders.binaries import BinaryKind, build_paths, inspect, version_order
from builders.binaries import facts as facts_module
from builders.command import capture
from builders.errors import GateFailed
from builders.targets import TARGETS

PROGRAM = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
LIBRARY = "double answer(double x) { return x * 42; }\n"
ZIG = {
    "x86_64": "x86_64-linux-gnu.2.31",
    "aarch64": "aarch64-linux-gnu.2.31",
    "armv7": "arm-linux-gnueabihf.2.31",
    "x86_64-windows": "x86_64-windows-gnu",
    "aarch64-macos": "aarch64-macos",
    "x86_64-macos": "x86_64-macos",
}


def run(*argv: str) -> None:
    done = capture(argv, timeout_s=400)
    assert done.exit_code == 0, done.stderr.decode()


QUICK = ("-O2", "-fno-sanitize=undefined")
"""Without these Zig builds the run time of its sanitizer as well."""


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    (folder / "main.c").write_text(PROGRAM)
    (folder / "answer.c").write_text(LIBRARY)
    return folder


@pytest.fixture(scope="session")
def foreign(sources: Path) -> dict[str, Path]:
    """One program for each target, made by zig."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the running interpreter has no ziglang: install the extra relbuild[zig]")
    made = {}
    for target, triple in ZIG.items():
        made[target] = sources / f"hello-{target}"
        run(
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            *QUICK,
            "-target",
            triple,
            str(sources / "main.c"),
            "-o",
            str(made[target]),
        )
    return made


@pytest.fixture(scope="session")
def native(sources: Path) -> dict[str, Path]:
    """Variants that the host's own compiler makes."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc on this machine")
    variants = {
        "plain": ["main.c", "-Wl,--build-id=sha1"],
        "bare": ["main.c", "-s", "-no-pie", "-Wl,--build-id=none", "-Wl,-rpath,/opt/lib:$ORIGIN/../lib"],
        "static": ["main.c", "-static"],
        "static-pie": ["main.c", "-static-pie"],
        "debug": ["main.c", "-g"],
        "libanswer.so": ["answer.c", "-shared", "-fPIC", "-Wl,-soname,libanswer.so.1"],
        "answer.o": ["answer.c", "-c"],
    }
    made = {}
    for name, arguments in variants.items():
        made[name] = sources / f"native-{name}"
        run("gcc", str(sources / arguments[0]), *arguments[1:], "-o", str(made[name]))
    return made


@pytest.mark.parametrize("name", ZIG)
def test_program_is_told_by_its_own_headers(foreign: dict[str, Path], name: str) -> None:
    facts = inspect(foreign[name])
    assert facts is not None
    target = TARGETS[name]
    assert (facts.format, facts.machine, facts.kind) == (target.format, target.machine, BinaryKind.EXECUTABLE)
    assert facts.needed
    assert not facts.static


def test_zig_keeps_the_floor_and_the_standard_interpreter(foreign: dict[str, Path]) -> None:
    loaders = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}
    for name, loader in {**loaders, "armv7": "/lib/ld-linux-armhf.so.3"}.items():
        facts = inspect(foreign[name])
        assert facts is not None
        assert facts.interpreter == loader
        assert version_order("2") < version_order(facts.required_versions["GLIBC"]) <= version_order("2.31")


def test_arm_program_says_how_it_passes_floats(foreign: dict[str, Path]) -> None:
    facts = inspect(foreign["armv7"])
    assert facts is not None
    assert facts.arm is not None
    assert (facts.arm.float_abi, facts.arm.cpu_arch, facts.bits) == ("hard", 10, 32)


@pytest.mark.parametrize(
    ("flags", "float_abi", "cpu_arch"),
    [
        (("arm-linux-gnueabi", "-mcpu=arm1176jzf_s"), "soft", 6),
        (("arm-linux-gnueabihf", "-mcpu=generic+v7a"), "hard", 10),
        (("arm-linux-gnueabihf", "-mcpu=cortex_a53"), "hard", 14),
    ],
)
def test_arm_object_says_what_it_was_compiled_for(
    foreign: dict[str, Path], sources: Path, flags: tuple[str, str], float_abi: str, cpu_arch: int
) -> None:
    made = sources / f"arm-{float_abi}-{cpu_arch}.o"
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", flags[0], flags[1])
    run(*zig, "-c", str(sources / "answer.c"), "-o", str(made))
    facts = inspect(made)
    assert facts is not None
    assert facts.arm is not None
    assert (facts.kind, facts.arm.float_abi, facts.arm.cpu_arch) == (BinaryKind.OBJECT, float_abi, cpu_arch)


def test_universal_program_has_its_slices(foreign: dict[str, Path], tmp_path: Path) -> None:
    parts = [foreign["x86_64-macos"].read_bytes(), foreign["aarch64-macos"].read_bytes()]
    fat = universal([0x01000007, 0x0100000C], parts)
    (tmp_path / "both").write_bytes(fat)
    facts = inspect(tmp_path / "both")
    assert facts is not None
    assert [row.machine for row in facts.members] == [0x01000007, 0x0100000C]
    assert facts.members[1].needed == ("/usr/lib/libSystem.B.dylib",)
    (tmp_path / "both").write_bytes(fat[:-20000])
    with pytest.raises(GateFailed, match="both is cut short"):
        inspect(tmp_path / "both")


def universal(machines: list[int], parts: list[bytes]) -> bytes:
    """Lay out a universal Mach-O (<mach-o/fat.h>)."""
    step = 1 << 14
    rows, body, at = b"", b"", step
    for machine, part in zip(machines, parts, strict=True):
        rows += struct.pack(">5I", machine, 0, at, len(part), 14)
        padded = part + bytes(-len(part) % step)
        body, at = body + padded, at + len(padded)
    head = struct.pack(">2I", 0xCAFEBABE, len(parts)) + rows
    return head + bytes(step - len(head)) + body


def test_java_class_is_no_universal_program(tmp_path: Path) -> None:
    (tmp_path / "A.class").write_bytes(b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(100))
    assert inspect(tmp_path / "A.class") is None


def test_pie_is_an_executable_with_build_id_and_symbols(native: dict[str, Path]) -> None:
    facts = inspect(native["plain"])
    assert facts is not None
    assert facts.kind is BinaryKind.EXECUTABLE
    assert len(facts.build_id) == 40
    assert not facts.stripped
    assert facts.rpath == ()
    assert facts.needed == ("libc.so.6",)


def test_stripped_program_with_rpath(native: dict[str, Path]) -> None:
    facts = inspect(native["bare"])
    assert facts is not None
    assert facts.rpath == ("/opt/lib", "$ORIGIN/../lib")
    assert (facts.stripped, facts.build_id) == (True, "")


@pytest.mark.parametrize("name", ["static", "static-pie"])
def test_static_programs_need_nothing(native: dict[str, Path], name: str) -> None:
    facts = inspect(native[name])
    assert facts is not None
    assert facts.static
    assert facts.kind is BinaryKind.EXECUTABLE
    assert (facts.interpreter, facts.needed, dict(facts.required_versions)) == ("", (), {})


def test_library_has_its_soname(native: dict[str, Path]) -> None:
    facts = inspect(native["libanswer.so"])
    assert facts is not None
    assert (facts.kind, facts.soname, facts.static) == (BinaryKind.SHARED, "libanswer.so.1", False)


def test_versions_survive_without_section_headers(native: dict[str, Path], tmp_path: Path) -> None:
    whole = inspect(native["bare"])
    data = bytearray(native["bare"].read_bytes())
    data[0x28:0x30], data[0x3C:0x40] = bytes(8), bytes(4)
    (tmp_path / "bare").write_bytes(data)
    facts = inspect(tmp_path / "bare")
    assert facts is not None
    assert whole is not None
    assert facts.required_versions == whole.required_versions
    assert facts.required_versions["GLIBC"]
    assert facts.needed == ("libc.so.6",)


def test_split_debug_information_is_no_program(native: dict[str, Path], tmp_path: Path) -> None:
    run("objcopy", "--only-keep-debug", str(native["debug"]), str(tmp_path / "hello.debug"))
    facts = inspect(tmp_path / "hello.debug")
    assert facts is not None
    assert (facts.kind, facts.machine) == (BinaryKind.OTHER, 62)


def test_static_library_shows_each_machine_once(
    native: dict[str, Path], foreign: dict[str, Path], tmp_path: Path
) -> None:
    copies = [tmp_path / f"a_rather_long_member_name_{index}.o" for index in range(3)]
    for copy in copies:
        shutil.copy(native["answer.o"], copy)
    odd = shutil.copy(foreign["aarch64"], tmp_path / "a_member_for_another_machine.o")
    library = tmp_path / "libmixed.a"
    run("ar", "rc", str(library), *map(str, copies), str(odd))
    facts = inspect(library)
    assert facts is not None
    assert facts.kind is BinaryKind.ARCHIVE
    assert [(row.machine, row.member) for row in facts.members] == [
        (62, "a_rather_long_member_name_0.o"),
        (183, "a_member_for_another_machine.o"),
    ]


def test_archives_that_hold_no_objects(native: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "debian-binary").write_text("2.0\n")
    run("ar", "rc", str(tmp_path / "package.deb"), str(tmp_path / "debian-binary"))
    assert inspect(tmp_path / "package.deb") is None
    run("ar", "rcT", str(tmp_path / "thin.a"), str(native["answer.o"]))
    with pytest.raises(GateFailed, match=r"thin\.a is a thin archive"):
        inspect(tmp_path / "thin.a")


def test_cut_archive_is_noticed(native: dict[str, Path], tmp_path: Path) -> None:
    library = tmp_path / "lib.a"
    run("ar", "rc", str(library), str(native["answer.o"]))
    library.write_bytes(library.read_bytes()[:-9])
    with pytest.raises(GateFailed, match="cut short"):
        inspect(library)


def test_windows_objects_in_a_static_library(foreign: dict[str, Path], sources: Path, tmp_path: Path) -> None:
    made = tmp_path / "answer.obj"
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu")
    run(*zig, "-c", str(sources / "answer.c"), "-o", str(made))
    library = tmp_path / "answer.lib"
    run("ar", "rc", str(library), str(made))
    for path in (made, library):
        facts = inspect(path)
        assert facts is not None
        assert (facts.format, facts.machine) == (TARGETS["x86_64-windows"].format, 0x8664)


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"PK\x03\x04", b"MZ is how this text begins\n" * 9, b"\x7fEL"])
def test_other_files_are_no_binaries(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert inspect(tmp_path / "file") is None


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(sys.executable)
    for name in ("fifo", "link", "absent", "."):
        with pytest.raises(GateFailed):
            inspect(tmp_path / name)


def outcome(path: Path) -> str:
    """Say how an inspection ended; anything but facts, None or GateFailed passes through and fails the test."""
    try:
        return "read" if inspect(path) else "none"
    except GateFailed as error:
        assert path.name in error.what  # noqa: PT017 - both ends are right here
        return "refused"


def test_every_truncation_is_refused(native: dict[str, Path], tmp_path: Path) -> None:
    data = native["bare"].read_bytes()
    hurt = tmp_path / "hurt"
    for size in [*range(4, 200, 3), *range(200, len(data), 331), len(data) - 1]:
        hurt.write_bytes(data[:size])
        assert outcome(hurt) == "refused", size


@pytest.mark.parametrize("name", ["bare", "libanswer.so", "answer.o"])
def test_flipped_bytes_never_end_in_a_traceback(native: dict[str, Path], tmp_path: Path, name: str) -> None:
    source, chance = native[name].read_bytes(), random.Random(name)
    hurt = tmp_path / "hurt"
    ends = set()
    started = time.monotonic()
    # The headers, tables and dynamic strings are where a flip can hurt a reader.
    for _ in range(120):
        data = bytearray(source)
        for _ in range(chance.randint(1, 8)):
            data[chance.choice((chance.randrange(64), chance.randrange(len(data))))] = chance.choice((0, 255, 127, 1))
        hurt.write_bytes(data)
        ends.add(outcome(hurt))
    assert ends <= {"read", "none", "refused"}
    assert "refused" in ends
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("name", ["x86_64-windows", "aarch64-macos", "armv7"])
def test_damaged_programs_of_other_systems(foreign: dict[str, Path], tmp_path: Path, name: str) -> None:
    source, chance = foreign[name].read_bytes(), random.Random(name)
    hurt = tmp_path / "hurt"
    for size in (5, 64, 70, 200, 500, 1000, len(source) // 2):
        hurt.write_bytes(source[:size])
        assert outcome(hurt) != "read", size
    for _ in range(40):
        data = bytearray(source)
        for _ in range(6):
            data[chance.randrange(1024)] = chance.randrange(256)
        hurt.write_bytes(data)
        outcome(hurt)


HUGE = [
    ("e_shoff", 0x28, struct.pack("<Q", 1 << 32)),
    ("e_shoff", 0x28, struct.pack("<Q", (1 << 64) - 1)),
    ("e_phoff", 0x20, struct.pack("<Q", 1 << 32)),
    ("e_shnum", 0x3C, struct.pack("<H", 0xFFFF)),
    ("e_phnum", 0x38, struct.pack("<H", 0xFFFF)),
    ("e_shentsize", 0x3A, struct.pack("<H", 0)),
]


@pytest.mark.parametrize(("field", "at", "value"), HUGE)
def test_huge_tables_are_refused_at_once(
    native: dict[str, Path], tmp_path: Path, field: str, at: int, value: bytes
) -> None:
    data = bytearray(native["bare"].read_bytes())
    data[at : at + len(value)] = value
    (tmp_path / field).write_bytes(data)
    tracemalloc.start()
    started = time.monotonic()
    try:
        assert outcome(tmp_path / field) == "refused"
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 5


def test_loops_of_a_corrupt_table_end(native: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version chain that says it has 2**32 libraries and stands still."""
    monkeypatch.setattr(facts_module, "_FREE_READS", 3000)
    data = bytearray(native["bare"].read_bytes())
    count = data.find(struct.pack("<QQ", 0x6FFFFFFF, 1))
    assert count > 0
    data[count + 8 : count + 16] = struct.pack("<Q", 1 << 32)
    (tmp_path / "loop").write_bytes(data)
    started = time.monotonic()
    with pytest.raises(GateFailed, match="what follows cannot be read"):
        inspect(tmp_path / "loop")
    assert time.monotonic() - started < 5


def test_names_cannot_move_the_cursor(native: dict[str, Path], tmp_path: Path) -> None:
    data = native["libanswer.so"].read_bytes().replace(b"libanswer.so.1", b"lib\x1b[2J\x9b\xff.so.1")
    (tmp_path / "lib.so").write_bytes(data)
    facts = inspect(tmp_path / "lib.so")
    assert facts is not None
    assert facts.soname.isprintable()
    assert "\\x1b[2J" in facts.soname


def test_build_paths_across_chunks(tmp_path: Path) -> None:
    chunk = 1 << 20
    needles = [b"/home/builder/project", b"/var/tmp/relbuild-1", b"/nowhere/at/all", b"/", b""]
    data = bytearray(3 * chunk)
    data[chunk - 7 : chunk - 7 + len(needles[0])] = needles[0]
    data[-len(needles[1]) :] = needles[1]
    (tmp_path / "program").write_bytes(data)
    assert build_paths(tmp_path / "program", needles) == ("/home/builder/project", "/var/tmp/relbuild-1")
    assert build_paths(tmp_path / "program", [b"/"]) == ()


def test_build_paths_needs_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as large:
        large.truncate(256 << 20)
    tracemalloc.start()
    try:
        assert build_paths(tmp_path / "large", [b"/home/builder"]) == ()
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_versions_are_compared_as_numbers() -> None:
    assert version_order("2.9") < version_order("2.31")
    assert version_order("2.31.0") == version_order("2.31")
    assert version_order("2.30") != version_order("2.3")
    assert version_order("") < version_order("2.2.5")
