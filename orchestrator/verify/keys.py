"""Public keys that may count, and when they do. ECDSA P-256 with SHA-256 (FIPS 186-5), keys as SPKI (RFC 5280)."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from orchestrator.trust import KeyId

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

RSA_BITS = (3072, 16384)
"""A shorter key is too weak; a longer one would only cost its readers time."""


class KeyKind(StrEnum):
    ECDSA = "ecdsa-p256"
    GPG = "gpg"
    KEYLESS = "keyless"
    RSA = "rsa-pss-sha256"
    """Signs audits of publications, and nothing of a release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key with the time in which it counts. `public` is PEM, an armored GPG key, or empty for keyless."""

    key_id: KeyId
    kind: KeyKind
    public: str
    since: datetime
    until: datetime | None = None
    revoked: datetime | None = None
    identity: str = ""
    issuer: str = ""

    def why_not(self, now: datetime) -> str:
        """Say why the key does not count at a time, or give an empty string. A revoked key never counts again."""
        if self.revoked is not None:
            return f"was revoked at {self.revoked:%Y-%m-%dT%H:%M:%SZ}"
        if now < self.since:
            return f"counts only from {self.since:%Y-%m-%dT%H:%M:%SZ}"
        if self.until is not None and now >= self.until:
            return f"counted only until {self.until:%Y-%m-%dT%H:%M:%SZ}"
        return ""


class BadKey(ValueError):
    """Why a text is no public key that can count, in words that follow its name."""


def ecdsa_key_id(pem: str) -> KeyId:
    """Name an ECDSA P-256 public key: SHA-256 of its SPKI. Raises BadKey."""
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - costs

    key = _loaded(pem)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadKey("is a public key, but not ECDSA P-256")
    return _id_of(key)


def rsa_key_id(pem: str) -> KeyId:
    """Name an RSA public key of 3,072 to 16,384 bits: SHA-256 of its SPKI. Raises BadKey."""
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - costs

    key = _loaded(pem)
    if not isinstance(key, rsa.RSAPublicKey) or not RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
        raise BadKey(f"is a public key, but not RSA of {RSA_BITS[0]} to {RSA_BITS[1]} bits")
    return _id_of(key)


def _loaded(pem: str) -> object:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        return load_pem_public_key(pem.encode())
    except Exception as error:  # noqa: BLE001 - the library promises no closed set of errors for garbage
        raise BadKey(f"is no public key in PEM ({type(error).__name__})") from None


def _id_of(key: "ec.EllipticCurvePublicKey | rsa.RSAPublicKey") -> KeyId:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    return KeyId(hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest())


def holds_for_digest(public: str, sha256: str, signature: bytes) -> bool:
    """Tell whether a DER signature by this PEM key fits the SHA-256 of something."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    key = load_pem_public_key(public.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        # One form of DER only: a second one would be another file with the same meaning.
        if utils.encode_dss_signature(*utils.decode_dss_signature(signature)) != signature:
            return False
        key.verify(signature, bytes.fromhex(sha256), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except (InvalidSignature, ValueError):
        return False
    return True


def holds_for_message(public: str, message: bytes, signature: bytes) -> bool:
    """Tell whether a DER signature by this PEM key fits a message."""
    return holds_for_digest(public, hashlib.sha256(message).hexdigest(), signature)
