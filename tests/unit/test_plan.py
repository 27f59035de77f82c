"""Placement, selection, keys: everything that the plan decides."""

import dataclasses
from pathlib import PurePosixPath

import pytest

from builders.errors import ToolchainUnavailable
from builders.model import (
    CommandRecipe,
    DockerfileRecipe,
    Libc,
    LibcKind,
    Limits,
    Mount,
    OutputPattern,
    Placement,
    Smoke,
    Toolchain,
)
from builders.targets import TARGETS, Target
from orchestrator import plan as plan_module
from orchestrator.errors import UnknownName
from orchestrator.model import CacheState, PlacementWish, Product
from orchestrator.plan import Selection, cell_key, make_plan
from tests.fakes import digest, make_cell, make_matrix, make_product, make_world, toolchain, tree

DOCKERFILE = DockerfileRecipe(dockerfile=PurePosixPath("Dockerfile"))


def ways(matrix_product: object = None, **world: object) -> dict[str, tuple[str, str]]:
    product = matrix_product or make_product()
    plan = make_plan(make_matrix(product), Selection(), make_world(**world))  # type: ignore[arg-type]  # a Product
    return {each.cell.target.name: (each.cell.placement.value, each.cell.builder) for each in plan.cells}


def without_cross(_builder: str, _product: Product, _target: Target, _libc: Libc, placement: Placement) -> Toolchain:
    if placement is Placement.CROSS:
        raise ToolchainUnavailable("no cross compiler", next_step="get one")
    return toolchain()


def test_auto_prefers_native_then_cross() -> None:
    assert ways() == {
        "x86_64": ("native", "container"), "aarch64": ("cross", "container"), "armv7": ("cross", "container"),
    }  # fmt: skip


def test_auto_falls_back_to_emulation() -> None:
    assert ways(find_toolchain=without_cross)["aarch64"] == ("emulate", "buildx")


def test_forbidden_emulation_is_left_out_with_its_reason() -> None:
    world = make_world(find_toolchain=without_cross)
    plan = make_plan(make_matrix(), Selection(forbid_emulation=True), world)
    assert [gap.target for gap in plan.left_out] == ["aarch64", "armv7"]
    assert "--forbid-emulation" in plan.left_out[0].reason


def test_wished_emulation_is_no_silent_fall_back() -> None:
    product = make_product(placement=PlacementWish.EMULATE)
    plan = make_plan(make_matrix(product), Selection(forbid_emulation=True), make_world())
    assert {each.cell.target.name: each.cell.placement for each in plan.cells} == {
        "aarch64": Placement.EMULATE, "armv7": Placement.EMULATE,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wish", "built"),
    [(PlacementWish.NATIVE, ["x86_64"]), (PlacementWish.CROSS, ["x86_64"]), (PlacementWish.EMULATE, ["armv7"])],
)
def test_a_wished_placement_is_not_swapped_for_another(wish: PlacementWish, built: list[str]) -> None:
    product = make_product(placement=wish, targets=("x86_64", "armv7"))
    plan = make_plan(make_matrix(product), Selection(), make_world(find_toolchain=without_cross))
    assert [each.cell.target.name for each in plan.cells] == built
    assert len(plan.left_out) == 1


def test_what_a_product_asks_for_reaches_its_cells() -> None:
    mounts = (Mount(at=PurePosixPath("/deps"), tree=tree("deps")),)
    asked: dict[str, object] = {
        "network": True, "env": {"A": "1"}, "outputs": (OutputPattern(glob="a"),), "smoke": (Smoke(run=("a",)),),
        "limits": Limits(timeout_s=5),
    }  # fmt: skip
    world = make_world(mounts={"hello": mounts})
    for planned in make_plan(make_matrix(make_product("hello", **asked)), Selection(), world).cells:
        assert {name: getattr(planned.cell, name) for name in asked} == asked
        assert planned.cell.mounts == mounts


def test_only_the_products_that_were_asked_for_are_planned() -> None:
    world = make_world(sources={"hello": tree(), "other": tree()})
    plan = make_plan(make_matrix(make_product(), make_product("other")), Selection(products=("other",)), world)
    assert {each.cell.product for each in plan.cells} == {"other"}


def test_a_dockerfile_is_built_by_buildx_and_left_out_without_an_engine() -> None:
    product = make_product(recipe=DOCKERFILE)
    assert ways(product)["armv7"] == ("emulate", "buildx")
    plan = make_plan(make_matrix(product), Selection(), make_world(engine="local"))
    assert not plan.cells
    assert {gap.next_step for gap in plan.left_out} == {"start one: `ci/engine up`"}


def test_the_local_engine_crosses() -> None:
    assert ways(engine="local") == {
        "x86_64": ("native", "local"), "aarch64": ("cross", "local"), "armv7": ("cross", "local"),
    }  # fmt: skip


@pytest.mark.parametrize("asked", [("arm64",), ("linux/arm64",), ("AArch64",), ("linux_aarch64",)])
def test_aliases_work_wherever_a_target_is_asked_for(asked: tuple[str, ...]) -> None:
    plan = make_plan(make_matrix(), Selection(targets=asked), make_world())
    assert [each.cell.id for each in plan.cells] == ["hello/aarch64"]


def test_an_unknown_target_or_product_gets_a_suggestion() -> None:
    with pytest.raises(UnknownName, match=r"'aarch46'.*did you mean 'aarch64'"):
        make_plan(make_matrix(), Selection(targets=("aarch46",)), make_world())
    with pytest.raises(UnknownName, match=r"'helo'.*did you mean 'hello'"):
        make_plan(make_matrix(), Selection(products=("helo",)), make_world())


def test_a_target_that_no_product_names_is_told() -> None:
    with pytest.raises(UnknownName, match="no product is built for the target 'x86_64-macos'"):
        make_plan(make_matrix(), Selection(targets=("x86_64-macos",)), make_world())


def test_cache_state_and_estimate_show() -> None:
    plan = make_plan(make_matrix(), Selection(), make_world(is_cached=lambda _key: True, estimate=lambda _cell: 4.5))
    assert {(each.cache, each.estimate_s) for each in plan.cells} == {(CacheState.HIT, 4.5)}


def test_best_effort_targets_are_not_required() -> None:
    plan = make_plan(make_matrix(best_effort=frozenset({"armv7"})), Selection(), make_world())
    assert [each.cell.id for each in plan.cells if not each.cell.required] == ["hello/armv7"]


def test_what_is_left_out_says_why_and_whether_it_is_required() -> None:
    world = make_world(engine="local", find_toolchain=without_cross)
    plan = make_plan(make_matrix(best_effort=frozenset({"armv7"})), Selection(), world)
    assert [(gap.target, gap.reason, gap.next_step, gap.required) for gap in plan.left_out] == [
        ("aarch64", "no cross compiler", "get one", True), ("armv7", "no cross compiler", "get one", False),
    ]  # fmt: skip


def test_a_target_floor_is_the_default_of_its_cells() -> None:
    plan = make_plan(make_matrix(floors={"armv7": "2.28"}), Selection(), make_world())
    assert {each.cell.target.name: each.cell.libc.floor for each in plan.cells} == {
        "x86_64": "", "aarch64": "", "armv7": "2.28",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("libc", "floor"), [(Libc(floor="2.17"), "2.17"), (Libc(kind=LibcKind.MUSL), "")], ids=["own", "musl"]
)
def test_a_product_with_its_own_libc_keeps_it(libc: Libc, floor: str) -> None:
    product = make_product(libc=libc, targets=("armv7",))
    plan = make_plan(make_matrix(product, floors={"armv7": "2.28"}), Selection(), make_world())
    assert [each.cell.libc for each in plan.cells] == [Libc(kind=libc.kind, floor=floor)]


@pytest.mark.parametrize(
    "change",
    [
        {"source": tree("other")},
        {"recipe": CommandRecipe(toolchain="gcc", script="false")},
        {"recipe": CommandRecipe(toolchain="gcc", commands=(("true",),))},
        {"toolchain": dataclasses.replace(toolchain(), identity=digest("newer"))},
        {"toolchain": dataclasses.replace(toolchain(), isolation="other")},
        {"target": TARGETS["armv7"]},
        {"env": {"A": "1"}},
        {"outputs": (OutputPattern(glob="bin/*"),)},
        {"version": "1.0.1"},
        {"epoch": 1},
        {"network": True},
        {"builder": "container"},
        {"product": "other"},
        {"placement": Placement.CROSS},
        {"libc": Libc(floor="2.17")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_decides_bytes_changes_the_key(change: dict[str, object]) -> None:
    assert make_cell(**change).key != make_cell().key  # type: ignore[arg-type]  # keywords of a Cell


def test_each_mount_counts_by_its_place_and_its_content() -> None:
    keys = {
        make_cell(mounts=(Mount(at=PurePosixPath(at), tree=tree(text)),)).key for at in ("/a", "/b") for text in "xy"
    }
    assert len(keys | {make_cell().key}) == 5


def test_a_raised_schema_changes_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_cell().key
    monkeypatch.setattr(plan_module, "KEY_SCHEMA", plan_module.KEY_SCHEMA + 1)
    assert make_cell().key != before


def test_what_does_not_decide_bytes_leaves_the_key() -> None:
    cell = make_cell()
    same = dataclasses.replace(cell, reason="another", required=False, limits=dataclasses.replace(cell.limits, pids=9))
    assert cell_key(same) == cell.key
