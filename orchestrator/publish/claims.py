"""How a version stands: free, claimed, published, or never to be had; and what anyone needs to finish a claim."""

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from orchestrator.errors import AuditInvalid, DuplicateVersion, KeyMissing, RepositoryError, VerificationError
from orchestrator.publication import (
    AUDIT,
    AUDIT_SIGNATURE,
    Index,
    IndexedFile,
    IndexTrust,
    ReleaseEntry,
    ReleaseStatus,
)
from orchestrator.publish.audit import parse_audit
from orchestrator.publish.history import VersionTaken
from orchestrator.publish.replay import history_of
from orchestrator.publish.staging import Staging, read_or_none, read_whole
from orchestrator.repositories.interface import Repository

_NEXT_NUMBER = "a version number is never free again: take the next one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claimed version with all that finishing it takes, read from its staging area, and proven by its signature."""

    version: str
    staging: Staging
    audit: bytes
    seal: bytes
    entry: ReleaseEntry
    """As the index will list it."""
    files: tuple[IndexedFile, ...]

    @property
    def audit_sha256(self) -> str:
        return self.entry.audit_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """Nobody has the version, and nothing is in its places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """Somebody made all of it durable and claimed it; the index does not list it yet."""

    claim: Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The index lists it, with these files."""

    entry: ReleaseEntry
    audit_id: str
    files: tuple[IndexedFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The version cannot be had, for this reason."""

    why: str


Standing = Free | Claimed | Published | Taken


def claim_key(version: str) -> PurePosixPath:
    return PurePosixPath(f"{version}{AUDIT}")


def seal_key(version: str) -> PurePosixPath:
    return PurePosixPath(f"{version}{AUDIT_SIGNATURE}")


def standing(repository: Repository, trust: IndexTrust, index: Index | None, version: str) -> Standing:
    """Tell how a version stands by the index, its claim, and what is in its places."""
    if index is not None and (entry := index.release(version)):
        return _published(repository, entry)
    if why := why_taken(index, version):
        return Taken(why=why)
    if found := _claimed(repository, trust, version):
        return found
    if foreign := _foreign(repository, version):
        # What looks foreign may have been claimed and moved since we looked for the claim.
        why = f"{foreign} is in {repository.location} already, and relbuild did not publish it"
        return _claimed(repository, trust, version) or Taken(why=why)
    return Free()


def why_taken(index: Index | None, version: str) -> str:
    """Say why the history lets nobody publish a version that it does not list, or give an empty string."""
    try:
        history_of(index).take(version)
    except VersionTaken as error:
        return str(error)
    return ""


def read_claim(repository: Repository, trust: IndexTrust, version: str, body: bytes) -> Claim:
    """Give the claim on a version from the bytes of its audit.

    Raises KeyMissing where its signature is nowhere, VerificationError where that or the audit does not hold.
    """
    audit = parse_audit(body)
    if audit.version != version:
        raise AuditInvalid(
            f"{claim_key(version)} in {repository.location} is the audit of {audit.version}",
            next_step="somebody copied it there: look at it, then `relbuild abandon` the version",
        )
    staging = Staging(audit_id=audit.audit_id)
    seal = read_or_none(repository, staging.seal)
    # A finisher removes the staging area only after it put the signature in its place.
    seal = read_whole(repository, seal_key(version)) if seal is None else seal
    trust.check_audit(body, seal)
    return new_claim(version, staging, body, seal)


def new_claim(version: str, staging: Staging, body: bytes, seal: bytes) -> Claim:
    """Give the claim that these bytes make."""
    audit = parse_audit(body)
    entry = dataclasses.replace(audit.entry, audit_sha256=hashlib.sha256(body).hexdigest())
    return Claim(version=version, staging=staging, audit=body, seal=seal, entry=entry, files=audit.files)


def refuse_other_bytes(version: str, ours: Iterable[IndexedFile], theirs: Iterable[IndexedFile], *, what: str) -> None:
    """Raise DuplicateVersion unless two lists name the same files with the same digests."""
    mine, there = ({file.path: file.sha256 for file in files} for files in (ours, theirs))
    if mine == there:
        return
    path = next(path for path in sorted(mine.keys() | there.keys()) if mine.get(path) != there.get(path))
    raise DuplicateVersion(
        f"{version} is {what} already, with other bytes: {path} differs, and it may not be the only one",
        next_step=_NEXT_NUMBER,
    )


def refused(why: str) -> DuplicateVersion:
    return DuplicateVersion(why, next_step=_NEXT_NUMBER)


def _claimed(repository: Repository, trust: IndexTrust, version: str) -> Claimed | Taken | None:
    body = read_or_none(repository, claim_key(version))
    if body is None:
        return None
    try:
        return Claimed(claim=read_claim(repository, trust, version, body))
    except (VerificationError, KeyMissing) as error:
        return Taken(why=f"{version} is claimed by an audit that cannot be finished: {error.what}")


def _published(repository: Repository, entry: ReleaseEntry) -> Published | Taken:
    if entry.status is ReleaseStatus.REVOKED:
        return Taken(why=f"{entry.version} is revoked")
    body = read_or_none(repository, claim_key(entry.version))
    if body is None or hashlib.sha256(body).hexdigest() != entry.audit_sha256:
        return Taken(why=f"{entry.version} is published, and its audit is not what the index promises")
    audit = parse_audit(body)
    return Published(entry=entry, audit_id=audit.audit_id, files=audit.files)


def _foreign(repository: Repository, version: str) -> str:
    """Name what is in the places of a version that nobody claimed: a file, a folder even if empty, a link."""
    below = next(iter(repository.list(PurePosixPath(version))), None)
    if below is not None:
        return str(below.key)
    for key in (PurePosixPath(version), seal_key(version)):
        try:
            with repository.open(key):
                return str(key)
        except KeyMissing:
            continue
        except RepositoryError as error:
            # A folder store says so of what it cannot open as a file.
            return f"{key} ({error.what})"
    return ""
