"""Releases of the real command line, rebuilt by it: in place, by a stranger, and where they differ."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builders.local import sandbox
from builders.targets import host
from builders.world import Axis
from orchestrator.errors import (
    NothingReproduced,
    NotReproducible,
    OriginUnavailable,
    PolicyViolation,
    RebuildFailed,
    ReproductionFailed,
)
from tests.integration.conftest import require_engine

ROOT = Path(__file__).parents[2]
RELBUILD = (sys.executable, "-P", "-c", "from orchestrator.cli import main; main()")
VERSION = "1.2.3"
HEAD = f"""
[project]
name = "hello"
version = "{VERSION}"
"""
SIGNED = """
[signing]
trust = "keys/trust.json"
signers = [{ key_file = "keys/release.key" }]
[repository]
kind = "local"
path = "../repository"
audit_key = "keys/audit.key"
[validate]
gate = "off"
[reproduce]
gate = "block"
"""
ALWAYS = {Axis.TIME_ZONE, Axis.LOCALE, Axis.UMASK, Axis.ENVIRONMENT, Axis.PATH}
"""What every builder of commands can vary wherever it runs."""


def product(run: str, name: str = "hello", more: str = "") -> str:
    return f"""
[products.{name}]
source = "src"
recipe = "command"
targets = ["{host().name}"]
outputs = ["{name}"]
run = '''
{run}
'''
{more}
"""


GOOD_RUN = 'cat data/* >"$OUT/hello"'


@dataclass(frozen=True)
class Project:
    """A folder with matrix.toml, a few files of source, and git."""

    folder: Path
    engine: str = "local"

    def relbuild(self, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        home = self.folder.parent / "home"
        home.mkdir(exist_ok=True)
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [*RELBUILD, *map(str, arguments)], cwd=cwd or self.folder, env=env, capture_output=True, text=True,
            timeout=800, check=False,
        )  # fmt: skip

    def good(self, *arguments: object, cwd: Path | None = None) -> str:
        done = self.relbuild(*arguments, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def write(self, matrix: str) -> None:
        (self.folder / "matrix.toml").write_text(f"{HEAD}{matrix}", encoding="utf-8")
        self.git("add", "-A")
        self.git("commit", "--allow-empty", "-qm", "changed")

    def release(self, matrix: str) -> None:
        self.write(matrix)
        self.good("matrix", "--engine", self.engine)

    def git(self, *arguments: str) -> None:
        who = {
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b",
        }
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **who}
        subprocess.run(["git", *arguments], cwd=self.folder, env=env, check=True, capture_output=True)

    def reproduced(self, *arguments: object, code: int = 0) -> Mapping[str, Any]:
        done = self.relbuild("reproduce", "--json", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        found: Mapping[str, Any] = json.loads(done.stdout)
        return found


def make_project(folder: Path, engine: str = "local") -> Project:
    project = Project(folder / "project", engine)
    for number in range(12):
        path = project.folder / "src" / "data" / f"{number:02}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n", encoding="utf-8")
    (project.folder / ".gitignore").write_text("keys\n", encoding="utf-8")
    project.git("init", "-q")
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One project for all tests of this file: what its compiler prepares once is then there."""
    return make_project(tmp_path_factory.mktemp("reproduce"))


def signed_project(folder: Path) -> Project:
    project = make_project(folder)
    keys = project.folder / "keys"
    keys.mkdir()
    plain = ("--no-passphrase",)
    project.good("keys", "generate", "--out", keys / "release.key", *plain, "--trust", keys / "trust.json",
                 "--project", "hello")  # fmt: skip
    project.good("keys", "generate", "--kind", "audit", "--out", keys / "audit.key", *plain)
    project.good("keys", "rotate", "--trust", keys / "trust.json", "--key", keys / "release.key",
                 "--add", keys / "audit.pub")  # fmt: skip
    return project


def only(said: Mapping[str, Any]) -> Mapping[str, Any]:
    built = [each for each in said["artifacts"] if each["cell"]]
    assert len(built) == 1
    found: Mapping[str, Any] = built[0]
    return found


def varied(artifact: Mapping[str, Any]) -> set[str]:
    return {each["axis"] for each in artifact["axes"] if each["varied"]}


def test_a_release_is_proved_published_and_proved_again_by_a_stranger(tmp_path: Path) -> None:
    project = signed_project(tmp_path)
    project.release(product(GOOD_RUN) + SIGNED)

    refused = project.relbuild("publish")
    assert refused.returncode == PolicyViolation.exit_code
    assert "reproducibility" in refused.stderr

    said = project.reproduced()
    assert {each["verdict"] for each in said["artifacts"]} == {"GOOD"}
    assert len(said["artifacts"]) == 2, "the source archive is proved, too"
    assert varied(only(said)) >= ALWAYS
    if sandbox.available() is sandbox.Isolation.BUBBLEWRAP:
        assert varied(only(said)) >= {Axis.HOST_NAME, Axis.USER}
    assert all(each["varied"] or each["reason"] for each in only(said)["axes"])
    project.good("publish")

    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "trust.json").write_bytes((project.folder / "keys" / "trust.json").read_bytes())
    text = project.good("reproduce", "--from", tmp_path / "repository", VERSION, "--trust", "trust.json", cwd=stranger)
    assert text.count("GOOD") == 3
    assert project.folder.name not in text
    past = json.loads(project.good("reproduce", "--history", "--json"))
    assert [each["verdicts"]["GOOD"] for each in past] == [2]
    assert past[0]["signed"] == "yes"


def test_one_command_proves_what_it_publishes_where_the_gate_blocks(tmp_path: Path) -> None:
    project = signed_project(tmp_path)
    repository = tmp_path / "repository"
    project.write(product('umask >"$OUT/hello"') + SIGNED)
    refused = project.relbuild("release", "--engine", project.engine)
    assert refused.returncode == PolicyViolation.exit_code, refused.stdout + refused.stderr
    assert "artifacts came out with other bytes" in refused.stderr
    assert refused.stdout.splitlines()[-1] == "not published"
    assert not (repository / VERSION).exists()
    waiver = 'rule = "reproducibility"\nreason = "umask"\nby = "Ann"\nexpires = 2999-01-31\n'
    waived = SIGNED.replace('path = "../repository"', 'path = "../waived"') + f"[[repository.waivers]]\n{waiver}"
    project.write(product('umask >"$OUT/hello"') + waived)
    assert "umask, until 2999-01-31 (by Ann)" in project.good("release", "--engine", project.engine)
    assert len(json.loads(project.good("reproduce", "--history", "--json"))) == 1, "what is lifted is not rebuilt"

    project.write(product(GOOD_RUN) + SIGNED)
    told = project.good("release", "--engine", project.engine, "--log-format", "json")
    events = {each["event"]: each for each in map(json.loads, told.splitlines())}
    assert [each["verdict"] for each in events["reproduction_finished"]["artifacts"]] == ["GOOD"] * 2
    assert events["publication_finished"]["state"] == "published"
    again = project.good("release", "--engine", project.engine)
    assert ("GOOD" in again, again.splitlines()[-1]) == (False, "published"), "what is proved is not built again"
    assert len(json.loads(project.good("reproduce", "--history", "--json"))) == 2


def test_what_differs_is_bad_with_its_axis_named_and_good_once_it_is_mended(project: Project) -> None:
    project.release(product('ls -U data >"$OUT/hello"; umask >>"$OUT/hello"'))
    said = project.reproduced(code=NotReproducible.exit_code)
    bad = only(said)
    guilty = {Axis.UMASK} | ({Axis.FILE_ORDER} & set(map(Axis, varied(bad))))
    assert (bad["verdict"], set(bad["guilty_axes"])) == ("BAD", guilty)
    assert not bad["differs_in_the_same_world"]
    assert {"umask"} <= {each["kind"] for each in bad["causes"]}
    assert bad["rebuilt_sha256"] != bad["sha256"]
    project.release(product('ls data | LC_ALL=C sort >"$OUT/hello"'))
    assert only(project.reproduced())["verdict"] == "GOOD"


def test_what_differs_from_build_to_build_is_told_apart(project: Project) -> None:
    project.release(product('head -c 32 /dev/urandom >"$OUT/hello"'))
    done = project.relbuild("reproduce", "--keep")
    assert done.returncode == NotReproducible.exit_code
    assert "with nothing varied" in done.stdout
    kept = sorted((project.folder / "dist" / "reproductions" / VERSION).glob("*/*.rebuilt"))
    assert len(kept) == 1


def test_a_recipe_that_fails_elsewhere_is_a_failure_with_its_log(project: Project) -> None:
    project.release(product('test "$LC_ALL" = C.UTF-8 || { echo no such locale >&2; exit 3; }; >"$OUT/hello"'))
    said = project.reproduced(code=RebuildFailed.exit_code)
    failed = only(said)
    assert (failed["verdict"], failed["error"]) == ("FAIL", "RebuildFailed")
    folder = max((project.folder / "dist" / "reproductions" / VERSION).iterdir())
    assert "no such locale" in (folder / failed["log"]).read_text(encoding="utf-8")


def test_several_kinds_of_failure_have_a_code_of_their_own(project: Project) -> None:
    failing = product('test "$LC_ALL" = C.UTF-8; >"$OUT/hello"')
    differing = product('umask >"$OUT/second"', name="second", more='[products.second.archive]\nname = "second"')
    project.release(failing + differing)
    said = project.reproduced("--rebuilds", 0, code=ReproductionFailed.exit_code)
    assert {each["verdict"] for each in said["artifacts"] if each["cell"]} == {"BAD", "FAIL"}
    one = project.reproduced("--cell", f"hello/{host().name}", "--axes", "umask")
    assert (only(one)["verdict"], len(one["artifacts"])) == ("GOOD", 1)
    assert varied(only(one)) == {Axis.UMASK}


def test_nothing_varied_proves_nothing(project: Project) -> None:
    project.release(product(GOOD_RUN, more='env = { TZ = "UTC" }'))
    cell = ("--cell", f"hello/{host().name}", "--axes", "time_zone")
    said = project.reproduced(*cell, code=NothingReproduced.exit_code)
    assert only(said)["verdict"] == "SKIPPED"
    assert "env sets TZ" in only(said)["reason"]


def test_another_toolchain_proves_nothing(project: Project) -> None:
    project.release(product(GOOD_RUN))
    release = project.folder / "dist" / "staging" / VERSION
    said = next(release.glob("*.provenance.json")).read_bytes()
    digest = next(
        each["digest"]["sha256"]
        for each in json.loads(said)["predicate"]["buildDefinition"]["resolvedDependencies"]
        if each["name"] == "toolchain"
    )
    key = json.loads(said)["predicate"]["buildDefinition"]["internalParameters"]["cell_key"]
    falsified(release, {digest: "0" * 64, key: "1" * 64})
    found = project.reproduced("--staged", release, code=OriginUnavailable.exit_code)
    assert (only(found)["verdict"], only(found)["error"]) == ("FAIL", "OriginUnavailable")
    assert "another toolchain" in only(found)["text"]
    assert only(found)["next_step"]


def falsified(release: Path, changes: Mapping[str, str]) -> None:
    """Make a release that was made by something that is not here: texts changed, and every digest of them."""
    import hashlib

    manifest = json.loads((release / "manifest.json").read_bytes())
    for path in release.iterdir():
        if path.name.endswith((".json", ".txt", ".sha512")):
            text = path.read_text(encoding="utf-8")
            for old, new in changes.items():
                text = text.replace(old, new)
            path.write_text(text, encoding="utf-8")
    manifest = json.loads((release / "manifest.json").read_bytes())
    for each in manifest["documents"]:
        data = (release / each["path"]).read_bytes()
        each |= {"sha256": hashlib.sha256(data).hexdigest(), "sha512": hashlib.sha512(data).hexdigest()}
    whole = json.dumps(manifest, sort_keys=True, ensure_ascii=False, indent=2) + "\n"
    (release / "manifest.json").write_text(whole, encoding="utf-8")


def test_the_history_only_grows_and_a_changed_line_is_noticed(project: Project) -> None:
    project.release(product(GOOD_RUN))
    project.reproduced("--axes", "umask")
    path = project.folder / "dist" / "reproductions" / "history.jsonl"
    before = path.read_bytes()
    project.reproduced("--axes", "umask")
    assert path.read_bytes().startswith(before)
    assert f" {VERSION} " in project.good("reproduce", "--history")
    path.write_bytes(path.read_bytes().replace(b'"GOOD":2', b'"GOOD":3', 1).replace(b'"seq":1,', b'"seq":9,', 1))
    done = project.relbuild("reproduce", "--history")
    assert done.returncode == ReproductionFailed.exit_code
    assert "line 1 of" in done.stderr
    path.write_bytes(before)


def test_unknown_names_are_told(project: Project) -> None:
    project.release(product(GOOD_RUN))
    for arguments, words in (
        (("--axes", "moon"), "there is no axis 'moon'"),
        (("--cell", "hello/vax"), "has no cell 'hello/vax'"),
        (("--from", "ftp://x"), "is no repository"),
    ):
        done = project.relbuild("reproduce", *arguments)
        assert words in done.stderr, done.stdout + done.stderr
        assert done.returncode not in {0, 1}


@pytest.mark.engine
def test_containers_and_dockerfiles_are_proved_as_far_as_each_can(tmp_path: Path) -> None:
    require_engine()
    project = make_project(tmp_path, "docker")
    dockerfile = "FROM scratch\nCOPY data/00.txt /out/image\n"
    (project.folder / "src" / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    image = f"""
[products.image]
source = "src"
recipe = "dockerfile"
targets = ["{host().name}"]
archive = false
outputs = ["image"]
"""
    project.release(product(GOOD_RUN) + image)
    said = {each["cell"].partition("/")[0]: each for each in project.reproduced()["artifacts"]}
    assert {name: each["verdict"] for name, each in said.items()} == {"hello": "GOOD", "image": "GOOD", "": "GOOD"}
    assert varied(said["hello"]) >= ALWAYS | {Axis.HOST_NAME, Axis.USER}
    assert varied(said["image"]) == {Axis.HOST_NAME, Axis.ENVIRONMENT}
    project.release(product('{ uname -n; id -u; } >"$OUT/hello"') + image)
    bad = project.reproduced(code=NotReproducible.exit_code)
    said = {each["cell"].partition("/")[0]: each for each in bad["artifacts"]}
    assert set(said["hello"]["guilty_axes"]) == {Axis.HOST_NAME, Axis.USER}
    assert said["image"]["verdict"] == "GOOD"
