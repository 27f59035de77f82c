"""A whole publish to an object store over a network that fails: at each request in turn, once or from there on.

By default every kind of fault at a spread of the requests, and at each that decides (the fate, the claim, the seal,
the index and its signature); RELBUILD_FAULTS=full takes all. Each test prints how many it took.
"""

import copy
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from builders.errors import RelbuildError
from orchestrator.errors import IndexReplayed
from orchestrator.publication import Index, PublicationState
from orchestrator.publish import pointer
from orchestrator.publish.desk import state_of
from orchestrator.publish.seen import remember
from orchestrator.repositories.interface import Repository
from orchestrator.repositories.slow_answers import Pace
from orchestrator.trust import VerifiedRelease
from tests import object_stores
from tests.faults.buckets import S3Place
from tests.faults.invariants import Witness
from tests.faults.publisher_program import KEYS, OneByOne, make_release, publish, recovered
from tests.faulty_network import ANSWERS, CUTS, Cache, Proxy, proxy_before

FULL = os.environ.get("RELBUILD_FAULTS") == "full"
DECIDING = ("fate", "1.1.0.audit.json", "1.1.0.audit.sig", ".sigstore.json", "index.json")
SPREAD = 3
KINDS = (*ANSWERS, *CUTS, "flip", "slow", "hung", "drip")
PATIENT_S, SHORT_S = 30.0, 1.0
"""How long a silent server is waited for here, the second where it is silent by design. The product waits a minute.

An answer that comes byte by byte is given up as soon; the product takes five minutes.
"""


@dataclass
class Scene:
    """A proxy before a server, a repository with one release to start from, and another release to publish."""

    proxy: Proxy
    url: str
    bucket: str
    release: VerifiedRelease
    other: VerifiedRelease
    start: dict[str, bytes]
    witness: Witness
    clients: dict[tuple[str, float], Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    copies: int = 0

    def fresh(self) -> tuple[S3Place, Witness]:
        self.copies += 1
        place = S3Place(
            url=self.url, bucket=self.bucket, prefix=f"copy-{self.copies}",
            client=self.client(self.url), asking=partial(self.client, self.url),
        )  # fmt: skip
        place.write(self.start)
        return place, copy.deepcopy(self.witness)

    def disturbed(self, place: S3Place, *, attempts: int, timeout_s: float = PATIENT_S) -> Repository:
        """Give the same place over the network that fails, one request after the other."""
        through = replace(place, asking=partial(self.client, self.proxy.url, timeout_s), attempts=attempts)
        return OneByOne(through.repository())  # type: ignore[return-value]  # it hands on by __getattr__

    def client(self, url: str, timeout_s: float = PATIENT_S) -> Any:
        """Give the product's own client, made once: making one takes longer than a publish."""
        from orchestrator.repositories import s3_client

        if (url, timeout_s) not in self.clients:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(s3_client, "_READ_TIMEOUT_S", timeout_s)
                self.clients[url, timeout_s] = s3_client.client(url, "", Pace(grace_s=timeout_s))
        return self.clients[url, timeout_s]

    def points(self, kind: str) -> list[int]:
        """Number the requests to spoil, from 1."""
        total = len(self.requests)
        if FULL:
            return list(range(1, total + 1))
        # Each kind elsewhere, so that together they take most.
        step = total // SPREAD
        spread = range(1 + KINDS.index(kind) * step // len(KINDS), total + 1, step)
        return sorted({*self.deciding(), *spread})

    def deciding(self) -> list[int]:
        lines = enumerate(self.requests, start=1)
        return [number for number, line in lines if line.startswith("PUT ") and line.endswith(DECIDING)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    object_stores.require("boto3")
    base = tmp_path_factory.mktemp("commit")
    with pytest.MonkeyPatch.context() as patch, object_stores.radosgw(tmp_path_factory.mktemp("radosgw")) as url:
        patch.setenv("AWS_ACCESS_KEY_ID", object_stores.S3_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", object_stores.S3_SECRET)
        with proxy_before(url) as proxy:
            bucket, witness = object_stores.new_s3_bucket(url), Witness()
            first = S3Place(url=url, bucket=bucket, prefix="first")
            done = publish(first.repository(), make_release(base, "1.0.0", artifacts=1))
            witness.acknowledge("1.0.0", done.audit_sha256)
            witness.settled(first.files())
            made = Scene(
                proxy=proxy, url=url, bucket=bucket, release=make_release(base, "1.1.0", artifacts=1),
                other=make_release(base, "1.2.0", artifacts=1), start=first.files(), witness=witness,
            )  # fmt: skip
            proxy.begin("none", 0)
            publish(made.disturbed(made.fresh()[0], attempts=1), made.release)
            made.requests = proxy.seen
            yield made


@dataclass(frozen=True)
class Said:
    """What a publisher said at its end."""

    state: PublicationState
    audit_sha256: str = ""
    error: str = ""


def attempt(repository: Repository, release: VerifiedRelease) -> Said:
    try:
        done = publish(repository, release)
    except RelbuildError as error:
        return Said(state_of(error), error=f"{type(error).__name__}: {error}")
    return Said(done.state, audit_sha256=done.audit_sha256)


def spoiled(scene: Scene, kind: str, at: int, *, lasting: bool) -> Said:
    """Publish over the failing network, and hold what is there against what was said, before and after recovery."""
    place, witness = scene.fresh()
    timeout_s = (SHORT_S / 2 if lasting else SHORT_S) if kind in {"hung", "drip"} else PATIENT_S
    repository = scene.disturbed(place, attempts=2 if lasting else 6, timeout_s=timeout_s)
    scene.proxy.begin(kind, at, lasting=lasting)
    said = attempt(repository, scene.release)
    scene.proxy.released.set()
    reached = scene.proxy.asked
    scene.proxy.begin("none", 0)
    assert reached >= at
    if said.state is PublicationState.PUBLISHED:
        witness.acknowledge("1.1.0", said.audit_sha256)
    witness.look(place.files())
    recovered(place.repository())
    files = place.files()
    witness.settled(files)
    there = "1.1.0" in witness.listed
    assert there or said.state is not PublicationState.PUBLISHED
    assert not there or said.state is not PublicationState.NOT_PUBLISHED
    # The number is not lost by a fault: the same bytes are out afterwards in every case.
    again = publish(place.repository(), scene.release)
    assert again.no_op is there
    witness.acknowledge("1.1.0", again.audit_sha256)
    witness.settled(place.files())
    for secret in (object_stores.S3_SECRET, "AKIDSECRET"):
        assert secret not in said.error
    return said


@pytest.mark.fault(31, 32, 33, 34, 35, 36, 38, 40)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_in_one_request_of_a_publish(scene: Scene, kind: str) -> None:
    chosen = scene.points(kind)
    states: Counter[str] = Counter()
    for at in chosen:
        said = spoiled(scene, kind, at, lasting=False)
        states[said.state] += 1
        # Credentials are not asked for twice; everything else is survived.
        assert said.state is PublicationState.PUBLISHED or kind == "403", (at, scene.requests[at - 1], said)
    print(f"{kind}: {len(chosen)} of {len(scene.requests)} requests: {dict(states)}")


@pytest.mark.fault(31, 32, 33, 34, 35, 36, 40)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "slow"])
def test_a_network_that_stays_bad_from_some_request_on(scene: Scene, kind: str) -> None:
    chosen = scene.points(kind)
    states: Counter[str] = Counter(spoiled(scene, kind, at, lasting=True).state for at in chosen)
    print(f"{kind} from there on: {len(chosen)} of {len(scene.requests)} requests: {dict(states)}")
    assert states[PublicationState.NOT_PUBLISHED]
    assert states[PublicationState.CLAIMED]


@pytest.mark.fault(34)
def test_a_publisher_that_waits_for_a_silent_store_holds_nobody_up(scene: Scene) -> None:
    chosen = scene.points("hung") if FULL else scene.deciding()[1::2]
    for at in chosen:
        place, witness = scene.fresh()
        scene.proxy.begin("hung", at)
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(attempt, scene.disturbed(place, attempts=6), scene.release)
            try:
                assert scene.proxy.hanging.wait(30)
                done = publish(place.repository(), scene.other)
                witness.acknowledge("1.2.0", done.audit_sha256)
                witness.look(place.files())
                assert not slow.done()
            finally:
                scene.proxy.released.set()
        said = slow.result()
        assert said.state is PublicationState.PUBLISHED, (at, scene.requests[at - 1], said)
        witness.acknowledge("1.1.0", said.audit_sha256)
        witness.settled(place.files())
    print(f"waited at {len(chosen)} of {len(scene.requests)} requests")


@pytest.mark.fault(42)
@pytest.mark.parametrize("uses", [3, 1000])
def test_a_cache_that_gives_an_old_index_again(scene: Scene, uses: int) -> None:
    """Others publish meanwhile. What the cache gives leads to no swap; in the end it is out, or said to be claimed."""
    place, witness = scene.fresh()
    cache = scene.proxy.cache = Cache("/index.json$", uses)
    scene.proxy.begin("none", 0)
    try:
        behind = scene.disturbed(place, attempts=6)
        assert behind.read_pointer(PurePosixPath("index.json"))
        witness.acknowledge("1.2.0", publish(place.repository(), scene.other).audit_sha256)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pointer, "_TRIES", 12)
            said = attempt(behind, scene.release)
    finally:
        scene.proxy.cache = None
    assert cache.served >= 3
    witness.look(place.files())
    if uses == 3:
        assert said.state is PublicationState.PUBLISHED, said
        witness.acknowledge("1.1.0", said.audit_sha256)
    else:
        assert said.state is PublicationState.CLAIMED, said
        assert "changed by others" in said.error
        assert "1.1.0" not in witness.listed
    recovered(place.repository())
    witness.settled(place.files())
    assert {"1.0.0", "1.1.0", "1.2.0"} <= set(witness.listed)


@pytest.mark.fault(42)
def test_a_reader_behind_such_a_cache_refuses_what_is_older_than_it_saw(scene: Scene, tmp_path: Path) -> None:
    place, _ = scene.fresh()
    scene.proxy.begin("none", 0)
    behind = scene.disturbed(place, attempts=6)
    scene.proxy.cache = Cache("/index.json$", 1000)
    try:
        remember(_index_of(behind), "there", tmp_path)
        publish(place.repository(), scene.other)
        assert _index_of(behind).revision == 1, "the cache still gives the old one, which nothing tells from a new one"
        remember(_index_of(place.repository()), "there", tmp_path)
        with pytest.raises(IndexReplayed, match="a rollback"):
            remember(_index_of(behind), "there", tmp_path)
    finally:
        scene.proxy.cache = None


def _index_of(repository: Repository) -> Index:
    index = pointer.KnownIndex(repository, KEYS).read().index
    assert index is not None
    return index


@pytest.mark.fault(31)
@pytest.mark.parametrize("only", ["^PUT .*/index.json$", "^PUT .*/1.1.0.audit.json$", "^PUT .*/fate$"])
@pytest.mark.parametrize("kind", ["503", "flip", "cut before"])
def test_a_store_that_gives_answers_and_takes_nothing_is_given_up_soon(scene: Scene, kind: str, only: str) -> None:
    place, witness = scene.fresh()
    scene.proxy.begin(kind, 1, lasting=True, only=only)
    said = attempt(scene.disturbed(place, attempts=3), scene.release)
    asked = scene.proxy.asked
    scene.proxy.begin("none", 0)
    assert said.state is PublicationState.CLAIMED, said
    assert 3 <= asked <= 3 * 5
    recovered(place.repository())
    files = place.files()
    witness.settled(files)
    # A signature that nobody needs for each try, and no more.
    assert len([key for key in files if key.startswith(".index/")]) <= 2 + 5


def test_the_requests_that_decide_are_found(scene: Scene) -> None:
    """The control: a publish has few requests that decide, and the sample holds each of them for every fault."""
    print("\n".join(f"{number:3} {line}" for number, line in enumerate(scene.requests, start=1)))
    for ending in DECIDING:
        found = [at for at, line in enumerate(scene.requests, 1) if line.startswith("PUT ") and line.endswith(ending)]
        assert len(found) == 1, ending
        assert all(found[0] in scene.points(kind) for kind in KINDS)
