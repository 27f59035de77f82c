"""Looks for the values of the two worlds in what their builds left: the first one's here, the second one's there."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from orchestrator.reproduce.causes.pieces import Explained, Finding, Piece, masked, not_shared, pair_of
from orchestrator.reproduce.causes.values import AXIS_KINDS, Hints

_SHORT_BYTES = 3
_EACH = "each holds its own build's"
_AXES: Final = (
    "build_path",
    "environment",
    "host_name",
    "locale",
    "time_zone",
    "time",
    "user",
    "cpus",
    "umask",
)  # fmt: skip
"""Longest values first: a path may hold the name of the user."""


def by_world(mine: Sequence[Piece], other: Sequence[Piece], hints: Hints) -> Iterator[Explained]:
    """Give the axes whose values the texts hold, and mask them one after the other."""
    return _by_values(mine, other, hints, _found_values, short=False)


def by_short_value(mine: Sequence[Piece], other: Sequence[Piece], hints: Hints) -> Iterator[Explained]:
    """Give the axes whose values are too short to tell by themselves, where they stand in the very place."""
    return _by_values(mine, other, hints, _found_short, short=True)


_Search = Callable[[str, bytes, bytes, Sequence[Piece], Sequence[Piece]], Explained | None]


def _by_values(
    mine: Sequence[Piece], other: Sequence[Piece], hints: Hints, search: _Search, *, short: bool
) -> Iterator[Explained]:
    for axis in _AXES:
        for left, right in _values(axis, hints):
            is_short = max(len(left), len(right)) <= _SHORT_BYTES
            found = search(axis, left, right, mine, other) if is_short is short else None
            if found:
                yield found
                mine, other = not_shared(masked(mine, found.pattern), masked(other, found.other or found.pattern))


def _values(axis: str, hints: Hints) -> Iterator[tuple[bytes, bytes]]:
    """Give the pairs of values of an axis: that of each variable of the environment, name and number of a user."""
    first, second = hints.worlds.get(axis, ("", ""))
    for left, right in _SPLIT.get(axis, _whole_value)(first, second):
        if left != right:
            yield left.encode("utf-8", "surrogateescape"), right.encode("utf-8", "surrogateescape")


def _whole_value(first: str, second: str) -> list[tuple[str, str]]:
    return [(first, second)]


def _variables(first: str, second: str) -> list[tuple[str, str]]:
    left, right = dict(_VARIABLE.findall(first)), dict(_VARIABLE.findall(second))
    return [(left.get(name, ""), right.get(name, "")) for name in {**left, **right}]


def _user_parts(first: str, second: str) -> list[tuple[str, str]]:
    left, right = user_words(first), user_words(second)
    return [(next((word for word in left if word.isdigit() is number), ""),
             next((word for word in right if word.isdigit() is number), "")) for number in (False, True)]  # fmt: skip


def user_words(text: str) -> list[str]:
    """Give name and number of a user as an axis says them, in either order: `0 (root)`, `root:0`."""
    return re.findall(r"[\w.-]+", text)


_VARIABLE = re.compile(r"([A-Za-z_]\w*)=(\S*)")
_SPLIT: Final[Mapping[str, Callable[[str, str], list[tuple[str, str]]]]] = {
    "environment": _variables, "user": _user_parts,
}  # fmt: skip


def _found_values(
    axis: str, left: bytes, right: bytes, mine: Sequence[Piece], other: Sequence[Piece]
) -> Explained | None:
    here, there = _whole(left, axis), _whole(right, axis)
    a, b = _first_with(mine, here), _first_with(other, there)
    if a and b:
        return Explained(finding=_of_axis(axis, a, b, _EACH), pattern=here, other=there)
    return _found_alone(axis, right, mine, other) or _found_alone(axis, left, other, mine, swapped=True)


def _found_alone(
    axis: str, value: bytes, mine: Sequence[Piece], other: Sequence[Piece], *, swapped: bool = False
) -> Explained | None:
    """Take the value of one world alone, where it says enough by itself; the other text may hold it in another form."""
    pattern = _whole(value, axis)
    number = next((number for number, piece in enumerate(other) if pattern.search(piece.text)), None)
    if number is None or len(value) <= _SHORT_BYTES or _first_with(mine, pattern):
        return None
    beside = mine[number] if number < len(mine) else Piece(at=other[number].at, text=b"")
    pair = (other[number], beside) if swapped else (beside, other[number])
    first, second = (re.compile(re.escape(piece.text) + rb"\Z" if piece.text else rb"(?!)") for piece in pair)
    finding = _of_axis(axis, *pair, f"the {'first' if swapped else 'second'} holds its own build's")
    return Explained(finding=finding, pattern=first, other=second)


def _whole(value: bytes, axis: str = "") -> re.Pattern[bytes]:
    """Find a value that is not part of a longer word; of a path take what is below it, too."""
    if not value:
        return re.compile(rb"(?!)")
    below = rb"[\w.+@~=/-]*" if axis == "build_path" else b""
    return re.compile(rb"(?<![0-9A-Za-z_])" + re.escape(value) + rb"(?![0-9A-Za-z_])" + below)


def _first_with(pieces: Sequence[Piece], pattern: re.Pattern[bytes]) -> Piece | None:
    return next((piece for piece in pieces if pattern.search(piece.text)), None)


_TOKEN = re.compile(rb"\d+(?:\.\d+)+|[0-9A-Za-z_]+|[^0-9A-Za-z_]")


def _found_short(
    axis: str, left: bytes, right: bytes, mine: Sequence[Piece], other: Sequence[Piece]
) -> Explained | None:
    """Take a value such as 2 only where two texts differ in nothing else."""
    wanted = {(_plain(left), _plain(right))}
    for a, b in zip(mine, other, strict=False):
        tokens, others = _TOKEN.findall(a.text), _TOKEN.findall(b.text)
        apart = {(_plain(x), _plain(y)) for x, y in zip(tokens, others, strict=False) if x != y}
        if len(tokens) == len(others) and apart == wanted:
            return Explained(finding=_of_axis(axis, a, b, _EACH), pattern=_number(left), other=_number(right))
    return None


def _number(value: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"(?<![0-9A-Za-z_])0*" + re.escape(_plain(value)) + rb"(?![0-9A-Za-z_])")


def _plain(token: bytes) -> bytes:
    return token.lstrip(b"0") or b"0" if token.isdigit() else token


def _of_axis(axis: str, first: Piece, second: Piece, holds: str) -> Finding:
    what = f"{pair_of(first.text, second.text)}; {holds} {axis.replace('_', ' ')}"
    return Finding(kind=AXIS_KINDS[axis], at=first.at, what=what)
