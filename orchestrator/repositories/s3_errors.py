"""What answers of an S3 server mean. Texts carry codes and keys only: an answer may quote a credential."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from botocore import exceptions  # type: ignore[import-untyped]  # botocore carries no types

from builders.names import escaped
from orchestrator.errors import KeyMissing, OutcomeUnknown, RepositoryError


class ConditionFailed(RepositoryError):
    """The object is not in the state that the write was for; the caller knows what that means."""


_AGAIN: Final = frozenset(
    {
        "400", "MalformedXML",
        "BadDigest", "ConditionalRequestConflict", "IncompleteBody", "InternalError", "NoSuchUpload",
        "OperationAborted",
        "RequestTimeout", "RequestTimeTooSkewed", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException",
        "TooManyRequests", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch",
    }
)  # fmt: skip
"""Codes after which the same request may well succeed: it was damaged on its way, or came at a bad moment."""
_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_REFUSED: Final[Mapping[str, str]] = {
    "NoSuchBucket": "make the bucket, or name another",
    "AccessDenied": "allow this user to get, put and list objects there, and to delete below `.staging-`",
    "InvalidAccessKeyId": "check the credentials in the environment or in the profile",
    "SignatureDoesNotMatch": "check the secret key and the region",
    "ExpiredToken": "renew the credentials, then run again: `relbuild recover` finishes what was claimed",
    "InsufficientCapacity": "make room on the server, then run again",
    "NotImplemented": "use a store that supports conditional writes (If-Match and If-None-Match)",
}
_LOST: Final = (exceptions.HTTPClientError, exceptions.IncompleteReadError, exceptions.ResponseStreamingError)
_CONFLICT, _TOO_MANY, _PRECONDITION, _SERVER, _UNSUPPORTED, _FULL = 409, 429, 412, 500, 501, 507


@contextlib.contextmanager
def answered(what: str) -> Iterator[None]:
    """Turn boto3's errors into ours: OutcomeUnknown where asking again may help or the answer was lost."""
    try:
        yield
    except exceptions.ClientError as error:
        raise _meaning(what, error.response) from None
    except _LOST as error:
        raise OutcomeUnknown(
            f"the answer for {what} was lost ({type(error).__name__})",
            next_step="check the network and the server, then run again: `relbuild recover` finishes what was claimed",
        ) from None
    except exceptions.BotoCoreError as error:
        raise RepositoryError(
            f"{what} cannot be asked ({type(error).__name__})",
            next_step="check the endpoint, the region and the credentials in the environment or in the profile",
        ) from None


def _meaning(what: str, response: Mapping[str, Any]) -> RepositoryError:
    code = str(response.get("Error", {}).get("Code", "no code"))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    told = f"{what}: the server answered {status} {escaped(code)}"
    if status == _PRECONDITION or code == "PreconditionFailed":
        return ConditionFailed(told)
    if (
        code in _AGAIN
        or status in {_CONFLICT, _TOO_MANY}
        or (status >= _SERVER and status not in {_UNSUPPORTED, _FULL})
    ):
        return OutcomeUnknown(told, next_step="wait a little, then run again")
    if code in _MISSING:
        return KeyMissing(f"{what} is not there", next_step="check the version, the bucket and the prefix")
    return RepositoryError(told, next_step=_REFUSED.get(code, "look the code up in the server's manual"))
