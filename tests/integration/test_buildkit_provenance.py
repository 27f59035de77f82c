"""BuildKit's own provenance on a real BuildKit: attached to the build, and the same in the statements of two runs."""

import json
import socket
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from builders import dockerfile
from builders.engine import image_builds
from builders.engine.buildx_builder import PROVENANCE, BuildxBuilder
from builders.model import BuiltFile, Cell, DockerfileRecipe, Mount, OutputPattern, Placement, SmokeHow, SmokeResult
from orchestrator import provenance
from orchestrator.model import Artifact, ArtifactKind, Built, Plan
from orchestrator.provenance import ProvenanceContext
from tests.fakes import make_matrix, make_product
from tests.integration.conftest import Recorded, cell_for, engine_target, require_engine, write_source

pytestmark = pytest.mark.engine

RUNS = """\
FROM relbuild/base AS work
ARG API_TOKEN OWN
COPY a.txt /out/
RUN --mount=type=bind,from=mount0,target=/deps cat /deps/dep.txt >/out/dep && echo "$OWN" >/out/own
FROM scratch
COPY --from=work /out /out
"""
COPIES = "FROM scratch AS first\nCOPY a.txt /b\nFROM scratch\nCOPY --from=first /b /out/b\nCOPY a.txt /out/\n"
SECRET = "hunter2hunter2"


@pytest.fixture(scope="module")
def base_image() -> None:
    require_engine()
    image_builds.prepare([("base", engine_target().oci)], print)


def make(folder: Path, text: str, *, fresh: bool = False, **changes: object) -> tuple[Cell, Recorded, list[BuiltFile]]:
    """Build a Dockerfile in a folder of its own."""
    require_engine()
    source = write_source(folder / "source", {"Dockerfile": text, "a.txt": "from the source\n"})
    mount = Mount(at=PurePosixPath("/deps"), tree=write_source(folder / "deps", {"dep.txt": "a dependency\n"}))
    recipe = DockerfileRecipe(dockerfile=PurePosixPath("Dockerfile"), images=dockerfile.base_images(text))
    builder = BuildxBuilder(fresh=fresh)
    given: dict[str, object] = {"source": source, "mounts": (mount,), "outputs": (OutputPattern(glob="**"),)}
    cell = cell_for(builder, recipe, engine_target(), Placement.NATIVE, **{**given, **changes})
    (folder / "out").mkdir()
    events = Recorded()
    return cell, events, list(builder.build(cell, folder / "out", events))


def statement(folder: Path, cell: Cell, events: Recorded) -> bytes:
    built = Built(
        cell=cell, folder=folder / "out", files=(), findings=(), smoke=SmokeResult(how=SmokeHow.NONE), seconds=1.0,
        from_cache=False, documents=events.documents,
    )  # fmt: skip
    plan = Plan(project="hello", version="1.0.0", commit="", dirty=False, epoch=0, engine="docker", engine_reason="",
                cells=())  # fmt: skip
    subject = Artifact(path=PurePosixPath("a"), kind=ArtifactKind.FILE, product="hello", target=cell.target.name,
                       size_bytes=1, sha256="1" * 64, sha512="2" * 128)  # fmt: skip
    about = ProvenanceContext(plan=plan, matrix=make_matrix(make_product(), root=folder))
    return provenance.statement(subject, built, about)


def document(text: bytes) -> Any:
    return json.loads(text)["predicate"]["runDetails"]["byproducts"][1]["annotations"]["document"]


def agree(tmp_path: Path, text: str, **changes: object) -> bytes:
    """Build twice, in other folders and without layers of the first time, and give the one statement of both."""
    texts, raw = [], []
    for name, fresh in (("one", False), ("another/deeper", True)):
        (tmp_path / name).mkdir(parents=True)
        cell, events, _ = make(tmp_path / name, text, fresh=fresh, **changes)
        raw.append(events.documents[PROVENANCE])
        texts.append(statement(tmp_path / name, cell, events))
    assert raw[0] != raw[1]
    assert texts[0] == texts[1]
    return texts[0]


def test_two_runs_of_copies_give_the_same_statement(tmp_path: Path) -> None:
    predicate = document(agree(tmp_path, COPIES))["predicate"]
    assert "buildConfig" in predicate
    assert predicate["buildConfig"]["llbDefinition"]


@pytest.mark.usefixtures("base_image")
def test_two_runs_of_commands_give_the_same_statement_without_secrets_and_places(tmp_path: Path) -> None:
    text = agree(tmp_path, RUNS, env={"API_TOKEN": SECRET, "OWN": "mine"}).decode()
    predicate = document(text.encode())["predicate"]
    assert predicate["invocation"]["parameters"]["args"]["build-arg:OWN"] == "mine"
    assert any(each["name"] == "buildkit material" for each in
               json.loads(text)["predicate"]["buildDefinition"]["resolvedDependencies"])  # fmt: skip
    for said in (SECRET, str(tmp_path), socket.gethostname(), "/relbuild-"):
        assert said not in text


def test_a_changed_dockerfile_changes_buildkits_word(tmp_path: Path) -> None:
    said = []
    for name, text in (("one", COPIES), ("two", COPIES.replace("/out/b", "/out/c"))):
        (tmp_path / name).mkdir()
        cell, events, _ = make(tmp_path / name, text)
        said.append(document(statement(tmp_path / name, cell, events)))
    assert said[0] != said[1]


def test_a_file_of_the_build_never_takes_the_place_of_buildkits_word(tmp_path: Path) -> None:
    _, events, files = make(tmp_path, "FROM scratch\nCOPY a.txt /provenance.json\n")
    assert [str(file.path) for file in files] == ["provenance.json"]
    assert (tmp_path / "out/provenance.json").read_text() == "from the source\n"
    assert json.loads(events.documents[PROVENANCE])["predicateType"].startswith("https://slsa.dev/provenance/")


def test_what_buildkit_says_is_no_output(tmp_path: Path) -> None:
    _, events, files = make(tmp_path, COPIES)
    assert sorted(str(file.path) for file in files) == ["a.txt", "b"]
    assert list(events.documents) == [PROVENANCE]
