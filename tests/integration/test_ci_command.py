"""`relbuild ci` by the command line, its jobs run to the end, and what they leave: files, summaries, a bucket."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests import object_stores
from tests.integration.test_shards import RELBUILD, ROOT, git

Env = dict[str, str] | None
BIN: Final = Path(sys.executable).parent
MATRIX: Final = """
[project]
name = "hello"
version = "1.2.3"
license = "Apache-2.0"
[engine]
kind = "local"
[products.hello]
source = "src"
recipe = "command"
run = 'sed s/hello/$RELBUILD_TARGET/ hello.txt > "$OUT/hello"'
outputs = ["hello"]
targets = ["x86_64"]
[signing]
trust = "trust.json"
signers = [{ key_file = "keys/release.key" }]
[repository]
path = "releases"
audit_key = "keys/audit.key"
[validate]
gate = "off"
[ci]
program = "relbuild"
setup = "true"
semver = "off"
sign_files = { "keys/release.key" = "RELEASE_KEY" }
publish_files = { "keys/release.key" = "RELEASE_KEY", "keys/audit.key" = "AUDIT_KEY" }
"""
BLOCKS: Final = '[reproduce]\ngate = "block"\nkeys = ["rebuild.pub"]\n'


@dataclass(frozen=True)
class Project:
    """A project in git, with its keys beside it where git does not look."""

    folder: Path

    def run(self, *arguments: object, place: Path | None = None, env: Env = None) -> subprocess.CompletedProcess[str]:
        return self.start([*RELBUILD, *map(str, arguments)], place, env)

    def start(self, argv: list[str], place: Path | None = None, env: Env = None) -> subprocess.CompletedProcess[str]:
        home = self.folder.with_name(f"{self.folder.name}-home")
        home.mkdir(exist_ok=True)
        given = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            argv, cwd=place or self.folder, env={**given, **(env or {})}, capture_output=True, text=True, timeout=800,
            check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done

    def good(self, *arguments: object, place: Path | None = None, env: Env = None) -> subprocess.CompletedProcess[str]:
        done = self.run(*arguments, place=place, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def secret(self, name: str) -> str:
        return (self.folder / "keys" / f"{name}.key").read_text(encoding="utf-8")


def make_project(folder: Path, more: str = "") -> Project:
    project = Project(folder)
    (folder / "src").mkdir(parents=True)
    (folder / "keys").mkdir()
    (folder / "src" / "hello.txt").write_text("hello\n", encoding="utf-8")
    (folder / "matrix.toml").write_text(MATRIX + more, encoding="utf-8")
    (folder / ".gitignore").write_text("keys/\nreleases/\ndist/\n", encoding="utf-8")
    shutil.copy(ROOT / "LICENSE", folder)
    made = ("keys", "generate", "--no-passphrase", "--out")
    project.good(*made, "keys/release.key", "--trust", "trust.json", "--project", "hello")
    project.good(*made, "keys/runner.key")
    project.good(*made, "keys/rebuild.key")
    project.good(*made, "keys/audit.key", "--kind", "audit")
    rotate = ("keys", "rotate", "--no-passphrase", "--trust", "trust.json", "--key", "keys/release.key")
    project.good(*rotate, "--add", "keys/runner.pub", "--role", "shard")
    project.good(*rotate, "--add", "keys/audit.pub")
    shutil.copy(folder / "keys" / "rebuild.pub", folder)
    git("init", "-q", folder)
    return project


def commit(project: Project) -> None:
    git("-C", project.folder, "add", "-A")
    git("-C", project.folder, "commit", "-q", "-m", "hello")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = make_project(tmp_path_factory.mktemp("ci") / "project")
    commit(made)
    return made


@pytest.fixture(scope="module")
def program(project: Project, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the program as machines have it that keep what compilers make once per target: that takes a minute."""
    project.good("matrix")
    kept, path = project.folder / "dist" / "cache", tmp_path_factory.mktemp("program") / "relbuild"
    path.write_text(f'#!/bin/sh\nmkdir -p dist && ln -sfn {kept} dist/cache\nexec relbuild "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return str(path)


# --- the command ---------------------------------------------------------------------------------------------------

GRAVE: Final = {
    "github": {
        "a permission widened": ("contents: read", "contents: write", "has the permissions"),
        "an action unpinned": ("actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683  # v4.2.2",
                               "actions/checkout@v4", "is not pinned by a commit"),
        "a target dropped": ("  build-x86_64:", "  something-else:", "the target x86_64 is dropped"),
        "an approval gone": ("    environment: release\n", "", "has the environment nothing, not release"),
    },
    "gitlab": {
        "a target dropped": ("build-x86_64:\n", "something-else:\n", "the target x86_64 is dropped"),
        "nobody asked": ("when: manual", "when: on_success", "starts on_success, not manual"),
    },
}  # fmt: skip
PATHS: Final = {"github": ".github/workflows/release.yml", "gitlab": ".gitlab-ci.yml", "shell": "ci/release"}


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    made = Project(tmp_path / "bare")
    (made.folder / "src").mkdir(parents=True)
    (made.folder / "matrix.toml").write_text(MATRIX, encoding="utf-8")
    return made


@pytest.mark.parametrize("provider", GRAVE)
def test_check_ends_with_115_and_names_each_dangerous_edit(bare: Project, provider: str) -> None:
    path = bare.folder / PATHS[provider]
    missing = bare.run("ci", provider, "--check")
    assert (missing.returncode, "DANGER: the file: is not there" in missing.stderr) == (115, True)
    done = bare.good("ci", provider, "--write")
    assert f"{path} is written" in done.stdout
    assert "warning: the publish job writes into the folder of [repository]" in done.stderr
    good = path.read_text(encoding="utf-8")
    for option in ("--check", "--diff"):
        assert "warning: the publish job writes" in bare.good("ci", provider, option).stderr
    assert bare.good("ci", provider, "--diff").stdout == ""
    for name, (before, after, words) in GRAVE[provider].items():
        assert before in good, name
        path.write_text(good.replace(before, after, 1), encoding="utf-8")
        done = bare.run("ci", provider, "--check")
        told = [line for line in done.stderr.splitlines() if line.startswith("DANGER: ") and words in line]
        assert (done.returncode, bool(told)) == (115, True), name + done.stderr
        assert "next:" in done.stderr
        shown = bare.good("ci", provider, "--diff").stdout
        added = [line for line in shown.splitlines() if line.startswith("+")]
        assert any(before.strip() in line for line in added), name
    assert "is written" in bare.good("ci", provider, "--write").stdout
    assert path.read_text(encoding="utf-8") == good


def test_a_changed_command_of_the_script_is_drift(bare: Project) -> None:
    bare.good("ci", "shell", "--write")
    path = bare.folder / PATHS["shell"]
    path.write_text(path.read_text(encoding="utf-8").replace('"$relbuild" verify', "true"), encoding="utf-8")
    done = bare.run("ci", "shell", "--check")
    assert (done.returncode, "has other commands" in done.stderr) == (115, True)
    assert '+  "$relbuild" verify dist/staging/*' in bare.good("ci", "shell", "--diff").stdout


def test_without_options_it_prints_and_writes_nothing(bare: Project) -> None:
    assert "jobs:" in bare.good("ci", "github").stdout
    assert not (bare.folder / ".github").exists()
    assert bare.run("ci", "github", "--write", "--check").returncode == 2


def test_without_a_setup_nothing_is_written(bare: Project) -> None:
    text = (bare.folder / "matrix.toml").read_text(encoding="utf-8")
    (bare.folder / "matrix.toml").write_text(text.replace('setup = "true"\n', ""), encoding="utf-8")
    done = bare.run("ci", "github", "--write")
    assert (done.returncode, "has no `setup`" in done.stderr, "next: " in done.stderr) == (114, True, True)
    assert not (bare.folder / ".github").exists()


def test_a_key_that_nobody_lays_down_is_named(bare: Project) -> None:
    text = (bare.folder / "matrix.toml").read_text(encoding="utf-8")
    (bare.folder / "matrix.toml").write_text(text.replace(', "keys/audit.key" = "AUDIT_KEY"', ""), encoding="utf-8")
    done = bare.good("ci", "gitlab", "--write")
    assert "warning: the job publish reads the key 'keys/audit.key', and publish_files of [ci] lays" in done.stderr


def test_a_host_is_for_a_plan_that_others_read(bare: Project) -> None:
    done = bare.run("plan", "--host", "aarch64=aarch64")
    assert (done.returncode, "--json" in done.stderr) == (2, True)


# --- the jobs ------------------------------------------------------------------------------------------------------


def test_the_jobs_run_on_one_machine_to_a_published_release(program: str, tmp_path: Path) -> None:
    """Each job has a checkout and a home of its own; the release is rebuilt, as gate = "block" asks."""
    project = make_project(tmp_path / "project", BLOCKS)
    project.good("ci", "shell", "--write")
    commit(project)
    env = {
        "RELBUILD_SHARD_KEY": project.secret("runner"), "RELBUILD_REBUILD_KEY": project.secret("rebuild"),
        "RELBUILD_JOBS": str(tmp_path / "jobs"), "RELBUILD_APPROVE": "yes", "RELBUILD": program,
    }  # fmt: skip
    script = str(project.folder / "ci" / "release")
    unproved = project.start([script, "plan", "build-x86_64", "merge", "verify"], env=env)
    assert unproved.returncode == 0, unproved.stdout + unproved.stderr
    assert not (tmp_path / "jobs" / "reproduce").exists()
    # What the gate is for: the same jobs without the proof publish nothing.
    (tmp_path / "jobs" / "parcels" / "proof").mkdir()
    refused = project.start([script, "publish"], env=env)
    assert (refused.returncode, refused.stdout.splitlines()[-1]) == (38, "not published"), refused.stderr
    done = project.start([script, "reproduce", "publish"], env=env)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "published"), done.stdout + done.stderr
    assert "hello 1.2.3: 2 GOOD" in done.stdout
    index = (project.folder / "releases" / "index.json").read_text(encoding="utf-8")
    assert '"1.2.3"' in index


def test_nobody_publishes_without_an_approval(bare: Project) -> None:
    bare.good("ci", "shell", "--write")
    git("init", "-q", bare.folder)
    commit(bare)
    done = bare.start([str(bare.folder / "ci" / "release"), "publish"])
    assert (done.returncode, "wants an approval" in done.stderr) == (1, True)


# --- summaries -----------------------------------------------------------------------------------------------------


def test_a_run_adds_its_summary_and_one_that_cannot_be_written_is_a_note(project: Project, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# before\n", encoding="utf-8")
    project.good("matrix", env={"GITHUB_STEP_SUMMARY": str(summary)})
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("# before\n## hello 1.2.3\n")
    assert "| artifact | target | bytes | SHA-256 |" in text
    assert "| `hello_1.2.3_linux_x86_64.tar.gz` | x86_64 |" in text
    done = project.good("matrix", env={"GITHUB_STEP_SUMMARY": str(tmp_path / "nowhere" / "summary.md")})
    assert "cannot be written" in done.stderr
    full = tmp_path / "full.md"
    full.write_bytes(b"x" * (1 << 20))
    project.good("matrix", env={"GITHUB_STEP_SUMMARY": str(full)})
    assert full.stat().st_size == 1 << 20


# --- a bucket as a meeting place -----------------------------------------------------------------------------------


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    there = (object_stores.TOOLS / "ceph/usr/bin/radosgw").exists()
    folder = tmp_path / "server"
    folder.mkdir()
    with (object_stores.radosgw if there else object_stores.moto)(folder) as url:
        yield object_stores.new_s3_bucket(url), {
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": object_stores.S3_KEY, "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": object_stores.S3_SECRET,
        }  # fmt: skip


def test_shards_meet_in_a_bucket_and_are_published_by_who_merges(
    project: Project, bucket: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    name, env = bucket
    plan, place = tmp_path / "plan.json", f"s3://{name}/shards"
    plan.write_text(project.good("plan", "--json").stdout, encoding="utf-8")
    git("clone", "-q", project.folder, tmp_path / "merger")
    shutil.copytree(project.folder / "keys", tmp_path / "merger" / "keys")
    merge = ("merge", "--plan", plan, "--from", place, "--publish")
    early = project.run(*merge, place=tmp_path / "merger", env=env)
    assert (early.returncode, "holds no shard of this plan" in early.stderr) == (100, True)
    build = ("build", "--plan", plan, "--shard-key", "keys/runner.key", "--to", place)
    assert f"sent to s3://{name}/shards" in project.good(*build, env=env).stdout
    # The same cells again, signed anew: what is there stays.
    project.good(*build, env=env)
    done = project.good(*merge, place=tmp_path / "merger", env=env)
    assert done.stdout.splitlines()[-1] == "published", done.stdout + done.stderr
    assert (tmp_path / "merger" / "releases" / "index.json").is_file()


def test_merge_that_may_not_publish_says_so_last(project: Project, tmp_path: Path) -> None:
    """No audit key: it is refused before anything is merged."""
    plan = tmp_path / "plan.json"
    plan.write_text(project.good("plan", "--json").stdout, encoding="utf-8")
    project.good("build", "--plan", plan, "--shard-key", "keys/runner.key", "--to", tmp_path / "shards")
    git("clone", "-q", project.folder, tmp_path / "merger")
    (tmp_path / "merger" / "keys").mkdir()
    shutil.copy(project.folder / "keys" / "release.key", tmp_path / "merger" / "keys")
    merge = ("merge", "--plan", plan, "--from", tmp_path / "shards", "--publish")
    done = project.run(*merge, place=tmp_path / "merger")
    assert done.returncode != 0
    assert "keys/audit.key" in done.stderr
    assert not (tmp_path / "merger" / "releases").exists()
