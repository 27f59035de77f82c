"""index.json: read strictly, written in one form, and only ever extended by one event."""

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from builders.names import escaped
from orchestrator.canonical import Json
from orchestrator.errors import DuplicateVersion, IndexInvalid, IndexReplayed, PublicationError
from orchestrator.publication import INDEX_SCHEMA, Event, EventType, Index, ReleaseEntry, Rows
from orchestrator.publish import index_json, index_rows
from orchestrator.publish.history import BadEvent, History, VersionTaken
from orchestrator.publish.index_json import BadIndex
from orchestrator.publish.merkle import peaks_with
from orchestrator.publish.replay import START, Replay, digest, keep, replay_of, replayed

MAX_WORDS: Final = 2_000
_REPOSITORY_ID = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z._-]{0,127}")
_GET_AGAIN: Final = "get it again; if that is no help, somebody changed it: `relbuild audit verify`"
_NEXT_STEPS: Final = {
    "newer than this program": "get a newer relbuild",
    "has (the )?revision": "no publisher counts so: its owner puts back the last index.json that held, and replaces "
    "the key that signed this one; docs/reference/damaged-index.md says how",
}


# A publisher reads back the very bytes that it wrote; an index cannot be changed, so the same one serves again.
@lru_cache(maxsize=2)
def parse_index(body: bytes) -> Index:
    """Read the bytes of index.json, and check form, chain, tree head and that events and releases tell one story.

    Whether they are signed is another question. Raises IndexInvalid, naming the first event that fails.
    """
    return _read(body, None)


def parse_next(known: Index | None, body: bytes) -> Index:
    """Read an index as parse_index does, where an earlier one was read: lines that stood in that one hold already.

    Whether it may follow the earlier one is check_extension's to say. Raises as parse_index does.
    """
    return _read(body, known) if known is not None and isinstance(known.replay, Replay) else parse_index(body)


def encode_index(index: Index) -> bytes:
    """Write the bytes of index.json."""
    head: dict[str, Json] = {
        "schema": INDEX_SCHEMA,
        "repository_id": index.repository_id,
        "revision": index.revision,
        "previous_index_sha256": index.previous_index_sha256,
        "expires": index_json.written(index.expires),
        "latest": index.latest,
        "root": index.root,
        "total_releases": index.total_releases,
        "last_updated": index_json.written(index.last_updated),
    }
    return index_json.document(head, {"releases": index.releases.lines, "events": index.events.lines})


def index_sha256(index: Index) -> str:
    """Give the digest of an index's bytes."""
    return index.sha256 or sha256_of(encode_index(index))


# Several steps name the same bytes by their digest, each for a reason of its own.
@lru_cache(maxsize=2)
def sha256_of(body: bytes) -> str:
    """Give the digest of an index's bytes, worked out once."""
    return hashlib.sha256(body).hexdigest()


def with_event(
    index: Index | None,
    kind: EventType,
    subject: ReleaseEntry | str,
    *,
    reason: str,
    actor: str,
    key_id: str,
    now: datetime,
    expires: datetime,
    repository_id: str = "",
) -> Index:
    """Give the next index: one revision, one event more. Publishing takes an entry, all else a version.

    The first index needs `repository_id`, which never changes afterwards. Raises DuplicateVersion for a version that
    is not free, PublicationError for anything else that the history does not allow.
    """
    entry = subject if isinstance(subject, ReleaseEntry) else None
    version = subject.version if isinstance(subject, ReleaseEntry) else subject
    if (kind is EventType.PUBLISH) != (entry is not None and bool(entry.audit_sha256)):
        raise ValueError("publishing takes an entry with its audit's digest, and nothing else does")
    if max(len(reason), len(actor)) > MAX_WORDS:
        raise PublicationError(
            f"reason and name may have {MAX_WORDS:,} characters each", next_step="say it shorter: it stays for ever"
        )
    before = replay_of(index)
    history = before.history.copy()
    _apply(history, kind, version)
    events = index.events.lines if index else ()
    event = Event(
        seq=len(events) + 1, prev=digest(events[-1]) if events else "", type=kind, version=version, reason=reason,
        actor=actor, key_id=key_id, time=_whole(now), audit_sha256=entry.audit_sha256 if entry else "",
    )  # fmt: skip
    line = _event_line(event)
    audits = {**before.audits, version: entry.audit_sha256} if entry else before.audits
    after = Replay(history=history, audits=audits, peaks=peaks_with(before.peaks, line))
    made = Index(
        repository_id=index.repository_id if index else _checked_id(repository_id),
        revision=len(events) + 1,
        previous_index_sha256=index_sha256(index) if index else "",
        expires=_whole(expires),
        latest=history.latest,
        releases=_releases(index, entry, before.history, history),
        events=Rows((*events, line), index_rows.read_event),
        root=after.root,
        last_updated=_whole(now),
    )
    keep(made, after)
    return made


def check_extension(old: Index, new: Index) -> None:
    """Refuse an index that is not what became of an older one. Raises IndexReplayed."""
    if new.repository_id != old.repository_id:
        raise refused(f"index.json is that of another repository ({new.repository_id}, not {old.repository_id})")
    if new.revision < old.revision:
        raise refused(f"index.json has revision {new.revision}, and {old.revision} was seen before: a rollback")
    if new.revision == old.revision and index_sha256(new) != index_sha256(old):
        raise refused(f"there are two different indexes of revision {new.revision}: a fork")
    if new.revision == old.revision + 1 and new.previous_index_sha256 != index_sha256(old):
        raise refused(f"index.json of revision {new.revision} does not follow the one seen before: a fork")
    for seq, (before, after) in enumerate(zip(old.events.lines, new.events.lines, strict=False), start=1):
        if before != after:
            raise refused(f"event {seq} was changed after it was seen: history is never rewritten")
    if len(new.releases) < len(old.releases):
        raise refused(f"the release {old.releases[len(new.releases)].version} vanished after it was published")
    for at, (earlier, later) in enumerate(zip(old.releases.lines, new.releases.lines, strict=False)):
        if earlier != later and not _differ_in_status(old.releases[at], new.releases[at]):
            raise refused(f"the release {old.releases[at].version} was changed after it was published")


def refused(what: str) -> IndexReplayed:
    """Give the error for an index that contradicts what was seen before."""
    return IndexReplayed(
        what, next_step="do not use it; compare with `relbuild index show` on another machine, and tell its owner"
    )


# --- reading -----------------------------------------------------------------------------------------------------


def _read(body: bytes, known: Index | None) -> Index:
    try:
        head, events, releases = index_json.read_document(body)
        index = _index(head, Rows(releases, index_rows.read_entry), Rows(events, index_rows.read_event))
        seen = _lines_seen(known, index)
        before = replay_of(known) if seen else START
        after = replayed(index.events.lines, before, seen)
        _refuse_other_releases(index, after, known.releases.lines if known and seen else (), before)
        _refuse_contradictions(index, head["total_releases"], after)
    except BadIndex as error:
        raise IndexInvalid(f"index.json {error}", next_step=_next_step(error)) from None
    object.__setattr__(index, "sha256", sha256_of(body))
    keep(index, after)
    return index


def _lines_seen(known: Index | None, index: Index) -> int:
    """Count the events of an index that was read before, if it is what this one begins with; else 0."""
    lines = known.events.lines if known else ()
    return len(lines) if index.events.lines[: len(lines)] == lines else 0


def _index(head: Mapping[str, Any], releases: Rows[ReleaseEntry], events: Rows[Event]) -> Index:
    return Index(
        repository_id=head["repository_id"],
        revision=index_json.number(head["revision"], "revision", least=1),
        previous_index_sha256=index_json.sha256(head["previous_index_sha256"], "previous_index_sha256", empty=True),
        expires=index_json.time(head["expires"], "expires"),
        latest=head["latest"],
        releases=releases,
        events=events,
        root=index_json.sha256(head["root"], "root"),
        last_updated=index_json.time(head["last_updated"], "last_updated"),
    )


def _refuse_other_releases(index: Index, after: Replay, known: Sequence[bytes], before: Replay) -> None:
    """Hold the releases against the events; `known` are lines that were held against `before`, in its order."""
    audits, statuses, listed = after.audits, after.history.statuses, []
    held = zip(known, before.history.statuses.items(), strict=True)
    for row in index.releases.lines:
        line, (version, status) = next(held, _NO_LINE)
        if row == line:
            audit = before.audits[version]
        else:
            version, status, audit = index_rows.check_entry(row)
        if not audit or audits.get(version) != audit:
            raise BadIndex(f"lists {escaped(version[:200])}, which its events do not publish with that audit")
        if status != statuses[version]:
            raise BadIndex(f"calls {version} {status!s}; by its events it is {statuses[version].value}")
        listed.append(version)
    if listed != list(audits):
        raise BadIndex("lists other releases than its events publish, or in another order")


_NO_LINE: Final = (None, ("", ""))


def _refuse_contradictions(index: Index, total: int, after: Replay) -> None:
    latest = after.history.latest
    tests = (
        (bool(_REPOSITORY_ID.fullmatch(index.repository_id)), "has no repository_id"),
        (index.revision == len(index.events), f"has revision {index.revision} after {len(index.events)} events"),
        ((index.revision == 1) == (not index.previous_index_sha256), "does not say which index it follows"),
        (total == len(index.releases), "counts other releases than it lists"),
        (index.latest == latest, f"calls {escaped(index.latest[:200])} the latest, not {latest!r}"),
        (index.root == after.root, "has another tree head than its events give"),
    )
    for holds, words in tests:
        if not holds:
            raise BadIndex(words)


def _next_step(error: BadIndex) -> str:
    return next((step for words, step in _NEXT_STEPS.items() if re.search(words, str(error))), _GET_AGAIN)


# --- writing -----------------------------------------------------------------------------------------------------


def _apply(history: History, kind: EventType, version: str) -> None:
    try:
        history.apply(kind, version)
    except VersionTaken as error:
        raise DuplicateVersion(
            str(error), next_step="a version number is never free again: take the next one"
        ) from None
    except BadEvent as error:
        raise PublicationError(f"cannot {kind.value}: {error}", next_step="see `relbuild list`") from None


def _releases(index: Index | None, entry: ReleaseEntry | None, before: History, after: History) -> Rows[ReleaseEntry]:
    rows = [*(index.releases.lines if index else ()), *([_entry_line(entry)] if entry else ())]
    for at, (version, status) in enumerate(after.statuses.items()):
        if before.statuses.get(version, status) is not status:
            rows[at] = _entry_line(dataclasses.replace(index_rows.read_entry(rows[at]), status=status))
    return Rows(rows, index_rows.read_entry)


def _differ_in_status(earlier: ReleaseEntry, later: ReleaseEntry) -> bool:
    return dataclasses.replace(later, status=earlier.status) == earlier


def _event_line(event: Event) -> bytes:
    try:
        return index_rows.event_line(event)
    except BadIndex as error:
        raise PublicationError(
            f"the event cannot be written: it {error}", next_step="give reason and name in one line of plain text"
        ) from None


def _entry_line(entry: ReleaseEntry) -> bytes:
    try:
        return index_rows.entry_line(entry)
    except BadIndex as error:
        raise PublicationError(
            f"the release {entry.version} cannot be listed: it {error}", next_step="mend what it was made from"
        ) from None


def _whole(when: datetime) -> datetime:
    # What is written holds no part of a second.
    return when.replace(microsecond=0)


def _checked_id(repository_id: str) -> str:
    if not _REPOSITORY_ID.fullmatch(repository_id):
        raise ValueError(f"the first index needs a repository_id, not {repository_id!r}")
    return repository_id
