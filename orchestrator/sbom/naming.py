"""Names that both documents share: identifiers, times, and the two numbers that make a document unique."""

import hashlib
import re
import uuid
from datetime import UTC, datetime
from typing import Final

from builders.materials import purl
from orchestrator.canonical import Json, canonical_json
from orchestrator.sbom.request import SbomRequest

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:relbuild:sbom:v1")


def document_uuid(kind: str, request: SbomRequest, body: Json) -> uuid.UUID:
    """Give a document's number: that of the artifact's digest and of all that the document says (RFC 9562, version 5).

    One artifact may be described again, by a newer Syft: other words need another number.
    """
    said = hashlib.sha256(canonical_json(body)).hexdigest()
    return uuid.uuid5(_NAMESPACE, f"{kind} sha256:{request.sha256} {said}")


def moment(epoch: int) -> str:
    """Give a Unix time as both formats write it (RFC 3339 in UTC, whole seconds)."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def identifier(kind: str, *parts: str) -> str:
    """Give an identifier of letters, digits, dots and dashes: readable, and unique for its parts."""
    digits = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", parts[0]).strip("-")[:64]
    return "-".join(filter(None, (kind, readable, digits)))


def artifact_purl(request: SbomRequest) -> str:
    """Name an artifact of a release by a package URL."""
    known = {"checksum": f"sha256:{request.sha256}", "file_name": request.name}
    return purl("generic", request.product, request.version, known)


def path_inside(request: SbomRequest, path: object) -> str:
    """Give where a file is once the artifact is unpacked."""
    return f"{request.root_dir}/{path}" if request.root_dir else str(path)


def supplier(request: SbomRequest) -> tuple[str, str]:
    """Part a supplier into its name and its mail address; either may be empty."""
    found = re.fullmatch(r"\s*([^<>]*?)\s*(?:<([^<>\s]+@[^<>\s]+)>)?\s*", request.supplier)
    name, address = (found[1], found[2] or "") if found else (request.supplier.strip(), "")
    return " ".join(re.sub(r"[()<>]", " ", name).split()), address
