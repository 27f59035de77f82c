"""An index that a right key signed, and that this program did not make: nobody rewrites it, and there is a way on."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.errors import IndexInvalid
from orchestrator.publication import INDEX
from orchestrator.publish import lifecycle
from orchestrator.publish.index import sha256_of
from orchestrator.publish.lifecycle import Office, Order
from orchestrator.publish.pointer import KnownIndex, index_signature
from orchestrator.repositories.local import LocalRepository
from tests.faults.invariants import disk
from tests.faults.publisher_program import KEYS, make_release, publish, recovered

PUT_BACK = "puts back the last index.json that held"


def put(repository: Path, body: bytes) -> None:
    """Write an index as whoever has the key could: its signature holds."""
    (repository / index_signature(sha256_of(body))).write_bytes(KEYS.sign_index(body))
    (repository / INDEX).write_bytes(body)


def with_revision(revision: int) -> Callable[[bytes], bytes]:
    return lambda body: body.replace(b'"revision":1,', f'"revision":{revision},'.encode())


def newer(body: bytes) -> bytes:
    return body.replace(b"relbuild/index/v1", b"relbuild/index/v2")


@pytest.mark.fault(63, 90)
@pytest.mark.parametrize(
    ("change", "way_on"),
    [
        (with_revision(2**63), PUT_BACK), (with_revision(2**53), PUT_BACK), (with_revision(9_000_000), PUT_BACK),
        (with_revision(-1), PUT_BACK), (newer, "get a newer relbuild"),
    ],
    ids=["2^63", "2^53", "nine million", "below zero", "newer schema"],
)  # fmt: skip
def test_it_is_refused_left_as_it_is_and_can_be_put_back(
    change: Callable[[bytes], bytes], way_on: str, tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    publish(LocalRepository(folder), make_release(tmp_path, "1.0.0"))
    good = (folder / INDEX).read_bytes()
    assert change(good) != good
    put(folder, change(good))
    before, other = disk(folder), make_release(tmp_path, "1.1.0")
    order = Order(actor="ann", reason="slow", now=datetime.now(UTC), expires=datetime(2099, 1, 1, tzinfo=UTC))
    office = Office(repository=LocalRepository(folder), keys=KEYS, trust=KEYS)
    asks: list[Callable[[], object]] = [
        lambda: publish(LocalRepository(folder), other), lambda: recovered(LocalRepository(folder)),
        lambda: lifecycle.yank(office, "1.0.0", order), KnownIndex(LocalRepository(folder), KEYS).read,
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(IndexInvalid) as refused:
            ask()
        assert way_on in refused.value.next_step
        assert disk(folder) == before
    # The way on. What readers remember is lower: nobody ever believed the other one.
    (folder / INDEX).write_bytes(good)
    assert publish(LocalRepository(folder), other).revision == 2
    assert json.loads((folder / INDEX).read_bytes())["latest"] == "1.1.0"
