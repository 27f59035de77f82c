"""Smoke outputs of two releases, and of the targets of one."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.validate.behavioral import check
from orchestrator.validate.values import Broken, NotChecked, Passed
from orchestrator.validation_rules import ValidationRules
from tests.unit.release_maker import put
from tests.unit.validate_maker import HELLO, Changes, first, pair

OTHER = "f" * 64


def runs(*given: tuple[str, int, str]) -> Any:
    rows = [{"run": command.split(), "exit": code, "stdout_sha256": digest} for command, code, digest in given]

    def change(entry: Any) -> None:
        entry["made"]["smoke"] |= {"tests": len(rows), "runs": rows}

    return change


def smoke(**fields: object) -> Any:
    def change(entry: Any) -> None:
        entry["made"]["smoke"] |= fields

    return change


def unrecorded(entry: Any) -> None:
    del entry["made"]["smoke"]["runs"]


def test_the_same_outputs_pass(tmp_path: Path) -> None:
    assert check(pair(tmp_path)) == Passed()
    more = Changes(entry=runs(("bin/hello", 0, HELLO), ("bin/hello --new", 0, OTHER)))
    assert check(pair(tmp_path / "more", more)) == Passed()


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        (("bin/hello", 0, OTHER), {"output_changed", "targets_differ"}),
        (("bin/hello", 1, HELLO), {"exit_changed", "targets_differ"}),
        (("bin/hello --other", 0, HELLO), {"command_gone"}),
    ],
)
def test_another_output_on_one_target_is_refused(tmp_path: Path, given: tuple[str, int, str], rules: set[str]) -> None:
    outcome = check(pair(tmp_path, Changes(entry=runs(given), targets=("armv7",))))
    assert isinstance(outcome, Broken)
    assert {each.rule for each in outcome.findings} == rules
    assert {each.place for each in outcome.findings} == {"hello/armv7"}


def test_of_two_answers_the_one_that_the_baseline_knew_is_right(tmp_path: Path) -> None:
    for target in ("aarch64", "armv7"):
        outcome = check(pair(tmp_path / target, Changes(entry=runs(("bin/hello", 0, OTHER)), targets=(target,))))
        assert isinstance(outcome, Broken)
        assert {each.place for each in outcome.findings} == {f"hello/{target}"}


def test_another_output_on_all_targets_is_refused_unless_it_may_change(tmp_path: Path) -> None:
    changed = Changes(entry=runs(("bin/hello", 0, OTHER)))
    outcome = check(pair(tmp_path, changed))
    assert isinstance(outcome, Broken)
    assert {(each.rule, each.place) for each in outcome.findings} == {
        ("output_changed", "hello/aarch64"), ("output_changed", "hello/armv7"),
    }  # fmt: skip
    free = ValidationRules(changing_outputs=("bin/hell?",))
    allowed = check(pair(tmp_path / "allowed", changed, rules=free))
    assert isinstance(allowed, Passed)
    assert len(allowed.notes) == 2
    fails = Changes(entry=runs(("bin/hello", 1, OTHER)))
    assert isinstance(check(pair(tmp_path / "exit", fails, rules=free)), Broken)


def test_targets_that_differ_are_refused_in_a_first_release_too(tmp_path: Path) -> None:
    odd = Changes(entry=runs(("bin/hello", 0, OTHER)), targets=("armv7",))
    outcome = check(first(tmp_path, odd))
    assert isinstance(outcome, Broken)
    assert {(each.rule, each.place) for each in outcome.findings} == {("targets_differ", "hello/armv7")}
    free = ValidationRules(different_outputs=("bin/hello",))
    assert isinstance(check(first(tmp_path / "allowed", odd, free)), Passed)
    fails = Changes(entry=runs(("bin/hello", 1, OTHER)), targets=("armv7",))
    assert isinstance(check(first(tmp_path / "exit", fails, free)), Broken)


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        (smoke(how="not run", note="no QEMU", runs=[]), "not_run"),
        (smoke(how="none", tests=0, runs=[]), "no_smoke"),
        (unrecorded, "not_recorded"),
        (smoke(tests=2), "not_recorded"),
        (smoke(tests=0, runs=[]), "not_recorded"),
    ],
)
def test_what_did_not_run_was_not_checked(tmp_path: Path, entry: Any, rule: str) -> None:
    outcome = check(pair(tmp_path, Changes(entry=entry, targets=("armv7",))))
    assert isinstance(outcome, NotChecked)
    assert {(each.rule, each.place) for each in outcome.gaps} == {(rule, "hello/armv7")}
    assert isinstance(check(first(tmp_path / "first", Changes(entry=entry, targets=("armv7",)))), NotChecked)


@pytest.mark.parametrize("entry", [unrecorded, smoke(how="not run", note="no QEMU", runs=[])])
def test_a_baseline_without_record_is_not_checked(tmp_path: Path, entry: Any) -> None:
    outcome = check(pair(tmp_path, None, Changes(entry=entry)))
    assert isinstance(outcome, NotChecked)
    assert len(outcome.gaps) == 2


def test_a_program_that_was_not_tested_before_has_nothing_to_compare(tmp_path: Path) -> None:
    assert check(pair(tmp_path, None, Changes(entry=smoke(how="none", tests=0, runs=[])))) == Passed()


def test_a_command_that_is_tested_twice_is_compared_in_its_order(tmp_path: Path) -> None:
    twice = Changes(entry=runs(("bin/hello", 0, HELLO), ("bin/hello", 0, OTHER)))
    turned = Changes(entry=runs(("bin/hello", 0, OTHER), ("bin/hello", 0, HELLO)))
    assert check(pair(tmp_path, twice, twice)) == Passed()
    assert isinstance(check(pair(tmp_path / "turned", turned, twice)), Broken)


def test_put_keeps_the_form_of_the_manifest(tmp_path: Path) -> None:
    # The maker's own changes are seen: a note on one target is read back.
    noted = first(tmp_path, Changes(entry=put("made", "smoke", "note", value="slow"), targets=("armv7",)))
    assert [each.smoke_note for each in noted.new.artifacts] == ["", "slow"]
