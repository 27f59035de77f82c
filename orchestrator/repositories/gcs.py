"""A repository in a bucket of Google Cloud Storage: created and committed by generation, checked by our own SHA-256.

The service checks MD5 and CRC32C only, so the SHA-256 of what is sent is taken here and kept as metadata, and what
the service says that it stored is held against MD5 (small objects) or CRC32C (large ones, by the client library).
"""

import base64
import contextlib
import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

import requests
from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage  # type: ignore[import-untyped]  # carries no types

from builders.names import escaped, shown_url
from orchestrator.errors import KeyMissing, KeyTaken, OutcomeUnknown, PointerMoved, RepositoryError
from orchestrator.repositories import probe, streams
from orchestrator.repositories.interface import Entry, Pointer, PointerToken, Upload
from orchestrator.repositories.keys import PROBE, check_key, check_replaceable, check_staging

_THREADS: Final = 8
_TIMEOUT_S: Final = 60
_CHUNK_BYTES: Final = 8 << 20
_LAST_KEYS: Final = 2
_ABSENT: Final = 0  # if_generation_match=0: only where there is no object
_LOST: Final = (
    exceptions.ServerError, exceptions.TooManyRequests, exceptions.Conflict, exceptions.RetryError,
    requests.exceptions.ConnectionError, requests.exceptions.Timeout, requests.exceptions.ChunkedEncodingError,
    storage.exceptions.DataCorruption, auth_exceptions.TransportError,
)  # fmt: skip


class GcsRepository:
    """A bucket, or what lies below a prefix of one. `endpoint` is for servers other than Google's."""

    def __init__(
        self, bucket: str, *, prefix: str = "", endpoint: str = "", connect: Callable[[], Any] | None = None
    ) -> None:
        self._bucket_name = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint = endpoint
        self._connect = connect or partial(_client, endpoint)
        self._connected: Any = None
        self._connecting = threading.Lock()

    @property
    def location(self) -> str:
        place = f"gs://{self._bucket_name}/{self._prefix}".rstrip("/")
        return f"{place} at {shown_url(self._endpoint)}" if self._endpoint else place

    def probe(self) -> None:
        """Refuse a server that ignores generations, on simple or on resumable uploads."""
        area = PurePosixPath(f"{PROBE}{secrets.token_hex(8)}")
        try:
            probe.race(self, area)
            self._probe_resumable(area / "twice")
        finally:
            self.delete(area)

    # --- writing ----------------------------------------------------------------------------------------------------

    def put_new(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        self._put_checked(check_key(key), body, sha256, _ABSENT)

    def put(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        self._put_checked(check_replaceable(key), body, sha256, None)

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
        blob = self._blob(check_key(key))
        blob.cache_control = "no-store"
        try:
            with self._answered(key):
                self._send_bytes(blob, body, _ABSENT if expected is None else int(expected))
        except (_ConditionFailed, KeyMissing):
            raise PointerMoved(
                f"{self._shown(key)} was changed by somebody else", next_step="read it again, then try again"
            ) from None
        return PointerToken(str(blob.generation))

    def delete(self, prefix: PurePosixPath) -> None:
        keys = [entry.key for entry in self.list(check_staging(prefix))]
        streams.side_by_side([partial(self._delete_one, key) for key in keys], _THREADS)

    # --- reading ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def open(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        with self._answered(check_key(key)):
            # A generation is one content for ever: pieces that are read one after the other belong together.
            blob = self._bucket.get_blob(self._key(key), timeout=_TIMEOUT_S, retry=None)
            if blob is None:
                raise self._missing(key)
            reader = blob.open("rb", chunk_size=_CHUNK_BYTES, if_generation_match=blob.generation, retry=None)
        with contextlib.closing(reader):
            bounded = streams.Bounded(reader.read, blob.size)
            yield streams.translated(bounded.read, lambda: self._answered(key))

    def read_pointer(self, key: PurePosixPath) -> Pointer | None:
        with self._answered(check_key(key)):
            blob = self._bucket.get_blob(self._key(key), timeout=_TIMEOUT_S, retry=None)
            if blob is None:
                return None
            # Replaced between the two requests: the first one's generation is gone, and the caller asks again.
            try:
                body = blob.download_as_bytes(if_generation_match=blob.generation, timeout=_TIMEOUT_S, retry=None)
            except (exceptions.NotFound, exceptions.PreconditionFailed):
                raise OutcomeUnknown(f"{self._shown(key)} was replaced while it was read") from None
        return Pointer(body=body, token=PointerToken(str(blob.generation)))

    def list(self, prefix: PurePosixPath) -> Iterator[Entry]:
        start = f"{self._key(prefix)}/" if prefix.parts else self._prefix
        for blob in self._listed(prefix, prefix=start):
            yield Entry(key=PurePosixPath(blob.name.removeprefix(self._prefix)), size_bytes=blob.size)

    def names(self, start: str) -> Iterator[str]:
        found: set[str] = set()
        with self._answered(PurePosixPath()):
            answer = self._bucket.list_blobs(prefix=self._prefix + start, delimiter="/", timeout=_TIMEOUT_S, retry=None)
            for page in answer.pages:
                found |= {blob.name for blob in page}
            found |= {name.rstrip("/") for name in answer.prefixes}
        yield from sorted(name.removeprefix(self._prefix) for name in found)

    def alone(self, name: str, *, timeout_s: float) -> contextlib.AbstractContextManager[None]:
        del name, timeout_s  # a bucket has no locks; the pointer's generation is what decides
        return contextlib.nullcontext()

    def staging_is_alive(self, staging: PurePosixPath) -> bool | None:
        check_staging(staging)
        return None

    # --- how --------------------------------------------------------------------------------------------------------

    @property
    def _bucket(self) -> Any:
        with self._connecting:
            if self._connected is None:
                with self._answered(PurePosixPath()):
                    self._connected = self._connect().bucket(self._bucket_name)
            return self._connected

    def _blob(self, key: PurePosixPath) -> Any:
        return self._bucket.blob(self._key(key))

    def _key(self, key: PurePosixPath) -> str:
        return f"{self._prefix}{key.as_posix()}"

    def _shown(self, key: PurePosixPath) -> str:
        return escaped(f"gs://{self._bucket_name}/{self._key(key) if key.parts else self._prefix}")

    def _answered(self, key: PurePosixPath) -> contextlib.AbstractContextManager[None]:
        return _answered(self._shown(key))

    def _listed(self, key: PurePosixPath, **asked: str) -> Iterator[Any]:
        pages = iter(self._bucket.list_blobs(**asked, timeout=_TIMEOUT_S, retry=None).pages)
        while True:
            with self._answered(key):
                page = next(pages, None)
            if page is None:
                return
            yield from page

    def _put_checked(self, key: PurePosixPath, body: bytes | Path, sha256: str, generation: int | None) -> None:
        try:
            with self._answered(key), streams.opened(body) as (stream, size):
                streams.require(streams.digest(stream), sha256, self._shown(key))
                stream.seek(0)
                self._send(key, stream, size, sha256, generation)
        except _ConditionFailed:
            raise self._taken(key) from None

    def _send(self, key: PurePosixPath, stream: BinaryIO, size: int, sha256: str, generation: int | None) -> None:
        """Send a stream; a file that changed since its SHA-256 was taken is refused before it counts."""
        blob = self._blob(key)
        blob.metadata = {"sha256": sha256}
        if size <= _CHUNK_BYTES:
            body = stream.read(_CHUNK_BYTES + 1)
            streams.require(hashlib.sha256(body).hexdigest(), sha256, self._shown(key))
            self._send_bytes(blob, body, generation)
            return
        blob.chunk_size = _CHUNK_BYTES
        blob.upload_from_file(
            streams.Checked(stream, size, sha256, self._shown(key)), size=size, if_generation_match=generation,
            timeout=_TIMEOUT_S, checksum="crc32c", retry=None,
        )  # fmt: skip

    def _send_bytes(self, blob: Any, body: bytes, generation: int | None) -> None:
        blob.upload_from_string(
            body, content_type="application/octet-stream", if_generation_match=generation, timeout=_TIMEOUT_S,
            checksum="md5", retry=None,
        )  # fmt: skip
        sent = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode("ascii")
        # Real servers refuse other bytes than those of the MD5 that came with them; this also holds others to it.
        if blob.md5_hash != sent:
            raise RepositoryError(
                f"{escaped(blob.name)} was stored with other bytes than were sent", next_step="check the network path"
            )

    def _move_one(self, staged: PurePosixPath, place: PurePosixPath) -> None:
        sha256, size = self._promised(staged)
        try:
            with self.open(staged) as stream, self._answered(place):
                self._send(place, stream, size, sha256, _ABSENT)
        except _ConditionFailed:
            with self.open(place) as stream:
                if streams.digest(stream) != sha256:
                    raise self._taken(place) from None

    def _promised(self, staged: PurePosixPath) -> tuple[str, int]:
        """Give the SHA-256 and the size that an object was staged with: what comes back is held against them."""
        with self._answered(staged):
            blob = self._bucket.get_blob(self._key(staged), timeout=_TIMEOUT_S, retry=None)
        if blob is None:
            raise self._missing(staged)
        if found := (blob.metadata or {}).get("sha256"):
            return str(found), int(blob.size)
        raise RepositoryError(f"{self._shown(staged)} was staged without its SHA-256", next_step="stage it again")

    def _delete_one(self, key: PurePosixPath) -> None:
        with contextlib.suppress(KeyMissing), self._answered(key):
            self._blob(key).delete(timeout=_TIMEOUT_S, retry=None)

    def _probe_resumable(self, key: PurePosixPath) -> None:
        blob = self._blob(key)
        blob.chunk_size = _CHUNK_BYTES
        body = bytes(_CHUNK_BYTES + 1)  # the library sends smaller ones in one request
        try:
            with self._answered(key), streams.opened(body) as (stream, size):
                blob.upload_from_file(stream, size=size, if_generation_match=_ABSENT, timeout=_TIMEOUT_S, retry=None)
        except _ConditionFailed:
            return
        raise probe.refused(self, "replaces an object by a resumable upload (it ignores if_generation_match there)")

    def _taken(self, key: PurePosixPath) -> KeyTaken:
        return KeyTaken(f"{self._shown(key)} is there already", next_step="choose another version: nothing is replaced")

    def _missing(self, key: PurePosixPath) -> KeyMissing:
        return KeyMissing(f"{self._shown(key)} is not there", next_step="check the version, the bucket and the prefix")


class _ConditionFailed(RepositoryError):
    """The object is not in the state that the write was for."""


_REFUSED: Final[Mapping[int, str]] = {
    401: "check the credentials in the environment",
    403: "allow this account to get, create and list objects there, and to delete below `.staging-`",
    404: "make the bucket, or name another",
}


@contextlib.contextmanager
def _answered(what: str) -> Iterator[None]:
    """Turn the library's errors into ours; texts carry codes and keys only."""
    try:
        yield
    except exceptions.PreconditionFailed:
        raise _ConditionFailed(f"{what} is not in the state that the write was for") from None
    except exceptions.NotFound:
        raise KeyMissing(f"{what} is not there", next_step=_REFUSED[404]) from None
    except _LOST as error:
        raise OutcomeUnknown(
            f"the answer for {what} was lost ({type(error).__name__})",
            next_step="check the network and the server, then run again: `relbuild recover` finishes what was claimed",
        ) from None
    except exceptions.GoogleAPICallError as error:
        raise RepositoryError(
            f"{what}: the server answered {error.code}", next_step=_REFUSED.get(error.code or 0, "look the code up")
        ) from None
    except (auth_exceptions.GoogleAuthError, requests.exceptions.RequestException) as error:
        raise RepositoryError(
            f"{what} cannot be asked ({type(error).__name__})", next_step="check the credentials in the environment"
        ) from None


def _client(endpoint: str) -> Any:
    if not endpoint:
        return storage.Client()
    return storage.Client(
        project="relbuild",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # it has no types
        client_options={"api_endpoint": endpoint},
    )
