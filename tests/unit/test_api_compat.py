"""Removals of symbols, names, options and exit codes, on libraries and programs that a real compiler made."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders.binaries.surface import SymbolKind, read_surface
from builders.command import capture
from builders.errors import GateFailed
from builders.local import sandbox
from orchestrator.model import ArtifactKind
from orchestrator.validate import api_compat
from orchestrator.validate.options import options
from orchestrator.validate.semver import may_break
from orchestrator.validate.values import Outcome, Pair
from orchestrator.validation_rules import AbiTool, ValidationRules
from tests.unit.payloads import HERE, Made, compared, compile_c, errors, gaps, passed

LIBRARY = """
int tally_start(void) { return 1; }
int tally_add(int x) { return x + 1; }
const char tally_separators[8] = " ";
__attribute__((visibility("hidden"))) int inner(void) { return 2; }
"""
MAP = "TALLY_1.0 { global: tally_start; tally_add; tally_separators; local: *; };\n"
TOOL = """
#include <stdio.h>
#include <string.h>
int main(int c, char **v) {
  if (c > 1 && !strcmp(v[1], "--help"))
    return puts("Usage: tool [-q] [--deep]\\n  -l, --lines  lines\\n  --bytes=N  bytes") < 0;
  return c > 1 ? 2 : 0;
}
"""
SMOKE = ((("bin/tool",), 0), (("bin/tool", "x"), 2))


def library(folder: Path, source: str = LIBRARY, *, soname: str = "libtally.so.1", versions: str = MAP) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    script = folder.parent / f"{folder.name}.map"
    script.write_text(versions)
    flags = ["-shared", "-fPIC", f"-Wl,-soname,{soname}", *([f"-Wl,--version-script={script}"] if versions else [])]
    compile_c(source, folder / "lib" / "libtally.so.1", *flags)
    return folder


def tool(folder: Path, source: str = TOOL) -> Path:
    compile_c(source, folder / "bin" / "tool")
    return folder


def judged(old: Path, new: Path, version: str = "1.0.1", rules: ValidationRules | None = None, **more: Any) -> Outcome:
    sides = [Made(folder=folder, version=name, **more) for folder, name in ((new, version), (old, "1.0.0"))]
    return api_compat.check(compared(sides[0], sides[1], rules or ValidationRules(abidiff=AbiTool.OFF)))


# --- libraries ---------------------------------------------------------------------------------------------------


def test_exports_are_those_of_the_dynamic_table_with_their_versions(tmp_path: Path) -> None:
    surface = read_surface(library(tmp_path / "a") / "lib" / "libtally.so.1")
    assert surface is not None
    assert (surface.soname, set(surface.exports)) == (
        "libtally.so.1",
        {"tally_start@TALLY_1.0", "tally_add@TALLY_1.0", "tally_separators@TALLY_1.0"},
    )
    row = surface.exports["tally_separators@TALLY_1.0"]
    assert (row.kind, row.size_bytes) == (SymbolKind.OBJECT, 8)


def test_stripped_sections_hide_no_export(tmp_path: Path) -> None:
    file = library(tmp_path / "a") / "lib" / "libtally.so.1"
    before = read_surface(file)
    data = bytearray(file.read_bytes())
    data[0x28:0x30], data[0x3C:0x40] = bytes(8), bytes(4)  # e_shoff, e_shnum, e_shstrndx of ELF64
    file.write_bytes(data)
    assert read_surface(file) == before


def test_more_symbols_pass(tmp_path: Path) -> None:
    new = library(
        tmp_path / "b", LIBRARY + "int more(void) { return 3; }", versions=MAP.replace("tally_add;", "tally_add; more;")
    )
    outcome = passed(judged(library(tmp_path / "a"), new))
    assert "new symbols: 1" in outcome.notes[0]


@pytest.mark.parametrize("version", ["1.0.1", "1.1.0", "1.0.0", "0.9.0"])
def test_removed_symbol_fails_below_a_major_version(tmp_path: Path, version: str) -> None:
    new = library(tmp_path / "b", LIBRARY.replace("tally_add", "tally_plus"))
    (finding,) = errors(judged(library(tmp_path / "a"), new, version))
    assert (finding.rule, finding.place) == ("symbol_gone", f"tool/{HERE}: lib/libtally.so.1")
    assert finding.text == "exports no longer: tally_add@TALLY_1.0"


def test_major_version_may_remove_and_is_warned_of_an_old_name(tmp_path: Path) -> None:
    new = library(tmp_path / "b", LIBRARY.replace("tally_add", "tally_plus"))
    outcome = passed(judged(library(tmp_path / "a"), new, "2.0.0"))
    assert [each.rule for each in outcome.warnings] == ["soname_kept"]
    assert any("tally_add" in note for note in outcome.notes)


def test_changed_soname_fails(tmp_path: Path) -> None:
    (finding,) = errors(judged(library(tmp_path / "a"), library(tmp_path / "b", soname="libtally.so.2"), "1.1.0"))
    assert finding.rule == "soname"
    assert "was libtally.so.1 and is libtally.so.2" in finding.text


def test_lost_symbol_version_and_larger_object_fail(tmp_path: Path) -> None:
    old = library(tmp_path / "a")
    (plain,) = errors(judged(old, library(tmp_path / "b", versions="")))
    assert plain.rule == "symbol_gone"
    assert passed(judged(library(tmp_path / "c", versions=""), old, "1.0.1")).notes == ()
    (larger,) = errors(judged(old, library(tmp_path / "d", LIBRARY.replace("[8]", "[16]"))))
    assert larger.rule == "symbol_changed"
    assert "tally_separators@TALLY_1.0 (8 bytes, now 16" in larger.text


def test_library_that_is_gone_and_one_that_moved(tmp_path: Path) -> None:
    old = library(tmp_path / "a")
    moved = library(tmp_path / "b")
    (moved / "lib" / "libtally.so.1").rename(moved / "libtally.so.1.4.2")
    passed(judged(old, moved))
    (moved / "libtally.so.1.4.2").unlink()
    assert [each.rule for each in errors(judged(old, moved))] == ["library_gone"]


def test_static_library_keeps_its_symbols(tmp_path: Path) -> None:
    for name, source in (("a", LIBRARY), ("b", LIBRARY.replace("tally_add", "tally_plus"))):
        compile_c(source, tmp_path / name / "x.o", "-c")
        done = capture(["ar", "rcs", str(tmp_path / name / "libtally.a"), str(tmp_path / name / "x.o")])
        assert done.exit_code == 0
        (tmp_path / name / "x.o").unlink()
    (finding,) = errors(judged(tmp_path / "a", tmp_path / "b"))
    assert (finding.rule, finding.text) == ("static_symbol_gone", "holds no longer: tally_add")
    passed(judged(tmp_path / "b", tmp_path / "b"))


def test_archive_without_a_table_is_not_judged(tmp_path: Path) -> None:
    compile_c(LIBRARY, tmp_path / "a" / "x.o", "-c")
    assert capture(["ar", "rcS", str(tmp_path / "a" / "libtally.a"), str(tmp_path / "a" / "x.o")]).exit_code == 0
    with pytest.raises(GateFailed, match="without a table of its symbols"):
        read_surface(tmp_path / "a" / "libtally.a")
    assert any("without a table" in reason for reason in gaps(judged(tmp_path / "a", tmp_path / "a")))


def test_break_that_is_allowed_by_name_is_a_note(tmp_path: Path) -> None:
    new = library(tmp_path / "b", LIBRARY.replace("tally_add", "tally_plus"))
    rules = ValidationRules(allow_api_breaks=("tally_a*",), abidiff=AbiTool.OFF)
    outcome = passed(judged(library(tmp_path / "a"), new, rules=rules))
    assert any("allowed" in note for note in outcome.notes)


def test_abidiff_that_is_required_and_absent_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = library(tmp_path / "a")
    monkeypatch.setenv("PATH", str(tmp_path))
    rules = ValidationRules(abidiff=AbiTool.REQUIRE)
    assert gaps(judged(old, old, rules=rules))[0].startswith("abidiff: `abidiff` is required")
    passed(judged(old, old, rules=ValidationRules()))


def test_abidiff_that_is_required_is_not_asked_about_a_library_without_a_name(tmp_path: Path) -> None:
    plugin = compile_c(LIBRARY, tmp_path / "a" / "plugin.so", "-shared", "-fPIC").parent
    reason = "abidiff: `abidiff` is required, and is only asked about a library with a SONAME: this one has none"
    assert gaps(judged(plugin, plugin, rules=ValidationRules(abidiff=AbiTool.REQUIRE))) == [reason]
    passed(judged(plugin, plugin, rules=ValidationRules()))


# --- programs ----------------------------------------------------------------------------------------------------


def test_same_options_pass(tmp_path: Path) -> None:
    new = tool(tmp_path / "b", TOOL.replace("--bytes=N  bytes", "--bytes=N  BYTES\\n  --more  more"))
    passed(judged(tool(tmp_path / "a"), new, smoke=SMOKE))


def test_removed_option_fails(tmp_path: Path) -> None:
    new = tool(tmp_path / "b", TOOL.replace("--bytes", "--octets").replace("-l, ", ""))
    found = errors(judged(tool(tmp_path / "a"), new, smoke=SMOKE))
    assert [(each.rule, each.text) for each in found] == [
        ("option_gone", "--help names --bytes no longer"), ("option_gone", "--help names -l no longer"),
    ]  # fmt: skip
    passed(judged(tool(tmp_path / "a"), new, "2.0.0", smoke=SMOKE))


def test_other_exit_code_and_missing_program_fail(tmp_path: Path) -> None:
    old, new = tool(tmp_path / "a"), tool(tmp_path / "b")
    sides = compared(
        Made(folder=new, version="1.0.1", smoke=(SMOKE[0], (SMOKE[1][0], 3))), Made(folder=old, smoke=SMOKE)
    )
    assert [each.rule for each in errors(api_compat.check(sides))] == ["exit"]
    (new / "bin" / "tool").unlink()
    assert "program_gone" in [each.rule for each in errors(judged(old, new, smoke=SMOKE))]


def test_program_that_is_gone_fails_whatever_smoke_tests_name(tmp_path: Path) -> None:
    old, new = tool(tmp_path / "a"), tool(tmp_path / "b")
    compile_c(TOOL, old / "bin" / "other")
    (finding,) = errors(judged(old, new, smoke=SMOKE))
    assert (finding.rule, finding.place) == ("program_gone", f"tool/{HERE}: bin/other")
    assert [each.place for each in errors(judged(old, new))] == [f"tool/{HERE}: bin/other"]
    passed(judged(old, new, "2.0.0", smoke=SMOKE))
    compile_c(TOOL, new / "bin" / "other")
    assert any("no smoke test runs it: bin/other" in note for note in passed(judged(old, new, smoke=SMOKE)).notes)


def test_program_with_the_version_in_its_name_stays(tmp_path: Path) -> None:
    old, new = tool(tmp_path / "a"), tool(tmp_path / "b")
    compile_c(TOOL, old / "bin" / "tool-1.0.0")
    compile_c(TOOL, new / "bin" / "tool-1.0.1")
    passed(judged(old, new, smoke=SMOKE))


def test_plain_file_with_the_version_in_its_name_has_a_successor_already(tmp_path: Path) -> None:
    folders = {"1.0.0": tmp_path / "a", "v2": tmp_path / "b"}
    for version, folder in folders.items():
        compile_c(TOOL, folder / f"tool_{version.replace('.', '_')}")
    sides = compared(Made(folder=folders["v2"], version="1.0.1"), Made(folder=folders["1.0.0"]))
    assert [each.rule for each in errors(api_compat.check(sides))] == ["program_gone"]
    (pair,) = sides.pairs
    assert pair.old is not None
    plain = Pair(new=replace(pair.new, kind=ArtifactKind.FILE), old=replace(pair.old, kind=ArtifactKind.FILE))
    assert "nobody asks for its options" in gaps(api_compat.check(replace(sides, pairs=(plain,))))[0]


def test_nothing_runs_where_nothing_keeps_it_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tool(tmp_path / "a")
    passed(judged(old, old, smoke=SMOKE))
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.available.cache_clear()
    try:
        assert sandbox.available() is sandbox.Isolation.NONE
        assert "nothing keeps programs apart from this machine" in gaps(judged(old, old, smoke=SMOKE))[0]
    finally:
        sandbox.available.cache_clear()


def test_program_that_cannot_run_here_or_that_nobody_starts_is_not_checked(tmp_path: Path) -> None:
    old = tool(tmp_path / "a")
    assert "do not run on this machine" in gaps(judged(old, old, smoke=SMOKE, target="aarch64-macos"))[0]
    assert "nobody asks for its options" in gaps(judged(old, old))[0]


def test_help_texts_of_several_styles() -> None:
    usage = "Usage: x [-hV] [--[no-]color] [--in=F|-i F]\n"
    text = f"{usage}  -o FILE, --output FILE  as -z\n  -name s\tgo\nwell-known --far.\n"
    wanted = {"-h", "-V", "--color", "--no-color", "--in", "-i", "-o", "--output", "-name", "--far"}
    assert options(text) == wanted


@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        ("1.0.0", "1.0.1", False), ("1.2.3", "1.3.0", False), ("1.9.0", "2.0.0", True), ("v1.0.0", "v2.0.0", True),
        ("0.1.0", "0.1.1", False), ("0.1.0", "0.2.0", True), ("0.0.1", "0.0.2", True), ("0.9.0", "1.0.0", True),
        ("2.0.0-rc1", "2.0.0", True), ("1.0.0", "1.1.0-rc1", False), ("2.0.0", "1.9.0", False),
        ("nightly-1", "nightly-2", False), ("1.0.0", "1.0.0", False),
    ],
)  # fmt: skip
def test_only_some_steps_announce_a_break(old: str, new: str, may: bool) -> None:
    assert may_break(old, new) is may
