"""A repository in a bucket of Google Cloud Storage: created and committed by generation, checked by our own SHA-256."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from orchestrator.errors import KeyMissing, PointerMoved
from orchestrator.repositories import probe, streams
from orchestrator.repositories.gcs_bucket import ABSENT, CHUNK_BYTES, TIMEOUT_S, GcsBucket, client
from orchestrator.repositories.gcs_errors import ConditionFailed
from orchestrator.repositories.interface import Entry, Pointer, PointerToken, Upload
from orchestrator.repositories.keys import check_key, check_replaceable, check_staging

_THREADS: Final = 8
_LAST_KEYS: Final = 2


class GcsRepository:
    """A bucket, or what lies below a prefix of one. `endpoint` is for servers other than Google's."""

    def __init__(
        self, bucket: str, *, prefix: str = "", endpoint: str = "", connect: Callable[[], Any] | None = None
    ) -> None:
        self._bucket = GcsBucket(bucket, prefix, endpoint, connect or partial(client, endpoint))

    @property
    def location(self) -> str:
        return self._bucket.location

    def probe(self) -> None:
        """Refuse a server that ignores generations, on simple or on resumable uploads."""

        def tried(area: PurePosixPath) -> None:
            probe.race(self, area)
            self._probe_resumable(area / "twice")

        probe.below_an_area(self, tried)

    # --- writing ----------------------------------------------------------------------------------------------------

    def put_new(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        self._put(check_key(key), body, sha256, ABSENT)

    def put(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        self._put(check_replaceable(key), body, sha256, None)

    def put_all(self, uploads: Sequence[Upload]) -> None:
        for upload in uploads:
            check_replaceable(upload.key)
        streams.side_by_side([partial(self.put, one.key, one.body, one.sha256) for one in uploads], _THREADS)

    def move_new(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        """Create each object from its staged bytes: side by side, then the last two of the keys one by one."""
        pairs = [(check_key(staged / key), check_key(place / key)) for key in keys]
        streams.side_by_side([partial(self._move_one, *pair) for pair in pairs[:-_LAST_KEYS]], _THREADS)
        for pair in pairs[-_LAST_KEYS:]:
            self._move_one(*pair)

    def swap_pointer(self, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken:
        blob = self._bucket.blob(check_key(key))
        blob.cache_control = "no-store"
        try:
            with self._bucket.answered(key):
                self._bucket.send_bytes(key, blob, body, ABSENT if expected is None else int(expected))
        except (ConditionFailed, KeyMissing):
            raise PointerMoved(
                f"{self._bucket.shown(key)} was changed by somebody else", next_step="read it again, then try again"
            ) from None
        return PointerToken(str(blob.generation))

    def delete(self, prefix: PurePosixPath) -> None:
        keys = [entry.key for entry in self.list(check_staging(prefix))]
        streams.side_by_side([partial(self._bucket.delete, key) for key in keys], _THREADS)

    # --- reading ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def open(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        with self._bucket.opened(check_key(key)) as stream:
            yield stream

    def read_pointer(self, key: PurePosixPath) -> Pointer | None:
        try:
            body, generation = self._bucket.read(check_key(key))
        except KeyMissing:
            return None
        return Pointer(body=body, token=PointerToken(generation))

    def list(self, prefix: PurePosixPath) -> Iterator[Entry]:
        above = self._bucket.prefix
        for blob in self._bucket.listed(prefix, prefix=f"{self._bucket.key(prefix)}/" if prefix.parts else above):
            yield Entry(key=PurePosixPath(blob.name.removeprefix(above)), size_bytes=blob.size)

    def names(self, start: str) -> Iterator[str]:
        yield from sorted(self._bucket.names(start))

    def alone(self, name: str, *, timeout_s: float) -> contextlib.AbstractContextManager[None]:
        del name, timeout_s  # a bucket has no locks; the pointer's generation is what decides
        return contextlib.nullcontext()

    def staging_is_alive(self, staging: PurePosixPath) -> bool | None:
        check_staging(staging)
        return None

    # --- how --------------------------------------------------------------------------------------------------------

    def _put(self, key: PurePosixPath, body: bytes | Path, sha256: str, generation: int | None) -> None:
        try:
            with self._bucket.answered(key), streams.opened(body) as (stream, size):
                streams.require(streams.digest(stream), sha256, self._bucket.shown(key))
                stream.seek(0)
                self._bucket.send(key, stream, size, sha256, generation)
        except ConditionFailed:
            raise self._bucket.taken(key) from None

    def _move_one(self, staged: PurePosixPath, place: PurePosixPath) -> None:
        sha256, size = self._bucket.promised(staged)
        try:
            with self.open(staged) as stream, self._bucket.answered(place):
                self._bucket.send(place, stream, size, sha256, ABSENT)
        except ConditionFailed:
            with self.open(place) as stream:
                if streams.digest(stream) != sha256:
                    raise self._bucket.taken(place) from None

    def _probe_resumable(self, key: PurePosixPath) -> None:
        blob = self._bucket.blob(key)
        blob.chunk_size = CHUNK_BYTES
        body = bytes(CHUNK_BYTES + 1)  # the library sends smaller ones in one request
        try:
            with self._bucket.answered(key), streams.opened(body) as (stream, size):
                blob.upload_from_file(stream, size=size, if_generation_match=ABSENT, timeout=TIMEOUT_S, retry=None)
        except ConditionFailed:
            return
        raise probe.refused(self, "replaces an object by a resumable upload (it ignores if_generation_match there)")
