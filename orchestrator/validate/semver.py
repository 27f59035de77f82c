"""Which changes a step from one version to the next announces (Semantic Versioning 2.0.0)."""

import re
from typing import Final

_NUMBER: Final = r"(0|[1-9][0-9]*)"
_VERSION: Final = re.compile(rf"v?{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?", re.ASCII)


def may_break(old: str, new: str) -> bool:
    """Tell whether users of `old` have to expect that something is gone in `new`.

    They have to when the first number grows. Before 1.0.0 SemVer promises nothing, and its users have agreed on more:
    the leftmost number that is not 0 counts as the first, so that 0.4 may break 0.3, 0.3.2 may not break 0.3.1, and
    0.0.2 may break 0.0.1. A pre-release promises nothing to those who use it. Versions of other forms, and steps back,
    announce nothing.
    """
    before, after = _VERSION.fullmatch(old), _VERSION.fullmatch(new)
    if before is None or after is None:
        return False
    first, second = _numbers(before), _numbers(after)
    if second < first:
        return False
    return before[4] is not None or _promise(first) != _promise(second)


def _numbers(found: re.Match[str]) -> tuple[int, int, int]:
    return int(found[1]), int(found[2]), int(found[3])


def _promise(numbers: tuple[int, int, int]) -> tuple[int, ...]:
    """Give the numbers that stay the same as long as nothing may break."""
    leftmost = next((place for place, number in enumerate(numbers) if number), 2)
    return numbers[: leftmost + 1]
