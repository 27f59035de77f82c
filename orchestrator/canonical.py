"""Canonical JSON: the same value gives the same bytes, and a person can still read them."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from json.encoder import encode_basestring

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

_FLAT = frozenset({type(None), bool, int, float, str})
"""What a row may hold to be written in one go; subclasses go the long way."""


def canonical_json(value: Json) -> bytes:
    """Write a value as UTF-8 with sorted keys, two spaces of indent and one LF at the end.

    Raises ValueError for NaN, infinities and text that is not Unicode.
    """
    return (_written(value, "\n") + "\n").encode()


def _written(value: Json, line: str) -> str:
    """Write a value as json.dumps(indent=2) does; `line` is how the line begins that it stands on.

    Python's fast encoder knows no indent, but takes any separator: rows that hold no further ones are given to it.
    """
    inner = line + "  "
    match value:
        case str():
            return encode_basestring(value)
        case dict() if value:
            rows = [f"{encode_basestring(key)}: {_written(one, inner)}" for key, one in sorted(value.items())]
            return f"{{{inner}{(',' + inner).join(rows)}{line}}}"
        case list() | tuple() if _are_flat_rows(value):
            # Text holds no line ends, they are written \n: a real one between braces is where two rows meet.
            deep = inner + "  "
            text = _encoder(deep).encode(value)[2:-2].replace(f"}},{deep}{{", f"{inner}}},{inner}{{{deep}")
            return f"[{inner}{{{deep}{text}{inner}}}{line}]"
        case list() | tuple() if value:
            return f"[{inner}{(',' + inner).join([_written(one, inner) for one in value])}{line}]"
        case _:
            return _encoder(line).encode(value)


def _are_flat_rows(values: Sequence[Json]) -> bool:
    """Tell whether all are objects with something in them, and that with nothing in it: files by the thousand."""
    rows = [one for one in values if type(one) is dict and one]
    within = chain.from_iterable(row.values() for row in rows)
    return 0 < len(values) == len(rows) and _FLAT.issuperset(map(type, within))


@lru_cache(maxsize=128)
def _encoder(line: str) -> json.JSONEncoder:
    return json.JSONEncoder(
        sort_keys=True, ensure_ascii=False, allow_nan=False, check_circular=False, separators=("," + line, ": ")
    )
