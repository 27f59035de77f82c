"""The shape of [signing]."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from orchestrator.config import texts
from orchestrator.config.base_shape import Shape
from orchestrator.config.product_shapes import not_empty

SIGNER_KINDS = ("key_file", "gpg", "kms", "keyless")


def _tag(value: object) -> str | None:
    found = [kind for kind in SIGNER_KINDS if isinstance(value, dict) and kind in value]
    return f"<{found[0]}>" if found else None


def _passphrase(value: str) -> str:
    if value != "prompt" and not texts.PASSPHRASE.fullmatch(texts.line(value)):
        raise texts.broken(
            "a passphrase itself may not stand here, or it is no place to read one from",
            'write "env:NAME", "fd:NUMBER" or "prompt"',
        )
    return value


Passphrase = Annotated[str, AfterValidator(_passphrase)]


class KeyFileShape(Shape):
    """A private key in a file: PKCS#8, or cosign's own format."""

    key_file: texts.AnyPath = Field(description="Path of the key: absolute, below ~, or relative to the project.")
    passphrase: Passphrase = Field(default="", description='"env:NAME", "fd:NUMBER" or "prompt".')


class GpgShape(Shape):
    """A GPG key in a key ring of its own."""

    gpg: texts.Fingerprint = Field(
        description='Full fingerprint of the key, or "only" for the one that the home holds.'
    )
    home: texts.AnyPath = Field(description="GNUPGHOME that holds it; never the user's own.")
    passphrase: Passphrase = Field(default="", description='"env:NAME", "fd:NUMBER" or "prompt".')


class KmsShape(Shape):
    """A key that AWS KMS keeps."""

    kms: texts.Words = Field(description="ARN, id or alias of the key.")
    region: texts.Line = Field(default="", description="AWS region; default: the machine's own.")
    endpoint: texts.HttpUrl | Literal[""] = Field(default="", description="Another endpoint than that of AWS.")


class KeylessShape(Shape):
    """Sigstore's short-lived certificates."""

    keyless: texts.Words = Field(description="The identity that the certificate must name.")


Signer = Annotated[
    Annotated[KeyFileShape, Tag("<key_file>")]
    | Annotated[GpgShape, Tag("<gpg>")]
    | Annotated[KmsShape, Tag("<kms>")]
    | Annotated[KeylessShape, Tag("<keyless>")],
    Discriminator(
        _tag,
        custom_error_type="relbuild",
        custom_error_message="it must be a table with one of key_file, gpg, kms, keyless",
    ),
]


class EncryptionShape(Shape):
    """For whom copies of the artifacts are encrypted by age."""

    recipients: Annotated[list[texts.AgeRecipient], AfterValidator(not_empty)] = Field(
        description="Public keys of those who may read."
    )
    plain: Literal["keep", "remove"] = Field(default="keep", description="What becomes of the plain artifacts.")


class SigningShape(Shape):
    """Who signs a release, and whose signatures count."""

    trust: texts.AnyPath = Field(description="trust.json: the keys that count, and from when to when.")
    signers: Annotated[list[Signer], AfterValidator(not_empty)] = Field(
        description="Each of them signs; at least one that can attest."
    )
    artifacts: bool = Field(default=False, description="A signature beside each artifact, too.")
    encryption: EncryptionShape | None = None
