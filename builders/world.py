"""The surroundings of a build that must not decide its bytes, and how each of them is made another one."""

import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from builders.model import SourceTree

IN_MEMORY_BYTES: Final = 256 << 20
"""A larger source is not put into memory, where alone the order of its names can be chosen."""
SAMPLE: Final = tuple(f"name-{number:02}" for number in range(24))
"""File names that show whether a folder lists names in the order in which they were written."""
_DAY_S: Final = 86400


class Axis(StrEnum):
    """A way in which two worlds can differ."""

    PATH = "build_path"
    TIME = "time"
    TIME_ZONE = "time_zone"
    LOCALE = "locale"
    UMASK = "umask"
    HOST_NAME = "host_name"
    USER = "user"
    CPU_COUNT = "cpus"
    FILE_ORDER = "file_order"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Varies:
    """A builder can vary this axis; what it usually is, and where the variation ends.

    `other` is what it becomes, where that is not what the world says.
    """

    usual: str
    other: str = ""
    limits: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A builder cannot vary this axis, and why."""

    reason: str


AxisState = Varies | Fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildWorld:
    """What surrounds a recipe. An empty value leaves the builder's own, so that BuildWorld() changes no byte.

    `root` is an absolute folder of the sandbox below which source, output and temporary folder lie; `cpus` how many the
    recipe sees; `disordered` gives the source's names in another order; `clock_ahead_s` needs `libfaketime`, the path
    of that library on this machine.
    """

    root: str = ""
    clock_ahead_s: int = 0
    libfaketime: str = ""
    time_zone: str = ""
    locale: str = ""
    umask: int | None = None
    host_name: str = ""
    user: int | None = None
    user_name: str = ""
    cpus: int = 0
    disordered: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def varied(self) -> frozenset[Axis]:
        """Name the axes on which this world is another one than the builder's own."""
        usual = described(STANDARD)
        return frozenset(axis for axis, text in described(self).items() if text != usual[axis])


STANDARD: Final = BuildWorld()
OTHER: Final = BuildWorld(
    root="/another/place/for-this-build",
    clock_ahead_s=397 * _DAY_S + 5 * 3600 + 13 * 60,
    # A POSIX string: it means the same where no time zone files are.
    time_zone="RLB-13:30",
    locale="C",
    umask=0o027,
    host_name="another-host",
    user=4217,
    user_name="rebuilder",
    cpus=1,
    disordered=True,
    environment={"HOME": "home-of-another", "RELBUILD_OTHER_WORLD": "yes", "LINGUAS": "xx", "COLUMNS": "61"},
)
"""All names here are made up: a statement about a rebuild tells nothing of the machine that it ran on."""

_FIELDS: Final[Mapping[Axis, tuple[str, ...]]] = {
    Axis.PATH: ("root",),
    Axis.TIME: ("clock_ahead_s", "libfaketime"),
    Axis.TIME_ZONE: ("time_zone",),
    Axis.LOCALE: ("locale",),
    Axis.UMASK: ("umask",),
    Axis.HOST_NAME: ("host_name",),
    Axis.USER: ("user", "user_name"),
    Axis.CPU_COUNT: ("cpus",),
    Axis.FILE_ORDER: ("disordered",),
    Axis.ENVIRONMENT: ("environment",),
}


def varied_on(axes: Collection[Axis], libfaketime: str = "") -> BuildWorld:
    """Give the world that differs from STANDARD on these axes and on no other; time only with a `libfaketime`."""
    other = replace(OTHER, libfaketime=libfaketime, clock_ahead_s=OTHER.clock_ahead_s if libfaketime else 0)
    return replace(STANDARD, **{name: getattr(other, name) for axis in axes for name in _FIELDS[axis]})


def described(world: BuildWorld) -> dict[Axis, str]:
    """Say what a world is on each axis; empty where it is the builder's own."""
    umask = "" if world.umask is None else f"{world.umask:04o}"
    user = "" if world.user is None else f"{world.user} ({world.user_name})"
    days, rest = divmod(world.clock_ahead_s, _DAY_S)
    return {
        Axis.PATH: world.root,
        Axis.TIME: f"{days} days and {rest // 60} minutes ahead" if world.clock_ahead_s else "",
        Axis.TIME_ZONE: world.time_zone,
        Axis.LOCALE: world.locale,
        Axis.UMASK: umask,
        Axis.HOST_NAME: world.host_name,
        Axis.USER: user,
        Axis.CPU_COUNT: str(world.cpus or ""),
        Axis.FILE_ORDER: "names written last to first" if world.disordered else "",
        Axis.ENVIRONMENT: " ".join(f"{name}={value}" for name, value in world.environment.items()),
    }


# --- what a recipe is started with ---------------------------------------------------------------------------------


def environment(
    env: Mapping[str, str], world: BuildWorld, own: Collection[str], *, preload: str = ""
) -> dict[str, str]:
    """Give a recipe's variables in a world. The product's `own` stay; `preload` is libfaketime's place."""
    changed = {**world.environment}
    if "HOME" in changed:
        changed["HOME"] = f"{env['TMPDIR']}/{changed['HOME']}"
    if world.time_zone:
        changed["TZ"] = world.time_zone
    if world.locale:
        changed["LC_ALL"] = world.locale
    if world.user_name:
        changed |= {"USER": world.user_name, "LOGNAME": world.user_name}
    if preload and world.clock_ahead_s:
        # Files keep their promised times, and time-outs their pace: only what asks for the time of day is told another.
        changed |= {
            "LD_PRELOAD": preload, "FAKETIME": f"+{world.clock_ahead_s}", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1", "FAKETIME_NO_CACHE": "1",
        }  # fmt: skip
    return {**env, **{name: value for name, value in changed.items() if name not in own}}


def entry(argv: Sequence[str], world: BuildWorld, *, taskset: bool = False) -> list[str]:
    """Give the command that takes on the umask, home and CPUs of a world, then becomes `argv`."""
    if world == STANDARD:
        return list(argv)
    # The folder for temporary files is above HOME, and other programs made it with the usual umask.
    steps = ['mkdir -p "$HOME"'] if world.root or "HOME" in world.environment else []
    steps += [f"umask {world.umask:04o}"] if world.umask is not None else []
    bound = ["taskset", "-c", ",".join(map(str, range(world.cpus)))] if taskset and world.cpus else []
    return [*bound, "sh", "-c", "; ".join([*steps, 'exec "$@"']), "sh", *argv] if steps else [*bound, *argv]


NO_LIBFAKETIME: Final = Fixed(reason="libfaketime is not on this machine (Debian: faketime)")
TOO_LARGE: Final = Fixed(reason=f"the source is larger than {IN_MEMORY_BYTES >> 20} MiB, and stays on the disk")


def pinned(cell_env: Mapping[str, str]) -> dict[Axis, Fixed]:
    """Name the axes that a product holds still itself, by its own `env`."""
    variables = {Axis.TIME_ZONE: "TZ", Axis.LOCALE: "LC_ALL", Axis.TIME: "LD_PRELOAD"}
    return {
        axis: Fixed(reason=f"the product's own env sets {name}") for axis, name in variables.items() if name in cell_env
    }


# --- the order of names --------------------------------------------------------------------------------------------


def in_order(tree: SourceTree, world: BuildWorld) -> SourceTree:
    """Give a tree whose files are written in the world's order."""
    return replace(tree, files=tuple(reversed(tree.files))) if world.disordered else tree


def fits_in_memory(tree: SourceTree) -> bool:
    """Tell whether a source is small enough to be written into memory."""
    return sum(file.size_bytes for file in tree.files) <= IN_MEMORY_BYTES


def order_shows(usual: Path, other: Path) -> bool:
    """Tell whether names written last to first in one folder are listed otherwise than names written in order."""
    return _listing(usual, reverse=False) != _listing(other, reverse=True)


def _listing(below: Path, *, reverse: bool) -> list[str]:
    folder = Path(tempfile.mkdtemp(prefix="order-", dir=below))
    try:
        for name in sorted(SAMPLE, reverse=reverse):
            (folder / name).touch()
        return [path.name for path in folder.iterdir()]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- the clock -----------------------------------------------------------------------------------------------------

_CLOCKS: Final = ("/usr/lib/{gnu}/faketime", "/usr/lib64/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")


def find_libfaketime(gnu: str, named: Path | None = None) -> str:
    """Give the path of the library that tells programs another time, or an empty string; `gnu` is the host's triple."""
    places = [named] if named else [Path(each.format(gnu=gnu)) / "libfaketime.so.1" for each in _CLOCKS]
    return next((str(path) for path in places if path.is_file()), "")
