"""Which release of an index is the last good one."""

import pytest

from orchestrator.errors import BaselineUnusable
from orchestrator.publication import EventType, Index
from orchestrator.validate.baseline import last_good
from tests.unit.published import add, grown


def chosen(index: Index | None, version: str) -> str:
    entry = last_good(index, version)
    return entry.version if entry else ""


@pytest.mark.parametrize(
    ("published", "version", "baseline"),
    [
        (("1.0.0",), "1.0.1", "1.0.0"),
        (("1.2.0", "1.10.0", "1.9.0"), "1.11.0", "1.10.0"),
        (("1.0.0", "1.0.1", "2.0.0"), "1.0.2", "1.0.1"),
        (("2.0.0", "3.0.0"), "1.0.0", "3.0.0"),
        (("1.0.0", "1.1.0-rc.1"), "1.1.0", "1.0.0"),
        (("1.1.0-rc.1",), "1.1.0", "1.1.0-rc.1"),
        (("1.0.0", "1.0.1"), "1.0.1", "1.0.0"),
        (("1.0.0",), "1.0.0", ""),
        (("1.0.0",), "no version", "1.0.0"),
    ],
)
def test_the_newest_release_before_this_one(published: tuple[str, ...], version: str, baseline: str) -> None:
    assert chosen(grown(*published), version) == baseline


def test_an_empty_repository_has_none() -> None:
    assert chosen(None, "1.0.0") == ""


@pytest.mark.parametrize("kind", [EventType.YANK, EventType.REVOKE])
def test_a_release_that_was_taken_back_is_not_good(kind: EventType) -> None:
    index = add(grown("1.0.0", "1.0.1"), kind, "1.0.1")
    assert chosen(index, "1.0.2") == "1.0.0"
    with pytest.raises(BaselineUnusable, match=r"no release of the repository is active: 1\.0\.0"):
        last_good(add(index, kind, "1.0.0"), "1.0.2")
