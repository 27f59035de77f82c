"""The shape of [repository]."""

import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from orchestrator.config import texts
from orchestrator.config.base_shape import Shape
from orchestrator.config.signing_shapes import Passphrase
from orchestrator.publishing_rules import WAIVABLE


def _day(value: object) -> datetime.date:
    """Read a date of TOML, or one in quotes as RFC 3339 writes it (full-date)."""
    try:
        found = datetime.date.fromisoformat(value) if isinstance(value, str) and value[4:5] == "-" else value
    except ValueError:
        found = None
    if type(found) is not datetime.date:
        raise texts.broken(f"{texts.shown(value)} is no date", "write it as 2030-01-31")
    return found


class RuleWaiverShape(Shape):
    """A rule of the policy that somebody lifts for a while."""

    rule: texts.Words = Field(description="The rule, as reports name it.", json_schema_extra={"enum": list(WAIVABLE)})
    reason: texts.Words = Field(description="Why; reports and audits tell it for ever.")
    by: texts.Words = Field(description="Who answers for it.")
    expires: Annotated[datetime.date, BeforeValidator(_day)] = Field(description="The last day that it counts, UTC.")


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
    timestamped_versions: bool = Field(
        default=False, description="Whether name-YYYY-MM-DD-HHMMSS is a version, beside SemVer."
    )
    approvals: Annotated[int, Field(ge=0, le=99)] = Field(
        default=0, description="So many different keys of the role approver must sign: `relbuild approve`."
    )
    waivers: list[RuleWaiverShape] = Field(default=[], description="Rules that are lifted, by whom, why, until when.")
    unsafe_filesystem: bool = Field(
        default=False, description="local: accept a file system that does not promise what the commit rests on."
    )
