"""Writes CycloneDX 1.6 as JSON (ECMA-424, https://cyclonedx.org/docs/1.6/json/)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from builders.model import Material
from orchestrator import __version__
from orchestrator.canonical import canonical_json
from orchestrator.sbom import findings, licenses, naming, origins
from orchestrator.sbom.findings import FoundPackage
from orchestrator.sbom.licenses import License
from orchestrator.sbom.payload import Payload, PayloadFile
from orchestrator.sbom.request import SbomRequest

ARTIFACT: Final = "artifact"
ARTIFACT_PROPERTY: Final = "relbuild:artifact"
"""The property of the described component that holds the artifact's file name."""

Row = dict[str, Any]


def document(request: SbomRequest, payload: Payload, found: Sequence[FoundPackage], syft_version: str) -> bytes:
    """Describe an artifact: its files, the packages in it, its source and the tools that built it.

    The toolchain is told as `formulation`, how the artifact was made: whatever stands under `components` is taken by
    scanners for a part of it, and a compiler's faults would be reported as the artifact's.
    """
    inside = [*(_file(request, file) for file in payload.files), *(_found(one) for one in found)]
    body: Row = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6",
        "version": 1, "metadata": _metadata(request, syft_version), "components": _by_ref(inside),
        "dependencies": _dependencies(found),
    }  # fmt: skip
    if request.materials:
        tools = {one["bom-ref"]: one for one in map(_tool, request.materials)}
        body["formulation"] = [{"bom-ref": "toolchain", "components": _by_ref(tools.values())}]
    body["serialNumber"] = naming.document_uuid("cyclonedx", request, body).urn
    return canonical_json(body)


# --- elements ----------------------------------------------------------------------------------------------------


def _metadata(request: SbomRequest, syft_version: str) -> Row:
    name, address = naming.supplier(request)
    tools = [
        {"type": "application", "name": "relbuild", "version": __version__},
        {"type": "application", "name": "syft", "version": syft_version, "publisher": "Anchore, Inc."},
    ]
    contact = {"contact": [{"email": address}]} if address.isascii() and address else {}
    return {
        "timestamp": naming.moment(request.epoch), "tools": {"components": tools}, "component": _artifact(request),
        **({"supplier": {"name": name, **contact}} if name else {}),
    }  # fmt: skip


def _component(reference: str, kind: str, name: str, version: str, **more: object) -> Row:
    kept = {key: value for key, value in more.items() if value}
    return {"bom-ref": reference, "type": kind, "name": name, **({"version": version} if version else {}), **kept}


def _artifact(request: SbomRequest) -> Row:
    homepage = origins.public_url(request.homepage)
    known = {ARTIFACT_PROPERTY: request.name, "relbuild:project": request.project, "relbuild:target": request.target}
    return _component(
        ARTIFACT, "application", request.product, request.version, purl=naming.artifact_purl(request),
        hashes=_hashes({"SHA-256": request.sha256, "SHA-512": request.sha512}),
        licenses=_licenses([licenses.read(request.license)]), properties=_properties(known),
        externalReferences=[{"type": "website", "url": homepage}] if homepage else [],
        pedigree={"ancestors": [_source(origins.of_source(request.source))]} if request.source else {},
    )  # fmt: skip


def _file(request: SbomRequest, file: PayloadFile) -> Row:
    digests = {"SHA-1": file.sha1, "SHA-256": file.sha256, "SHA-512": file.sha512}
    reference = naming.identifier("file", str(file.path))
    return _component(reference, "file", naming.path_inside(request, file.path), "", hashes=_hashes(digests))


def _found(one: FoundPackage) -> Row:
    known = {"syft:package:type": one.kind, "syft:package:foundBy": one.found_by, "syft:metadata:h1Digest": one.go_sum}
    places = {f"syft:location:{number}:path": path for number, path in enumerate(one.paths)}
    return _component(
        _found_ref(one), "library", one.name, one.version, purl=one.purl, cpe=next(iter(one.cpes), ""),
        licenses=_licenses(licenses.of_package(one.licenses, one.other_licenses)),
        properties=_properties(known | places),
    )  # fmt: skip


def _tool(one: Material) -> Row:
    return _component(
        naming.identifier("tool", one.name, one.version, one.purl, one.sha256), "application", one.name, one.version,
        purl=one.purl, hashes=_hashes({"SHA-256": one.sha256}), licenses=_licenses([licenses.read(one.license)]),
        properties=_properties({"relbuild:role": "build tool"}),
    )  # fmt: skip


def _source(one: origins.Origin) -> Row:
    hashes = _hashes({"SHA-256": one.sha256})
    reference: Row = {"type": "vcs" if one.commit else "source-distribution", "url": one.url}
    return _component(
        "source", "library", one.name, one.version, purl=one.purl, hashes=hashes,
        swhid=[one.swhid] if one.swhid else [],
        externalReferences=[reference | ({"hashes": hashes} if hashes else {})] if one.url else [],
        properties=_properties({"relbuild:file": one.file, "relbuild:commit": one.commit}),
    )  # fmt: skip


def _hashes(digests: Mapping[str, str]) -> list[Row]:
    return [{"alg": name, "content": value} for name, value in digests.items() if value]


def _properties(known: Mapping[str, str]) -> list[Row]:
    return [{"name": name, "value": value} for name, value in sorted(known.items()) if value]


def _licenses(used: Iterable[License]) -> list[Row]:
    """Give a licence as an expression, which must stand alone; several, or a text that is none, by their names."""
    known = [one for one in used if one != License()]
    if all(one.expression for one in known):
        return [{"expression": licenses.joined(known)}] if known else []
    return [{"license": {"name": one.expression or one.name}} for one in known]


def _found_ref(one: FoundPackage) -> str:
    return naming.identifier("package", one.name, one.key)


def _by_ref(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: str(row["bom-ref"]))


def _dependencies(found: Sequence[FoundPackage]) -> list[Row]:
    references = {one.key: _found_ref(one) for one in found}
    needed = findings.needed(found)
    rows = [{"ref": ARTIFACT, "dependsOn": sorted(ref for key, ref in references.items() if key not in needed)}]
    rows += [
        {"ref": references[one.key], "dependsOn": sorted(references[key] for key in one.needs)}
        for one in found
        if one.needs
    ]
    return sorted(rows, key=lambda row: str(row["ref"]))
