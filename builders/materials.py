"""Names what a toolchain consists of: package URLs, licences of Debian packages, and answers kept between runs.

Formats: the package URL specification (ECMA-427), and Debian's machine-readable copyright files (DEP-5).
"""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from builders.copying import full_disk_named, make_folders
from builders.errors import BuildError
from builders.model import Digest, Material
from builders.names import escaped

FOLDER: Final = "materials"
"""Where below a project's cache folder the answers are kept."""

_SCHEMA: Final = "relbuild/materials/v1"
_FIELDS: Final = frozenset(field.name for field in fields(Material))


def purl(kind: str, path: str, version: str, qualifiers: Mapping[str, str] | None = None) -> str:
    """Give a package URL. `path` is namespace and name, parted by slashes; empty qualifiers are left out."""
    named = "/".join(quote(part, safe="") for part in path.split("/") if part)
    at = f"@{quote(version, safe='')}" if version else ""
    said = sorted((key, value) for key, value in (qualifiers or {}).items() if value)
    asked = "&".join(f"{key}={quote(value, safe='/:')}" for key, value in said)
    return f"pkg:{kind}/{named}{at}" + (f"?{asked}" if asked else "")


def debian(name: str, version: str, arch: str, *, distribution: str, release: str, license_name: str = "") -> Material:
    """Give a Debian binary package. `distribution` and `release` are ID and VERSION_ID of os-release(5)."""
    distro = f"{distribution}-{release}" if release else distribution
    path = f"{distribution}/{name}"
    return Material(
        name=name, version=version, license=license_name,
        purl=purl("deb", path, version, {"arch": arch, "distro": distro}),
    )  # fmt: skip


def for_arch(package: Material, arch: str) -> Material:
    """Give the same version of a Debian package for another architecture."""
    return replace(package, purl=re.sub(r"(?<=[?&]arch=)[^&]*", arch, package.purl))


def pypi_name(name: str) -> str:
    """Give a Python project's normalised name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def dep5_license(text: str) -> str:
    """Give the first License field of a machine-readable copyright file; empty for any other file."""
    if not text.startswith("Format:"):
        return ""
    found = re.search(r"^License:[ \t]*(.*)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else ""


def image(reference: str, identity: str, platform: str) -> Material:
    """Give a container image. `identity` is `sha256:` and its digest, or empty where nobody knows it."""
    repository, _, _ = reference.partition("@")
    head, slash, last = repository.rpartition("/")
    name, _, tag = last.partition(":")
    wanted = {"repository_url": f"{head}{slash}{name}", "tag": tag, "arch": platform.partition("/")[2]}
    return Material(
        name=f"{head}{slash}{name}", version=identity or tag, purl=purl("oci", name.lower(), identity, wanted),
        sha256=identity.removeprefix("sha256:"),
    )  # fmt: skip


def in_order(found: Iterable[Material]) -> tuple[Material, ...]:
    """Sort materials, each once."""
    return tuple(sorted(set(found), key=lambda one: (one.name, one.version, one.purl, one.license, one.sha256)))


def kept_or_made(folder: Path | None, identity: Digest, make: Callable[[], Iterable[Material]]) -> tuple[Material, ...]:
    """Give what `folder` holds for a toolchain's identity; where it holds nothing usable, make it and keep it."""
    if folder is None:
        return in_order(make())
    place = folder / f"{identity.removeprefix('sha256:')}.json"
    found = _read(place, identity)
    if found is None:
        found = in_order(make())
        _write(place, identity, found)
    return found


def _read(place: Path, identity: Digest) -> tuple[Material, ...] | None:
    try:
        said = json.loads(place.read_bytes())
        if said["schema"] != _SCHEMA or said["toolchain"] != identity:
            return None
        return tuple(_material(row) for row in said["materials"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _material(row: Mapping[str, str]) -> Material:
    if set(row) != _FIELDS or not all(isinstance(value, str) for value in row.values()):
        raise ValueError("not a material")
    return Material(**row)


def _write(place: Path, identity: Digest, found: Iterable[Material]) -> None:
    said = {"schema": _SCHEMA, "toolchain": identity, "materials": [asdict(one) for one in found]}
    text = json.dumps(said, sort_keys=True, ensure_ascii=False, indent=2) + "\n"
    try:
        with full_disk_named(place):
            make_folders(place.parent)
            write_whole(place, text.encode())
    except OSError as error:
        raise BuildError(
            f"{escaped(str(place))} cannot be written: {error.strerror}",
            next_step="see who owns that folder, and that its file system is writable",
        ) from error


def write_whole(place: Path, data: bytes) -> None:
    """Put a file in place in one step, so that runs side by side and a kill leave a whole one or none."""
    descriptor, name = tempfile.mkstemp(prefix=f".{place.name[:32]}.", dir=place.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
        Path(name).replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
