"""The runner, waivers and results: what was not seen never passes, and nothing is let through but what was judged."""

import dataclasses
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from builders.errors import Interrupted
from orchestrator.errors import ManifestInvalid, StagingError, ValidationFailed, ValidationRequired, WaiverInvalid
from orchestrator.validate.results import ERRORS, ValidationResult, to_json
from orchestrator.validate.runner import CHECKS, compare, validate
from orchestrator.validate.sides import open_side
from orchestrator.validate.values import (
    Broken,
    Check,
    CheckName,
    Compared,
    Finding,
    Gap,
    NotChecked,
    Outcome,
    Passed,
    outcome_of,
)
from orchestrator.validate.waivers import RAISED, read_waivers
from orchestrator.validation_evidence import parse_validation, read_validation
from orchestrator.validation_rules import Severity, ValidationRules
from orchestrator.verify.json_strict import BadJson
from tests.unit.release_maker import canonical, put
from tests.unit.validate_maker import Changes, first, make, pair, side

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)
ERROR = Finding(rule="bad", place="hello/armv7: bin/hello", text="it is bad")
WARNING = dataclasses.replace(ERROR, rule="odd", severity=Severity.WARN)
GAP = Gap(rule="unseen", place="hello/armv7", reason="nobody could look")
ALL_PASS: dict[CheckName, Check] = {name: lambda _: Passed(notes=("seen",)) for name in CheckName}


def checks(**outcomes: Callable[[Compared], Outcome]) -> dict[CheckName, Check]:
    return {**ALL_PASS, **{CheckName(name): check for name, check in outcomes.items()}}


def judged(folder: Path, waivers: str = "", **outcomes: Callable[[Compared], Outcome]) -> ValidationResult:
    return validate(pair(folder), waived(folder, waivers) if waivers else (), NOW, checks(**outcomes))


def waived(folder: Path, text: str, now: datetime = NOW) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "waivers.toml").write_text(text, encoding="utf-8")
    return read_waivers(folder / "waivers.toml", now.date())


def waiver(rule: str, place: str = "*", **changes: str) -> str:
    fields = {"rule": rule, "place": place, "owner": "Ann", "reason": "known", "expires": "2030-01-31", **changes}
    return "[[waivers]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items() if value != "-")


def raises(error: Exception) -> Callable[[Compared], Outcome]:
    def check(_: Compared) -> Outcome:
        raise error

    return check


# --- the runner --------------------------------------------------------------------------------------------------


def test_six_checks_that_pass_are_a_pass(tmp_path: Path) -> None:
    result = judged(tmp_path)
    assert (result.passed, result.exit_code, len(result.checks)) == (True, 0, 6)
    assert set(CHECKS) == set(CheckName)


@pytest.mark.parametrize("name", CheckName)
@pytest.mark.parametrize("outcome", [Broken(findings=(ERROR,)), NotChecked(gaps=(GAP,))], ids=["broken", "unseen"])
def test_one_check_that_did_not_pass_has_its_own_code(tmp_path: Path, name: CheckName, outcome: Outcome) -> None:
    result = validate(pair(tmp_path), (), NOW, {**ALL_PASS, name: lambda _: outcome})
    assert (result.passed, result.exit_code) == (False, ERRORS[name].exit_code)
    assert json.loads(to_json(result))["checks"][f"{name}_passed"] is False


def test_the_codes_are_those_of_the_list() -> None:
    assert [ERRORS[name].exit_code for name in CheckName] == [51, 52, 53, 54, 55, 56]


def test_several_have_the_code_of_several(tmp_path: Path) -> None:
    result = judged(
        tmp_path, security=lambda _: Broken(findings=(ERROR,)), performance=lambda _: NotChecked(gaps=(GAP,))
    )
    assert (result.passed, result.exit_code) == (False, 50)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("y"), ValidationFailed("z"), RecursionError()])
def test_a_check_that_raises_has_failed_and_nobody_can_waive_it(tmp_path: Path, error: Exception) -> None:
    result = judged(tmp_path, security=raises(error))
    assert result.exit_code == 55
    assert result.checks[4].failures[0].rule == RAISED
    with pytest.raises(WaiverInvalid, match="no rule"):
        waived(tmp_path, waiver(f"security.{RAISED}"))


def test_an_interrupt_is_no_finding(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        judged(tmp_path, security=raises(Interrupted("stopped")))


@pytest.mark.parametrize("answer", [None, True, "passed", Passed])
def test_an_answer_that_is_no_outcome_has_failed(tmp_path: Path, answer: Any) -> None:
    assert judged(tmp_path, security=lambda _: answer).exit_code == 55


def test_a_check_that_nobody_made_was_not_made(tmp_path: Path) -> None:
    result = validate(pair(tmp_path), (), NOW, {name: check for name, check in ALL_PASS.items() if name != "security"})
    assert (result.passed, result.exit_code) == (False, 55)
    less = dataclasses.replace(result, checks=tuple(each for each in result.checks if each.passed))
    assert (less.passed, less.exit_code) == (False, 50)


def test_outcomes_without_a_name_for_what_is_wrong_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="error"):
        Broken(findings=(WARNING,))
    with pytest.raises(ValueError, match="name"):
        NotChecked(gaps=())
    assert outcome_of([WARNING]) == Passed(warnings=(WARNING,))
    assert outcome_of([dataclasses.replace(ERROR, severity=Severity.IGNORE)]) == Passed()
    assert isinstance(outcome_of([WARNING], [GAP]), NotChecked)
    assert isinstance(outcome_of([WARNING, ERROR], [GAP]), Broken)


def test_a_warning_is_told_and_lets_pass(tmp_path: Path) -> None:
    result = judged(tmp_path, security=lambda _: Passed(warnings=(WARNING,)))
    assert result.passed
    assert json.loads(to_json(result))["findings"][0]["severity"] == "warn"


def test_an_artifact_that_is_gone_is_a_finding(tmp_path: Path) -> None:
    result = validate(pair(tmp_path, Changes(made_for=("aarch64",))), (), NOW, ALL_PASS)
    assert (result.exit_code, [each.rule for each in result.checks[2].failures]) == (53, ["artifact_gone"])
    assert "hello_1.0.0_linux_armv7.tar.gz" in result.checks[2].failures[0].text
    added = validate(pair(tmp_path / "more", None, Changes(made_for=("aarch64",))), (), NOW, ALL_PASS)
    assert added.passed


# --- waivers -----------------------------------------------------------------------------------------------------


def test_a_waiver_lifts_a_finding_or_a_gap_and_is_told(tmp_path: Path) -> None:
    text = waiver("security.bad", "hello/armv7: bin/*") + waiver("performance.unseen", "hello/*", reason="no QEMU")
    result = judged(
        tmp_path, text, security=lambda _: Broken(findings=(ERROR,)), performance=lambda _: NotChecked(gaps=(GAP,))
    )
    assert (result.passed, len(result.waivers), result.idle) == (True, 2, ())
    told = json.loads(to_json(result))
    assert told["findings"][0]["waived"] == "known (Ann, until 2030-01-31)"
    assert told["not_checked"][0]["waived"] == "no QEMU (Ann, until 2030-01-31)"
    assert {each["rule"]: each["owner"] for each in told["waived"]} == {
        "security.bad": "Ann",
        "performance.unseen": "Ann",
    }


@pytest.mark.parametrize(
    "text",
    [waiver("security.other"), waiver("performance.bad"), waiver("security.bad", "hello/aarch64*"),
     waiver("security.bad", "hello/armv7")],
)  # fmt: skip
def test_a_waiver_of_something_else_lifts_nothing(tmp_path: Path, text: str) -> None:
    result = judged(tmp_path, text, security=lambda _: Broken(findings=(ERROR,)))
    assert (result.exit_code, result.waivers, len(result.idle)) == (55, (), 1)


def test_a_waiver_of_one_finding_leaves_the_others(tmp_path: Path) -> None:
    both = (ERROR, dataclasses.replace(ERROR, place="hello/aarch64: bin/hello"))
    result = judged(tmp_path, waiver("security.bad", "hello/armv7*"), security=lambda _: Broken(findings=both))
    assert [each.place for each in result.checks[4].failures] == ["hello/aarch64: bin/hello"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (waiver("security.bad", expires="2030-01-30"), "expired on 2030-01-30"),
        (waiver("security.bad", expires="-"), "no date"),
        (waiver("security.bad", expires="soon"), "no date"),
        (waiver("security.bad", owner="-"), "no owner"),
        (waiver("security.bad", owner=" "), "no owner"),
        (waiver("security.bad", reason=""), "no reason"),
        (waiver("security.bad", place=""), "no place"),
        (waiver("bad"), "no rule"),
        (waiver("safety.bad"), "no rule"),
        (waiver("security.*"), "no rule"),
        (waiver("security.bad", until="2030-01-31"), "no table"),
        ("waivers = [1]", "no table"),
        ("waivers = 1", "something else"),
        ("[[waiver]]\nrule = 1", "something else"),
        ("[[waivers]", "no TOML"),
        ('{"waivers": [', "no TOML"),
    ],
)
def test_a_waiver_that_does_not_hold_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(WaiverInvalid, match=words) as caught:
        waived(tmp_path, text)
    assert (caught.value.exit_code, bool(caught.value.next_step)) == (58, True)


def test_all_waivers_that_do_not_hold_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(WaiverInvalid, match=r"waiver 1: .*\n.*waiver 3: "):
        waived(tmp_path, waiver("x") + waiver("security.bad") + waiver("y"))
    with pytest.raises(WaiverInvalid, match="cannot be read"):
        read_waivers(tmp_path / "none.toml", NOW.date())


def test_waivers_may_be_json_and_dates_of_toml(tmp_path: Path) -> None:
    dated = waiver("security.bad").replace('"2030-01-31"', "2030-01-31")
    assert waived(tmp_path, dated) == waived(tmp_path, waiver("security.bad"))
    entry = {"rule": "security.bad", "place": "*", "owner": "Ann", "reason": "known", "expires": "2030-01-31"}
    assert waived(tmp_path, json.dumps({"waivers": [entry]})) == waived(tmp_path, dated)


# --- results, as publication reads them --------------------------------------------------------------------------


def test_publication_reads_what_validation_writes(tmp_path: Path) -> None:
    result = judged(tmp_path, waiver("security.bad"), security=lambda _: Broken(findings=(ERROR,)))
    read = parse_validation(to_json(result), NOW, whole=True)
    assert (read.report.subject, read.report.passed) == (result.subject, True)
    assert dict(read.report.checks) == {name.value: True for name in CheckName}
    assert read.listed["baseline"] == "1.0.0"
    assert read.listed["waived"] == "security.bad at *: known (Ann, until 2030-01-31)"
    assert "waived: security.bad" in read.report.text
    failed = parse_validation(to_json(judged(tmp_path / "2", security=lambda _: NotChecked(gaps=(GAP,)))), NOW)
    assert (failed.report.passed, failed.report.exit_code) == (False, 55)
    assert "security.unseen at hello/armv7: nobody could look" in failed.report.text
    alone = parse_validation(to_json(validate(first(tmp_path / "3"), (), NOW, ALL_PASS)), NOW)
    assert alone.listed["baseline"] == "none"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("checks", "security_passed", value=True), "in spite of bad"),
        (put("findings", 0, "waived", value="because"), "without a waiver"),
        (put("not_checked", value=[{"check": "performance", "rule": "r", "place": "p", "text": "t", "waived": ""}]),
         "in spite of r"),
        (lambda told: told["checks"].pop("security_passed"), "lacks security_passed"),
        (put("subject", value="0"), "SHA-256"),
        (put("surprise", value=1), "nobody knows"),
    ],
)  # fmt: skip
def test_a_result_that_was_bent_is_refused(tmp_path: Path, change: Callable[[Any], object], words: str) -> None:
    told = json.loads(to_json(judged(tmp_path, security=lambda _: Broken(findings=(ERROR,)))))
    assert parse_validation(canonical(told), NOW, whole=True).report.exit_code == 55
    change(told)
    with pytest.raises(BadJson, match=words):
        parse_validation(canonical(told), NOW, whole=True)
    (tmp_path / "result.json").write_bytes(canonical(told))
    with pytest.raises(ValidationRequired, match=words):
        read_validation(tmp_path / "result.json", NOW, whole=True)


def test_a_result_dies_with_its_waiver(tmp_path: Path) -> None:
    written = to_json(judged(tmp_path, waiver("security.bad"), security=lambda _: Broken(findings=(ERROR,))))
    assert parse_validation(written, NOW.replace(hour=23)).report.passed
    with pytest.raises(BadJson, match="expired on 2030-01-31"):
        parse_validation(written, datetime(2030, 2, 1, tzinfo=UTC))


# --- sides -------------------------------------------------------------------------------------------------------


def test_artifacts_are_paired_by_product_and_target(tmp_path: Path) -> None:
    compared = pair(tmp_path)
    assert {(each.new.path, each.old.path if each.old else "") for each in compared.pairs} == {
        (f"hello_1.1.0_linux_{target}.tar.gz", f"hello_1.0.0_linux_{target}.tar.gz") for target in ("aarch64", "armv7")
    }
    assert compared.gone == ()


def test_several_artifacts_of_one_cell_are_paired_by_name_without_the_version(tmp_path: Path) -> None:
    one = Changes(entry=put("target", value="aarch64"))
    paths = [(each.new.target, each.new.path, each.old and each.old.path) for each in pair(tmp_path, one, one).pairs]
    assert paths == [
        ("aarch64", f"hello_1.1.0_linux_{target}.tar.gz", f"hello_1.0.0_linux_{target}.tar.gz")
        for target in ("aarch64", "armv7")
    ]


def test_a_payload_is_unpacked_once_without_its_root_folder(tmp_path: Path) -> None:
    read = side(tmp_path, "1.0.0", Changes(files={"bin/hello": b"hello", "doc/x": b"y"}))
    folder = read.payload(read.artifacts[0])
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {"bin/hello", "doc/x"}
    assert (folder / "bin" / "hello").stat().st_mode & 0o100
    (folder / "mark").touch()
    assert (read.payload(read.artifacts[0]) / "mark").exists()


@pytest.mark.parametrize("name", ["hello_1.0.0_linux_armv7.tar.gz", "hello_1.0.0_linux_armv7.tar.gz.spdx.json",
                                  "hello_1.0.0_linux_armv7.tar.gz.provenance.json"])  # fmt: skip
def test_other_bytes_than_the_manifest_promises_are_refused(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path, "1.0.0")
    open_side(folder, tmp_path / "room")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValidationFailed, match=re.escape(name)):
        open_side(folder, tmp_path / "room")
    (folder / name).unlink()
    with pytest.raises(ValidationFailed, match="cannot be read"):
        open_side(folder, tmp_path / "room")


def test_an_archive_with_other_files_than_the_manifest_lists_is_refused(tmp_path: Path) -> None:
    for number, change in enumerate(
        (put("files", value=[]), put("files", 0, "sha256", value="0" * 64), put("files", 0, "path", value="bin/other"),
         put("root", value="elsewhere"))
    ):  # fmt: skip
        read = side(tmp_path / str(number), "1.0.0", Changes(entry=change))
        with pytest.raises(ValidationFailed, match="other files"):
            read.payload(read.artifacts[0])


def test_an_archive_that_leads_out_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="is not a name"):
        side(tmp_path, "1.0.0", Changes(files={"../../../../outside": b"x"}))
    assert not list(tmp_path.rglob("outside"))


def test_what_is_no_release_is_no_side(tmp_path: Path) -> None:
    with pytest.raises(StagingError):
        open_side(tmp_path / "none", tmp_path / "room")
    (tmp_path / "1.0.0").mkdir()
    with pytest.raises(ManifestInvalid):
        open_side(tmp_path / "1.0.0", tmp_path / "room")


def test_all_checks_of_this_project_run_over_a_first_release(tmp_path: Path) -> None:
    compared = compare(side(tmp_path, "1.0.0"), None, ValidationRules())
    result = validate(compared, (), NOW)
    assert [each.check for each in result.checks] == list(CheckName)
    assert not [each for one in result.checks for each in one.findings if each.rule == RAISED]
