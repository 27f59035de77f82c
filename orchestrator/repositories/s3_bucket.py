"""What is asked of a bucket about the keys below a prefix; every answer is translated, every body has its SHA-256."""

import base64
import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final

from builders.names import escaped
from orchestrator.errors import OutcomeUnknown, RepositoryError
from orchestrator.repositories import streams
from orchestrator.repositories.interface import Entry, PointerToken
from orchestrator.repositories.s3_errors import answered
from orchestrator.repositories.store_bucket import StoreBucket

CREATE: Final[Mapping[str, str]] = {"IfNoneMatch": "*"}
"""The condition of a write that must not replace anything."""
_DELETE_BATCH: Final = 1000


class Bucket(StoreBucket):
    """A bucket, or what lies below a prefix of one; the client is made when it is first needed."""

    def __init__(self, name: str, prefix: str, endpoint: str, connect: Callable[[], Any]) -> None:
        super().__init__("s3", name, prefix, endpoint, connect=connect, answered=answered)

    @property
    def client(self) -> Any:
        return self.connected

    def place(self, key: PurePosixPath) -> dict[str, str]:
        """Name an object as every request does."""
        return {"Bucket": self.name, "Key": self.key(key)}

    # --- objects ----------------------------------------------------------------------------------------------------

    def put(self, key: PurePosixPath, body: bytes, sha256: str, **condition: str) -> PointerToken:
        """Write an object whose SHA-256 the server checks, and give what it calls this state."""
        with self.answered(key):
            answer = self.client.put_object(
                **self.place(key), Body=body, ChecksumAlgorithm="SHA256", ChecksumSHA256=sha256_base64(sha256),
                Metadata={"sha256": sha256}, **condition,
            )  # fmt: skip
        return self.token(key, answer)

    @contextlib.contextmanager
    def got(self, key: PurePosixPath) -> Iterator[tuple[BinaryIO, Mapping[str, Any]]]:
        """Give an object's bytes as a stream, and what the server tells about it."""
        with self.answered(key):
            answer = self.client.get_object(**self.place(key))
        with contextlib.closing(answer["Body"]) as body:
            # Some servers, or proxies before them, send an error with status 200 in the place of the object.
            self.token(key, answer)
            yield streams.translated(body.read, lambda: self.answered(key)), answer

    def digest(self, key: PurePosixPath) -> str:
        """Read an object and give its SHA-256, in hexadecimal."""
        with self.got(key) as (stream, _):
            return streams.digest(stream)

    def promised(self, key: PurePosixPath, answer: Mapping[str, Any]) -> str:
        """Give the SHA-256 that an object was written with: what came back must be held against it."""
        if found := answer.get("Metadata", {}).get("sha256"):
            return str(found)
        raise OutcomeUnknown(f"{self.shown(key)} came without its SHA-256", next_step="run again")

    def token(self, key: PurePosixPath, answer: Mapping[str, Any]) -> PointerToken:
        if found := answer.get("ETag"):
            return PointerToken(str(found))
        raise OutcomeUnknown(f"the answer for {self.shown(key)} came without an ETag", next_step="run again")

    # --- many -------------------------------------------------------------------------------------------------------

    def pages(self, call: str, key: PurePosixPath, **asked: str) -> Iterator[Mapping[str, Any]]:
        """Give the pages of a listing; `key` is for errors."""
        pages = iter(self.client.get_paginator(call).paginate(Bucket=self.name, **asked))
        while True:
            with self.answered(key):
                page = next(pages, None)
            if page is None:
                return
            yield page

    def entries(self, prefix: PurePosixPath) -> Iterator[Entry]:
        """Give every object below a prefix (the empty path: all), sorted by key."""
        start = f"{self.key(prefix)}/" if prefix.parts else self.prefix
        for page in self.pages("list_objects_v2", prefix, Prefix=start):
            for found in page.get("Contents", ()):
                yield Entry(key=PurePosixPath(found["Key"].removeprefix(self.prefix)), size_bytes=found["Size"])

    def names(self, start: str) -> set[str]:
        """Give the first segments of all keys that begin with `start`."""
        found: set[str] = set()
        for page in self.pages("list_objects_v2", PurePosixPath(), Prefix=self.prefix + start, Delimiter="/"):
            found |= {one["Key"] for one in page.get("Contents", ())}
            found |= {one["Prefix"].rstrip("/") for one in page.get("CommonPrefixes", ())}
        return {name.removeprefix(self.prefix) for name in found}

    def remove(self, prefix: PurePosixPath) -> None:
        """Remove all that is below a prefix, and end uploads there. Raises RepositoryError where something is left."""
        keys = [self.key(entry.key) for entry in self.entries(prefix)]
        for start in range(0, len(keys), _DELETE_BATCH):
            batch = [{"Key": key} for key in keys[start : start + _DELETE_BATCH]]
            with self.answered(prefix):
                answer = self.client.delete_objects(
                    Bucket=self.name, Delete={"Objects": batch, "Quiet": True}, ChecksumAlgorithm="SHA256"
                )
            if errors := answer.get("Errors"):
                raise RepositoryError(
                    f"{self.shown(prefix)} was not removed: {len(errors)} of {len(batch)} objects are left, "
                    f"the first for {escaped(str(errors[0].get('Code', 'no reason')))}",
                    next_step="allow this user to delete below `.staging-`, then run `relbuild recover`",
                )
        self.end_uploads(prefix)

    def end_uploads(self, prefix: PurePosixPath) -> None:
        """End uploads below a prefix that nobody completes any more: what they hold is invisible, and costs space."""
        # Some servers cannot list uploads, and some users may not.
        with contextlib.suppress(RepositoryError, KeyError):
            for page in self.pages("list_multipart_uploads", prefix, Prefix=f"{self.key(prefix)}/"):
                for found in page.get("Uploads", ()):
                    with self.answered(prefix):
                        self.client.abort_multipart_upload(
                            Bucket=self.name, Key=found["Key"], UploadId=found["UploadId"]
                        )


def sha256_base64(sha256: str) -> str:
    """Write a SHA-256 as S3 does."""
    return base64.b64encode(bytes.fromhex(sha256)).decode("ascii")
