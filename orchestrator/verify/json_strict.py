"""Reads JSON that strangers wrote (RFC 8259), and refuses what different readers would read differently."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Never

SMALL_BYTES: Final = 4 << 20
DOCUMENT_BYTES: Final = 64 << 20
"""What a manifest, a provenance statement or an SBOM may weigh."""

_DEPTH = 64
_BIGGEST_INT = 2**63
_INT_DIGITS = 20
_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[][{}]', re.DOTALL)
"""A string that nobody ends reaches to the end, so that its quotation marks are not looked at again."""

Shape = Callable[[object, str], None]
"""Looks at a value found at a place; raises BadJson where it is not what it must be."""


class BadJson(ValueError):
    """What is wrong with a document, in words that follow its name."""


def parse(data: bytes, limit: int = SMALL_BYTES) -> Any:
    """Read one JSON value. Raises BadJson for anything that is not plain, bounded and the same for every reader."""
    if len(data) > limit:
        raise BadJson(f"is larger than {limit >> 20} MiB")
    if data.startswith(b"\xef\xbb\xbf"):
        raise BadJson("starts with a byte order mark")
    _refuse_depth(data)
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer,
            parse_float=_number,
        )  # fmt: skip
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        raise BadJson("is not UTF-8") from None
    except UnicodeEncodeError:
        raise BadJson("holds half a surrogate pair, which is no text") from None
    except json.JSONDecodeError as error:
        raise BadJson(f"is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise BadJson(f"is nested deeper than {_DEPTH} levels") from None
    return value


def canonical(value: object) -> bytes:
    """Give the only bytes that a value may have in a release: sorted keys, two spaces of indent, UTF-8, LF at the end.

    Written here a second time on purpose: the reader shares nothing with the writer.
    """
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=2).encode("utf-8") + b"\n"


def parse_canonical(data: bytes, limit: int = DOCUMENT_BYTES) -> Any:
    """Read JSON that must be written in exactly one way."""
    value = parse(data, limit)
    if canonical(value) != data:
        raise BadJson("is JSON, but not in canonical form (sorted keys, two spaces, LF at the end)")
    return value


# --- shapes ------------------------------------------------------------------------------------------------------


def check(value: object, shape: Shape, where: str = "") -> Any:
    """Give the value back when it has the shape. Raises BadJson with the place of what has not."""
    shape(value, where)
    return value


def record(required: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None, *, closed: bool = True) -> Shape:
    """Make the shape of an object. A closed one holds no other key than these."""
    known = {**required, **(optional or {})}

    def look(value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise BadJson(f"has no object {_at(where)}")
        for key in required:
            if key not in value:
                raise BadJson(f"has no {key!r} {_at(where)}")
        for key, inner in value.items():
            if key in known:
                known[key](inner, f"{where}.{key}")
            elif closed:
                raise BadJson(f"holds {key[:80]!r} {_at(where)}, which nobody knows")

    return look


def list_of(shape: Shape, *, least: int = 0, most: int = 100_000) -> Shape:
    def look(value: object, where: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise BadJson(f"has no list of {least} to {most} things {_at(where)}")
        for index, inner in enumerate(value):
            shape(inner, f"{where}[{index}]")

    return look


def map_of(shape: Shape, *, keys: str = r".{1,500}") -> Shape:
    def look(value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise BadJson(f"has no object {_at(where)}")
        for key, inner in value.items():
            if not re.fullmatch(keys, key):
                raise BadJson(f"holds the key {key[:80]!r} {_at(where)}, which cannot be one")
            shape(inner, f"{where}.{key[:80]}")

    return look


def text(pattern: str = r"[^\x00]*", what: str = "text") -> Shape:
    compiled = re.compile(pattern, re.DOTALL)

    def look(value: object, where: str) -> None:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise BadJson(f"has no {what} {_at(where)}")

    return look


def exactly(*allowed: object) -> Shape:
    """Make the shape of a value that is one of a few."""

    def look(value: object, where: str) -> None:
        if not any(type(value) is type(each) and value == each for each in allowed):
            raise BadJson(f"has {str(value)[:80]!r} {_at(where)}, not {' or '.join(map(repr, allowed))}")

    return look


def integer(value: object, where: str) -> None:
    if type(value) is not int or value < 0:
        raise BadJson(f"has no whole number {_at(where)}")


def boolean(value: object, where: str) -> None:
    if type(value) is not bool:
        raise BadJson(f"has neither true nor false {_at(where)}")


def anything(value: object, where: str) -> None:
    """Take any value: what nobody relies on."""


def optional(shape: Shape) -> Shape:
    """Make the shape of a value that may be null."""
    return lambda value, where: None if value is None else shape(value, where)


TEXT = text()
SHA256 = text(r"[0-9a-f]{64}", "SHA-256 (64 lower-case hexadecimal digits)")
SHA512 = text(r"[0-9a-f]{128}", "SHA-512 (128 lower-case hexadecimal digits)")
DIGEST = text(r"sha256:[0-9a-f]{64}", "digest (sha256: and 64 hexadecimal digits)")


def _at(where: str) -> str:
    return f"at {where.lstrip('.')}" if where else "at the top"


# --- reading -----------------------------------------------------------------------------------------------------


def _refuse_depth(data: bytes) -> None:
    # Before the parser sees it: Python's recurses, and 100,000 brackets end it.
    depth = 0
    for found in _BRACKETS.finditer(data):
        if found[0] in b"[{":
            depth += 1
            if depth > _DEPTH:
                raise BadJson(f"is nested deeper than {_DEPTH} levels")
        elif found[0] in b"]}":
            depth -= 1


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, inner in pairs:
        if key in value:
            raise BadJson(f"says {key[:80]!r} twice in one object")
        value[key] = inner
    return value


def _constant(name: str) -> Never:
    raise BadJson(f"holds {name}, which is no JSON number")


def _integer(digits: str) -> int:
    if len(digits) > _INT_DIGITS or abs(number := int(digits)) >= _BIGGEST_INT:
        raise BadJson(f"holds a number of {len(digits)} digits")
    return number


def _number(digits: str) -> float:
    number = float(digits)
    if number in {float("inf"), float("-inf")}:
        raise BadJson("holds a number that no computer can hold")
    return number
