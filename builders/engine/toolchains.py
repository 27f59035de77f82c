"""The table of toolchain images: what each is made of, what it compiles for, and the name that follows from both."""

import hashlib
import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from builders import recipe_env, targets
from builders.errors import ToolchainUnavailable
from builders.model import Digest, Libc, LibcKind
from builders.targets import Target

TOOLS = "/tools"
"""Where wrappers lie inside a sandbox."""

REPOSITORY = "relbuild"
OUTSIDE_PREFIX = "image:"

_APT_SCRIPTS = ("scripts/apt-install", "scripts/apt-clean")
_TAG_DIGITS = 12
_ZIG_FLOOR = "2.31"
"""The glibc that zig compiles for where a product names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolchainImage:
    """An image of containers/. `files` decide its bytes, beside the image `parent` ("" for a root file system).

    `wheels` says that containers/fetch-wheels brings a part of it; `systems` and `libcs` are what it compiles for.
    """

    name: str
    parent: str
    files: tuple[str, ...]
    wheels: bool = False
    systems: frozenset[str] = frozenset({"linux"})
    libcs: frozenset[LibcKind] = frozenset({LibcKind.GNU})
    compilers: Callable[[Target], dict[str, str]] = recipe_env.gcc_compilers


def _zig_compilers(_target: Target) -> dict[str, str]:
    return recipe_env.zig_compilers(TOOLS)


def _gcc_on_linux(target: Target) -> dict[str, str]:
    return recipe_env.gcc_compilers(target) if target.os == "linux" else {}


_EVERYWHERE = frozenset({"linux", "macos", "windows"})
_ANY_LIBC = frozenset(LibcKind)

BASE = ToolchainImage(name="base", parent="", files=("base/Dockerfile", "bootstrap", "apt.sh"), systems=frozenset())

IMAGES: dict[str, ToolchainImage] = {
    image.name: image
    for image in (
        BASE,
        ToolchainImage(name="gcc", parent="base", files=("gcc/Dockerfile", *_APT_SCRIPTS)),
        ToolchainImage(name="zig", parent="base", files=("zig/Dockerfile", "zig/requirements.txt", *_APT_SCRIPTS),
                       wheels=True, systems=_EVERYWHERE, libcs=_ANY_LIBC, compilers=_zig_compilers),
        ToolchainImage(name="go", parent="gcc", files=("go/Dockerfile", "go/requirements.txt", *_APT_SCRIPTS),
                       wheels=True, systems=_EVERYWHERE, libcs=_ANY_LIBC, compilers=_gcc_on_linux),
        ToolchainImage(name="rust", parent="gcc", files=("rust/Dockerfile", *_APT_SCRIPTS)),
    )
}  # fmt: skip
"""Every image by name, parents first."""


def folder() -> Path:
    """Give the folder containers/ of this installation."""
    with importlib.resources.as_file(importlib.resources.files("containers")) as path:
        return path


def chain(name: str) -> tuple[ToolchainImage, ...]:
    """Give an image and those that it stands on, the root file system first. Raises ToolchainUnavailable."""
    if name not in IMAGES:
        hint = targets.near(name, IMAGES)
        raise ToolchainUnavailable(
            f"there is no toolchain image {name!r}" + (f"; is {hint!r} meant?" if hint else ""),
            next_step=f"name one of {', '.join(known())}, or an image by digest: image:REF@sha256:...",
        )
    image = IMAGES[name]
    return (*(chain(image.parent) if image.parent else ()), image)


def known() -> tuple[str, ...]:
    """Name the images that a product can ask for."""
    return tuple(name for name, image in IMAGES.items() if image.systems)


def image_tag(name: str, parent: Digest | None, platform: str) -> str:
    """Name an image by what decides its bytes: `relbuild/gcc:0123456789ab-amd64`.

    One name per platform, so that building one more platform does not rename the others.
    """
    image = chain(name)[-1]
    made_of = hashlib.sha256(f"relbuild image 1 {name} {platform} {parent or ''}\n".encode())
    for file in image.files:
        made_of.update(f"{file} {hashlib.sha256((folder() / file).read_bytes()).hexdigest()}\n".encode())
    return f"{REPOSITORY}/{name}:{made_of.hexdigest()[:_TAG_DIGITS]}-{_suffix(platform)}"


def check_supported(name: str, target: Target, libc: Libc) -> None:
    """Raise ToolchainUnavailable where a toolchain cannot compile for a target with its C library."""
    if name.startswith(OUTSIDE_PREFIX):
        return
    image = chain(name)[-1]
    if target.os not in image.systems:
        fit = [other for other in known() if target.os in IMAGES[other].systems]
        raise ToolchainUnavailable(f"the toolchain {name} does not compile for {target.name}", next_step=_use(fit))
    if libc.kind not in image.libcs and target.os == "linux":
        fit = [other for other in known() if libc.kind in IMAGES[other].libcs]
        raise ToolchainUnavailable(f"the toolchain {name} has no {libc.kind} C library", next_step=_use(fit))


def compilers(name: str, target: Target) -> dict[str, str]:
    """Give the variables that name a toolchain's compilers; none for an outside image, which nobody knows."""
    return {} if name.startswith(OUTSIDE_PREFIX) else chain(name)[-1].compilers(target)


def wrappers(name: str, target: Target, libc: Libc) -> dict[str, str]:
    """Give the programs to lay into TOOLS, by file name."""
    if name != "zig":
        return {}
    floor = libc.floor or (_ZIG_FLOOR if libc.kind is LibcKind.GNU else "")
    return recipe_env.zig_wrappers("/usr/local/bin/zig", target, libc.kind, floor)


def platform_target(platform: str) -> Target:
    """Give the row of an OCI platform. Raises ToolchainUnavailable where no image is made for it."""
    row = targets.find(platform)
    if row is None or row.os != "linux":
        raise ToolchainUnavailable(
            f"no toolchain image is made for the platform {platform!r}",
            next_step="name one of linux/amd64, linux/arm64, linux/arm/v7",
        )
    return row


def _use(names: list[str]) -> str:
    return "set " + " or ".join(f'toolchain = "{name}"' for name in names) if names else "no toolchain image does"


def _suffix(platform: str) -> str:
    return platform_target(platform).oci.removeprefix("linux/").replace("/", "-")
