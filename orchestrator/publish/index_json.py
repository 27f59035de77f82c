"""The bytes of index.json: JSON with sorted keys, one release and one event a line, in exactly one form."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Never, TypeGuard

from builders.names import escaped
from orchestrator.canonical import Json
from orchestrator.publication import INDEX_SCHEMA

MAX_BYTES: Final = 512 << 20
MAX_NUMBER: Final = 2**53
"""Numbers beyond it are not the same for every JSON reader (RFC 7493)."""
TIME_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCHEMA = re.compile(r"relbuild/index/v([0-9]{1,9})")
OTHER_FORM: Final = "is not written in the only form that an index has (keys twice, another order, other spaces)"
_HEAD_LINES: Final = 32
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

_HEAD: Final[dict[str, type]] = {
    "expires": str, "last_updated": str, "latest": str, "previous_index_sha256": str, "repository_id": str,
    "revision": int, "root": str, "schema": str, "total_releases": int,
}  # fmt: skip


_ROWS: Final = frozenset({"events", "releases"})


class BadIndex(ValueError):
    """What is wrong with an index, in words that follow its name."""


def line(value: Json) -> bytes:
    """Write a value in one line, in the only form that an index may hold it in. Raises BadIndex."""
    try:
        return _ENCODER.encode(value).encode()
    except (ValueError, RecursionError):
        raise BadIndex("holds text that is not Unicode, or a number that JSON does not have") from None


def document(head: Mapping[str, Json], rows: Mapping[str, Sequence[bytes]]) -> bytes:
    """Join the lines of an index."""
    parts: list[bytes] = []
    for name in sorted((*head, *rows)):
        key = line(name) + b":"
        parts += _list(key, rows[name]) if name in rows else [key + line(head[name])]
    # Joined once, ends and all: an index of thousands of releases is large.
    parts[0] = b"{\n" + parts[0]
    parts[-1] += b"\n}\n"
    return b",\n".join(parts)


def read_document(body: bytes) -> tuple[Mapping[str, Any], Sequence[bytes], Sequence[bytes]]:
    """Give the head of an index, and the lines of its events and of its releases, none of them read yet.

    Raises BadIndex for anything that is not written exactly as `document` does it.
    """
    if len(body) > MAX_BYTES:
        raise BadIndex(f"is larger than {MAX_BYTES >> 20} MiB")
    releases, from_, to = _cut(body, b'"releases":', len(body))
    events, first, last = _cut(body, b'"events":', from_)
    rest = body[:first] + body[last:from_] + body[to:]
    head = _head(body, rest)
    if document({name: head[name] for name in _HEAD}, {"events": (), "releases": ()}) != rest:
        raise BadIndex(OTHER_FORM)
    return head, events, releases


def _list(key: bytes, rows: Sequence[bytes]) -> list[bytes]:
    if not rows:
        return [key + b"[]"]
    parts = list(rows)
    parts[0] = key + b"[\n" + parts[0]
    parts[-1] += b"\n]"
    return parts


def _cut(body: bytes, key: bytes, stop: int) -> tuple[Sequence[bytes], int, int]:
    """Give the rows behind a key, and from where to where they stand, line feeds included. Raises BadIndex.

    What is in front and behind then holds an empty list there, if the rows are where they should be: the last list
    that ends before `stop`.
    """
    found = body.find(b"\n" + key + b"[\n", 0, stop)
    first = found + len(key) + 2
    last = body.rfind(b"\n],\n", first, stop) if found >= 0 else -1
    if last < 0:
        return (), stop, stop
    if last == first:
        raise BadIndex(OTHER_FORM)
    # No row holds a line feed of its own: none may stand unescaped in JSON text, and none elsewhere in a row.
    return body[first + 1 : last].split(b",\n"), first, last + 1


def _head(body: bytes, rest: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(rest) if rest.count(b"\n") < _HEAD_LINES else None
        return _without_rows(value) if _is_ours(value) else _diagnosed(body)
    except (BadIndex, ValueError, RecursionError):
        return _diagnosed(body)


def _without_rows(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return ask_for({name: inner for name, inner in value.items() if name not in _ROWS}, _HEAD, "the index")


def _is_ours(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, dict) and value.get("schema") == INDEX_SCHEMA


def _diagnosed(body: bytes) -> Never:
    """Raise the reason why bytes are no index, by reading all of them as JSON."""
    value = loaded(body)
    if not isinstance(value, dict):
        raise BadIndex("is no object")
    _refuse_other_schema(value.get("schema"))
    _without_rows(value)
    raise BadIndex(OTHER_FORM)


def _refuse_other_schema(schema: object) -> None:
    if schema == INDEX_SCHEMA:
        return
    found = _SCHEMA.fullmatch(schema) if isinstance(schema, str) else None
    if found:
        raise BadIndex(f"has the schema {schema}, which is newer than this program knows ({INDEX_SCHEMA})")
    raise BadIndex(f"has no schema {INDEX_SCHEMA}")


def loaded(data: bytes) -> Any:
    """Read JSON of any form. Raises BadIndex."""
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadIndex("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadIndex(f"is not JSON: {error.msg} (line {error.lineno})") from None
    except (RecursionError, ValueError):
        raise BadIndex("is nested too deeply, or holds a number too long") from None


def ask_for(value: object, shape: Mapping[str, type], what: str) -> Mapping[str, Any]:
    """Give an object that has exactly these keys with values of these types. Raises BadIndex."""
    if type(value) is not dict or value.keys() != shape.keys():
        keys = value.keys() if isinstance(value, dict) else ()
        odd = ", ".join(escaped(str(key)[:80]) for key in sorted(shape.keys() ^ keys)[:5])
        raise BadIndex(f"has other keys than {what} must have: {odd}")
    if tuple(map(type, value.values())) != tuple(shape.values()):
        for key, kind in shape.items():
            if type(value[key]) is not kind:
                raise BadIndex(f"has no {_KINDS[kind]} at {key!r} of {what}")
    return value


_KINDS: Final[dict[type, str]] = {
    str: "text", int: "whole number", bool: "true or false", list: "list", dict: "object",
}  # fmt: skip


def number(value: int, what: str, least: int = 0) -> int:
    """Give a number in the range that every reader knows. Raises BadIndex."""
    if not least <= value <= MAX_NUMBER:
        raise BadIndex(f"has the {what} {str(value)[:40]}, which is not between {least} and 2^53")
    return value


def sha256(value: str, what: str, *, empty: bool = False) -> str:
    """Give a digest in hexadecimal. Raises BadIndex."""
    if not _SHA256.fullmatch(value) and not (empty and not value):
        raise BadIndex(f"has no SHA-256 at {what}")
    return value


def time(value: str, what: str) -> datetime:
    """Give a time in UTC. Raises BadIndex."""
    try:
        if _TIME.fullmatch(value):
            return datetime.fromisoformat(value)
    except ValueError:
        pass
    raise BadIndex(f"has no time such as 2030-01-31T12:00:00Z at {what}")


def written(when: datetime) -> str:
    """Write a time, to the second, in UTC."""
    return when.astimezone(UTC).strftime(TIME_FORM)


def words(value: str, what: str) -> str:
    """Give a text that a terminal can show. Raises BadIndex."""
    if not value.isprintable():
        raise BadIndex(f"has a text at {what} that cannot be shown")
    return value
