"""containers/pins.toml: what was measured of root file systems and outside images. The file tells its own format."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builders.errors import BuildError

_SCHEMA = 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NEXT = "mend that line; `relbuild images pin` writes [bootstrap] anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsidePin:
    """An image of a registry: its name with a tag, the digest of its index, and one digest per platform."""

    ref: str
    index: str
    platforms: Mapping[str, str]

    def by_digest(self, platform: str) -> str:
        """Name exactly the image of one platform."""
        repository = self.ref if ":" not in self.ref.rpartition("/")[2] else self.ref.rpartition(":")[0]
        return f"{repository}@{self.platforms[platform]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """Root file systems of one state of a mirror: digests by platform. `left_out` names suites, by platform."""

    distribution: str
    suite: str
    epoch: int
    rootfs: Mapping[str, str]
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    bootstrap: Bootstrap | None = None
    images: Mapping[str, OutsidePin] = field(default_factory=dict)


def read(path: Path) -> Pins:
    """Read the pins; a file that is not there holds none. Raises BuildError for one that breaks its own rules."""
    if not path.is_file():
        return Pins()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        bootstrap = Bootstrap(**data["bootstrap"]) if "bootstrap" in data else None
        images = {name: OutsidePin(**row) for name, row in data.get("images", {}).items()}
        digests = [*(bootstrap.rootfs.values() if bootstrap else ())]
        digests += [digest for pin in images.values() for digest in (pin.index, *pin.platforms.values())]
        broken = next((text for text in digests if not _DIGEST.fullmatch(text)), None)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise BuildError(f"{path} is not a file of pins: {error}", next_step=_NEXT) from error
    if data.get("schema") != _SCHEMA:
        raise BuildError(f"{path} has the schema {data.get('schema')!r}, not {_SCHEMA}", next_step=_NEXT)
    if broken is not None:
        raise BuildError(f"{path}: {broken!r} is no digest", next_step=_NEXT)
    _refuse_equal_digests(path, images)
    return Pins(bootstrap=bootstrap, images=images)


def write(path: Path, pins: Pins) -> None:
    """Write the pins and replace the file at once; the comment at its top stays."""
    lines = [*_top_comment(path), f"schema = {_SCHEMA}", ""]
    if pins.bootstrap is not None:
        here = pins.bootstrap
        lines += ["[bootstrap]", f'distribution = "{here.distribution}"', f'suite = "{here.suite}"',
                  f"epoch = {here.epoch}"]  # fmt: skip
        if here.left_out:
            suites = (f'"{name}" = [{_quoted(listed)}]' for name, listed in sorted(here.left_out.items()))
            lines += [f"left_out = {{ {', '.join(suites)} }}"]
        lines += ["", "[bootstrap.rootfs]", *_pairs(here.rootfs), ""]
    for name, pin in sorted(pins.images.items()):
        lines += [f"[images.{name}]", f'ref = "{pin.ref}"', f'index = "{pin.index}"', "",
                  f"[images.{name}.platforms]", *_pairs(pin.platforms), ""]  # fmt: skip
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text("\n".join(lines), encoding="utf-8")
    fresh.replace(path)


def other_root(pins: Pins, suite: str, platform: str, digest: str) -> str:
    """Say how a root file system differs from the pinned one, or give an empty string.

    A mirror moves on, so another digest is worth a warning, not an error.
    """
    pinned = pins.bootstrap
    if pinned is None or pinned.suite != suite or pinned.rootfs.get(platform, digest) == digest:
        return ""
    return f"the root file system of {suite} for {platform} is {digest}, and {pinned.rootfs[platform]} is pinned"


def _refuse_equal_digests(path: Path, images: Mapping[str, OutsidePin]) -> None:
    for name, pin in images.items():
        digests = [pin.index, *pin.platforms.values()]
        if len(set(digests)) != len(digests):
            raise BuildError(
                f"{path}: images.{name}: two of its digests are equal, so it pins one platform only",
                next_step="write down the digest of the index, and under it that of each platform's own manifest",
            )


def _top_comment(path: Path) -> list[str]:
    if not path.is_file():
        return ["# What the toolchain images stand on, as it was measured.", ""]
    text, _, _ = path.read_text(encoding="utf-8").partition("\nschema")
    return text.splitlines()


def _pairs(table: Mapping[str, str]) -> list[str]:
    return [f'"{name}" = "{value}"' for name, value in table.items()]


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)
