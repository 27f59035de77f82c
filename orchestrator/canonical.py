"""Canonical JSON: the same value gives the same bytes, and a person can still read them."""

import json
from collections.abc import Mapping, Sequence

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


def canonical_json(value: Json) -> bytes:
    """Write a value as UTF-8 with sorted keys, two spaces of indent and one LF at the end.

    Raises ValueError for NaN, infinities and text that is not Unicode.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=2)
    return text.encode() + b"\n"
