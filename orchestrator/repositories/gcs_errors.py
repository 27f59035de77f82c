"""What answers of Google Cloud Storage mean. Texts carry codes and keys only: an answer may quote a credential."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

import requests
from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud import storage  # type: ignore[import-untyped]  # carries no types

from orchestrator.errors import KeyMissing, OutcomeUnknown, RepositoryError

_LOST: Final = (
    exceptions.ServerError, exceptions.TooManyRequests, exceptions.Conflict, exceptions.RetryError,
    requests.exceptions.ConnectionError, requests.exceptions.Timeout, requests.exceptions.ChunkedEncodingError,
    storage.exceptions.DataCorruption, auth_exceptions.TransportError,
)  # fmt: skip


class ConditionFailed(RepositoryError):
    """The object is not in the state that the write was for."""


_REFUSED: Final[Mapping[int, str]] = {
    401: "check the credentials in the environment",
    403: "allow this account to get, create and list objects there, and to delete below `.staging-`",
    404: "make the bucket, or name another",
}


@contextlib.contextmanager
def answered(what: str) -> Iterator[None]:
    """Turn the library's errors into ours; texts carry codes and keys only."""
    try:
        yield
    except exceptions.PreconditionFailed:
        raise ConditionFailed(f"{what} is not in the state that the write was for", next_step="run again") from None
    except exceptions.NotFound:
        raise KeyMissing(f"{what} is not there", next_step=_REFUSED[404]) from None
    except _LOST as error:
        raise OutcomeUnknown(
            f"the answer for {what} was lost ({type(error).__name__})",
            next_step="check the network and the server, then run again: `relbuild recover` finishes what was claimed",
        ) from None
    except exceptions.GoogleAPICallError as error:
        raise RepositoryError(
            f"{what}: the server answered {error.code}",
            next_step=_REFUSED.get(error.code or 0, "look the code up in the service's manual"),
        ) from None
    except (auth_exceptions.GoogleAuthError, requests.exceptions.RequestException) as error:
        raise RepositoryError(
            f"{what} cannot be asked ({type(error).__name__})",
            next_step="check the endpoint, and the credentials in the environment",
        ) from None
