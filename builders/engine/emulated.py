"""Words a recipe for a foreign platform as a Dockerfile and a few shell lines that BuildKit runs under QEMU."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from builders import recipe_env
from builders.engine import container_world, tars, toolchains
from builders.engine.container_builder import shown
from builders.errors import BuildError
from builders.model import Cell, CommandRecipe
from builders.world import STANDARD, BuildWorld, entry, environment

_SAFE_PATH = re.compile(r"/[A-Za-z0-9._+/-]+")

# The recipe's user owns /out; nothing of the configuration stands in this text, save mounts that _SAFE_PATH allows.
_EMULATED = """\
FROM {image} AS recipe
COPY --from=job --chown={user}:{user} out {out}
WORKDIR {src}
USER {user}:{user}
RUN --mount=type=bind,from=src,target={src} --mount=type=bind,from=job,target=/run/job \\
    --mount=type=tmpfs,target=/tmp{mounts} \\
    ["sh", "/run/job/start"]
FROM scratch
COPY --from=recipe {out} /out
"""

_START = """\
mkdir -p /tmp/home
if command -v setpriv >/dev/null 2>&1 && setpriv --no-new-privs true 2>/dev/null; then
    exec setpriv --no-new-privs env -i {env} {begin}
fi
exec env -i {env} {begin}
"""


def write_job(cell: Cell, recipe: CommandRecipe, image: str, job: Path, *, world: BuildWorld = STANDARD) -> None:
    """Write the Dockerfile, and what it mounts at /run/job: how it starts, the recipe, wrappers, and an empty $OUT."""
    (job / "out").mkdir(parents=True)
    wrappers = toolchains.wrappers(recipe.toolchain, cell.target, cell.libc)
    tools = "/run/job/tools" if wrappers else ""
    compilers = {
        name: value.replace(toolchains.TOOLS, tools) if tools else value
        for name, value in toolchains.compilers(recipe.toolchain, cell.target).items()
    }
    paths = replace(container_world.paths(world), tools=tools)
    env = environment(recipe_env.recipe_env(cell, compilers, paths), world, cell.env)
    words = " ".join(shlex.quote(f"{name}={value}") for name, value in env.items())
    begin = shlex.join(entry(("sh", "/run/job/recipe"), world))
    (job / "start").write_text(_START.format(env=words, begin=begin), encoding="utf-8")
    commands = recipe.commands or (("sh", "-eu", "-c", recipe.script),)
    lines = (f"{shlex.join(argv)} || {{ code=$?; {_say_failed(argv)}; exit $code; }}" for argv in commands)
    (job / "recipe").write_text("\n".join([f"cd {paths.source}", *lines, ""]), encoding="utf-8")
    for name, text in wrappers.items():
        (job / "tools").mkdir(exist_ok=True)
        (job / "tools" / name).write_text(text, encoding="utf-8")
        (job / "tools" / name).chmod(0o755)
    dockerfile = _EMULATED.format(
        image=image, user=world.user or tars.RECIPE_USER, mounts=_mount_options(cell), src=paths.source, out=paths.out
    )
    (job / "Dockerfile").write_text(dockerfile, encoding="utf-8")


def check(cell: Cell) -> None:
    """Raise BuildError for a mount whose path would mean something else in a Dockerfile."""
    for mount in cell.mounts:
        if not _SAFE_PATH.fullmatch(str(mount.at)):
            raise BuildError(
                f"{cell.id}: the mount at {str(mount.at)!r} holds characters that buildx would read otherwise",
                next_step="mount it at a path of letters, digits, and ._+-/",
            )


def _mount_options(cell: Cell) -> str:
    check(cell)
    return "".join(
        f" \\\n    --mount=type=bind,from=mount{number},target={mount.at}" for number, mount in enumerate(cell.mounts)
    )


def _say_failed(argv: Sequence[str]) -> str:
    return f"printf '%s\\n' {shlex.quote('relbuild: failed: ' + shown(argv))} >&2"
