"""The lines of an index: a release or an event each, in exactly one form.

An event is hashed as it stands in its line, without the comma behind it.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final

from builders.names import escaped, unsafe_reason
from orchestrator.canonical import Json
from orchestrator.publication import Event, EventType, IndexedFile, ReleaseEntry, ReleaseStatus
from orchestrator.publish.index_json import (
    OTHER_FORM,
    BadIndex,
    ask_for,
    line,
    loaded,
    number,
    sha256,
    time,
    words,
    written,
)

_EVENT: Final[dict[str, type]] = {
    "actor": str, "audit_sha256": str, "key_id": str, "prev": str, "reason": str, "seq": int, "time": str,
    "type": str, "version": str,
}  # fmt: skip
_ENTRY: Final[dict[str, type]] = {
    "artifacts": list, "audit_sha256": str, "encrypted": bool, "manifest_sha256": str, "provenance_hash": str,
    "sbom_id": str, "sha256": str, "signed": bool, "size_bytes": int, "slsa_id": str, "status": str,
    "targets": list, "timestamp": str, "validation": dict, "verification": dict, "version": str,
}  # fmt: skip
_FILE: Final[dict[str, type]] = {"path": str, "sha256": str, "size_bytes": int}


# --- releases ----------------------------------------------------------------------------------------------------


def entry_json(entry: ReleaseEntry) -> dict[str, Json]:
    """Give a release as JSON."""
    return {
        "version": entry.version,
        "timestamp": written(entry.timestamp),
        "sha256": entry.sha256,
        "size_bytes": entry.size_bytes,
        "artifacts": files_json(entry.artifacts),
        "sbom_id": entry.sbom_id,
        "slsa_id": entry.slsa_id,
        "provenance_hash": entry.provenance_hash,
        "signed": entry.signed,
        "encrypted": entry.encrypted,
        "verification": entry.verification,
        "validation": entry.validation,
        "manifest_sha256": entry.manifest_sha256,
        "targets": list(entry.targets),
        "audit_sha256": entry.audit_sha256,
        "status": entry.status.value,
    }


def entry_of(value: object) -> ReleaseEntry:
    """Read a release from JSON. Raises BadIndex."""
    unvalidated = isinstance(value, dict) and value.get("validation", 0) is None
    row = ask_for(value, _UNVALIDATED if unvalidated else _ENTRY, "a release")
    version = row["version"]
    if not set(map(type, row["targets"])) <= {str} or len(set(row["targets"])) != len(row["targets"]):
        raise BadIndex(f"has targets that are no text, or twice, at {escaped(version)}")
    if row["sha256"] != row["manifest_sha256"]:
        raise BadIndex(f"gives {escaped(version)} two digests of its manifest")
    return ReleaseEntry(
        version=version,
        timestamp=time(row["timestamp"], "timestamp"),
        sha256=sha256(row["sha256"], "sha256"),
        size_bytes=number(row["size_bytes"], "size"),
        artifacts=read_files(row["artifacts"]),
        sbom_id=words(row["sbom_id"], "sbom_id"),
        slsa_id=words(row["slsa_id"], "slsa_id"),
        provenance_hash=words(row["provenance_hash"], "provenance_hash"),
        signed=row["signed"],
        encrypted=row["encrypted"],
        verification=row["verification"],
        validation=row["validation"],
        manifest_sha256=row["manifest_sha256"],
        targets=tuple(row["targets"]),
        audit_sha256=sha256(row["audit_sha256"], "audit_sha256", empty=True),
        status=_status(row["status"]),
    )


def read_entry(row: bytes) -> ReleaseEntry:
    """Read a release from its line. Raises BadIndex."""
    return entry_of(loaded(row))


def entry_line(entry: ReleaseEntry) -> bytes:
    """Write a release in its line. Raises BadIndex for one that nobody could read again."""
    row = line(entry_json(entry))
    check_entry(row)
    return row


def check_entry(row: bytes) -> tuple[str, str, str]:
    """Give version, status and audit_sha256 of a release's line. Raises BadIndex."""
    found = ENTRY_LINE.fullmatch(row)
    if found is None or not _distinct(found):
        entry = read_entry(row)
        if line(entry_json(entry)) != row:
            raise BadIndex(OTHER_FORM)
        return entry.version, entry.status.value, entry.audit_sha256
    version, status, audit = found.group("version", "status", "audit")
    return version.decode(), status.decode(), audit.decode()


def _distinct(found: re.Match[bytes]) -> bool:
    artifacts, targets, *flat = found.group("artifacts", "targets", "validation", "verification")
    paths, names = _PATHS.findall(artifacts), targets.split(b",")
    return (
        len(set(paths)) == len(paths) and len(set(names)) == len(names)
        and all(keys == sorted(set(keys)) for keys in (_KEYS.findall(inner) for inner in flat if inner))
    )  # fmt: skip


_UNVALIDATED = {**_ENTRY, "validation": type(None)}


def _status(value: str) -> ReleaseStatus:
    try:
        return ReleaseStatus(value)
    except ValueError:
        raise BadIndex(f"has the status {escaped(value[:80])}, which nobody knows") from None


def files_json(files: Iterable[IndexedFile]) -> list[Json]:
    """Give files as JSON."""
    return [{"path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in files]


_FILE_FIELDS = itemgetter("path", "size_bytes", "sha256")


def read_files(value: Sequence[object]) -> tuple[IndexedFile, ...]:
    """Read files, whose paths may not leave the release's folder nor be there twice. Raises BadIndex."""
    files = []
    for each in value:
        path, size_bytes, digest = _FILE_FIELDS(ask_for(each, _FILE, "a file"))
        _refuse_path(path)
        files.append(
            IndexedFile(path=path, size_bytes=number(size_bytes, "size"), sha256=sha256(digest, "a file's sha256"))
        )
    if len({file.path for file in files}) != len(files):
        raise BadIndex("lists a file twice in one release")
    return tuple(files)


# One publish reads the same paths several times: in its audit, its claim, its index.
@lru_cache(maxsize=16_384)
def _refuse_path(path: str) -> None:
    for segment in path.split("/"):
        try:
            reason = unsafe_reason(segment.encode())
        except UnicodeEncodeError:
            reason = "is not UTF-8"
        if reason:
            raise BadIndex(f"has a file {escaped(path[:300])}, whose name {reason}")


# --- events ------------------------------------------------------------------------------------------------------


def event_json(event: Event) -> dict[str, Json]:
    """Give an event as JSON."""
    return {
        "seq": event.seq,
        "prev": event.prev,
        "type": event.type.value,
        "version": event.version,
        "reason": event.reason,
        "actor": event.actor,
        "key_id": event.key_id,
        "time": written(event.time),
        "audit_sha256": event.audit_sha256,
    }


def check_event(row: bytes) -> tuple[int, str, str, str, str]:
    """Give seq, prev, type, version and audit_sha256 of an event's line. Raises BadIndex."""
    found = EVENT_LINE.fullmatch(row)
    if found is None:
        event = read_event(row)
        if line(event_json(event)) != row:
            raise BadIndex(OTHER_FORM)
        return event.seq, event.prev, event.type.value, event.version, event.audit_sha256
    audit, prev, seq, kind, version = found.groups()
    return int(seq), prev.decode(), kind.decode(), version.decode(), audit.decode()


def event_line(event: Event) -> bytes:
    """Write an event in its line. Raises BadIndex for one that nobody could read again."""
    row = line(event_json(event))
    check_event(row)
    return row


def read_event(written_row: bytes) -> Event:
    """Read an event from its line. Raises BadIndex."""
    row = ask_for(loaded(written_row), _EVENT, "an event")
    try:
        kind = EventType(row["type"])
    except ValueError:
        raise BadIndex(f"has the type {escaped(row['type'][:80])}, which nobody knows") from None
    return Event(
        seq=number(row["seq"], "number", least=1),
        prev=sha256(row["prev"], "prev", empty=True),
        type=kind,
        version=row["version"],
        reason=words(row["reason"], "reason"),
        actor=words(row["actor"], "actor"),
        key_id=words(row["key_id"], "key_id"),
        time=time(row["time"], "time"),
        audit_sha256=sha256(row["audit_sha256"], "audit_sha256", empty=True),
    )


# --- the fast path -----------------------------------------------------------------------------------------------
# A line that one of these patterns takes needs not be parsed, written again and compared, which costs five times as
# much. They take less than that comparison does: other lines go the long way.

_WORDS = rb'[ !#-\[\]-~]*(?:\\["\\][ !#-\[\]-~]*)*'
_HEX, _MAYBE_HEX = rb"[0-9a-f]{64}", rb"(?:[0-9a-f]{64})?"
_COUNT = rb"(?:0|[1-9][0-9]{0,14})"
_DAY = (
    rb"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    rb"|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_WHEN = rb"2[0-9]{3}-" + _DAY + rb"T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){2}Z"
_SEGMENT = (
    rb"(?!(?i:con|prn|aux|nul|(?:com|lpt)[1-9])[./\"])"
    rb"[0-9A-Za-z_][0-9A-Za-z_+-]*(?:\.+[0-9A-Za-z_+-]+)*"
)
_VALUE = rb'(?:true|false|null|[1-9][0-9]{0,14}|0|"' + _WORDS + rb'")'
_PAIR = rb'"[0-9A-Za-z_]+":' + _VALUE
_FLAT = rb"\{(?:" + _PAIR + rb"(?:," + _PAIR + rb")*)?\}"
_BOOLEAN = rb"(?:true|false)"
_USUAL = (
    rb'\{"hash_verified":' + _BOOLEAN + rb',"passed":' + _BOOLEAN + rb',"sbom_validated":' + _BOOLEAN
    + rb',"signature_verified":' + _BOOLEAN + rb',"slsa_validated":' + _BOOLEAN + rb',"timestamp":"' + _WHEN + rb'"\}'
)  # fmt: skip
_FILE_PATTERN = (
    rb'\{"path":"' + _SEGMENT + rb"(?:/" + _SEGMENT + rb')*","sha256":"' + _HEX + rb'","size_bytes":' + _COUNT + rb"\}"
)
_TARGET = rb'"[0-9A-Za-z_.-]+"'
ENTRY_LINE: Final = re.compile(
    rb'\{"artifacts":\[(?P<artifacts>(?:' + _FILE_PATTERN + rb"(?:," + _FILE_PATTERN + rb')*)?)\]'
    rb',"audit_sha256":"(?P<audit>' + _MAYBE_HEX + rb')","encrypted":(?:true|false)'
    rb',"manifest_sha256":"(?P<manifest>' + _HEX + rb')","provenance_hash":"' + _WORDS + rb'","sbom_id":"' + _WORDS
    + rb'","sha256":"(?P=manifest)","signed":(?:true|false),"size_bytes":' + _COUNT + rb',"slsa_id":"' + _WORDS
    + rb'","status":"(?P<status>' + b"|".join(each.encode() for each in ReleaseStatus)
    + rb')","targets":\[(?P<targets>(?:' + _TARGET + rb"(?:," + _TARGET + rb")*)?)\]"
    rb',"timestamp":"' + _WHEN + rb'","validation":(?:null|(?P<validation>' + _FLAT
    + rb')),"verification":(?:' + _USUAL + rb"|(?P<verification>" + _FLAT
    + rb')),"version":"(?P<version>[0-9A-Za-z.+_-]+)"\}'
)  # fmt: skip
EVENT_LINE: Final = re.compile(
    rb'\{"actor":"' + _WORDS + rb'","audit_sha256":"(' + _MAYBE_HEX + rb')","key_id":"' + _WORDS
    + rb'","prev":"(' + _MAYBE_HEX + rb')","reason":"' + _WORDS + rb'","seq":([1-9][0-9]{0,14}),"time":"' + _WHEN
    + rb'","type":"(' + b"|".join(each.encode() for each in EventType) + rb')","version":"([0-9A-Za-z.+_-]*)"\}'
)  # fmt: skip
_PATHS = re.compile(rb'"path":"([^"]*)"')
_KEYS = re.compile(rb'"([0-9A-Za-z_]+)":' + _VALUE)
