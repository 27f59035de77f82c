"""Large objects, sent to S3 in parts: a SHA-256 for each, several at once, and a bounded number of them in memory."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any, BinaryIO, Final

PART_BYTES: Final = 8 << 20
_MAX_PARTS: Final = 10_000  # the limit of S3
_THREADS: Final = 4


def send_parts(
    client: Any, upload: Mapping[str, str], stream: BinaryIO, size: int, *, hashed: Callable[[bytes], None],
    buffers: BoundedSemaphore,
) -> list[dict[str, Any]]:  # fmt: skip
    """Send a stream as the parts of an upload, and give what completes it. `buffers` bounds what is in memory."""
    part_bytes = max(PART_BYTES, -(-size // _MAX_PARTS))
    sent = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for number in range(1, -(-size // part_bytes) + 1):
            buffers.acquire()
            try:
                chunk = stream.read(part_bytes)
                hashed(chunk)
                sent.append(pool.submit(_send_part, client, upload, number, chunk, buffers))
            except BaseException:
                buffers.release()
                raise
            del chunk
        return [one.result() for one in sent]


def sha256_base64(body: bytes) -> str:
    """Give a SHA-256 as S3 writes it."""
    return base64.b64encode(hashlib.sha256(body).digest()).decode("ascii")


def _send_part(
    client: Any, upload: Mapping[str, str], number: int, chunk: bytes, buffers: BoundedSemaphore
) -> dict[str, Any]:
    checksum = sha256_base64(chunk)
    try:
        answer = client.upload_part(
            **upload, PartNumber=number, Body=chunk, ChecksumAlgorithm="SHA256", ChecksumSHA256=checksum
        )
    finally:
        buffers.release()
    return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}
