"""Validation by the command line: real releases of a real program, each a small edit away from the one before."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_trusted_release import built as trusted

ROOT = Path(__file__).parents[2]
RELBUILD = (sys.executable, "-P", "-c", "from orchestrator.cli import main; main()")
SOURCE = """
#include <stdio.h>
int main(int argc, char **argv) { (void)argv; puts("hello"); return argc > 1 ? 3 : 0; }
"""
ONE_TARGET = """
#include <stdio.h>
int main(int argc, char **argv) {
  (void)argv;
#ifdef __aarch64__
  puts("hallo");
#else
  puts("hello");
#endif
  return argc > 1 ? 3 : 0;
}
"""
# What a build takes and how fast a program starts has tests of its own; here, other tests run beside it.
CALM = "startup_budget = 1000\nbuild_time_budget = 1000\n"
SECURITY = '[validate.security]\nvulnerabilities = "ignore"\n'
MATRIX = """
[project]
name = "hello"
version = "{version}"
license = "{license}"
[products.hello]
source = "src"
recipe = "command"
glibc = "2.34"
targets = ["x86_64", "aarch64"]
run = '$CC $CFLAGS -fPIE -pie -fstack-protector-strong {flags} -s -o "$OUT/hello" hello.c'
outputs = ["hello"]
smoke = [{{ run = ["hello"] }}, {{ run = ["hello", "--fail"], exit = 3 }}]
[signing]
trust = "keys/trust.json"
signers = [{{ key_file = "keys/release.key" }}]
[repository]
kind = "local"
path = "repository"
audit_key = "keys/audit.key"
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Project:
    """A folder with a project that publishes, and the program that works on it."""

    folder: Path

    def relbuild(self, *arguments: object) -> Done:
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder / "home"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*RELBUILD, *map(str, arguments)], cwd=self.folder, env=env, capture_output=True, text=True, timeout=800,
            check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def good(self, *arguments: object) -> Done:
        done = self.relbuild(*arguments)
        assert done.code == 0, done.said
        return done

    def write(self, version: str, source: str = SOURCE, rules: str | None = "", **fields: str) -> None:
        """Write the project as it is at a version. `rules` of None leaves [validate] out."""
        matrix = MATRIX.format(version=version, **{"license": "Apache-2.0", "flags": "", **fields})
        matrix += f"[validate]\n{CALM}{rules}\n{SECURITY}" if rules is not None else ""
        (self.folder / "matrix.toml").write_text(matrix, encoding="utf-8")
        (self.folder / "src" / "hello.c").write_text(source, encoding="utf-8")

    def stage(self, version: str, source: str = SOURCE, rules: str | None = "", **fields: str) -> None:
        self.write(version, source, rules, **fields)
        self.good("matrix", "--engine", "local")

    def validate(self, version: str, *more: object) -> tuple[int, Mapping[str, Any]]:
        (self.folder / "result.json").unlink(missing_ok=True)
        done = self.relbuild("validate", version, "--result", "result.json", *more)
        assert ("is valid" in done.out) == (done.code == 0), done.said
        return done.code, json.loads((self.folder / "result.json").read_bytes())

    def copy(self, to: Path) -> "Project":
        shutil.copytree(self.folder, to, ignore=shutil.ignore_patterns("zig"))
        (to / "dist" / "cache" / "zig").symlink_to(self.folder / "dist" / "cache" / "zig")
        return Project(to)


def broken(result: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (each["check"], each["rule"], each["place"])
        for each in (*result["findings"], *result["not_checked"])
        if not each["waived"] and each.get("severity") != "warn"
    }


@functools.cache
def published(base: Path) -> Project:
    """Publish 1.0.0, the first release, once for all tests: `release` builds, validates and promotes it."""
    folder = base / "validated"
    for name in ("src", "keys", "home"):
        (folder / name).mkdir(parents=True)
    shutil.copytree(trusted(base).folder / "dist" / "cache" / "zig", folder / "dist" / "cache" / "zig")
    shutil.copy(ROOT / "LICENSE", folder)
    project = Project(folder)
    trust = ("--no-passphrase", "--trust", "keys/trust.json")
    project.good("keys", "generate", "--out", "keys/release.key", *trust, "--project", "hello")
    project.good("keys", "generate", "--kind", "audit", "--out", "keys/audit.key", "--no-passphrase")
    rotated = ("--trust", "keys/trust.json", "--key", "keys/release.key", "--add", "keys/audit.pub")
    project.good("keys", "rotate", *rotated)
    project.write("1.0.0")
    done = project.good("release", "--engine", "local")
    assert "validation: passed" in done.out
    return project


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Project:
    return published(tmp_path_factory.getbasetemp()).copy(tmp_path / "project")


# --- releases that pass ------------------------------------------------------------------------------------------


def test_a_first_release_is_recorded_as_one(project: Project) -> None:
    audit = json.loads((project.folder / "repository" / "1.0.0.audit.json").read_bytes())
    assert (audit["validation"]["baseline"], audit["validation"]["passed"]) == ("none", True)
    kept = json.loads((project.folder / "dist" / "validation" / "1.0.0.json").read_bytes())
    assert kept["subject"] == audit["entry"]["manifest_sha256"]
    # The same bytes again change nothing.
    assert "published before with the same bytes" in project.good("release", "--engine", "local").out


def test_the_next_release_is_compared_with_the_last_good_one(project: Project) -> None:
    project.stage("1.0.1")
    code, result = project.validate("1.0.1")
    assert (code, result["passed"], result["baseline"]["version"]) == (0, True, "1.0.0"), result
    assert set(result["checks"].values()) == {True}
    told = json.loads(project.good("validate", "1.0.1", "--json").out)
    assert {**told, "timestamp": "", "notes": ""} == {**result, "timestamp": "", "notes": ""}
    # The very result may be brought along; the index then lists it.
    project.good("publish", "--version", "1.0.1", "--validation-result", "result.json")
    listed = json.loads(project.good("list", "--json", "--memory", "seen").out)["releases"]
    assert next(each for each in listed if each["version"] == "1.0.1")["validation"]["baseline"] == "1.0.0"


def test_a_machine_that_built_neither_of_both_can_publish_the_next_one(project: Project) -> None:
    project.stage("1.0.1")
    shutil.rmtree(project.folder / "dist" / "cells")
    code, result = project.validate("1.0.1")
    assert (code, result["checks"]["performance_passed"]) == (0, True), result
    told = [each for each in result["findings"] if each["rule"] == "build_time"]
    assert {each["severity"] for each in told} == {"warn"}
    assert all("not compared: " in each["text"] for each in told)
    project.write("1.0.1", rules='build_time = "require"')
    code, result = project.validate("1.0.1")
    assert (code, {each["rule"] for each in result["not_checked"]}) == (54, {"build_time"})
    assert project.relbuild("publish", "--version", "1.0.1").code == 31
    project.write("1.0.1")
    assert project.good("publish", "--version", "1.0.1").out.rstrip().endswith("published")


# --- releases that do not ----------------------------------------------------------------------------------------


def test_another_smoke_output_on_one_target(project: Project) -> None:
    project.stage("1.0.1", ONE_TARGET)
    code, result = project.validate("1.0.1")
    assert (code, {place for _, _, place in broken(result)}) == (56, {"hello/aarch64"})
    assert {rule for _, rule, _ in broken(result)} == {"output_changed", "targets_differ"}


def test_another_recipe(project: Project) -> None:
    project.stage("1.0.1", flags="-DOTHER=1")
    code, result = project.validate("1.0.1")
    assert code == 52
    assert {(check, rule) for check, rule, _ in broken(result)} == {("slsa_delta", "parameters")}
    assert "-DOTHER=1" in json.dumps(result["findings"])
    project.write("1.0.1", flags="-DOTHER=1", rules='allow_changes = ["parameters"]')
    assert project.validate("1.0.1")[0] == 0


def test_a_denied_licence(project: Project) -> None:
    project.stage("1.0.1", license="MIT AND AGPL-3.0-only", rules='denied_licenses = ["AGPL-*"]')
    code, result = project.validate("1.0.1")
    assert (code, {rule for _, rule, _ in broken(result)}) == (51, {"license_denied"})
    project.write("1.0.1", license="MIT AND AGPL-3.0-only", rules='denied_licenses = ["GPL-*"]')
    assert project.validate("1.0.1")[0] == 0


def test_two_reasons_have_a_code_of_their_own(project: Project) -> None:
    project.stage("1.0.1", ONE_TARGET, flags="-DOTHER=1")
    code, result = project.validate("1.0.1")
    assert (code, {check for check, _, _ in broken(result)}) == (50, {"slsa_delta", "behavioral"})


def test_a_target_that_is_gone(project: Project) -> None:
    project.write("1.0.1")
    project.good("matrix", "--engine", "local", "--targets", "x86_64")
    code, result = project.validate("1.0.1")
    assert (code, broken(result)) == (53, {("api_compat", "artifact_gone", "hello/aarch64")})


def test_what_was_not_checked_does_not_pass(project: Project) -> None:
    project.stage("1.0.1")
    matrix = project.folder / "matrix.toml"
    matrix.write_text(matrix.read_text().replace(SECURITY, ""))
    code, result = project.validate("1.0.1")
    assert (code, result["checks"]["security_passed"]) == (55, False)
    assert [each["rule"] for each in result["not_checked"]] == ["vulnerabilities"]
    assert project.relbuild("publish", "--version", "1.0.1").code == 31


# --- publication -------------------------------------------------------------------------------------------------


def test_31_a_release_that_failed_is_not_published(project: Project) -> None:
    project.write("1.0.1", ONE_TARGET)
    done = project.relbuild("release", "--engine", "local")
    assert (done.code, done.out.rstrip().rpartition("\n")[2]) == (31, "not published")
    assert "behavioral.output_changed at hello/aarch64" in done.err
    assert not (project.folder / "repository" / "1.0.1").exists()
    # Whoever brings a result along needs the right one: of this release, whole, and passed.
    assert project.validate("1.0.1")[0] == 56
    asked = ("publish", "--version", "1.0.1", "--validation-result")
    assert project.relbuild(*asked, "result.json").code == 31
    assert "other bytes" in project.relbuild(*asked, "dist/validation/1.0.0.json").err
    assert "cannot be read" in project.relbuild(*asked, "nothing.json").err
    told = json.loads((project.folder / "result.json").read_bytes())
    flat = {key: told[key] for key in ("schema", "subject", "timestamp")}
    less = {**flat, "passed": True, "exit_code": 0, "checks": {"sbom_delta_passed": True}}
    (project.folder / "less.json").write_text(json.dumps(less), encoding="utf-8")
    partial = project.relbuild(*asked, "less.json")
    assert (partial.code, "lacks slsa_delta_passed" in partial.err) == (31, True)


def test_lenient_policy_publishes_it_with_a_warning_and_says_so(project: Project) -> None:
    project.stage("1.0.1", ONE_TARGET)
    done = project.good("publish", "--version", "1.0.1", "--policy", "lenient")
    assert "validation failed (behavioral)" in done.said
    audit = json.loads((project.folder / "repository" / "1.0.1.audit.json").read_bytes())
    assert audit["validation"]["behavioral_passed"] is False


def test_without_validate_its_usual_rules_hold_and_a_gate_can_be_off(project: Project) -> None:
    project.write("1.0.1", ONE_TARGET, rules=None)
    refused = project.relbuild("release", "--engine", "local")
    assert (refused.code, "no release can pass" in refused.err) == (31, True), refused.err
    project.good("matrix", "--engine", "local")
    refused = project.relbuild("publish", "--version", "1.0.1")
    assert (refused.code, "no OSV database is given" in refused.err) == (31, True), refused.err
    project.write("1.0.1", ONE_TARGET, rules='gate = "off"')
    assert "validation: not done" in project.good("release", "--engine", "local").out


def test_a_waiver_lets_it_pass_and_lands_in_the_audit(project: Project) -> None:
    rules = ('[[waivers]]\nrule = "behavioral.output_changed"\nplace = "hello/*"\nowner = "Ann"\n'
             'reason = "German"\nexpires = 2099-01-31\n')  # fmt: skip
    (project.folder / "waivers.toml").write_text(rules, encoding="utf-8")
    project.stage("1.0.1", SOURCE.replace("hello", "hallo"), rules='waivers = "waivers.toml"')
    done = project.good("publish", "--version", "1.0.1", "--json-report", "report.json")
    assert (
        "warning: validation let pass behavioral.output_changed at hello/*: German (Ann, until 2099-01-31)" in done.out
    )
    audit = json.loads((project.folder / "repository" / "1.0.1.audit.json").read_bytes())
    assert audit["validation"]["waived"] == "behavioral.output_changed at hello/*: German (Ann, until 2099-01-31)"
    assert any("German" in each["text"] for each in audit["rules"] if each["rule"] == "validation")
    report = json.loads((project.folder / "report.json").read_bytes())
    assert "German" in report["validation"]["waived"]


def test_58_an_expired_waiver(project: Project) -> None:
    rules = '[[waivers]]\nrule = "behavioral.output_changed"\nplace = "*"\nowner = "Ann"\nreason = "x"\n'
    (project.folder / "old.toml").write_text(f"{rules}expires = 2020-01-31\n", encoding="utf-8")
    project.stage("1.0.1", rules='waivers = "old.toml"')
    done = project.relbuild("validate", "1.0.1")
    assert (done.code, "expired on 2020-01-31" in done.err) == (58, True)
    refused = project.relbuild("publish", "--version", "1.0.1")
    assert (refused.code, "WaiverInvalid" in refused.err) == (31, True)


# --- baselines ---------------------------------------------------------------------------------------------------


def test_57_baselines_that_cannot_be_used(project: Project) -> None:
    project.stage("1.0.1")
    for baseline, words in {
        "none": "this is no first release",
        "9.9.9": "'9.9.9' is not published",
        "./nowhere": "is not a folder",
        "dist/staging/1.0.1": "the release itself",
    }.items():
        done = project.relbuild("validate", "1.0.1", "--baseline", baseline)
        assert (done.code, words in done.err, "next:" in done.err) == (57, True, True), (baseline, done.said)


def test_57_a_baseline_that_was_changed_in_its_repository(project: Project) -> None:
    project.stage("1.0.1")
    artifact = project.folder / "repository" / "1.0.0" / "hello_1.0.0_linux_x86_64.tar.gz"
    artifact.chmod(0o644)
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"!")
    done = project.relbuild("validate", "1.0.1")
    assert (done.code, "other bytes than the signed index promises" in done.err) == (57, True), done.said
    refused = project.relbuild("publish", "--version", "1.0.1")
    assert (refused.code, "BaselineUnusable" in refused.err) == (31, True), refused.said


def test_57_a_baseline_that_is_revoked(project: Project) -> None:
    project.stage("1.0.1")
    project.good("revoke", "1.0.0", "--reason", "broken")
    assert "no release of the repository is active" in project.relbuild("validate", "1.0.1").err
    assert project.relbuild("validate", "1.0.1", "--baseline", "1.0.0").code == 57
    # Whoever knows better can still name a folder, which has to be signed.
    assert project.validate("1.0.1", "--baseline", "repository/1.0.0")[0] == 0


def test_a_folder_or_its_manifest_is_a_baseline_if_it_is_signed(project: Project) -> None:
    project.stage("1.0.1")
    for baseline in ("repository/1.0.0", "repository/1.0.0/manifest.json", "1.0.0"):
        assert project.validate("1.0.1", "--baseline", baseline)[1]["baseline"]["version"] == "1.0.0"
    unsigned = project.folder / "unsigned" / "1.0.0"
    shutil.copytree(project.folder / "repository" / "1.0.0", unsigned)
    for path in unsigned.glob("manifest.json.*"):
        path.unlink()
    done = project.relbuild("validate", "1.0.1", "--baseline", unsigned)
    assert (done.code, "cannot be used" in done.err) == (57, True), done.said


def test_a_yanked_release_is_not_the_last_good_one(project: Project) -> None:
    project.stage("1.0.1")
    project.good("publish", "--version", "1.0.1")
    project.good("yank", "1.0.1", "--reason", "slow")
    project.stage("1.0.2")
    assert project.validate("1.0.2")[1]["baseline"]["version"] == "1.0.0"
    assert project.validate("1.0.2", "--baseline", "1.0.1")[1]["baseline"]["version"] == "1.0.1"
