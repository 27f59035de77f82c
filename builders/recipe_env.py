"""The environment that a recipe sees: the same names whatever builds it, and nothing of the host's own."""

from collections.abc import Mapping
from dataclasses import dataclass

from builders.model import Cell, LibcKind
from builders.targets import Target

RESERVED = frozenset(
    {"SOURCE", "OUT", "TMPDIR", "HOME", "PATH", "SOURCE_DATE_EPOCH", "RELBUILD_TARGET", "RELBUILD_VERSION"}
)
"""Names that a product's own `env` may not set, because every builder promises what they hold."""

RECIPE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxPaths:
    """Where a recipe finds things, as it sees them. All absolute; `tools` is empty where nothing was put there."""

    source: str = "/src"
    out: str = "/out"
    tmp: str = "/tmp"  # noqa: S108  (a path inside the sandbox, where it is a private file system)
    tools: str = ""
    extra_path: tuple[str, ...] = ()


SANDBOX = SandboxPaths()


def placed_below(root: str) -> SandboxPaths:
    """Give the usual places, or the same ones below another folder."""
    return SandboxPaths(source=f"{root}/src", out=f"{root}/out", tmp=f"{root}/tmp")  # noqa: S108  (inside the sandbox)


def recipe_env(cell: Cell, compilers: Mapping[str, str], paths: SandboxPaths = SANDBOX) -> dict[str, str]:
    """Give every variable of the recipe. The product's own `env` comes last and wins, RESERVED names aside."""
    prefix_map = f"-ffile-prefix-map={paths.source}=. -ffile-prefix-map={paths.tmp}=/tmp"
    head = (paths.tools, *paths.extra_path)
    return {
        "PATH": ":".join([*(entry for entry in head if entry), RECIPE_PATH]),
        "HOME": f"{paths.tmp}/home",
        "TMPDIR": paths.tmp,
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE": paths.source,
        "OUT": paths.out,
        "SOURCE_DATE_EPOCH": str(cell.epoch),
        "RELBUILD_TARGET": cell.target.name,
        "RELBUILD_VERSION": cell.version,
        "CFLAGS": f"-O2 {prefix_map}",
        "CXXFLAGS": f"-O2 {prefix_map}",
        **_go(cell.target, paths),
        **_rust(cell.target, compilers, paths),
        **compilers,
        **{name: value for name, value in cell.env.items() if name not in RESERVED},
    }


def gcc_compilers(target: Target) -> dict[str, str]:
    """Name Debian's GCC tools for a target; they have the same names as native, cross and emulated compilers."""
    prefix = f"{target.gnu}-"
    return {
        "CC": f"{prefix}gcc",
        "CXX": f"{prefix}g++",
        "AR": f"{prefix}ar",
        "RANLIB": f"{prefix}ranlib",
        "STRIP": f"{prefix}strip",
        "PKG_CONFIG": "pkg-config",
        "PKG_CONFIG_LIBDIR": f"/usr/lib/{target.gnu}/pkgconfig:/usr/{target.gnu}/lib/pkgconfig:/usr/share/pkgconfig",
        "CROSS_COMPILE": prefix,
    }


def zig_compilers(tools: str) -> dict[str, str]:
    """Name the wrappers of `zig_wrappers` that stand in the folder `tools`."""
    names = {"CC": "cc", "CXX": "c++", "AR": "ar", "RANLIB": "ranlib", "STRIP": "strip"}
    return {
        **{variable: f"{tools}/{name}" for variable, name in names.items()},
        "PKG_CONFIG": "false",
        "CROSS_COMPILE": f"{tools}/cross-",
        "ZIG_GLOBAL_CACHE_DIR": "/tmp/zig-cache",  # noqa: S108  (inside the sandbox; builders override it elsewhere)
        "ZIG_LOCAL_CACHE_DIR": "/tmp/zig-cache",  # noqa: S108
    }


def zig_triple(target: Target, kind: LibcKind, floor: str) -> str:
    """Give zig's name for a target with its C library: `aarch64-linux-gnu.2.31`, `arm-linux-musleabihf`."""
    if target.os == "windows":
        return f"{target.zig}-gnu"
    if target.os != "linux":
        return target.zig
    abi = "eabihf" if target.zig.startswith("arm-") else ""
    version = f".{floor}" if floor and kind is LibcKind.GNU else ""
    return f"{target.zig}-{kind.value}{abi}{version}"


def zig_wrappers(zig: str, target: Target, kind: LibcKind, floor: str) -> dict[str, str]:
    """Give small shell programs, by file name, that make zig answer to the names that build systems call.

    UBSan is off unless asked for, as in GCC: zig turns it on where no -O is given and then builds its run time.
    """
    flags = ["-target", zig_triple(target, kind, floor), *(["-mcpu=" + target.zig_cpu] if target.zig_cpu else [])]
    compile_flags = " ".join([*flags, "-fno-sanitize=undefined"])
    scripts = {
        "cc": f'exec "{zig}" cc {compile_flags} "$@"',
        "c++": f'exec "{zig}" c++ {compile_flags} "$@"',
        "ar": f'exec "{zig}" ar "$@"',
        "ranlib": f'exec "{zig}" ranlib "$@"',
        "strip": 'echo "strip: the zig toolchain has none; link with -s instead" >&2; exit 1',
    }
    cross = {"gcc": "cc", "g++": "c++", "cc": "cc", "ar": "ar", "ranlib": "ranlib", "strip": "strip"}
    named = {**scripts, **{f"cross-{name}": scripts[tool] for name, tool in cross.items()}}
    return {name: f"#!/bin/sh\n{text}\n" for name, text in named.items()}


def _go(target: Target, paths: SandboxPaths) -> dict[str, str]:
    return {
        "GOOS": target.goos,
        "GOARCH": target.goarch,
        **({"GOARM": target.goarm} if target.goarm else {}),
        "GOCACHE": f"{paths.tmp}/go-cache",
        "GOPATH": f"{paths.tmp}/go",
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
    }


def _rust(target: Target, compilers: Mapping[str, str], paths: SandboxPaths) -> dict[str, str]:
    triple = target.rust.upper().replace("-", "_")
    remap = f"--remap-path-prefix={paths.source}=. --remap-path-prefix={paths.tmp}=/tmp"
    return {
        "CARGO_BUILD_TARGET": target.rust,
        "CARGO_HOME": f"{paths.tmp}/cargo",
        "RUSTFLAGS": remap,
        **({f"CARGO_TARGET_{triple}_LINKER": compilers["CC"]} if "CC" in compilers else {}),
    }
