"""What an S3 server is tried for beyond probe.race: objects in parts, checksums, and copies that it makes itself."""

import contextlib
import hashlib
import io
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from threading import BoundedSemaphore
from typing import Any, Final

from orchestrator.errors import OutcomeUnknown, RepositoryError
from orchestrator.repositories import probe
from orchestrator.repositories.s3_bucket import CREATE, Bucket
from orchestrator.repositories.s3_errors import ConditionFailed
from orchestrator.repositories.s3_parts import PartialUpload, copied, send_parts

ROUNDS: Final = 8
"""How many races there are when a store is tried thoroughly."""
FEWEST_ROUNDS: Final = 2
"""As many as there are kinds of them."""
_COPIES: Final = 2


def require_parts(bucket: Bucket, taken: PurePosixPath) -> None:
    """Refuse a server that replaces the object `taken` when an upload in parts is completed on condition."""
    body = b"parts"
    try:
        send_parts(bucket, taken, io.BytesIO(body), len(body), _sha256(body), buffers=BoundedSemaphore(), **CREATE)
    except ConditionFailed:
        return
    raise probe.refused(bucket, "replaces an object by an upload in parts (it ignores If-None-Match there)")


def require_checksums(bucket: Bucket, key: PurePosixPath) -> None:
    """Refuse a server that takes bytes with another SHA-256 than came with them."""
    try:
        bucket.put(key, b"these bytes", _sha256(b"other bytes"))
    except (OutcomeUnknown, RepositoryError):
        return
    raise probe.refused(bucket, "takes bytes that are not those of their SHA-256")


def copies_on_condition(bucket: Bucket, area: PurePosixPath, rounds: int) -> bool:
    """Tell whether copies that the server makes are whole, checked, and never replace anything, racing included.

    Raises OutcomeUnknown where an answer was lost.
    """
    bodies = {area / f"source-{number}": secrets.token_bytes(64) for number in range(_COPIES)}
    try:
        for source, body in bodies.items():
            bucket.put(source, body, _sha256(body))
        # Copies against each other, then against an object that is put: the faster kind would hide the other's race.
        return all(_race(bucket, area / f"copied-{number}", bodies, put=bool(number % 2)) for number in range(rounds))
    except OutcomeUnknown:
        raise
    except RepositoryError:
        return False


def _race(bucket: Bucket, key: PurePosixPath, bodies: Mapping[PurePosixPath, bytes], *, put: bool) -> bool:
    """Create an object in several ways at the same instant; one must win, and none later."""
    rival = secrets.token_bytes(64)
    with contextlib.ExitStack() as stack:
        copies = {
            body: partial(_completed, *stack.enter_context(copied(bucket, source, key, _sha256(body))))
            for source, body in bodies.items()
        }
        late = {rival: partial(_put, bucket, key, rival), **copies}
        early = dict(list(late.items())[:2]) if put else copies
        won = [body for body, winner in zip(early, probe.at_once(list(early.values())), strict=True) if winner]
        again = [body for body, ask in late.items() if body not in won and ask()]
    return len(won) == 1 and not again and bucket.digest(key) == _sha256(won[0])


def _completed(upload: PartialUpload, parts: Sequence[Mapping[str, Any]]) -> bool:
    return _done(lambda: upload.complete(parts, **CREATE))


def _put(bucket: Bucket, key: PurePosixPath, body: bytes) -> bool:
    return _done(lambda: bucket.put(key, body, _sha256(body), **CREATE))


def _done(ask: Callable[[], object]) -> bool:
    """Ask, and tell whether it was done: a server that answers 409 while two requests meet has not."""
    try:
        ask()
    except (ConditionFailed, OutcomeUnknown):
        return False
    return True


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
