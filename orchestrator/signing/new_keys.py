"""Makes keys and writes both halves: the private one for its owner alone, the public one beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from builders.copying import new_file, write_all
from orchestrator.signing import gpg_home, trust_file
from orchestrator.signing.key_file import EcKey, new_key
from orchestrator.signing.private_file import refused_to_write, write_private
from orchestrator.signing.public_keys import LEAST_RSA_BITS, ecdsa_key, pem_key
from orchestrator.trust import KeyId

Form = Callable[[EcKey, bytes | None], bytes]
"""Writes a private key, encrypted unless the passphrase is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeKey:
    """A new key, and where its halves are."""

    key_id: KeyId
    private: Path
    public: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTrust:
    """A trust file to write with the key."""

    path: Path
    project: str
    threshold: int


def pkcs8_form(key: EcKey, passphrase: bytes | None) -> bytes:
    """Write PKCS#8 in PEM."""
    return key.private_pem(passphrase)


def cosign_form(key: EcKey, passphrase: bytes | None) -> bytes:
    """Write cosign's own format, which encrypts with an empty passphrase where there is none."""
    return key.cosign_pem(passphrase or b"")


def make_key_file(path: Path, form: Form, passphrase: bytes | None, trust: NewTrust | None, now: datetime) -> MadeKey:
    """Make an ECDSA P-256 key and write it. Raises KeyRefused where any of the files is there already."""
    key, public = new_key(), public_half(path)
    text = None
    if trust is not None:
        keys = [ecdsa_key(key.public_pem, path.name)]
        text = trust_file.new_trust(project=trust.project, keys=keys, threshold=trust.threshold, signers=[key], now=now)
        refuse_taken(trust.path)
    refuse_taken(public)
    write_private(path, form(key, passphrase))
    _write_public(public, key.public_pem)
    if trust is not None and text is not None:
        trust_file.write_trust(trust.path, text, new=True)
    return MadeKey(key_id=key.key_id, private=path, public=public)


def make_audit_key(path: Path, passphrase: bytes | None) -> MadeKey:
    """Make an RSA key of 3,072 bits for the audits of publications, in PKCS#8. Takes a second or two."""
    public = public_half(path)
    refuse_taken(public)
    private = rsa.generate_private_key(public_exponent=65537, key_size=LEAST_RSA_BITS)
    locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    spki = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_private(path, private.private_bytes(pem, pkcs8, locked))
    _write_public(public, spki)
    return MadeKey(key_id=pem_key(spki, path.name).key_id, private=path, public=public)


def make_gpg(home: Path, user_id: str, passphrase: bytes | None) -> MadeKey:
    """Make a GPG key in a home of its own. Raises KeyRefused where it is there already, SigningFailed."""
    public = public_half(home)
    refuse_taken(public)
    key_id, armored = gpg_home.make_gpg_key(home, user_id, passphrase)
    _write_public(public, armored)
    return MadeKey(key_id=key_id, private=home, public=public)


def public_half(path: Path) -> Path:
    """Say where the public half of a private key lies: `release.key` has `release.pub`."""
    return path.with_suffix(".pub") if path.suffix in {".key", ".pem"} else path.with_name(f"{path.name}.pub")


def refuse_taken(path: Path) -> None:
    """Raise KeyRefused before anything is written where a file would be overwritten."""
    if path.is_symlink() or path.exists():
        raise refused_to_write(path, FileExistsError())


def _write_public(path: Path, data: bytes) -> None:
    try:
        with new_file(path, executable=False) as descriptor:
            write_all(descriptor, data)
    except OSError as error:
        raise refused_to_write(path, error) from error
