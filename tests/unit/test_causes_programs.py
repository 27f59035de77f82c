"""Why two programs differ: real ones, built twice by the compiler of this machine."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.reproduce.causes import Cause, CauseKind, Hints, explain

BLIND = Hints()
HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")


def build(folder: Path, script: str, **env: str) -> Path:
    """Run a script in a folder of its own; `out` is what it leaves."""
    folder.mkdir(parents=True)
    given = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC", **env}
    subprocess.run(["sh", "-euc", script], cwd=folder, env=given, check=True, capture_output=True, timeout=60)
    return folder / "out"


def why(folder: Path, first: str, second: str, hints: Hints = BLIND) -> tuple[Cause, ...]:
    source = f"cat > m.c <<'END'\n{HELLO}END\n"
    return explain(build(folder / "first", source + first), build(folder / "longer-second", source + second), hints)


def test_a_date_macro_is_found_in_the_read_only_data(tmp_path: Path) -> None:
    script = "echo '#include <stdio.h>' > d.c; echo 'int main(void){puts(__DATE__ __TIME__);}' >> d.c; gcc -o out d.c"
    first = build(tmp_path / "a", script, SOURCE_DATE_EPOCH="1795252279")
    second = build(tmp_path / "b", script, SOURCE_DATE_EPOCH="1829570059")
    (cause,) = explain(first, second, BLIND)
    assert cause.kind is CauseKind.DATE_STRING
    assert cause.place.startswith(".rodata+0x")
    assert "Nov 21 2026" in cause.text


def test_a_build_path_in_debug_information_is_a_path(tmp_path: Path) -> None:
    causes = why(tmp_path, 'gcc -g -o out "$PWD/m.c"', 'gcc -g -o out "$PWD/m.c"')
    assert [cause.kind for cause in causes] == [CauseKind.PATH]
    assert causes[0].place.startswith(".debug_")


def test_objects_in_another_order_are_an_order_of_names(tmp_path: Path) -> None:
    parts = 'for n in a b c d; do echo "int part_$n(void){return 1;}" > $n.c; done; gcc -o out m.c '
    (cause,) = why(tmp_path, f"{parts} a.c b.c c.c d.c", f"{parts} d.c b.c a.c c.c")
    assert cause.kind is CauseKind.ORDER


def test_a_build_id_is_blamed_only_where_all_else_is_equal(tmp_path: Path) -> None:
    same = "gcc -o out m.c -Wl,--build-id=0x"
    (cause,) = why(tmp_path / "id", f"{same}11112222", f"{same}33334444")
    assert cause.kind is CauseKind.BUILD_ID
    assert "11112222 in the first" in cause.text
    assert cause.place == ".note.gnu.build-id+0x0"
    script = "sed -i 's|hello|/opt/{}/x|' m.c; gcc -o out m.c -Wl,--build-id=sha1"
    causes = why(tmp_path / "else", script.format("first"), script.format("other"))
    assert [cause.kind for cause in causes] == [CauseKind.PATH]


def test_the_compiler_s_own_note_is_its_version(tmp_path: Path) -> None:
    note = "gcc -o out m.c; printf 'GCC: (Debian {0}-1) {0}\\0' > n; objcopy --update-section .comment=n out"
    (cause,) = why(tmp_path, note.format("12.2.0"), note.format("13.1.0"))
    assert (cause.kind, cause.place.partition("+")[0]) == (CauseKind.COMPILER_VERSION, ".comment")


def test_other_code_is_unknown_until_an_axis_is_guilty(tmp_path: Path) -> None:
    script = "echo 'int main(void){return %s;}' > m.c; gcc -s -o out m.c"
    first, second = build(tmp_path / "a", script % 1), build(tmp_path / "b", script % 2)
    (cause,) = explain(first, second, BLIND)
    assert cause.kind is CauseKind.UNKNOWN
    assert cause.place.startswith(".text+0x")
    (cause,) = explain(first, second, Hints(guilty_axes=("cpus",)))
    assert cause.kind is CauseKind.CPU_COUNT
    assert "varies the cpus alone" in cause.text


def test_a_static_library_s_members_are_compared(tmp_path: Path) -> None:
    library = "gcc -c m.c; touch -d @%s m.o; ar rcU out m.o"
    (cause,) = why(tmp_path / "time", library % 1, library % 2)
    assert (cause.kind, cause.place) == (CauseKind.MTIME, "m.o")
    parts = 'for n in a b c d; do echo "int p_$n;" > $n.c; gcc -c $n.c; done; ar rcD out '
    causes = why(tmp_path / "order", f"{parts} a.o b.o c.o d.o", f"{parts} c.o d.o a.o b.o")
    assert [cause.kind for cause in causes] == [CauseKind.ORDER]


def test_a_stranger_s_tools_give_the_same_answer(tmp_path: Path) -> None:
    """The shell's own tar and gzip, with all that they note."""
    script = "mkdir d; sleep %s; echo x > d/made; tar -czf out d"
    causes = why(tmp_path, f"umask 022; {script % 0}", f"umask 077; {script % 1.1}")
    assert {CauseKind.UMASK, CauseKind.MTIME} <= {cause.kind for cause in causes}


def test_a_large_program_is_looked_through_in_a_bounded_time(tmp_path: Path) -> None:
    script = "head -c 40000000 /dev/zero > z; gcc -o out m.c; printf 'on %s' >> z; objcopy --add-section .data.z=z out"
    started = time.monotonic()
    (cause,) = why(tmp_path, script % "host-a", script % "host-b", Hints(worlds={"host_name": ("host-a", "host-b")}))
    assert (cause.kind, cause.place) == (CauseKind.HOST_NAME, ".data.z+0x2625a00")
    assert time.monotonic() - started < 60
