"""The statement of an artifact: what it says, what it keeps to itself, and that it says the same everywhere."""

import base64
import dataclasses
import json
import socket
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from google.protobuf import json_format  # type: ignore[import-untyped]  # comes without types
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2  # type: ignore[import-untyped]  # comes without types
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor  # type: ignore[import-untyped]  # comes without types
from in_toto_attestation.v1.statement import Statement  # type: ignore[import-untyped]  # comes without types
from in_toto_attestation.v1.statement_pb2 import Statement as StatementForm  # type: ignore[import-untyped]  # comes without types

from builders.model import (
    BuildEvents,
    BuiltFile,
    Cell,
    CommandRecipe,
    DockerfileRecipe,
    Libc,
    LibcKind,
    Mount,
    OutputPattern,
    Placement,
    SmokeHow,
    SmokeResult,
    Toolchain,
)
from builders.targets import TARGETS
from orchestrator import provenance
from orchestrator.archive import PackedFile
from orchestrator.canonical import canonical_json
from orchestrator.cells import CellStore, KeptBuild
from orchestrator.errors import StagingError
from orchestrator.model import (
    ArchiveFormat,
    ArchiveRules,
    ArchiveSource,
    Artifact,
    ArtifactKind,
    Built,
    CacheState,
    DebianSource,
    GitSource,
    OutsideSource,
    Plan,
    PlannedCell,
    PolicyRules,
    PypiSource,
)
from orchestrator.provenance import ProvenanceContext, remote_of
from orchestrator.provenance.remote import repository_uri
from orchestrator.run import RunRules, Stop, run_plan
from tests.fakes import FakeBuilder, digest, make_cell, make_matrix, make_product, tree, write_output

COMMIT = "c" * 40
REMOTE = "https://example.org/hello.git"
BUILDKIT = {
    "_type": "https://in-toto.io/Statement/v0.1",
    "predicateType": "https://slsa.dev/provenance/v0.2",
    "subject": [{"name": "out/a", "digest": {"sha256": "a" * 64}}],
    "predicate": {
        "builder": {"id": ""},
        "buildType": "https://mobyproject.org/buildkit@v1",
        "materials": [{"uri": "pkg:docker/debian@12?platform=linux%2Famd64", "digest": {"sha256": "b" * 64}}],
        "invocation": {
            "configSource": {"entryPoint": "Dockerfile"},
            "parameters": {"frontend": "dockerfile.v0", "args": {"build-arg:OWN": "1", "vcs:source": "x"}},
            "environment": {"platform": "linux/amd64"},
        },
        "buildConfig": {
            "llbDefinition": [{"id": "step0", "op": {"Op": {"exec": {"meta": {"env": ["PATH=/bin", "OWN=1"]}}}}}],
            "digestMapping": {"sha256:1": "step0"},
        },
        "metadata": {"buildInvocationID": "random", "buildStartedOn": "2026-01-01T00:00:00Z", "reproducible": False},
    },
}


def artifact(**changes: object) -> Artifact:
    values: dict[str, object] = {
        "path": PurePosixPath("hello_1.0.0_linux_x86_64.tar.gz"), "kind": ArtifactKind.ARCHIVE, "product": "hello",
        "target": "x86_64", "size_bytes": 3, "sha256": "1" * 64, "sha512": "2" * 128,
    }  # fmt: skip
    return Artifact(**{**values, **changes})  # type: ignore[arg-type]  # the keywords are the test's own


def built(folder: Path = Path("/nowhere/out"), cell: Cell | None = None, **changes: object) -> Built:
    file = BuiltFile(path=PurePosixPath("hello"), size_bytes=1, sha256="3" * 64, sha512="4" * 128, executable=True)
    values: dict[str, object] = {
        "cell": cell or make_cell(), "folder": folder, "files": (file,), "findings": (),
        "smoke": SmokeResult(how=SmokeHow.NATIVE, tests=1), "seconds": 1.0, "from_cache": False,
    }  # fmt: skip
    return Built(**{**values, **changes})  # type: ignore[arg-type]  # the keywords are the test's own


def context(
    root: Path = Path("/nowhere"), *, remote: str = REMOTE, product: dict[str, object] | None = None, **plan: object
) -> ProvenanceContext:
    values: dict[str, object] = {
        "project": "hello", "version": "1.0.0", "commit": COMMIT, "dirty": False, "epoch": 1_700_000_000,
        "engine": "docker", "engine_reason": "asked for", "cells": (),
    }  # fmt: skip
    return ProvenanceContext(
        plan=Plan(**{**values, **plan}),  # type: ignore[arg-type]  # the keywords are the test's own
        matrix=make_matrix(make_product("hello", **(product or {})), root=root), remote=remote,
        compressor="zlib 1 level 6",
    )  # fmt: skip


def said(one: Built | None = None, about: ProvenanceContext | None = None, **changes: object) -> Any:
    return json.loads(provenance.statement(artifact(**changes), one or built(), about or context()))


def named(statement: Any, name: str) -> Any:
    listed = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    (found,) = [entry for entry in listed if entry.get("name") == name]
    return found


def documents(content: object) -> dict[str, bytes]:
    return {"buildkit-provenance.json": json.dumps(content).encode()}


def strict(text: bytes) -> provenance_pb2.Provenance:
    """Read a statement as the format's own library does, which refuses every unknown field."""
    form = json_format.Parse(text, StatementForm())
    whole = Statement.copy_from_pb(form)
    whole.validate()
    predicate = json.dumps(json_format.MessageToDict(form.predicate))
    parsed = json_format.Parse(predicate, provenance_pb2.Provenance())
    for each in (*parsed.build_definition.resolved_dependencies, *parsed.run_details.byproducts):
        ResourceDescriptor.copy_from_pb(each).validate()
    return parsed


# --- what it says ------------------------------------------------------------------------------------------------


def test_the_formats_own_library_reads_it() -> None:
    text = provenance.statement(artifact(), built(documents=documents(BUILDKIT)), context())
    parsed = strict(text)
    assert parsed.build_definition.build_type == "urn:relbuild:build:cell:v1"
    assert parsed.run_details.builder.id == "urn:relbuild:builder:fake:workstation"
    assert parsed.run_details.metadata.invocation_id == make_cell().key
    assert {each.name for each in parsed.run_details.byproducts} == {"smoke", "buildkit-provenance.json"}


def test_the_parameters_are_those_of_the_contract() -> None:
    statement = said()
    definition = statement["predicate"]["buildDefinition"]
    assert set(definition["externalParameters"]) == {
        "project", "version", "product", "target", "recipe", "environment", "outputs", "libc", "network", "placement",
        "source", "epoch", "archive",
    }  # fmt: skip
    assert set(definition["internalParameters"]) == {
        "builder", "isolation", "engine", "relbuild", "cell_key", "compressor",
    }  # fmt: skip
    assert statement["subject"] == [
        {"name": "hello_1.0.0_linux_x86_64.tar.gz", "digest": {"sha256": "1" * 64, "sha512": "2" * 128}}
    ]


def test_the_project_and_its_tree_are_named() -> None:
    statement = said(about=context(product={"source": PurePosixPath("sub/ä b")}))
    source = statement["predicate"]["buildDefinition"]["externalParameters"]["source"]
    hexadecimal = tree().digest.removeprefix("sha256:")
    assert source == {
        "uri": "git+https://example.org/hello.git#sub/%C3%A4%20b",
        "digest": {"sha256": hexadecimal, "gitCommit": COMMIT},
    }
    assert named(statement, "project") == {
        "name": "project", "uri": "git+https://example.org/hello.git", "digest": {"gitCommit": COMMIT},
    }  # fmt: skip
    assert named(statement, "source tree")["digest"] == {"sha256": hexadecimal}


def test_changed_files_are_not_called_the_commits() -> None:
    statement = said(about=context(dirty=True))
    assert "gitCommit" not in json.dumps(statement)
    assert named(statement, "project")["annotations"] == {"dirty": True, "changed_since": COMMIT}
    assert named(statement, "source tree")["annotations"]["dirty"] is True


def test_a_project_outside_git_claims_no_commit() -> None:
    statement = said(about=context(commit="", remote=""))
    assert "gitCommit" not in json.dumps(statement)
    source = statement["predicate"]["buildDefinition"]["externalParameters"]["source"]
    assert source["uri"] == "urn:relbuild:project:hello"


@pytest.mark.parametrize(
    ("source", "uri", "digests"),
    [
        (DebianSource(package="zlib", version="1:1.2+dfsg-1", sha256="d" * 64),
         "pkg:deb/debian/zlib@1%3A1.2%2Bdfsg-1?arch=source", {"sha256": "d" * 64}),
        (PypiSource(package="Pillow", version="10.0", sha256="d" * 64), "pkg:pypi/Pillow@10.0", {"sha256": "d" * 64}),
        (GitSource(url="https://me:pw@example.org/x", commit="e" * 40),
         "git+https://example.org/x", {"gitCommit": "e" * 40}),
        (ArchiveSource(location="https://me@example.org/x.tgz?access_token=abc&v=1", sha256="d" * 64),
         "https://example.org/x.tgz?access_token=[withheld]&v=1", {"sha256": "d" * 64}),
        (ArchiveSource(location="vendor/x.tgz", sha256="d" * 64),
         "git+https://example.org/hello.git#vendor/x.tgz", {"sha256": "d" * 64}),
    ],
)  # fmt: skip
def test_outside_sources_are_named_with_their_digest(source: OutsideSource, uri: str, digests: object) -> None:
    statement = said(about=context(product={"source": source}))
    entry = statement["predicate"]["buildDefinition"]["externalParameters"]["source"]
    assert entry == {"uri": uri, "digest": digests}
    assert named(statement, "outside source") == {"name": "outside source", **entry}
    assert named(statement, "source tree")["digest"] == {"sha256": tree().digest.removeprefix("sha256:")}


def test_mounts_are_named_with_folder_and_digest() -> None:
    mount = Mount(at=PurePosixPath("/deps"), tree=tree("deps"))
    about = context(product={"mounts": {PurePosixPath("/deps"): PurePosixPath("third")}})
    entry = named(said(built(cell=make_cell(mounts=(mount,))), about), "mount /deps")
    assert entry["uri"].endswith("#third")
    assert entry["digest"] == {"sha256": digest("deps").removeprefix("sha256:")}


def test_relbuilds_own_images_say_what_they_are_made_of() -> None:
    notes = named(said(built(cell=make_cell(builder="container"))), "toolchain")["annotations"]
    assert [image["image"] for image in notes["made_from"]["images"]] == ["base", "gcc"]
    assert "containers/gcc/Dockerfile" in notes["made_from"]["images"][1]["files"]
    assert notes["made_from"]["pinned"]["bootstrap"]["rootfs"]["linux/amd64"].startswith("sha256:")


def test_the_images_of_a_dockerfile_are_named() -> None:
    pinned = f"debian@sha256:{'9' * 64}"
    recipe = DockerfileRecipe(dockerfile=PurePosixPath("Dockerfile"), images=("relbuild/gcc", pinned, "alpine:3"))
    statement = said(built(cell=make_cell(builder="buildx", recipe=recipe), documents=documents(BUILDKIT)))
    assert named(statement, f"image {pinned}")["digest"] == {"sha256": "9" * 64}
    assert named(statement, "image alpine:3")["annotations"] == {"unpinned": True}
    assert "made_from" in named(statement, "image relbuild/gcc")["annotations"]
    assert named(statement, "buildkit material")["digest"] == {"sha256": "b" * 64}


def test_a_cell_without_a_container_says_so() -> None:
    bare = Toolchain(name="gcc", identity=digest("gcc"), description="gcc", isolation="none: clean environment only")
    statement = said(built(cell=make_cell(builder="local", toolchain=bare)))
    inside = statement["predicate"]["buildDefinition"]["internalParameters"]
    assert inside["isolation"] == "no container; none: clean environment only"
    assert statement["predicate"]["runDetails"]["builder"]["id"] == "urn:relbuild:builder:local:workstation"


def test_papers_in_the_archive_are_inputs() -> None:
    packed = tuple(
        PackedFile(name=PurePosixPath(name), size_bytes=1, sha256=letter * 64, executable=False)
        for name, letter in (("LICENSE", "7"), ("hello", "3"))
    )
    statement = json.loads(provenance.statement(artifact(), built(), context(), packed))
    assert named(statement, "packed LICENSE")["digest"] == {"sha256": "7" * 64}
    assert "packed hello" not in json.dumps(statement)


_CHANGES: dict[str, object] = {
    "product": "other", "target": TARGETS["aarch64"], "recipe": CommandRecipe(toolchain="gcc", script="false"),
    "placement": Placement.CROSS, "builder": "local", "libc": Libc(kind=LibcKind.MUSL), "source": tree("other"),
    "mounts": (Mount(at=PurePosixPath("/deps"), tree=tree("deps")),), "env": {"A": "1"},
    "outputs": (OutputPattern(glob="*", exactly_one=True),), "network": True, "version": "1.0.1", "epoch": 1,
    "toolchain": Toolchain(name="gcc", identity=digest("newer"), description="gcc", isolation="none"),
}  # fmt: skip


@pytest.mark.parametrize("field", sorted(_CHANGES))
def test_every_input_of_a_cell_shows_by_itself(field: str) -> None:
    plain = make_cell()
    changed = dataclasses.replace(plain, **{field: _CHANGES[field]})  # type: ignore[arg-type]  # one field at a time
    about = dataclasses.replace(context(), matrix=make_matrix(make_product(), make_product("other")))
    one, other = (provenance.statement(artifact(), built(cell=cell), about) for cell in (plain, changed))
    assert plain.key == changed.key
    assert one != other


def test_what_the_table_of_inputs_leaves_out_decides_no_byte() -> None:
    silent = {"reason", "smoke", "limits", "required", "key"}
    assert set(_CHANGES) | silent == {field.name for field in dataclasses.fields(Cell)}


def test_the_rules_of_the_archive_show() -> None:
    rules = ArchiveRules(format=ArchiveFormat.ZIP, name="{name}", extra=(PurePosixPath("a"),))
    asked = said(about=context(product={"archive": rules}))["predicate"]["buildDefinition"]["externalParameters"]
    assert asked["archive"] == {"format": "zip", "name": "{name}", "extra": ["a"]}
    plain = said(about=context(product={"archive": None}), kind=ArtifactKind.FILE)["predicate"]["buildDefinition"]
    assert plain["externalParameters"]["archive"] == {"format": "file"}
    assert plain["internalParameters"]["compressor"] == ""


def test_limits_and_seconds_change_nothing() -> None:
    one = provenance.statement(artifact(), built(), context())
    other = provenance.statement(artifact(), built(seconds=9.0, from_cache=True), context())
    assert one == other


_WORDS = st.text(st.characters(codec="utf-8"), max_size=20)


@given(script=_WORDS, value=_WORDS, glob=_WORDS, words=st.lists(_WORDS, max_size=3))
def test_any_text_survives_and_stays_canonical(script: str, value: str, glob: str, words: list[str]) -> None:
    recipe = CommandRecipe(toolchain="gcc", script=script, commands=(tuple(words),))
    cell = make_cell(recipe=recipe, env={"NAME": value}, outputs=(OutputPattern(glob=glob),))
    text = provenance.statement(artifact(), built(cell=cell), context())
    asked = json.loads(text)["predicate"]["buildDefinition"]["externalParameters"]
    assert text == canonical_json(json.loads(text))
    if "://" not in f"{script}{value}" and not any("=" in word for word in (script, value, *words)):
        assert asked["recipe"]["script"] == script
        assert asked["recipe"]["commands"] == [words]
        assert asked["environment"] == {"NAME": value}


def test_odd_names_survive() -> None:
    odd = dataclasses.replace(tree(), origin="folder caf\udce9 \u202e")
    text = provenance.statement(artifact(path=PurePosixPath("ä b.tar.gz")), built(cell=make_cell(source=odd)),
                                context(project="名 前"))  # fmt: skip
    strict(text)
    assert named(json.loads(text), "source tree")["annotations"]["origin"] == "folder caf\\udce9 \u202e"


# --- what it keeps to itself -------------------------------------------------------------------------------------


def told_of(folder: Path) -> bytes:
    """Give the statement of a run in a folder, every text of which names places of this machine."""
    places = f"{folder}/project and {folder}/project/src, {folder}/cells/1, {Path.home()}/.cache"
    chatty = Toolchain(name="gcc", identity=digest("gcc"), description=f"gcc in {places}", isolation="none")
    source = dataclasses.replace(tree(root=folder / "project/src"), origin=f"folder {folder}/project/src")
    content = json.loads(json.dumps(BUILDKIT))
    content["predicate"]["invocation"]["parameters"]["args"]["context:mount0"] = f"local:{folder}/project/mount"
    one = built(
        folder / "cells/1", make_cell(toolchain=chatty, source=source), documents=documents(content),
        smoke=SmokeResult(how=SmokeHow.NATIVE, tests=1, note=f"ran in {places}"),
    )  # fmt: skip
    return provenance.statement(artifact(), one, context(folder / "project", remote=f"file://{folder}/project"))


def test_two_folders_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (told_of(tmp_path / name) for name in ("one", "another/deeper"))
    assert one == other


def test_no_place_of_this_machine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home of mine"))
    text = told_of(tmp_path / "run").decode()
    for secret in (str(tmp_path), "home of mine", socket.gethostname()):
        assert secret not in text
    assert "$PROJECT" in text
    assert "$HOME/.cache" in text


def test_a_folder_of_the_sandbox_is_not_taken_for_one_of_this_machine() -> None:
    content = json.loads(json.dumps(BUILDKIT))
    content["predicate"]["buildConfig"]["llbDefinition"][0]["op"]["Op"]["exec"]["meta"]["cwd"] = "/src"
    recipe = CommandRecipe(toolchain="gcc", script="cp /src/a $OUT")
    one = built(cell=make_cell(recipe=recipe), documents=documents(content))
    texts = {provenance.statement(artifact(), one, context(Path(root))) for root in ("/src", "/home/me/project")}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("git clone https://user:tok3n@host/x", "git clone https://host/x"),
        ("curl https://tok3n@host/x && curl http://a:b@c@host", "curl https://host/x && curl http://host"),
        ("pip install --index-url=HTTPS://u:it's@host/simple x", "pip install --index-url=HTTPS://host/simple x"),
        ("curl 'https://host/x?api_key=abc&b=1'", "curl 'https://host/x?api_key=[withheld]&b=1'"),
        ("git clone https://$USER:${TOKEN}@host/x", "git clone https://$USER:${TOKEN}@host/x"),
        ("git clone ssh://git@host/x", "git clone ssh://git@host/x"),
        ("mail a@b.org", "mail a@b.org"),
        ("see https://host/@scope/a@1", "see https://host/@scope/a@1"),
    ],
)
def test_credentials_in_urls_are_removed(text: str, left: str) -> None:
    recipe = CommandRecipe(toolchain="gcc", script=text)
    content = json.loads(json.dumps(BUILDKIT))
    content["predicate"]["invocation"]["parameters"]["args"]["build-arg:SAID"] = text
    statement = said(built(cell=make_cell(recipe=recipe, env={"SAID": text}), documents=documents(content)))
    asked = statement["predicate"]["buildDefinition"]["externalParameters"]
    assert asked["recipe"]["script"] == left
    assert asked["environment"] == {"SAID": left}
    args = statement["predicate"]["runDetails"]["byproducts"][1]["annotations"]["document"]["predicate"]["invocation"]
    assert args["parameters"]["args"]["build-arg:SAID"] == left


def test_values_of_secret_variables_are_withheld_everywhere() -> None:
    secret, short = "hunter2hunter2", "x1"
    content = json.loads(json.dumps(BUILDKIT))
    content["predicate"]["invocation"]["parameters"]["args"]["build-arg:API_TOKEN"] = secret
    content["predicate"]["invocation"]["parameters"]["args"]["build-arg:PASSWORD"] = short
    meta = content["predicate"]["buildConfig"]["llbDefinition"][0]["op"]["Op"]["exec"]["meta"]
    meta["env"] = [f"API_TOKEN={secret}", f"PASSWORD={short} {short}", "TOKENS=many"]
    meta["args"] = ["sh", "-c", f"curl -H {secret} x"]
    recipe = CommandRecipe(toolchain="gcc", commands=(("env", f"NPM_AUTH_TOKEN={short}", f"--with={secret}"),))
    cell = make_cell(recipe=recipe, env={"API_TOKEN": secret, "PASSWORD": short, "AUTHOR": "me"})
    text = provenance.statement(artifact(), built(cell=cell, documents=documents(content)), context()).decode()
    assert secret not in text
    assert f"={short}" not in text
    assert f'"{short}"' not in text
    assert '"AUTHOR": "me"' in text
    assert "TOKENS=many" in text
    strict(text.encode())


# --- where the project is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "uri"),
    [
        ("https://user:token@example.org:8443/a/b.git/", "git+https://example.org:8443/a/b.git"),
        ("git@example.org:a/b.git", "git+ssh://git@example.org/a/b.git"),
        ("alice@example.org:a/b.git", "git+ssh://example.org/a/b.git"),
        ("ssh://git:pw@[2001:db8::1]:22/a", "git+ssh://git@[2001:db8::1]:22/a"),
        ("https://example.org/ä b?token=x#y", "git+https://example.org/%C3%A4%20b"),
        ("/srv/git/a.git", "urn:relbuild:project:my%20p"),
        ("../a.git", "urn:relbuild:project:my%20p"),
        ("file:///srv/a.git", "urn:relbuild:project:my%20p"),
        ("http://localhost/a", "urn:relbuild:project:my%20p"),
        ("https://example.org:port/a", "urn:relbuild:project:my%20p"),
        ("https://[broken/a", "urn:relbuild:project:my%20p"),
        ("", "urn:relbuild:project:my%20p"),
    ],
)
def test_a_remote_is_named_without_credentials_and_only_where_others_reach_it(remote: str, uri: str) -> None:
    assert repository_uri(remote, "my p") == uri


def test_the_remote_is_what_the_repository_says_and_not_what_this_machine_makes_of_it(tmp_path: Path) -> None:
    assert remote_of(tmp_path) == ""
    git = ("git", "-C", str(tmp_path))
    subprocess.run((*git, "init", "--quiet"), check=True)
    assert remote_of(tmp_path) == ""
    subprocess.run((*git, "remote", "add", "origin", REMOTE), check=True)
    subprocess.run((*git, "config", "url.https://mirror.invalid/.insteadOf", "https://example.org/"), check=True)
    assert remote_of(tmp_path) == REMOTE


# --- BuildKit's own word -----------------------------------------------------------------------------------------


def test_what_differs_from_run_to_run_is_left_out_of_buildkits_word() -> None:
    later = json.loads(json.dumps(BUILDKIT))
    later["predicate"]["metadata"] |= {"buildInvocationID": "other", "buildStartedOn": "2030-01-01T00:00:00Z"}
    later["predicate"]["metadata"]["https://mobyproject.org/buildkit@v1#metadata"] = {"vcs": {"source": "/home/x"}}
    later["predicate"]["invocation"]["environment"] = {"platform": "linux/arm64"}
    later["predicate"]["invocation"]["parameters"]["args"] |= {"no-cache": "", "vcs:source": "y"}
    later["predicate"]["buildConfig"]["digestMapping"] = {"sha256:2": "step0"}
    one, other = (provenance.statement(artifact(), built(documents=documents(each)), context())
                  for each in (BUILDKIT, later))  # fmt: skip
    assert one == other
    later["predicate"]["invocation"]["parameters"]["args"]["build-arg:OWN"] = "2"
    assert one != provenance.statement(artifact(), built(documents=documents(later)), context())


def test_buildkits_newer_form_is_read() -> None:
    old = BUILDKIT["predicate"]
    assert isinstance(old, dict)
    content = {
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "b", "resolvedDependencies": old["materials"],
                "externalParameters": {"configSource": {"path": "Dockerfile"}, "request": {"args": {"no-cache": ""}}},
                "internalParameters": {"buildConfig": old["buildConfig"], "builderPlatform": "linux/amd64"},
            },
            "runDetails": {"metadata": {"startedOn": "2026-01-01T00:00:00Z"}},
        },
    }  # fmt: skip
    statement = said(built(documents=documents(content)))
    assert named(statement, "buildkit material")["digest"] == {"sha256": "b" * 64}
    document = statement["predicate"]["runDetails"]["byproducts"][1]["annotations"]["document"]["predicate"]
    assert set(document) == {"buildDefinition"}
    assert "startedOn" not in json.dumps(statement)
    assert "builderPlatform" not in json.dumps(statement)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"\xff", b'{"predicateType": "other", "predicate": {}}', b"[" * 100_000,
     b'{"predicateType": "https://slsa.dev/provenance/v0.2", "predicate": {"materials": [{}]}}'],
)  # fmt: skip
def test_a_word_of_buildkits_that_cannot_be_read_is_an_error(content: bytes) -> None:
    with pytest.raises(StagingError, match="hello/x86_64") as failure:
        said(built(documents={"buildkit-provenance.json": content}))
    assert failure.value.next_step


def test_a_very_long_word_of_buildkits_is_named_by_digest() -> None:
    content = json.loads(json.dumps(BUILDKIT))
    content["predicate"]["buildConfig"]["llbDefinition"] = [base64.b64encode(bytes(1 << 20)).decode()]
    byproduct = said(built(documents=documents(content)))["predicate"]["runDetails"]["byproducts"][1]
    assert byproduct["annotations"] == {"left_out": "too long"}
    assert set(byproduct["digest"]) == {"sha256"}


# --- documents are kept with their cell --------------------------------------------------------------------------


def attaching(cell: Cell, out_dir: Path, events: BuildEvents) -> None:
    write_output(cell, out_dir, events)
    events.attach("said.json", b"what was said")


def run_once(dist: Path, builder: FakeBuilder, cell: Cell) -> Built:
    planned = (PlannedCell(cell=cell, cache=CacheState.MISS, estimate_s=None),)
    plan = dataclasses.replace(context().plan, cells=planned)
    report = run_plan(plan, builders={"fake": builder}, dist=dist, rules=RunRules(policy=PolicyRules()),
                      observer=lambda _event: None, stop=Stop())  # fmt: skip
    (one,) = report.built
    return one


def test_a_document_is_kept_and_given_again(tmp_path: Path) -> None:
    builder, cell = FakeBuilder(recipe=attaching), make_cell()
    fresh, kept = run_once(tmp_path, builder, cell), run_once(tmp_path, builder, cell)
    assert (fresh.from_cache, kept.from_cache) == (False, True)
    assert fresh.documents == kept.documents == {"said.json": b"what was said"}


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_harmed_document_has_the_cell_built_again(tmp_path: Path, harm: str) -> None:
    builder, cell = FakeBuilder(recipe=attaching), make_cell()
    run_once(tmp_path, builder, cell)
    document = tmp_path / "cells" / cell.key / "documents/said.json"
    document.write_bytes(b"what was sAid") if harm == "changed" else document.unlink()
    again = run_once(tmp_path, builder, cell)
    assert (again.from_cache, builder.built) == (False, [cell.id, cell.id])
    assert again.documents == {"said.json": b"what was said"}


def test_cells_of_older_runs_have_no_documents(tmp_path: Path) -> None:
    store, cell = CellStore(tmp_path), make_cell()
    with store.room() as room:
        store.keep(cell.key, room, KeptBuild(files=(), seconds=1.0))
    whole = tmp_path / cell.key / "build.json"
    data = json.loads(whole.read_bytes())
    del data["documents"]
    whole.write_text(json.dumps(data))
    assert store.load(cell.key) == KeptBuild(files=(), seconds=1.0)


@pytest.mark.parametrize("name", ["../build.json", "/etc/passwd", "a/b", "..", ""])
def test_a_document_has_a_plain_name(tmp_path: Path, name: str) -> None:
    store, cell = CellStore(tmp_path), make_cell()
    with store.room() as room:
        store.keep(cell.key, room, KeptBuild(files=(), seconds=1.0, documents={"ok": b"x"}))
    whole = tmp_path / cell.key / "build.json"
    whole.write_text(whole.read_text().replace('"ok"', json.dumps(name)))
    assert store.load(cell.key) is None
