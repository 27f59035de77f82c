"""From a good matrix.toml to the values, what is said where several rules are broken, and the schema."""

import json
import re
from contextlib import suppress
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders.model import CommandRecipe, DockerfileRecipe, Libc, LibcKind, OutputPattern, Smoke
from builders.targets import DEFAULT_TARGETS, TARGETS
from orchestrator import config
from orchestrator.errors import ConfigInvalid, ConfigNotFound, ConfigSyntax
from orchestrator.model import (
    ArchiveFormat,
    ArchiveRules,
    ArchiveSource,
    DebianSource,
    EngineKind,
    EngineRules,
    GateRules,
    GitSource,
    Matrix,
    PlacementWish,
    PolicyRules,
    PypiSource,
    Verdict,
    VersionFile,
)

SHA256 = "ab" * 32
SMALL = '[project]\nname = "x"\n[products.p]\nrecipe = "go"\n'
WHOLE = """\
[project]
name = "demo"
version = { file = "VERSION", pattern = '^v(.*)$' }
license = "MIT OR Apache-2.0"
homepage = "https://example.org/demo"
description = \"\"\"
Two
lines.\"\"\"
maintainer = "A Person <a@example.org>"

[targets.amd64]
floor = "2.31"
[targets.armhf]
tier = "best-effort"
[targets.riscv64]
os = "linux"
arch = "riscv64"
format = "elf"
machine = 243
gnu = "riscv64-linux-gnu"
oci = "linux/riscv64"
qemu = "riscv64"
aliases = ["rv64"]
floor = "2.36"

[products.hello]
source = "src"
recipe = "command"
toolchain = "zig"
run = [["make", "all"], ["cp", "hello", "/out/"]]
outputs = ["hello", { glob = "share/*", one = true }]
targets = ["amd64", "RV64", "linux/arm/v7"]
placement = "cross"
env = { A = "$(x)" }
mounts = { "/deps" = "deps/" }
timeout_s = 60
network = true
cpus = 1.5
memory = "2GiB"
smoke = [{ run = ["hello", "-v"], stdout = "hi\\n", exit = 3 }]
glibc = "2.28"
archive = { format = "zip", name = "{product}-{target}", extra = ["NOTICE"] }

[products.image]
recipe = "dockerfile"
stage = "release"
outputs = ["*"]
libc = "musl"
archive = false

[engine]
kind = "local"
jobs = 3
[policy]
left_out = "warn"
smoke_not_run = "error"
[policy.gate]
rpath = "ignore"
allow_needed = ["libz.so.*"]
"""


def load(folder: Path, text: str) -> Matrix:
    (folder / "matrix.toml").write_text(text, "utf-8", newline="")
    return config.load(folder / "matrix.toml")


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load(folder, text)
    return [f"{problem.line} {problem.key}: {problem.what} {problem.suggestion}" for problem in caught.value.problems]


@pytest.fixture
def whole(tmp_path: Path) -> Matrix:
    (tmp_path / "src").mkdir()
    (tmp_path / "deps").mkdir()
    return load(tmp_path, WHOLE)


def test_the_project_is_read(whole: Matrix, tmp_path: Path) -> None:
    assert (whole.root, whole.file) == (tmp_path.resolve(), tmp_path.resolve() / "matrix.toml")
    assert whole.project.version == VersionFile(file=PurePosixPath("VERSION"), pattern="^v(.*)$")
    assert whole.project.description == "Two\nlines."
    assert whole.project.maintainer == "A Person <a@example.org>"


def test_targets_are_changed_and_added_by_their_canonical_names(whole: Matrix) -> None:
    assert whole.best_effort == {"armv7"}
    assert whole.floors == {"x86_64": "2.31", "riscv64": "2.36"}
    assert set(whole.targets) == {*TARGETS, "riscv64"}
    assert whole.targets["riscv64"].machine == 243
    assert whole.targets["riscv64"].os_arch == "linux_riscv64"


def test_a_product_is_read(whole: Matrix) -> None:
    hello = whole.products[0]
    assert hello.line == WHOLE[: WHOLE.index("[products.hello]")].count("\n") + 1
    assert hello.source == PurePosixPath("src")
    assert hello.recipe == CommandRecipe(toolchain="zig", commands=(("make", "all"), ("cp", "hello", "/out/")))
    assert hello.outputs == (OutputPattern(glob="hello"), OutputPattern(glob="share/*", exactly_one=True))
    assert hello.targets == ("x86_64", "riscv64", "armv7")
    assert (hello.placement, hello.network) == (PlacementWish.CROSS, True)
    assert hello.env == {"A": "$(x)"}
    assert hello.mounts == {PurePosixPath("/deps"): PurePosixPath("deps")}
    assert (hello.limits.timeout_s, hello.limits.cpus, hello.limits.memory_bytes) == (60, 1.5, 2 * 1024**3)
    assert hello.smoke == (Smoke(run=("hello", "-v"), stdout="hi\n", exit=3),)
    assert hello.libc == Libc(kind=LibcKind.GNU, floor="2.28")
    assert hello.archive == ArchiveRules(
        format=ArchiveFormat.ZIP, name="{product}-{target}", extra=(PurePosixPath("NOTICE"),)
    )


def test_a_dockerfile_has_its_usual_name_and_may_have_no_archive(whole: Matrix) -> None:
    image = whole.products[1]
    assert image.recipe == DockerfileRecipe(dockerfile=PurePosixPath("Dockerfile"), stage="release")
    assert image.archive is None
    assert image.libc.kind is LibcKind.MUSL


def test_engine_and_policy_are_read(whole: Matrix) -> None:
    assert whole.engine == EngineRules(kind=EngineKind.LOCAL, jobs=3)
    gate = GateRules(rpath=Verdict.IGNORE, allow_needed=("libz.so.*",))
    assert whole.policy == PolicyRules(gate=gate, left_out=Verdict.WARN, smoke_not_run=Verdict.ERROR)


def test_defaults_are_those_of_the_values(tmp_path: Path) -> None:
    matrix = load(tmp_path, SMALL)
    assert matrix.project.version is None
    assert (matrix.engine, matrix.policy) == (EngineRules(), PolicyRules())
    product = matrix.products[0]
    assert product.targets == DEFAULT_TARGETS
    assert product.outputs == (OutputPattern(glob="*"),)
    assert product.archive == ArchiveRules()


@pytest.mark.parametrize(
    ("source", "value"),
    [
        (f'{{ debian = "zstd", version = "1.5.4+dfsg2-5", sha256 = "{SHA256}" }}',
         DebianSource(package="zstd", version="1.5.4+dfsg2-5", sha256=SHA256)),
        (f'{{ pypi = "a_b.c", version = "1!2.0rc1", sha256 = "{SHA256}" }}',
         PypiSource(package="a_b.c", version="1!2.0rc1", sha256=SHA256)),
        (f'{{ git = "ssh://git@host/x.git", commit = "{SHA256}" }}',
         GitSource(url="ssh://git@host/x.git", commit=SHA256)),
        (f'{{ git = "git@host:a/b.git", commit = "{"c" * 40}" }}', GitSource(url="git@host:a/b.git", commit="c" * 40)),
        (f'{{ archive = "vendor/x.tar.gz", sha256 = "{SHA256}" }}',
         ArchiveSource(location="vendor/x.tar.gz", sha256=SHA256)),
        (f'{{ archive = "https://host/x.zip", sha256 = "{SHA256}" }}',
         ArchiveSource(location="https://host/x.zip", sha256=SHA256)),
    ],
)  # fmt: skip
def test_outside_sources_are_read(source: str, value: object, tmp_path: Path) -> None:
    assert load(tmp_path, f"{SMALL}source = {source}\n").products[0].source == value


@pytest.mark.parametrize(("kind", "toolchain"), [("go", "go"), ("cargo", "rust"), ("python", "zig")])
def test_recipes_bring_their_own_commands(kind: str, toolchain: str, tmp_path: Path) -> None:
    recipe = load(tmp_path, SMALL.replace("go", kind)).products[0].recipe
    assert isinstance(recipe, CommandRecipe)
    assert recipe.toolchain == toolchain
    assert "$OUT" in recipe.script


def test_run_takes_the_place_of_a_recipes_own_commands(tmp_path: Path) -> None:
    script = load(tmp_path, SMALL + 'run = "go vet"\n').products[0].recipe
    assert script == CommandRecipe(toolchain="go", script="go vet")
    commands = load(tmp_path, SMALL + 'run = [["go", "vet"]]\n').products[0].recipe
    assert commands == CommandRecipe(toolchain="go", commands=(("go", "vet"),))


@pytest.mark.parametrize("kind", ["cargo", "python"])
def test_a_network_lets_the_tools_fetch(kind: str, tmp_path: Path) -> None:
    text = SMALL.replace("go", kind)
    offline, online = (
        load(tmp_path, text).products[0].recipe,
        load(tmp_path, text + "network = true\n").products[0].recipe,
    )
    assert re.search(r"--offline|--no-index", str(offline))
    assert not re.search(r"--offline|--no-index", str(online))


def test_several_products_have_archives_of_their_own_names(tmp_path: Path) -> None:
    matrix = load(tmp_path, SMALL + '[products.q]\nrecipe = "go"\n')
    assert {product.archive for product in matrix.products} == {ArchiveRules(name="{product}_{version}_{os}_{arch}")}


@pytest.mark.parametrize("version", ["git", "0.0.0", "1.2.3-rc.1+build.5", "10.20.30"])
def test_versions(version: str, tmp_path: Path) -> None:
    project = load(tmp_path, SMALL.replace('"x"', f'"x"\nversion = "{version}"')).project
    assert project.version == (None if version == "git" else version)


@pytest.mark.parametrize(
    "reference", ["debian", "debian:12-slim", "host.example:5000/a/b__c", "a/b-c.d", "localhost/x:Tag_1"]
)
def test_images_with_digests(reference: str, tmp_path: Path) -> None:
    image = f"image:{reference}@sha256:{SHA256}"
    text = SMALL.replace('"go"', '"command"') + f'run = "x"\noutputs = ["x"]\ntoolchain = "{image}"\n'
    assert load(tmp_path, text).products[0].recipe == CommandRecipe(toolchain=image, script="x")


def test_a_linked_matrix_belongs_to_the_folder_of_the_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "shared.toml").write_text(SMALL)
    (tmp_path / "matrix.toml").symlink_to("elsewhere/shared.toml")
    assert config.load(tmp_path / "matrix.toml").root == tmp_path.resolve()


def test_line_ends_of_windows_are_fine(tmp_path: Path) -> None:
    assert load(tmp_path, SMALL.replace("\n", "\r\n")).products[0].line == 3


# --- all problems at once -------------------------------------------------------------------------------------------


def test_every_problem_is_reported_in_one_go_and_in_order(tmp_path: Path) -> None:
    text = (
        '[project]\nname = "x"\nlicence = "MIT"\n'
        '[products.a]\nrecipe = "comand"\ntargets = ["x86-64"]\n'
        '[products.b]\nrecipe = "command"\nrun = [[]]\ntargets = ["arm64", "aarch64"]\nmemory = "1GB"\n'
        '[products.b.mounts]\n"/usr" = "."\n"/data" = "nowhere"\n'
        "[engin]\n"
    )
    found = problems(tmp_path, text)
    starts = [
        "3 project.licence:", "5 products.a.recipe:", "7 products.b.outputs:", "9 products.b.run[0]:",
        "10 products.b.targets[1]:", "11 products.b.memory:", '13 products.b.mounts."/usr":',
        '14 products.b.mounts."/data":', "15 engin:",
    ]  # fmt: skip
    assert [line.split(": ")[0] + ":" for line in found] == starts


def test_what_follows_from_a_problem_is_not_reported_as_another(tmp_path: Path) -> None:
    text = (
        SMALL.replace('"go"', '"command"') + 'run = 5\noutputs = "x"\ntargets = ["rv"]\n'
        '[targets.rv]\nos = "linux"\narch = "rv"\nformat = "elf"\nmachine = "x"\n'
    )
    found = problems(tmp_path, text)
    assert [line.split(":")[0] for line in found] == [
        "5 products.p.run",
        "6 products.p.outputs",
        "12 targets.rv.machine",
    ]


def test_keys_that_need_quotes_are_quoted(tmp_path: Path) -> None:
    assert problems(tmp_path, SMALL + '[products."a.b"]\nrecipe = "go"\nx = 1\n') == [
        "7 products.\"a.b\".x: there is no key 'x' here "
    ]


def test_messages_hold_no_control_characters(tmp_path: Path) -> None:
    found = problems(tmp_path, SMALL + '"\\u001b[31m\\u202e" = 1\ntargets = ["\\u001b[0m", "\\u009b"]\n')
    assert len(found) == 3
    assert all(line.isprintable() for line in found)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_ends_in_a_traceback(data: st.DataObject, tmp_path: Path) -> None:
    start = data.draw(st.integers(0, len(WHOLE)))
    cut = data.draw(st.integers(0, 12))
    put = data.draw(st.text("[]{}\"'=.,\n\\#a1 \x00é", max_size=6))
    with suppress(ConfigSyntax, ConfigInvalid):
        load(tmp_path, WHOLE[:start] + put + WHOLE[start + cut :])


# --- finding the file -----------------------------------------------------------------------------------------------


def test_the_nearest_matrix_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "matrix.toml").touch()
    assert config.find(inner) == tmp_path / "matrix.toml"
    (tmp_path / "a" / "matrix.toml").touch()
    assert config.find(inner) == tmp_path / "a" / "matrix.toml"


def test_a_folder_of_the_same_name_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "matrix.toml").touch()
    (tmp_path / "a" / "matrix.toml").mkdir(parents=True)
    assert config.find(tmp_path / "a") == tmp_path / "matrix.toml"


def test_where_there_is_none_the_folder_and_the_way_out_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigNotFound) as caught:
        config.find(tmp_path)
    assert str(tmp_path) in caught.value.what
    assert "relbuild init" in caught.value.next_step


# --- the schema -----------------------------------------------------------------------------------------------------


def test_the_schema_is_the_same_each_time_and_names_its_dialect() -> None:
    text = config.json_schema()
    assert text == config.json_schema()
    schema = json.loads(text)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert text == json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_every_table_of_the_schema_is_closed_and_every_key_described() -> None:
    schema = json.loads(config.json_schema())
    tables = [schema, *schema["$defs"].values()]
    assert "ProductShape" in schema["$defs"]
    for table in tables:
        assert table["additionalProperties"] is False
        for key, value in table["properties"].items():
            inner = schema["$defs"].get(value.get("$ref", "").rpartition("/")[2], {})
            assert value.get("description") or inner.get("description"), key
    assert '"null"' not in config.json_schema()


def test_the_schema_knows_the_keys_that_the_reader_knows(tmp_path: Path) -> None:
    schema = json.loads(config.json_schema())
    product = schema["$defs"]["ProductShape"]
    assert product["required"] == ["recipe"]
    for key in product["properties"]:
        text = SMALL.replace('recipe = "go"', f"{key} = 1979-05-27")
        assert not any("there is no key" in line for line in problems(tmp_path, text)), key
