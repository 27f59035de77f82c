"""The examples and this project's own matrix hold together, and hexsum's own checks pass with the host's compiler."""

import os
from pathlib import Path

import pytest

from builders import command
from builders.model import CommandRecipe, DockerfileRecipe
from builders.targets import DEFAULT_TARGETS
from orchestrator import config
from orchestrator.model import Matrix, Product

ROOT = Path(__file__).resolve().parents[2]
HEXSUM = ROOT / "examples" / "hexsum"
MATRICES = (ROOT / "matrix.toml", *sorted((ROOT / "examples").glob("*/matrix.toml")))


def _product(matrix: Matrix, name: str) -> Product:
    return next(product for product in matrix.products if product.name == name)


def test_each_example_has_a_matrix_and_a_read_me() -> None:
    folders = {folder.name for folder in (ROOT / "examples").iterdir() if folder.is_dir()}
    assert folders == {"hexsum", "upstream", "go", "rust", "cmake", "sharedlib"}
    assert {file.parent.name for file in MATRICES[1:]} == folders - {"hexsum"}
    assert all((ROOT / "examples" / folder / "README.md").is_file() for folder in folders)


@pytest.mark.parametrize("file", MATRICES, ids=lambda file: str(file.relative_to(ROOT)))
def test_matrix_is_valid_and_every_product_is_smoke_tested(file: Path) -> None:
    matrix = config.load(file)
    assert matrix.products
    assert [product.name for product in matrix.products if not product.smoke] == []


@pytest.mark.parametrize("file", MATRICES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_that_a_matrix_names_are_there(file: Path) -> None:
    matrix = config.load(file)
    for product in matrix.products:
        for extra in product.archive.extra if product.archive else ():
            assert (matrix.root / extra).is_file()
        if isinstance(product.recipe, DockerfileRecipe) and isinstance(product.source, os.PathLike):
            assert (matrix.root / product.source / product.recipe.dockerfile).is_file()


def test_own_matrix_covers_the_default_targets_by_both_builders() -> None:
    products = config.load(ROOT / "matrix.toml").products
    assert {type(product.recipe) for product in products} == {CommandRecipe, DockerfileRecipe}
    assert {product.targets for product in products} == {DEFAULT_TARGETS}


def test_emulated_lua_differs_from_lua_in_its_placement_only() -> None:
    matrix = config.load(ROOT / "examples" / "upstream" / "matrix.toml")
    cross, emulated = _product(matrix, "lua"), _product(matrix, "lua-emulated")
    for part in ("source", "recipe", "outputs", "smoke", "libc"):
        assert getattr(cross, part) == getattr(emulated, part)
    assert cross.placement != emulated.placement


@pytest.fixture(scope="module")
def hexsum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if command.find_program("cc") is None or command.find_program("make") is None:
        pytest.skip("this machine has no C compiler or no make")
    work = tmp_path_factory.mktemp("hexsum")
    argv = ("make", "-C", str(HEXSUM), f"BUILD={work}/build", f"DEST={work}/out", "VERSION=1.2.3", "check")
    done = command.capture(argv, timeout_s=120)
    assert done.exit_code == 0, (done.stdout + done.stderr).decode(errors="replace")
    assert b" checks passed" in done.stdout
    return work / "out" / "hexsum"


def test_hexsum_says_the_version_that_was_baked_in(hexsum: Path) -> None:
    assert command.capture((str(hexsum), "--version"), timeout_s=10).stdout == b"hexsum 1.2.3\n"


def test_hexsum_leaves_nothing_in_its_source(hexsum: Path) -> None:
    assert hexsum.is_file()
    assert not [file for file in HEXSUM.rglob("*") if file.suffix == ".o" or (file.name == "hexsum" and file.is_file())]


def test_hexsum_passes_the_smoke_tests_of_the_matrix(hexsum: Path) -> None:
    tests = _product(config.load(ROOT / "matrix.toml"), "hexsum").smoke
    assert tests
    for test in tests:
        done = command.capture((str(hexsum), *test.run[1:]), timeout_s=60)
        assert done.exit_code == test.exit
        assert test.stdout is None or done.stdout.decode() == test.stdout
