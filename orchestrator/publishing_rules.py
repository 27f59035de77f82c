"""What `[repository]` says: where releases are promoted to, by whose audit key, and how strictly."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from orchestrator.signing_rules import PassphraseSource


class RepositoryKind(StrEnum):
    LOCAL = "local"
    S3 = "s3"
    GCS = "gcs"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRules:
    """Where releases are promoted to.

    local: `path`, and `unsafe_filesystem` to accept one without the promises that the commit rests on.
    s3, gcs: `bucket`, `prefix` below it, `endpoint` and `region` where the machine's own do not count.
    """

    kind: RepositoryKind
    path: Path | None = None
    bucket: str = ""
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    unsafe_filesystem: bool = False


class PolicyMode(StrEnum):
    STRICT = "strict"
    LENIENT = "lenient"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishingRules:
    """`[repository]`. `audit_key` signs audits; `repository_id` names a repository that has no index yet."""

    repository: RepositoryRules
    audit_key: Path
    repository_id: str
    audit_passphrase: PassphraseSource = field(default_factory=PassphraseSource)
    mode: PolicyMode = PolicyMode.STRICT
    valid_days: int = 400
    """So long readers believe an index that nobody renews."""
