"""index.md: a page for people, made from the index and never read by the program."""

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.canonical import Json
from orchestrator.publication import EventType, Index, ReleaseStatus
from orchestrator.publish.index_json import written
from orchestrator.publish.index_rows import read_event
from orchestrator.publish.version_names import newest_first

_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]<>#|!~&"})


def index_view(index: Index) -> bytes:
    """Write the summary of every release, newest first by SemVer."""
    # An index's lines were checked when it was read, or written by us: they need not be checked for each page.
    rows = {row["version"]: row for row in map(json.loads, index.releases.lines)}
    reasons = _reasons(index)
    lines = [
        "# Releases",
        "",
        f"Latest: {_plain(index.latest) or 'none'}. {len(rows):,} releases, revision {index.revision:,}, "
        f"updated {written(index.last_updated)}, good until {written(index.expires)}.",
        "",
        "This page is made from index.json, which is signed; programs read that one.",
        "",
    ]
    for version in newest_first(rows):
        lines += [*_summary(rows[version], reasons), ""]
    return "\n".join(lines).encode()


def _summary(row: Mapping[str, Any], reasons: Mapping[tuple[str, str], str]) -> list[str]:
    why = reasons.get((row["status"], row["version"]), "")
    shown = "" if row["status"] == ReleaseStatus.ACTIVE else f" ({row['status']}{f': {_plain(why)}' if why else ''})"
    return [
        f"## {_plain(row['version'])}{shown}",
        "",
        f"- Timestamp: {row['timestamp']}",
        f"- SHA-256 of manifest.json: `{row['manifest_sha256']}`",
        f"- Size: {row['size_bytes']:,} bytes",
        f"- Artifacts: {len(row['artifacts']):,}",
        f"- Targets: {', '.join(map(_plain, row['targets'])) or 'none'}",
        f"- Signed: {'yes' if row['signed'] else 'no'}",
        f"- Encrypted: {'yes' if row['encrypted'] else 'no'}",
        f"- Verification: {_judged(row['verification'])}",
        f"- Validation: {_judged(row['validation'])}",
    ]


def _reasons(index: Index) -> dict[tuple[str, str], str]:
    """Give the last reason why each release was yanked or revoked, by the status that it led to."""
    led_to = {EventType.YANK: ReleaseStatus.YANKED, EventType.REVOKE: ReleaseStatus.REVOKED}
    # Reading every event to find the few that matter costs more than the page.
    told = [line for line in index.events.lines if any(f'"type":"{kind.value}"'.encode() in line for kind in led_to)]
    events = [event for event in map(read_event, told) if event.type in led_to]
    return {(led_to[event.type].value, event.version): event.reason for event in events}


def _judged(result: Mapping[str, Json] | None) -> str:
    if not result:
        return "not done"
    return "passed" if result.get("passed") is True else "failed"


def _plain(text: str) -> str:
    # What an event's author wrote must not become a link, a picture or a heading.
    return text.translate(_MARKS)
