"""What a package URL is called in OSV's databases, and how versions are ordered there.

Formats: package URLs (ECMA-427); https://ossf.github.io/osv-schema/, "affected[].package".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from orchestrator.validate import versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A package as OSV would know it. `release` is that of a distribution ("12", "v3.18"), empty where nobody says it.

    `kind` is the type of the package URL, which tells how versions are ordered.
    """

    ecosystem: str
    name: str
    version: str
    kind: str
    release: str = ""

    def is_of(self, ecosystem: str) -> bool:
        """Tell whether an entry's ecosystem, such as "Debian:12", is this package's."""
        name, _, release = ecosystem.partition(":")
        return name == self.ecosystem and (not self.release or not release or self.release in release.split(":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Purl:
    """The parts of a package URL, decoded."""

    kind: str
    namespace: str
    name: str
    version: str
    qualifiers: Mapping[str, str]


def known(purl: str) -> Known | None:
    """Give what OSV calls a package; None for one that no ecosystem of OSV has."""
    parts = _parts(purl)
    naming = _NAMING.get((parts.kind, parts.namespace if parts.kind in _DISTRIBUTIONS else "")) if parts else None
    if parts is None or naming is None or not parts.version:
        return None
    ecosystem, name_of = naming
    release = _release(parts) if parts.kind in _DISTRIBUTIONS else ""
    return Known(ecosystem=ecosystem, name=name_of(parts), version=_version(parts), kind=parts.kind, release=release)


def unasked(purl: str) -> str:
    """Say why OSV, which has packages of this type, cannot be asked for this one; empty for a type that it has not."""
    parts = _parts(purl)
    if parts is None or parts.kind not in _OSV_TYPES:
        return ""
    if not parts.version:
        return "nobody tells its version"
    return f"what OSV calls packages of {'/'.join(filter(None, (parts.kind, parts.namespace)))} is not known here"


def ordered(kind: str) -> bool:
    """Tell whether the order of a kind's versions is known here; elsewhere only OSV's lists of versions tell."""
    return kind in {"pypi", "deb", "golang", "cargo", "npm"}


def is_before(kind: str, one: str, other: str) -> bool:
    """Tell whether a version comes before another one."""
    return versions.compare(kind, one, other) < 0


def _parts(purl: str) -> _Purl | None:
    # From the right: a name may hold any character that is written by its code, and qualifiers may hold slashes.
    if not purl.startswith("pkg:"):
        return None
    rest = purl.removeprefix("pkg:").partition("#")[0]
    rest, _, asked = rest.partition("?")
    rest, _, version = rest.rpartition("@") if "@" in rest.rpartition("/")[2] else (rest, "", "")
    kind, _, path = rest.strip("/").partition("/")
    namespace, _, name = path.rpartition("/")
    return _Purl(kind=kind.lower(), namespace=unquote(namespace), name=unquote(name), version=unquote(version),
                 qualifiers=_qualifiers(asked))  # fmt: skip


def _qualifiers(asked: str) -> dict[str, str]:
    # Not the query of a form: a plus sign, which many versions have, stands for itself.
    rows = (each.partition("=") for each in asked.split("&"))
    return {key.lower(): unquote(value) for key, _, value in rows}


def _release(parts: _Purl) -> str:
    """Give the release as OSV writes it; empty for a name such as "bookworm", which is then held against them all."""
    pattern, before = _RELEASES[parts.namespace]
    found = pattern.match(re.sub(r"^[a-z]+-", "", parts.qualifiers.get("distro", "")))
    return before + found[1] if found else ""


def _version(parts: _Purl) -> str:
    """Give the version that OSV's ranges are about: of distributions that of the source package."""
    if parts.kind in _DISTRIBUTIONS:
        return parts.qualifiers.get("upstream", "").partition("@")[2] or parts.version
    version = parts.version.removeprefix("v") if parts.kind == "golang" else parts.version
    return version.removeprefix("go") if parts.name == "stdlib" else version


def _pathed(parts: _Purl) -> str:
    return f"{parts.namespace}/{parts.name}" if parts.namespace else parts.name


def _maven(parts: _Purl) -> str:
    return f"{parts.namespace}:{parts.name}"


def _pypi(parts: _Purl) -> str:
    return re.sub(r"[-_.]+", "-", parts.name).lower()


def _source(parts: _Purl) -> str:
    """Give the name of the source package, which is what distributions report on."""
    return parts.qualifiers.get("upstream", "").partition("@")[0] or parts.name


_DISTRIBUTIONS: Final = ("deb", "apk")
_RELEASES: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    "debian": (re.compile(r"(\d+)", re.ASCII), ""), "ubuntu": (re.compile(r"(\d+\.\d+)", re.ASCII), ""),
    "alpine": (re.compile(r"v?(\d+\.\d+)", re.ASCII), "v"),
}  # fmt: skip
"""What of `distro` is in the name of an ecosystem (Debian:12, Ubuntu:22.04:LTS, Alpine:v3.18), and what precedes it."""
_NAMING: Final[Mapping[tuple[str, str], tuple[str, Callable[[_Purl], str]]]] = {
    ("pypi", ""): ("PyPI", _pypi), ("golang", ""): ("Go", _pathed), ("cargo", ""): ("crates.io", _pathed),
    ("npm", ""): ("npm", _pathed), ("maven", ""): ("Maven", _maven), ("gem", ""): ("RubyGems", _pathed),
    ("nuget", ""): ("NuGet", _pathed), ("composer", ""): ("Packagist", _pathed), ("hex", ""): ("Hex", _pathed),
    ("pub", ""): ("Pub", _pathed), ("conan", ""): ("ConanCenter", _pathed), ("hackage", ""): ("Hackage", _pathed),
    ("deb", "debian"): ("Debian", _source), ("deb", "ubuntu"): ("Ubuntu", _source),
    ("apk", "alpine"): ("Alpine", _source),
}  # fmt: skip
_OSV_TYPES: Final = frozenset(kind for kind, _ in _NAMING) | {
    "bioconductor", "bitnami", "cran", "githubactions", "julia", "opam", "rpm", "swift", "vscode-extension",
}  # fmt: skip
"""The types of packages that are in a database of OSV, whether or not their names are known here."""
