"""What Zig builds once per target: the C library's start-up files, stubs and run time.

Made apart from any recipe, kept by toolchain and target, and copied into each cell: a recipe that could write to the
kept one could change the next product's bytes.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from builders import command, recipe_env
from builders.errors import ToolchainUnavailable
from builders.local import sandbox
from builders.local.sandbox import Bind, Isolation, Room
from builders.model import BuildEvents, CommandRecipe, SourceTree

INSIDE = "/tmp/zig-cache"  # noqa: S108  (inside the sandbox)
"""Where a sandboxed recipe finds its copy."""

_TIMEOUT_S = 1800.0
_CXX_SUFFIXES = (".cc", ".cpp", ".cxx", ".c++")
_CXX_WORDS = re.compile(r"\bCXX|[cg]\+\+|\bcmake\b")
_PROGRAMS = {
    "cc": ("empty.c", "int main(void) { return 0; }\n"),
    "c++": (
        "empty.cpp",
        "#include <iostream>\nint main() { try { throw 1; } catch (int) { std::cout << std::flush; } return 0; }\n",
    ),
}
_FLAGS = (("-O2",), ("-O2", "-s"))
"""Zig keeps one run time for programs with symbols and one for programs without."""


def language(source: SourceTree, recipe: CommandRecipe) -> str:
    """Say whether a recipe will want the C++ library as well, which takes minutes the first time.

    A guess decides only what is prepared: a wrong one costs time, not bytes.
    """
    suffixes = Counter(file.path.suffix for file in source.files)
    cxx = sum(suffixes[suffix] for suffix in _CXX_SUFFIXES)
    text = recipe.script or " ".join(word for argv in recipe.commands for word in argv)
    return "c++" if cxx and (cxx > suffixes[".c"] or _CXX_WORDS.search(text)) else "cc"


def fill(kept: Path, *, fresh: Path, compiler: str, lang: str, binds: Sequence[Bind], events: BuildEvents) -> None:
    """Compile an empty program into an empty cache, and move that to `kept`. `fresh` is a new folder beside it.

    `compiler` and `binds` are those of a cell, whose $OUT and $TMPDIR are not touched.
    """
    for name in ("tmp/zig-cache", "tmp/home", "out"):
        (fresh / name).mkdir(parents=True)
    file, text = _PROGRAMS[lang]
    (fresh / "out" / file).write_text(text, encoding="utf-8")
    replaced = {"/out": fresh / "out", "/tmp": fresh / "tmp"}  # noqa: S108  (inside the sandbox)
    own = tuple(
        Bind(outside=replaced.get(bind.inside, bind.outside), inside=bind.inside, writable=bind.writable)
        for bind in binds
    )
    moved = sandbox.available() is Isolation.BUBBLEWRAP
    place = "/out" if moved else os.fspath(fresh / "out")
    for flags in _FLAGS:
        _compile([compiler, *flags, f"{place}/{file}", "-o", f"{place}/empty"], fresh, place, own, events)
    kept.parent.mkdir(parents=True, exist_ok=True)
    (fresh / "tmp" / "zig-cache").rename(kept)


def _compile(argv: list[str], fresh: Path, place: str, binds: tuple[Bind, ...], events: BuildEvents) -> None:
    isolation = sandbox.available()
    moved = isolation is Isolation.BUBBLEWRAP
    cache = INSIDE if moved else os.fspath(fresh / "tmp" / "zig-cache")
    env = {
        "PATH": recipe_env.RECIPE_PATH, "HOME": f"{Path(cache).parent}/home",
        "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache,
    }  # fmt: skip
    code = command.stream(
        sandbox.wrap(argv, Room(binds=binds, cwd=place, env=env), isolation),
        on_output=events.output,
        cancelled=events.cancelled,
        timeout_s=_TIMEOUT_S,
        env=sandbox.own_env() if moved else env,
    )
    if code != 0:
        raise ToolchainUnavailable(
            "zig cannot compile an empty program for this target; see the log of the cell",
            next_step="`relbuild doctor`; a full disk or too little memory are the usual reasons",
        )
