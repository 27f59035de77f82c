"""Signs with an ECDSA P-256 key that never leaves AWS KMS."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import boto3  # type: ignore[import-untyped]  # boto3 carries no types
from botocore.config import Config  # type: ignore[import-untyped]  # nor does botocore
from botocore.exceptions import (  # type: ignore[import-untyped]  # as above
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ReadTimeoutError,
)
from botocore.exceptions import (
    ConnectionError as NoConnection,
)
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from builders.names import escaped
from orchestrator.errors import KeyRefused, SigningFailed
from orchestrator.signing.bundle import key_id_of, signed_bundle
from orchestrator.signing.interface import Blob, Statement
from orchestrator.trust import BUNDLE, KeyId, SignerRules

_ATTEMPTS = 4
_CONNECT_S = 5.0
_SPEC, _ALGORITHM = "ECC_NIST_P256", "ECDSA_SHA_256"
_NEXT_STEPS: tuple[tuple[type[Exception], str], ...] = (
    (NoCredentialsError, "give this machine AWS credentials (environment, profile or role)"),
    (NoRegionError, "name the region: `region` of that signer in [signing]"),
    (ReadTimeoutError, "the service answers too late: try again, or see `endpoint` of that signer"),
    (NoConnection, "see that the service can be reached: `endpoint` and `region` of that signer"),
    (HTTPClientError, "see that the service can be reached: `endpoint` and `region` of that signer"),
    (ClientError, "see that the key exists, is enabled, and that this role may kms:Sign and kms:GetPublicKey"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsSigner:
    """A Signer whose key is in KMS. `spki` is its public half in DER."""

    name: str
    spki: bytes
    key: str
    client: Any = field(repr=False)
    suffix: str = BUNDLE
    attests: bool = True

    @property
    def key_id(self) -> KeyId:
        return key_id_of(self.spki)

    def sign(self, subject: Blob | Statement) -> bytes:
        return signed_bundle(subject, self.spki, self._sign_digest)

    def _sign_digest(self, digest: bytes) -> bytes:
        answer = _asked(
            self.name,
            lambda: self.client.sign(KeyId=self.key, Message=digest, MessageType="DIGEST", SigningAlgorithm=_ALGORITHM),
        )
        signature = answer.get("Signature")
        if not isinstance(signature, bytes) or answer.get("SigningAlgorithm") != _ALGORITHM:
            raise SigningFailed(f"{self.name} did not answer with an {_ALGORITHM} signature",
                                next_step="see that `endpoint` of that signer is AWS KMS")  # fmt: skip
        return signature


def open_kms(rules: SignerRules, read_timeout_s: float = 10.0) -> KmsSigner:
    """Ask KMS for the key's public half. Raises KeyRefused for another kind of key, SigningFailed."""
    name = f"kms {escaped(rules.key)}"
    client = _asked(
        name,
        lambda: boto3.session.Session().client(
            "kms", endpoint_url=rules.endpoint or None, region_name=rules.region or None,
            config=Config(connect_timeout=_CONNECT_S, read_timeout=read_timeout_s,
                          retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"}),
        ),
    )  # fmt: skip
    answer = _asked(name, lambda: client.get_public_key(KeyId=rules.key))
    if answer.get("KeyUsage") != "SIGN_VERIFY":
        raise KeyRefused(f"{name} is a key for {escaped(str(answer.get('KeyUsage')))}",
                         next_step=f"make a key of spec {_SPEC} for SIGN_VERIFY")  # fmt: skip
    return KmsSigner(name=name, spki=_spki(name, answer.get("PublicKey")), key=rules.key, client=client)


def _spki(name: str, data: object) -> bytes:
    try:
        public = serialization.load_der_public_key(data if isinstance(data, bytes) else b"")
    except ValueError:
        public = None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise KeyRefused(f"{name} is not an ECDSA P-256 key", next_step=f"make a key of spec {_SPEC} for SIGN_VERIFY")
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _asked(name: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (BotoCoreError, ClientError, ValueError) as error:
        steps = (step for kind, step in _NEXT_STEPS if isinstance(error, kind))
        step = next(steps, "see `key`, `endpoint` and `region` of that signer")
        raise SigningFailed(f"{name} could not be used: {escaped(str(error))}", next_step=step) from error
