"""Whoever looks at a repository while others publish sees no state that never was."""

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator.repositories.local import LocalRepository
from orchestrator.trust import VerifiedRelease
from tests import object_stores
from tests.faults.buckets import S3Place, s3_client
from tests.faults.invariants import Witness, disk
from tests.faults.publisher_program import make_release, publish


def published(place: S3Place, release: VerifiedRelease, **_: object) -> None:
    publish(place.repository(), release)


def test_a_folder_whose_index_appears_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make_release(tmp_path, "1.0.0"), make_release(tmp_path, "1.1.0")
    folder, walk = tmp_path / "repository", os.walk

    def walked(top: Path) -> Iterator[Any]:
        publish(LocalRepository(folder), first)
        for number, step in enumerate(walk(top)):
            if number == 0:
                publish(LocalRepository(folder), second)
            yield step

    with monkeypatch.context() as patched:
        patched.setattr(os, "walk", walked)
        seen = disk(folder)
    assert Witness().look(seen) is None
    assert (Witness().look(disk(folder)) or {})["revision"] == 2


def test_a_bucket_whose_index_appears_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_stores.S3_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_stores.S3_SECRET)
    first, second = make_release(tmp_path, "1.0.0"), make_release(tmp_path, "1.1.0")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(object_stores.moto(tmp_path))
        client = s3_client(url)
        place = S3Place(url=url, bucket=object_stores.new_s3_bucket(url), prefix="looked-at", client=client)
        others = S3Place(url=url, bucket=place.bucket, prefix=place.prefix)
        client.meta.events.register("before-call.s3.ListObjectsV2", partial(published, others, first))
        client.meta.events.register("after-call.s3.ListObjectsV2", partial(published, others, second))
        seen = place.files()
        assert Witness().look(seen) is None
        assert (Witness().look(others.files()) or {})["revision"] == 2
