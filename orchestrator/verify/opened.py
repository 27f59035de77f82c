"""Opens encrypted copies (age, https://age-encryption.org/v1) and says what is inside. A home of pyrage."""

import hashlib
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NewType

from builders.names import escaped
from orchestrator.errors import EncryptionInvalid

Identity = NewType("Identity", object)
"""A secret key of age's; its own text never shows it."""
_MOST_BYTES = 1 << 20


class NotOpened(Exception):
    """Why an encrypted file gave nothing, in words that follow its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    size_bytes: int
    sha256: str


class _Hashing:
    """A file that only counts and hashes what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size_bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""


def load_identities(paths: Sequence[Path]) -> tuple[Identity, ...]:
    """Read age identities (AGE-SECRET-KEY-1...) from files of their owner's. Raises EncryptionInvalid, without any
    of their content in the words.
    """
    from pyrage import (  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415 - has no types, and costs
        IdentityError,
        x25519,
    )

    found = []
    for path in paths:
        lines = _text(path).splitlines()
        secrets = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        try:
            found += [Identity(x25519.Identity.from_str(secret)) for secret in secrets]
        except IdentityError:
            secrets = []
        if not secrets:
            raise EncryptionInvalid(f"{escaped(str(path))} holds no age identity, or one that is broken",
                                    next_step="give the file that `age-keygen` wrote") from None  # fmt: skip
    return tuple(found)


def open_encrypted(copy: Path | None, identities: Sequence[Identity]) -> Inside:
    """Decrypt a file and hash what is inside; nothing is written to disk. Raises NotOpened."""
    from pyrage import DecryptError, decrypt_io  # noqa: PLC0415 - costs

    inside = _Hashing()
    if copy is None:
        raise NotOpened("was not kept for opening")
    try:
        with copy.open("rb") as file:
            decrypt_io(file, inside, list(identities))
    except (DecryptError, OSError, ValueError) as error:
        raise NotOpened(f"cannot be opened with the given identities: {str(error)[:100]}") from None
    return Inside(size_bytes=inside.size_bytes, sha256=inside.sha256.hexdigest())


def _text(path: Path) -> str:
    try:
        state = path.stat()
        if stat.S_ISREG(state.st_mode) and state.st_size <= _MOST_BYTES:
            return path.read_text(encoding="ascii")
        reason = "it is no regular file, or too large"
    except (OSError, ValueError) as error:
        reason = (error.strerror or "") if isinstance(error, OSError) else "it is not plain text"
    raise EncryptionInvalid(f"{escaped(str(path))} cannot be read: {reason}", next_step="give an age identity file")
