"""The source of a release, for a stranger: found in the release, in git or in a folder, and only at its digest."""

import json
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from orchestrator import survey
from orchestrator.canonical import canonical_json
from orchestrator.errors import DigestMismatch, OriginUnavailable, ProvenanceInvalid, StagingError
from orchestrator.model import StagedRelease
from orchestrator.reproduce.origin import Origin, open_origin
from orchestrator.reproduce.promises import promises_of
from tests.unit.committed import COMMIT_TIME, VERSION, Committed, git, make_project, mounts_of, tree_of, without_source

HTTP = "https://git.example.org/hello.git"


@pytest.fixture
def project(tmp_path: Path) -> Committed:
    return make_project(tmp_path / "project")


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """Give an empty folder of somebody else, who knows nothing of the project."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    return folder


def fetched(release: StagedRelease, stranger: Path) -> Path:
    """Copy a release's files, as a reader gets them."""
    shutil.copytree(release.folder, stranger / "got" / VERSION)
    return stranger / "got" / VERSION


def gone(project: Committed, tmp_path: Path) -> None:
    """Take the project away, so that nothing can be read of it by accident."""
    project.root.rename(tmp_path / "gone")


def used(origin: Origin, stranger: Path) -> dict[str, str]:
    """Read everything of an origin as a rebuild does, and give the digests."""
    trees = origin.read_sources(origin.matrix.products, stranger / "cache", lambda _: None)
    mounts = [mount for product in origin.matrix.products for mount in origin.read_mounts(product)]
    return {**{name: tree.digest for name, tree in trees.items()}, **{str(m.at): m.tree.digest for m in mounts}}


def clone(project: Committed, stranger: Path) -> Path:
    git(stranger, "clone", "-q", str(project.root), "clone")
    return stranger / "clone"


def refused(folder: Path, stranger: Path, checkout: Path | None = None) -> list[str]:
    with pytest.raises(OriginUnavailable) as caught:
        open_origin(folder, stranger / "room", checkout=checkout)
    assert caught.value.exit_code == 63
    return caught.value.what.splitlines()[1:]


# --- the source archive ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["src", "."])
@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_the_source_archive_gives_the_tree_of_the_checkout(
    tmp_path: Path, stranger: Path, source: str, form: str
) -> None:
    project = make_project(tmp_path / "project", source=source, project=f'source_archive = ["{form}"]',
                           product='mounts = { "/deps" = "src/deep" }')  # fmt: skip
    digest, (mount,) = tree_of(project).digest, mounts_of(project)
    folder, commit = fetched(project.release(), stranger), git(project.root, "rev-parse", "HEAD")
    gone(project, tmp_path)
    origin = open_origin(folder, stranger / "room")
    assert used(origin, stranger) == {"hello": digest, "/deps": mount.tree.digest}
    assert (origin.version, origin.commit, origin.dirty, origin.epoch) == (VERSION, commit, False, COMMIT_TIME)
    assert survey.version_of(origin.matrix) == VERSION
    assert origin.words == f"the source archive hello_{VERSION}_source.{form}"
    assert [str(each.path) for each in origin.artifacts] == [f"hello_{VERSION}_linux_x86_64.tar.gz"]
    assert list(origin.statements) == [PurePosixPath(f"hello_{VERSION}_linux_x86_64.tar.gz")]


def test_somebody_elses_git_has_no_say_in_it(project: Committed, tmp_path: Path, stranger: Path) -> None:
    digest = tree_of(project).digest
    folder = fetched(project.release(), stranger)
    git(stranger, "init", "-q")
    (stranger / ".gitignore").write_text("*.c\n")
    git(stranger, "add", ".gitignore")
    git(stranger, "commit", "-qm", "theirs")
    git(stranger, "tag", "v9.9.9")
    gone(project, tmp_path)
    origin = open_origin(folder, stranger / "room")
    assert used(origin, stranger) == {"hello": digest}
    assert survey.version_of(origin.matrix) == VERSION


def test_a_version_that_stands_in_a_file_gives_way_to_the_releases_own(tmp_path: Path, stranger: Path) -> None:
    project = make_project(tmp_path / "project")
    text = (project.root / "matrix.toml").read_text()
    rule = '{ file = "VERSION", pattern = "(.*)" }'
    (project.root / "matrix.toml").write_text(text.replace('"git"', rule))
    (project.root / "VERSION").write_text("7.7.7\n")
    project.commit()
    origin = open_origin(project.release().folder, stranger / "room")
    assert survey.version_of(origin.matrix) == VERSION


def test_the_release_is_found_where_its_configuration_has_another_name(tmp_path: Path, stranger: Path) -> None:
    base = make_project(tmp_path / "project", source=".")
    (base.root / "matrix.toml").rename(base.root / "other.toml")
    project = Committed(base.root, "other.toml")
    project.commit()
    folder = project.release().folder
    origin = open_origin(folder, stranger / "room")
    assert origin.matrix.file.name == "other.toml"
    assert used(origin, stranger) == {"hello": tree_of(project).digest}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "other bytes than the manifest promises"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: (path.rename(path.with_name("x")), path.symlink_to("x")), "symbolic link"),
    ],
)
def test_an_archive_with_other_bytes_is_not_unpacked(
    project: Committed, tmp_path: Path, stranger: Path, damage: object, said: str
) -> None:
    folder = fetched(project.release(), stranger)
    gone(project, tmp_path)
    assert callable(damage)
    damage(folder / f"hello_{VERSION}_source.tar.gz")
    lines = refused(folder, stranger)
    assert lines[0].startswith(f"  the source archive hello_{VERSION}_source.tar.gz: it ")
    assert said in lines[0]
    assert len(lines) == 3


def test_an_archive_that_holds_other_files_than_the_manifest_says_is_not_taken(
    project: Committed, tmp_path: Path, stranger: Path
) -> None:
    folder = fetched(project.release(), stranger)
    gone(project, tmp_path)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["artifacts"][-1]["tree"] = f"sha256:{'0' * 64}"
    (folder / "manifest.json").write_bytes(canonical_json(manifest))
    assert "its files have the digest" in refused(folder, stranger)[0]


# --- git ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(project: Committed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let git find a bare copy of the project where the provenance says that it is."""
    git(tmp_path, "clone", "-q", "--bare", str(project.root), "served.git")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(f'[url "{tmp_path}/served.git"]\n\tinsteadOf = {HTTP}\n')
    monkeypatch.setenv("HOME", str(home))
    return tmp_path / "served.git"


def test_without_an_archive_the_commit_is_fetched(
    project: Committed, tmp_path: Path, stranger: Path, served: Path
) -> None:
    digest, release = tree_of(project).digest, project.release(remote=HTTP)
    without_source(release)
    folder = fetched(release, stranger)
    gone(project, tmp_path)
    origin = open_origin(folder, stranger / "room")
    assert used(origin, stranger) == {"hello": digest}
    assert "git.example.org" in origin.words
    assert served.is_dir()


def test_a_remote_without_the_commit_is_told(project: Committed, tmp_path: Path, stranger: Path, served: Path) -> None:
    (project.root / "src" / "hello.c").write_text("int main(void) { return 2; }\n")
    commit = project.commit()
    release = project.release(remote=HTTP)
    without_source(release)
    folder = fetched(release, stranger)
    gone(project, tmp_path)
    lines = refused(folder, stranger)
    assert f"has no commit {commit}" in lines[1]
    assert served.is_dir()


@pytest.mark.parametrize("attribute", ["export-ignore", "export-subst"])
def test_where_the_archive_does_not_give_the_source_back_git_does(
    project: Committed, tmp_path: Path, stranger: Path, attribute: str
) -> None:
    (project.root / "src" / "made.h").write_text("$Format:%H$\n")
    (project.root / ".gitattributes").write_text(f"src/made.h {attribute}\n")
    project.commit()
    digest, release = tree_of(project).digest, project.release()
    folder = fetched(release, stranger)
    git(tmp_path, "clone", "-q", str(project.root), "clone")
    gone(project, tmp_path)
    lines = refused(folder, stranger)
    assert "has the digest sha256:" in lines[0]
    assert digest in lines[0]
    origin = open_origin(folder, stranger / "second", checkout=tmp_path / "clone")
    assert used(origin, stranger) == {"hello": digest}
    assert origin.words.startswith("the commit in")


def test_a_project_below_the_top_of_its_repository_is_found_there(tmp_path: Path, stranger: Path) -> None:
    top = make_project(tmp_path / "top")
    (top.root / "sub" / "inner" / "src").mkdir(parents=True)
    (top.root / "sub" / "inner" / "src" / "a.c").write_text("")
    (top.root / "sub" / "inner" / "matrix.toml").write_bytes((top.root / "matrix.toml").read_bytes())
    top.commit()
    inner = Committed(top.root / "sub" / "inner")
    digest, release = tree_of(inner).digest, inner.release()
    folder = fetched(release, stranger)
    origin = open_origin(folder, stranger / "room")
    assert used(origin, stranger) == {"hello": digest}
    (folder / f"hello_{VERSION}_source.tar.gz").unlink()
    origin = open_origin(folder, stranger / "second", checkout=inner.root)
    assert used(origin, stranger) == {"hello": digest}
    assert origin.root.parts[-2:] == ("sub", "inner")


# --- a folder ----------------------------------------------------------------------------------------------------


def test_a_release_of_changed_files_is_only_in_the_folder_itself(project: Committed, stranger: Path) -> None:
    (project.root / "src" / "hello.c").write_text("int main(void) { return 3; }\n")
    digest, folder = tree_of(project).digest, fetched(project.release(), stranger)
    lines = refused(folder, stranger)
    assert "has none" in lines[0]
    lines = refused(folder, stranger / "other", checkout=clone(project, stranger))
    assert "in no commit" in next(line for line in lines if "the commit in" in line)
    origin = open_origin(folder, stranger / "second", checkout=project.root)
    assert (origin.root, origin.dirty) == (project.root, True)
    assert used(origin, stranger) == {"hello": digest}
    (project.root / "src" / "hello.c").write_text("int main(void) { return 4; }\n")
    with pytest.raises(OriginUnavailable, match="not what the release was built from"):
        used(origin, stranger)


@pytest.mark.parametrize("change", ["other", "fewer", "more"])
def test_what_is_mounted_must_be_the_same_too(tmp_path: Path, stranger: Path, change: str) -> None:
    mounts = 'mounts = { "/deps" = "src/deep" }'
    project = make_project(tmp_path / "project", product="" if change == "more" else mounts)
    folder = fetched(project.release(), stranger)
    (folder / f"hello_{VERSION}_source.tar.gz").unlink()
    shutil.rmtree(project.root / ".git")
    for made in ("dist", "src/ignored.o"):
        shutil.rmtree(project.root / made) if made == "dist" else (project.root / made).unlink()
    text = (project.root / "matrix.toml").read_text()
    if change == "other":
        (project.root / "more").mkdir()
        (project.root / "more" / "x").touch()
        text = text.replace('"src/deep"', '"more"')
    else:
        text = text.replace(mounts, "") if change == "fewer" else f"{text}\n{mounts}\n"
    (project.root / "matrix.toml").write_text(text)
    lines = refused(folder, stranger, checkout=project.root)
    assert ("mounts less" if change == "fewer" else "hello mounts at /deps has the digest") in lines[-1]


def test_an_unpacked_source_in_somebody_elses_work_tree_counts_whole(
    project: Committed, tmp_path: Path, stranger: Path
) -> None:
    digest, folder = tree_of(project).digest, fetched(project.release(), stranger)
    (stranger / "by hand").mkdir()
    archive = folder / f"hello_{VERSION}_source.tar.gz"
    subprocess.run(["tar", "-xzf", archive, "-C", stranger / "by hand"], check=True)
    (folder / f"hello_{VERSION}_source.tar.gz").unlink()
    git(stranger, "init", "-q")
    gone(project, tmp_path)
    origin = open_origin(folder, stranger / "room", checkout=stranger / "by hand" / f"hello-{VERSION}")
    assert used(origin, stranger) == {"hello": digest}


def test_all_that_was_tried_is_told_in_order(project: Committed, tmp_path: Path, stranger: Path) -> None:
    release = project.release(remote="git@localhost:hello.git")
    without_source(release)
    folder = fetched(release, stranger)
    other = make_project(tmp_path / "other")
    (other.root / "src" / "hello.c").write_text("int other;\n")
    shutil.rmtree(other.root / ".git")  # the same files at the same time are the same commit
    git(other.root, "init", "-q")
    other.commit()
    steps: list[str] = []
    with pytest.raises(OriginUnavailable) as caught:
        open_origin(folder, stranger / "room", checkout=other.root, on_step=steps.append)
    lines = caught.value.what.splitlines()[1:]
    assert len(lines) == len(steps) == 5
    for line, words in zip(lines, ("source archive", "urn:relbuild", "the commit in", "the folder", "all its files"),
                           strict=True):  # fmt: skip
        assert words in line
    assert "no repository that others can reach" in lines[1]
    assert "has the digest" in lines[3]
    assert "--source" in caught.value.next_step


# --- what is no release ------------------------------------------------------------------------------------------


def test_a_folder_without_a_release_is_refused(stranger: Path) -> None:
    with pytest.raises(StagingError):
        open_origin(stranger / "nothing", stranger / "room")


def test_a_changed_statement_is_refused(project: Committed, stranger: Path) -> None:
    folder = fetched(project.release(), stranger)
    (path,) = folder.glob("*.provenance.json")
    path.write_bytes(path.read_bytes().replace(b"hello", b"other"))
    with pytest.raises(DigestMismatch, match=r"provenance\.json"):
        open_origin(folder, stranger / "room")


def test_a_release_without_statements_says_nothing_of_its_source(project: Committed, stranger: Path) -> None:
    folder = fetched(project.release(), stranger)
    (path,) = folder.glob("*.provenance.json")
    path.unlink()
    with pytest.raises(OriginUnavailable, match="holds no provenance"):
        open_origin(folder, stranger / "room")


def test_a_product_that_the_source_lacks_is_told(project: Committed, tmp_path: Path, stranger: Path) -> None:
    folder = fetched(project.release(), stranger)
    (folder / f"hello_{VERSION}_source.tar.gz").unlink()
    text = (project.root / "matrix.toml").read_text().replace("[products.hello]", "[products.renamed]")
    (tmp_path / "other").mkdir()
    shutil.copytree(project.root / "src", tmp_path / "other" / "src", symlinks=True)
    (tmp_path / "other" / "matrix.toml").write_text(text)
    gone(project, tmp_path)
    lines = refused(folder, stranger, checkout=tmp_path / "other")
    assert "no product 'hello'" in lines[-1]


def test_statements_of_two_sources_for_one_product_are_refused(project: Committed, stranger: Path) -> None:
    release = project.release()
    (path,) = release.folder.glob("*.provenance.json")
    one = json.loads(path.read_bytes())
    two = json.loads(path.read_bytes())
    (tree,) = (each for each in two["predicate"]["buildDefinition"]["resolvedDependencies"]
               if each["name"] == "source tree")  # fmt: skip
    tree["digest"]["sha256"] = "0" * 64
    with pytest.raises(ProvenanceInvalid, match="different sources"):
        promises_of({PurePosixPath("a"): one, PurePosixPath("b"): two})
    assert stranger.is_dir()
