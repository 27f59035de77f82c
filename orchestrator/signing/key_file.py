"""Signs with an ECDSA P-256 key from a file: PKCS#8 in PEM, plain or encrypted, or cosign's own format."""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from builders.names import escaped
from orchestrator.errors import KeyRefused, PassphraseWrong
from orchestrator.signing import cosign_key
from orchestrator.signing.bundle import key_id_of, signed_bundle
from orchestrator.signing.interface import Blob, Statement
from orchestrator.signing.private_file import read_private, refused
from orchestrator.trust import BUNDLE, KeyId

GetPassphrase = Callable[[], bytes | None]
"""Called once, and only for a key that is encrypted."""

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s(.*?)-----END \1-----\s*", re.DOTALL)
_DIGEST = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
_PLAIN, _ENCRYPTED = "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"
_MENDS: Final = {
    "EC PRIVATE KEY": "openssl pkcs8 -topk8 -in OLD -out NEW",
    "OPENSSH PRIVATE KEY": "SSH keys do not sign releases; make a key: relbuild keys generate",
    "PUBLIC KEY": "that is the public half; name the private one",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EcKey:
    """A private key, ready to sign, with its public half."""

    _private: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def spki(self) -> bytes:
        """Give the public key as SubjectPublicKeyInfo in DER."""
        public = self._private.public_key()
        return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def public_pem(self) -> bytes:
        """Give the public key as PEM."""
        public = self._private.public_key()
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_id(self) -> KeyId:
        """Name the key as verifiers know it."""
        return key_id_of(self.spki)

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest and give the signature in DER."""
        return self._private.sign(digest, _DIGEST)

    def private_pem(self, passphrase: bytes | None) -> bytes:
        """Give the key as PKCS#8 in PEM, encrypted unless the passphrase is None."""
        encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        return self._private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    def cosign_pem(self, passphrase: bytes) -> bytes:
        """Give the key in cosign's own format."""
        pkcs8 = self._private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cosign_key.encrypted(pkcs8, passphrase)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFileSigner:
    """A Signer with a key that was read from a file."""

    name: str
    key: EcKey
    suffix: str = BUNDLE
    attests: bool = True

    @property
    def key_id(self) -> KeyId:
        return self.key.key_id

    def sign(self, subject: Blob | Statement) -> bytes:
        return signed_bundle(subject, self.key.spki, self.key.sign_digest)


def open_key_file(path: Path, passphrase: GetPassphrase) -> KeyFileSigner:
    """Read a key and give its signer. Raises KeyRefused, PassphraseWrong."""
    return KeyFileSigner(name=f"key-file {escaped(str(path))}", key=read_key(path, passphrase))


def new_key() -> EcKey:
    """Make a key."""
    return EcKey(_private=ec.generate_private_key(ec.SECP256R1()))


def read_key(path: Path, passphrase: GetPassphrase) -> EcKey:
    """Read a private key. Raises KeyRefused for what is wrong with the file, PassphraseWrong."""
    label, pem, body = _pem_of(path, read_private(path))
    if label == _PLAIN:
        private = _loaded(path, lambda: serialization.load_pem_private_key(pem, None))
    elif label == _ENCRYPTED:
        private = _opened(path, pem, passphrase)
    elif label in cosign_key.LABELS:
        private = _opened_cosign(path, body, passphrase)
    else:
        raise refused(path, f"holds a {escaped(label)}, not a PKCS#8 or cosign private key",
                      _MENDS.get(label, "name a key that `relbuild keys generate` made"))  # fmt: skip
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise refused(path, "is not an ECDSA P-256 key", "make one: relbuild keys generate")
    return EcKey(_private=private)


def is_encrypted(path: Path) -> bool:
    """Tell whether a key's file asks for a passphrase. Raises KeyRefused."""
    return _pem_of(path, read_private(path))[0] != _PLAIN


def _pem_of(path: Path, data: bytes) -> tuple[str, bytes, bytes]:
    """Give the label, the whole and the decoded body of a file's only PEM block."""
    found = _PEM.fullmatch(data.lstrip())
    if found is None or found[2].count(b"-----BEGIN"):
        raise refused(path, "is not one PEM block", "name a key that `relbuild keys generate` made")
    try:
        body = base64.b64decode(b"".join(found[2].split()), validate=True)
    except binascii.Error:
        body = b""
    return found[1].decode(), found[0], body


def _opened(path: Path, pem: bytes, passphrase: GetPassphrase) -> object:
    secret = passphrase()
    if secret is None:
        raise _no_passphrase(path)
    try:
        return _loaded(path, lambda: serialization.load_pem_private_key(pem, secret))
    except KeyRefused:
        # PKCS#8 does not tell a wrong passphrase from damaged bytes.
        raise _wrong_passphrase(path) from None


def _opened_cosign(path: Path, body: bytes, passphrase: GetPassphrase) -> object:
    secret = passphrase()
    try:
        # cosign encrypts with an empty passphrase where it was given none.
        pkcs8 = cosign_key.decrypted(body, secret or b"")
    except cosign_key.Damaged as error:
        raise refused(path, f"is damaged: {error}", "take it from a back-up, or make a new one") from None
    except cosign_key.WrongPassphrase:
        raise (_no_passphrase(path) if secret is None else _wrong_passphrase(path)) from None
    return _loaded(path, lambda: serialization.load_der_private_key(pkcs8, None))


def _loaded(path: Path, load: Callable[[], object]) -> object:
    try:
        return load()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's words may quote what it read.
        raise refused(
            path, "is damaged: it holds no private key", "take it from a back-up, or make a new one"
        ) from None


def _wrong_passphrase(path: Path) -> PassphraseWrong:
    return PassphraseWrong(f"the passphrase is not that of the key {escaped(str(path))}, or the file is damaged",
                           next_step="give the right one; relbuild does not ask twice")  # fmt: skip


def _no_passphrase(path: Path) -> PassphraseWrong:
    return PassphraseWrong(f"the key {escaped(str(path))} is encrypted, and no passphrase was given",
                           next_step="say where it comes from: `passphrase` or --passphrase-env")  # fmt: skip
