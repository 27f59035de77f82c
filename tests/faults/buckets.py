"""Buckets of real servers, seen past the publisher's adapters, and the repositories that publishers make of them."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from orchestrator.repositories.interface import Repository
from tests import object_stores


class Place(Protocol):
    """A repository in a bucket, for whoever looks on."""

    def files(self) -> dict[str, bytes]:
        """Give every object; the index is read first, so that whatever it lists must be found.

        An index that was not there yet is left for the next look, although it may be listed by now: what belongs to
        it may not be.
        """

    def write(self, files: dict[str, bytes]) -> None:
        """Put objects there, whatever is there."""

    def remove(self, key: str) -> None:
        """Take an object away."""

    def repository(self) -> Repository:
        """Give a publisher's view of it."""


@dataclass(kw_only=True)
class S3Place:
    """What lies below a prefix of a bucket; `asking` gives publishers their client, which may go through a proxy."""

    url: str
    bucket: str
    prefix: str
    asking: Callable[[], Any] | None = None
    attempts: int = 6
    client: Any = None
    _bodies: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """By key and ETag, so that a reader need not read again what has not changed."""

    @cached_property
    def _asked(self) -> Any:
        return self.client or s3_client(self.url)

    def files(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        with contextlib.suppress(self._asked.exceptions.NoSuchKey):
            found["index.json"] = self._read("index.json")
        for key, state in self._listed():
            with contextlib.suppress(self._asked.exceptions.NoSuchKey):
                if key != "index.json":
                    found[key] = self._bodies[key, state] = self._bodies.get((key, state)) or self._read(key)
        return found

    def write(self, files: dict[str, bytes]) -> None:
        for key, body in files.items():
            self._asked.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}", Body=body)

    def remove(self, key: str) -> None:
        self._asked.delete_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}")

    def repository(self) -> Repository:
        from orchestrator.repositories.s3 import S3Repository

        inner = S3Repository(self.bucket, prefix=self.prefix, endpoint=self.url, connect=self.asking)
        return _patient(inner, attempts=self.attempts)

    def _read(self, key: str) -> bytes:
        body: bytes = self._asked.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}")["Body"].read()
        return body

    def _listed(self) -> list[tuple[str, str]]:
        start = f"{self.prefix}/"
        pages = self._asked.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
        return [(one["Key"].removeprefix(start), one["ETag"]) for page in pages for one in page.get("Contents", ())]


@dataclass(kw_only=True)
class GcsPlace:
    """What lies below a prefix of a bucket of Google's kind."""

    url: str
    bucket: str
    prefix: str
    client: Any = None

    def __post_init__(self) -> None:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage  # type: ignore[import-untyped]  # carries no types

        self.client = self.client or storage.Client(
            project="tests",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # it has no types
            client_options={"api_endpoint": self.url},
        )

    def files(self) -> dict[str, bytes]:
        from google.api_core.exceptions import NotFound

        found: dict[str, bytes] = {}
        index = self.client.bucket(self.bucket).blob(f"{self.prefix}/index.json")
        with contextlib.suppress(NotFound):
            found["index.json"] = index.download_as_bytes()
        for blob in self.client.list_blobs(self.bucket, prefix=f"{self.prefix}/"):
            with contextlib.suppress(NotFound):
                if blob.name != index.name:
                    found[blob.name.removeprefix(f"{self.prefix}/")] = blob.download_as_bytes()
        return found

    def write(self, files: dict[str, bytes]) -> None:
        for key, body in files.items():
            self.client.bucket(self.bucket).blob(f"{self.prefix}/{key}").upload_from_string(body)

    def remove(self, key: str) -> None:
        self.client.bucket(self.bucket).blob(f"{self.prefix}/{key}").delete()

    def repository(self) -> Repository:
        from orchestrator.repositories.gcs import GcsRepository

        return _patient(GcsRepository(self.bucket, prefix=self.prefix, endpoint=self.url), attempts=6)


def s3_client(url: str) -> Any:
    import boto3  # type: ignore[import-untyped]  # boto3 carries no types

    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1",
        aws_access_key_id=object_stores.S3_KEY, aws_secret_access_key=object_stores.S3_SECRET,
    )  # fmt: skip


def _patient(inner: Repository, *, attempts: int) -> Repository:
    from orchestrator.repositories.retrying import Patience, RetryingRepository

    return RetryingRepository(inner, Patience(attempts=attempts, first_pause_s=0.001, longest_pause_s=0.05))
