"""Exports and defences of libraries and programs for Windows and macOS, which nothing here can run."""

import importlib.util
import sys
from pathlib import Path

import pytest

from builders.binaries.hardening import State, Trait, read_hardening
from builders.binaries.surface import read_surface
from builders.command import capture

SOURCE = "__declspec(dllexport) int answer(void) { return 42; }\n"
TARGETS = {
    "x86_64-windows-gnu": ("answer", Trait.HIGH_ENTROPY),
    "aarch64-macos": ("_answer", Trait.CANARY),
}


@pytest.mark.parametrize("triple", TARGETS)
def test_library_of_another_system_says_what_it_exports(tmp_path: Path, triple: str) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the running interpreter has no ziglang: install the extra relbuild[zig]")
    source, made = tmp_path / "answer.c", tmp_path / "libanswer.bin"
    source.write_text(SOURCE if "windows" in triple else SOURCE.removeprefix("__declspec(dllexport) "))
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", triple, "-O2", "-fno-sanitize=undefined", "-shared"]
    done = capture([*zig, str(source), "-o", str(made)], timeout_s=400, cwd=tmp_path)
    assert done.exit_code == 0, done.stderr.decode()
    name, trait = TARGETS[triple]
    for _ in range(3):  # rows of a parser that outlive their image end the whole program
        surface, marks = read_surface(made), read_hardening(made)
        assert surface is not None
        assert marks is not None
        assert name in surface.exports
        assert surface.soname
        assert marks[Trait.NX].state is State.ON
        assert trait in marks
    made.write_bytes(b"just text")
    assert (read_surface(made), read_hardening(made)) == (None, None)
