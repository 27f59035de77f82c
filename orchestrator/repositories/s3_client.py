"""How a server that speaks S3 is asked: with botocore, which is what boto3 is made of, less what costs and serves none.

Measured: reading dates is two thirds of the time that a listing takes, and describing the program anew and checking
parameters up to a fifth of a small request's.
"""

import io
from collections.abc import Mapping
from typing import Any, Final

import botocore.session  # type: ignore[import-untyped]  # botocore carries no types
from botocore.config import Config  # type: ignore[import-untyped]  # nor does this

from builders.names import escaped, shown_url
from orchestrator.errors import RepositoryError
from orchestrator.repositories.slow_answers import USUAL, Pace, paced

THREADS: Final = 8
_POOL: Final = 40  # as many connections as threads ever ask, those of large objects included
_CONNECT_TIMEOUT_S: Final = 10
_READ_TIMEOUT_S: Final = 60
_REGION: Final = "us-east-1"  # what servers without regions expect
_ASK_FIRST_BYTES: Final = 1 << 20
"""From this size on the server is asked before the body is sent: it may refuse, and then hangs up in the middle."""


def client(endpoint: str, region: str, pace: Pace = USUAL) -> Any:
    """Give a client that asks once; credentials come from where boto3 looks for them."""
    session = botocore.session.Session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    settings = Config(
        # After a lost answer only the caller knows what "there already" means.
        retries={"total_max_attempts": 1},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=_POOL,
        user_agent="relbuild",
        parameter_validation=False,
        # SHA-256 is sent by us; servers other than Amazon's may not know the newer default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # The SHA-256 of a body travels in a header of its own, and that is signed: hashing it again adds nothing.
        s3={"addressing_style": "path" if endpoint else "auto", "payload_signing_enabled": False},
    )
    region = region or session.get_config_variable("region") or _REGION
    try:
        made = session.create_client("s3", endpoint_url=endpoint or None, region_name=region, config=settings)
    except ValueError as error:
        raise RepositoryError(
            f"{escaped(shown_url(endpoint))} is no address of a server",
            next_step="write https://HOST or http://HOST:PORT",
        ) from error
    made.meta.events.register_last("before-call.s3", _send_at_once)
    pools = made._endpoint.http_session._pool_classes_by_scheme  # noqa: SLF001  (botocore has no setting for it)
    pools.update(paced(pools, pace))
    return made


def _send_at_once(params: Mapping[str, Any], **_: Any) -> None:
    body = params.get("body")  # bytes were wrapped by then
    if isinstance(body, io.BytesIO) and body.getbuffer().nbytes < _ASK_FIRST_BYTES:
        params["headers"].pop("Expect", None)
