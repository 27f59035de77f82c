"""Reads the packages of an artifact from its SBOMs: SPDX 2.3 and CycloneDX 1.6, as this project writes them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote

_UNKNOWN: Final = ("", "NOASSERTION", "NONE")


class Scope(StrEnum):
    """What a package is to the artifact."""

    ARTIFACT = "artifact"
    INSIDE = "package"
    SOURCE = "source"
    TOOL = "build tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package. `kind` is the type of its package URL; `license` is an expression, empty where nobody said one."""

    scope: Scope
    name: str
    version: str
    kind: str
    license: str

    @property
    def key(self) -> tuple[Scope, str, str]:
        """Tell it from others, whatever its version. A document describes one artifact, which may be renamed."""
        return (self.scope, "", "") if self.scope is Scope.ARTIFACT else (self.scope, self.kind, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All packages of a document, and what its LicenseRefs are called."""

    packages: tuple[Package, ...]
    licenses: Mapping[str, str] = field(default_factory=dict)

    def of(self, *scopes: Scope) -> tuple[Package, ...]:
        return tuple(each for each in self.packages if each.scope in scopes)


def _package(scope: Scope, name: str, version: str, purl: str, license_: str) -> Package:
    """Name a package by its package URL, without version and qualifiers; by its plain name where it has none."""
    kind, called = "", name
    if purl.startswith("pkg:"):
        kind, _, rest = purl.removeprefix("pkg:").partition("?")[0].partition("#")[0].partition("/")
        called, _, stated = rest.rpartition("@") if "@" in rest else (rest, "", "")
        called, version = unquote(called), version or unquote(stated)
    return Package(scope=scope, name=called or name, version=version, kind=kind, license=license_)


# --- SPDX --------------------------------------------------------------------------------------------------------


def of_spdx(document: Mapping[str, Any]) -> Listing:
    """Read an SPDX document: relationships tell what each package is. Raises KeyError, TypeError for another form."""
    links = document["relationships"]
    described = {each["relatedSpdxElement"] for each in links if each["relationshipType"] == "DESCRIBES"}
    tools = {each["spdxElementId"] for each in links if each["relationshipType"] == "BUILD_TOOL_OF"}
    sources = {each["relatedSpdxElement"] for each in links if each["relationshipType"] == "GENERATED_FROM"}
    scopes = dict.fromkeys(tools, Scope.TOOL) | dict.fromkeys(sources, Scope.SOURCE)
    scopes |= dict.fromkeys(described, Scope.ARTIFACT)
    packages = tuple(_of_row(each, scopes.get(each["SPDXID"], Scope.INSIDE)) for each in document["packages"])
    named = {each["licenseId"]: each["name"] for each in document.get("hasExtractedLicensingInfos", ())}
    return Listing(packages=packages, licenses=named)


def _of_row(row: Mapping[str, Any], scope: Scope) -> Package:
    urls = [each["referenceLocator"] for each in row.get("externalRefs", ()) if each["referenceType"] == "purl"]
    said = row.get("licenseDeclared", "")
    license_ = "" if said in _UNKNOWN else said
    return _package(scope, row["name"], row.get("versionInfo", ""), urls[0] if urls else "", license_)


# --- CycloneDX ---------------------------------------------------------------------------------------------------


def of_cyclonedx(document: Mapping[str, Any]) -> Listing:
    """Read a CycloneDX document. Raises KeyError, TypeError for another form."""
    return Listing(packages=tuple(_components(document)))


def _components(document: Mapping[str, Any]) -> Iterator[Package]:
    itself = document["metadata"]["component"]
    yield _of_component(itself, Scope.ARTIFACT)
    for each in itself.get("pedigree", {}).get("ancestors", ()):
        yield _of_component(each, Scope.SOURCE)
    for each in document.get("components", ()):
        if each["type"] != "file":
            yield _of_component(each, Scope.INSIDE)
    for formula in document.get("formulation", ()):
        for each in formula.get("components", ()):
            yield _of_component(each, Scope.TOOL)


def _of_component(row: Mapping[str, Any], scope: Scope) -> Package:
    return _package(scope, row["name"], row.get("version", ""), row.get("purl", ""), _license(row.get("licenses", ())))


def _license(entries: Sequence[Mapping[str, Any]]) -> str:
    if not entries:
        return ""
    if "expression" in entries[0]:
        return str(entries[0]["expression"])
    names = [str(each["license"].get("id") or each["license"].get("name", "")) for each in entries]
    return " AND ".join(names)
