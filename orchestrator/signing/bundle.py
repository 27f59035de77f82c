"""Writes Sigstore bundles v0.3 for signatures by a key of one's own.

Formats: sigstore/protobuf-specs, sigstore_bundle.proto and sigstore_common.proto; DSSE v1 (envelope.md, protocol.md).
"""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Final, assert_never

from orchestrator.canonical import Json
from orchestrator.signing.blobs import blob_digest
from orchestrator.signing.interface import Blob, Statement
from orchestrator.trust import KeyId

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"


def key_id_of(spki: bytes) -> KeyId:
    """Name a public key by its SubjectPublicKeyInfo in DER."""
    return KeyId(hashlib.sha256(spki).hexdigest())


def signed_bundle(subject: Blob | Statement, spki: bytes, sign_digest: Callable[[bytes], bytes]) -> bytes:
    """Sign a subject by its SHA-256 and give the bundle, in one line without its end.

    `sign_digest` gives an ECDSA signature in DER. Raises what it raises, and SigningFailed for changed blobs.
    """
    match subject:
        case Blob():
            digest = blob_digest(subject)
            content = _message(digest, sign_digest(digest))
        case Statement(payload=payload):
            content = _envelope(payload, sign_digest(hashlib.sha256(pae(payload)).digest()))
        case _:
            assert_never(subject)
    hint = _base64(hashlib.sha256(spki).digest())
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        **content,
    }
    return json.dumps(bundle, separators=(",", ":")).encode()


def pae(payload: bytes) -> bytes:
    """Give what DSSE signs: the payload with its type and both lengths."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _message(digest: bytes, signature: bytes) -> dict[str, Json]:
    return {
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": _base64(digest)},
            "signature": _base64(signature),
        }
    }


def _envelope(payload: bytes, signature: bytes) -> dict[str, Json]:
    # cosign refuses every keyid that is not empty, so there is none.
    return {
        "dsseEnvelope": {
            "payload": _base64(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": _base64(signature)}],
        }
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
