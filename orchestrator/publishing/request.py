"""What somebody wants published, what publishes it, and what is known of it on the way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from orchestrator.events import Observer
from orchestrator.policy import Judgement
from orchestrator.policy_evidence import Approval, GateReport
from orchestrator.publication import (
    IndexKeys,
)
from orchestrator.publication_policy import PublicationPolicy
from orchestrator.publish.desk import Terms
from orchestrator.publish.report import PublicationReport
from orchestrator.publish.version_guard import VersionGuard
from orchestrator.repositories.interface import Repository
from orchestrator.repositories.preview import Write
from orchestrator.trust import VerificationResult, VerifiedRelease
from orchestrator.validation_evidence import Validation
from orchestrator.verify.trust_root import TrustRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody wants published. An empty `version` takes the manifest's; `earlier` is a result brought along.

    `verified` is given where this very process read every byte a moment ago.
    """

    folder: Path
    policy: PublicationPolicy
    version: str = ""
    required_targets: frozenset[str] = frozenset()
    verified: VerifiedRelease | None = None
    earlier: VerificationResult | None = None
    validation: Validation | None = None
    validate: Callable[[], Validation] | None = None
    """Makes the validation where none was brought along, once the release is verified."""
    reproduction: GateReport | None = None
    """What rebuilders said, where the policy asks for it."""
    checks: GateReport | None = None
    """What CI said of the commit, likewise."""
    versions: VersionGuard | None = None
    """What the version is held against, likewise."""
    approvals: tuple[Approval, ...] = ()
    """Who said that some bytes may be published, likewise."""
    notes: tuple[str, ...] = ()
    """What the report is to say beside its own."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """What publishes: a repository, the keys of its readers and its owner, terms, and where failures are kept."""

    repository: Repository
    trust: TrustRoot
    open_keys: Callable[[], IndexKeys]
    terms: Terms
    observer: Observer
    now: Callable[[], datetime]
    journal: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """A publish that ended. `error` is for the caller to raise; `writes` are those that a dry run left out."""

    report: PublicationReport
    error: BaseException | None
    writes: tuple[Write, ...] = ()
    journal_error: str = ""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What is known so far, for the report. Not frozen: it fills while the publish goes on."""

    version: str
    result: VerificationResult | None = None
    validation: Validation | None = None
    judgement: Judgement | None = None
    notes: list[str] = field(default_factory=list)
