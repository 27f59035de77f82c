"""Reads which options a program says that it has, from what `--help` prints."""

import re
from typing import Final

_COLUMN: Final = re.compile(r"[ ]{2}|\t")
"""What stands between an option with its other names, and what is said about it."""
_NAME: Final = re.compile(r"(?<![\w-])-{1,2}[A-Za-z0-9?][\w.-]*")
_LONG: Final = re.compile(r"(?<![\w-])--[A-Za-z0-9][\w-]*")
_NEGATABLE: Final = re.compile(r"(?<![\w-])--\[no-\]([A-Za-z0-9][\w-]*)")
_IN_USAGE: Final = re.compile(r"[\[|{(]\s*(-[A-Za-z0-9?]+)(?=[\]\s|})=<])")


def options(text: str) -> frozenset[str]:
    """Give the options that a help text names: long ones anywhere, short ones where lists and usages have them.

    `[-xv]` names -x and -v, `--[no-]color` --color and --no-color.
    """
    found = set(_LONG.findall(text))
    rows = (line.strip() for line in text.splitlines())
    found.update(name for row in rows if row.startswith("-") for name in _NAME.findall(_COLUMN.split(row, 1)[0]))
    found.update(f"--{word}{name}" for name in _NEGATABLE.findall(text) for word in ("", "no-"))
    found.update(f"-{letter}" for cluster in _IN_USAGE.findall(text) for letter in cluster[1:])
    return frozenset(name.rstrip(".-") for name in found) - {"", "-"}
