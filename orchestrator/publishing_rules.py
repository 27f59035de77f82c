"""What `[repository]` says: where releases are promoted to, by whose audit key, and how strictly."""

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Final

from orchestrator.signing_rules import PassphraseSource


class RepositoryKind(StrEnum):
    LOCAL = "local"
    S3 = "s3"
    GCS = "gcs"

    @property
    def words(self) -> str:
        """Speak of one of them."""
        return {"local": "a local repository", "s3": "an S3 repository", "gcs": "a GCS repository"}[self.value]


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


WAIVABLE: Final = (
    "validation", "manifest", "sbom", "provenance", "signatures", "artifact signatures", "encryption",
    "targets", "ci", "semver", "reproducibility", "approvals",
)  # fmt: skip
"""The rules that a waiver may name. Nothing lifts a version that is taken, or a verification that says no."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """One rule that somebody lifts for one release, and why."""

    rule: str
    reason: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleWaiver:
    """`[[repository.waivers]]`: a rule that somebody lifts, to the end of a day (UTC)."""

    rule: str
    reason: str
    by: str
    expires: date


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
    timestamped_versions: bool = False
    """Whether `name-YYYY-MM-DD-HHMMSS` is a version."""
    waivers: tuple[RuleWaiver, ...] = ()
    approvals: int = 0
    """So many different keys must approve."""
