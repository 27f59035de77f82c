"""How two releases were built: builder, build type, source, toolchain and parameters."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.validate.slsa_delta import check
from orchestrator.validate.values import Broken, NotChecked, Passed
from orchestrator.validation_rules import Change, ValidationRules
from tests.unit.release_maker import put
from tests.unit.validate_maker import Changes, first, pair

EXTERNAL = ("predicate", "buildDefinition", "externalParameters")
DEPENDENCIES = ("predicate", "buildDefinition", "resolvedDependencies")
CHANGES: dict[str, tuple[Any, Change, str]] = {
    "builder": (put("predicate", "runDetails", "builder", "id", value="urn:x:y"), Change.BUILDER, "urn:x:y"),
    "build type": (put("predicate", "buildDefinition", "buildType", value="urn:x"), Change.BUILD_TYPE, "urn:x"),
    "source": (put(*EXTERNAL, "source", "uri", value="git+https://evil.example/hello#src"), Change.SOURCE,
               "evil.example"),
    "project": (put(*DEPENDENCIES, 0, "uri", value="git+https://evil.example/hello"), Change.SOURCE, "evil.example"),
    "toolchain": (put(*DEPENDENCIES, 2, "digest", value={"sha256": "d" * 64}), Change.TOOLCHAIN, "dddd"),
    "toolchain name": (put(*DEPENDENCIES, 2, "uri", value="urn:relbuild:toolchain:zig"), Change.TOOLCHAIN, "zig"),
    "commands": (put(*EXTERNAL, "recipe", "commands", value=[["make", "evil"]]), Change.PARAMETERS, "evil"),
    "network": (put(*EXTERNAL, "network", value=True), Change.PARAMETERS, "network"),
    "variable": (put(*EXTERNAL, "environment", "LD_PRELOAD", value="/x"), Change.PARAMETERS, "LD_PRELOAD"),
    "isolation": (put("predicate", "buildDefinition", "internalParameters", "isolation", value="none"),
                  Change.PARAMETERS, "isolation"),
}  # fmt: skip


def test_the_same_build_of_another_version_passes(tmp_path: Path) -> None:
    later = Changes(provenance=put(*EXTERNAL, "epoch", value=1_800_000_000))
    assert check(pair(tmp_path, later)) == Passed()


def test_other_bytes_of_the_same_source_pass(tmp_path: Path) -> None:
    newer = Changes(provenance=put(*EXTERNAL, "source", "digest", value={"sha256": "e" * 64}))
    assert check(pair(tmp_path, newer)) == Passed()


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_refused_and_may_be_allowed(tmp_path: Path, name: str) -> None:
    change, kind, word = CHANGES[name]
    changes = Changes(provenance=change, targets=("armv7",))
    outcome = check(pair(tmp_path, changes))
    assert isinstance(outcome, Broken)
    assert {(each.rule, each.place) for each in outcome.findings} == {(kind.value, "hello/armv7")}
    assert any(word in each.text for each in outcome.findings)
    others = frozenset(Change) - {kind}
    assert isinstance(check(pair(tmp_path / "others", changes, rules=ValidationRules(allow_changes=others))), Broken)
    allowed = check(pair(tmp_path / "allowed", changes, rules=ValidationRules(allow_changes=frozenset({kind}))))
    assert isinstance(allowed, Passed)
    assert any(word in note for note in allowed.notes)


@pytest.mark.parametrize(("old", "new", "same"), [
    ("pkg:pypi/zstd@1.5", "pkg:pypi/zstd@1.6", True),
    ("pkg:pypi/zstd@1.5", "pkg:pypi/zstd-evil@1.6", False),
    ("git+ssh://git@good.example/a", "git+ssh://git@evil.example/a", False),
])  # fmt: skip
def test_the_version_of_an_outside_source_may_change_and_its_place_may_not(
    tmp_path: Path, old: str, new: str, same: bool
) -> None:
    after, before = (Changes(provenance=put(*EXTERNAL, "source", "uri", value=uri)) for uri in (new, old))
    assert isinstance(check(pair(tmp_path, after, before)), Passed) is same


def test_without_provenance_nothing_was_checked(tmp_path: Path) -> None:
    def strip(document: dict[str, object]) -> None:
        document.clear()

    for number, sides in enumerate([(Changes(provenance=strip), None), (None, Changes(provenance=strip))]):
        outcome = check(pair(tmp_path / str(number), *sides))
        assert isinstance(outcome, NotChecked)
        assert {each.rule for each in outcome.gaps} == {"provenance"}
    assert isinstance(check(first(tmp_path / "first", Changes(provenance=strip))), NotChecked)
    assert isinstance(check(first(tmp_path / "first good")), Passed)


@pytest.mark.parametrize(("name", "rule"), [("builder", "builder"), ("source", "source"), ("commands", "")])
def test_a_new_target_comes_from_a_builder_and_a_place_that_are_known(tmp_path: Path, name: str, rule: str) -> None:
    new = Changes(provenance=CHANGES[name][0], targets=("armv7",))
    outcome = check(pair(tmp_path, new, Changes(made_for=("aarch64",))))
    if rule:
        assert isinstance(outcome, Broken)
        assert {(each.rule, each.place) for each in outcome.findings} == {(rule, "hello/armv7")}
    else:
        assert isinstance(outcome, Passed)
