"""`relbuild matrix` as a user runs it, on this project's own example, with each engine."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.trust import ARMOR, ATTESTATION, BUNDLE
from tests.integration.conftest import require_engine

ROOT = Path(__file__).parents[2]
RELBUILD = [sys.executable, "-P", "-c", "from orchestrator.cli import main; main()"]
ENGINES = [
    pytest.param("local"),
    pytest.param("docker", marks=pytest.mark.engine),
]
MACHINES = {"x86_64": "Advanced Micro Devices X86-64", "aarch64": "AArch64", "armv7": "ARM"}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name == "docker":
        require_engine()
    return name


@pytest.fixture(scope="module")
def first(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, built once."""
    return build(make_project(tmp_path_factory.mktemp(f"first-{engine}")), engine)


def make_project(folder: Path) -> Path:
    for name in ("matrix.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "examples" / "hexsum", folder / "examples" / "hexsum")
    (folder / "orchestrator").mkdir()
    shutil.copy(ROOT / "orchestrator" / "__init__.py", folder / "orchestrator")
    subprocess.run([ROOT / "ci" / "demo-keys", folder], check=True, capture_output=True, timeout=120)
    return folder


def relbuild(folder: Path, engine: str, *arguments: str, env: Mapping[str, str] | None = None, umask: int = -1) -> str:
    done = subprocess.run(
        [*RELBUILD, "matrix", "--targets", "all", "--products", "hexsum", "--engine", engine, *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}, capture_output=True, text=True,
        timeout=800, check=False, umask=umask,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def build(folder: Path, engine: str) -> Path:
    relbuild(folder, engine)
    return folder


def staged(folder: Path) -> dict[str, bytes]:
    """Give every staged file but the signatures, which no two keys make alike."""
    files = [path for path in (folder / "dist" / "staging").rglob("*") if path.is_file()]
    signed = (BUNDLE, ARMOR, ATTESTATION)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if not path.name.endswith(signed)}
    # Three archives with three documents each, two files of checksums, the manifest and GoReleaser's list.
    assert len(found) == 16
    return found


def programs(folder: Path) -> dict[str, Path]:
    found = {}
    for archive in (folder / "dist" / "staging").rglob("*.tar.gz"):
        name = next(target for target in MACHINES if archive.name.endswith(f"_{target}.tar.gz"))
        place = folder / "unpacked" / name
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["tar", "-xzf", str(archive), "-C", str(place), "--strip-components=1"], check=True)
        found[name] = place / "hexsum"
    return found


def test_the_three_programs_are_for_the_three_machines(first: Path) -> None:
    found = programs(first)
    assert set(found) == set(MACHINES)
    for target, program in found.items():
        header = subprocess.run(["readelf", "-h", str(program)], capture_output=True, text=True, check=True).stdout
        assert re.search(rf"Machine:\s+{MACHINES[target]}$", header, re.MULTILINE)


def test_every_program_runs_and_says_the_same(first: Path) -> None:
    manifest = next((first / "dist" / "staging").rglob("manifest.json")).read_text()
    assert manifest.count('"how": "native"') == 1
    if shutil.which("qemu-aarch64-static"):
        assert manifest.count('"how": "emulated"') == 2
    assert '"how": "not run"' not in manifest or not shutil.which("qemu-aarch64-static")


def test_checksums_pass_and_archives_are_plain(first: Path) -> None:
    folder = next((first / "dist" / "staging").rglob("checksums.txt")).parent
    for program, file in (("sha256sum", "checksums.txt"), ("sha512sum", "checksums.sha512")):
        done = subprocess.run([program, "-c", "--strict", file], cwd=folder, capture_output=True, text=True, check=True)
        assert done.stdout.count(": OK") == 12
    for archive in folder.glob("*.tar.gz"):
        listed = subprocess.run(["tar", "tvf", str(archive)], env={**os.environ, "TZ": "UTC"}, capture_output=True,
                                text=True, check=True).stdout.splitlines()  # fmt: skip
        names = [line.split()[-1] for line in listed]
        assert names == sorted(names)
        assert {line.split()[1] for line in listed} <= {"0/0", "root/root"}
        assert len({tuple(line.split()[3:5]) for line in listed}) == 1


@pytest.mark.fault(89)
def test_another_folder_and_another_world_give_the_same_bytes(first: Path, engine: str, tmp_path: Path) -> None:
    folder = tmp_path / "a longer name" / "of another folder"
    folder.mkdir(parents=True)
    other = make_project(folder)
    for path in other.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    if engine == "local":
        shutil.copytree(first / "dist" / "cache", other / "dist" / "cache")
    relbuild(other, engine, "--jobs", "1", env={"TZ": "Asia/Tokyo", "LC_ALL": "C", "HOME": str(tmp_path)}, umask=0o077)
    assert staged(other) == staged(first)


def test_nothing_changed_builds_nothing_and_one_file_builds_its_cells(first: Path, engine: str) -> None:
    before = staged(first)
    assert relbuild(first, engine).count("cached   hexsum/") == 3
    assert staged(first) == before
    source = first / "examples" / "hexsum" / "hexsum.c"
    text = source.read_text()
    (first / "README.md").write_text("changed\n")
    assert relbuild(first, engine).count("cached   hexsum/") == 3, "the README is in no source"
    try:
        source.write_text(text + "/* changed */\n")
        assert relbuild(first, engine).count("built    hexsum/") == 3
    finally:
        source.write_text(text)
