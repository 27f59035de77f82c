"""A repository in a bucket that speaks S3: created by If-None-Match, committed by If-Match, checked by SHA-256.

boto3 never tries again by itself here: after a lost answer only the caller knows what "there already" means.
CopyObject is not used, because servers ignore conditions on its target: bytes are moved through this program.
"""

import contextlib
import hashlib
import io
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from builders.names import escaped, shown_url
from orchestrator.errors import KeyMissing, KeyTaken, OutcomeUnknown, PointerMoved, RepositoryError
from orchestrator.repositories import probe, streams
from orchestrator.repositories.interface import Entry, Pointer, PointerToken, Upload
from orchestrator.repositories.keys import PROBE, check_key, check_replaceable, check_staging
from orchestrator.repositories.s3_client import THREADS, client
from orchestrator.repositories.s3_errors import ConditionFailed, answered
from orchestrator.repositories.s3_parts import PART_BYTES, send_parts, sha256_base64

_DELETE_BATCH: Final = 1000
_LAST_KEYS: Final = 2
_CREATE: Final[Mapping[str, str]] = {"IfNoneMatch": "*"}


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
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint = endpoint
        self._connect = connect or (lambda: client(endpoint, region))
        self._connected: Any = None
        self._connecting = threading.Lock()
        # What is in memory at once, however many threads there are.
        self._buffers = threading.BoundedSemaphore(THREADS)

    @property
    def location(self) -> str:
        place = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        return f"{place} at {shown_url(self._endpoint)}" if self._endpoint else place

    def probe(self) -> None:
        """Refuse a server that ignores conditions, on whole objects or on those in parts, or checksums."""
        area = PurePosixPath(f"{PROBE}{secrets.token_hex(8)}")
        try:
            probe.race(self, area)
            self._probe_parts(area / "twice")
            self._probe_checksum(area / "wrong")
        finally:
            self.delete(area)

    # --- writing ----------------------------------------------------------------------------------------------------

    def put_new(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        self._put_checked(check_key(key), body, sha256, _CREATE)

    def put(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        self._put_checked(check_replaceable(key), body, sha256, {})

    def put_all(self, uploads: Sequence[Upload]) -> None:
        for upload in uploads:
            check_replaceable(upload.key)
        streams.side_by_side([partial(self.put, one.key, one.body, one.sha256) for one in uploads], THREADS)

    def move_new(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        """Create each object from its staged bytes: side by side, then the last two of the keys one by one."""
        pairs = [(check_key(staged / key), check_key(place / key)) for key in keys]
        streams.side_by_side([partial(self._move_one, *pair) for pair in pairs[:-_LAST_KEYS]], THREADS)
        for pair in pairs[-_LAST_KEYS:]:
            self._move_one(*pair)

    def swap_pointer(self, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken:
        condition = _CREATE if expected is None else {"IfMatch": expected}
        try:
            with self._answered(key):
                return PointerToken(self._put_bytes(check_key(key), body, {**condition, "CacheControl": "no-store"}))
        except (ConditionFailed, KeyMissing):
            raise PointerMoved(
                f"{self._shown(key)} was changed by somebody else", next_step="read it again, then try again"
            ) from None

    def delete(self, prefix: PurePosixPath) -> None:
        """Remove a staging area, and uploads into it that were never completed."""
        keys = [entry.key for entry in self.list(check_staging(prefix))]
        for start in range(0, len(keys), _DELETE_BATCH):
            objects = [{"Key": self._key(key)} for key in keys[start : start + _DELETE_BATCH]]
            with self._answered(prefix):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
            if errors := answer.get("Errors"):
                raise RepositoryError(
                    f"{self._shown(prefix)} was not removed: {len(errors)} of {len(objects)} objects are left, "
                    f"the first for {escaped(str(errors[0].get('Code', 'no reason')))}",
                    next_step="allow this user to delete below `.staging-`, then run `relbuild recover`",
                )
        self._abort_uploads(prefix)

    # --- reading ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def open(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        with self._got(check_key(key)) as (stream, _):
            yield stream

    def read_pointer(self, key: PurePosixPath) -> Pointer | None:
        try:
            with self._answered(check_key(key)):
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
                with contextlib.closing(answer["Body"]) as body:
                    return Pointer(body=body.read(), token=PointerToken(self._etag(key, answer)))
        except KeyMissing:
            return None

    def list(self, prefix: PurePosixPath) -> Iterator[Entry]:
        start = f"{self._key(prefix)}/" if prefix.parts else self._prefix
        for page in self._pages("list_objects_v2", prefix, Prefix=start):
            for found in page.get("Contents", ()):
                key = found["Key"].removeprefix(self._prefix)
                yield Entry(key=PurePosixPath(key), size_bytes=found["Size"])

    def names(self, start: str) -> Iterator[str]:
        found = set()
        for page in self._pages("list_objects_v2", PurePosixPath(), Prefix=self._prefix + start, Delimiter="/"):
            found |= {one["Key"] for one in page.get("Contents", ())}
            found |= {one["Prefix"].rstrip("/") for one in page.get("CommonPrefixes", ())}
        yield from sorted(name.removeprefix(self._prefix) for name in found)

    def alone(self, name: str, *, timeout_s: float) -> contextlib.AbstractContextManager[None]:
        del name, timeout_s  # a bucket has no locks; If-Match on the pointer is what decides
        return contextlib.nullcontext()

    def staging_is_alive(self, staging: PurePosixPath) -> bool | None:
        check_staging(staging)
        return None

    # --- how --------------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        with self._connecting:
            if self._connected is None:
                with answered(f"s3://{self._bucket}"):
                    self._connected = self._connect()
            return self._connected

    def _key(self, key: PurePosixPath) -> str:
        return f"{self._prefix}{key.as_posix()}"

    def _shown(self, key: PurePosixPath) -> str:
        return escaped(f"s3://{self._bucket}/{self._key(key) if key.parts else self._prefix}")

    def _answered(self, key: PurePosixPath) -> contextlib.AbstractContextManager[None]:
        return answered(self._shown(key))

    def _pages(self, call: str, key: PurePosixPath, **asked: str) -> Iterator[Mapping[str, Any]]:
        pages = iter(self._client.get_paginator(call).paginate(Bucket=self._bucket, **asked))
        while True:
            with self._answered(key):
                page = next(pages, None)
            if page is None:
                return
            yield page

    @contextlib.contextmanager
    def _got(self, key: PurePosixPath) -> Iterator[tuple[BinaryIO, Mapping[str, Any]]]:
        with self._answered(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
        with contextlib.closing(answer["Body"]) as body:
            yield streams.translated(body.read, lambda: self._answered(key)), answer

    def _put_checked(self, key: PurePosixPath, body: bytes | Path, sha256: str, condition: Mapping[str, str]) -> None:
        try:
            with self._answered(key), streams.opened(body) as (stream, size):
                self._send(key, stream, size, sha256, condition)
        except ConditionFailed:
            raise self._taken(key) from None

    def _send(
        self, key: PurePosixPath, stream: BinaryIO, size: int, sha256: str | None, condition: Mapping[str, str]
    ) -> None:
        if size > PART_BYTES:
            self._send_parts(key, stream, size, sha256, condition)
            return
        with self._buffers:
            body = stream.read(PART_BYTES + 1)
            streams.require(hashlib.sha256(body).hexdigest(), sha256, self._shown(key))
            self._put_bytes(key, body, condition)

    def _put_bytes(self, key: PurePosixPath, body: bytes, condition: Mapping[str, str]) -> str:
        answer = self._client.put_object(
            Bucket=self._bucket, Key=self._key(key), Body=body,
            ChecksumAlgorithm="SHA256", ChecksumSHA256=sha256_base64(body),
            Metadata={"sha256": hashlib.sha256(body).hexdigest()}, **condition,
        )  # fmt: skip
        return self._etag(key, answer)

    def _etag(self, key: PurePosixPath, answer: Mapping[str, Any]) -> str:
        if found := answer.get("ETag"):
            return str(found)
        raise OutcomeUnknown(f"the answer for {self._shown(key)} came without an ETag", next_step="run again")

    def _send_parts(
        self, key: PurePosixPath, stream: BinaryIO, size: int, sha256: str | None, condition: Mapping[str, str]
    ) -> None:
        """Send parts with a checksum each, side by side, and complete them only if the whole is what was promised."""
        place = {"Bucket": self._bucket, "Key": self._key(key)}
        upload = self._client.create_multipart_upload(
            **place, ChecksumAlgorithm="SHA256", Metadata={"sha256": sha256} if sha256 else {}
        )["UploadId"]
        try:
            whole = hashlib.sha256()
            parts = send_parts(
                self._client, {**place, "UploadId": upload}, stream, size, hashed=whole.update, buffers=self._buffers
            )
            streams.require(whole.hexdigest(), sha256, self._shown(key))
            self._client.complete_multipart_upload(
                **place, UploadId=upload, MultipartUpload={"Parts": parts}, **condition
            )
        except BaseException:
            with contextlib.suppress(Exception):
                self._client.abort_multipart_upload(**place, UploadId=upload)
            raise
        self._require_size(key, size)

    def _require_size(self, key: PurePosixPath, size: int) -> None:
        found = self._client.head_object(Bucket=self._bucket, Key=self._key(key))["ContentLength"]
        if found != size:
            raise RepositoryError(f"{self._shown(key)} has {found} bytes, and {size} were sent")

    def _move_one(self, staged: PurePosixPath, place: PurePosixPath) -> None:
        """Create one object from its staged bytes; one that is there already must have the same."""
        try:
            with self._got(staged) as (stream, answer), self._answered(place):
                self._send(place, stream, answer["ContentLength"], self._promised(staged, answer), _CREATE)
        except ConditionFailed:
            if self._digest(staged) != self._digest(place):
                raise self._taken(place) from None

    def _abort_uploads(self, prefix: PurePosixPath) -> None:
        # Some servers cannot list uploads; what is left then is invisible and costs only space.
        with contextlib.suppress(RepositoryError, KeyError):
            for page in self._pages("list_multipart_uploads", prefix, Prefix=f"{self._key(prefix)}/"):
                for found in page.get("Uploads", ()):
                    with self._answered(prefix):
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=found["Key"], UploadId=found["UploadId"]
                        )

    def _probe_parts(self, key: PurePosixPath) -> None:
        body = b"parts"
        try:
            with self._answered(key):
                self._send_parts(key, io.BytesIO(body), len(body), None, _CREATE)
        except ConditionFailed:
            return
        raise probe.refused(self, "replaces an object by an upload in parts (it ignores If-None-Match there)")

    def _probe_checksum(self, key: PurePosixPath) -> None:
        try:
            with self._answered(key):
                self._client.put_object(
                    Bucket=self._bucket, Key=self._key(key), Body=b"these bytes",
                    ChecksumAlgorithm="SHA256", ChecksumSHA256=sha256_base64(b"other bytes"),
                )  # fmt: skip
        except (OutcomeUnknown, RepositoryError):
            return
        raise probe.refused(self, "takes bytes that are not those of their SHA-256")

    def _promised(self, staged: PurePosixPath, answer: Mapping[str, Any]) -> str:
        """Give the SHA-256 that an object was staged with: what came back must be held against it."""
        if found := answer.get("Metadata", {}).get("sha256"):
            return str(found)
        # Some servers, or proxies before them, send an error with status 200 in the place of the object.
        raise OutcomeUnknown(f"{self._shown(staged)} came without its SHA-256", next_step="run again")

    def _digest(self, key: PurePosixPath) -> str:
        with self.open(key) as stream:
            return streams.digest(stream)

    def _taken(self, key: PurePosixPath) -> KeyTaken:
        return KeyTaken(f"{self._shown(key)} is there already", next_step="choose another version: nothing is replaced")
