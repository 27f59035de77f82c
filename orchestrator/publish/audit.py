"""`<version>.audit.json`: the claim on a version, what was published and on whose word; and its signature's file."""

import hashlib
import uuid
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from builders.names import escaped
from orchestrator.canonical import Json, canonical_json
from orchestrator.errors import AuditInvalid
from orchestrator.publication import (
    AUDIT_SCHEMA,
    IndexedFile,
    PolicyMode,
    ReleaseEntry,
    ReleaseStatus,
    RuleOutcome,
)
from orchestrator.publish import index_rows
from orchestrator.publish.index_json import BadIndex, time, written
from orchestrator.trust import KeyId
from orchestrator.verify.json_strict import (
    SHA256,
    TEXT,
    BadJson,
    anything,
    boolean,
    check,
    exactly,
    integer,
    list_of,
    map_of,
    optional,
    parse_canonical,
    record,
    text,
)

ALGORITHM: Final = "RSA-PSS-SHA256"
_SEAL_BYTES: Final = 1 << 16
_UUID = text(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID")
_OUTCOME = record({"rule": TEXT, "passed": boolean, "text": TEXT, "error": TEXT, "exit_code": integer, "waived": TEXT})
_AUDIT = record(
    {
        "schema": exactly(AUDIT_SCHEMA),
        "audit_id": _UUID,
        "version": TEXT,
        "timestamp": TEXT,
        "machine_id": TEXT,
        "metadata": map_of(anything),
        "verification": map_of(anything),
        "validation": optional(map_of(anything)),
        "publication": record(
            {"artifacts_published": integer, "total_bytes": integer, "repository_type": TEXT,
             "policy_mode": exactly(*(mode.value for mode in PolicyMode))}
        ),
        "rules": list_of(_OUTCOME, least=1),
        "waivers": list_of(record({"rule": TEXT, "reason": TEXT})),
        "approvals": list_of(TEXT),
        "tools": map_of(TEXT),
        "entry": anything,
        "files": list_of(anything, least=1),
    },
    # Audits from before it was written have none.
    {"repository_id": TEXT},
)  # fmt: skip
_SEAL = record(
    {"algorithm": exactly(ALGORITHM), "hash": SHA256, "timestamp": TEXT, "key_id": SHA256,
     "signature": text(r"[A-Za-z0-9+/]+={0,2}", "base64")}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What an audit says. `entry` is what the index is to list, its audit_sha256 empty; `document` is all of it."""

    audit_id: str
    repository_id: str
    """Empty where the audit is too old to say."""
    version: str
    timestamp: datetime
    entry: ReleaseEntry
    files: tuple[IndexedFile, ...]
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The content of an audit.sig: who signed which bytes, and when the audit says it was made."""

    sha256: str
    timestamp: str
    key_id: KeyId
    signature: bytes


def audit_document(
    entry: ReleaseEntry,
    files: Sequence[IndexedFile],
    *,
    audit_id: str,
    repository_id: str,
    machine_id: str,
    now: datetime,
    repository_type: str,
    policy_mode: PolicyMode,
    outcomes: Sequence[RuleOutcome],
    metadata: Mapping[str, Json] | None = None,
    approvals: Sequence[str] = (),
    tools: Mapping[str, str] | None = None,
) -> bytes:
    """Write audit.json. `files` are all that is published, with their digests: enough for anyone to finish.

    Raises AuditInvalid for an audit that nobody could read again.
    """
    body = canonical_json(
        {
            "schema": AUDIT_SCHEMA,
            "audit_id": audit_id,
            "repository_id": repository_id,
            "version": entry.version,
            "timestamp": written(now),
            "machine_id": machine_id,
            "metadata": metadata or {},
            "verification": entry.verification,
            "validation": entry.validation,
            "publication": {
                "artifacts_published": len(entry.artifacts),
                "total_bytes": sum(file.size_bytes for file in files),
                "repository_type": repository_type,
                "policy_mode": policy_mode.value,
            },
            "rules": [_outcome_json(outcome) for outcome in outcomes],
            "waivers": [{"rule": each.rule, "reason": each.waived} for each in outcomes if each.waived],
            "approvals": list(approvals),
            "tools": tools or {},
            "entry": index_rows.entry_json(entry),
            "files": index_rows.files_json(files),
        }
    )
    parse_audit(body)
    return body


# Whoever publishes, finishes or checks asks several times about the same bytes: for the claim, and for its signature.
@lru_cache(maxsize=2)
def parse_audit(body: bytes) -> Audit:
    """Read audit.json. Whether it is signed is another question. Raises AuditInvalid."""
    try:
        document = check(parse_canonical(body), _AUDIT)
        entry = index_rows.entry_of(document["entry"])
        files = index_rows.read_files(document["files"])
        timestamp = time(document["timestamp"], "timestamp")
        _refuse_contradictions(document, entry, files)
    except (BadJson, BadIndex) as error:
        raise AuditInvalid(
            f"the audit {error}", next_step="get it again; if that is no help, somebody changed it"
        ) from None
    return Audit(
        audit_id=document["audit_id"], repository_id=document.get("repository_id", ""),
        version=entry.version, timestamp=timestamp, entry=entry, files=files,
        document=document,
    )  # fmt: skip


def require_repository(audit: Audit, repository_id: str) -> None:
    """Refuse the audit of another repository, whoever signed it. Raises AuditInvalid."""
    if audit.repository_id not in {"", repository_id}:
        raise AuditInvalid(
            f"the audit of {audit.version} is that of the repository {escaped(audit.repository_id[:200])}, "
            f"not {escaped(repository_id)}",
            next_step="somebody brought it here: look at it, and ask its owner",
        )


def seal_document(body: bytes, key_id: KeyId, signature: bytes) -> bytes:
    """Write audit.sig for the exact bytes of an audit. Its timestamp is the audit's own, so that no clock is asked."""
    return canonical_json(
        {
            "algorithm": ALGORITHM,
            "hash": hashlib.sha256(body).hexdigest(),
            "timestamp": written(parse_audit(body).timestamp),
            "key_id": key_id,
            "signature": b64encode(signature).decode(),
        }
    )


def parse_seal(body: bytes, content: bytes) -> Seal:
    """Read audit.sig and hold it against the audit's bytes; the signature itself is not checked here.

    Raises AuditInvalid.
    """
    try:
        value = check(parse_canonical(content, _SEAL_BYTES), _SEAL)
        signature = b64decode(value["signature"], validate=True)
        if b64encode(signature).decode() != value["signature"]:
            raise BadJson("has base64 that is not in its only form")
    except ValueError as error:
        what = error if isinstance(error, BadJson) else "has no base64 at signature"
        raise _bad_seal(f"audit.sig {what}") from None
    if value["hash"] != hashlib.sha256(body).hexdigest():
        raise _bad_seal("audit.sig is a signature of other bytes than these of audit.json")
    if value["timestamp"] != written(parse_audit(body).timestamp):
        raise _bad_seal("audit.sig names another time than the audit")
    return Seal(sha256=value["hash"], timestamp=value["timestamp"], key_id=KeyId(value["key_id"]), signature=signature)


def new_audit_id() -> str:
    """Name an audit that nobody else has."""
    return str(uuid.uuid4())


def _bad_seal(what: str) -> AuditInvalid:
    return AuditInvalid(what, next_step="get both files again; if that is no help, somebody changed one")


def _outcome_json(outcome: RuleOutcome) -> dict[str, Json]:
    return {
        "rule": outcome.rule,
        "passed": outcome.passed,
        "text": outcome.text,
        "error": outcome.error,
        "exit_code": outcome.exit_code,
        "waived": outcome.waived,
    }


def _refuse_contradictions(document: Mapping[str, Any], entry: ReleaseEntry, files: Sequence[IndexedFile]) -> None:
    listed = {file.path: file for file in files}
    publication = document["publication"]
    manifest = listed.get("manifest.json")
    tests = (
        (document["version"] == entry.version, "names another version than its entry"),
        (not entry.audit_sha256, "names its own digest"),
        (entry.status is ReleaseStatus.ACTIVE, f"calls a new release {entry.status.value}"),
        (all(listed.get(file.path) == file for file in entry.artifacts), "lists other artifacts than files"),
        (manifest is not None and manifest.sha256 == entry.manifest_sha256, "has another manifest than its files"),
        (
            publication["total_bytes"] == sum(file.size_bytes for file in files),
            "counts other bytes than its files",
        ),
        (publication["artifacts_published"] == len(entry.artifacts), "counts other artifacts than it lists"),
        (document["verification"] == entry.verification, "has another verification than its entry"),
        (document["validation"] == entry.validation, "has another validation than its entry"),
    )
    for holds, words in tests:
        if not holds:
            raise BadJson(words)
