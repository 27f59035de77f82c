"""What a repository's errors mean to somebody who only reads: nothing there is his to finish."""

import contextlib
from collections.abc import Iterator

from orchestrator.errors import KeyMissing, OutcomeUnknown, PublicationError, RepositoryError
from orchestrator.repositories.interface import Repository


@contextlib.contextmanager
def reader_errors() -> Iterator[None]:
    """Say of a lost answer that the repository is out of reach, and of an object that is gone that it is broken."""
    try:
        yield
    except OutcomeUnknown as error:
        raise RepositoryError(
            f"the repository cannot be read: {error.what}",
            next_step="check its address, the network and the server, then run again",
        ) from error
    except KeyMissing as error:
        raise RepositoryError(
            f"the repository is not whole: {error.what}", next_step="tell its owner: somebody removed something"
        ) from error


def nothing_published(repository: Repository) -> PublicationError:
    """Give the error for a place without an index."""
    return PublicationError(
        f"nothing is published in {repository.location}", next_step="look whether that is the right repository"
    )
