"""BuildKit nodes without any: who takes which platform, what the configuration allows, and what buildx's words mean."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from builders.engine import buildx, image_layouts, nodes, relay
from builders.engine.node_model import Node, NodeKind, NodeRules, Taker, is_loopback, takers
from builders.errors import BuildError, NodeUnavailable, ToolchainUnavailable, WrongNode
from builders.model import CellKey, DockerfileRecipe, Placement, Toolchain
from builders.targets import TARGETS
from orchestrator import config, release
from orchestrator.cli import wire
from orchestrator.errors import ConfigInvalid
from orchestrator.model import BuildReport, Failed, PlacementWish, Plan, Product
from orchestrator.plan import Selection, make_plan
from orchestrator.run import Stop
from tests.fakes import make_cell, make_matrix, make_product, make_world, toolchain

AMD64, ARM64, ARMV7 = "linux/amd64", "linux/arm64", "linux/arm/v7"
DOCKERFILE = DockerfileRecipe(dockerfile=PurePosixPath("Dockerfile"))


def node(name: str, *platforms: str, native: str = AMD64, handles: tuple[str, ...] = (), answers: bool = True) -> Node:
    rules = NodeRules(name=name, endpoint=f"context {name}", platforms=platforms)
    return Node(rules=rules, native=native, handles=(native, *handles), answers=answers, why="" if answers else "dead")


# --- who takes a platform ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([node("a", AMD64), node("b", ARM64, native=ARM64)], [("b", True, True)]),
        # Declared and native before declared under QEMU, whatever the order of the file.
        ([node("a", ARM64, handles=(ARM64,)), node("b", ARM64, native=ARM64)], [("b", True, True)]),
        # What a node is declared for is kept to, even where another machine would be native.
        ([node("a", ARM64, handles=(ARM64,)), node("b", ARMV7, native=ARM64)], [("a", False, True)]),
        # Nobody is declared for it: a native one, then one with QEMU, then nobody.
        ([node("a", AMD64, handles=(ARM64,)), node("b", ARMV7, native=ARM64)], [("b", True, True)]),
        ([node("a", AMD64), node("b", AMD64, handles=(ARM64,))], [("b", False, True)]),
        ([node("a", AMD64), node("b", AMD64)], []),
        # A node that is gone takes nothing; what it finished natively counts before QEMU elsewhere.
        (
            [node("a", AMD64, handles=(ARM64,)), node("b", ARM64, native=ARM64, answers=False)],
            [("b", True, False), ("a", False, True)],
        ),
        ([node("a", AMD64, handles=(ARM64,)), node("b", ARM64, answers=False)], [("a", False, True)]),
        (
            [node("b", ARM64, native=ARM64, answers=False), node("c", ARM64, native=ARM64)],
            [("c", True, True)],
        ),
    ],
)
def test_the_node_that_takes_a_platform(found: list[Node], wanted: list[tuple[str, bool, bool]]) -> None:
    assert [(each.node, each.native, each.answers) for each in takers(ARM64, found)] == wanted


def test_armv7_is_taken_where_arm64_is_handled_because_buildkit_does_not_list_it_then() -> None:
    assert [each.node for each in takers(ARMV7, [node("a", AMD64, handles=(ARM64,))])] == ["a"]
    assert not takers("linux/s390x", [node("a", AMD64, handles=(ARM64,))])


# --- the plan ----------------------------------------------------------------------------------------------------


def plan_on(
    found: list[Node], *products: Product, is_cached: Callable[[CellKey], bool] = lambda _key: False,
    refuse: tuple[str, Placement] | None = None, selection: Selection | None = None,
) -> Plan:  # fmt: skip
    def find(builder: str, *_: object) -> Toolchain:
        if refuse and (builder, _[-1]) == refuse:
            raise ToolchainUnavailable("not here")
        return toolchain()

    world = make_world(
        host=TARGETS["x86_64"], takers=lambda platform: takers(platform, found), is_cached=is_cached,
        find_toolchain=find,
    )  # fmt: skip
    return make_plan(make_matrix(*products), selection or Selection(), world)


def placed(plan: Plan) -> dict[str, tuple[str, str, str]]:
    cells = (each.cell for each in plan.cells)
    return {cell.target.name: (cell.placement, cell.builder, cell.reason) for cell in cells}


def test_dockerfiles_go_to_the_nodes_and_the_key_tells_native_from_emulated() -> None:
    product = make_product(recipe=DOCKERFILE)
    native = plan_on([node("a", AMD64, handles=(ARM64,)), node("b", ARM64, native=ARM64)], product)
    assert placed(native) == {
        "x86_64": ("native", "buildx", "native on the node a"),
        "aarch64": ("native", "buildx", "native on the node b"),
        "armv7": ("emulate", "buildx", "under QEMU on the node a"),
    }
    emulated = plan_on([node("a", AMD64, handles=(ARM64,))], product)
    assert placed(emulated)["aarch64"] == ("emulate", "buildx", "under QEMU on the node a")
    keys = [{each.cell.target.name: each.cell.key for each in plan.cells} for plan in (native, emulated)]
    assert keys[0]["aarch64"] != keys[1]["aarch64"]
    assert keys[0]["armv7"] == keys[1]["armv7"]


def test_recipes_stay_with_the_compilers_here_and_go_to_a_node_where_there_is_none() -> None:
    found = [node("a", AMD64), node("b", ARM64, native=ARM64)]
    product = make_product(targets=("x86_64", "aarch64"))
    assert {way[1] for way in placed(plan_on(found, product)).values()} == {"container"}
    without = placed(plan_on(found, product, refuse=("container", Placement.CROSS)))
    assert without["aarch64"] == ("native", "buildx", "native on the node b")
    emulated = make_product(targets=("aarch64",), placement=PlacementWish.EMULATE)
    assert placed(plan_on(found, emulated))["aarch64"] == ("native", "buildx", "native on the node b")


def test_what_a_lost_node_finished_is_kept_and_the_rest_is_emulated_elsewhere() -> None:
    product = make_product(recipe=DOCKERFILE, targets=("aarch64",))
    alive = plan_on([node("a", AMD64, handles=(ARM64,)), node("b", ARM64, native=ARM64)], product)
    finished = alive.cells[0].cell.key
    lost = [node("a", AMD64, handles=(ARM64,)), node("b", ARM64, native=ARM64, answers=False)]
    again = plan_on(lost, product, is_cached=lambda key: key == finished)
    assert again.cells[0].cell.key == finished
    assert "no longer answers" in again.cells[0].cell.reason
    assert placed(plan_on(lost, product))["aarch64"] == ("emulate", "buildx", "under QEMU on the node a")


def test_a_platform_that_no_living_node_takes_is_left_out_and_says_why() -> None:
    product = make_product(recipe=DOCKERFILE, targets=("x86_64", "aarch64"))
    plan = plan_on([node("a", AMD64), node("b", ARM64, native=ARM64, answers=False)], product)
    assert [gap.target for gap in plan.left_out] == ["aarch64"]
    assert "no node of [engine.nodes] that answers takes linux/arm64" in plan.left_out[0].reason


def test_emulation_that_is_forbidden_is_not_done_on_a_node_either() -> None:
    product = make_product(recipe=DOCKERFILE)
    found = [node("a", AMD64, handles=(ARM64,)), node("b", ARM64, native=ARM64)]
    plan = plan_on(found, product, selection=Selection(forbid_emulation=True))
    assert sorted(placed(plan)) == ["aarch64", "x86_64"]


def test_the_end_of_a_run_names_the_lost_nodes_with_their_cells() -> None:
    cells = [make_cell("one", target=TARGETS["aarch64"]), make_cell("two", target=TARGETS["armv7"])]
    failed = tuple(
        Failed(cell=cell, error=NodeUnavailable("gone", node="b"), log=Path("log"), seconds=1.0) for cell in cells
    )
    error = release.verdict(BuildReport(plan=plan_on([]), results=failed), Stop())
    assert isinstance(error, NodeUnavailable)
    assert "the node b was lost, with one/aarch64, two/armv7" in error.what


# --- the configuration -------------------------------------------------------------------------------------------

HEAD = '[project]\nname = "p"\nversion = "1.0.0"\n[products.p]\nrecipe = "dockerfile"\noutputs = ["a"]\n'
TLS = 'ca = "ca.pem"\ncert = "cert.pem"\nkey = "key.pem"\n'


def read_nodes(tmp_path: Path, *bodies: str) -> tuple[NodeRules, ...]:
    tables = (f"[engine.nodes.n{number}]\n{body}" for number, body in enumerate(bodies))
    (tmp_path / "matrix.toml").write_text(HEAD + "\n".join(tables))
    return config.load(tmp_path / "matrix.toml").engine.nodes


def at(endpoint: str, rest: str = "") -> str:
    return f'endpoint = "{endpoint}"\nplatforms = ["linux/arm64"]\n{rest}'


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (at("unix:///run/b.sock"), NodeKind.DOCKER),
        (at("unix:///run/b.sock", 'speaks = "buildkit"'), NodeKind.BUILDKIT),
        (at("tcp://127.0.0.1:2375"), NodeKind.DOCKER),
        (at("tcp://[::1]:1234", 'speaks = "buildkit"'), NodeKind.BUILDKIT),
        (at("tcp://build.example:2376", TLS), NodeKind.DOCKER),
        (at("tcp://build.example:2375", "insecure = true"), NodeKind.DOCKER),
        (at("ssh://builder@arm.example:22"), NodeKind.DOCKER),
        (at("context arm-server"), NodeKind.DOCKER),
        (at("kubernetes://cluster?namespace=ci&replicas=2"), NodeKind.KUBERNETES),
        (at("kubernetes://"), NodeKind.KUBERNETES),
    ],
)
def test_endpoints_that_are_taken(tmp_path: Path, body: str, kind: NodeKind) -> None:
    (rules,) = read_nodes(tmp_path, body)
    assert (rules.kind, rules.platforms) == (kind, (ARM64,))
    assert rules.ca == (tmp_path.resolve() / "ca.pem" if "ca.pem" in body else None)


@pytest.mark.parametrize(
    ("bodies", "said"),
    [
        ([at("tcp://build.example:2375")], "without TLS"),
        ([at("tcp://10.0.0.1:2375", 'speaks = "buildkit"')], "without TLS"),
        # A name that only starts like this machine's is another machine.
        ([at("tcp://127.0.0.1.example:2375")], "without TLS"),
        ([at("tcp://localhost.example:2375")], "without TLS"),
        ([at("tcp://build.example:2376", 'ca = "ca.pem"')], "ca, cert, key together"),
        ([at("ssh://arm.example", TLS)], "only a tcp:// endpoint"),
        ([at("ssh://arm.example", "insecure = true")], "nothing insecure"),
        ([at("tcp://build.example:2376", TLS + "insecure = true")], "nothing insecure"),
        ([at("ssh://arm.example", 'speaks = "buildkit"')], "unix:// or tcp://"),
        ([at("http://arm.example")], "not an endpoint"),
        ([at("ssh://-oProxyCommand=x")], "not an endpoint"),
        ([at("ssh://-vvv")], "not an endpoint"),
        ([at("ssh://-l@arm.example")], "not an endpoint"),
        ([at("context --help")], "not an endpoint"),
        ([at("unix://relative.sock")], "not an endpoint"),
        (['endpoint = "context a"\nplatforms = []'], "platforms"),
        (['endpoint = "context a"\nplatforms = ["windows/amd64"]'], "not a platform"),
        (['endpoint = "context a"\nplatforms = ["linux/arm64"]\nplatfroms = 1'], 'did you mean "platforms"'),
        ([at("kubernetes://a"), at("context b")], "joins no kubernetes://"),
    ],
)
def test_endpoints_that_are_refused_with_their_line(tmp_path: Path, bodies: list[str], said: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        read_nodes(tmp_path, *bodies)
    assert said in refused.value.what
    assert "engine.nodes.n0" in refused.value.what


def test_a_wide_open_node_is_told_wherever_the_engine_is_named(tmp_path: Path) -> None:
    read_nodes(tmp_path, at("tcp://build.example:2375", "insecure = true"), at("tcp://127.0.0.1:2375"))
    found = wire.node_set(config.load(tmp_path / "matrix.toml"))
    assert found is not None
    assert [rules.is_open for rules in found.rules] == [True, False]
    assert "INSECURE, TCP without TLS: n0" in wire._nodes_note(found)


@pytest.mark.parametrize(
    ("endpoint", "here"),
    [("tcp://127.0.0.1:1", True), ("tcp://localhost:1", True), ("tcp://[::1]:1", True), ("tcp://127.0.0.1.x:1", False)],
)
def test_loopback(endpoint: str, here: bool) -> None:
    assert is_loopback(endpoint) is here


# --- buildx's words ----------------------------------------------------------------------------------------------

OLD = """\
Name:             a
Endpoint:         unix:///a.sock
Status:           running
BuildKit version: v0.13.2
Platforms:        linux/amd64*, linux/amd64/v2, linux/arm64
Labels:
 org.mobyproject.buildkit.worker.executor: oci
"""
NEW = OLD.replace("linux/amd64*, linux/amd64/v2, linux/arm64", "linux/amd64* (+2), linux/arm64")
GONE = "Name:      b\nEndpoint:  unix:///b.sock\nStatus:    inactive\nPlatforms: linux/arm64*\n"
BROKEN = "Name:      b\nEndpoint:  unix:///b.sock\nError:     connection refused\n"


def test_what_buildx_tells_of_nodes() -> None:
    old = buildx._node_said(OLD, "")
    assert (old.name, old.platforms[0], old.version, old.error) == ("a", AMD64, "v0.13.2", "")
    assert buildx._node_said(NEW, "").platforms == (AMD64, ARM64)
    assert buildx._node_said(GONE, "").error == "inactive"
    assert buildx._node_said(BROKEN, "").error == "connection refused"


@pytest.mark.parametrize(
    ("said", "platform"),
    [
        ({"predicate": {"invocation": {"environment": {"platform": ARM64}}}}, ARM64),
        ({"buildDefinition": {"internalParameters": {"builderPlatform": ARM64}}}, ARM64),
        ({"predicate": {}}, "not told"),
    ],
)
def test_where_a_solve_ran_is_read_from_both_forms_of_provenance(said: dict[str, object], platform: str) -> None:
    assert nodes._builder_platform(json.dumps(said).encode()) == platform


def solved_by(tmp_path: Path, solver: str, ran_on: str, taker: Taker) -> None:
    metadata = tmp_path / "metadata.json"
    metadata.write_text(json.dumps({"buildx.build.ref": f"builder/{solver}/abc"}))
    provenance = json.dumps({"predicate": {"invocation": {"environment": {"platform": ran_on}}}}).encode()
    nodes.NodeSet("builder", (), tmp_path).check_solved("p/aarch64", taker, metadata, provenance)


def test_the_node_that_solved_must_be_the_one_that_was_planned(tmp_path: Path) -> None:
    native = Taker(node="b", platform=ARM64, native=True, version="1")
    solved_by(tmp_path, "b", ARM64, native)
    solved_by(tmp_path, "b", AMD64, Taker(node="b", platform=ARM64, native=False, version="1"))
    with pytest.raises(WrongNode, match="node b was planned, and buildx says that a built it"):
        solved_by(tmp_path, "a", ARM64, native)
    with pytest.raises(WrongNode, match="ran emulated"):
        solved_by(tmp_path, "b", AMD64, native)
    # Provenance that does not say it is no proof.
    with pytest.raises(WrongNode, match="not told"):
        solved_by(tmp_path, "b", "", native)


def test_metadata_without_a_node_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text("{}")
    with pytest.raises(BuildError, match="does not say which node"):
        buildx.node_of(tmp_path / "metadata.json")


def test_the_client_of_the_nodes_inherits_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEASE_PASSPHRASE", "secret")
    monkeypatch.setenv("DOCKER_HOST", "unix:///x.sock")
    env = buildx.client_env()
    assert "secret" not in env.values()
    assert env["DOCKER_HOST"] == "unix:///x.sock"


def test_a_socket_whose_path_is_too_long_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(NodeUnavailable, match="107 bytes") as refused:
        relay.socket_of(tmp_path / ("x" * 100), "arm")
    assert "XDG_CACHE_HOME" in refused.value.next_step


def test_a_builder_that_was_not_made_is_named_with_the_next_step(tmp_path: Path) -> None:
    asked = nodes.NodeSet("relbuild-p", (node("a", AMD64).rules,), tmp_path / "none")
    with pytest.raises(NodeUnavailable, match="relbuild-p") as refused:
        asked.look()
    assert "relbuild engine nodes up" in refused.value.next_step
    assert asked.down() == ()


# --- images that travel ------------------------------------------------------------------------------------------


def exported(files: dict[str, bytes]) -> list[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return [buffer.getvalue()]


def test_an_exported_image_is_unpacked_only_as_far_as_it_is_an_oci_layout(tmp_path: Path) -> None:
    blob = f"blobs/sha256/{hashlib.sha256(b'x').hexdigest()}"
    image_layouts._unpack(
        exported({blob: b"x", "index.json": b"{}", "../evil": b"", "manifest.json": b""}), tmp_path / "l"
    )
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == [f"l/{blob}", "l/index.json"]


def test_an_exported_blob_with_other_bytes_than_its_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="other bytes"):
        image_layouts._unpack(exported({f"blobs/sha256/{'0' * 64}": b"x"}), tmp_path / "l")


def test_an_export_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    whole = exported({"index.json": b"{}" * 2000})[0]
    with pytest.raises(BuildError, match="broken"):
        image_layouts._unpack([whole[:1000]], tmp_path / "l")
