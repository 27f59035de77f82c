"""Reads Sigstore bundles v0.3 (sigstore/protobuf-specs) strictly: one form, one signature, all of it checked."""

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.verify.json_strict import (
    SMALL_BYTES,
    BadJson,
    anything,
    canonical,
    check,
    exactly,
    list_of,
    parse,
    record,
    text,
)

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_SHA256_BYTES = 32
_MOST_LINES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSignature:
    sha256: str
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """DSSE: a payload, and the signature over its pre-authentication encoding."""

    payload: bytes = field(repr=False)
    signature: bytes

    @property
    def signed(self) -> bytes:
        """Give what is signed: PAE of the DSSE protocol 1.0."""
        kind = PAYLOAD_TYPE.encode()
        return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle's content. `key_sha256` is the key hint in hexadecimal, or empty beside a certificate (DER)."""

    key_sha256: str
    certificate: bytes
    content: MessageSignature | Envelope
    text: bytes = field(repr=False)


def parse_bundle(data: bytes) -> Bundle:
    """Read a bundle file. Raises BadJson in words that follow the file's name."""
    value = parse(data, SMALL_BYTES)
    if data not in {canonical(value), _sorted_line(value), *_protojson_lines(value)}:
        raise BadJson("is not written in one of the known forms (ours or cosign's): bytes before, between or behind")
    return _bundle(value, data)


def parse_attestation(data: bytes) -> tuple[Bundle, ...]:
    """Read the lines of an attestation file, each a bundle with a DSSE envelope. Raises BadJson."""
    if len(data) > SMALL_BYTES:
        raise BadJson(f"is larger than {SMALL_BYTES >> 20} MiB")
    if not data.endswith(b"\n"):
        raise BadJson("does not end in a line feed")
    lines = data[:-1].split(b"\n")
    if len(lines) > _MOST_LINES:
        raise BadJson(f"holds more than {_MOST_LINES} lines")
    return tuple(_attestation_line(line) for line in lines)


def _attestation_line(line: bytes) -> Bundle:
    value = parse(line, SMALL_BYTES)
    if line not in {_sorted_line(value)[:-1], *_protojson_lines(value)}:
        raise BadJson("has a line that is not written in one of the known forms (ours or cosign's)")
    bundle = _bundle(value, line)
    if not isinstance(bundle.content, Envelope):
        raise BadJson("has a line that attests nothing: it holds no DSSE envelope")
    return bundle


def _sorted_line(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _protojson_lines(value: Any) -> tuple[bytes, ...]:
    # Go's protojson puts, by build of the program, a space behind every comma or none, and no line feed at the end.
    return tuple(json.dumps(value, ensure_ascii=False, separators=(comma, ":")).encode() for comma in (",", ", "))


# --- the shape ---------------------------------------------------------------------------------------------------

_BASE64 = text(r"[A-Za-z0-9+/]*={0,2}", "base64")
_BY_KEY = record({"publicKey": record({"hint": _BASE64})}, {"tlogEntries": list_of(anything, most=0)})
_BY_CERTIFICATE = record(
    {"certificate": record({"rawBytes": _BASE64}), "tlogEntries": list_of(anything, least=1, most=4)},
    {"timestampVerificationData": anything},
)  # fmt: skip
_MESSAGE = record(
    {"messageDigest": record({"algorithm": exactly("SHA2_256"), "digest": _BASE64}), "signature": _BASE64}
)
_ENVELOPE = record(
    {
        "payload": _BASE64,
        "payloadType": exactly(PAYLOAD_TYPE),
        "signatures": list_of(record({"sig": _BASE64}), least=1, most=1),
    }
)


def _bundle(value: Any, data: bytes) -> Bundle:
    check(value, record({"mediaType": exactly(MEDIA_TYPE), "verificationMaterial": anything},
                        {"messageSignature": _MESSAGE, "dsseEnvelope": _envelope}))  # fmt: skip
    if ("messageSignature" in value) == ("dsseEnvelope" in value):
        raise BadJson("must hold a messageSignature or a dsseEnvelope, and not both")
    key_sha256, certificate = _material(value["verificationMaterial"])
    content = _message(value["messageSignature"]) if "messageSignature" in value else _dsse(value["dsseEnvelope"])
    return Bundle(key_sha256=key_sha256, certificate=certificate, content=content, text=data)


def _envelope(value: object, where: str) -> None:
    # Said apart: a verifier that took the first of several signatures could be shown another one than its neighbour.
    if isinstance(value, dict) and isinstance(value.get("signatures"), list) and len(value["signatures"]) != 1:
        raise BadJson(f"has {len(value['signatures'])} DSSE signatures in one envelope, not exactly one")
    _ENVELOPE(value, where)


def _material(value: object) -> tuple[str, bytes]:
    if not isinstance(value, dict):
        raise BadJson("has no object at verificationMaterial")
    if "x509CertificateChain" in value:
        raise BadJson("holds a certificate chain, which bundles of v0.3 do not have")
    if "certificate" in value:
        check(value, _BY_CERTIFICATE, "verificationMaterial")
        return "", decode(value["certificate"]["rawBytes"], "certificate")
    check(value, _BY_KEY, "verificationMaterial")
    return _digest(value["publicKey"]["hint"], "publicKey.hint"), b""


def _message(value: Any) -> MessageSignature:
    return MessageSignature(
        sha256=_digest(value["messageDigest"]["digest"], "messageDigest.digest"),
        signature=decode(value["signature"], "signature"),
    )


def _dsse(value: Any) -> Envelope:
    return Envelope(payload=decode(value["payload"], "payload"), signature=decode(value["signatures"][0]["sig"], "sig"))


def _digest(coded: str, where: str) -> str:
    raw = decode(coded, where)
    if len(raw) != _SHA256_BYTES:
        raise BadJson(f"has {len(raw)} bytes at {where}, where a SHA-256 has {_SHA256_BYTES}")
    return raw.hex()


def decode(coded: str, where: str) -> bytes:
    """Decode base64 that must be written in its only form (RFC 4648, section 3.5). Raises BadJson."""
    try:
        raw = base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        raise BadJson(f"has no base64 at {where}") from None
    if base64.b64encode(raw).decode() != coded:
        raise BadJson(f"has base64 at {where} that is not in its only form")
    return raw
