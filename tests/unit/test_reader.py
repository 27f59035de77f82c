"""The reader: by the signed index alone, never older than what was seen, every byte checked, nothing half done."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pytest

from orchestrator.errors import AuditInvalid, DigestMismatch, IndexInvalid, PublicationError, VerificationError
from orchestrator.publication import EventType, ReleaseStatus
from orchestrator.publish.index import encode_index, parse_index
from orchestrator.publish.lifecycle import Office, Order, revoke, rollback, yank
from orchestrator.publish.reader import Fetched, fetch, read_index
from tests.repository_fake import MemoryRepository
from tests.unit.published import EXPIRES, NOW, add, audited, contents, grown, keys, publish, sha256, trust

ORDER = Order(actor="ann", now=NOW, expires=EXPIRES, reason="it bites")


@pytest.fixture
def repository() -> MemoryRepository:
    made = MemoryRepository()
    publish(made, "v1.0.0", "v1.1.0")
    return made


@dataclasses.dataclass
class Reader:
    home: Path
    count: int = 0

    def get(self, repository: MemoryRepository, version: str = "", now: datetime = NOW, **options: object) -> Fetched:
        self.count += 1
        to = self.home / f"to-{self.count}"
        return fetch(repository, trust(), version, to, memory=self.home / "memory", now=now, **options)  # type: ignore[arg-type]  # the test's own

    def left(self) -> list[Path]:
        return [path for path in (self.home / f"to-{self.count}").rglob("*") if path.is_file()]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(home=tmp_path)


def office(repository: MemoryRepository) -> Office:
    return Office(repository=repository, keys=keys(), trust=trust())


def show(repository: MemoryRepository, body: bytes, key: str = "index") -> None:
    repository.objects["index.json"] = body
    repository.objects[f".index/{sha256(body)}.sigstore.json"] = keys(key).sign_index(body)


def test_the_latest_release_is_fetched_with_every_byte(repository: MemoryRepository, reader: Reader) -> None:
    fetched = reader.get(repository)
    assert (fetched.version, fetched.revision, fetched.notes) == ("v1.1.0", 2, ())
    assert {path.name: path.read_bytes() for path in fetched.folder.iterdir()} == contents("v1.1.0")
    assert fetched.folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in fetched.folder.iterdir()} == {0o644}


def test_single_files_are_fetched_by_name(repository: MemoryRepository, reader: Reader) -> None:
    fetched = reader.get(repository, "v1.0.0", only={"checksums.txt"})
    assert [path.name for path in fetched.folder.iterdir()] == ["checksums.txt"]
    with pytest.raises(PublicationError, match="has no file 'x'"):
        reader.get(repository, "v1.0.0", only={"x"})


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    "change",
    [
        lambda body: body[:-1],
        lambda body: body + b"x",
        lambda body: b"",
        lambda body: body[:5] + bytes([body[5] ^ 1]) + body[6:],
        lambda _: None,
    ],
)
@pytest.mark.parametrize("name", ["v1.1.0/hello-v1.1.0.tar.gz", "v1.1.0/manifest.json", "v1.1.0.audit.json"])
def test_other_bytes_are_refused_and_nothing_is_left(
    repository: MemoryRepository, reader: Reader, name: str, change: Callable[[bytes], bytes | None]
) -> None:
    body = change(repository.objects.pop(name))
    if body is not None:
        repository.objects[name] = body
    with pytest.raises(AuditInvalid if name.endswith(".audit.json") else DigestMismatch):
        reader.get(repository)
    assert reader.left() == []


@pytest.mark.fault(54, 64)
def test_files_of_another_version_are_refused(repository: MemoryRepository, reader: Reader) -> None:
    objects = repository.objects
    objects["v1.1.0/manifest.json"] = objects["v1.0.0/manifest.json"]
    with pytest.raises(DigestMismatch):
        reader.get(repository)


@dataclasses.dataclass
class Endless(MemoryRepository):
    """Answers with more bytes than there are, for ever."""

    given: int = 0

    @contextmanager
    def open(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        if key.name.startswith("hello"):
            yield self  # type: ignore[misc]  # all that a reader calls is `read`
        else:
            with super().open(key) as stream:
                yield stream

    def read(self, size: int) -> bytes:
        self.given += size
        assert self.given < 1 << 22, "it was read for ever"
        return b"x" * size


def test_an_endless_answer_is_cut_off(reader: Reader) -> None:
    repository = Endless()
    publish(repository, "v1.0.0")
    with pytest.raises(DigestMismatch):
        reader.get(repository)


# --- what was seen -----------------------------------------------------------------------------------------------


@pytest.mark.fault(42, 61)
def test_an_old_signed_index_is_refused(repository: MemoryRepository, reader: Reader) -> None:
    old = repository.objects["index.json"]
    publish(repository, "v1.2.0")
    reader.get(repository)
    repository.objects["index.json"] = old
    with pytest.raises(VerificationError, match="has revision 2, and 3 was seen before: a rollback"):
        reader.get(repository)
    with pytest.raises(VerificationError, match="a rollback"):
        reader.get(repository, now=EXPIRES)


class Elsewhere(MemoryRepository):
    """Another place."""

    @property
    def location(self) -> str:
        return "elsewhere"


@pytest.mark.fault(62)
def test_two_signed_indexes_of_one_revision_are_refused(repository: MemoryRepository, reader: Reader) -> None:
    first = parse_index(repository.objects["index.json"])
    publish(repository, "v1.2.0")
    reader.get(repository)
    show(repository, encode_index(add(first, EventType.PUBLISH, audited("v1.9.0")[0])))
    with pytest.raises(VerificationError, match=r"two different indexes of revision 3: a fork\n"):
        reader.get(repository)
    copy = Elsewhere()
    copy.objects.update(repository.objects)
    with pytest.raises(VerificationError, match="a fork; it was seen in 'memory', and this is 'elsewhere'") as caught:
        reader.get(copy)
    assert "an id of its own (id in [repository])" in str(caught.value)


@pytest.mark.fault(61)
def test_a_longer_history_that_does_not_contain_the_old_one_is_refused(
    repository: MemoryRepository, reader: Reader
) -> None:
    reader.get(repository)
    show(repository, encode_index(grown("v1.0.0", "v1.8.0", "v1.9.0")))
    with pytest.raises(VerificationError, match="the first 2 events are not those that were seen before: a fork"):
        reader.get(repository)


def test_another_repository_in_the_same_place_is_refused(repository: MemoryRepository, reader: Reader) -> None:
    reader.get(repository)
    show(repository, encode_index(add(None, EventType.PUBLISH, audited("v1.0.0")[0], repository_id="r2")))
    with pytest.raises(VerificationError, match="was the repository r1 and is r2 now: an exchange"):
        reader.get(repository)


def test_another_repository_than_was_asked_for_is_refused(repository: MemoryRepository, reader: Reader) -> None:
    with pytest.raises(VerificationError, match="is the repository r1, not 'r9'"):
        reader.get(repository, repository_id="r9")


def test_the_memory_is_not_forgotten_when_it_is_damaged(repository: MemoryRepository, reader: Reader) -> None:
    reader.get(repository)
    memory = reader.home / "memory" / "r1.seen.json"
    assert json.loads(memory.read_text())["revision"] == 2
    for damage in ("", "{}", "null", memory.read_text() + " "):
        memory.write_text(damage)
        with pytest.raises(VerificationError, match=r"r1\.seen\.json"):
            reader.get(repository)


@pytest.mark.fault(61)
def test_a_failed_download_is_remembered_all_the_same(repository: MemoryRepository, reader: Reader) -> None:
    old = repository.objects["index.json"]
    publish(repository, "v1.2.0")
    del repository.objects["v1.2.0/manifest.json"]
    with pytest.raises(DigestMismatch):
        reader.get(repository)
    repository.objects["index.json"] = old
    with pytest.raises(VerificationError, match="a rollback"):
        reader.get(repository)


# --- signature and time ------------------------------------------------------------------------------------------


def test_an_index_by_a_stranger_or_by_nobody_is_refused(repository: MemoryRepository, reader: Reader) -> None:
    body = encode_index(grown("v1.0.0"))
    show(repository, body, "stranger")
    with pytest.raises(VerificationError, match="whom nobody trusts"):
        reader.get(repository)
    del repository.objects[f".index/{sha256(body)}.sigstore.json"]
    with pytest.raises(VerificationError, match="no signature"):
        reader.get(repository)
    assert not (reader.home / "memory").exists()


def test_a_signature_of_another_index_is_refused(repository: MemoryRepository, reader: Reader) -> None:
    old = next(value for key, value in repository.objects.items() if key.startswith(".index/"))
    publish(repository, "v1.2.0")
    repository.objects[f".index/{sha256(repository.objects['index.json'])}.sigstore.json"] = old
    with pytest.raises(IndexInvalid, match="other bytes"):
        reader.get(repository)


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    ("now", "words"),
    [
        (EXPIRES - timedelta(seconds=1), ""), (EXPIRES, "expired at"), (EXPIRES + timedelta(days=9), "expired at"),
        (NOW - timedelta(hours=23), ""), (NOW - timedelta(days=2), "not valid yet"),
    ],
)  # fmt: skip
def test_an_index_counts_in_its_time(repository: MemoryRepository, reader: Reader, now: datetime, words: str) -> None:
    if not words:
        assert reader.get(repository, now=now).version == "v1.1.0"
        return
    with pytest.raises(VerificationError, match=words) as caught:
        reader.get(repository, now=now)
    assert caught.value.next_step


# --- what became of a release ------------------------------------------------------------------------------------


def test_a_revoked_release_is_refused_with_its_reason(repository: MemoryRepository, reader: Reader) -> None:
    revoke(office(repository), "v1.1.0", ORDER)
    with pytest.raises(VerificationError, match=r"v1\.1\.0 is revoked: it bites"):
        reader.get(repository, "v1.1.0")
    assert reader.get(repository).version == "v1.0.0"


def test_a_yanked_release_is_for_those_who_name_it(repository: MemoryRepository, reader: Reader) -> None:
    yank(office(repository), "v1.1.0", ORDER)
    assert reader.get(repository).version == "v1.0.0"
    named = reader.get(repository, "v1.1.0")
    assert named.status is ReleaseStatus.YANKED
    assert named.notes == ("v1.1.0 is yanked: it bites; it was named exactly",)
    with pytest.raises(PublicationError):
        reader.get(repository, "1.1.0")


def test_a_rolled_back_release_is_not_the_latest(repository: MemoryRepository, reader: Reader) -> None:
    rollback(office(repository), "v1.0.0", ORDER)
    assert reader.get(repository).version == "v1.0.0"
    assert "was rolled back" in reader.get(repository, "v1.1.0").notes[0]


def test_no_latest_release_is_said(repository: MemoryRepository, reader: Reader) -> None:
    for version in ("v1.0.0", "v1.1.0"):
        yank(office(repository), version, ORDER)
    with pytest.raises(PublicationError, match="no latest one"):
        reader.get(repository)


@pytest.mark.parametrize(
    ("version", "step"),
    [("1.1.0", "did you mean v1.1.0?"), ("v9.0.0", "`relbuild list`"), ("\x1b[1m", "`relbuild list`")],
)
def test_an_unknown_version_is_refused(repository: MemoryRepository, reader: Reader, version: str, step: str) -> None:
    with pytest.raises(PublicationError, match="is not published") as caught:
        reader.get(repository, version)
    assert caught.value.next_step == step
    assert "\x1b" not in str(caught.value)


def test_an_unlisted_folder_is_not_published(repository: MemoryRepository, reader: Reader) -> None:
    for path, body in contents("v5.0.0").items():
        repository.objects[f"v5.0.0/{path}"] = body
    with pytest.raises(PublicationError, match="is not published"):
        reader.get(repository, "v5.0.0")


def test_an_empty_repository_says_so(reader: Reader) -> None:
    with pytest.raises(PublicationError, match="nothing is published in memory"):
        reader.get(MemoryRepository())


def test_nothing_that_is_there_is_overwritten(repository: MemoryRepository, tmp_path: Path) -> None:
    (tmp_path / "v1.1.0").mkdir()
    with pytest.raises(PublicationError, match="is there already"):
        fetch(repository, trust(), "", tmp_path, memory=tmp_path / "memory", now=NOW)
    assert list((tmp_path / "v1.1.0").iterdir()) == []


def test_a_memory_that_cannot_be_written_is_said(repository: MemoryRepository, tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("a file")
    with pytest.raises(PublicationError) as caught:
        read_index(repository, trust(), memory=tmp_path / "memory", now=NOW)
    assert caught.value.next_step
