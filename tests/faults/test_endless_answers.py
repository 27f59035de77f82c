"""Stores that never fall silent and never end: bytes that come one by one, heads and promises without an end."""

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from orchestrator.errors import OutcomeUnknown
from orchestrator.repositories.interface import PointerToken, Repository
from orchestrator.repositories.retrying import RetryingRepository
from orchestrator.repositories.slow_answers import USUAL, Pace
from tests import object_stores
from tests.faulty_network import DRIPS, Proxy, proxy_before

KEY, INDEX, STAGING = PurePosixPath("1.0.0.audit.json"), PurePosixPath("index.json"), PurePosixPath(".staging-1")
QUICK = Pace(grace_s=0.3, bytes_per_s=1_000_000)
LONG_S = 5.0
"""Far less than the twenty seconds that such an answer takes here at least, and than the minute of a silent one."""

Open = Callable[[Pace], Repository]


def patient(opened: Open) -> Repository:
    """Give the same store as whoever is in no hurry sees it: what is right must not end for the machine's sake."""
    return RetryingRepository(opened(USUAL))


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture(scope="module", params=["s3", "gcs"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Open]]:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch, proxy_before("http://127.0.0.1:1") as proxy:
        patch.setenv("AWS_ACCESS_KEY_ID", object_stores.S3_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", object_stores.S3_SECRET)
        with _s3(folder, proxy) if request.param == "s3" else _gcs(folder, proxy) as opened:
            yield proxy, opened


@contextlib.contextmanager
def _s3(folder: Path, proxy: Proxy) -> Iterator[Open]:
    object_stores.require("boto3")
    from orchestrator.repositories.s3 import S3Repository
    from orchestrator.repositories.s3_client import client

    with object_stores.moto(folder) as url:
        proxy.before(url)
        bucket = object_stores.new_s3_bucket(url)
        yield lambda pace: S3Repository(bucket, connect=partial(client, proxy.url, "", pace))


@contextlib.contextmanager
def _gcs(folder: Path, proxy: Proxy) -> Iterator[Open]:
    object_stores.require("google.cloud.storage")
    from orchestrator.repositories.gcs import GcsRepository
    from orchestrator.repositories.gcs_bucket import client

    with object_stores.fake_gcs_server(folder, known_as=proxy.url) as url:
        proxy.before(url)
        bucket = object_stores.new_gcs_bucket(url)
        yield lambda pace: GcsRepository(bucket, connect=partial(client, proxy.url, pace))


def read(repository: Repository, key: PurePosixPath) -> bytes:
    with repository.open(key) as stream:
        return stream.read()


def filled(proxy: Proxy, opened: Open) -> PointerToken:
    proxy.begin("none", 0)
    repository = patient(opened)
    pointer = repository.read_pointer(INDEX)
    token = pointer.token if pointer else repository.swap_pointer(INDEX, b"one", None)
    for name in ("payload/large", "payload/a"):
        body = bytes(1 << 20)
        repository.put(STAGING / name, body, digest(body))
    return token


@pytest.mark.fault(34)
@pytest.mark.parametrize("fault", DRIPS)
def test_an_answer_that_never_ends_is_given_up(store: tuple[Proxy, Open], fault: str) -> None:
    proxy, opened = store
    repository = opened(QUICK)
    token = filled(proxy, opened)
    asks: dict[str, Callable[[], object]] = {
        "create": lambda: repository.put_new(KEY, b"mine", digest(b"mine")),
        "put": lambda: repository.put(STAGING / "other", b"mine", digest(b"mine")),
        "read": lambda: read(repository, STAGING / "payload/large"),
        "pointer": lambda: repository.read_pointer(INDEX),
        "swap": lambda: repository.swap_pointer(INDEX, b"two", token),
        "list": lambda: list(repository.list(PurePosixPath())),
        "names": lambda: list(repository.names("")),
        "move": lambda: repository.move_new(STAGING / "payload", PurePosixPath("1.0.0"), [PurePosixPath("a")]),
        "delete": lambda: repository.delete(STAGING),
    }
    for name, ask in asks.items():
        proxy.begin(fault, 1, lasting=True)
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            ask()
        assert time.monotonic() - began < LONG_S, name
        assert proxy.hanging.wait(LONG_S), name
        proxy.released.set()
    proxy.begin("none", 0)
    assert RetryingRepository(repository).read_pointer(INDEX) is not None, "the client goes on with new connections"


@pytest.mark.fault(34)
def test_an_end_within_a_body_is_given_up_too(store: tuple[Proxy, Open]) -> None:
    """Nearly all of it came at once, so that more time is due; and the reader has begun to give it on."""
    proxy, opened = store
    repository = opened(QUICK)
    filled(proxy, opened)
    # Google's is asked for what it has before it is asked for its bytes.
    proxy.begin("drip", 1, lasting=True, only=r"^GET \S*(large$|alt=media)")
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        read(repository, STAGING / "payload/large")
    assert 1 <= time.monotonic() - began < LONG_S
    proxy.released.set()


@pytest.mark.fault(34)
@pytest.mark.parametrize(("bytes_per_s", "survives"), [(400, True), (100_000, False)])
def test_what_is_due_grows_with_what_came(store: tuple[Proxy, Open], bytes_per_s: int, *, survives: bool) -> None:
    """An answer at 1,600 bytes a second takes more than two seconds here, and is let be where less is asked for."""
    proxy, opened = store
    repository = opened(Pace(grace_s=1.0, bytes_per_s=bytes_per_s))
    proxy.begin("none", 0)
    body = bytes(4_000)
    patient(opened).put(STAGING / "slow", body, digest(body))
    proxy.begin("slow", 1, lasting=True)
    if survives:
        assert read(repository, STAGING / "slow") == body
    else:
        with pytest.raises(OutcomeUnknown):
            read(repository, STAGING / "slow")


def test_a_reader_that_is_slow_itself_blames_nobody(store: tuple[Proxy, Open]) -> None:
    proxy, opened = store
    repository = opened(Pace(grace_s=1.0, bytes_per_s=1 << 40))
    proxy.begin("none", 0)
    body = bytes(7 << 20)
    patient(opened).put(STAGING / "large", body, digest(body))
    came = 0
    with repository.open(STAGING / "large") as stream:
        while chunk := stream.read(1 << 20):
            came += len(chunk)
            time.sleep(0.4)
    assert came == len(body)


@pytest.mark.fault(34)
@pytest.mark.parametrize(("more", "pace"), [(b"", USUAL), (b"X-Slow: x", QUICK)], ids=["hangs up", "goes on"])
def test_a_promise_to_listen_that_never_ends(more: bytes, pace: Pace, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore reads "100 Continue" by itself, up to an empty line, and asks for more even at the end."""
    object_stores.require("boto3")
    from orchestrator.repositories.s3 import S3Repository
    from orchestrator.repositories.s3_client import client

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    body = bytes(2 << 20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        repository = S3Repository("bucket", connect=partial(client, url, "", pace))
        threading.Thread(target=_promise, args=(server, more), daemon=True).start()
        ended = _in_thread(lambda: repository.put(STAGING / "large", body, digest(body)))
        assert isinstance(ended.exception(LONG_S), OutcomeUnknown)


def _promise(server: socket.socket, more: bytes) -> None:
    asked, _ = server.accept()
    with asked:
        while b"\r\n\r\n" not in asked.recv(1 << 16):
            pass
        asked.sendall(b"HTTP/1.1 100 Continue\r\n")
        try:
            while more:
                asked.sendall(more)
                time.sleep(0.05)
        except ConnectionError:
            return


def _in_thread(ask: Callable[[], Any]) -> "Future[object]":
    """Run something that may never end; its thread holds nobody up."""
    ended: Future[object] = Future()

    def run() -> None:
        try:
            ended.set_result(ask())
        except BaseException as error:  # noqa: BLE001  (the test looks at it)
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return ended
