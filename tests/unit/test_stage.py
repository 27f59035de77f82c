"""Staging: the folder, its papers, its names, and what a kill leaves behind."""

import dataclasses
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from builders.errors import CommandFailed
from builders.model import (
    BuiltFile,
    Cell,
    CellKey,
    CommandRecipe,
    Digest,
    Libc,
    OutputPattern,
    Placement,
    SmokeHow,
    SmokeResult,
    SourceTree,
    Toolchain,
)
from builders.targets import TARGETS
from orchestrator import folder_swap
from orchestrator.archive import Member
from orchestrator.errors import StagingError
from orchestrator.folder_swap import new_folder
from orchestrator.manifest import RESERVED_ENDINGS, Document, DocumentKind, StagedArtifact
from orchestrator.model import (
    ArchiveRules,
    BuildReport,
    Built,
    CacheState,
    CellResult,
    Failed,
    Finding,
    LeftOut,
    Matrix,
    Plan,
    PlannedCell,
    Product,
    Project,
    Skipped,
    StagedRelease,
    Verdict,
)
from orchestrator.stage import stage

ROOT = Path(__file__).parents[2]
EPOCH = 1_700_000_000


class World:
    """A project with built cells, as the stages before this one leave it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project = root / "project"
        self.project.mkdir(parents=True)
        (self.project / "LICENSE").write_text("licence\n")
        (self.project / "README.md").write_text("read me\n")
        self.products: dict[str, Product] = {}
        self.results: list[CellResult] = []
        self.left_out: tuple[LeftOut, ...] = ()
        self.version = "1.2.3"

    def product(self, name: str, archive: ArchiveRules | None) -> None:
        self.products[name] = Product(
            name=name, source=PurePosixPath(), recipe=CommandRecipe(toolchain="gcc", script="make"),
            outputs=(OutputPattern(glob="**"),), targets=("x86_64",), archive=archive,
        )  # fmt: skip

    def cell(self, product: str, target: str) -> Cell:
        tree = SourceTree(root=self.project, files=(), digest=Digest("sha256:" + "1" * 64), origin="folder .")
        toolchain = Toolchain(
            name="gcc", identity=Digest("sha256:" + "2" * 64), description="gcc 12", isolation="bubblewrap"
        )
        return Cell(
            product=product, target=TARGETS[target], recipe=CommandRecipe(toolchain="gcc", script="make"),
            placement=Placement.CROSS, reason="cross compiler", builder="local", toolchain=toolchain, libc=Libc(),
            source=tree, outputs=(OutputPattern(glob="**"),), version=self.version, epoch=EPOCH,
            key=CellKey("3" * 64),
        )  # fmt: skip

    def built(self, product: str, target: str, files: dict[str, bytes], *, seconds: float = 1.0) -> Built:
        if product not in self.products:
            self.product(product, ArchiveRules())
        folder = self.root / "cells" / product / target
        taken = []
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            file = BuiltFile(
                path=PurePosixPath(name), size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(),
                sha512=hashlib.sha512(data).hexdigest(), executable=name.startswith("bin/") or name.endswith(".exe"),
            )  # fmt: skip
            taken.append(file)
        text = f"names {self.project}/src and {folder}"
        result = Built(
            cell=self.cell(product, target), folder=folder, files=tuple(taken),
            findings=(Finding(path=PurePosixPath("bin/hello"), rule="build_paths", text=text, verdict=Verdict.WARN),),
            smoke=SmokeResult(how=SmokeHow.NATIVE, tests=1), seconds=seconds, from_cache=False,
        )  # fmt: skip
        self.results.append(result)
        return result

    def report(self) -> BuildReport:
        cells = tuple(PlannedCell(cell=result.cell, cache=CacheState.MISS, estimate_s=None) for result in self.results)
        plan = Plan(
            project="hello", version=self.version, commit="c" * 40, dirty=False, epoch=EPOCH, engine="local",
            engine_reason="no daemon", cells=cells, left_out=self.left_out,
        )  # fmt: skip
        return BuildReport(plan=plan, results=tuple(self.results))

    def matrix(self) -> Matrix:
        return Matrix(
            file=self.project / "matrix.toml", root=self.project, project=Project(name="hello", version="1.2.3"),
            targets=TARGETS, best_effort=frozenset(), products=tuple(self.products.values()),
        )  # fmt: skip

    def stage(self) -> StagedRelease:
        return stage(self.report(), self.matrix(), self.root / "dist")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def three_targets(world: World) -> None:
    for target in ("x86_64", "armv7"):
        world.built("hello", target, {"bin/hello": target.encode() * 1000, "share/data": b"data"})
    world.built("hello", "x86_64-windows", {"hello.exe": b"MZ"})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def papers(release: StagedRelease, name: str) -> Any:
    return json.loads((release.folder / name).read_bytes())


# --- what is there -----------------------------------------------------------------------------------------------


def test_a_release_holds_an_archive_per_cell_and_its_papers(world: World) -> None:
    three_targets(world)
    release = world.stage()
    assert release.folder == world.root / "dist/staging/1.2.3"
    archives = [
        "hello_1.2.3_linux_armv7.tar.gz", "hello_1.2.3_linux_x86_64.tar.gz", "hello_1.2.3_windows_x86_64.zip",
    ]  # fmt: skip
    assert sorted(contents(release.folder)) == sorted(
        [*archives, "artifacts.json", "checksums.sha512", "checksums.txt", "manifest.json"]
    )
    assert [str(artifact.path) for artifact in release.artifacts] == archives
    assert list((world.root / "dist/staging").iterdir()) == [release.folder]
    with tarfile.open(release.folder / archives[1]) as archive:
        assert [member.name for member in archive if member.isfile()] == [
            f"hello_1.2.3_linux_x86_64/{name}" for name in ("LICENSE", "README.md", "bin/hello", "share/data")
        ]
    with zipfile.ZipFile(release.folder / archives[2]) as zipped:
        assert "hello_1.2.3_windows_x86_64/hello.exe" in zipped.namelist()


def test_the_real_sum_tools_accept_the_checksums(world: World) -> None:
    three_targets(world)
    folder = world.stage().folder
    for tool, name in (("sha256sum", "checksums.txt"), ("sha512sum", "checksums.sha512")):
        done = subprocess.run((tool, "-c", "--strict", name), cwd=folder, check=True, capture_output=True, text=True)
        assert done.stdout.count(": OK") == 3
        lines = (folder / name).read_text().splitlines()
        assert [line.split("  ")[1] for line in lines] == sorted(line.split("  ")[1] for line in lines)
    with (folder / "hello_1.2.3_linux_armv7.tar.gz").open("ab") as file:
        file.write(b"x")
    assert subprocess.run(("sha256sum", "-c", "--strict", "checksums.txt"), cwd=folder, check=False,
                          capture_output=True).returncode == 1  # fmt: skip


def test_the_manifest_says_what_was_made_and_how(world: World) -> None:
    three_targets(world)
    release = world.stage()
    manifest = papers(release, "manifest.json")
    assert {key: manifest[key] for key in ("schema", "project", "version", "commit", "epoch", "absent")} == {
        "schema": "relbuild/manifest/v1", "project": "hello", "version": "1.2.3", "commit": "c" * 40, "epoch": EPOCH,
        "absent": [],
    }  # fmt: skip
    entry = manifest["artifacts"][1]
    data = (release.folder / entry["path"]).read_bytes()
    assert (entry["size"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert entry["sha512"] == hashlib.sha512(data).hexdigest()
    assert (entry["kind"], entry["product"], entry["target"]) == ("archive", "hello", "x86_64")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for file in entry["files"]:
            inside = archive.extractfile(f"{entry['root']}/{file['path']}")
            assert inside is not None
            assert hashlib.sha256(inside.read()).hexdigest() == file["sha256"]
    assert len(entry["files"]) == 4
    made = entry["made"]
    assert (made["cell"], made["key"], made["builder"]) == ("hello/x86_64", "3" * 64, "local")
    assert made["toolchain"] == {"name": "gcc", "digest": "sha256:" + "2" * 64}
    assert (made["isolation"], made["placement"]) == ("bubblewrap", "cross")
    assert made["smoke"] == {"how": "native", "tests": 1, "note": "", "runs": []}
    assert made["findings"][0]["text"] == "names $PROJECT/src and $OUT"
    manifest_bytes = (release.folder / "manifest.json").read_bytes()
    assert release.manifest_sha256 == hashlib.sha256(manifest_bytes).hexdigest()


def test_artifacts_json_answers_what_scripts_ask_of_goreleaser(world: World) -> None:
    three_targets(world)
    release = world.stage()
    entries = papers(release, "artifacts.json")
    archives = [entry for entry in entries if entry["type"] == "Archive"]
    assert [(entry["goos"], entry["goarch"], entry.get("goarm")) for entry in archives] == [
        ("linux", "arm", "7"), ("linux", "amd64", None), ("windows", "amd64", None),
    ]  # fmt: skip
    assert archives[0]["target"] == "linux_arm_7"
    assert archives[0]["internal_type"] == 1
    assert archives[1]["path"] == "dist/staging/1.2.3/hello_1.2.3_linux_x86_64.tar.gz"
    assert archives[1]["extra"] == {
        "Checksum": f"sha256:{release.artifacts[1].sha256}", "Format": "tar.gz", "ID": "hello",
        "WrappedIn": "hello_1.2.3_linux_x86_64", "Binaries": ["hello"],
    }  # fmt: skip
    assert [entry["name"] for entry in entries if entry["type"] == "Checksum"] == ["checksums.txt", "checksums.sha512"]


def test_cells_that_are_missing_are_named(world: World) -> None:
    world.built("hello", "x86_64", {"bin/hello": b"x"})
    log = world.root / "log"
    world.results.append(Failed(cell=world.cell("hello", "armv7"), error=CommandFailed("x"), log=log, seconds=1.0))
    world.results.append(Skipped(cell=world.cell("hello", "aarch64"), reason="stopped"))
    world.left_out = (LeftOut(product="hello", target="x86_64-macos", reason="r", next_step="n", required=False),)
    assert papers(world.stage(), "manifest.json")["absent"] == [
        {"cell": "hello/aarch64", "required": True, "why": "skipped"},
        {"cell": "hello/armv7", "required": True, "why": "CommandFailed"},
        {"cell": "hello/x86_64-macos", "required": False, "why": "left out"},
    ]


def test_a_product_without_archive_gives_its_files(world: World) -> None:
    world.product("hello", None)
    world.built("hello", "x86_64", {"bin/hello": b"program", "notes.txt": b"notes"})
    release = world.stage()
    assert [str(artifact.path) for artifact in release.artifacts] == [
        "hello_1.2.3_linux_x86_64_bin_hello", "hello_1.2.3_linux_x86_64_notes.txt",
    ]  # fmt: skip
    assert (release.folder / "hello_1.2.3_linux_x86_64_bin_hello").stat().st_mode & 0o777 == 0o755
    assert [entry["type"] for entry in papers(release, "artifacts.json")] == ["Binary", "File", "Checksum", "Checksum"]
    assert papers(release, "manifest.json")["artifacts"][0]["executable"] is True


def test_the_template_and_extra_files_are_used(world: World) -> None:
    (world.project / "docs").mkdir()
    (world.project / "docs/hello.1").write_text("manual")
    rules = ArchiveRules(name="{product}-tools-{os}-{target}", extra=(PurePosixPath("docs/hello.1"),
                                                                      PurePosixPath("LICENSE")))  # fmt: skip
    world.product("hello", rules)
    world.built("hello", "x86_64", {"bin/hello": b"x", "README.md": b"of the build"})
    release = world.stage()
    (entry,) = papers(release, "manifest.json")["artifacts"]
    assert entry["path"] == "hello-tools-linux-x86_64.tar.gz"
    assert [file["path"] for file in entry["files"]] == ["LICENSE", "README.md", "bin/hello", "docs/hello.1"]
    assert entry["files"][1]["sha256"] == hashlib.sha256(b"of the build").hexdigest()


def test_only_licences_and_read_mes_that_are_files_come_along(world: World) -> None:
    for name in ("LICENSE-MIT", "COPYING", "licensecheck.go", "README~", "README.de.md"):
        (world.project / name).write_text(name)
    (world.project / "LICENSES").mkdir()
    (world.project / "COPYING.LIB").symlink_to("/etc/hostname")
    world.built("hello", "x86_64", {"bin/hello": b"x"})
    (entry,) = papers(world.stage(), "manifest.json")["artifacts"]
    assert [file["path"] for file in entry["files"]] == [
        "COPYING", "LICENSE", "LICENSE-MIT", "README.de.md", "README.md", "bin/hello",
    ]  # fmt: skip


# --- the same bytes ----------------------------------------------------------------------------------------------


def test_staging_again_gives_the_same_bytes(world: World) -> None:
    three_targets(world)
    first = contents(world.stage().folder)
    assert contents(world.stage().folder) == first


@pytest.mark.fault(89)
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_neither_folder_nor_time_nor_order_nor_umask_shows(tmp_path: Path, umask: int) -> None:
    one, two = World(tmp_path / "one"), World(tmp_path / "some/other/place")
    three_targets(one)
    three_targets(two)
    again = (dataclasses.replace(built, seconds=99.0, from_cache=True) for built in two.report().built[::-1])
    two.results = list[CellResult](again)
    first = one.stage()
    before = os.umask(umask)
    try:
        second = two.stage()
    finally:
        os.umask(before)
    assert contents(first.folder) == contents(second.folder)
    assert first.manifest_sha256 == second.manifest_sha256
    assert not any(str(tmp_path).encode() in data for data in contents(first.folder).values())
    modes = {path.stat().st_mode & 0o777 for path in second.folder.iterdir()}
    assert (modes, second.folder.stat().st_mode & 0o777) == ({0o644}, 0o755)


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.fault(68)
def test_nothing_built_is_nothing_to_stage(world: World) -> None:
    with pytest.raises(StagingError, match="nothing to stage"):
        world.stage()
    assert not (world.root / "dist").exists()


def test_a_file_that_changed_after_the_build_is_refused_and_the_old_release_stays(world: World) -> None:
    built = world.built("hello", "x86_64", {"bin/hello": b"program"})
    before = contents(world.stage().folder)
    (built.folder / "bin/hello").write_bytes(b"PROGRAM")
    with pytest.raises(StagingError, match="'bin/hello' has other bytes than when it was built") as caught:
        world.stage()
    assert caught.value.exit_code == 27
    assert contents(world.root / "dist/staging/1.2.3") == before
    assert [path.name for path in (world.root / "dist/staging").iterdir()] == ["1.2.3"]


@pytest.mark.parametrize("name", ["manifest.json", "Index.JSON", "checksums.txt", "checksums.sha512", "artifacts.json"])
def test_reserved_names_are_refused(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world.product("hello", None)
    world.built("hello", "x86_64", {"x": b"x"})
    # Every name of ours starts with the product, so only a template could ever say one of these.
    monkeypatch.setattr("orchestrator.stage.RESERVED", {f"hello_1.2.3_linux_x86_64_{suffix}" for suffix in "xy"})
    with pytest.raises(StagingError, match="is reserved"):
        world.stage()
    monkeypatch.undo()
    world.product("hello", ArchiveRules(name=name))
    assert papers(world.stage(), "manifest.json")["artifacts"][0]["path"] == f"{name}.tar.gz"


@pytest.mark.parametrize(("template", "message"), [
    ("{product}", "would both give an artifact"), ("{nothing}", "cannot be filled in"), ("{", "cannot be filled in"),
    ("{name.x}", "cannot be filled in"), ("../{target}", "holds a slash"), (".{target}", "starts with a dot"),
    ("-{target}", "read as an option"), ("{target}\n", r"'aarch64\\n\.tar\.gz', which holds a control"),
    ("x" * 256 + "{target}", "longer than 255"),
])  # fmt: skip
def test_a_bad_template_is_refused(world: World, template: str, message: str) -> None:
    world.product("hello", ArchiveRules(name=template))
    for target in ("x86_64", "aarch64"):
        world.built("hello", target, {"bin/hello": b"x"})
    with pytest.raises(StagingError, match=message):
        world.stage()


def test_plain_files_with_one_name_are_refused(world: World) -> None:
    world.product("hello", None)
    world.built("hello", "x86_64", {"a/b": b"1", "a_b": b"2"})
    with pytest.raises(StagingError, match="would both give an artifact named 'hello_1"):
        world.stage()


@pytest.mark.fault(66)
@pytest.mark.parametrize("version", ["../x", "a/b", ".hidden", "", "..", "-rf", "a\nb", "v" * 256])
def test_a_version_that_is_no_folder_name_is_refused(world: World, version: str) -> None:
    world.version = version
    world.built("hello", "x86_64", {"bin/hello": b"x"})
    with pytest.raises(StagingError, match="cannot be the name of a folder"):
        world.stage()


@pytest.mark.parametrize("extra", ["nothing", "../outside", "/etc/hostname", "link", "docs"])
def test_an_extra_file_that_is_not_below_the_project_is_refused(world: World, extra: str) -> None:
    (world.root / "outside").write_text("x")
    (world.project / "link").symlink_to("../outside")
    (world.project / "docs").mkdir()
    world.product("hello", ArchiveRules(extra=(PurePosixPath(extra),)))
    world.built("hello", "x86_64", {"bin/hello": b"x"})
    with pytest.raises(StagingError, match="is not a file below"):
        world.stage()


def test_an_extra_file_in_the_place_of_an_output_is_refused(world: World) -> None:
    world.product("hello", ArchiveRules(extra=(PurePosixPath("LICENSE"),)))
    world.built("hello", "x86_64", {"licence": b"x", "License": b"x"})
    with pytest.raises(StagingError, match="'LICENSE' and 'License'"):
        world.stage()


def test_a_place_that_cannot_be_written_is_named(world: World) -> None:
    world.built("hello", "x86_64", {"bin/hello": b"x"})
    (world.root / "dist").write_text("a file")
    with pytest.raises(StagingError, match=r"dist.*cannot be written"):
        world.stage()


# --- swapping ----------------------------------------------------------------------------------------------------


def test_leftovers_of_a_killed_run_are_removed(world: World) -> None:
    (world.root / "dist/staging/.new.abc").mkdir(parents=True)
    (world.root / "dist/staging/.new.abc/file").touch()
    world.built("hello", "x86_64", {"bin/hello": b"x"})
    world.stage()
    assert [path.name for path in (world.root / "dist/staging").iterdir()] == ["1.2.3"]


def test_a_file_system_without_exchange_is_served_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.built("hello", "x86_64", {"bin/hello": b"x"})
    before = contents(world.stage().folder)
    monkeypatch.setattr(folder_swap, "_exchange", lambda one, other: False)
    assert contents(world.stage().folder) == before
    assert [path.name for path in (world.root / "dist/staging").iterdir()] == ["1.2.3"]


def test_an_older_folder_is_swapped_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "staging/1.0"
    with new_folder(place):
        pass

    def two_steps(path: Path, target: Path) -> Path:
        pytest.fail(f"{path} was renamed to {target}, and nothing was there for a moment")

    monkeypatch.setattr(Path, "rename", two_steps)
    with new_folder(place) as folder:
        (folder / "new").touch()
    assert [path.name for path in place.iterdir()] == ["new"]


KILLED = """
import os, sys, pathlib
from orchestrator.folder_swap import new_folder
place = pathlib.Path(sys.argv[1])
print("ready", flush=True)
for n in range(10_000):
    with new_folder(place) as folder:
        for name in ("a", "b"):
            (folder / name).write_text(str(n))
"""


@pytest.mark.fault(2)
def test_a_kill_at_any_instant_leaves_one_whole_folder(tmp_path: Path) -> None:
    place = tmp_path / "staging/1.0"
    with new_folder(place) as folder:
        for name in ("a", "b"):
            (folder / name).write_text("first")
    for round_ in range(12):
        argv = (sys.executable, "-c", KILLED, str(place))
        process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.003 * round_)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert (place / "a").read_text() == (place / "b").read_text()
    with new_folder(place) as folder:
        (folder / "a").write_text("last")
    assert sorted(path.name for path in place.parent.iterdir()) == ["1.0"]
    assert [path.name for path in place.iterdir()] == ["a"]


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs tar")
def test_an_archive_comes_out_with_real_tar(world: World) -> None:
    world.built("hello", "x86_64", {"bin/hello": b"program"})
    release = world.stage()
    subprocess.run(("tar", "xf", release.folder / str(release.artifacts[0].path), "-C", world.root), check=True)
    program = world.root / "hello_1.2.3_linux_x86_64/bin/hello"
    assert program.read_bytes() == b"program"
    assert os.access(program, os.X_OK)


def test_documents_are_named_after_what_they_describe_and_listed(world: World) -> None:
    world.built("tool", "x86_64", {"bin/tool": b"bytes"})

    def describe(staged: StagedArtifact, members: Sequence[Member]) -> list[Document]:
        text = f"{staged.artifact.sha256} {len(members)}".encode()
        return [Document.about(staged.artifact, DocumentKind.SPDX, text)]

    release = stage(world.report(), world.matrix(), world.root / "dist", describe)
    folder = release.folder
    name = "hello_1.2.3_linux_x86_64.tar.gz"
    document = (folder / f"{name}.spdx.json").read_bytes()
    assert document.startswith(hashlib.sha256((folder / name).read_bytes()).hexdigest().encode())
    listed = {entry["path"]: entry for entry in papers(release, "manifest.json")["documents"]}
    assert set(listed) == {f"{name}.spdx.json", "checksums.txt", "checksums.sha512", "artifacts.json"}
    for path, entry in listed.items():
        assert entry["sha256"] == hashlib.sha256((folder / path).read_bytes()).hexdigest()
    assert listed[f"{name}.spdx.json"]["of"] == name
    assert f"{hashlib.sha256(document).hexdigest()}  {name}.spdx.json\n" in (folder / "checksums.txt").read_text()


@pytest.mark.parametrize("ending", RESERVED_ENDINGS)
def test_no_artifact_may_look_like_a_document(world: World, ending: str) -> None:
    world.product("tool", None)
    world.built("tool", "x86_64", {f"x{ending}": b"bytes"})
    with pytest.raises(StagingError, match="as documents and signatures do"):
        world.stage()
