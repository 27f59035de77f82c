"""The seam: what every signer can do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.trust import KeyId


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A file to sign as it lies there. `sha256` is what its bytes must be, in hexadecimal digits."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """An in-toto statement to wrap and sign (DSSE): the exact bytes of the payload."""

    payload: bytes


class Signer(Protocol):
    """Signs with one key. Implementations: key_file.py, gpg.py, kms.py, keyless.py."""

    @property
    def name(self) -> str:
        """Say which signer this is, as the configuration names it; never a secret."""

    @property
    def key_id(self) -> KeyId:
        """Name the key as verifiers know it."""

    @property
    def suffix(self) -> str:
        """Give the ending of the files that hold this signer's signatures: BUNDLE or ARMOR."""

    @property
    def attests(self) -> bool:
        """Tell whether it can sign a Statement."""

    def sign(self, subject: Blob | Statement) -> bytes:
        """Give the whole content of the signature's file: a bundle, or an armored detached signature.

        Raises SigningFailed with what the key's keeper said, and where the blob's bytes are not those promised.
        """
