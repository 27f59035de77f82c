"""Approvals: somebody's signed word that exactly these bytes may be published.

Format: relbuild/approval/v1, canonical JSON; its signature is a Sigstore bundle beside it, by a key of the role
"approver". They lie in approvals/VERSION/ beside the staging folder, one for each key, and name the manifest's SHA-256.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from builders.errors import RelbuildError
from builders.names import escaped
from orchestrator.canonical import canonical_json
from orchestrator.policy_evidence import Approval
from orchestrator.publishing_evidence import Candidate
from orchestrator.trust import BUNDLE
from orchestrator.verify import read_role_signed
from orchestrator.verify.json_strict import (
    SHA256,
    BadJson,
    check,
    exactly,
    parse_canonical,
    record,
    text,
)
from orchestrator.verify.trust_root import TrustRoot

SCHEMA: Final = "relbuild/approval/v1"
ROLE: Final = "approver"
_MAX_BYTES: Final = 1 << 16
_MOST: Final = 1000
_NAME = text(r"[^\x00-\x1f]{1,200}", "name")
_SHAPE: Final = record({"schema": exactly(SCHEMA), "project": _NAME, "version": _NAME, "manifest_sha256": SHA256})


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvals:
    """Approvals whose signatures hold, also those for other bytes, and why others do not count."""

    held: tuple[Approval, ...]
    notes: tuple[str, ...]


def approval_json(candidate: Candidate) -> bytes:
    """Write what an approver signs."""
    staged = candidate.staged
    return canonical_json(
        {"schema": SCHEMA, "project": candidate.project, "version": staged.version,
         "manifest_sha256": staged.manifest_sha256}
    )  # fmt: skip


def approvals_of(candidate: Candidate) -> Path:
    """Name the folder of a staged release's approvals: dist/approvals/VERSION."""
    return candidate.staged.folder.absolute().parent.parent / "approvals" / candidate.staged.version


def read_approvals(candidate: Candidate, trust: TrustRoot, now: datetime) -> Approvals:
    """Read all approvals of a staged release. One that is odd does not count, and does not spoil the others."""
    held, notes = [], []
    for file in _files(approvals_of(candidate)):
        try:
            held.append(_approval(file, candidate, trust, now))
        except (RelbuildError, BadJson, OSError) as error:
            why = error.what if isinstance(error, RelbuildError) else str(error)
            notes.append(f"the approval {escaped(file.name)} does not count: {why}")
    return Approvals(held=tuple(held), notes=tuple(notes))


def _files(folder: Path) -> Iterator[Path]:
    found = sorted(folder.glob("*.json")) if folder.is_dir() else []
    yield from [each for each in found if not each.name.endswith(BUNDLE) and not each.name.startswith(".")][:_MOST]


def _approval(file: Path, candidate: Candidate, trust: TrustRoot, now: datetime) -> Approval:
    data, key_id = read_role_signed(file, file.with_name(f"{file.name}{BUNDLE}"), trust, ROLE, now, most=_MAX_BYTES)
    value = check(parse_canonical(data, _MAX_BYTES), _SHAPE)
    about = (value["project"], value["version"])
    if about != (candidate.project, candidate.staged.version):
        raise BadJson(f"it is about {escaped(' '.join(about))}")
    return Approval(subject=value["manifest_sha256"], by=key_id)
