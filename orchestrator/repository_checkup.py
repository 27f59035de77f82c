"""What `relbuild doctor` finds of the store that releases are promoted to."""

from collections.abc import Callable, Iterator

from builders.errors import RelbuildError
from orchestrator.checkup import Grade, Symptom
from orchestrator.publication import RepositoryKind, RepositoryRules
from orchestrator.repositories.interface import Repository, note_of


def examine_repository(
    rules: RepositoryRules | None, open_store: Callable[[RepositoryRules], Repository]
) -> Iterator[Symptom]:
    """Try a bucket that speaks S3 as a first publish does: whether it keeps conditions, and which way bytes are moved.

    Writes below `.staging-probe-*` there, and leaves nothing. Other stores have one way, and are not looked at.
    """
    if rules is None or rules.kind is not RepositoryKind.S3:
        return
    try:
        store = open_store(rules)
        store.probe()
    except RelbuildError as error:
        text = f"{error.what}; builds work, and nothing is published there"
        yield Symptom(name="repository", grade=Grade.NOTE, text=text, mend=error.next_step)
        return
    yield Symptom(name="repository", grade=Grade.OK, text=f"{store.location}: {note_of(store)}")
