"""Reading folders by content, and outside sources from real local servers, repositories and archives."""

import functools
import hashlib
import http.server
import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from builders.errors import SourceMismatch, SourceUnavailable, ToolchainUnavailable
from builders.model import SourceTree
from builders.sources import (
    ArchiveSource,
    DebianSource,
    GitSource,
    OutsideSource,
    PypiSource,
    debian,
    outside,
    pypi,
    read_tree,
    read_whole,
    tar_tree,
    write_tree,
)
from builders.sources.outside import fetch

EPOCH = 1_700_000_000


def names(tree: SourceTree) -> list[str]:
    return [str(file.path) for file in tree.files]


def git(folder: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }  # fmt: skip
    done = subprocess.run(("git", *arguments), cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "project"
    (top / "src").mkdir(parents=True)
    (top / "src/main.c").write_text("int main(void) { return 0; }\n")
    (top / "build.sh").write_text("#!/bin/sh\n")
    (top / "build.sh").chmod(0o755)
    return top


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    root = tmp_path / "served"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield root, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def make_tar(path: Path, **files: str) -> str:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"hello-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- folders -----------------------------------------------------------------------------------------------------


def test_the_digest_covers_content_name_and_mode(folder: Path) -> None:
    digests = {read_tree(folder, origin="x").digest}
    (folder / "src/main.c").write_text("int main(void) { return 1; }\n")
    digests.add(read_tree(folder, origin="x").digest)
    (folder / "src/main.c").rename(folder / "src/other.c")
    digests.add(read_tree(folder, origin="x").digest)
    (folder / "src/other.c").chmod(0o755)
    digests.add(read_tree(folder, origin="x").digest)
    (folder / "link").symlink_to("src/other.c")
    digests.add(read_tree(folder, origin="x").digest)
    assert len(digests) == 5


def test_the_digest_leaves_out_times_place_and_group_bits(folder: Path, tmp_path: Path) -> None:
    before = read_tree(folder, origin="x")
    other = tmp_path / "elsewhere"
    shutil.copytree(folder, other)
    os.utime(other / "build.sh", (1, 1))
    (other / "src/main.c").chmod(0o600)
    assert read_tree(other, origin="y").digest == before.digest


def test_outputs_and_excluded_paths_are_left_out(folder: Path) -> None:
    for name in ("dist/old.bin", "src/dist/kept.c", "big/data", "big.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    tree = read_tree(folder, origin="x", exclude=("big",))
    assert names(tree) == ["big.txt", "build.sh", "src/dist/kept.c", "src/main.c"]
    assert "dist/old.bin" in names(read_whole(folder, origin="x"))


def test_a_git_work_tree_gives_what_git_does_not_ignore_as_it_is_on_disk(folder: Path) -> None:
    (folder / ".gitignore").write_text("*.o\n")
    git(folder, "init", "-q")
    (folder / "gone.c").write_text("x")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    (folder / "gone.c").unlink()
    (folder / "main.o").write_text("x")
    (folder / "new.c").write_text("x")
    (folder / "src/main.c").write_text("changed")
    tree = read_tree(folder, origin="x")
    assert names(tree) == [".gitignore", "build.sh", "new.c", "src/main.c"]
    assert tree.files[-1].sha256 == hashlib.sha256(b"changed").hexdigest()
    assert names(read_tree(folder / "src", origin="x")) == ["main.c"]


def test_a_git_hook_environment_does_not_lead_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(folder, "init", "-q")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    assert names(read_tree(folder, origin="x")) == ["build.sh", "src/main.c"]


def test_a_folder_that_git_ignores_is_read_whole(folder: Path) -> None:
    (folder / ".gitignore").write_text("vendored/\n")
    git(folder, "init", "-q")
    (folder / "vendored").mkdir()
    (folder / "vendored/a.c").write_text("x")
    assert names(read_tree(folder / "vendored", origin="x")) == ["a.c"]


def test_an_inner_repository_is_read_too(folder: Path) -> None:
    git(folder, "init", "-q")
    inner = folder / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "a.c").write_text("x")
    (inner / ".gitignore").write_text("*.o\n")
    (inner / "a.o").write_text("x")
    assert names(read_tree(folder, origin="x")) == ["build.sh", "inner/.gitignore", "inner/a.c", "src/main.c"]


def test_a_submodule_that_is_not_checked_out_is_named(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    commit = git(folder, "rev-parse", "HEAD")
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{commit},lib")
    (folder / "lib").mkdir()
    with pytest.raises(SourceUnavailable, match=r"submodule 'lib'.*\n.*submodule update"):
        read_tree(folder, origin="x")


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "src/../../outside", "up/../../outside"])
def test_a_link_that_leaves_is_refused(folder: Path, target: str) -> None:
    (folder.parent / "outside").write_text("x")
    (folder / "up").symlink_to("src")
    (folder / "evil").symlink_to(target)
    with pytest.raises(SourceUnavailable, match="'evil' is a link to"):
        read_tree(folder, origin="x")


def test_a_link_that_leaves_through_another_link_is_refused(folder: Path) -> None:
    (folder.parent / "outside").write_text("x")
    (folder / "src/top").symlink_to("..")
    (folder / "evil").symlink_to("src/top/../outside")
    with pytest.raises(SourceUnavailable, match="'evil' is a link to"):
        read_tree(folder, origin="x")


def test_inner_and_dangling_links_are_kept(folder: Path) -> None:
    (folder / "src/up").symlink_to("../build.sh")
    (folder / "src/nowhere").symlink_to("nothing")
    assert {str(file.path): file.link for file in read_tree(folder, origin="x").files if file.link} == {
        "src/up": "../build.sh",
        "src/nowhere": "nothing",
    }


def test_what_is_no_plain_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(SourceUnavailable, match="'pipe' is a FIFO"):
        read_tree(folder, origin="x")
    (folder / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "sock"))
        with pytest.raises(SourceUnavailable, match="'sock' is a socket"):
            read_tree(folder, origin="x")


@pytest.mark.parametrize(("name", "shown"), [(b"bad\xff.c", r"bad\\xff\.c"), (b"evil\nname", r"evil\\nname")])
def test_a_name_that_cannot_be_told_is_refused(folder: Path, name: bytes, shown: str) -> None:
    (folder / os.fsdecode(name)).write_text("x")
    with pytest.raises(SourceUnavailable, match=shown):
        read_tree(folder, origin="x")


def test_a_missing_or_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="is not there"):
        read_tree(tmp_path / "nothing", origin="x")
    with pytest.raises(SourceUnavailable, match="holds no files"):
        read_tree(tmp_path, origin="x")


@pytest.mark.fault(89)
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_a_copy_has_the_same_digest_and_normal_modes(folder: Path, tmp_path: Path, umask: int) -> None:
    (folder / "src/up").symlink_to("../build.sh")
    (folder / "build.sh").chmod(0o700)
    tree = read_tree(folder, origin="x")
    before = os.umask(umask)
    try:
        write_tree(tree, tmp_path / "copy", epoch=EPOCH)
    finally:
        os.umask(before)
    assert read_tree(tmp_path / "copy", origin="y").digest == tree.digest
    status = {path.name: path.lstat() for path in (tmp_path / "copy").rglob("*")}
    assert {name: stat.S_IMODE(one.st_mode) for name, one in status.items() if name != "up"} == {
        "build.sh": 0o755, "main.c": 0o644, "src": 0o755,
    }  # fmt: skip
    assert {one.st_mtime for one in status.values()} == {EPOCH}


@pytest.mark.parametrize("text", ["int main(void) { return 9; }\n", "", "longer than it was at the first reading"])
def test_a_file_that_changed_since_the_plan_is_not_copied(folder: Path, tmp_path: Path, text: str) -> None:
    tree = read_tree(folder, origin="x")
    (folder / "src/main.c").write_text(text)
    with pytest.raises(SourceUnavailable, match=r"'src/main\.c' changed"):
        write_tree(tree, tmp_path / "copy", epoch=EPOCH)
    with pytest.raises(SourceUnavailable, match=r"'src/main\.c' changed"):
        list(tar_tree(tree, epoch=EPOCH))


def test_the_tar_of_a_tree_is_deterministic_and_real_tar_reads_it(folder: Path, tmp_path: Path) -> None:
    (folder / "src/up").symlink_to("../build.sh")
    (folder / ("d" * 120)).mkdir()
    (folder / ("d" * 120) / ("ü" * 60)).write_text("x")
    tree = read_tree(folder, origin="x")
    packed = b"".join(tar_tree(tree, epoch=EPOCH, uid=7, gid=8, below=PurePosixPath("work/src")))
    assert packed == b"".join(tar_tree(tree, epoch=EPOCH, uid=7, gid=8, below=PurePosixPath("work/src")))
    subprocess.run(("tar", "xf", "-", "-C", tmp_path), input=packed, check=True)
    assert read_tree(tmp_path / "work/src", origin="y").digest == tree.digest
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert {(member.uid, member.gid, member.mtime) for member in archive} == {(7, 8, EPOCH)}
        assert archive.getnames()[:2] == ["work", "work/src"]


# --- archives ----------------------------------------------------------------------------------------------------


def test_an_archive_of_the_project_is_fetched_and_kept(tmp_path: Path) -> None:
    digest = make_tar(tmp_path / "hello.tar.gz", **{"main.c": "int x;"})
    source = ArchiveSource(location="hello.tar.gz", sha256=digest)
    tree = fetch(source, tmp_path / "cache", tmp_path)
    assert names(tree) == ["main.c"]
    assert tree.root == (tmp_path / "cache" / digest / "tree").resolve()
    assert str(tmp_path) not in tree.origin
    (tmp_path / "hello.tar.gz").unlink()
    assert fetch(source, tmp_path / "cache", tmp_path).digest == tree.digest


def test_a_kept_tree_that_was_changed_is_fetched_again(tmp_path: Path) -> None:
    digest = make_tar(tmp_path / "hello.tar.gz", **{"main.c": "int x;"})
    source = ArchiveSource(location="hello.tar.gz", sha256=digest)
    tree = fetch(source, tmp_path / "cache", tmp_path)
    (tree.root / "main.c").write_text("int y;")
    assert fetch(source, tmp_path / "cache", tmp_path).digest == tree.digest
    (tree.root / "main.c").write_text("int y;")
    (tmp_path / "hello.tar.gz").unlink()
    with pytest.raises(SourceUnavailable, match=r"hello\.tar\.gz"):
        fetch(source, tmp_path / "cache", tmp_path)


def test_a_wrong_digest_names_both_and_keeps_nothing(tmp_path: Path) -> None:
    digest = make_tar(tmp_path / "hello.tar.gz", **{"main.c": "int x;"})
    with pytest.raises(SourceMismatch, match=rf"{digest}.*{'0' * 64}.*\n.*next:") as caught:
        fetch(ArchiveSource(location="hello.tar.gz", sha256="0" * 64), tmp_path / "cache", tmp_path)
    assert caught.value.exit_code == 16
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{'0' * 64}.lock"]


def test_what_a_killed_fetch_left_is_removed(tmp_path: Path) -> None:
    digest = make_tar(tmp_path / "hello.tar.gz", **{"main.c": "int x;"})
    leftover = tmp_path / "cache" / f".{digest}.killed"
    leftover.mkdir(parents=True)
    fetch(ArchiveSource(location="hello.tar.gz", sha256=digest), tmp_path / "cache", tmp_path)
    assert not leftover.exists()


@pytest.mark.parametrize("location", ["../outside.tar.gz", "/etc/passwd", "nothing.tar.gz"])
def test_a_path_that_is_not_below_the_project_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "project").mkdir()
    make_tar(tmp_path / "outside.tar.gz", a="x")
    with pytest.raises(SourceUnavailable, match="is not a file below"):
        fetch(ArchiveSource(location=location, sha256="0" * 64), tmp_path / "cache", tmp_path / "project")


def test_an_archive_comes_over_http(tmp_path: Path, served: tuple[Path, str]) -> None:
    root, url = served
    digest = make_tar(root / "hello.tar.gz", **{"main.c": "int x;"})
    with_password = url.replace("http://", "http://user:secret@")
    source = ArchiveSource(location=f"{with_password}/hello.tar.gz", sha256=digest)
    assert names(fetch(source, tmp_path / "cache", tmp_path)) == ["main.c"]
    missing = ArchiveSource(location=f"{with_password}/nothing.tar.gz", sha256="0" * 64)
    with pytest.raises(SourceUnavailable, match="404") as caught:
        fetch(missing, tmp_path / "cache", tmp_path)
    assert "secret" not in str(caught.value) + outside.describe(source)


def test_a_server_that_hangs_up_early_is_noticed(tmp_path: Path) -> None:
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.tar.gz"
        with pytest.raises(SourceUnavailable, match="5 of 1000 bytes"):
            fetch(ArchiveSource(location=url, sha256="0" * 64), tmp_path / "cache", tmp_path)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a", "data://x,abc", "http://127.0.0.1:1/a", "file:///nonexistent"])
def test_a_url_that_cannot_be_fetched_is_unavailable(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceUnavailable, match="cannot be fetched") as caught:
        fetch(ArchiveSource(location=url, sha256="0" * 64), tmp_path / "cache", tmp_path)
    assert caught.value.exit_code == 18


# --- git ---------------------------------------------------------------------------------------------------------


def test_a_commit_is_fetched_by_its_name_even_when_no_branch_ends_there(folder: Path, tmp_path: Path) -> None:
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    commit = git(folder, "rev-parse", "HEAD")
    (folder / "later.c").write_text("x")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "second")
    tree = fetch(GitSource(url=f"file://{folder}", commit=commit), tmp_path / "cache", tmp_path)
    assert names(tree) == ["build.sh", "src/main.c"]
    assert tree.files[0].executable
    relative = fetch(GitSource(url="project", commit=commit), tmp_path / "cache2", tmp_path)
    assert relative.digest == tree.digest


def test_a_commit_that_is_not_there_and_a_tag_object_are_refused(folder: Path, tmp_path: Path) -> None:
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    git(folder, "tag", "-am", "t", "v1")
    for commit in ("1" * 40, git(folder, "rev-parse", "v1")):
        with pytest.raises((SourceMismatch, SourceUnavailable), match=r"project"):
            fetch(GitSource(url=f"file://{folder}", commit=commit), tmp_path / "cache", tmp_path)
    with pytest.raises(SourceUnavailable, match="cannot be fetched"):
        fetch(GitSource(url=f"file://{tmp_path}/nothing", commit="1" * 40), tmp_path / "cache", tmp_path)


def test_a_transport_that_runs_programs_is_not_allowed(tmp_path: Path) -> None:
    source = GitSource(url=f"ext::touch {tmp_path}/ran", commit="1" * 40)
    with pytest.raises(SourceUnavailable, match="not allowed"):
        fetch(source, tmp_path / "cache", tmp_path)
    assert not (tmp_path / "ran").exists()


# --- sdists ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "html"])
def test_an_sdist_comes_from_the_index_that_pip_uses(
    tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    root, url = served
    digest = make_tar(root / "hello_there-1.0.tar.gz", **{"setup.py": f"open({str(tmp_path / 'ran')!r}, 'w')"})
    (root / "simple/hello-there").mkdir(parents=True)
    pages = {
        "json": '{"files": [{"filename": "hello_there-1.0.tar.gz", "url": "../../hello_there-1.0.tar.gz", "hashes": '
        f'{{"sha256": "{digest}"}}}}]}}',
        "html": f'<a href="../../hello_there-1.0.tar.gz#sha256={digest}">x</a><a href="../../hello_there-2.0.tar.gz">',
    }
    (root / "simple/hello-there/index.html").write_text(pages[form])
    monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{url}/nothing")
    source = PypiSource(package="Hello.There", version="1.0", sha256=digest)
    assert names(fetch(source, tmp_path / "cache", tmp_path)) == ["setup.py"]
    assert not (tmp_path / "ran").exists()
    with pytest.raises(SourceMismatch, match=digest):
        fetch(PypiSource(package="hello-there", version="1.0", sha256="0" * 64), tmp_path / "cache", tmp_path)
    with pytest.raises(SourceUnavailable, match=r"hello-there 3\.0"):
        fetch(PypiSource(package="hello-there", version="3.0", sha256="1" * 64), tmp_path / "cache", tmp_path)


def test_pip_knows_its_own_default_index() -> None:
    settings = pypi._parse_settings("global.index-url='http://a/'\n:env:.index-url='http://b/'\n")
    assert list(settings) == [("index-url", "http://a/"), ("index-url", "http://b/")]
    assert all("://" in index for index in pypi._pip_settings().indexes)


# --- Debian ------------------------------------------------------------------------------------------------------


def test_deb_lines_become_deb_src_lines() -> None:
    one_line = debian._for_source_packages(
        "# comment\ndeb [signed-by=/k.gpg] http://mirror/debian stable main\ndeb-src http://mirror/debian stable main\n"
        "  deb http://mirror/debian stable main\n", ".list"
    )  # fmt: skip
    assert one_line == (
        "deb-src [signed-by=/k.gpg] http://mirror/debian stable main\ndeb-src http://mirror/debian stable main\n"
    )
    stanza = debian._for_source_packages("Types: deb deb-src\nURIs: http://mirror/\n\ntypes: deb\n", ".sources")
    assert stanza == "Types: deb-src\nURIs: http://mirror/\n\nTypes: deb-src\n"


def pack(path: Path, folder: Path) -> tuple[str, int]:
    subprocess.run(("tar", "caf", path, "-C", folder.parent, folder.name), check=True)
    return hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size


@pytest.fixture
def quilt_package(tmp_path: Path) -> Path:
    """A source package of format 3.0 (quilt): orig, one more component, a debian folder with a patch."""
    files = {
        "hello-1.0/main.c": "one\ntwo\nthree\n", "hello-1.0/debian/old": "x", "data/table": "x",
        "debian/rules": "#!/usr/bin/make -f\n", "debian/patches/series": "# comment\n\nfix.diff -p1 # why\n",
        "debian/patches/fix.diff": "--- a/main.c\n+++ b/main.c\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(text)
    package = tmp_path / "package"
    package.mkdir()
    lines = []
    for name, folder in (("hello_1.0.orig.tar.gz", "hello-1.0"), ("hello_1.0.orig-data.tar.bz2", "data"),
                         ("hello_1.0-1.debian.tar.xz", "debian")):  # fmt: skip
        digest, size = pack(package / name, tmp_path / "in" / folder)
        lines.append(f" {digest} {size} {name}")
    (package / "hello_1.0-1.dsc").write_text(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nFormat: 3.0 (quilt)\nSource: hello\n"
        "Checksums-Sha256:\n" + "\n".join(lines) + "\nFiles:\n x 1 y\n\n-----BEGIN PGP SIGNATURE-----\nxyz\n"
    )
    return package


def unpack_package(package: Path, tree: Path) -> None:
    dsc = debian._fields(next(package.glob("*.dsc")).read_text())
    files = debian._checked_files(dsc, package)
    debian._unpack(dsc["Format"], [package / name for name in files], tree)


@pytest.mark.skipif(shutil.which("patch") is None, reason="needs the program patch")
def test_a_quilt_package_is_unpacked_with_its_patches(quilt_package: Path, tmp_path: Path) -> None:
    unpack_package(quilt_package, tmp_path / "tree")
    tree = read_whole(tmp_path / "tree", origin="x")
    assert names(tree) == ["data/table", "debian/patches/fix.diff", "debian/patches/series", "debian/rules", "main.c"]
    assert (tmp_path / "tree/main.c").read_text() == "one\n2\nthree\n"
    assert {str(file.path) for file in tree.files if file.executable} == {"debian/rules"}


def test_a_package_file_with_other_bytes_is_refused(quilt_package: Path, tmp_path: Path) -> None:
    with (quilt_package / "hello_1.0.orig.tar.gz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(SourceMismatch, match=r"hello_1\.0\.orig\.tar\.gz"):
        unpack_package(quilt_package, tmp_path / "tree")


def test_a_missing_patch_program_is_named(quilt_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainUnavailable, match="'patch'"):
        unpack_package(quilt_package, tmp_path / "tree")


def test_a_machine_without_apt_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainUnavailable, match="apt-get"):
        fetch(DebianSource(package="hello", version="1", sha256="0" * 64), tmp_path / "cache", tmp_path)


def test_every_kind_of_source_has_a_description_with_its_digest() -> None:
    digest = "a" * 64
    kinds: tuple[OutsideSource, ...] = (
        DebianSource(package="p", version="1", sha256=digest),
        PypiSource(package="p", version="1", sha256=digest),
        GitSource(url="https://user:secret@host/p.git", commit=digest),
        ArchiveSource(location="p.tar.gz", sha256=digest),
    )
    described = [outside.describe(source) for source in kinds]
    assert all(digest in text and "secret" not in text for text in described)
