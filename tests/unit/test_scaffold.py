"""A proposed matrix.toml is valid, fits the project, and never breaks on odd ones."""

from pathlib import Path

import pytest

from builders.model import CommandRecipe, DockerfileRecipe, OutputPattern
from builders.recipes import default_script
from orchestrator import config, survey
from orchestrator.errors import ConfigError
from orchestrator.makefiles import goal, has_rule, program_names
from orchestrator.model import Matrix
from orchestrator.scaffold import propose

CARGO = """\
[package]
name = "rs"
version = "0.1.0"
license = "MIT"
repository = "https://host/rs"
description = 'a "b" \\'
"""
LOCK = 'version = 3\n\n[[package]]\nname = "rs"\n'
DEPENDENT_LOCK = LOCK + 'source = "registry+x"\n'


def proposed(folder: Path, files: dict[str, str]) -> Matrix:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    text = propose(folder)
    assert not (folder / "matrix.toml").exists()
    (folder / "matrix.toml").write_text(text)
    return config.load(folder / "matrix.toml")


def script(matrix: Matrix) -> str:
    recipe = matrix.products[0].recipe
    assert isinstance(recipe, CommandRecipe)
    return recipe.script


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "my project"
    place.mkdir()
    return place


def one(name: str) -> tuple[OutputPattern, ...]:
    return (OutputPattern(glob=name, exactly_one=True),)


def test_go(folder: Path) -> None:
    matrix = proposed(folder, {"go.mod": "module example.com/tools/fetch/v2\n\ngo 1.21\n", "Makefile": "all:\n"})
    assert matrix.project.name == matrix.products[0].name == "fetch"
    assert matrix.products[0].recipe == default_script("go", "fetch")
    assert not matrix.products[0].network


@pytest.mark.parametrize(("vendored", "network"), [(True, False), (False, True)])
def test_dependencies_need_the_network_unless_they_are_vendored(folder: Path, *, vendored: bool, network: bool) -> None:
    if vendored:
        (folder / "vendor").mkdir()
    matrix = proposed(folder, {"go.mod": "module x\nrequire example.com/y v1.0.0\n"})
    assert matrix.products[0].network is network


def test_cargo(folder: Path) -> None:
    matrix = proposed(folder, {"Cargo.toml": CARGO, "src/main.rs": "", "Cargo.lock": LOCK})
    assert matrix.products[0].recipe == default_script("cargo", "rs")
    assert matrix.products[0].outputs == one("rs")
    said = matrix.project
    assert (said.license, said.homepage, said.description) == ("MIT", "https://host/rs", 'a "b" \\')


def test_cargo_binaries_have_the_names_that_they_are_given(folder: Path) -> None:
    bins = '[[bin]]\nname = "one"\npath = "src/main.rs"\n[[bin]]\nname = "two"\n'
    matrix = proposed(folder, {"Cargo.toml": CARGO + bins, "src/main.rs": "", "Cargo.lock": DEPENDENT_LOCK})
    assert matrix.products[0].outputs == (*one("one"), *one("two"))
    assert matrix.products[0].network


def test_cargo_without_a_lock_file_builds_in_a_copy(folder: Path) -> None:
    text = script(proposed(folder, {"Cargo.toml": CARGO, "src/main.rs": ""}))
    assert text.startswith("cp -R . ")
    assert "--locked" not in text


def test_a_cargo_workspace_takes_the_name_of_its_folder(folder: Path) -> None:
    matrix = proposed(folder, {"Cargo.toml": '[workspace]\nmembers = ["a"]\n', "Cargo.lock": LOCK})
    assert matrix.project.name == "my-project"
    assert matrix.products[0].outputs == (OutputPattern(glob="*"),)


def test_cmake(folder: Path) -> None:
    text = "project(Demo C)\n# add_executable(old x.c)\nadd_executable(demo a.c)\nADD_EXECUTABLE( run-tests t.c )\n"
    matrix = proposed(folder, {"CMakeLists.txt": text + "add_executable(x::y ALIAS demo)\n"})
    assert (matrix.project.name, matrix.products[0].name) == ("Demo", "demo")
    assert matrix.products[0].outputs == one("demo")
    assert '-B "$TMPDIR/build"' in script(matrix)


def test_makefile(folder: Path) -> None:
    text = "PROG = hello # the program\n.PHONY: all clean\nall: $(PROG)\n$(PROG): a.o\n\tcc\nclean:\n\trm -f a.o\n"
    matrix = proposed(folder, {"Makefile": text})
    assert matrix.products[0].outputs == one("hello")
    assert script(matrix).splitlines() == [
        'cp -R . "$TMPDIR/build"', 'chmod -R u+w "$TMPDIR/build"', 'cd "$TMPDIR/build"',
        "make clean", 'make CC="$CC" AR="$AR"', 'cp hello "$OUT/"',
    ]  # fmt: skip


def test_a_makefile_that_does_not_tell_gives_all_its_programs(folder: Path) -> None:
    matrix = proposed(folder, {"Makefile": "all:\n\tcc -o $(X) a.c\n"})
    assert matrix.products[0].outputs == (OutputPattern(glob="*"),)
    assert "ELF" in script(matrix)


def test_programs_in_folders_are_copied_by_path_and_named_without(folder: Path) -> None:
    matrix = proposed(folder, {"GNUmakefile": "bin/tool: x.c\n\tcc\n"})
    assert 'cp bin/tool "$OUT/"' in script(matrix)
    assert matrix.products[0].outputs == one("tool")


def test_python(folder: Path) -> None:
    text = (
        '[build-system]\nrequires = ["setuptools>=61"]\n[project]\nname = "pack"\nurls = { Homepage = "https://h/x" }\n'
    )
    matrix = proposed(folder, {"pyproject.toml": text, "Makefile": "test:\n"})
    assert matrix.products[0].recipe == default_script("python", "pack")
    assert matrix.products[0].outputs == one("*.whl")
    assert matrix.project.homepage == "https://h/x"


def test_a_python_back_end_that_is_not_in_the_image_is_fetched(folder: Path) -> None:
    text = '[build-system]\nrequires = ["hatchling"]\n[project]\nname = "pack"\n'
    assert proposed(folder, {"pyproject.toml": text}).products[0].network


def test_a_pyproject_of_tools_only_is_passed_over(folder: Path) -> None:
    matrix = proposed(folder, {"pyproject.toml": "[tool.ruff]\n", "Makefile": "prog: x.c\n\tcc\n"})
    assert matrix.products[0].outputs == one("prog")


def test_dockerfile(folder: Path) -> None:
    matrix = proposed(folder, {"Dockerfile": "FROM scratch\nCOPY --from=build /x /out/\n"})
    assert isinstance(matrix.products[0].recipe, DockerfileRecipe)
    assert "does not fill" not in propose(folder)


def test_a_dockerfile_without_out_is_told_what_is_missing(folder: Path) -> None:
    proposed(folder, {"Dockerfile": "FROM scratch\nCOPY x /usr/bin/x\n"})
    assert "does not fill" in propose(folder)


def test_c_files(folder: Path) -> None:
    matrix = proposed(folder, {"main.c": "int main(void) {}\n", "a.c": "#include <math.h>\n", "odd $(x).c": ""})
    assert matrix.products[0].outputs == one("my-project")
    assert script(matrix) == '$CC ${CFLAGS:-} -O2 -o "$OUT/my-project" a.c main.c -lm\n'


def test_one_c_file_names_its_program(folder: Path) -> None:
    assert proposed(folder, {"hello.c": ""}).products[0].name == "hello"


@pytest.mark.parametrize(("versioned", "version"), [(True, None), (False, "0.1.0")])
def test_the_version_comes_from_git_where_there_is_git(folder: Path, *, versioned: bool, version: str | None) -> None:
    if versioned:
        (folder / ".git").mkdir()
    assert proposed(folder, {"main.c": ""}).project.version == version


@pytest.mark.parametrize("name", ["..x", "-rf", "é$(x)", "a" * 100, "'''", "_", "a.b", 'x"y'])
def test_odd_folder_names_give_valid_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    proposed(tmp_path / name, {"main.c": ""})


@pytest.mark.parametrize(
    "files",
    [
        {"Cargo.toml": '[package]\nname = "$(x)"\nlicense = 5\ndescription = "a\\u0007"\n', "src/main.rs": ""},
        {"Cargo.toml": "package = 1\nbin = [1]\ndependencies = 2\n"},
        {"go.mod": ""},
        {"go.mod": "module $(x)'''\n"},
        {"pyproject.toml": "build-system = { requires = 5 }\nproject = { name = 1, urls = 2 }\n"},
        {"CMakeLists.txt": "project('''$(x))\n"},
        {"Makefile": "PROG = $(PROG)$(PROG)\nall: $(PROG) '''\n"},
        {"Makefile": "'''; touch hit: x\n"},
        {"Makefile": "\udcff".encode("utf-8", "surrogatepass").decode("latin-1")},
        {"Dockerfile": ""},
    ],
)
def test_odd_build_files_give_valid_files(files: dict[str, str], folder: Path) -> None:
    proposed(folder, files)


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"Cargo.toml": CARGO.replace("0.1.0", "0.3.0"), "Cargo.lock": LOCK, "src/main.rs": "fn main() {}"}, "0.3.0"),
        ({"CMakeLists.txt": "project(square VERSION 1.2.4 LANGUAGES C)\nadd_executable(square a.c)\n"}, "1.2.4"),
        ({"pyproject.toml": '[build-system]\nrequires = ["x"]\n[project]\nname = "p"\nversion = "2.0.1"\n'}, "2.0.1"),
    ],
    ids=["cargo", "cmake", "python"],
)
def test_the_version_is_the_projects_own(files: dict[str, str], version: str, folder: Path) -> None:
    (folder / ".git").mkdir()
    assert survey.version_of(proposed(folder, files)) == version


def test_objects_of_another_machine_are_not_taken_for_finished(folder: Path) -> None:
    without, with_clean = "prog: prog.o\n\t$(CC) -o $@ $<\n", "clean:\n\trm -f *.o\n"
    assert "-name '*.o' -delete" in script(proposed(folder, {"Makefile": without}))
    (folder / "matrix.toml").unlink()
    assert "make clean" in script(proposed(folder, {"Makefile": without + with_clean}))


def test_a_folder_without_a_project_is_named(folder: Path) -> None:
    (folder / "go.mod").mkdir()
    with pytest.raises(ConfigError) as caught:
        propose(folder)
    assert str(folder) in caught.value.what


def test_a_broken_cargo_file_is_named_with_its_line(folder: Path) -> None:
    (folder / "Cargo.toml").write_text("[package]\nname = \n")
    with pytest.raises(ConfigError, match=r"Cargo\.toml:2: "):
        propose(folder)


# --- makefiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("hello: hello.c\n\tcc -o hello\n", ("hello",)),
        ("CC ?= cc\nBIN := ./app\n\nall: $(BIN)\n", ("app",)),
        ("all: one two\n", ("one", "two")),
        ("all: build\nbuild: prog\n.PHONY: all build\n", ("prog",)),
        ("all: \\\n  one \\\n  two\n", ("one", "two")),
        ("lib.a: x.o\n", ()),
        ("all:\n\techo\n", ()),
        ("%.o: %.c\n\tcc\nprog: x.o\n", ("prog",)),
        ("prog: CFLAGS = -O2\nprog: x.o ; cc\n", ("prog",)),
        ("TARGET = app\nall: $(OBJS)\n", ("app",)),
        ("help:\n\techo\n.PHONY: help\nall: prog\n", ("prog",)),
        ("X = $(X)\nall: $(X)\n", ()),
        ("a-$(V): x\n", ()),
        ("", ()),
    ],
)
def test_programs_of_makefiles(text: str, names: tuple[str, ...]) -> None:
    assert program_names(text) == names


def test_goal_and_rules_of_makefiles() -> None:
    text = "help:\n\t@echo\n.PHONY: help\nall: x\nclean distclean:\n\trm\n"
    assert goal(text) == "all"
    assert goal("all: x\n") == ""
    assert has_rule(text, "clean")
    assert not has_rule(text, "install")
