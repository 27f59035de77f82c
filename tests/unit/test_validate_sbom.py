"""Packages of two releases: what went back, what is denied, what is too new, what nobody knows."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.validate.licenses import denied_by
from orchestrator.validate.results import Judged, ValidationResult, to_json
from orchestrator.validate.sbom_delta import check
from orchestrator.validate.values import Broken, CheckName, Finding, Gap, NotChecked, Outcome, Passed
from orchestrator.validation_rules import ValidationRules
from tests.unit.release_maker import drop, put
from tests.unit.validate_maker import Changes, first, package, pair, with_packages

ZSTD = "pkg:deb/debian/libzstd1@1.5.4%2Bdfsg2-5?arch=amd64"
DENIES = ValidationRules(denied_licenses=("AGPL-*",))


def rules_of(outcome: Outcome) -> set[str]:
    assert isinstance(outcome, Broken), outcome
    return {each.rule for each in outcome.findings}


def libzstd(version: str, license_: str = "BSD-3-Clause") -> dict[str, object]:
    return package("libzstd1", version, f"pkg:deb/debian/libzstd1@{version}?arch=amd64", license_)


def test_the_same_packages_pass(tmp_path: Path) -> None:
    same = with_packages(libzstd("1.5.4+dfsg2-5"))
    assert check(pair(tmp_path, same, same)) == Passed()


def test_an_upgrade_passes_and_is_told(tmp_path: Path) -> None:
    # As text, 1.5.10 comes before 1.5.4.
    outcome = check(pair(tmp_path, with_packages(libzstd("1.5.10-1")), with_packages(libzstd("1.5.4-5"))))
    assert isinstance(outcome, Passed)
    assert "hello/armv7: package debian/libzstd1 changed from 1.5.4-5 to 1.5.10-1" in outcome.notes


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [("deb/debian", "1.5.4-5", "1.5.4-5~bpo1"), ("deb/debian", "1:1.0-1", "2.0-1"), ("pypi", "2.0", "2.0rc1"),
     ("npm", "1.10.0", "1.9.0"), ("golang", "v1.0.0", "v1.0.0-rc.1")],
)  # fmt: skip
def test_a_package_that_went_back_is_refused(tmp_path: Path, kind: str, old: str, new: str) -> None:
    def part(version: str) -> Changes:
        return with_packages(package("part", version, f"pkg:{kind}/part@{version}"))

    outcome = check(pair(tmp_path, part(new), part(old)))
    assert rules_of(outcome) == {"downgraded"}
    assert isinstance(outcome, Broken)
    assert {each.place for each in outcome.findings} == {f"hello/{target}: {kind.partition('/')[2]}/part".replace(
        ": /", ": ") for target in ("aarch64", "armv7")}  # fmt: skip
    assert f"went back from {old} to {new}" in outcome.findings[0].text
    assert isinstance(check(pair(tmp_path / "other way", part(old), part(new))), Passed)


def test_a_build_tool_that_went_back_is_refused(tmp_path: Path) -> None:
    def gcc(version: str) -> Changes:
        return with_packages(package("gcc", version, f"pkg:deb/debian/gcc@{version}"), relation="BUILD_TOOL_OF")

    assert rules_of(check(pair(tmp_path, gcc("12.2.0-3"), gcc("12.2.0-14")))) == {"tool_downgraded"}
    assert isinstance(check(pair(tmp_path / "2", gcc("12.2.0-14"), gcc("12.2.0-3"))), Passed)


def test_a_denied_licence_that_is_new_is_refused(tmp_path: Path) -> None:
    denied = with_packages(libzstd("1.5", "MIT AND AGPL-3.0-only"))
    outcome = check(pair(tmp_path, denied, with_packages(libzstd("1.5", "MIT")), DENIES))
    assert rules_of(outcome) == {"license_denied"}
    assert rules_of(check(first(tmp_path / "first", denied, DENIES))) == {"license_denied"}


def test_a_denied_licence_may_stay_be_chosen_away_or_build(tmp_path: Path) -> None:
    denied = with_packages(libzstd("1.5", "AGPL-3.0-only"))
    assert isinstance(check(pair(tmp_path / "1", denied, denied, DENIES)), Passed)
    chosen = with_packages(libzstd("1.5", "MIT OR AGPL-3.0-only"))
    assert isinstance(check(pair(tmp_path / "2", chosen, None, DENIES)), Passed)
    tool = with_packages(libzstd("1.5", "AGPL-3.0-only"), relation="BUILD_TOOL_OF")
    assert isinstance(check(pair(tmp_path / "3", tool, None, DENIES)), Passed)


def test_a_licence_that_nobody_knows_is_not_checked(tmp_path: Path) -> None:
    unknown = with_packages(libzstd("1.5", "NOASSERTION"))
    outcome = check(pair(tmp_path, unknown, None, DENIES))
    assert isinstance(outcome, NotChecked)
    assert {each.rule for each in outcome.gaps} == {"license_unknown"}
    assert isinstance(check(pair(tmp_path / "no rule", unknown, None)), Passed)


def test_too_many_new_packages_are_refused(tmp_path: Path) -> None:
    three = with_packages(*(package(f"part{number}", "1") for number in range(3)))
    outcome = check(pair(tmp_path, three, None, ValidationRules(max_new_packages=2)))
    assert rules_of(outcome) == {"new_packages"}
    assert isinstance(outcome, Broken)
    assert "part0, part1, part2" in outcome.findings[0].text
    # Three targets with the same packages hold three of them.
    assert isinstance(check(pair(tmp_path / "2", three, None, ValidationRules(max_new_packages=3))), Passed)


def test_documents_that_tell_of_different_packages_are_refused(tmp_path: Path) -> None:
    hidden = Changes(spdx=with_packages(libzstd("1.5")).spdx)
    assert rules_of(check(pair(tmp_path, hidden))) == {"documents_differ"}


def test_one_document_is_enough_and_none_is_not(tmp_path: Path) -> None:
    def strip(document: dict[str, object]) -> None:
        document.clear()

    older = with_packages(libzstd("1.4"))
    cyclonedx = with_packages(libzstd("1.3")).cyclonedx
    assert rules_of(check(pair(tmp_path / "1", Changes(spdx=strip, cyclonedx=cyclonedx), older))) == {"downgraded"}
    for number, (new, old) in enumerate([(Changes(spdx=strip, cyclonedx=strip), None),
                                         (None, Changes(spdx=strip, cyclonedx=strip))]):  # fmt: skip
        outcome = check(pair(tmp_path / f"none {number}", new, old))
        assert isinstance(outcome, NotChecked)
        assert {each.rule for each in outcome.gaps} == {"sbom"}


def test_a_broken_document_raises(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        check(pair(tmp_path, Changes(spdx=drop("relationships"))))
    with pytest.raises((TypeError, AttributeError)):
        check(pair(tmp_path / "2", Changes(spdx=put("packages", value=[1]))))


def test_a_new_target_is_held_against_all_that_was_there(tmp_path: Path) -> None:
    part = with_packages(package("part", "1"))
    only = Changes(spdx=part.spdx, cyclonedx=part.cyclonedx, made_for=("aarch64",))
    rules = ValidationRules(max_new_packages=0)
    assert isinstance(check(pair(tmp_path, part, only, rules)), Passed)
    assert rules_of(check(pair(tmp_path / "2", part, Changes(made_for=("aarch64",)), rules))) == {"new_packages"}


@pytest.mark.parametrize(
    ("told", "globs", "denied"),
    [
        ("GNU General Public License v3 or later", ("GNU General*",), "GNU General Public License v3 or later"),
        ("GPLv3 or later", ("GPL*",), "GPLv3 or later"),
        ("MIT and AGPL-3.0-only", ("AGPL-*",), "AGPL-3.0-only"),
        ("MIT and (BSD-3-Clause OR AGPL-3.0-only)", ("AGPL-*",), "AGPL-3.0-only"),
        ("MIT OR AGPL-3.0-only", ("AGPL-*",), ""),
        ("BSD with order of notices", ("GPL*",), ""),
    ],
)
def test_only_capitals_make_a_choice_of_licences(told: str, globs: tuple[str, ...], denied: str) -> None:
    assert denied_by(told, globs, {}) == denied


def test_text_that_is_no_text_does_not_end_the_report() -> None:
    half = "a\ud800\udcff"
    judged = Judged(
        check=CheckName.SBOM_DELTA, findings=(Finding(rule="x", place=half, text=half),),
        gaps=(Gap(rule="y", place=half, reason=half),), notes=(half,),
    )  # fmt: skip
    day = datetime(2026, 1, 2, tzinfo=UTC)
    written = to_json(ValidationResult(version="1", subject="0", baseline=None, timestamp=day, checks=(judged,)))
    assert json.loads(written)["findings"][0]["text"] == r"a\ud800\udcff"
    assert json.loads(written)["notes"] == {"sbom_delta": [r"a\ud800\udcff"]}
