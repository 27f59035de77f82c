"""index.json: read strictly, written in one form, and only ever extended by one event."""

import dataclasses
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from builders.names import escaped
from orchestrator.canonical import Json
from orchestrator.errors import DuplicateVersion, PublicationError, VerificationError
from orchestrator.publication import INDEX_SCHEMA, Event, EventType, Index, ReleaseEntry, Rows
from orchestrator.publish import index_json, index_rows
from orchestrator.publish.history import BadEvent, History, VersionTaken
from orchestrator.publish.index_json import BadIndex
from orchestrator.publish.merkle import tree_head

MAX_WORDS: Final = 2_000
_REPOSITORY_ID = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z._-]{0,127}")
_GET_AGAIN: Final = "get it again; if that is no help, somebody changed it: `relbuild audit verify`"


# A publisher reads back the very bytes that it wrote; an index cannot be changed, so the same one serves again.
@lru_cache(maxsize=2)
def parse_index(body: bytes) -> Index:
    """Read the bytes of index.json, and check form, chain, tree head and that events and releases tell one story.

    Whether they are signed is another question. Raises VerificationError, naming the first event that fails.
    """
    try:
        head, events, releases = index_json.read_document(body)
        index = _index(head, Rows(releases, index_rows.read_entry), Rows(events, index_rows.read_event))
        history = History()
        audits = _replay(events, history)
        _refuse_other_releases(index, history, audits)
        _refuse_contradictions(index, head["total_releases"], history)
    except BadIndex as error:
        raise VerificationError(f"index.json {error}", next_step=_next_step(error)) from None
    object.__setattr__(index, "sha256", hashlib.sha256(body).hexdigest())
    return index


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
    return index.sha256 or hashlib.sha256(encode_index(index)).hexdigest()


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
    history = History.of(index)
    before = dict(history.statuses)
    _apply(history, kind, version)
    changed = {each for each, status in before.items() if history.statuses[each] is not status}
    events = index.events.lines if index else ()
    event = Event(
        seq=len(events) + 1, prev=_digest(events[-1]) if events else "", type=kind, version=version, reason=reason,
        actor=actor, key_id=key_id, time=_whole(now), audit_sha256=entry.audit_sha256 if entry else "",
    )  # fmt: skip
    events = (*events, _event_line(event))
    return Index(
        repository_id=index.repository_id if index else _checked_id(repository_id),
        revision=len(events),
        previous_index_sha256=index_sha256(index) if index else "",
        expires=_whole(expires),
        latest=history.latest,
        releases=_releases(index, entry, history, changed),
        events=Rows(events, index_rows.read_event),
        root=tree_head(events),
        last_updated=_whole(now),
    )


def check_extension(old: Index, new: Index) -> None:
    """Refuse an index that is not what became of an older one. Raises VerificationError."""
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


def refused(what: str) -> VerificationError:
    """Give the error for an index that contradicts what was seen before."""
    return VerificationError(
        what, next_step="do not use it; compare with `relbuild index show` on another machine, and tell its owner"
    )


# --- reading -----------------------------------------------------------------------------------------------------


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


def _replay(rows: Sequence[bytes], history: History) -> Mapping[str, str]:
    """Let the events happen that the lines tell; give the audit of each version that they publish."""
    audits, prev = {}, ""
    for number, row in enumerate(rows, start=1):
        try:
            seq, link, kind, version, audit = index_rows.check_event(row)
            _refuse_stray(follows=seq == number and link == prev, holds=(kind == EventType.PUBLISH) == bool(audit))
            history.apply(EventType(kind), version)
        except (BadIndex, BadEvent) as error:
            raise BadIndex(f"fails at event {number}: {error}") from None
        if audit:
            audits[version] = audit
        prev = _digest(row)
    return audits


def _refuse_stray(*, follows: bool, holds: bool) -> None:
    if not follows:
        raise BadIndex("it does not follow the event before: one was removed, moved or changed")
    if not holds:
        raise BadIndex("only a publication names an audit, and each does")


def _refuse_other_releases(index: Index, history: History, audits: Mapping[str, str]) -> None:
    listed = []
    for row in index.releases.lines:
        version, status, audit = index_rows.check_entry(row)
        if not audit or audits.get(version) != audit:
            raise BadIndex(f"lists {escaped(version[:200])}, which its events do not publish with that audit")
        if status != history.statuses[version]:
            raise BadIndex(f"calls {version} {status}; by its events it is {history.statuses[version].value}")
        listed.append(version)
    if listed != list(audits):
        raise BadIndex("lists other releases than its events publish, or in another order")


def _refuse_contradictions(index: Index, total: int, history: History) -> None:
    tests = (
        (bool(_REPOSITORY_ID.fullmatch(index.repository_id)), "has no repository_id"),
        (index.revision == len(index.events), f"has revision {index.revision} after {len(index.events)} events"),
        ((index.revision == 1) == (not index.previous_index_sha256), "does not say which index it follows"),
        (total == len(index.releases), "counts other releases than it lists"),
        (index.latest == history.latest, f"calls {escaped(index.latest[:200])} the latest, not {history.latest!r}"),
        (index.root == tree_head(index.events.lines), "has another tree head than its events give"),
    )
    for holds, words in tests:
        if not holds:
            raise BadIndex(words)


def _next_step(error: BadIndex) -> str:
    return "get a newer relbuild" if "newer than this program" in str(error) else _GET_AGAIN


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


def _releases(
    index: Index | None, entry: ReleaseEntry | None, history: History, changed: Collection[str]
) -> Rows[ReleaseEntry]:
    rows = [*(index.releases.lines if index else ()), *([_entry_line(entry)] if entry else ())]
    for at, (version, status) in enumerate(history.statuses.items()):
        if version in changed:
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


def _digest(row: bytes) -> str:
    return hashlib.sha256(row).hexdigest()
