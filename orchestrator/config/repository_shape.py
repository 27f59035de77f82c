"""The shape of [repository]."""

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.config import texts
from orchestrator.config.base_shape import Shape
from orchestrator.config.signing_shapes import Passphrase


class RepositoryShape(Shape):
    """Where releases are promoted to, and how strictly."""

    kind: Literal["local", "s3", "gcs"] = Field(default="local", description="A folder, or a bucket.")
    path: texts.AnyPath | None = Field(default=None, description="local: the folder.")
    bucket: texts.Words | None = Field(default=None, description="s3, gcs: the bucket.")
    prefix: texts.Line = Field(default="", description="s3, gcs: a folder in the bucket.")
    endpoint: texts.HttpUrl | Literal[""] = Field(default="", description="s3, gcs: another than the provider's own.")
    region: texts.Line = Field(default="", description="s3: the bucket's region; default: the machine's own.")
    id: texts.Name | None = Field(default=None, description="Name of a new repository; default: the project's.")
    audit_key: texts.AnyPath = Field(description="RSA key that signs audits: `relbuild keys generate --kind audit`.")
    audit_passphrase: Passphrase = Field(default="", description='"env:NAME", "fd:NUMBER" or "prompt".')
    policy: Literal["strict", "lenient"] = Field(default="strict", description="Whether a broken rule stops.")
    valid_days: Annotated[int, Field(ge=1, le=3660)] = Field(
        default=400, description="So long readers believe an index that nobody renews."
    )
    unsafe_filesystem: bool = Field(
        default=False, description="local: accept a file system that does not promise what the commit rests on."
    )
