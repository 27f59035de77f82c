"""Objects that come to S3 in parts: bytes from here, or copied by the server; completed as one, on condition."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from threading import BoundedSemaphore
from typing import Any, BinaryIO, Final

from orchestrator.errors import OutcomeUnknown, RepositoryError
from orchestrator.repositories import streams
from orchestrator.repositories.s3_bucket import Bucket, sha256_base64

PART_BYTES: Final = 8 << 20
_MAX_PARTS: Final = 10_000  # the limit of S3
_THREADS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialUpload:
    """An object that nobody sees before it is completed."""

    bucket: Bucket
    key: PurePosixPath
    upload_id: str

    @property
    def place(self) -> dict[str, str]:
        return {**self.bucket.place(self.key), "UploadId": self.upload_id}

    def complete(self, parts: Sequence[Mapping[str, Any]], **condition: str) -> None:
        with self.bucket.answered(self.key):
            self.bucket.client.complete_multipart_upload(
                **self.place, MultipartUpload={"Parts": list(parts)}, **condition
            )

    def abort(self) -> None:
        with contextlib.suppress(RepositoryError), self.bucket.answered(self.key):
            self.bucket.client.abort_multipart_upload(**self.place)


@contextlib.contextmanager
def begun(bucket: Bucket, key: PurePosixPath, sha256: str) -> Iterator[PartialUpload]:
    """Begin an upload, and end it when the block fails."""
    with bucket.answered(key):
        answer = bucket.client.create_multipart_upload(
            **bucket.place(key), ChecksumAlgorithm="SHA256", Metadata={"sha256": sha256}
        )
    upload = PartialUpload(bucket=bucket, key=key, upload_id=str(answer["UploadId"]))
    try:
        yield upload
    except BaseException:
        upload.abort()
        raise


def send_parts(
    bucket: Bucket, key: PurePosixPath, stream: BinaryIO, size: int, sha256: str, *, buffers: BoundedSemaphore,
    **condition: str,
) -> None:  # fmt: skip
    """Send parts side by side, each with its SHA-256, and complete them only if the whole has the promised one.

    `buffers` bounds what is in memory at once.
    """
    with begun(bucket, key, sha256) as upload:
        whole = hashlib.sha256()
        part_bytes = max(PART_BYTES, -(-size // _MAX_PARTS))
        sent = []
        with ThreadPoolExecutor(_THREADS) as pool:
            for number in range(1, -(-size // part_bytes) + 1):
                buffers.acquire()
                try:
                    chunk = stream.read(part_bytes)
                    sent.append(pool.submit(_send_part, upload, number, chunk, buffers))
                except BaseException:
                    buffers.release()
                    raise
                whole.update(chunk)
                del chunk
            parts = [one.result() for one in sent]
        streams.require(whole.hexdigest(), sha256, bucket.shown(key))
        upload.complete(parts, **condition)
    _require_size(bucket, key, size)


def _send_part(upload: PartialUpload, number: int, chunk: bytes, buffers: BoundedSemaphore) -> dict[str, Any]:
    try:
        checksum = sha256_base64(hashlib.sha256(chunk).hexdigest())
        with upload.bucket.answered(upload.key):
            answer = upload.bucket.client.upload_part(
                **upload.place, PartNumber=number, Body=chunk, ChecksumAlgorithm="SHA256", ChecksumSHA256=checksum
            )
    finally:
        buffers.release()
    return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}


def _require_size(bucket: Bucket, key: PurePosixPath, size: int) -> None:
    with bucket.answered(key):
        found = bucket.client.head_object(**bucket.place(key))["ContentLength"]
    if found != size:
        raise RepositoryError(
            f"{bucket.shown(key)} has {found} bytes, and {size} were sent",
            next_step="the server lost some: find out why before anything is published there",
        )


# --- copied by the server --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def copied(
    bucket: Bucket, source: PurePosixPath, key: PurePosixPath, sha256: str
) -> Iterator[tuple[PartialUpload, Sequence[Mapping[str, Any]]]]:
    """Let the server copy an object into the one part of an upload, and give both, to be completed in the block.

    CopyObject would take one request, but servers ignore conditions on its target. The SHA-256 of a single part is
    that of the whole: the server tells it of what it copied, and it must be the promised one. Up to 5 GiB.
    """
    with begun(bucket, key, sha256) as upload:
        with bucket.answered(source):
            answer = bucket.client.upload_part_copy(
                **upload.place, PartNumber=1, CopySource={"Bucket": bucket.name, "Key": bucket.key(source)}
            )
        part = answer.get("CopyPartResult", {})
        if "ETag" not in part:
            raise OutcomeUnknown(f"the answer for {bucket.shown(source)} came without an ETag", next_step="run again")
        found = copied_sha256(answer)
        if found != sha256_base64(sha256):
            raise RepositoryError(
                f"{bucket.shown(source)} was copied with the SHA-256 {found or 'untold'} (base64), and "
                f"{sha256_base64(sha256)} was promised",
                next_step="something changed it meanwhile: find out what wrote there, then run `relbuild recover`",
            )
        yield upload, [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": found}]


def copied_sha256(answer: Mapping[str, Any]) -> str:
    """Read the SHA-256 off the answer to UploadPartCopy: Amazon writes it in the body, Ceph in a header."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(answer.get("CopyPartResult", {}).get("ChecksumSHA256") or headers.get("x-amz-checksum-sha256") or "")
