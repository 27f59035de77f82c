"""The values of publication: where releases go, what is published, who signs that, and what became of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final, Protocol, TypeVar, overload

from orchestrator.canonical import Json

# Said twice because what publishes is written with these names as much as with those below.
from orchestrator.publishing_rules import PolicyMode as PolicyMode  # noqa: PLC0414
from orchestrator.publishing_rules import RepositoryKind as RepositoryKind  # noqa: PLC0414
from orchestrator.publishing_rules import RepositoryRules as RepositoryRules  # noqa: PLC0414
from orchestrator.trust import KeyId

_Row = TypeVar("_Row")

INDEX, INDEX_VIEW = PurePosixPath("index.json"), PurePosixPath("index.md")
INDEX_SIGNATURES = PurePosixPath(".index")
"""Holds `<sha256 of index.json>.sigstore.json`."""
AUDIT, AUDIT_SIGNATURE = ".audit.json", ".audit.sig"
"""Endings behind the version: the claim, and the signature over its exact bytes."""
INDEX_SCHEMA: Final = "relbuild/index/v1"
AUDIT_SCHEMA: Final = "relbuild/audit/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """What became of one rule. `error` names the class of a broken one; `waived` says why it does not stop."""

    rule: str
    passed: bool
    text: str
    error: str = ""
    exit_code: int = 0
    waived: str = ""


# --- the index ---------------------------------------------------------------------------------------------------


class ReleaseStatus(StrEnum):
    ACTIVE = "active"
    YANKED = "yanked"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    """A rollback went behind it: still there by its name, never the latest."""


class EventType(StrEnum):
    PUBLISH = "publish"
    YANK = "yank"
    UNYANK = "unyank"
    REVOKE = "revoke"
    ROLLBACK = "rollback"
    ABANDON = "abandon"
    RENEW = "renew"
    """Nothing but a later `expires`; its version is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedFile:
    """A published file, by its path below `<version>/`."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseEntry:
    """A release as the index lists it. `sha256` is that of manifest.json, as the seed's field; so is manifest_sha256.

    `size_bytes` counts every published file; `artifacts` lists what is installed, the audit lists all files. An entry
    that stands in an audit has an empty audit_sha256, since nothing can hold its own digest.
    """

    version: str
    timestamp: datetime
    sha256: str
    size_bytes: int
    artifacts: tuple[IndexedFile, ...]
    sbom_id: str
    slsa_id: str
    provenance_hash: str
    signed: bool
    encrypted: bool
    verification: Mapping[str, Json]
    validation: Mapping[str, Json] | None
    manifest_sha256: str
    targets: tuple[str, ...]
    audit_sha256: str = ""
    status: ReleaseStatus = ReleaseStatus.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change of the index. `prev` is the SHA-256 of the event before as it stands in the index, "" for the first.

    `audit_sha256` binds what was published into the history; it is empty for other types.
    """

    seq: int
    prev: str
    type: EventType
    version: str
    reason: str
    actor: str
    key_id: str
    time: datetime
    audit_sha256: str = ""


class Rows(Sequence[_Row]):
    """Releases or events as the lines that they stand in, each read when it is asked for: an index holds thousands."""

    __slots__ = ("_read", "lines")

    def __init__(self, lines: Iterable[bytes], read: Callable[[bytes], _Row]) -> None:
        self.lines: Final = tuple(lines)
        self._read = read

    @overload
    def __getitem__(self, at: int) -> _Row: ...
    @overload
    def __getitem__(self, at: slice) -> "Rows[_Row]": ...
    def __getitem__(self, at: int | slice) -> "_Row | Rows[_Row]":
        return Rows(self.lines[at], self._read) if isinstance(at, slice) else self._read(self.lines[at])

    def __len__(self) -> int:
        return len(self.lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and self.lines == other.lines

    def __hash__(self) -> int:
        return hash(self.lines)

    def __repr__(self) -> str:
        return f"{len(self.lines)} rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What is published, and the history of it. One event a revision: `revision` is the number of events.

    `root` is the RFC 6962 tree head over the events. `latest` is the newest active release by SemVer, a pre-release
    only where there is no other; empty where nothing is active.
    """

    repository_id: str
    revision: int
    previous_index_sha256: str
    expires: datetime
    latest: str
    releases: Rows[ReleaseEntry]
    events: Rows[Event]
    root: str
    last_updated: datetime
    sha256: str = field(init=False, default="", compare=False, repr=False)
    """Digest of the bytes that it was read from, empty for one that was made."""
    replay: object = field(init=False, default=None, compare=False, repr=False)
    """What its events lead to, once that was worked out: publish/replay.py's, and nobody else's to read."""

    @property
    def total_releases(self) -> int:
        """Count the releases, whatever their status."""
        return len(self.releases)

    def release(self, version: str) -> ReleaseEntry | None:
        """Give a release by its exact name, or None. Reads no other one."""
        # The last key of a release's line.
        ending = f',"version":"{version}"}}'.encode("utf-8", "replace")
        found = (at for at, line in enumerate(self.releases.lines) if line.endswith(ending))
        at = next(found, None)
        return None if at is None else self.releases[at]


# --- who signs and who checks ------------------------------------------------------------------------------------


class IndexKeys(Protocol):
    """The keys of a publisher. Implementation: publish/index_keys.py."""

    @property
    def index_key_id(self) -> KeyId:
        """Name the key that signs the index."""

    @property
    def audit_key_id(self) -> KeyId:
        """Name the key that signs audits."""

    def preload(self) -> None:
        """Start to load the keys beside other work: a passphrase takes its time, and so does the library."""

    def sign_index(self, body: bytes) -> bytes:
        """Give the content of `.index/<sha256>.sigstore.json`. Raises SigningFailed."""

    def sign_audit(self, body: bytes) -> bytes:
        """Give the content of `<version>.audit.sig`. Raises SigningFailed."""


class IndexTrust(Protocol):
    """The keys that count for a reader. Implementation: publish/index_keys.py."""

    def check_index(self, body: bytes, signature: bytes) -> KeyId:
        """Give the key that signed these bytes of index.json. Raises VerificationError."""

    def check_audit(self, body: bytes, signature: bytes) -> KeyId:
        """Give the key that signed these bytes of audit.json. Raises VerificationError."""


# --- what a promotion gave ---------------------------------------------------------------------------------------


class PublicationState(StrEnum):
    """The last line of every publish."""

    NOT_PUBLISHED = "not published"
    CLAIMED = "claimed"
    PUBLISHED = "published"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """How long one of the seven stages took, in milliseconds."""

    name: str
    ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What became of a promotion. `no_op`: the same bytes were published before."""

    version: str
    state: PublicationState
    no_op: bool
    revision: int
    audit_id: str
    audit_sha256: str
    index_sha256: str
    stages: tuple[StageTime, ...]
    files: tuple[IndexedFile, ...]
    total_bytes: int
