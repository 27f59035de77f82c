"""Canonical JSON: the same value gives the same bytes, and a person can still read them."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

_INDENT = "  "
_FLAT = frozenset({type(None), bool, int, float, str})
"""What a row of values may hold to be written in one go; subclasses go the long way."""


def canonical_json(value: Json) -> bytes:
    """Write a value as UTF-8 with sorted keys, two spaces of indent and one LF at the end.

    Raises ValueError for NaN, infinities and text that is not Unicode.
    """
    return (_written(value, "\n") + "\n").encode()


def _written(value: Json, line: str) -> str:
    """Write a value as json.dumps(indent=2) does, which is the slow encoder; `line` begins the line that it is on."""
    match value:
        case dict() if not _FLAT.issuperset(map(type, value.values())):
            inner = line + _INDENT
            # The keys are written by the encoder too: with a value beside each that is cut off again.
            rows = [_encoder(inner).encode({key: 0})[1:-2] + _written(value[key], inner) for key in sorted(value)]
            return f"{{{inner}{(',' + inner).join(rows)}{line}}}"
        case list() | tuple() if not _FLAT.issuperset(map(type, value)):
            inner = line + _INDENT
            return f"[{inner}{(',' + inner).join([_written(one, inner) for one in value])}{line}]"
        case dict() | list() | tuple() if value:
            row = _encoder(line + _INDENT).encode(value)
            return f"{row[0]}{line}{_INDENT}{row[1:-1]}{line}{row[-1]}"
        case _:
            return _encoder(line).encode(value)


@lru_cache(maxsize=128)
def _encoder(line: str) -> json.JSONEncoder:
    """Give the fast encoder, with each value of a row on its own line."""
    return json.JSONEncoder(
        sort_keys=True, ensure_ascii=False, allow_nan=False, check_circular=False, separators=("," + line, ": ")
    )
