"""What a plan learns from the project's folder: its version, its time, and which of its files count."""

import os
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from builders.errors import SourceUnavailable
from builders.model import DEFAULT_EPOCH, SourceTree
from orchestrator import survey
from orchestrator.errors import VersionUnknown
from orchestrator.model import Matrix, Project, VersionFile
from tests.fakes import make_matrix, make_product

COMMIT_TIME = 1_600_000_000


def git(folder: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_DATE": f"{COMMIT_TIME} +0000", "GIT_COMMITTER_DATE": f"{COMMIT_TIME} +0000",
        **{f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }  # fmt: skip
    done = subprocess.run(("git", *arguments), cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    top = tmp_path / "project"
    top.mkdir()
    (top / "main.c").write_text("int main(void) { return 0; }\n")
    (top / "matrix.toml").write_text("# first\n")
    return top


@pytest.fixture
def repository(root: Path) -> Path:
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def version_of(root: Path, version: str | VersionFile | None = None) -> str:
    return survey.version_of(make_matrix(root=root, project=Project(name="hello", version=version)))


def source_of(matrix: Matrix, tmp_path: Path) -> SourceTree:
    return survey.read_sources(matrix, matrix.products, tmp_path / "cache", print)["hello"]


# --- version -----------------------------------------------------------------------------------------------------


def test_only_a_clean_tagged_commit_has_the_version_of_its_tag(repository: Path) -> None:
    git(repository, "tag", "v1.2.3")
    assert version_of(repository) == "1.2.3"
    (repository / "main.c").write_text("int main(void) { return 1; }\n")
    short = git(repository, "rev-parse", "--short", "HEAD")
    assert version_of(repository) == f"1.2.4-dev.0.g{short}.dirty"
    git(repository, "commit", "-qam", "second")
    short = git(repository, "rev-parse", "--short", "HEAD")
    assert version_of(repository) == f"1.2.4-dev.1.g{short}"


def test_after_a_pre_release_comes_more_of_it(repository: Path) -> None:
    git(repository, "tag", "v2.0.0-rc.1")
    git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    assert version_of(repository).startswith("2.0.0-rc.1.dev.1.g")


def test_a_repository_without_tags_counts_its_commits(repository: Path) -> None:
    assert version_of(repository) == f"0.0.0-dev.1.g{git(repository, 'rev-parse', '--short', 'HEAD')}"


def test_a_tag_that_is_no_version_is_told(repository: Path) -> None:
    git(repository, "tag", "v1.2")
    git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    with pytest.raises(VersionUnknown, match=r"'v1\.2' is not a SemVer"):
        version_of(repository)


def test_a_version_stands_in_a_file(root: Path) -> None:
    (root / "version.h").write_text('/* x */\n#define VERSION "3.4.5"\n')
    rule = VersionFile(file=PurePosixPath("version.h"), pattern='^#define VERSION "(.*)"')
    assert version_of(root, rule) == "3.4.5"
    (root / "version.h").write_text("#define OTHER\n")
    with pytest.raises(VersionUnknown, match=r"no version in version\.h"):
        version_of(root, rule)


@pytest.mark.parametrize("version", ["../1.0", "1.0/2", "", ".1", "1 0", "1\n"])
def test_a_version_that_cannot_stand_in_a_file_name_is_refused(root: Path, version: str) -> None:
    with pytest.raises(VersionUnknown, match="cannot stand in a file name"):
        version_of(root, version)


# --- time and state ----------------------------------------------------------------------------------------------


def test_the_epoch_is_the_callers_else_the_commits_else_1980(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert survey.epoch_of(survey.checkout_state(repository)) == COMMIT_TIME
    assert survey.epoch_of(survey.checkout_state(tmp_path)) == DEFAULT_EPOCH
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "12345")
    assert survey.epoch_of(survey.checkout_state(repository)) == 12345


def test_a_changed_or_new_file_makes_a_checkout_dirty(repository: Path) -> None:
    state = survey.checkout_state(repository)
    assert (state.commit, state.dirty) == (git(repository, "rev-parse", "HEAD"), False)
    (repository / "new.c").touch()
    assert survey.checkout_state(repository).dirty


# --- sources -----------------------------------------------------------------------------------------------------


def test_matrix_toml_is_no_source_of_its_own(root: Path, tmp_path: Path) -> None:
    before = source_of(make_matrix(root=root), tmp_path)
    (root / "matrix.toml").write_text("# a comment\n")
    assert source_of(make_matrix(root=root), tmp_path).digest == before.digest
    (root / "main.c").write_text("int main(void) { return 1; }\n")
    assert source_of(make_matrix(root=root), tmp_path).digest != before.digest


@pytest.mark.parametrize(("source", "said"), [("out", "leads out"), ("gone", "not in"), ("empty", "no files")])
def test_a_source_is_a_folder_of_the_project_with_files(root: Path, tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").touch()
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "empty").mkdir()
    with pytest.raises(SourceUnavailable, match=said):
        source_of(make_matrix(make_product(source=PurePosixPath(source)), root=root), tmp_path)


def test_a_mount_is_a_folder_of_the_project(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "deps").mkdir()
    (root / "deps" / "lib.c").touch()
    place = PurePosixPath("/deps")
    (mount,) = survey.read_mounts(make_matrix(root=root), make_product(mounts={place: PurePosixPath("deps")}))
    assert (mount.at, [str(file.path) for file in mount.tree.files]) == (place, ["lib.c"])
    with pytest.raises(SourceUnavailable, match="leads out"):
        survey.read_mounts(make_matrix(root=root), make_product(mounts={place: PurePosixPath("out")}))
