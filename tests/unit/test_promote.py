"""The commit over a repository in memory: killed, failed and overtaken at every call, then judged by the witness."""

import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import pytest

from builders.errors import DiskFull, RelbuildError
from orchestrator.errors import (
    AtomicPublishError,
    DigestMismatch,
    DuplicateVersion,
    KeyMissing,
    KeyTaken,
    OutcomeUnknown,
    PointerMoved,
    PolicyViolation,
    RepositoryError,
    VerificationError,
    VerificationRequired,
)
from orchestrator.publication import PublicationState, RuleOutcome
from orchestrator.publish.desk import STAGES, Terms, state_of
from orchestrator.publish.promote import promote
from orchestrator.publish.recover import Became
from orchestrator.repositories.interface import Upload
from orchestrator.repositories.local import LocalRepository
from orchestrator.trust import VerifiedRelease
from tests.faults.invariants import Witness
from tests.faults.mortal import Mortal
from tests.faults.publisher_program import KEYS, OUTCOMES, TERMS, make_release, now, publish, recovered, silent
from tests.repository_fake import Killed, MemoryRepository

IMPATIENT = dataclasses.replace(TERMS, lock_timeout_s=0.0)
"""For a second publisher in the same thread as the holder of the lock."""


@dataclasses.dataclass
class World:
    """A repository with one release in it, and two more to publish."""

    store: MemoryRepository
    release: VerifiedRelease
    other_bytes: VerifiedRelease
    other_version: VerifiedRelease
    witness: Witness

    @property
    def version(self) -> str:
        return self.release.version

    def published(self) -> bool:
        index = self.witness.look(self.store.objects)
        return index is not None and self.version in {entry["version"] for entry in index["releases"]}

    def recover(self) -> None:
        self.store.dead = True
        recovered(self.store)
        self.store.dead = False
        self.witness.settled(self.store.objects)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[VerifiedRelease, ...]:
    base = tmp_path_factory.mktemp("releases")
    return (
        make_release(base, "1.0.0"), make_release(base, "1.1.0"), make_release(base / "other", "1.1.0", "other"),
        make_release(base, "2.0.0"),
    )  # fmt: skip


def new_world(releases: tuple[VerifiedRelease, ...], *, folders: bool, first: bool = False) -> World:
    store, witness = MemoryRepository(folders=folders), Witness()
    if not first:
        witness.acknowledge("1.0.0", publish(store, releases[0]).audit_sha256)
    return World(store=store, release=releases[1], other_bytes=releases[2], other_version=releases[3], witness=witness)


def steps_of(releases: tuple[VerifiedRelease, ...], *, folders: bool, first: bool) -> int:
    process = Mortal(new_world(releases, folders=folders, first=first).store)
    publish(process, releases[1])
    assert process.steps > 14
    return process.steps


both_kinds = pytest.mark.parametrize("folders", [False, True], ids=["objects", "folders"])
Releases = tuple[VerifiedRelease, ...]


# --- what it promises when nothing goes wrong --------------------------------------------------------------------


@both_kinds
def test_a_publish_is_acknowledged_listed_and_leaves_nothing(releases: Releases, folders: bool) -> None:
    world = new_world(releases, folders=folders)
    done = publish(world.store, world.release)
    assert (done.state, done.no_op, done.revision) == (PublicationState.PUBLISHED, False, 2)
    assert [stage.name for stage in done.stages] == list(STAGES)
    assert {file.path for file in done.files} == {str(path) for path, _ in world.release.files}
    world.witness.acknowledge(world.version, done.audit_sha256)
    world.witness.settled(world.store.objects)


@both_kinds
def test_again_with_the_same_bytes_changes_nothing(releases: Releases, folders: bool) -> None:
    world = new_world(releases, folders=folders)
    first = publish(world.store, world.release)
    before = dict(world.store.objects)
    again = publish(world.store, world.release)
    assert again.no_op
    assert (again.revision, again.audit_id, again.files) == (first.revision, first.audit_id, first.files)
    assert world.store.objects == before


@both_kinds
def test_other_bytes_never_replace_a_version(releases: Releases, folders: bool) -> None:
    world = new_world(releases, folders=folders)
    publish(world.store, world.release)
    before = dict(world.store.objects)
    with pytest.raises(DuplicateVersion, match=r"1\.1\.0 is published already, with other bytes") as caught:
        publish(world.store, world.other_bytes)
    assert state_of(caught.value) is PublicationState.NOT_PUBLISHED
    assert world.store.objects == before


@both_kinds
def test_manifest_and_checksums_come_last(releases: Releases, folders: bool) -> None:
    world = new_world(releases, folders=folders)
    publish(world.store, world.release)
    moved = [key for call, key in world.store.calls if call == "move_new" and key.startswith("1.1.0")]
    if not folders:
        assert [key.split("/")[1] for key in moved][-2:] == ["checksums.txt", "manifest.json"]
    order = [key for _, key in world.store.calls if key in {"1.1.0.audit.json", "index.json"} or key in moved]
    assert order[-len(moved) - 2 :] == ["1.1.0.audit.json", *moved, "index.json"]


@pytest.mark.parametrize(
    "broken",
    [(), (RuleOutcome(rule="signed", passed=False, text="it is not", error="SignatureRequired", exit_code=34),)],
    ids=["nothing was judged", "a rule is broken"],
)
def test_nothing_goes_out_that_policy_stops(releases: Releases, broken: tuple[RuleOutcome, ...]) -> None:
    store = MemoryRepository()
    with pytest.raises(PolicyViolation):
        promote(releases[0], store, KEYS, KEYS, outcomes=broken, now=now, observer=silent, terms=TERMS)
    assert not store.objects


@both_kinds
def test_what_was_judged_as_published_is_not_published_where_it_is_not(releases: Releases, folders: bool) -> None:
    world = new_world(releases, folders=folders)
    again = partial(promote, world.release, world.store, KEYS, KEYS, outcomes=OUTCOMES, now=now, observer=silent,
                    terms=TERMS, again=True)  # fmt: skip
    before = dict(world.store.objects)
    with pytest.raises(PolicyViolation, match="is free now: something was removed") as caught:
        again()
    assert state_of(caught.value) is PublicationState.NOT_PUBLISHED
    assert world.store.objects == before
    publish(world.store, world.release)
    assert again().no_op


@pytest.mark.fault(76)
def test_nothing_goes_out_that_was_not_verified_as_it_is(releases: Releases) -> None:
    other = dataclasses.replace(releases[0].result, subject="0" * 64)
    with pytest.raises(VerificationRequired):
        publish(MemoryRepository(), dataclasses.replace(releases[0], result=other))


@pytest.mark.fault(52, 76)
def test_a_file_that_changed_since_it_was_verified_stops_before_the_claim(tmp_path: Path) -> None:
    release, store = make_release(tmp_path, "1.0.0"), MemoryRepository()
    (tmp_path / "1.0.0" / "hello_1.0.0_0.bin").write_bytes(b"other")
    with pytest.raises(RepositoryError) as caught:
        publish(store, release)
    assert state_of(caught.value) is PublicationState.NOT_PUBLISHED
    assert not store.objects


@pytest.mark.fault(52, 76)
@pytest.mark.parametrize("body", [b"other", b"1.0.0  0\n" * 39 + b"1.0.1  0\n"], ids=["shorter", "as long"])
def test_in_a_folder_too_where_only_reading_back_can_tell(tmp_path: Path, body: bytes) -> None:
    release, store = make_release(tmp_path, "1.0.0"), LocalRepository(tmp_path / "repository")
    (tmp_path / "1.0.0" / "hello_1.0.0_0.bin").write_bytes(body)
    with pytest.raises(DigestMismatch, match="other bytes than were verified") as caught:
        publish(store, release)
    assert state_of(caught.value) is PublicationState.NOT_PUBLISHED
    assert [str(entry.key) for entry in store.list(PurePosixPath())] == []
    publish(store, make_release(tmp_path, "1.0.0"))


@pytest.mark.fault(87)
@pytest.mark.parametrize("place", ["1.1.0/stranger", "1.1.0", "1.1.0.audit.sig"])
@both_kinds
def test_a_version_whose_places_are_taken_is_refused_before_the_claim(
    releases: Releases, folders: bool, place: str
) -> None:
    world = new_world(releases, folders=folders)
    world.store.objects[place] = b"mine"
    with pytest.raises(DuplicateVersion, match="relbuild did not publish it"):
        publish(world.store, world.release)
    assert world.store.objects[place] == b"mine"
    assert "1.1.0.audit.json" not in world.store.objects
    publish(world.store, world.other_version)


@pytest.mark.fault(66)
def test_too_like_a_published_version_is_refused(releases: Releases, tmp_path: Path) -> None:
    world = new_world(releases, folders=False)
    with pytest.raises(DuplicateVersion, match=r"too like 1\.0\.0"):
        publish(world.store, make_release(tmp_path, "v1.0.0"))


class Lossy(Mortal):
    """A store that changes a byte of what it was given, when it copies or when it moves."""

    when = "put_all"

    def put_all(self, uploads: Sequence[Upload]) -> None:
        super().put_all(uploads)
        self._lose("put_all", ".staging-")

    def move_new(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        super().move_new(staged, place, keys)
        self._lose("move_new", f"{place}/")

    def _lose(self, when: str, start: str) -> None:
        for key in [key for key in self.store.objects if key.startswith(start) and key.endswith("_0.bin")]:
            if when == self.when:
                self.store.objects[key] = self.store.objects[key].replace(b"1", b"2")


@pytest.mark.fault(39)
@both_kinds
@pytest.mark.parametrize("when", ["put_all", "move_new"])
def test_bytes_that_a_store_changed_are_noticed(releases: Releases, folders: bool, when: str) -> None:
    world = new_world(releases, folders=folders)
    process = Lossy(world.store)
    process.when = when
    with pytest.raises((DigestMismatch, AtomicPublishError), match="other bytes than were verified") as caught:
        publish(process, world.release)
    claimed = state_of(caught.value) is PublicationState.CLAIMED
    assert claimed == (when == "move_new") == ("1.1.0.audit.json" in world.store.objects)
    assert not world.published()


# --- the index is never believed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["unsigned", "signed by a stranger", "changed", "gone while at work"])
def test_an_index_that_does_not_hold_stops_a_publish(releases: Releases, damage: str) -> None:
    world = new_world(releases, folders=False)
    objects, body = world.store.objects, world.store.objects["index.json"]
    signature = f".index/{hashlib.sha256(body).hexdigest()}.sigstore.json"
    process = Mortal(world.store)
    match damage:
        case "unsigned":
            del objects[signature]
        case "signed by a stranger":
            objects[signature] = dataclasses.replace(KEYS, secret=b"another").sign_index(body)
        case "changed":
            objects["index.json"] = body.replace(b'"revision":1', b'"revision":2')
        case _:
            process.others[30] = lambda: objects.__delitem__("index.json")
    words = "vanished" if damage == "gone while at work" else "index"
    with pytest.raises((VerificationError, AtomicPublishError), match=words):
        publish(process, world.release)
    assert "1.1.0" not in objects.get("index.json", b"").decode()


# --- killed at every step ------------------------------------------------------------------------------------------


@both_kinds
@pytest.mark.parametrize("first", [False, True], ids=["second", "very first"])
def test_killed_at_every_step_and_inside_every_recovery(releases: Releases, folders: bool, first: bool) -> None:
    total, nested = steps_of(releases, folders=folders, first=first), 0
    for at in range(1, total + 1):
        for inner in range(1, 60):
            world = new_world(releases, folders=folders, first=first)
            with pytest.raises(Killed):
                publish(Mortal(world.store, dies_at=at), world.release)
            world.witness.look(world.store.objects)
            claimed = "1.1.0.audit.json" in world.store.objects
            world.store.dead = True
            doctor = Mortal(world.store, dies_at=inner)
            with contextlib.suppress(Killed):
                recovered(doctor)
            world.witness.look(world.store.objects)
            world.recover()
            assert world.published() or not claimed, f"step {at}: claimed, and not rolled forward"
            publish(world.store, world.release)
            assert world.published()
            if not doctor.dead:
                break
            nested += 1
        else:
            raise AssertionError("recovery has no end")
    print(f"killed at {total} steps, and {nested} times inside recovery")
    assert nested > total


@both_kinds
def test_the_next_publish_finishes_what_was_claimed(releases: Releases, folders: bool) -> None:
    for at in range(1, steps_of(releases, folders=folders, first=False) + 1):
        world = new_world(releases, folders=folders)
        with pytest.raises(Killed):
            publish(Mortal(world.store, dies_at=at), world.release)
        claimed = "1.1.0.audit.json" in world.store.objects
        world.store.dead = True
        done = publish(world.store, world.other_version)
        world.witness.acknowledge("2.0.0", done.audit_sha256)
        assert world.published() or not claimed
        world.recover()


@both_kinds
def test_published_again_after_a_kill_it_is_out_once(releases: Releases, folders: bool) -> None:
    for at in range(1, steps_of(releases, folders=folders, first=False) + 1):
        world = new_world(releases, folders=folders)
        with pytest.raises(Killed):
            publish(Mortal(world.store, dies_at=at), world.release)
        world.store.dead = True
        world.witness.acknowledge("1.1.0", publish(world.store, world.release).audit_sha256)
        assert b"revision 2," in world.store.objects["index.md"]
        world.recover()
        assert world.witness.revision == 2


@both_kinds
def test_after_a_kill_behind_the_claim_other_bytes_are_refused(releases: Releases, folders: bool) -> None:
    for at in range(1, steps_of(releases, folders=folders, first=False) + 1):
        world = new_world(releases, folders=folders)
        with pytest.raises(Killed):
            publish(Mortal(world.store, dies_at=at), world.release)
        world.store.dead = True
        if "1.1.0.audit.json" in world.store.objects:
            with pytest.raises(DuplicateVersion):
                publish(world.store, world.other_bytes)
        world.recover()


SEAM_ERRORS = {KeyTaken, KeyMissing, PointerMoved, OutcomeUnknown}

# --- an error, or a lost answer, at every step ---------------------------------------------------------------------


@both_kinds
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "failure",
    [RepositoryError("refused"), DiskFull("no space"), OutcomeUnknown("lost")],
    ids=["error", "disk full", "lost answer"],
)
def test_the_state_line_is_true_whatever_fails(
    releases: Releases, folders: bool, after: bool, failure: RelbuildError
) -> None:
    told: dict[tuple[type, PublicationState], int] = {}
    for at in range(1, steps_of(releases, folders=folders, first=False) + 1):
        world = new_world(releases, folders=folders)
        process = Mortal(world.store, fails_at=at, failure=failure, fails_after=after)
        try:
            state = publish(process, world.release).state
        except RelbuildError as error:
            state, kind = state_of(error), type(error)
            told[kind, state] = told.get((kind, state), 0) + 1
        # An error behind the swap leaves it visible, and perhaps not on the disk: that is not acknowledged.
        assert world.published() or state is not PublicationState.PUBLISHED, f"step {at}"
        world.recover()
        assert (state is PublicationState.NOT_PUBLISHED) != world.published(), f"step {at}: said {state}"
    for kind, state in told:
        assert (kind is AtomicPublishError) == (state is PublicationState.CLAIMED)
        # What only a store's callers tell apart (93 to 96) leaves as 36, or behind the claim as 37.
        assert kind in {AtomicPublishError, RepositoryError, type(failure)} - SEAM_ERRORS


@both_kinds
def test_a_lost_answer_behind_the_area_is_no_failure(releases: Releases, folders: bool) -> None:
    def decided(process: Mortal) -> bool:
        return any(key.endswith("fate") for key in process.store.objects)

    for after in (False, True):
        for at in range(1, steps_of(releases, folders=folders, first=False) + 1):
            world = new_world(releases, folders=folders)
            process = Mortal(world.store, fails_at=at, failure=OutcomeUnknown("lost"), fails_after=after)
            with contextlib.suppress(RepositoryError):
                publish(process, world.release)
            assert world.published() or process.steps == at + 1 or not decided(process), f"step {at}"
            world.recover()


# --- overtaken at every call ---------------------------------------------------------------------------------------


class KilledBehindItsClaim(Mortal):
    """A process that claims, and does no more."""

    def move_new(self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
        self.dead = True
        raise Killed


OTHER_AND_DIES = "other bytes, killed behind its claim"


def overtaken(world: World, at: int, other: str) -> tuple[Mortal, list[str]]:
    """Give a process before whose call `at` somebody else does something, and what became of that."""
    became: list[str] = []

    def act() -> None:
        release = {
            "the same": world.release, "other bytes": world.other_bytes, OTHER_AND_DIES: world.other_bytes,
            "another version": world.other_version,
        }.get(other)  # fmt: skip
        try:
            if release is None:
                recovered(world.store, terms=IMPATIENT)
            else:
                kind = KilledBehindItsClaim if other == OTHER_AND_DIES else Mortal
                done = publish(kind(world.store), release, terms=IMPATIENT)
                world.witness.acknowledge(release.version, done.audit_sha256)
            became.append("done")
        except DuplicateVersion:
            became.append("duplicate")
        except RepositoryError:
            became.append("locked out")
        except Killed:
            claim = world.store.objects.get("1.1.0.audit.json", b"").decode()
            # It may have died while it finished the first one's claim.
            became.append("killed" if world.other_bytes.manifest_sha256 in claim else "killed before")
        world.witness.look(world.store.objects)

    return Mortal(world.store, others={at: act}), became


@both_kinds
@pytest.mark.parametrize("other", ["the same", "other bytes", OTHER_AND_DIES, "another version", "recovery"])
def test_overtaken_at_every_call(releases: Releases, folders: bool, other: str) -> None:
    counter = Mortal(new_world(releases, folders=folders).store)
    publish(counter, releases[1])
    outcomes: dict[str, int] = {}
    for at in range(1, counter.calls + 1):
        world = new_world(releases, folders=folders)
        process, became = overtaken(world, at, other)
        try:
            done = publish(process, world.release)
            world.witness.acknowledge(world.version, done.audit_sha256)
            ended = "published"
            # Whoever finished it: where nobody else published it, it was this one's.
            assert not done.no_op or other == "the same", f"call {at}"
        except DuplicateVersion:
            ended = "duplicate"
            assert other.startswith("other bytes")
        except AtomicPublishError as error:
            # Recovery may take a live publish for a dead one where the store cannot tell; then it says so.
            ended = f"dropped: {state_of(error).value}"
            assert other == "recovery"
            assert not folders
            assert not world.published()
        assert ended in {"published", "duplicate", "dropped: not published"}
        world.witness.look(world.store.objects)
        if other.startswith("other bytes") and became[0] in {"done", "killed"}:
            assert ended == "duplicate", f"call {at}: two contents of one version"
        world.recover()
        outcomes[f"{ended} / {became[0]}"] = outcomes.get(f"{ended} / {became[0]}", 0) + 1
    print(other, outcomes)
    assert sum(outcomes.values()) == counter.calls


@pytest.mark.parametrize("other", ["the same", "other bytes"])
def test_overtaken_by_a_publisher_and_then_by_who_tidies_up(releases: Releases, other: str) -> None:
    """Where nobody knows who lives, an area of a version that is out is dropped: its maker says what became of that."""
    counter = Mortal(new_world(releases, folders=False).store)
    publish(counter, releases[1])
    outcomes: dict[str, int] = {}
    for at in range(1, counter.calls + 1):
        for later in range(at + 2, min(at + 12, counter.calls) + 1, 3):
            world = new_world(releases, folders=False)
            process, became = overtaken(world, at, other)
            process.others |= overtaken(world, later, "recovery")[0].others
            try:
                done = publish(process, world.release)
                world.witness.acknowledge(world.version, done.audit_sha256)
                ended = "published"
            except DuplicateVersion:
                ended = "duplicate"
            except AtomicPublishError as error:
                ended = f"dropped: {state_of(error).value}"
                assert not world.published(), f"calls {at} and {later}: it is out"
            world.recover()
            mine = became[0] == "duplicate" or other == "the same"
            assert ended in ({"published", "dropped: not published"} if mine else {"duplicate"}), f"{at} and {later}"
            outcomes[ended] = outcomes.get(ended, 0) + 1
    print(other, outcomes)


@both_kinds
def test_overtaken_by_recovery_and_then_killed(releases: Releases, folders: bool) -> None:
    """A maker whose area was dropped goes on, and dies anywhere: what it left is nobody's claim."""
    counter = Mortal(new_world(releases, folders=folders).store)
    publish(counter, releases[1])
    for at in range(1, counter.calls + 1, 2):
        for dies_at in range(1 + at % 4, counter.steps + 1, 4):
            world = new_world(releases, folders=folders)
            process, _ = overtaken(world, at, "recovery")
            process.dies_at = dies_at
            with contextlib.suppress(Killed, AtomicPublishError):
                publish(process, world.release)
            world.witness.look(world.store.objects)
            world.recover()


@both_kinds
def test_two_recoveries_overtake_each_other(releases: Releases, folders: bool) -> None:
    for killed_at in range(1, steps_of(releases, folders=folders, first=False) + 1):
        for at in range(1 + killed_at % 5, 60, 5):
            world = new_world(releases, folders=folders)
            with pytest.raises(Killed):
                publish(Mortal(world.store, dies_at=killed_at), world.release)
            claimed = "1.1.0.audit.json" in world.store.objects
            world.store.dead = True
            doctor, _ = overtaken(world, at, "recovery")
            recovered(doctor)
            world.recover()
            assert world.published() or not claimed
            if doctor.calls < at:
                break


# --- many at once ---------------------------------------------------------------------------------------------------


@both_kinds
def test_many_publishers_of_many_versions_all_land(folders: bool, tmp_path: Path) -> None:
    store, witness = MemoryRepository(folders=folders), Witness()
    with all_at_once() as start:
        for n in range(12):
            start(partial(publish, store, make_release(tmp_path, f"1.{n}.0")))
    witness.settled(store.objects)
    assert witness.revision == 12


@both_kinds
def test_many_publishers_of_one_version_give_one_event(folders: bool, tmp_path: Path) -> None:
    store, witness = MemoryRepository(folders=folders), Witness()
    release = make_release(tmp_path, "1.0.0")
    with all_at_once() as start:
        for _ in range(12):
            start(lambda: witness.acknowledge("1.0.0", publish(store, release).audit_sha256))
    witness.settled(store.objects)
    assert witness.revision == 1


@contextlib.contextmanager
def all_at_once() -> Iterator[Callable[[Callable[[], object]], None]]:
    errors: list[BaseException] = []
    threads: list[threading.Thread] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's thread
            errors.append(error)

    yield lambda work: threads.append(threading.Thread(target=guarded, args=(work,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# --- what is foreign or broken is told, not touched -----------------------------------------------------------------


@pytest.mark.fault(87)
@both_kinds
def test_foreign_things_are_told_and_left(releases: Releases, folders: bool) -> None:
    world = new_world(releases, folders=folders)
    foreign = {".staging-backup/file": b"1", "notes.txt": b"2", "9.9.9/old.bin": b"3", "8.8.8.audit.sig": b"4"}
    world.store.objects.update(foreign)
    world.store.dead = True
    told = {found.place: found.became for found in recovered(world.store).found}
    assert told == dict.fromkeys([".staging-backup", "8.8.8.audit.sig", "9.9.9", "notes.txt"], Became.REPORTED)
    assert foreign.items() <= world.store.objects.items()


@both_kinds
@pytest.mark.parametrize("what", ["payload", "seal", "audit", "fate"])
def test_a_claim_that_was_tampered_with_is_not_finished(releases: Releases, folders: bool, what: str) -> None:
    for at in range(1, steps_of(releases, folders=folders, first=False)):
        world = new_world(releases, folders=folders)
        with pytest.raises(Killed):
            publish(Mortal(world.store, dies_at=at), world.release)
        ending = {"payload": "_0.bin", "seal": "audit.sig", "audit": "audit.json", "fate": "fate"}[what]
        key = next((key for key in world.store.objects if key.startswith(".staging-") and key.endswith(ending)), None)
        if key is None or "1.1.0.audit.json" in world.store.objects:
            continue
        world.store.objects[key] = b"tampered"
        world.store.dead = True
        report = recovered(world.store)
        world.witness.look(world.store.objects)
        assert not world.published()
        assert {found.version for found in report.of(Became.REPORTED)} <= {"1.1.0"}


@both_kinds
def test_a_damaged_claim_is_told_with_its_version(releases: Releases, folders: bool) -> None:
    told = 0
    for at in range(1, steps_of(releases, folders=folders, first=False)):
        world = new_world(releases, folders=folders)
        with pytest.raises(Killed):
            publish(Mortal(world.store, dies_at=at), world.release)
        if "1.1.0.audit.json" not in world.store.objects or world.published():
            continue
        world.store.objects["1.1.0.audit.json"] = b"{}"
        world.store.dead = True
        found = recovered(world.store).of(Became.REPORTED)
        assert {each.version for each in found} == {"1.1.0"}, f"step {at}"
        told += len(found)
    assert told


@both_kinds
def test_a_claim_from_another_repository_is_not_finished(releases: Releases, folders: bool) -> None:
    """Its signature holds: the same keys sign for both."""
    for at in range(1, steps_of(releases, folders=folders, first=True)):
        world = new_world(releases, folders=folders, first=True)
        with pytest.raises(Killed):
            publish(Mortal(world.store, dies_at=at), world.release)
        if not any(key.endswith(".audit.json") for key in world.store.objects) or "index.json" in world.store.objects:
            continue
        world.store.dead = True
        recovered(world.store, terms=dataclasses.replace(TERMS, repository_id="another"))
        assert "index.json" not in world.store.objects, f"step {at}"


@pytest.mark.fault(87)
@both_kinds
def test_a_claim_whose_area_is_gone_is_finished_from_its_place(releases: Releases, folders: bool) -> None:
    done = 0
    for at in range(1, steps_of(releases, folders=folders, first=False)):
        world = new_world(releases, folders=folders)
        with pytest.raises(Killed):
            publish(Mortal(world.store, dies_at=at), world.release)
        whole = {"1.1.0/manifest.json", "1.1.0.audit.sig"} <= world.store.objects.keys()
        for key in [key for key in world.store.objects if key.startswith(".staging-")]:
            del world.store.objects[key]
        world.store.dead = True
        report = recovered(world.store)
        world.witness.look(world.store.objects)
        if "1.1.0.audit.json" in world.store.objects:
            assert world.published() == whole
            assert whole or [found.version for found in report.of(Became.REPORTED)] == ["1.1.0"]
            done += whole
    assert done


def test_a_lock_that_is_held_says_not_published(releases: Releases) -> None:
    world = new_world(releases, folders=True)
    with world.store.alone("publish", timeout_s=1), pytest.raises(RepositoryError) as caught:
        publish(world.store, world.release, terms=IMPATIENT)
    assert state_of(caught.value) is PublicationState.NOT_PUBLISHED
    world.recover()


def test_ctrl_c_before_the_claim_leaves_nothing(releases: Releases) -> None:
    world = new_world(releases, folders=True)
    with pytest.raises(KeyboardInterrupt) as caught:
        publish(Mortal(world.store, fails_at=4, failure=KeyboardInterrupt()), world.release)
    assert state_of(caught.value) is PublicationState.NOT_PUBLISHED
    world.witness.settled(world.store.objects)


def test_terms_are_the_publishers(releases: Releases) -> None:
    store = MemoryRepository()
    promote(
        releases[0], store, KEYS, KEYS, outcomes=OUTCOMES, now=now, observer=silent,
        terms=Terms(actor="somebody", repository_id="mine", machine_id="a machine", approvals=("another",)),
    )  # fmt: skip
    assert b'"repository_id":"mine"' in store.objects["index.json"]
    assert b'"actor":"somebody"' in store.objects["index.json"]
    assert b'"another"' in store.objects["1.0.0.audit.json"]
    assert [entry.key for entry in store.list(PurePosixPath("1.0.0"))]
