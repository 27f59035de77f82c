"""Reads public keys for trust.json: PEM of an ECDSA P-256 or RSA key, or an armored GPG key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from builders.names import escaped
from orchestrator.errors import KeyRefused
from orchestrator.signing.bundle import key_id_of
from orchestrator.signing.gpg_home import fingerprint_of
from orchestrator.trust import KeyId

ECDSA, GPG, RSA = "ecdsa-p256", "gpg", "rsa-pss-sha256"
"""Kinds of keys, as trust.json names them."""

LEAST_RSA_BITS: Final = 3072
_MAX_BYTES: Final = 256 << 10
_ARMOR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_STEP = "name the .pub file that `relbuild keys generate` wrote"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A public key by its id; `text` is PEM or armor."""

    key_id: KeyId
    kind: str
    text: str


def read_public_key(path: Path) -> PublicKey:
    """Read a file with a public key. Raises KeyRefused, and for a private key too, which nobody should hand on."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise KeyRefused(
            f"the public key {escaped(str(path))} cannot be read: {error.strerror}", next_step=_STEP
        ) from error
    if b"PRIVATE KEY" in data:
        raise KeyRefused(f"{escaped(str(path))} holds a private key where a public one belongs", next_step=_STEP)
    if len(data) > _MAX_BYTES:
        raise KeyRefused(f"{escaped(str(path))} is larger than {_MAX_BYTES >> 10} KiB", next_step=_STEP)
    if data.lstrip().startswith(_ARMOR):
        return PublicKey(key_id=fingerprint_of(path, data), kind=GPG, text=data.decode("ascii", "replace"))
    return pem_key(data, escaped(str(path)))


def pem_key(pem: bytes, name: str) -> PublicKey:
    """Take a public key in PEM: ECDSA P-256 for releases, or RSA of 3,072 bits and more for audits."""
    key = _loaded(pem, name)
    if not isinstance(key, rsa.RSAPublicKey):
        return ecdsa_key(pem, name)
    if key.key_size < LEAST_RSA_BITS:
        raise KeyRefused(f"{name} has {key.key_size} bits, and an audit key needs {LEAST_RSA_BITS}", next_step=_STEP)
    return _public_key(key, RSA)


def ecdsa_key(pem: bytes, name: str) -> PublicKey:
    """Take an ECDSA P-256 public key in PEM. Raises KeyRefused."""
    key = _loaded(pem, name)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyRefused(f"{name} is not an ECDSA P-256 key", next_step="make one: relbuild keys generate")
    return _public_key(key, ECDSA)


def _loaded(pem: bytes, name: str) -> object:
    try:
        return serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefused(f"{name} holds no public key in PEM", next_step=_STEP) from None


def _public_key(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, kind: str) -> PublicKey:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return PublicKey(
        key_id=key_id_of(key.public_bytes(serialization.Encoding.DER, spki)),
        kind=kind,
        text=key.public_bytes(serialization.Encoding.PEM, spki).decode(),
    )
