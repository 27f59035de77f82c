"""What an S3 repository does beyond the contract: who copies what is moved, what is left behind, what errors tell."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from botocore import exceptions  # type: ignore[import-untyped]  # botocore carries no types
from botocore.awsrequest import AWSResponse  # type: ignore[import-untyped]  # nor does this

from orchestrator.checkup import Grade
from orchestrator.errors import KeyMissing, KeyTaken, OutcomeUnknown, RepositoryError
from orchestrator.publication import PolicyMode, Promotion, PublicationState, RepositoryKind, RepositoryRules
from orchestrator.publish.report import report_json, report_of, report_text
from orchestrator.repositories import open_repository, probe, s3_probe
from orchestrator.repositories.interface import Upload, note_of
from orchestrator.repositories.retrying import RetryingRepository
from orchestrator.repositories.s3 import S3Repository
from orchestrator.repositories.s3_client import client
from orchestrator.repositories.s3_errors import answered
from orchestrator.repository_checkup import examine_repository
from tests.repository_fake import MemoryRepository
from tests.unit.s3_in_memory import Begun, MemoryS3, Object, refused

STAGING = PurePosixPath(".staging-1")
PAYLOAD = STAGING / "payload"
PLACE = PurePosixPath("v1")
CLAIM = PurePosixPath("v1.audit.json")
ENDPOINT = "https://store.example.org"
BODIES = {
    "large": os.urandom(5 << 20),
    "other": os.urandom(4 << 20),
    "small": b"small",
    "checksums.txt": b"sums",
    "manifest.json": b"{}",
}
KEYS = [PurePosixPath(name) for name in BODIES]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def repository(server: MemoryS3) -> S3Repository:
    return S3Repository("bucket", prefix="some/place", endpoint=ENDPOINT, connect=lambda: server)


def staged(server: MemoryS3, bodies: dict[str, bytes] = BODIES) -> S3Repository:
    store = repository(server)
    store.put_all([Upload(key=PAYLOAD / name, body=body, sha256=sha256(body)) for name, body in bodies.items()])
    return store


def placed(server: MemoryS3) -> dict[str, bytes]:
    return {
        key.removeprefix("some/place/v1/"): found.body
        for key, found in server.objects.items()
        if key.startswith("some/place/v1/")
    }


def downloads(server: MemoryS3) -> int:
    return server.count("get_object", below="some/place/.staging-1/payload/")


# --- the probe ------------------------------------------------------------------------------------------------------


@dataclass
class TidiedUp(MemoryS3):
    """Somebody takes the area of a probe for a dead one's, as often as told, at one of the probe's requests."""

    times: int = 1
    at: int = 1
    asked: int = 0

    def put_object(self, **given: Any) -> dict[str, Any]:
        with self.lock:
            self.asked += 1
            if self.asked % self.at == 0 and self.times:
                self.times -= 1
                for key in [key for key in self.objects if ".staging-probe-" in key]:
                    del self.objects[key]
        return super().put_object(**given)


@pytest.mark.parametrize("at", range(2, 12))
def test_a_probe_whose_area_is_removed_tries_anew(at: int) -> None:
    server = TidiedUp(at=at)
    S3Repository("bucket", prefix="some/place", connect=lambda: server).probe()
    assert not server.times
    assert not server.objects


def test_a_store_that_loses_objects_is_refused_in_the_end() -> None:
    server = TidiedUp(at=2, times=1000)
    with pytest.raises(RepositoryError, match="so two publishers could"):
        S3Repository("bucket", connect=lambda: server).probe()


# --- who copies -----------------------------------------------------------------------------------------------------


def test_a_server_that_proved_fit_copies_what_is_large(server: MemoryS3) -> None:
    store = staged(server)
    store.move_new(PAYLOAD, PLACE, KEYS)
    assert placed(server) == BODIES
    assert downloads(server) == 3
    assert server.count("complete_multipart_upload", below="some/place/v1/") == 2
    assert not [key for key in server.objects if ".staging-probe-" in key]
    assert not server.uploads


@pytest.mark.parametrize(
    "broken",
    [
        MemoryS3(completes_anyway=True),
        MemoryS3(completes_in_two_steps=True),
        MemoryS3(tells_no_checksum=True),
        MemoryS3(copies_wrongly=True),
    ],
    ids=["ignores the condition", "keeps it one at a time only", "tells no checksum", "copies other bytes"],
)
def test_what_another_server_would_copy_comes_through_here(broken: MemoryS3) -> None:
    store = staged(broken)
    store.move_new(PAYLOAD, PLACE, KEYS)
    assert placed(broken) == BODIES
    assert downloads(broken) == len(KEYS)
    assert not [key for key in broken.objects if ".staging-probe-" in key]
    assert not broken.uploads


def test_only_the_race_tells_a_server_that_keeps_the_condition_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    racy = MemoryS3(completes_in_two_steps=True)
    store = staged(racy)
    assert s3_probe.copies_on_condition(store._bucket, PurePosixPath(".staging-probe-1"), 1) is False
    monkeypatch.setattr(probe, "at_once", lambda asks: [ask() for ask in asks])
    assert s3_probe.copies_on_condition(store._bucket, PurePosixPath(".staging-probe-2"), 8) is True


@pytest.mark.parametrize(
    ("server", "bodies", "told"),
    [
        (MemoryS3(), BODIES, "the server copies files"),
        (MemoryS3(completes_anyway=True), BODIES, "did not prove fit"),
        (MemoryS3(), {"app": b"small", "manifest.json": b"{}"}, "less than 8 MiB"),
    ],
    ids=["copies", "not fit", "little"],
)
def test_which_way_bytes_were_moved_is_told(server: MemoryS3, bodies: dict[str, bytes], told: str) -> None:
    store = RetryingRepository(staged(server, bodies))
    assert not note_of(store)
    store.move_new(PAYLOAD, PLACE, [PurePosixPath(name) for name in bodies])
    assert told in note_of(store)
    promotion = Promotion(
        version="1", state=PublicationState.PUBLISHED, no_op=False, revision=1, audit_id="", audit_sha256="",
        index_sha256="", stages=(), files=(), total_bytes=0,
    )  # fmt: skip
    report = report_of(
        "1", promotion, repository=store.location, repository_note=note_of(store), policy_mode=PolicyMode.STRICT,
        verification={}, validation=None,
    )  # fmt: skip
    assert json.loads(report_json(report))["repository_note"] == note_of(store)
    assert f"Moves: {note_of(store)}" in report_text(report).splitlines()


def test_a_store_with_one_way_has_nothing_to_tell() -> None:
    assert not note_of(RetryingRepository(MemoryRepository()))


@pytest.mark.parametrize(
    ("server", "grade", "told"),
    [
        (MemoryS3(), Grade.OK, "the server copies files"),
        (MemoryS3(completes_in_two_steps=True), Grade.OK, "did not prove fit"),
        (MemoryS3(completes_anyway=True), Grade.NOTE, "nothing is published there"),
    ],
    ids=["copies", "not fit", "refuses"],
)
def test_doctor_tells_which_way_a_bucket_moves_bytes_and_leaves_nothing(
    server: MemoryS3, grade: Grade, told: str
) -> None:
    rules = RepositoryRules(kind=RepositoryKind.S3, bucket="bucket")
    (symptom,) = examine_repository(rules, lambda _: repository(server))
    assert symptom.grade is grade
    assert told in symptom.text
    assert bool(symptom.mend) == (grade is Grade.NOTE)
    assert not server.objects


def test_doctor_leaves_folders_alone(tmp_path: Path) -> None:
    for rules in (None, RepositoryRules(kind=RepositoryKind.LOCAL, path=tmp_path / "base")):
        assert not list(examine_repository(rules, open_repository))
    assert not list(tmp_path.iterdir())


def test_a_few_bytes_are_not_worth_the_trial(server: MemoryS3) -> None:
    bodies = {"app": os.urandom(2 << 20), "manifest.json": b"{}"}
    store = staged(server, bodies)
    store.move_new(PAYLOAD, PLACE, [PurePosixPath(name) for name in bodies])
    assert placed(server) == bodies
    assert server.count("upload_part_copy", below="") == 0


def test_it_is_tried_once(server: MemoryS3) -> None:
    store = staged(server)
    store.move_new(PAYLOAD, PLACE, KEYS)
    tried = server.count("upload_part_copy", below="some/place/.staging-probe-")
    store.move_new(PAYLOAD, PurePosixPath("v2"), KEYS)
    assert server.count("upload_part_copy", below="some/place/.staging-probe-") == tried > 0


def test_a_lost_answer_proves_nothing(server: MemoryS3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = staged(server)

    def lose(**_: str) -> None:
        raise exceptions.ReadTimeoutError(endpoint_url="")

    with monkeypatch.context() as broken:
        broken.setattr(server, "upload_part_copy", lose)
        with pytest.raises(OutcomeUnknown):
            store.move_new(PAYLOAD, PLACE, KEYS)
    store.move_new(PAYLOAD, PLACE, KEYS)
    assert downloads(server) == 3


def test_after_a_copy_whose_answer_was_lost_the_rest_comes_through_here(
    server: MemoryS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = staged(server)
    assert store._moves.find_way(rounds=2)

    def lose(**_: str) -> None:
        raise exceptions.ReadTimeoutError(endpoint_url="")

    monkeypatch.setattr(server, "upload_part_copy", lose)
    with pytest.raises(OutcomeUnknown):
        store.move_new(PAYLOAD, PLACE, KEYS)
    store.move_new(PAYLOAD, PLACE, KEYS)
    assert placed(server) == BODIES
    assert not server.uploads


def test_a_copy_of_other_bytes_never_gets_its_place(server: MemoryS3) -> None:
    store = staged(server)
    assert store._moves.find_way(rounds=2)
    changed = server.objects["some/place/.staging-1/payload/large"]
    server.objects["some/place/.staging-1/payload/large"] = Object(b"?" * (5 << 20), changed.metadata)
    with pytest.raises(RepositoryError, match=r"large.*was copied with the SHA-256") as wrong:
        store.move_new(PAYLOAD, PLACE, KEYS)
    assert wrong.value.next_step
    assert "large" not in placed(server)
    assert not server.uploads


def test_a_finisher_that_staged_nothing_asks_what_was_promised(server: MemoryS3) -> None:
    staged(server)
    repository(server).move_new(PAYLOAD, PLACE, KEYS)
    assert placed(server) == BODIES
    assert downloads(server) == 3


@pytest.mark.parametrize("name", ["large", "small"])
def test_what_is_there_already_stays_and_only_the_same_bytes_are_accepted(server: MemoryS3, name: str) -> None:
    store = staged(server)
    server.objects[f"some/place/v1/{name}"] = Object(BODIES[name], {})
    store.move_new(PAYLOAD, PLACE, KEYS)
    server.objects[f"some/place/v2/{name}"] = Object(b"theirs", {})
    with pytest.raises(KeyTaken, match=name):
        store.move_new(PAYLOAD, PurePosixPath("v2"), KEYS)
    assert server.objects[f"some/place/v2/{name}"].body == b"theirs"


def test_moving_what_is_gone_names_it(server: MemoryS3) -> None:
    store = staged(server)
    del server.objects["some/place/.staging-1/payload/other"]
    with pytest.raises(KeyMissing, match="payload/other"):
        store.move_new(PAYLOAD, PLACE, KEYS)


# --- what is left behind ----------------------------------------------------------------------------------------------


def begun(server: MemoryS3, *keys: str) -> None:
    for key in keys:
        server.create_multipart_upload(Bucket="bucket", Key=f"some/place/{key}", Metadata={})


def test_removing_an_area_ends_the_uploads_into_it_and_no_others(server: MemoryS3) -> None:
    begun(server, ".staging-1/payload/large", ".staging-10/payload/large", "v1/large", "else")
    repository(server).delete(STAGING)
    assert sorted(one.key for one in server.uploads.values()) == [
        "some/place/.staging-10/payload/large", "some/place/else", "some/place/v1/large",
    ]  # fmt: skip


def test_a_finished_move_ends_what_a_killed_one_had_begun_in_the_same_place(server: MemoryS3) -> None:
    store = staged(server)
    begun(server, "v1/large", "v10/large")
    store.move_new(PAYLOAD, PLACE, KEYS)
    assert list(server.uploads.values()) == [Begun("some/place/v10/large", {})]


def test_a_server_that_cannot_list_uploads_still_removes_an_area() -> None:
    server = MemoryS3(lists_no_uploads=True)
    store = staged(server)
    store.delete(STAGING)
    assert not server.objects


def test_an_upload_that_somebody_ended_is_begun_again() -> None:
    with pytest.raises(OutcomeUnknown), answered("'s3://bucket/key'"):
        raise refused("NoSuchUpload")


# --- what errors tell -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["AccessDenied", "NoSuchBucket", "SlowDown", "InsufficientCapacity", "NoSuchKey", "SomethingNew"]
)
def test_errors_name_the_server_the_object_and_the_next_step(code: str) -> None:
    class Refusing(MemoryS3):
        def put_object(self, **_: Any) -> dict[str, Any]:
            raise refused(code)

    with pytest.raises(RepositoryError) as told:
        repository(Refusing()).put_new(CLAIM, b"claim", sha256(b"claim"))
    assert "s3://bucket/some/place/v1.audit.json" in told.value.what
    assert ENDPOINT in told.value.what
    assert told.value.next_step


def test_an_endpoint_that_is_no_address_is_named() -> None:
    with pytest.raises(RepositoryError, match="no address of a server") as told:
        S3Repository("bucket", endpoint="store:nowhere").put_new(CLAIM, b"x", sha256(b"x"))
    assert told.value.next_step


# --- how it is asked --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "expect"), [(0, False), (300, False), (1 << 20, True)])
def test_the_sha256_of_a_body_is_signed_and_small_ones_go_at_once(
    size: int, expect: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    asked: list[Any] = []

    def answer(request: Any, **_: Any) -> Any:
        asked.append(request)
        return AWSResponse(request.url, 200, {"ETag": '"1"'}, Raw([b""]))

    made = client(ENDPOINT, "")
    made.meta.events.register("before-send.s3", answer)
    body = bytes(size)
    S3Repository("bucket", endpoint=ENDPOINT, connect=lambda: made).put_new(CLAIM, body, sha256(body))
    sent = {name.lower(): value for name, value in asked[0].headers.items()}
    assert ("expect" in sent) is expect
    signed = str(sent["authorization"]).partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"if-none-match", "x-amz-checksum-sha256"} <= set(signed)


class Raw:
    """The body of an answer, as urllib3 gives it."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._chunks = chunks

    def stream(self) -> Sequence[bytes]:
        return self._chunks


@pytest.fixture
def server() -> MemoryS3:
    return MemoryS3()
