"""Reads a file that is to be signed, and refuses other bytes than were promised."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from builders.copying import read_chunks
from builders.names import escaped
from orchestrator.errors import SigningFailed
from orchestrator.signing.interface import Blob


@contextmanager
def opened(blob: Blob) -> Iterator[int]:
    """Open a blob, which must be a regular file and no link. Raises SigningFailed."""
    try:
        descriptor = os.open(blob.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(blob, f"cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _refused(blob, "is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def blob_digest(blob: Blob) -> bytes:
    """Hash a blob piece by piece and give its SHA-256. Raises SigningFailed where it is not the promised one."""
    digest = hashlib.sha256()
    with opened(blob) as descriptor:
        for chunk in read_chunks(descriptor, os.fstat(descriptor).st_size):
            digest.update(chunk)
    refuse_other_bytes(blob, digest.hexdigest())
    return digest.digest()


def refuse_other_bytes(blob: Blob, sha256: str) -> None:
    """Raise SigningFailed where what was read is not what was promised."""
    if sha256 != blob.sha256:
        raise _refused(blob, f"has other bytes than promised (SHA-256 {sha256[:12]}..., not {blob.sha256[:12]}...)")


def _refused(blob: Blob, reason: str) -> SigningFailed:
    return SigningFailed(
        f"{escaped(str(blob.path))} {reason}; it is not signed",
        next_step="stage the release again and leave its folder alone until it is signed",
    )
