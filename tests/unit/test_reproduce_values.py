"""How a reproduction ends, by what was said of each artifact."""

from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest

from builders.errors import RelbuildError
from orchestrator.errors import (
    NothingReproduced,
    NotReproducible,
    OriginUnavailable,
    RebuildFailed,
    ReproductionFailed,
)
from orchestrator.reproduce.values import Bad, Fail, Good, Outcome, Reproduced, Reproduction, Skip, error_of, verdict_of

GOOD, BAD, SKIP = Good(), Bad(rebuilt_sha256="0" * 64), Skip(reason="nothing can be varied")
FAIL = Fail(error=RebuildFailed("no file"))
LOST = Fail(error=OriginUnavailable("another toolchain", next_step="get it"))

ENDS: tuple[tuple[tuple[Outcome, ...], type[RelbuildError] | None], ...] = (
    ((GOOD,), None),
    ((GOOD, SKIP), None),
    ((SKIP,), NothingReproduced),
    ((), NothingReproduced),
    ((GOOD, BAD), NotReproducible),
    ((BAD, SKIP), NotReproducible),
    ((GOOD, FAIL), RebuildFailed),
    ((FAIL, LOST), RebuildFailed),
    ((GOOD, LOST), OriginUnavailable),
    ((BAD, FAIL), ReproductionFailed),
    ((BAD, LOST, GOOD), ReproductionFailed),
)


@pytest.mark.parametrize(("outcomes", "error"), ENDS)
def test_a_run_ends_with_the_gravest_thing_that_was_said(
    outcomes: tuple[Outcome, ...], error: type[RelbuildError] | None
) -> None:
    artifacts = tuple(
        Reproduced(path=PurePosixPath(f"{number}.tar.gz"), sha256="1" * 64, cell="hello/x86_64", outcome=outcome)
        for number, outcome in enumerate(outcomes)
    )
    said = Reproduction(
        project="hello", version="1.0.0", subject="2" * 64, time=datetime(2026, 1, 1, tzinfo=UTC), artifacts=artifacts,
        asked=len(artifacts), source="a folder",
    )  # fmt: skip
    found = error_of(said)
    assert type(found) is (error or type(None))
    assert found is None or found.next_step


def test_each_outcome_has_its_word() -> None:
    words = {verdict_of(each).value for each in (GOOD, BAD, FAIL, SKIP)}
    assert words == {"GOOD", "BAD", "FAIL", "SKIPPED"}
