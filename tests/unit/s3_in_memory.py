"""A bucket that speaks S3, in memory: what a client of botocore answers, with switches to break one promise each."""
# ruff: noqa: N803 - the names of arguments are S3's own

import base64
import hashlib
import io
import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # botocore carries no types

_STATUS: Final = {"PreconditionFailed": 412, "NoSuchKey": 404, "NoSuchUpload": 404, "BadDigest": 400}


@dataclass
class Object:
    body: bytes
    metadata: Mapping[str, str]

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'


@dataclass
class Begun:
    key: str
    metadata: Mapping[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class MemoryS3:
    """One bucket. Whole objects are always created on condition; the switches are about objects in parts."""

    completes_anyway: bool = False
    """Ignores If-None-Match when an upload is completed."""
    completes_in_two_steps: bool = False
    """Looks first and writes later, so that two at the same instant both win."""
    tells_no_checksum: bool = False
    copies_wrongly: bool = False
    lists_no_uploads: bool = False
    objects: dict[str, Object] = field(default_factory=dict)
    uploads: dict[str, Begun] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def count(self, call: str, *, below: str) -> int:
        """Tell how often a call was made for keys that begin so."""
        return sum(name == call and key.startswith(below) for name, key in self.calls)

    # --- objects ----------------------------------------------------------------------------------------------------

    def put_object(
        self, *, Bucket: str, Key: str, Body: bytes, ChecksumSHA256: str, Metadata: Mapping[str, str],
        IfNoneMatch: str = "", IfMatch: str = "", **_: str,
    ) -> dict[str, Any]:  # fmt: skip
        del Bucket
        self.calls.append(("put_object", Key))
        with self.lock:
            there = self.objects.get(Key)
            if (IfNoneMatch and there) or (IfMatch and (there is None or there.etag != IfMatch)):
                raise refused("PreconditionFailed")
            if checksum(Body) != ChecksumSHA256:
                raise refused("BadDigest")
            self.objects[Key] = Object(Body, dict(Metadata))
            return {"ETag": self.objects[Key].etag}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self.calls.append(("get_object", Key))
        return {**self.head_object(Bucket=Bucket, Key=Key), "Body": io.BytesIO(self.objects[Key].body)}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        del Bucket
        if Key not in self.objects:
            raise refused("NoSuchKey")
        found = self.objects[Key]
        return {"ETag": found.etag, "ContentLength": len(found.body), "Metadata": dict(found.metadata)}

    def delete_objects(self, *, Bucket: str, Delete: Mapping[str, Any], ChecksumAlgorithm: str) -> dict[str, Any]:
        del Bucket, ChecksumAlgorithm
        for one in Delete["Objects"]:
            self.objects.pop(one["Key"], None)
        return {}

    # --- uploads ----------------------------------------------------------------------------------------------------

    def create_multipart_upload(
        self, *, Bucket: str, Key: str, Metadata: Mapping[str, str], **_: str
    ) -> dict[str, str]:
        del Bucket
        upload = f"upload-{next(self.numbers)}"
        self.uploads[upload] = Begun(Key, dict(Metadata))
        return {"UploadId": upload}

    def upload_part(
        self, *, UploadId: str, PartNumber: int, Body: bytes, ChecksumSHA256: str, **_: str
    ) -> dict[str, str]:
        if checksum(Body) != ChecksumSHA256:
            raise refused("BadDigest")
        self.begun(UploadId).parts[PartNumber] = Body
        return {"ETag": Object(Body, {}).etag}

    def upload_part_copy(
        self, *, Key: str, UploadId: str, PartNumber: int, CopySource: Mapping[str, str], **_: str
    ) -> dict[str, Any]:  # fmt: skip
        self.calls.append(("upload_part_copy", Key))
        if CopySource["Key"] not in self.objects:
            raise refused("NoSuchKey")
        body = self.objects[CopySource["Key"]].body
        if self.copies_wrongly:
            body = body[:-1] + b"?"
        self.begun(UploadId).parts[PartNumber] = body
        told = {} if self.tells_no_checksum else {"ChecksumSHA256": checksum(body)}
        return {"CopyPartResult": {"ETag": Object(body, {}).etag, **told}}

    def complete_multipart_upload(
        self, *, Key: str, UploadId: str, MultipartUpload: Mapping[str, Sequence[Mapping[str, Any]]],
        IfNoneMatch: str = "", **_: str,
    ) -> dict[str, str]:  # fmt: skip
        self.calls.append(("complete_multipart_upload", Key))
        begun = self.begun(UploadId)
        if IfNoneMatch and not self.completes_anyway and Key in self.objects:
            raise refused("PreconditionFailed")
        if self.completes_in_two_steps:
            time.sleep(0.05)
        with self.lock:
            if IfNoneMatch and not (self.completes_anyway or self.completes_in_two_steps) and Key in self.objects:
                raise refused("PreconditionFailed")
            body = b"".join(begun.parts[part["PartNumber"]] for part in MultipartUpload["Parts"])
            self.objects[Key] = Object(body, begun.metadata)
            del self.uploads[UploadId]
        return {}

    def abort_multipart_upload(self, *, UploadId: str, **_: str) -> None:
        self.begun(UploadId)
        del self.uploads[UploadId]

    def begun(self, upload: str) -> Begun:
        if upload not in self.uploads:
            raise refused("NoSuchUpload")
        return self.uploads[upload]

    # --- listings ---------------------------------------------------------------------------------------------------

    def get_paginator(self, call: str) -> "Pages":
        return Pages(self, call)


@dataclass
class Pages:
    server: MemoryS3
    call: str

    def paginate(self, *, Bucket: str, Prefix: str = "", Delimiter: str = "") -> Iterator[dict[str, Any]]:
        del Bucket
        assert not Delimiter, "nobody asks for names here"
        if self.call == "list_multipart_uploads":
            if self.server.lists_no_uploads:
                raise refused("NotImplemented")
            found = [{"Key": one.key, "UploadId": name} for name, one in list(self.server.uploads.items())]
            yield {"Uploads": [one for one in found if one["Key"].startswith(Prefix)]}
            return
        keys = sorted(key for key in self.server.objects if key.startswith(Prefix))
        yield {"Contents": [{"Key": key, "Size": len(self.server.objects[key].body)} for key in keys]}


def checksum(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def refused(code: str) -> ClientError:
    status = _STATUS.get(code, 501)
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "")
