"""Whatever is done in whatever order, killed wherever: the repository is what a model of a page says it is."""

import contextlib
import gc
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.errors import AtomicPublishError, DuplicateVersion, PublicationError
from orchestrator.publication import ReleaseStatus
from orchestrator.publish import lifecycle
from orchestrator.publish.lifecycle import Office, Order
from orchestrator.repositories.interface import Repository
from orchestrator.repositories.local import LocalRepository
from orchestrator.trust import VerifiedRelease
from tests import object_stores
from tests.faults.buckets import GcsPlace, Place, S3Place
from tests.faults.invariants import Witness, disk
from tests.faults.mortal import Mortal
from tests.faults.publisher_program import KEYS, make_release, now, publish, recovered
from tests.repository_fake import Killed, MemoryRepository

VERSIONS = ("1.0.0", "1.1.0", "v1.0.0", "2.0.0-rc.1")
TEXTS = ("one", "other")
ACTIVE, YANKED, REVOKED, SUPERSEDED = (
    ReleaseStatus.ACTIVE, ReleaseStatus.YANKED, ReleaseStatus.REVOKED, ReleaseStatus.SUPERSEDED,
)  # fmt: skip
TOGETHER = settings(
    max_examples=120, stateful_step_count=16, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip

EXAMPLES = 40 if os.environ.get("RELBUILD_FAULTS") == "full" else 6
"""Of each server of an object store, where a step takes a hundred times as long."""


class Fragile:
    """A repository whose process dies before its n-th call that changes something."""

    CHANGING: ClassVar = {"put_new", "put", "put_all", "move_new", "swap_pointer", "delete"}

    def __init__(self, repository: Repository, dies_at: int) -> None:
        self._repository, self._left = repository, dies_at

    def __getattr__(self, name: str) -> object:
        if self._left <= 0:
            raise Killed
        if name in self.CHANGING:
            self._left -= 1
            if self._left <= 0:
                raise Killed
        return getattr(self._repository, name)


@dataclass
class Model:
    """What must be true: the text that each version was published or claimed with, and its status."""

    published: dict[str, str] = field(default_factory=dict)
    status: dict[str, ReleaseStatus] = field(default_factory=dict)
    claimed: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    abandoned: set[str] = field(default_factory=set)

    def like(self, version: str) -> str:
        """Name the settled version that another is too like, itself included; empty for none."""
        same = {version.removeprefix("v"), f"v{version.removeprefix('v')}"}
        return next((each for each in (*self.published, *self.abandoned) if each in same), "")

    def latest(self) -> str:
        active = [version for version, status in self.status.items() if status is ACTIVE]
        stable = [version for version in active if "-" not in version]
        return max(stable or active, key=_order, default="")

    def roll_forward(self) -> None:
        for version in [each for each in self.claimed if each not in self.broken]:
            text = self.claimed.pop(version)
            if not self.like(version):
                self.published[version], self.status[version] = text, ACTIVE

    def may_publish(self, version: str, text: str) -> bool:
        if version in self.claimed:
            return version not in self.broken and self.claimed[version] == text and not self.like(version)
        if version in self.published:
            return self.published[version] == text and self.status[version] is not REVOKED
        return not self.like(version)


class Machine(RuleBasedStateMachine):
    """Over a repository in memory, without locks: an object store."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="relbuild-machine-"))
        self.model, self.witness = Model(), Witness()
        self.made: dict[tuple[str, str], VerifiedRelease] = {}
        self.start()

    def start(self) -> None:
        self.store = MemoryRepository()

    def teardown(self) -> None:
        shutil.rmtree(self.base, ignore_errors=True)

    def repository(self) -> Repository:
        return self.store

    def files(self) -> dict[str, bytes]:
        return dict(self.store.objects)

    def remove(self, key: str) -> None:
        del self.store.objects[key]

    def dying(self, dies_at: int) -> Repository:
        return Mortal(self.store, dies_at=dies_at)

    def bury(self) -> None:
        self.store.dead = True

    def release(self, version: str, text: str) -> VerifiedRelease:
        if (version, text) not in self.made:
            self.made[version, text] = make_release(self.base / text, version, text)
        return self.made[version, text]

    @rule(version=st.sampled_from(VERSIONS), text=st.sampled_from(TEXTS))
    def publish(self, version: str, text: str) -> None:
        self.model.roll_forward()
        allowed = self.model.may_publish(version, text)
        before = version in self.model.published
        try:
            done = publish(self.repository(), self.release(version, text))
        except DuplicateVersion:
            assert not allowed
            return
        except AtomicPublishError:
            assert version in self.model.broken
            return
        assert allowed
        assert done.no_op == before
        self.model.published.setdefault(version, text)
        self.model.status.setdefault(version, ACTIVE)
        self.witness.acknowledge(version, done.audit_sha256)

    @rule(version=st.sampled_from(VERSIONS), text=st.sampled_from(TEXTS), dies_at=st.integers(1, 24))
    def publish_and_die(self, version: str, text: str, dies_at: int) -> None:
        allowed = self.model.may_publish(version, text)
        with contextlib.suppress(Killed, DuplicateVersion, AtomicPublishError):
            publish(self.dying(dies_at), self.release(version, text))
        self.bury()
        files = self.files()
        txn = b'"version": "%s"' % version.encode()
        claiming = any(
            key.endswith("txn.json") and txn in body and key.replace("txn.json", "fate") in files
            for key, body in files.items()
        )
        if allowed and version not in self.model.claimed and (f"{version}.audit.json" in files or claiming):
            self.model.claimed[version] = text
        self.look_what_became()

    @rule(dies_at=st.integers(1, 16))
    def recover_and_die(self, dies_at: int) -> None:
        with contextlib.suppress(Killed):
            recovered(self.dying(dies_at))
        self.bury()
        self.look_what_became()

    def look_what_became(self) -> None:
        """See how far a dead process got with what the model knows to be claimed: no claim may go otherwise."""
        index = self.witness.look(self.files())
        listed = {entry["version"] for entry in index["releases"]} if index else set()
        for version in [each for each in self.model.claimed if each in listed]:
            assert version not in self.model.broken
            text = self.model.claimed.pop(version)
            self.model.published.setdefault(version, text)
            self.model.status.setdefault(version, ACTIVE)

    @rule()
    def recover(self) -> None:
        recovered(self.repository())
        self.model.roll_forward()
        if not self.model.broken - self.model.abandoned:
            self.witness.settled(self.files())

    @precondition(lambda self: set(self.model.claimed) - self.model.broken)
    @rule(data=st.data())
    def tamper(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(set(self.model.claimed) - self.model.broken)))
        files = self.files()
        if f"{version}.audit.json" not in files or self.model.like(version):
            return
        ending = f"hello_{version}_0.bin"
        staged = [key for key in files if key.startswith(".staging-") and key.endswith(ending)]
        placed = [key for key in (f"{version}/{ending}",) if key in files]
        for key in (*staged, *placed):
            self.remove(key)
            self.witness.once.pop(key, None)
        self.model.broken.add(version)

    @precondition(lambda self: self.model.claimed)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.model.claimed)))
        allowed = version in self.model.broken and not self.model.like(version)
        if self.changed(lifecycle.abandon, version, allowed):
            self.model.abandoned.add(version)
            del self.model.claimed[version]

    @rule(version=st.sampled_from(VERSIONS))
    def yank(self, version: str) -> None:
        if self.changed(lifecycle.yank, version, self.model.status.get(version) in {ACTIVE, SUPERSEDED, YANKED}):
            self.model.status[version] = YANKED

    @rule(version=st.sampled_from(VERSIONS))
    def revoke(self, version: str) -> None:
        if self.changed(lifecycle.revoke, version, version in self.model.published):
            self.model.status[version] = REVOKED

    @rule(version=st.sampled_from(VERSIONS[:2]))
    def rollback(self, version: str) -> None:
        if self.changed(lifecycle.rollback, version, self.model.status.get(version) in {ACTIVE, SUPERSEDED}):
            if self.model.latest() == version:
                return
            for other, status in self.model.status.items():
                if status is ACTIVE and _order(other) > _order(version):
                    self.model.status[other] = SUPERSEDED
            self.model.status[version] = ACTIVE

    def changed(self, change: Callable[..., object], version: str, allowed: bool) -> bool:
        office = Office(repository=self.repository(), keys=KEYS, trust=KEYS)
        order = Order(
            actor="a test", now=now(), expires=now() + timedelta(days=9), reason="a test", repository_id="test"
        )
        try:
            change(office, version, order)
        except PublicationError:
            assert not allowed
            return False
        assert allowed
        return True

    @invariant()
    def the_repository_is_what_the_model_says(self) -> None:
        index = self.witness.look(self.files())
        listed = {entry["version"]: entry["status"] for entry in index["releases"]} if index else {}
        assert listed == {version: status.value for version, status in self.model.status.items()}


class FolderMachine(Machine):
    """Over a repository in memory that has locks and moves folders."""

    def start(self) -> None:
        self.store = MemoryRepository(folders=True)

    def repository(self) -> Repository:
        self.store.dead = True  # every earlier process is gone: one rule is one process
        return self.store


class LocalMachine(Machine):
    """Over a real folder."""

    def start(self) -> None:
        self.folder = self.base / "repository"
        self.folder.mkdir()

    def repository(self) -> Repository:
        return LocalRepository(self.folder)

    def files(self) -> dict[str, bytes]:
        return disk(self.folder)

    def remove(self, key: str) -> None:
        (self.folder / key).unlink()

    def dying(self, dies_at: int) -> Repository:
        return Fragile(LocalRepository(self.folder), dies_at)  # type: ignore[return-value]  # it hands on

    def bury(self) -> None:
        # The dead process' locks go with its repository object.
        gc.collect()


class StoreMachine(Machine):
    """Over a real server of an object store: below a new prefix each time."""

    places: ClassVar[Iterator[Place]]

    def start(self) -> None:
        self.place = next(self.places)

    def repository(self) -> Repository:
        return self.place.repository()

    def files(self) -> dict[str, bytes]:
        return self.place.files()

    def remove(self, key: str) -> None:
        self.place.remove(key)

    def dying(self, dies_at: int) -> Repository:
        return Fragile(self.place.repository(), dies_at)  # type: ignore[return-value]  # it hands on

    def bury(self) -> None:
        """Do nothing: nobody knows of a process that died before a store like this."""


def s3_places(url: str) -> Iterator[Place]:
    from orchestrator.repositories import s3_client

    bucket, client = object_stores.new_s3_bucket(url), s3_client.client(url, "")
    for number in itertools.count():
        yield S3Place(url=url, bucket=bucket, prefix=f"{number}", client=client, asking=lambda: client)


def gcs_places(url: str) -> Iterator[Place]:
    object_stores.require("google.cloud.storage")
    bucket = object_stores.new_gcs_bucket(url)
    for number in itertools.count():
        yield GcsPlace(url=url, bucket=bucket, prefix=f"{number}")


@pytest.mark.parametrize(
    ("server", "given"),
    [
        (object_stores.moto, s3_places),
        (object_stores.radosgw, s3_places),
        (object_stores.fake_gcs_server, gcs_places),
    ],
    ids=["moto", "radosgw", "fake-gcs-server"],
)
def test_stores(
    server: Callable[[Path], contextlib.AbstractContextManager[str]], given: Callable[[str], Iterator[Place]],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_stores.S3_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_stores.S3_SECRET)
    with server(tmp_path) as url:

        class Here(StoreMachine):
            places = given(url)

        run_state_machine_as_test(Here, settings=settings(TOGETHER, max_examples=EXAMPLES))


def _order(version: str) -> tuple[int, ...]:
    numbers, _, pre = version.removeprefix("v").partition("-")
    return (*map(int, numbers.split(".")), 0 if pre else 1)


TestObjects = Machine.TestCase
TestObjects.settings = TOGETHER
TestFolders = FolderMachine.TestCase
TestFolders.settings = TOGETHER
TestLocal = LocalMachine.TestCase
TestLocal.settings = settings(TOGETHER, max_examples=20)
