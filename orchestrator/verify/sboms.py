"""Reads SBOMs as far as they are relied on: SPDX 2.3 JSON and CycloneDX 1.4 to 1.6 JSON that describe one artifact."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from orchestrator.verify.json_strict import (
    DOCUMENT_BYTES,
    TEXT,
    BadJson,
    Shape,
    anything,
    check,
    exactly,
    integer,
    list_of,
    parse,
    record,
    text,
)

_HEX = text(r"[0-9a-fA-F]{8,128}", "hash in hexadecimal")
_NOT_EMPTY = text(r"[^\x00]+", "text")
_SHA_LENGTHS: Final = {"sha256": 64, "sha512": 128}

# --- SPDX 2.3 ----------------------------------------------------------------------------------------------------

_SPDX_ID = text(r"SPDXRef-[A-Za-z0-9.-]+", "SPDX identifier")
_SPDX_ANY_ID = text(r"(?:DocumentRef-[A-Za-z0-9.+-]+:)?SPDXRef-[A-Za-z0-9.-]+|NONE|NOASSERTION", "SPDX identifier")
_CHECKSUMS = list_of(record({"algorithm": _NOT_EMPTY, "checksumValue": _HEX}))
_SPDX = record(
    {
        "spdxVersion": exactly("SPDX-2.3"),
        "SPDXID": exactly("SPDXRef-DOCUMENT"),
        "dataLicense": exactly("CC0-1.0"),
        "name": _NOT_EMPTY,
        "documentNamespace": text(r"[a-z][a-z0-9+.-]*:[^\s#]+", "namespace URI"),
        "creationInfo": record({"created": _NOT_EMPTY, "creators": list_of(_NOT_EMPTY, least=1)}, closed=False),
        "packages": list_of(
            record({"SPDXID": _SPDX_ID, "name": _NOT_EMPTY, "downloadLocation": _NOT_EMPTY},
                   {"checksums": _CHECKSUMS}, closed=False),
            least=1,
        ),
        "relationships": list_of(
            record({"spdxElementId": _SPDX_ANY_ID, "relatedSpdxElement": _SPDX_ANY_ID, "relationshipType": _NOT_EMPTY},
                   closed=False),
            least=1,
        ),
    },
    {
        "files": list_of(record({"SPDXID": _SPDX_ID, "fileName": _NOT_EMPTY, "checksums": _CHECKSUMS}, closed=False)),
        "documentDescribes": list_of(_SPDX_ID),
    },
    closed=False,
)  # fmt: skip


def _described_by_spdx(value: Any) -> Iterator[tuple[str, Mapping[str, str]]]:
    elements = [*value["packages"], *value.get("files", ())]
    by_id = {element["SPDXID"]: element for element in elements}
    if len(by_id) != len(elements):
        raise BadJson("gives one SPDX identifier to two elements")
    known = {*by_id, "SPDXRef-DOCUMENT"}
    for relation in value["relationships"]:
        for end in (relation["spdxElementId"], relation["relatedSpdxElement"]):
            if end.startswith("SPDXRef-") and end not in known:
                raise BadJson(f"relates {end!r}, which it does not hold")
    described = {*value.get("documentDescribes", ()), *map(_described_end, value["relationships"])} - {""}
    if not described <= by_id.keys():
        raise BadJson("describes something that it does not hold")
    for name in sorted(described):
        sums = by_id[name].get("checksums", ())
        yield (
            by_id[name].get("name", by_id[name].get("fileName", "")),
            _sums((each["algorithm"], each["checksumValue"]) for each in sums),
        )


def _described_end(relation: Mapping[str, str]) -> str:
    match relation:
        case {"relationshipType": "DESCRIBES", "spdxElementId": "SPDXRef-DOCUMENT", "relatedSpdxElement": end}:
            return end
        case {"relationshipType": "DESCRIBED_BY", "relatedSpdxElement": "SPDXRef-DOCUMENT", "spdxElementId": end}:
            return end
        case _:
            return ""


# --- CycloneDX ---------------------------------------------------------------------------------------------------

_HASHES = list_of(record({"alg": _NOT_EMPTY, "content": _HEX}))
_COMPONENT: dict[str, Shape] = {"type": _NOT_EMPTY, "name": _NOT_EMPTY}
_CYCLONEDX = record(
    {
        "bomFormat": exactly("CycloneDX"),
        "specVersion": exactly("1.4", "1.5", "1.6"),
        "version": integer,
        "metadata": record({"component": record(_COMPONENT, {"hashes": _HASHES}, closed=False)}, closed=False),
    },
    {
        "$schema": TEXT,
        "serialNumber": text(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "serial number"),
        "components": list_of(record(_COMPONENT, {"hashes": _HASHES, "bom-ref": TEXT}, closed=False)),
        "dependencies": list_of(record({"ref": TEXT}, {"dependsOn": list_of(TEXT)}, closed=False)),
        "services": list_of(anything),
    },
    closed=False,
)


def _described_by_cyclonedx(value: Any) -> Iterator[tuple[str, Mapping[str, str]]]:
    references = [each["bom-ref"] for each in value.get("components", ()) if "bom-ref" in each]
    if len(set(references)) != len(references):
        raise BadJson("gives one bom-ref to two components")
    component = value["metadata"]["component"]
    yield component["name"], _sums((each["alg"], each["content"]) for each in component.get("hashes", ()))


# --- both --------------------------------------------------------------------------------------------------------

_Described = Callable[[Any], Iterator[tuple[str, Mapping[str, str]]]]
_FORMS: Final[dict[str, tuple[Shape, _Described]]] = {
    "sbom-spdx": (_SPDX, _described_by_spdx),
    "sbom-cyclonedx": (_CYCLONEDX, _described_by_cyclonedx),
}


def refuse_other_sbom(data: bytes, kind: str, sha256: str, sha512: str) -> None:
    """Raise BadJson unless the SBOM parses and describes the one file that has these digests."""
    shape, described_by = _FORMS[kind]
    described = list(described_by(check(parse(data, DOCUMENT_BYTES), shape)))
    if len(described) != 1:
        raise BadJson(f"describes {len(described)} things, not one artifact")
    ((name, sums),) = described
    if "sha256" not in sums:
        raise BadJson(f"does not say which bytes it describes: {name[:80]!r} has no SHA-256")
    if sums["sha256"] != sha256 or sums.get("sha512", sha512) != sha512:
        raise BadJson(f"describes something else: {name[:80]!r} with SHA-256 {sums['sha256'][:16]}...")


def _sums(pairs: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Give digests by their usual name; both formats write it in their own way (SHA256, SHA-256)."""
    sums: dict[str, str] = {}
    for algorithm, digest in pairs:
        name = algorithm.lower().replace("-", "")
        if name in sums or len(digest) != _SHA_LENGTHS.get(name, len(digest)):
            raise BadJson(f"gives {algorithm!r} twice, or with a length that it does not have")
        sums[name] = digest.lower()
    return sums
