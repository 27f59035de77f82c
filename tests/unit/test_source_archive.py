"""The source archive: what `git archive` holds, the same bytes every time, and in no release that it does not fit."""

import io
import json
import os
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from builders.errors import SourceUnavailable
from orchestrator import source_archive
from orchestrator.errors import ConfigInvalid, StagingError
from orchestrator.model import ArtifactKind, StagedRelease
from orchestrator.source_archive import CommitSource, NoSource
from orchestrator.staged import read_staged
from orchestrator.verify.manifests import read_manifest
from tests.unit.committed import COMMIT_TIME, VERSION, Committed, git, make_project

BOTH_FORMS = 'source_archive = ["tar.gz", "zip"]'
TAR, ZIP = f"hello_{VERSION}_source.tar.gz", f"hello_{VERSION}_source.zip"


@pytest.fixture
def project(tmp_path: Path) -> Committed:
    return make_project(tmp_path / "project", project=BOTH_FORMS)


def by_git(folder: Path, *arguments: str) -> dict[str, tuple[int, bytes]]:
    """Give mode and content of each file by the real `git archive`."""
    argv = ("git", "archive", "--format=tar", f"--prefix=hello-{VERSION}/", *arguments, "HEAD")
    done = subprocess.run(argv, cwd=folder, capture_output=True, check=True)
    return in_tar(done.stdout)


def in_tar(data: bytes) -> dict[str, tuple[int, bytes]]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            if entry.isfile():
                content = archive.extractfile(entry)
                assert content is not None
                found[entry.name] = (entry.mode & 0o100, content.read())
            elif not entry.isdir():
                assert entry.issym()
                found[entry.name] = (-1, entry.linkname.encode())
    return found


def in_zip(data: bytes) -> dict[str, tuple[int, bytes]]:
    found = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            mode = entry.external_attr >> 16
            found[entry.filename] = (-1 if stat.S_ISLNK(mode) else mode & 0o100, archive.read(entry))
    return found


def papers(release: StagedRelease, name: str) -> Any:
    return json.loads((release.folder / name).read_bytes())


def source_of(project: Committed) -> CommitSource:
    source = project.source()
    assert isinstance(source, CommitSource)
    return source


# --- content -----------------------------------------------------------------------------------------------------


def test_both_forms_hold_what_git_archive_holds(project: Committed) -> None:
    (project.root / "notes.txt").write_text("for us\n")
    (project.root / "version.txt").write_text("$Format:%H %ct$\n")
    (project.root / ".gitattributes").write_text("notes.txt export-ignore\nversion.txt export-subst\n*.bat eol=crlf\n")
    (project.root / "run.bat").write_text("one\ntwo\n")
    commit = project.commit()
    folder = project.release().folder
    wanted = by_git(project.root)
    assert in_tar((folder / TAR).read_bytes()) == wanted
    assert in_zip((folder / ZIP).read_bytes()) == wanted
    assert wanted[f"hello-{VERSION}/version.txt"] == (0, f"{commit} {COMMIT_TIME}\n".encode())
    assert wanted[f"hello-{VERSION}/src/again.c"] == (-1, b"hello.c")
    assert wanted[f"hello-{VERSION}/build.sh"] == (0o100, b"#!/bin/sh\n")
    assert wanted[f"hello-{VERSION}/run.bat"] == (0, b"one\r\ntwo\r\n")
    assert not {name for name in wanted if "notes" in name or "ignored" in name or ".git/" in name}


def test_a_project_below_the_top_of_its_repository_gives_its_own_folder(tmp_path: Path) -> None:
    top = make_project(tmp_path / "top")
    (top.root / "inner" / "src").mkdir(parents=True)
    (top.root / "inner" / "src" / "a.c").write_text("")
    (top.root / "inner" / "matrix.toml").write_bytes((top.root / "matrix.toml").read_bytes())
    top.commit()
    inner = Committed(top.root / "inner")
    found = in_tar((inner.release().folder / TAR).read_bytes())
    assert found == by_git(inner.root)
    assert {PurePosixPath(name).name for name in found} == {"a.c", "matrix.toml"}


def test_two_runs_give_the_same_bytes_wherever_and_whoever_runs(
    project: Committed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both() -> list[bytes]:
        folder = project.release().folder
        return [(folder / name).read_bytes() for name in (TAR, ZIP, "manifest.json")]

    first = both()
    settings = tmp_path / "home" / ".gitconfig"
    settings.parent.mkdir()
    settings.write_text("[core]\nautocrlf = true\nattributesFile = ~/attributes\n[tar]\numask = 0\n")
    (tmp_path / "home" / "attributes").write_text("*.c export-ignore\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    for path in project.root.rglob("*.c"):
        os.utime(path, (1, 1), follow_symlinks=False)
    before = os.umask(0o077)
    try:
        assert both() == first
    finally:
        os.umask(before)


def test_what_came_after_the_plan_is_not_in_it(project: Committed) -> None:
    report = project.report()
    (project.root / "src" / "hello.c").write_text("int main(void) { return 1; }\n")
    project.commit()
    with source_archive.opened_source(project.matrix, report, project.dist) as source:
        assert isinstance(source, CommitSource)
        (hello,) = (each for each in source.members if each.name == PurePosixPath("src/hello.c"))
        assert isinstance(hello.content, Path)
        assert b"return 0" in hello.content.read_bytes()
    assert not hello.content.exists()
    assert not list((project.dist / "work").glob("source.*"))


# --- where there is none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("project_line", "said"), [("", "no source archive: "), ("source_archive = []", "")])
@pytest.mark.parametrize("case", ["dirty", "untracked", "no git"])
def test_a_release_of_no_commit_has_no_source_archive(tmp_path: Path, case: str, project_line: str, said: str) -> None:
    project = make_project(tmp_path / "project", project=project_line)
    if case == "no git":
        (project.root / ".git").rename(tmp_path / "git")
    else:
        (project.root / "src" / ("hello.c" if case == "dirty" else "new.c")).write_text("int x;\n")
    source = project.source()
    assert isinstance(source, NoSource)
    assert " ".join(source.notes).startswith(said)
    assert bool(source.notes) == bool(said)
    kinds = {each.kind for each in project.release().artifacts}
    assert kinds == {ArtifactKind.ARCHIVE}


def test_a_project_that_wants_none_gets_none(tmp_path: Path) -> None:
    assert make_project(tmp_path / "project", project="source_archive = []").source() == NoSource()


@pytest.mark.parametrize("case", ["dirty", "no git"])
def test_one_that_is_asked_for_and_cannot_be_is_an_error_before_anything_is_built(
    project: Committed, tmp_path: Path, case: str
) -> None:
    if case == "dirty":
        (project.root / "src" / "hello.c").write_text("int x;\n")
    else:
        (project.root / ".git").rename(tmp_path / "git")
    plan = project.report().plan
    with pytest.raises(StagingError, match=r"source_archive.*(changed since|no commit)"):
        source_archive.refuse_impossible(project.matrix, plan)


def test_a_commit_that_no_archive_can_hold_safely_is_told(project: Committed, tmp_path: Path) -> None:
    (project.root / "out").symlink_to("../../etc/passwd")
    project.commit()
    with pytest.raises(SourceUnavailable, match="out' is a link"):
        project.source()
    (project.root / "matrix.toml").write_text((project.root / "matrix.toml").read_text().replace(BOTH_FORMS, ""))
    project.commit()
    source = project.source()
    assert isinstance(source, NoSource)
    assert "out' is a link" in source.notes[0]
    assert not list((tmp_path / "project" / "dist" / "work").glob("source.*"))


def test_names_that_differ_in_case_alone_are_told_and_not_staged(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    (project.root / "BUILD.sh").write_text("")
    project.commit()
    source = project.source()
    assert isinstance(source, NoSource)
    assert "one name on some file systems" in source.notes[0]


@pytest.mark.parametrize("value", ['"tar.gz"', '["tar"]', "true", '[["zip"]]'])
def test_what_is_no_list_of_forms_is_refused(project: Committed, value: str) -> None:
    text = (project.root / "matrix.toml").read_text().replace(BOTH_FORMS, f"source_archive = {value}")
    (project.root / "matrix.toml").write_text(text)
    with pytest.raises(ConfigInvalid, match="source_archive"):
        _ = project.matrix


def test_an_archive_name_of_a_cell_cannot_be_that_of_the_source(project: Committed) -> None:
    with (project.root / "matrix.toml").open("a") as file:
        file.write('archive = { name = "{name}_{version}_source" }\n')
    project.commit()
    with pytest.raises(StagingError, match=r"hello/x86_64 and source would both give"):
        project.release()


# --- notes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["export-ignore", "export-subst", "submodule"])
def test_a_note_says_where_the_archive_does_not_give_back_what_was_built(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "project")
    assert source_of(project).notes == ()
    if case == "submodule":
        other = make_project(tmp_path / "other")
        git(project.root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other.root), "src/other")
    else:
        (project.root / "src" / "made.h").write_text("$Format:%H$\n")
        (project.root / ".gitattributes").write_text(f"src/made.h {case}\n")
    project.commit()
    monkeypatch.setenv("HOME", str(tmp_path))
    (note,) = source_of(project).notes
    assert note.startswith("the source archive does not give back src, of which hello was built")


def test_mounts_are_looked_at_too(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", product='mounts = { "/deps" = "deps" }')
    (project.root / "deps").mkdir()
    (project.root / "deps" / "lib.c").write_text("")
    project.commit()
    assert source_of(project).notes == ()
    (project.root / ".gitattributes").write_text("deps/secret.c export-ignore\n")
    (project.root / "deps" / "secret.c").write_text("")
    project.commit()
    assert "give back deps" in source_of(project).notes[0]


# --- papers ------------------------------------------------------------------------------------------------------


def test_the_papers_list_it_as_what_nobody_built(project: Committed) -> None:
    release = project.release()
    entries = {entry["path"]: entry for entry in papers(release, "manifest.json")["artifacts"]}
    assert list(entries) == [f"hello_{VERSION}_linux_x86_64.tar.gz", TAR, ZIP]
    assert entries[TAR].keys() == {
        "path", "kind", "size", "sha256", "sha512", "compressor", "root", "commit", "tree", "matrix"
    }  # fmt: skip
    assert entries[TAR]["commit"] == git(project.root, "rev-parse", "HEAD")
    assert (entries[TAR]["kind"], entries[TAR]["matrix"]) == ("source", "matrix.toml")
    assert entries[TAR]["tree"] == entries[ZIP]["tree"] == source_of(project).tree
    listed = {entry["name"]: entry for entry in papers(release, "artifacts.json")}
    assert (listed[TAR]["type"], listed[TAR]["internal_type"], listed[TAR]["extra"]["Format"]) == (
        "Source", 15, "tar.gz"
    )  # fmt: skip
    assert "goos" not in listed[TAR]
    for program, name in (("sha256sum", "checksums.txt"), ("sha512sum", "checksums.sha512")):
        argv = (program, "-c", "--strict", name)
        said = subprocess.run(argv, cwd=release.folder, capture_output=True, text=True, check=True).stdout
        assert f"{TAR}: OK" in said
        assert f"{ZIP}: OK" in said


def test_both_readers_of_manifests_take_it(project: Committed) -> None:
    release = project.release()
    assert read_staged(release.folder) == release
    manifest = read_manifest((release.folder / "manifest.json").read_bytes())
    assert [each.path for each in manifest.built] == [f"hello_{VERSION}_linux_x86_64.tar.gz"]
    assert {each.kind for each in manifest.artifacts} == {"archive", "source"}
