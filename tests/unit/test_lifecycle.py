"""Yank, revoke, rollback, abandon: one event and one swap each, whatever is lost or moved on the way."""

import dataclasses
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import DuplicateVersion, OutcomeUnknown, PublicationError
from orchestrator.publication import INDEX_VIEW, EventType, Index, ReleaseStatus
from orchestrator.publish import lifecycle
from orchestrator.publish.audit_check import verify_audits
from orchestrator.publish.history import BadEvent, History
from orchestrator.publish.index import encode_index, parse_index
from orchestrator.publish.index_view import index_view
from orchestrator.publish.lifecycle import Changed, Office, Order, abandon, renew, revoke, rollback, unyank, yank
from orchestrator.publish.replay import history_of
from orchestrator.publish.version_names import latest_of
from orchestrator.repositories.interface import PointerToken
from tests.repository_fake import Broken, MemoryRepository
from tests.unit.published import EXPIRES, NOW, add, audited, contents, keys, publish, put, sha256, trust

ORDER = Order(actor="ann", now=NOW, expires=EXPIRES, reason="because", repository_id="r1")
ACTIVE, YANKED, REVOKED, SUPERSEDED = (
    ReleaseStatus.ACTIVE, ReleaseStatus.YANKED, ReleaseStatus.REVOKED, ReleaseStatus.SUPERSEDED,
)  # fmt: skip


@pytest.fixture
def repository() -> MemoryRepository:
    made = MemoryRepository()
    publish(made, "v1.0.0", "v1.1.0", "v2.0.0")
    return made


def office(repository: MemoryRepository) -> Office:
    return Office(repository=repository, keys=keys(), trust=trust())


def index_of(repository: MemoryRepository) -> Index:
    return parse_index(repository.objects["index.json"])


def statuses(repository: MemoryRepository) -> list[ReleaseStatus]:
    return [each.status for each in index_of(repository).releases]


def test_each_change_is_one_event_and_one_swap(repository: MemoryRepository) -> None:
    repository.calls.clear()
    changed = yank(office(repository), "v1.1.0", ORDER)
    assert changed == Changed(kind=EventType.YANK, version="v1.1.0", no_op=False, revision=4, latest="v2.0.0")
    assert [call for call, _ in repository.calls] == ["put_new", "swap_pointer", "put"]
    event = index_of(repository).events[-1]
    assert (event.type, event.version, event.reason, event.actor) == (EventType.YANK, "v1.1.0", "because", "ann")
    assert event.key_id == keys().index_key_id
    assert statuses(repository) == [ACTIVE, YANKED, ACTIVE]
    assert b"v1.1.0 (yanked: because)" in repository.objects["index.md"]
    assert verify_audits(repository, trust()).wrong is None


@pytest.mark.parametrize("change", [yank, revoke, rollback])
def test_a_change_that_was_made_already_is_no_change(
    repository: MemoryRepository, change: Callable[[Office, str, Order], Changed]
) -> None:
    change(office(repository), "v1.1.0", ORDER)
    before = repository.objects["index.json"]
    again = change(office(repository), "v1.1.0", ORDER)
    assert again.no_op
    assert repository.objects["index.json"] == before


def test_a_rollback_supersedes_what_is_newer_and_another_takes_it_back(repository: MemoryRepository) -> None:
    assert rollback(office(repository), "v1.0.0", ORDER).latest == "v1.0.0"
    assert statuses(repository) == [ACTIVE, SUPERSEDED, SUPERSEDED]
    assert rollback(office(repository), "v2.0.0", ORDER).latest == "v2.0.0"
    assert statuses(repository) == [ACTIVE, SUPERSEDED, ACTIVE]
    publish(repository, "v2.0.1")
    assert index_of(repository).latest == "v2.0.1"


@pytest.mark.parametrize(("change", "status"), [(yank, YANKED), (revoke, REVOKED)])
def test_a_superseded_release_can_be_taken_back_further(
    repository: MemoryRepository, change: Callable[[Office, str, Order], Changed], status: ReleaseStatus
) -> None:
    rollback(office(repository), "v1.0.0", ORDER)
    change(office(repository), "v2.0.0", ORDER)
    assert statuses(repository) == [ACTIVE, SUPERSEDED, status]
    with pytest.raises(PublicationError, match="is superseded"):
        unyank(office(repository), "v1.1.0", ORDER)


def test_a_yank_of_the_latest_makes_the_one_before_the_latest(repository: MemoryRepository) -> None:
    assert yank(office(repository), "v2.0.0", ORDER).latest == "v1.1.0"
    assert unyank(office(repository), "v2.0.0", ORDER).latest == "v2.0.0"


def test_a_revoked_release_never_comes_back(repository: MemoryRepository) -> None:
    revoke(office(repository), "v2.0.0", ORDER)
    for change in (yank, unyank, rollback):
        with pytest.raises(PublicationError, match="is revoked"):
            change(office(repository), "v2.0.0", ORDER)


@pytest.mark.parametrize("version", ["v9.9.9", "1.0.0", "", "../x", "\x1b"])
@pytest.mark.parametrize("change", [yank, unyank, revoke, rollback])
def test_what_is_not_published_cannot_be_changed(
    repository: MemoryRepository, change: Callable[[Office, str, Order], Changed], version: str
) -> None:
    before = dict(repository.objects)
    with pytest.raises(PublicationError, match="is not published") as caught:
        change(office(repository), version, ORDER)
    assert "\x1b" not in str(caught.value)
    assert repository.objects == before


def test_nothing_can_be_changed_where_nothing_is_published() -> None:
    with pytest.raises(PublicationError, match="nothing is published in memory"):
        yank(office(MemoryRepository()), "v1.0.0", ORDER)


@pytest.mark.parametrize("change", [revoke, abandon])
def test_what_cannot_be_taken_back_needs_a_reason(
    repository: MemoryRepository, change: Callable[[Office, str, Order], Changed]
) -> None:
    with pytest.raises(PublicationError, match="without a reason"):
        change(office(repository), "v1.0.0", dataclasses.replace(ORDER, reason=" "))


def test_an_index_is_renewed_only_for_longer(repository: MemoryRepository) -> None:
    assert renew(office(repository), ORDER).no_op
    later = dataclasses.replace(ORDER, expires=EXPIRES + timedelta(days=1))
    assert not renew(office(repository), later).no_op
    yank(office(repository), "v1.0.0", ORDER)
    assert index_of(repository).expires == later.expires


# --- abandoning --------------------------------------------------------------------------------------------------

AUDIT_ID = "0" * 8 + "-0000-0000-0000-" + "1" * 12


def claim(repository: MemoryRepository, version: str) -> None:
    _, body = audited(version, AUDIT_ID)
    put(repository, f"{version}.audit.json", body)
    repository.objects[f".staging-{AUDIT_ID}/audit.sig"] = keys().sign_audit(body)
    for path, content in contents(version).items():
        repository.objects[f".staging-{AUDIT_ID}/payload/{path}"] = content


@pytest.mark.parametrize("where", ["staging", "place", "both"])
def test_a_claim_that_can_be_finished_is_not_abandoned(repository: MemoryRepository, where: str) -> None:
    claim(repository, "v3.0.0")
    for number, (path, content) in enumerate(contents("v3.0.0").items()):
        if where == "place" or (where == "both" and number):
            repository.objects[f"v3.0.0/{path}"] = content
            del repository.objects[f".staging-{AUDIT_ID}/payload/{path}"]
    with pytest.raises(PublicationError, match="all that finishing it takes is there"):
        abandon(office(repository), "v3.0.0", ORDER)


@pytest.mark.parametrize(
    "damage",
    [
        lambda objects: objects.pop(f".staging-{AUDIT_ID}/payload/manifest.json"),
        lambda objects: objects.update({f".staging-{AUDIT_ID}/payload/manifest.json": b"other bytes"}),
        lambda objects: objects.pop(f".staging-{AUDIT_ID}/audit.sig"),
        lambda objects: objects.update({"v3.0.0.audit.json": b"garbage"}),
    ],
)
def test_a_claim_that_cannot_be_finished_is_abandoned_and_its_number_stays_used(
    repository: MemoryRepository, damage: Callable[[dict[str, bytes]], object]
) -> None:
    claim(repository, "v3.0.0")
    damage(repository.objects)
    assert not abandon(office(repository), "v3.0.0", ORDER).no_op
    assert abandon(office(repository), "v3.0.0", ORDER).no_op
    assert index_of(repository).release("v3.0.0") is None
    with pytest.raises(DuplicateVersion, match=r"v3\.0\.0 is abandoned"):
        add(index_of(repository), EventType.PUBLISH, audited("v3.0.0")[0])


def test_the_first_event_of_a_repository_may_be_an_abandoned_version() -> None:
    repository = MemoryRepository()
    put(repository, "v1.0.0.audit.json", b"garbage")
    abandon(office(repository), "v1.0.0", ORDER)
    assert index_of(repository).repository_id == "r1"


@pytest.mark.parametrize(("version", "words"), [("v1.0.0", "is published"), ("v9.0.0", "is not claimed")])
def test_only_a_claim_is_abandoned(repository: MemoryRepository, version: str, words: str) -> None:
    with pytest.raises(PublicationError, match=words):
        abandon(office(repository), version, ORDER)


# --- others, and lost answers ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Contended(MemoryRepository):
    """Somebody else is first, as often as told."""

    others: list[Callable[[], object]] = dataclasses.field(default_factory=list)

    def swap_pointer(self, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken:
        if self.others:
            self.others.pop()()
        return super().swap_pointer(key, body, expected)


def test_a_swap_that_is_lost_to_others_is_tried_again_on_what_they_left() -> None:
    repository = Contended()
    publish(repository, "v1.0.0", "v1.1.0")
    repository.others = [lambda: publish(repository, "v1.2.0"), lambda: publish(repository, "v1.3.0")]
    changed = yank(office(repository), "v1.0.0", ORDER)
    assert changed.revision == 5
    assert [each.type for each in index_of(repository).events].count(EventType.YANK) == 1


def test_a_change_that_others_made_meanwhile_is_not_made_twice() -> None:
    repository = Contended()
    publish(repository, "v1.0.0", "v1.1.0")
    repository.others = [lambda: yank(office(repository), "v1.0.0", ORDER)]
    yank(office(repository), "v1.0.0", ORDER)
    assert [each.type for each in index_of(repository).events].count(EventType.YANK) == 1


def test_a_version_that_was_finished_meanwhile_is_not_abandoned() -> None:
    """Published and abandoned at once must never be: one order or the other."""
    repository = Contended()
    publish(repository, "v1.0.0")
    put(repository, "v3.0.0.audit.json", b"garbage")

    def finish() -> None:
        del repository.objects["v3.0.0.audit.json"]
        publish(repository, "v3.0.0")

    repository.others = [finish]
    with pytest.raises(PublicationError):
        abandon(office(repository), "v3.0.0", ORDER)
    assert index_of(repository).release("v3.0.0")


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("call", [1, 2])
def test_an_answer_that_is_lost_gives_one_event(repository: MemoryRepository, before: bool, call: int) -> None:
    repository.calls.clear()
    repository.broken = Broken(fail_at=call, fail_before=before, failure=OutcomeUnknown)
    yank(office(repository), "v1.0.0", ORDER)
    assert [each.type for each in index_of(repository).events].count(EventType.YANK) == 1


def test_a_page_that_cannot_be_written_does_not_undo_the_change(repository: MemoryRepository) -> None:
    repository.calls.clear()
    repository.broken = Broken(fail_at=3, failure=OutcomeUnknown)
    assert yank(office(repository), "v1.0.0", ORDER).revision == 4


@dataclasses.dataclass
class Overtaken(MemoryRepository):
    """Somebody else changes the index, and writes the page, while this one is about to write the page."""

    others: list[Callable[[], object]] = dataclasses.field(default_factory=list)

    def put(self, key: PurePosixPath, body: bytes | Path, sha256: str) -> None:
        if key == INDEX_VIEW and self.others:
            self.others.pop()()
        super().put(key, body, sha256)


def test_a_page_is_not_put_in_the_place_of_a_newer_one() -> None:
    repository = Overtaken()
    publish(repository, "v1.0.0", "v1.1.0", "v1.2.0")
    repository.others = [partial(yank, office(repository), version, ORDER) for version in ("v1.1.0", "v1.2.0")]
    yank(office(repository), "v1.0.0", ORDER)
    assert repository.objects[str(INDEX_VIEW)] == index_view(index_of(repository))
    assert "revision 6," in repository.objects[str(INDEX_VIEW)].decode()


def test_a_revoke_and_a_publish_at_once_are_both_in_the_history() -> None:
    repository = MemoryRepository(folders=True)
    publish(repository, "v1.0.0")
    work = [lambda: revoke(office(repository), "v1.0.0", ORDER), lambda: publish(repository, "v1.1.0")]
    threads = [threading.Thread(target=each) for each in work]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert {(each.type, each.version) for each in index_of(repository).events} == {
        (EventType.PUBLISH, "v1.0.0"), (EventType.REVOKE, "v1.0.0"), (EventType.PUBLISH, "v1.1.0"),
    }  # fmt: skip


# --- against a small model ---------------------------------------------------------------------------------------

VERSIONS = ("v1.0.0", "v1.1.0-rc1", "v1.1.0", "v2.0.0", "1.1.0", "v2.0.0+a", "v2.0.0+A")
STEPS = st.lists(st.tuples(st.sampled_from(list(EventType)), st.sampled_from(VERSIONS)), max_size=14)


class Model:
    """What the rules are, said with no code of ours but the order of versions."""

    def __init__(self) -> None:
        self.state: dict[str, str] = {}

    def latest(self) -> str:
        return latest_of(version for version, state in self.state.items() if state == "active")

    def step(self, kind: str, version: str) -> bool:
        now = self.state.get(version)
        if kind in {"publish", "abandon"}:
            same = {each.lower().lstrip("v") for each in self.state}
            if version.lower().lstrip("v") in same:
                return False
            self.state[version] = "active" if kind == "publish" else "abandoned"
            return True
        if kind == "rollback":
            return self.rollback(version)
        table = {
            ("yank", "active"): "yanked", ("yank", "superseded"): "yanked", ("unyank", "yanked"): "active",
            ("revoke", "active"): "revoked", ("revoke", "yanked"): "revoked", ("revoke", "superseded"): "revoked",
        }  # fmt: skip
        if (kind, now) not in table:
            return False
        self.state[version] = table[kind, now or ""]
        return True

    def rollback(self, version: str) -> bool:
        if self.state.get(version) not in {"active", "superseded"}:
            return False
        trial = {**self.state, version: "active"}
        for other, state in trial.items():
            if state == "active" and lifecycle_order(other) > lifecycle_order(version):
                trial[other] = "superseded"
        if latest_of(each for each, state in trial.items() if state == "active") != version:
            return False
        self.state = trial
        return True


def lifecycle_order(version: str) -> int:
    return ["v1.0.0", "v1.1.0-rc1", "1.1.0", "v1.1.0", "v2.0.0", "v2.0.0+A", "v2.0.0+a"].index(version)


@given(STEPS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_order_of_events_ends_as_the_model_says(steps: list[tuple[EventType, str]]) -> None:
    model, index, accepted = Model(), None, 0
    for kind, version in steps:
        if kind is EventType.RENEW:
            continue
        subject = audited(version, AUDIT_ID)[0] if kind is EventType.PUBLISH else version
        try:
            index = add(index, kind, subject)
            happened = True
        except PublicationError:
            happened = False
        assert happened is model.step(kind.value, version), (kind, version)
        accepted += happened
    if index is None:
        assert not accepted
        return
    again = parse_index(encode_index(index))
    assert again.revision == accepted
    assert again.latest == model.latest()
    listed = {each.version: each.status.value for each in again.releases}
    assert listed == {version: state for version, state in model.state.items() if state != "abandoned"}
    assert history_of(again).abandoned == {version for version, state in model.state.items() if state == "abandoned"}


def test_a_rollback_to_a_pre_release_that_would_not_be_the_latest_is_refused() -> None:
    history = History()
    for version in ("v1.0.0", "v1.1.0-rc1", "v2.0.0"):
        history.apply(EventType.PUBLISH, version)
    with pytest.raises(BadEvent, match="pre-release"):
        history.apply(EventType.ROLLBACK, "v1.1.0-rc1")


def test_the_names_of_this_module_are_all_events() -> None:
    kinds = {kind.value for kind in EventType} - {"publish"}
    assert kinds <= set(dir(lifecycle))
    assert sha256(b"") != sha256(b"x")
