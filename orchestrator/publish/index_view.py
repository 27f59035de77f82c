"""index.md: a page for people, made from the index and never read by the program."""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from orchestrator.canonical import Json
from orchestrator.publication import EventType, Index, ReleaseStatus
from orchestrator.publish.index_json import written
from orchestrator.publish.index_rows import read_event
from orchestrator.publish.version_names import newest_first

_TOLD: Final = {ReleaseStatus.YANKED, ReleaseStatus.REVOKED}
_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]<>#|!~&"})


class _Summary(NamedTuple):
    """What the page says of a release, in words."""

    version: str
    timestamp: str
    manifest_sha256: str
    size_bytes: int
    artifacts: int
    targets: str
    signed: str
    encrypted: str
    verification: str
    validation: str
    status: str


def index_view(index: Index) -> bytes:
    """Write the summary of every release, newest first by SemVer."""
    # An index's lines were checked when it was read, or written by us: they need not be checked for each page.
    rows = {row.version: row for row in map(_read, index.releases.lines)}
    reasons = _reasons(index) if any(row.status in _TOLD for row in rows.values()) else {}
    head = [
        "# Releases",
        "",
        f"Latest: {_plain(index.latest) or 'none'}. {len(rows):,} releases, revision {index.revision:,}, "
        f"updated {written(index.last_updated)}, good until {written(index.expires)}.",
        "",
        "This page is made from index.json, which is signed; programs read that one.",
        "",
    ]
    return "\n".join([*head, *(_section(rows[version], reasons) for version in newest_first(rows))]).encode()


def _section(row: _Summary, reasons: Mapping[tuple[str, str], str]) -> str:
    shown = "" if row.status == ReleaseStatus.ACTIVE else _status(row, reasons)
    return f"""## {_plain(row.version)}{shown}

- Timestamp: {row.timestamp}
- SHA-256 of manifest.json: `{row.manifest_sha256}`
- Size: {row.size_bytes:,} bytes
- Artifacts: {row.artifacts:,}
- Targets: {row.targets}
- Signed: {row.signed}
- Encrypted: {row.encrypted}
- Verification: {row.verification}
- Validation: {row.validation}
"""


def _status(row: _Summary, reasons: Mapping[tuple[str, str], str]) -> str:
    why = reasons.get((row.status, row.version), "")
    return f" ({row.status}{f': {_plain(why)}' if why else ''})"


def _reasons(index: Index) -> dict[tuple[str, str], str]:
    """Give the last reason why each release was yanked or revoked, by the status that it led to."""
    led_to = {EventType.YANK: ReleaseStatus.YANKED, EventType.REVOKE: ReleaseStatus.REVOKED}
    # Reading every event to find the few that matter costs more than the page.
    told = [line for line in index.events.lines if any(f'"type":"{kind.value}"'.encode() in line for kind in led_to)]
    events = [event for event in map(read_event, told) if event.type in led_to]
    return {(led_to[event.type].value, event.version): event.reason for event in events}


# --- reading a line ----------------------------------------------------------------------------------------------
# One of the usual kind needs not be parsed to be summed up, which costs three times as much. No text in it holds a
# quotation mark or a backslash, and no object another one.

_FILE, _BEHIND_FILES = b'{"path":"', b'],"audit_sha256":"'
_TEXT, _FLAT = rb'"[^"\\]*"', rb"\{[^{}\\]*\}"
_USUAL: Final = re.compile(
    rb'\],"audit_sha256":' + _TEXT + rb',"encrypted":(true|false),"manifest_sha256":"([0-9a-f]{64})","provenance_hash":'
    + _TEXT + rb',"sbom_id":' + _TEXT + rb',"sha256":' + _TEXT + rb',"signed":(true|false),"size_bytes":([0-9]+)'
    rb',"slsa_id":' + _TEXT + rb',"status":"([a-z]+)","targets":\[([^\]\\]*)\],"timestamp":"([^"\\]+)"'
    rb',"validation":(null|' + _FLAT + rb'),"verification":(' + _FLAT + rb'),"version":"([^"\\]+)"\}'
)  # fmt: skip
_PASSED: Final = b'"passed":true'
_WORDS: Final = {b"true": "yes", b"false": "no", True: "yes", False: "no"}


def _read(row: bytes) -> _Summary:
    behind = row.find(_BEHIND_FILES)
    found = _USUAL.fullmatch(row, behind) if behind >= 0 else None
    if found is None:
        return _parsed(row)
    encrypted, manifest, signed, size, status, targets, timestamp, validation, verification, version = found.groups()
    return _Summary(
        version.decode(), timestamp.decode(), manifest.decode(), int(size), row.count(_FILE, 0, behind),
        _targets(targets), _WORDS[signed], _WORDS[encrypted], _verdict(verification), _verdict(validation),
        status.decode(),
    )  # fmt: skip


def _parsed(row: bytes) -> _Summary:
    value = json.loads(row)
    return _Summary(
        value["version"], value["timestamp"], value["manifest_sha256"], value["size_bytes"], len(value["artifacts"]),
        ", ".join(map(_plain, value["targets"])) or "none", _WORDS[value["signed"]], _WORDS[value["encrypted"]],
        _judged(value["verification"]), _judged(value["validation"]), value["status"],
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _targets(names: bytes) -> str:
    return ", ".join(map(_plain, json.loads(b"[" + names + b"]"))) or "none"


def _verdict(flat: bytes) -> str:
    if flat in {b"null", b"{}"}:
        return "not done"
    return "passed" if _PASSED in flat else "failed"


def _judged(result: Mapping[str, Json] | None) -> str:
    if not result:
        return "not done"
    return "passed" if result.get("passed") is True else "failed"


def _plain(text: str) -> str:
    # What an event's author wrote must not become a link, a picture or a heading.
    return text.translate(_MARKS)
