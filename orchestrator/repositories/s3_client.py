"""How a server that speaks S3 is asked."""

from typing import Any, Final

import boto3  # type: ignore[import-untyped]  # boto3 carries no types
from botocore.config import Config  # type: ignore[import-untyped]  # nor does this

THREADS: Final = 8
_POOL: Final = 32
_CONNECT_TIMEOUT_S: Final = 10
_READ_TIMEOUT_S: Final = 60
_REGION: Final = "us-east-1"  # what servers without regions expect


def client(endpoint: str, region: str) -> Any:
    """Give a boto3 client that asks once; credentials come from where boto3 looks for them."""
    settings = Config(
        # After a lost answer only the caller knows what "there already" means.
        retries={"total_max_attempts": 1},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=_POOL,
        # SHA-256 is sent by us; servers other than Amazon's may not know the newer default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    session = boto3.session.Session()
    return session.client(
        "s3", endpoint_url=endpoint or None, region_name=region or session.region_name or _REGION, config=settings
    )
