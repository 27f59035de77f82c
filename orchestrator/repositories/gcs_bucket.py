"""What is asked of a bucket of Google Cloud Storage about the keys below a prefix; every answer is translated.

The service checks MD5 and CRC32C only, so the SHA-256 of what is sent is taken here and kept as metadata, and what
the service says that it stored is held against MD5 (small objects) or CRC32C (large ones, by the client library).
"""

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final

from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage  # type: ignore[import-untyped]  # carries no types

from orchestrator.errors import KeyMissing, OutcomeUnknown, RepositoryError
from orchestrator.repositories import streams
from orchestrator.repositories.gcs_errors import answered
from orchestrator.repositories.gcs_pace import pace_session
from orchestrator.repositories.slow_answers import USUAL, Pace
from orchestrator.repositories.store_bucket import StoreBucket

TIMEOUT_S: Final = 60
CHUNK_BYTES: Final = 8 << 20
ABSENT: Final = 0  # if_generation_match=0: only where there is no object


class GcsBucket(StoreBucket):
    """A bucket, or what lies below a prefix of one; the client is made when it is first needed."""

    def __init__(self, name: str, prefix: str, endpoint: str, connect: Callable[[], Any]) -> None:
        super().__init__("gs", name, prefix, endpoint, connect=lambda: connect().bucket(name), answered=answered)

    @property
    def bucket(self) -> Any:
        return self.connected

    def blob(self, key: PurePosixPath) -> Any:
        return self.bucket.blob(self.key(key))

    def names(self, start: str) -> set[str]:
        """Give the first segments of all keys that begin with `start`."""
        with self.answered(PurePosixPath()):
            answer = self.bucket.list_blobs(prefix=self.prefix + start, delimiter="/", timeout=TIMEOUT_S, retry=None)
            found = {blob.name for page in answer.pages for blob in page}
            found |= {name.rstrip("/") for name in answer.prefixes}
        return {name.removeprefix(self.prefix) for name in found}

    # --- objects ----------------------------------------------------------------------------------------------------

    def listed(self, key: PurePosixPath, **asked: str) -> Iterator[Any]:
        """Give what a listing finds; `key` is for errors."""
        pages = iter(self.bucket.list_blobs(**asked, timeout=TIMEOUT_S, retry=None).pages)
        while True:
            with self.answered(key):
                page = next(pages, None)
            if page is None:
                return
            yield from page

    @contextlib.contextmanager
    def opened(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        """Give an object's bytes as a stream. Raises KeyMissing."""
        blob = self.found(key)
        with self.answered(key):
            # A generation is one content for ever: pieces that are read one after the other belong together.
            reader = blob.open("rb", chunk_size=CHUNK_BYTES, if_generation_match=blob.generation, retry=None)
        with contextlib.closing(reader):
            bounded = streams.Bounded(reader.read, blob.size)
            yield streams.translated(bounded.read, lambda: self.answered(key))

    def read(self, key: PurePosixPath) -> tuple[bytes, str]:
        """Give a small object whole, and its generation. Raises KeyMissing."""
        blob = self.found(key)
        with self.answered(key):
            # Replaced between the two requests: the first one's generation is gone, and the caller asks again.
            try:
                body = blob.download_as_bytes(if_generation_match=blob.generation, timeout=TIMEOUT_S, retry=None)
            except (exceptions.NotFound, exceptions.PreconditionFailed):
                raise OutcomeUnknown(
                    f"{self.shown(key)} was replaced while it was read", next_step="run again"
                ) from None
        return body, str(blob.generation)

    def found(self, key: PurePosixPath) -> Any:
        """Ask what the server tells about an object. Raises KeyMissing."""
        with self.answered(key):
            blob = self.bucket.get_blob(self.key(key), timeout=TIMEOUT_S, retry=None)
        if blob is None:
            raise KeyMissing(
                f"{self.shown(key)} is not there", next_step="check the version, the bucket and the prefix"
            )
        return blob

    def send(self, key: PurePosixPath, stream: BinaryIO, size: int, sha256: str, generation: int | None) -> None:
        """Send a stream; a file that changed since its SHA-256 was taken is refused before it counts."""
        blob = self.blob(key)
        blob.metadata = {"sha256": sha256}
        if size <= CHUNK_BYTES:
            body = stream.read(CHUNK_BYTES + 1)
            streams.require(hashlib.sha256(body).hexdigest(), sha256, self.shown(key))
            self.send_bytes(key, blob, body, generation)
            return
        blob.chunk_size = CHUNK_BYTES
        blob.upload_from_file(
            streams.Checked(stream, size, sha256, self.shown(key)), size=size, if_generation_match=generation,
            timeout=TIMEOUT_S, checksum="crc32c", retry=None,
        )  # fmt: skip

    def send_bytes(self, key: PurePosixPath, blob: Any, body: bytes, generation: int | None) -> None:
        """Send a small object in one request, and hold what was stored to its MD5."""
        blob.upload_from_string(
            body, content_type="application/octet-stream", if_generation_match=generation, timeout=TIMEOUT_S,
            checksum="md5", retry=None,
        )  # fmt: skip
        sent = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode("ascii")
        # Real servers refuse other bytes than those of the MD5 that came with them; this also holds others to it.
        if blob.md5_hash != sent:
            raise RepositoryError(
                f"{self.shown(key)} was stored with other bytes than were sent",
                next_step="look for a proxy that changes what passes it, and for the server's own log",
            )

    def promised(self, staged: PurePosixPath) -> tuple[str, int]:
        """Give the SHA-256 and the size that an object was staged with: what comes back is held against them."""
        blob = self.found(staged)
        if found := (blob.metadata or {}).get("sha256"):
            return str(found), int(blob.size)
        raise RepositoryError(f"{self.shown(staged)} was staged without its SHA-256", next_step="stage it again")

    def delete(self, key: PurePosixPath) -> None:
        """Remove an object; one that is gone already is fine."""
        with contextlib.suppress(KeyMissing), self.answered(key):
            self.blob(key).delete(timeout=TIMEOUT_S, retry=None)


def client(endpoint: str, pace: Pace = USUAL) -> Any:
    """Give a client; credentials come from the environment, and servers other than Google's are asked without."""
    made = _client_of(endpoint)
    pace_session(made._http, pace)  # noqa: SLF001  (the client has no other way to its session)
    return made


def _client_of(endpoint: str) -> Any:
    if not endpoint:
        return storage.Client()
    return storage.Client(
        project="relbuild",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # it has no types
        client_options={"api_endpoint": endpoint},
    )
