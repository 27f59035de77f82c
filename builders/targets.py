"""The one table of targets. Nothing else in the program compares architecture strings."""

import difflib
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Format(StrEnum):
    """The format of a target's programs."""

    ELF = "elf"
    MACHO = "macho"
    PE = "pe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A machine to run on, and every name that the outside world has for it.

    An empty string means that the outside world has no such name. `machine` is e_machine (ELF gABI),
    cputype (Mach-O) or Machine (PE), by `format`.
    """

    name: str
    aliases: tuple[str, ...]
    os: str
    arch: str
    oci: str
    gnu: str
    rust: str
    goos: str
    goarch: str
    goarm: str
    zig: str
    zig_cpu: str
    deb: str
    rpm: str
    apk: str
    format: Format
    machine: int
    qemu: str
    cflags: tuple[str, ...] = ()

    @property
    def os_arch(self) -> str:
        """How file names say it: `linux_x86_64`."""
        return f"{self.os}_{self.arch}"

    @property
    def program_suffix(self) -> str:
        return ".exe" if self.format is Format.PE else ""


def _linux(
    name: str,
    aliases: tuple[str, ...],
    *,
    oci: str,
    gnu: str,
    rust: str,
    goarch: str,
    zig: str,
    deb: str,
    rpm: str,
    machine: int,
    qemu: str,
    goarm: str = "",
    zig_cpu: str = "",
    cflags: tuple[str, ...] = (),
) -> Target:
    return Target(
        name=name, aliases=(*aliases, oci, f"linux_{name}"), os="linux", arch=name, oci=oci, gnu=gnu, rust=rust,
        goos="linux", goarch=goarch, goarm=goarm, zig=zig, zig_cpu=zig_cpu, deb=deb, rpm=rpm, apk=name,
        format=Format.ELF, machine=machine, qemu=qemu, cflags=cflags,
    )  # fmt: skip


def _desktop(arch: str, goarch: str, system: str, *, rust: str, format_: Format, machine: int) -> Target:
    goos = {"macos": "darwin"}.get(system, system)
    aliases = tuple(f"{goos}{sep}{name}" for sep in "_/" for name in dict.fromkeys((arch, goarch)))
    return Target(
        name=f"{arch}-{system}", aliases=aliases, os=system, arch=arch,
        oci=f"windows/{goarch}" if system == "windows" else "",
        gnu=f"{arch}-w64-mingw32" if system == "windows" else "", rust=rust, goos=goos, goarch=goarch, goarm="",
        zig=f"{arch}-{system}", zig_cpu="", deb="", rpm="", apk="", format=format_, machine=machine, qemu="",
    )  # fmt: skip


_ROWS = (
    _linux("x86_64", ("amd64", "x64"), oci="linux/amd64", gnu="x86_64-linux-gnu", rust="x86_64-unknown-linux-gnu",
           goarch="amd64", zig="x86_64-linux", deb="amd64", rpm="x86_64", machine=62, qemu="x86_64"),
    _linux("aarch64", ("arm64",), oci="linux/arm64", gnu="aarch64-linux-gnu", rust="aarch64-unknown-linux-gnu",
           goarch="arm64", zig="aarch64-linux", deb="arm64", rpm="aarch64", machine=183, qemu="aarch64"),
    _linux("armv7", ("armhf", "armv7l"), oci="linux/arm/v7", gnu="arm-linux-gnueabihf",
           rust="armv7-unknown-linux-gnueabihf", goarch="arm", goarm="7", zig="arm-linux",
           zig_cpu="generic+v7a+vfp3d16", deb="armhf", rpm="armv7hl", machine=40, qemu="arm"),
    _desktop("x86_64", "amd64", "macos", rust="x86_64-apple-darwin", format_=Format.MACHO, machine=0x01000007),
    _desktop("aarch64", "arm64", "macos", rust="aarch64-apple-darwin", format_=Format.MACHO, machine=0x0100000C),
    _desktop("x86_64", "amd64", "windows", rust="x86_64-pc-windows-gnu", format_=Format.PE, machine=0x8664),
    _desktop("aarch64", "arm64", "windows", rust="aarch64-pc-windows-gnullvm", format_=Format.PE, machine=0xAA64),
)  # fmt: skip

TARGETS: dict[str, Target] = {row.name: row for row in _ROWS}
"""Every target by its canonical name."""

DEFAULT_TARGETS = ("x86_64", "aarch64", "armv7")
"""What a product is built for when it names no targets."""

_BY_NAME = {name: row for row in _ROWS for name in (row.name, *row.aliases)}


def find(name: str) -> Target | None:
    """Give the target that this name or alias means, or None."""
    return _BY_NAME.get(name.strip().lower())


def near(name: str, known: Iterable[str] = _BY_NAME) -> str:
    """Give the known name that is nearest to a mistyped one, or an empty string."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), "")


def host() -> Target:
    """Give the target that this machine is. Raises KeyError on a machine that the table does not have."""
    return _BY_NAME[f"{platform.system()}_{platform.machine()}".lower().replace("armv8l", "armv7")]
