"""A repository in a bucket that speaks S3: created by If-None-Match, committed by If-Match, checked by SHA-256.

The client never tries again by itself here: after a lost answer only the caller knows what "there already" means.
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from orchestrator.errors import KeyMissing, PointerMoved
from orchestrator.repositories import probe, s3_probe, streams
from orchestrator.repositories.interface import Entry, Pointer, PointerToken, Upload
from orchestrator.repositories.keys import check_key, check_replaceable, check_staging
from orchestrator.repositories.s3_bucket import CREATE, Bucket
from orchestrator.repositories.s3_client import THREADS, client
from orchestrator.repositories.s3_errors import ConditionFailed
from orchestrator.repositories.s3_moves import Moves
from orchestrator.repositories.s3_parts import PART_BYTES, send_parts


class S3Repository:
    """A bucket, or what lies below a prefix of one. `endpoint` is for servers other than Amazon's."""

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        endpoint: str = "",
        region: str = "",
        connect: Callable[[], Any] | None = None,
    ) -> None:
        self._bucket = Bucket(bucket, prefix, endpoint, connect or partial(client, endpoint, region))
        # What is in memory at once, however many threads there are.
        self._buffers = threading.BoundedSemaphore(THREADS)
        self._moves = Moves(self._bucket, self._send)

    @property
    def location(self) -> str:
        return self._bucket.location

    @property
    def note(self) -> str:
        return self._moves.note

    def probe(self) -> None:
        """Refuse a server that ignores conditions, on whole objects or on those in parts, or checksums.

        Also finds out whether it may copy what is moved: one whose copies could replace something may not.
        """

        def tried(area: PurePosixPath) -> None:
            probe.race(self, area)
            s3_probe.require_parts(self._bucket, area / "twice")
            s3_probe.require_checksums(self._bucket, area / "wrong")

        probe.below_an_area(self, tried)
        self._moves.find_way(rounds=s3_probe.ROUNDS)

    # --- writing ----------------------------------------------------------------------------------------------------

    def put_new(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        try:
            self._put(check_key(key), body, sha256, **CREATE)
        except ConditionFailed:
            raise self._bucket.taken(key) from None

    def put(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        self._put(check_replaceable(key), body, sha256)
        self._moves.remember(key, sha256)

    def put_all(self, uploads: Sequence[Upload]) -> None:
        for upload in uploads:
            check_replaceable(upload.key)
        streams.side_by_side([partial(self.put, one.key, one.body, one.sha256) for one in uploads], THREADS)

    def move_new(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        """Create each object from its staged bytes: side by side, then the last two of the keys one by one."""
        for key in keys:
            check_key(staged / key)
            check_key(place / key)
        self._moves.move(staged, place, keys, sizes={one.key: one.size_bytes for one in self.list(staged)})

    def swap_pointer(self, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken:
        condition = CREATE if expected is None else {"IfMatch": expected}
        try:
            sha256 = hashlib.sha256(body).hexdigest()
            return self._bucket.put(check_key(key), body, sha256, CacheControl="no-store", **condition)
        except (ConditionFailed, KeyMissing):
            raise PointerMoved(
                f"{self._bucket.shown(key)} was changed by somebody else", next_step="read it again, then try again"
            ) from None

    def delete(self, prefix: PurePosixPath) -> None:
        """Remove a staging area, and uploads into it that were never completed."""
        self._bucket.remove(check_staging(prefix))

    # --- reading ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def open(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        with self._bucket.got(check_key(key)) as (stream, _):
            yield stream

    def read_pointer(self, key: PurePosixPath) -> Pointer | None:
        try:
            with self._bucket.got(check_key(key)) as (stream, answer):
                return Pointer(body=stream.read(), token=self._bucket.token(key, answer))
        except KeyMissing:
            return None

    def list(self, prefix: PurePosixPath) -> Iterator[Entry]:
        yield from self._bucket.entries(prefix)

    def names(self, start: str) -> Iterator[str]:
        yield from sorted(self._bucket.names(start))

    def alone(self, name: str, *, timeout_s: float) -> contextlib.AbstractContextManager[None]:
        del name, timeout_s  # a bucket has no locks; If-Match on the pointer is what decides
        return contextlib.nullcontext()

    def staging_is_alive(self, staging: PurePosixPath) -> bool | None:
        check_staging(staging)
        return None

    # --- how --------------------------------------------------------------------------------------------------------

    def _put(self, key: PurePosixPath, body: bytes | Path, sha256: str, **condition: str) -> None:
        with streams.opened(body) as (stream, size):
            self._send(key, stream, size, sha256, **condition)

    def _send(self, key: PurePosixPath, stream: BinaryIO, size: int, sha256: str, **condition: str) -> None:
        if size > PART_BYTES:
            send_parts(self._bucket, key, stream, size, sha256, buffers=self._buffers, **condition)
            return
        with self._buffers:
            body = stream.read(PART_BYTES + 1)
            streams.require(hashlib.sha256(body).hexdigest(), sha256, self._bucket.shown(key))
            self._bucket.put(key, body, sha256, **condition)
