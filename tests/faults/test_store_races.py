"""Publishers on a real object store, each a process of its own: racing, killed, stopped, while a reader looks on."""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from builders.errors import RelbuildError
from orchestrator.errors import DuplicateVersion
from orchestrator.publish.desk import state_of
from tests import object_stores
from tests.faults.buckets import S3Place
from tests.faults.invariants import Witness
from tests.faults.publisher_program import make_release, publish, recovered, verified

PATIENCE_S = 300.0


def child(url: str, bucket: str, prefix: str, folder: str, answer: str) -> None:
    """Publish in a process of its own, and write how it ended into a file."""
    os.environ |= {"AWS_ACCESS_KEY_ID": object_stores.S3_KEY, "AWS_SECRET_ACCESS_KEY": object_stores.S3_SECRET}
    try:
        done = publish(S3Place(url=url, bucket=bucket, prefix=prefix).repository(), verified(Path(folder)))
        words = {"state": done.state.value, "audit": done.audit_sha256, "no_op": done.no_op, "error": ""}
    except RelbuildError as error:
        words = {"state": state_of(error).value, "audit": "", "no_op": False, "error": type(error).__name__}
    new = Path(f"{answer}.new")
    new.write_text(json.dumps(words), encoding="utf-8")
    new.rename(answer)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    object_stores.require("boto3")
    with object_stores.radosgw(tmp_path_factory.mktemp("radosgw")) as url:
        yield url, object_stores.new_s3_bucket(url)


@pytest.fixture
def place(server: tuple[str, str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Place:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_stores.S3_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_stores.S3_SECRET)
    return S3Place(url=server[0], bucket=server[1], prefix=f"race-{abs(hash(request.node.name))}")


class Reader:
    """Verifies all of a repository again and again while others publish, and keeps what it found wrong."""

    def __init__(self, place: S3Place) -> None:
        self.witness, self.looks, self.wrong = Witness(), 0, ""
        self._place, self._stop = S3Place(url=place.url, bucket=place.bucket, prefix=place.prefix), threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.is_set() and not self.wrong:
            try:
                self.witness.look(self._place.files())
                self.looks += 1
            except (AssertionError, ValueError) as error:
                self.wrong = str(error)


def start(place: S3Place, folders: Sequence[Path], answers: Path) -> list[ForkServerProcess]:
    """Start a publisher for each release; a server of forks imports what they all need only once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "orchestrator.repositories.s3"])
    answers.mkdir()
    children = [
        context.Process(
            target=child, args=(place.url, place.bucket, place.prefix, str(folder), str(answers / str(number)))
        )
        for number, folder in enumerate(folders)
    ]
    for each in children:
        each.start()
    return children


def disturb(children: Sequence[ForkServerProcess], chance: random.Random) -> tuple[int, int]:
    """Kill some and stop others for a while until none is left; say how many were killed and stopped."""
    killed = stopped = 0
    until = time.monotonic() + PATIENCE_S
    while (living := [each for each in children if each.is_alive()]) and time.monotonic() < until:
        victim = chance.choice(living)
        with contextlib.suppress(ProcessLookupError):
            if chance.random() < 0.15 and killed < len(children) // 2:
                victim.kill()
                killed += 1
            elif victim.pid is not None:
                os.kill(victim.pid, signal.SIGSTOP)
                time.sleep(chance.uniform(0, 0.2))
                os.kill(victim.pid, signal.SIGCONT)
                stopped += 1
        time.sleep(0.1)
    ended(children)
    return killed, stopped


def ended(children: Sequence[ForkServerProcess]) -> None:
    for each in children:
        each.join(PATIENCE_S)
        assert not each.is_alive()


def answers_in(folder: Path) -> dict[int, dict[str, object]]:
    return {int(path.name): json.loads(path.read_text()) for path in folder.iterdir() if path.name.isdigit()}


@pytest.mark.fault(23)
def test_32_publishers_of_other_bytes_publish_one_of_them(place: S3Place, tmp_path: Path) -> None:
    folders = [make_release(tmp_path / str(number), "1.0.0", str(number)).folder for number in range(32)]
    with Reader(place) as reader:
        ended(start(place, folders, tmp_path / "answers"))
    assert not reader.wrong
    answers = answers_in(tmp_path / "answers")
    winners = {number: answer for number, answer in answers.items() if answer["state"] == "published"}
    print(f"{len(winners)} of {len(answers)} published; the reader looked {reader.looks} times")
    assert len(answers) == 32
    assert len(winners) == 1
    assert {answer["error"] for number, answer in answers.items() if number not in winners} == {
        DuplicateVersion.__name__
    }
    ((winner, answer),) = winners.items()
    reader.witness.acknowledge("1.0.0", str(answer["audit"]))
    recovered(place.repository())
    files = place.files()
    reader.witness.settled(files)
    assert reader.witness.revision == 1
    assert files["1.0.0/hello_1.0.0_0.bin"] == (folders[winner] / "hello_1.0.0_0.bin").read_bytes()


@pytest.mark.fault(24)
def test_32_publishers_of_the_same_bytes_all_succeed(place: S3Place, tmp_path: Path) -> None:
    folder = make_release(tmp_path, "1.0.0").folder
    with Reader(place) as reader:
        ended(start(place, [folder] * 32, tmp_path / "answers"))
    assert not reader.wrong
    answers = answers_in(tmp_path / "answers").values()
    assert len(answers) == 32
    assert {answer["state"] for answer in answers} == {"published"}
    assert [answer["no_op"] for answer in answers].count(False) == 1
    assert len({answer["audit"] for answer in answers}) == 1
    recovered(place.repository())
    reader.witness.settled(place.files())
    assert reader.witness.revision == 1


@pytest.mark.fault(25, 26, 28)
def test_32_publishers_of_many_versions_with_kills_and_stops(place: S3Place, tmp_path: Path) -> None:
    releases = [make_release(tmp_path, f"1.{number}.0") for number in range(32)]
    with Reader(place) as reader:
        children = start(place, [release.folder for release in releases], tmp_path / "answers")
        killed, stopped = disturb(children, random.Random(32))
    assert not reader.wrong
    print(f"killed {killed}, stopped {stopped}, the reader looked {reader.looks} times")
    assert killed
    assert stopped
    for number, answer in answers_in(tmp_path / "answers").items():
        assert answer["state"] == "published", answer
        reader.witness.acknowledge(f"1.{number}.0", str(answer["audit"]))
    recovered(place.repository())
    reader.witness.settled(place.files())
    for release in releases:
        done = publish(place.repository(), release)
        reader.witness.acknowledge(release.version, done.audit_sha256)
    reader.witness.settled(place.files())
    assert reader.witness.revision == 32
