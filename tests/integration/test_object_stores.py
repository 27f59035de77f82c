"""Object stores that misbehave: servers that every probe must refuse, and a network that fails at every request."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from orchestrator.errors import KeyTaken, OutcomeUnknown, PointerMoved, RepositoryError
from orchestrator.repositories import probe
from orchestrator.repositories.interface import PointerToken, Repository, Upload
from tests import object_stores
from tests.faulty_network import ANSWERS, CUTS, Proxy, proxy_before
from tests.repository_fake import Broken, MemoryRepository

ROOT = Path(__file__).parents[2]
STAGING = PurePosixPath(".staging-1")
PAYLOAD = STAGING / "payload"
INDEX = PurePosixPath("index.json")
CLAIM = PurePosixPath("v1.audit.json")
KEYS = [PurePosixPath(name) for name in ("app", "empty", "checksums.txt", "manifest.json")]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_stores.S3_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_stores.S3_SECRET)


def s3(url: str, bucket: str) -> Repository:
    from orchestrator.repositories.s3 import S3Repository

    return S3Repository(bucket, endpoint=url)


@pytest.fixture(scope="module")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_stores.radosgw(tmp_path_factory.mktemp("radosgw")) as url:
        yield url


# --- the probe ------------------------------------------------------------------------------------------------------


@pytest.mark.fault(37)
def test_rclone_is_refused_because_it_ignores_conditions(tmp_path: Path) -> None:
    with object_stores.rclone(tmp_path) as url:
        store = s3(url, object_stores.new_s3_bucket(url))
        with pytest.raises(RepositoryError, match="ignores If-None-Match"):
            store.probe()
        assert list(store.list(PurePosixPath())) == []


@pytest.mark.fault(37)
def test_swift_is_refused_because_it_has_no_if_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_stores.SWIFT_KEY)
    with object_stores.swift(tmp_path) as url:
        store = s3(url, object_stores.new_s3_bucket(url, object_stores.SWIFT_KEY))
        with pytest.raises(RepositoryError, match="NotImplemented"):
            store.probe()
        assert list(store.list(PurePosixPath())) == []
        # It keeps If-None-Match from one request to the next, so that only a race shows what it is worth.
        probe._create_twice(store, PurePosixPath(".staging-probe-1/a"))
        with pytest.raises(RepositoryError, match="at the same time"):
            race_creates(store, rounds=40)


@pytest.mark.fault(37)
def test_moto_is_refused_because_it_takes_a_wrong_checksum(tmp_path: Path) -> None:
    from orchestrator.repositories import s3_probe
    from orchestrator.repositories.s3 import S3Repository

    with object_stores.moto(tmp_path) as url:
        store = S3Repository(object_stores.new_s3_bucket(url), endpoint=url)
        # It also checks and writes in two steps: on some days two racers win before checksums are asked for.
        with pytest.raises(RepositoryError, match=r"not those of their SHA-256|at the same time"):
            store.probe()
        with pytest.raises(RepositoryError, match="not those of their SHA-256"):
            s3_probe.require_checksums(store._bucket, PurePosixPath("sums"))


@pytest.mark.fault(37)
def test_gcp_storage_emulator_is_refused_because_it_ignores_generations(tmp_path: Path) -> None:
    object_stores.require("google.cloud.storage")
    from orchestrator.repositories.gcs import GcsRepository

    with object_stores.gcp_storage_emulator(tmp_path) as url:
        store = GcsRepository(object_stores.new_gcs_bucket(url), endpoint=url)
        with pytest.raises(RepositoryError, match="ignores If-None-Match"):
            store.probe()


def race_creates(store: Repository, rounds: int) -> None:
    for number in range(rounds):
        probe._race_creates(store, PurePosixPath(f".staging-probe-1/b{number}"), 8)


def test_radosgw_passes(rgw: str) -> None:
    store = s3(rgw, object_stores.new_s3_bucket(rgw))
    store.probe()
    assert list(store.list(PurePosixPath())) == []


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (Broken(ignores_create_condition=True), "creates an object that is there already"),
        (Broken(ignores_swap_condition=True), "replaces an object that has changed"),
        (Broken(races=True), "at the same time"),
        (Broken(takes_wrong_bytes=True), "not those of their checksum"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_each_broken_promise_is_noticed(broken: Broken, why: str) -> None:
    store = MemoryRepository(broken=broken)
    with pytest.raises(RepositoryError, match=why):
        store.probe()
    assert not store.objects
    MemoryRepository().probe()


def test_a_store_that_keeps_each_promise_only_one_at_a_time_is_refused_by_the_race_alone() -> None:
    store = MemoryRepository(broken=Broken(races=True))
    probe._create_twice(store, PurePosixPath(".staging-probe-1/a"))
    probe._swap_stale(store, PurePosixPath(".staging-probe-1/b"))
    with pytest.raises(RepositoryError, match="at the same time"):
        probe._race_creates(store, PurePosixPath(".staging-probe-1/c"), 8)
    with pytest.raises(RepositoryError, match="at the same time"):
        probe._race_swaps(store, PurePosixPath(".staging-probe-1/d"), 8)


# --- a network that fails -------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(rgw: str) -> Iterator[Proxy]:
    with proxy_before(rgw) as server:
        yield server


def through(proxy: Proxy, rgw: str) -> Repository:
    """Give a repository that asks patiently; the proxy ends each connection, so that each request counts."""
    object_stores.require("tenacity")
    from orchestrator.repositories.retrying import Patience, RetryingRepository

    inner = s3(proxy.url, object_stores.new_s3_bucket(rgw))
    return RetryingRepository(inner, Patience(attempts=4, first_pause_s=0.001, longest_pause_s=0.01))


def story(store: Repository) -> None:
    bodies = {key: key.name.encode() if key.name != "empty" else b"" for key in KEYS}
    store.put_all([Upload(key=PAYLOAD / key, body=body, sha256=sha256(body)) for key, body in bodies.items()])
    store.put_new(CLAIM, b"claim", sha256(b"claim"))
    store.move_new(PAYLOAD, PurePosixPath("v1"), KEYS)
    token = store.swap_pointer(INDEX, b"one", None)
    assert store.swap_pointer(INDEX, b"two", token) != token
    store.delete(STAGING)


def require_published(store: Repository) -> None:
    pointer = store.read_pointer(INDEX)
    assert pointer is not None
    assert pointer.body == b"two"
    found = {entry.key.as_posix(): entry.size_bytes for entry in store.list(PurePosixPath())}
    assert found == {
        "index.json": 3, "v1.audit.json": 5, "v1/app": 3, "v1/checksums.txt": 13, "v1/empty": 0, "v1/manifest.json": 13,
    }  # fmt: skip


@pytest.mark.fault(31, 32, 33, 35, 36, 38)
@pytest.mark.parametrize("fault", [*(name for name in ANSWERS if name != "403"), *CUTS, "flip", "slow"])
def test_a_fault_in_any_one_request_is_survived(proxy: Proxy, rgw: str, fault: str) -> None:
    store = through(proxy, rgw)
    proxy.begin("none", 0)
    story(store)
    requests = proxy.asked
    assert requests > 12
    for at in range(1, requests + 1):
        store = through(proxy, rgw)
        proxy.begin(fault, at)
        story(store)
        proxy.begin("none", 0)
        require_published(store)


def test_without_the_read_back_a_lost_answer_is_a_false_no(proxy: Proxy, rgw: str) -> None:
    """The adapter alone cannot tell; so this shows that what is above it is needed."""
    inner = through(proxy, rgw)._inner  # type: ignore[attr-defined]  # the adapter inside
    proxy.begin("cut after", 1)
    with pytest.raises(OutcomeUnknown):
        inner.put_new(CLAIM, b"claim", sha256(b"claim"))
    with pytest.raises(KeyTaken):
        inner.put_new(CLAIM, b"claim", sha256(b"claim"))
    token = inner.swap_pointer(INDEX, b"one", None)
    proxy.begin("cut after", 1)
    with pytest.raises(OutcomeUnknown):
        inner.swap_pointer(INDEX, b"two", token)
    with pytest.raises(PointerMoved):
        inner.swap_pointer(INDEX, b"two", token)


@pytest.mark.fault(32)
def test_a_lost_answer_never_makes_somebody_elses_object_ours(proxy: Proxy, rgw: str) -> None:
    store = through(proxy, rgw)
    store.put_new(CLAIM, b"theirs", sha256(b"theirs"))
    token = store.swap_pointer(INDEX, b"theirs", None)
    for fault in ("cut before", "cut after", "503"):
        proxy.begin(fault, 1)
        with pytest.raises(KeyTaken):
            store.put_new(CLAIM, b"ours", sha256(b"ours"))
        proxy.begin(fault, 1)
        with pytest.raises(PointerMoved):
            store.swap_pointer(INDEX, b"ours", PointerToken('"0123456789abcdef0123456789abcdef"'))
    pointer = store.read_pointer(INDEX)
    assert pointer is not None
    assert (pointer.body, pointer.token) == (b"theirs", token)


@pytest.mark.fault(31)
def test_patience_ends(proxy: Proxy, rgw: str) -> None:
    store = through(proxy, rgw)
    proxy.begin("503", 1, lasting=True)
    with pytest.raises(OutcomeUnknown, match="503"):
        store.put_new(CLAIM, b"claim", sha256(b"claim"))
    assert proxy.asked == 4


@pytest.mark.fault(40)
def test_credentials_that_expire_end_the_run_and_are_never_shown(proxy: Proxy, rgw: str) -> None:
    store = through(proxy, rgw)
    proxy.begin("403", 1, lasting=True)
    with pytest.raises(RepositoryError, match="ExpiredToken") as refused:
        store.put_new(CLAIM, b"claim", sha256(b"claim"))
    assert proxy.asked == 1
    shown = str(refused.value) + repr(refused.value)
    for secret in (object_stores.S3_SECRET, object_stores.S3_KEY, "AKIDSECRET"):
        assert secret not in shown


def test_wrong_credentials_and_a_missing_bucket_are_named(rgw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RepositoryError, match="NoSuchBucket"):
        s3(rgw, "no-such-bucket").put_new(CLAIM, b"x", sha256(b"x"))
    bucket = object_stores.new_s3_bucket(rgw)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary-key")
    with pytest.raises(RepositoryError, match="InvalidAccessKeyId") as refused:
        s3(rgw, bucket).put_new(CLAIM, b"x", sha256(b"x"))
    assert "canary-key" not in str(refused.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(RepositoryError, match="NoCredentialsError"):
        s3(rgw, bucket).put_new(CLAIM, b"x", sha256(b"x"))
    with pytest.raises(RepositoryError, match=r"cannot be asked|was lost"):
        s3("http://127.0.0.1:1", bucket).probe()


@pytest.mark.fault(41)
def test_all_pages_of_a_listing_are_read(rgw: str) -> None:
    store = s3(rgw, object_stores.new_s3_bucket(rgw))
    store.put_all([Upload(key=PAYLOAD / f"{number:04}", body=b"", sha256=sha256(b"")) for number in range(1100)])
    assert len(list(store.list(STAGING))) == 1100
    store.delete(STAGING)
    assert list(store.list(PurePosixPath())) == []


def test_a_large_file_is_streamed_and_a_failed_one_leaves_no_parts(rgw: str, tmp_path: Path) -> None:
    """200 MB in less than 150 MB of memory, beyond what the interpreter and boto3 take themselves."""
    (tmp_path / "large").write_bytes(b"")
    os.truncate(tmp_path / "large", 200 << 20)
    program = (
        "import sys, resource\nfrom pathlib import Path, PurePosixPath\n"
        "from builders.hashing import file_sha256\nfrom orchestrator.repositories.s3 import S3Repository\n"
        "store = S3Repository(sys.argv[2], endpoint=sys.argv[1])\nlarge = Path(sys.argv[3])\n"
        "list(store.list(PurePosixPath()))\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "store.put(PurePosixPath('.staging-1/payload/large'), large, file_sha256(large))\n"
        "store.move_new(PurePosixPath('.staging-1/payload'), PurePosixPath('v1'), [PurePosixPath('large')])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    bucket = object_stores.new_s3_bucket(rgw)
    done = subprocess.run(
        [sys.executable, "-c", program, rgw, bucket, str(tmp_path / "large")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert int(done.stdout) < 150 << 10
    store = s3(rgw, bucket)
    assert [entry.size_bytes for entry in store.list(PurePosixPath("v1"))] == [200 << 20]
    with pytest.raises(RepositoryError, match="promised"):
        store.put(STAGING / "wrong", tmp_path / "large", sha256(b"other"))
    pages = store._bucket.pages("list_multipart_uploads", PurePosixPath())  # type: ignore[attr-defined]  # what is left on the server
    assert not [found for page in pages for found in page.get("Uploads", ())]
