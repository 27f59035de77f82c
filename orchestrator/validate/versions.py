"""Which of two versions is the older one, by the rules of the packages that they are of."""

import itertools
import re
from collections.abc import Iterator
from typing import Final

_NUMBERS: Final = re.compile(r"v?(\d+(?:\.\d+){0,2})(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?", re.ASCII)
_PARTS: Final = re.compile(r"([^0-9]*)([0-9]*)", re.ASCII)
_END: Final = 1
"""Where a text ends, in dpkg's order: after a tilde, before everything else."""
_GONE: Final = ((_END,), 0)
_DIGEST: Final = re.compile(r"(?:sha256:)?[0-9a-f]{40,}")


def has_order(version: str) -> bool:
    """Tell whether a version can come before another one: a digest or a commit cannot."""
    return not _DIGEST.fullmatch(version)


def compare(kind: str, one: str, other: str) -> int:
    """Give less than 0 where `one` is older, 0 for the same, more than 0 otherwise. `kind` is a package URL's type.

    pypi: PEP 440. deb: Debian policy 5.6.12. All else: SemVer 2.0.0 where both are that, with one to three numbers, or
    Debian's order, which takes any text and leaves numbers in the order that people expect.
    """
    if one == other:
        return 0
    if kind == "pypi":
        return _pypi(one, other)
    if kind != "deb" and (first := _semver(one)) and (second := _semver(other)):
        return (first > second) - (first < second)
    return _debian(one, other)


def _pypi(one: str, other: str) -> int:
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415 - only a Python package needs it

    try:
        first, second = Version(one), Version(other)
    except InvalidVersion:
        return _debian(one, other)
    return (first > second) - (first < second)


_Semver = tuple[tuple[int, ...], bool, tuple[tuple[int, int, str], ...]]


def _semver(text: str) -> _Semver | None:
    found = _NUMBERS.fullmatch(text)
    if found is None:
        return None
    numbers = [int(each) for each in found[1].split(".")]
    # A release comes after its pre-releases; of their parts, numbers come before words.
    words = tuple((0, int(each), "") if each.isdigit() else (1, 0, each) for each in (found[2] or "").split("."))
    return (*numbers, *[0] * (3 - len(numbers))), not found[2], words if found[2] else ()


# --- Debian ------------------------------------------------------------------------------------------------------


def _debian(one: str, other: str) -> int:
    for first, second in zip(_fields(one), _fields(other), strict=True):
        if order := _ordered(first, second):
            return order
    return 0


def _fields(text: str) -> tuple[str, str, str]:
    """Part a version into epoch, upstream version and revision."""
    epoch, colon, rest = text.partition(":")
    if not colon:
        epoch, rest = "0", text
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return epoch, upstream, revision


def _ordered(one: str, other: str) -> int:
    for first, second in itertools.zip_longest(_split(one), _split(other), fillvalue=_GONE):
        if first != second:
            return 1 if first > second else -1
    return 0


def _split(text: str) -> Iterator[tuple[tuple[int, ...], int]]:
    return ((_weights(word), int(number or 0)) for word, number in _PARTS.findall(text) if word or number)


def _weights(word: str) -> tuple[int, ...]:
    """Give the order of a text without digits: tilde, end, letters, all other characters."""
    return (*(0 if each == "~" else ord(each) + (2 if each.isalpha() else 256) for each in word), _END)
