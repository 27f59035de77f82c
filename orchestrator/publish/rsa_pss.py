"""RSA-PSS with SHA-256 (RFC 8017, section 8.1): MGF1 with SHA-256, a salt of 32 bytes, keys of 3,072 bits and more."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from builders.names import escaped
from orchestrator.errors import PassphraseWrong, SigningFailed
from orchestrator.signing.private_file import read_private, refused
from orchestrator.trust import KeyId

LEAST_BITS: Final = 3072
MOST_BITS: Final = 16384
"""A larger key would only cost its readers time."""
_HASH = hashes.SHA256()
_PADDING = padding.PSS(mgf=padding.MGF1(_HASH), salt_length=_HASH.digest_size)
_MAKE: Final = (
    "make one: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out audit.key; chmod 600 audit.key"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RsaKey:
    """A private key, ready to sign."""

    _private: rsa.RSAPrivateKey = field(repr=False)

    @property
    def key_id(self) -> KeyId:
        """Name the key as verifiers know it."""
        return _id_of(self._private.public_key())

    @property
    def public_pem(self) -> str:
        """Give the public half."""
        public = self._private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return public.decode()

    def sign(self, message: bytes) -> bytes:
        """Sign a message; two signatures of one message differ. Raises SigningFailed where its halves do not fit."""
        # Nothing leaves here that the public half does not take: a signature by a damaged key could give the key away.
        try:
            signature = self._private.sign(message, _PADDING, _HASH)
            self._private.public_key().verify(signature, message, _PADDING, _HASH)
        except (InvalidSignature, ValueError):
            raise SigningFailed(
                f"the audit key {self.key_id[:16]} is damaged: its own public half refuses what it signs",
                next_step="restore the key from a backup, or make another and rotate it in: relbuild keys rotate",
            ) from None
        return signature


class BadPublicKey(ValueError):
    """Why a text is no public key that can count, in words that follow its name."""


def read_rsa_key(path: Path, passphrase: Callable[[], bytes | None]) -> RsaKey:
    """Read a private key from PKCS#8 in PEM. Raises KeyRefused, PassphraseWrong.

    Whether its halves belong together is seen at each signature, which costs 0.1 ms: the library's own check takes
    0.1 s, and Python's lock all that time.
    """
    pem = read_private(path)
    secret = passphrase() if b"ENCRYPTED" in pem else None
    try:
        key = serialization.load_pem_private_key(pem, secret, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise PassphraseWrong(f"the key {escaped(str(path))} is encrypted, and no passphrase was given",
                              next_step="say where it comes from") from None  # fmt: skip
    except (ValueError, UnsupportedAlgorithm):
        # The library's words may quote what it read, and PKCS#8 does not tell a wrong passphrase from damage.
        if secret is not None:
            raise PassphraseWrong(f"the passphrase is not that of the key {escaped(str(path))}, or it is damaged",
                                  next_step="give the right one; relbuild does not ask twice") from None  # fmt: skip
        raise refused(path, "is no private key in PEM", _MAKE) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise refused(path, "is not an RSA key", _MAKE)
    if not LEAST_BITS <= key.key_size <= MOST_BITS:
        raise refused(path, f"has {key.key_size} bits, not {LEAST_BITS} to {MOST_BITS}", _MAKE)
    return RsaKey(_private=key)


def rsa_key_id(public_pem: str) -> KeyId:
    """Name a public key: SHA-256 of its SPKI. Raises BadPublicKey."""
    return _id_of(_public(public_pem))


def rsa_holds(public_pem: str, message: bytes, signature: bytes) -> bool:
    """Tell whether a signature by this public key fits a message. Raises BadPublicKey."""
    try:
        _public(public_pem).verify(signature, message, _PADDING, _HASH)
    except InvalidSignature:
        return False
    return True


def _public(pem: str) -> rsa.RSAPublicKey:
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except Exception as error:  # noqa: BLE001 - the library promises no closed set of errors for garbage
        raise BadPublicKey(f"is no public key in PEM ({type(error).__name__})") from None
    if not isinstance(key, rsa.RSAPublicKey) or not LEAST_BITS <= key.key_size <= MOST_BITS:
        raise BadPublicKey(f"is a public key, but not RSA of {LEAST_BITS} to {MOST_BITS} bits")
    return key


def _id_of(key: rsa.RSAPublicKey) -> KeyId:
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return KeyId(hashlib.sha256(spki).hexdigest())
