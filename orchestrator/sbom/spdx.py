"""Writes SPDX 2.3 as JSON (https://spdx.github.io/spdx-spec/v2.3/)."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from builders.model import Material
from orchestrator import __version__
from orchestrator.canonical import canonical_json
from orchestrator.sbom import licenses, naming, origins
from orchestrator.sbom.findings import FoundPackage
from orchestrator.sbom.licenses import NO_ASSERTION, License
from orchestrator.sbom.payload import Payload, PayloadFile
from orchestrator.sbom.request import SbomRequest

ARTIFACT: Final = "SPDXRef-Artifact"

_DOCUMENT: Final = "SPDXRef-DOCUMENT"
_SOURCE: Final = "SPDXRef-Source"

Row = dict[str, Any]


def document(request: SbomRequest, payload: Payload, found: Sequence[FoundPackage], syft_version: str) -> bytes:
    """Describe an artifact: its files, the packages in it, its source and the tools that built it."""
    contained = [_found(one) for one in found]
    tools = {one["SPDXID"]: one for one in map(_tool, request.materials)}
    source = [_source(origins.of_source(request.source))] if request.source else []
    body: Row = {
        "spdxVersion": "SPDX-2.3", "SPDXID": _DOCUMENT, "dataLicense": "CC0-1.0", "name": request.name,
        "creationInfo": {
            "created": naming.moment(request.epoch),
            "creators": [f"Tool: relbuild-{__version__}", f"Tool: syft-{syft_version}"],
        },
        "packages": [_artifact(request, payload), *_by_id([*contained, *source, *tools.values()])],
        "files": _by_id(_file(request, file) for file in payload.files),
        "relationships": _relationships(found, payload, tools, has_source=bool(source)),
    }  # fmt: skip
    named = _named_licenses(request, found)
    if named:
        body["hasExtractedLicensingInfos"] = named
    body["documentNamespace"] = naming.document_uuid("spdx", request, body).urn
    return canonical_json(body)


# --- elements ----------------------------------------------------------------------------------------------------


def _package(identifier: str, name: str, version: str, declared: Iterable[License], **more: object) -> Row:
    return {
        "SPDXID": identifier, "name": name or "unnamed", **({"versionInfo": version} if version else {}),
        "downloadLocation": NO_ASSERTION, "filesAnalyzed": False, "supplier": NO_ASSERTION,
        "licenseConcluded": NO_ASSERTION, "copyrightText": NO_ASSERTION,
        "licenseDeclared": licenses.joined(one for one in declared if one != License()),
        **{key: value for key, value in more.items() if value},
    }  # fmt: skip


def _artifact(request: SbomRequest, payload: Payload) -> Row:
    name, address = naming.supplier(request)
    package = _package(
        ARTIFACT, request.product, request.version, [licenses.read(request.license)],
        packageFileName=request.name, checksums=_checksums(SHA256=request.sha256, SHA512=request.sha512),
        externalRefs=[_purl(naming.artifact_purl(request))], homepage=origins.public_url(request.homepage),
        primaryPackagePurpose="ARCHIVE" if request.root_dir else "FILE",
        comment=f"{request.product} of the project {request.project}, built for {request.target}",
        supplier=f"Organization: {name}" + (f" ({address})" if address else "") if name else NO_ASSERTION,
    )  # fmt: skip
    if payload.files:
        digits = "".join(sorted(file.sha1 for file in payload.files))
        code = hashlib.sha1(digits.encode(), usedforsecurity=False).hexdigest()  # section 7.9
        package |= {"filesAnalyzed": True, "packageVerificationCode": {"packageVerificationCodeValue": code}}
        package["licenseInfoFromFiles"] = [NO_ASSERTION]
    return package


def _file(request: SbomRequest, file: PayloadFile) -> Row:
    path = f"./{naming.path_inside(request, file.path)}"
    return {
        "SPDXID": _file_id(file), "fileName": path, "licenseConcluded": NO_ASSERTION,
        "licenseInfoInFiles": [NO_ASSERTION], "copyrightText": NO_ASSERTION,
        "checksums": _checksums(SHA1=file.sha1, SHA256=file.sha256, SHA512=file.sha512),
    }  # fmt: skip


def _found(one: FoundPackage) -> Row:
    places = ", ".join(path.lstrip("/") for path in one.paths)
    cpes = [
        {"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": cpe} for cpe in one.cpes
    ]
    return _package(
        _found_id(one), one.name, one.version, licenses.of_package(one.licenses, one.other_licenses),
        externalRefs=[*cpes, *([_purl(one.purl)] if one.purl else [])],
        sourceInfo=f"a {one.kind} package, found by Syft's {one.found_by} in {places}",
        comment=f"go.sum: {one.go_sum}" if one.go_sum else "",
    )  # fmt: skip


def _tool(one: Material) -> Row:
    return _package(
        naming.identifier("SPDXRef-Tool", one.name, one.version, one.purl, one.sha256), one.name, one.version,
        [licenses.read(one.license)], externalRefs=[_purl(one.purl)] if one.purl else [],
        checksums=_checksums(SHA256=one.sha256) if one.sha256 else [],
    )  # fmt: skip


def _source(one: origins.Origin) -> Row:
    refs = [_purl(one.purl)] if one.purl else []
    if one.swhid:
        refs.append({"referenceCategory": "PERSISTENT-ID", "referenceType": "swh", "referenceLocator": one.swhid})
    where = f"git+{one.url}@{one.commit}" if one.commit and one.url.startswith("http") else one.url
    return _package(
        _SOURCE, one.name, one.version, [], externalRefs=refs, downloadLocation=where or NO_ASSERTION,
        packageFileName=one.file, checksums=_checksums(SHA256=one.sha256) if one.sha256 else [],
        primaryPackagePurpose="SOURCE",
    )  # fmt: skip


def _checksums(**digests: str) -> list[Row]:
    return [{"algorithm": name, "checksumValue": value} for name, value in digests.items()]


def _purl(text: str) -> Row:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": text}


def _file_id(file: PayloadFile) -> str:
    return naming.identifier("SPDXRef-File", str(file.path))


def _found_id(one: FoundPackage) -> str:
    return naming.identifier("SPDXRef-Package", one.name, one.key)


def _by_id(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: str(row["SPDXID"]))


# --- how they belong together ------------------------------------------------------------------------------------


def _relationships(
    found: Sequence[FoundPackage], payload: Payload, tools: Mapping[str, Row], *, has_source: bool
) -> list[Row]:
    identifiers = {one.key: _found_id(one) for one in found}
    links = [(_DOCUMENT, "DESCRIBES", ARTIFACT)]
    links += [(ARTIFACT, "CONTAINS", _file_id(file)) for file in payload.files]
    links += [(ARTIFACT, "CONTAINS", one) for one in identifiers.values()]
    links += [(identifiers[need], "DEPENDENCY_OF", identifiers[one.key]) for one in found for need in one.needs]
    links += [(ARTIFACT, "GENERATED_FROM", _SOURCE)] if has_source else []
    links += [(tool, "BUILD_TOOL_OF", ARTIFACT) for tool in tools]
    return [
        {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
        for one, kind, other in sorted(set(links))
    ]


def _named_licenses(request: SbomRequest, found: Sequence[FoundPackage]) -> list[Row]:
    """Give every licence that is no SPDX expression, with the only text that is known of it: its name."""
    used = [licenses.read(request.license), *(licenses.read(one.license) for one in request.materials)]
    used += [one for package in found for one in licenses.of_package((), package.other_licenses)]
    return [
        {"licenseId": one.spdx, "name": one.name, "extractedText": f"The text is not known; it is called: {one.name}"}
        for one in sorted({one for one in used if one.name}, key=lambda one: one.spdx)
    ]
