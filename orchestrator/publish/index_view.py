"""index.md: a page for people, made from the index and never read by the program."""

from collections.abc import Mapping

from orchestrator.canonical import Json
from orchestrator.publication import EventType, Index, ReleaseEntry, ReleaseStatus
from orchestrator.publish.index_json import written
from orchestrator.publish.version_names import newest_first

_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]<>#|!~&"})


def index_view(index: Index) -> bytes:
    """Write the summary of every release, newest first by SemVer."""
    entries = {entry.version: entry for entry in index.releases}
    lines = [
        "# Releases",
        "",
        f"Latest: {_plain(index.latest) or 'none'}. {len(entries):,} releases, revision {index.revision:,}, "
        f"updated {written(index.last_updated)}, good until {written(index.expires)}.",
        "",
        "This page is made from index.json, which is signed; programs read that one.",
        "",
    ]
    for version in newest_first(entries):
        lines += [*_summary(entries[version], _reason(index, entries[version])), ""]
    return "\n".join(lines).encode()


def _summary(entry: ReleaseEntry, reason: str) -> list[str]:
    shown = "" if entry.status is ReleaseStatus.ACTIVE else f" ({entry.status.value}{reason})"
    return [
        f"## {_plain(entry.version)}{shown}",
        "",
        f"- Timestamp: {written(entry.timestamp)}",
        f"- SHA-256 of manifest.json: `{entry.manifest_sha256}`",
        f"- Size: {entry.size_bytes:,} bytes",
        f"- Artifacts: {len(entry.artifacts):,}",
        f"- Targets: {', '.join(map(_plain, entry.targets)) or 'none'}",
        f"- Signed: {'yes' if entry.signed else 'no'}",
        f"- Encrypted: {'yes' if entry.encrypted else 'no'}",
        f"- Verification: {_judged(entry.verification)}",
        f"- Validation: {_judged(entry.validation)}",
    ]


def _reason(index: Index, entry: ReleaseEntry) -> str:
    if entry.status not in {ReleaseStatus.YANKED, ReleaseStatus.REVOKED}:
        return ""
    kind = EventType.YANK if entry.status is ReleaseStatus.YANKED else EventType.REVOKE
    reasons = [event.reason for event in index.events if (event.type, event.version) == (kind, entry.version)]
    return f": {_plain(reasons[-1])}" if reasons and reasons[-1] else ""


def _judged(result: Mapping[str, Json] | None) -> str:
    if not result:
        return "not done"
    return "passed" if result.get("passed") is True else "failed"


def _plain(text: str) -> str:
    # What an event's author wrote must not become a link, a picture or a heading.
    return text.translate(_MARKS)
