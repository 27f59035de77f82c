"""Encrypts files for age recipients (age-encryption.org/v1), piece by piece."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyrage  # type: ignore[import-not-found,import-untyped,unused-ignore]  # a compiled module without types

from builders.copying import new_file
from builders.names import escaped
from orchestrator.errors import KeyRefused, SigningFailed
from orchestrator.signing.blobs import opened, refuse_other_bytes
from orchestrator.signing.interface import Blob

_PREFIX: Final = "age1"


class _Hashed:
    """Hands a file on, and knows afterwards what it handed on."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def sha256(self) -> str:
        return self._digest.hexdigest()


class _Written:
    """Takes what pyrage writes, and notes its digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def encrypt(blob: Blob, to: Path, recipients: Sequence[str]) -> Blob:
    """Write an encrypted copy to a new file and promise its digest.

    Raises KeyRefused for a recipient that is none, SigningFailed where the plain bytes are not those promised.
    """
    keys = parse_recipients(recipients)
    with new_file(to, executable=False) as target, opened(blob) as source:
        with os.fdopen(os.dup(source), "rb") as plain, os.fdopen(os.dup(target), "wb") as sealed:
            reader, writer = _Hashed(plain), _Written(sealed)
            try:
                pyrage.encrypt_io(reader, writer, keys)
            except pyrage.EncryptError as error:
                raise SigningFailed(f"{escaped(str(blob.path))} cannot be encrypted: {error}",
                                    next_step="see `recipients` in [signing.encryption]") from error  # fmt: skip
        refuse_other_bytes(blob, reader.sha256())
    return Blob(path=to, sha256=writer.digest.hexdigest())


def parse_recipients(recipients: Sequence[str]) -> list[Any]:
    """Read X25519 recipients. Raises KeyRefused."""
    if not recipients:
        raise KeyRefused(
            "no age recipient is named", next_step="name one or more: `recipients` in [signing.encryption]"
        )
    return [_recipient(text) for text in recipients]


def _recipient(text: str) -> Any:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        # A secret key in the wrong place is not shown to anyone.
        shown = escaped(text) if text.startswith(_PREFIX) else f"a text that does not start with {_PREFIX}"
        raise KeyRefused(f"{shown} is not an age recipient (X25519)",
                         next_step="`age-keygen -y` shows the recipient of a key") from None  # fmt: skip
