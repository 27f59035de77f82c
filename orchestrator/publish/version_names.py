"""Which texts can name a release, how they are ordered, and which two are too alike to live side by side."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from builders.names import escaped
from orchestrator.errors import PublicationError

MAX_LENGTH: Final = 128
"""Leaves room for the endings of audits, signatures and temporary files in a name of 255 bytes."""

_NUMBER = r"(?:0|[1-9][0-9]*)"
_SEMVER = re.compile(  # semver.org, version 2.0.0, with an optional v
    rf"v?({_NUMBER})\.({_NUMBER})\.({_NUMBER})"
    rf"(?:-((?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
_TIMESTAMPED = re.compile(r"([A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)*)-([0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{6})")
_CONTROL_ENDINGS = (
    ".audit", ".json", ".jsonl", ".sig", ".md", ".txt", ".lock", ".tmp", ".asc", ".age", ".sha256", ".sha512",
    ".tar", ".gz", ".zip",
)  # fmt: skip
"""What `<version>.audit.json` and other files of a repository end in: "1.0.0-rc.audit.json" is good SemVer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionName:
    """A version that can be published. `order` sorts as SemVer says; timestamped names come before all SemVer."""

    text: str
    order: tuple[object, ...]
    collision: str
    prerelease: bool
    timestamped: bool


def checked_version(text: str, *, timestamped: bool = False) -> VersionName:
    """Give a version that may be published; `timestamped` accepts `name-YYYY-MM-DD-HHMMSS` too.

    Raises PublicationError.
    """
    version = read_version(text)
    if version is None or (version.timestamped and not timestamped):
        why = _why_not(text, timestamped=timestamped)
        raise PublicationError(f"{escaped(text[:200])} {why}", next_step="name the release by SemVer, such as v1.2.3")
    return version


@lru_cache(maxsize=1 << 16)
def read_version(text: str) -> VersionName | None:
    """Read a version in any form that a repository may hold, or give None."""
    if len(text) > MAX_LENGTH or text.casefold().endswith(_CONTROL_ENDINGS):
        return None
    if found := _SEMVER.fullmatch(text):
        major, minor, patch, prerelease, build = found.groups()
        numbers = (int(major), int(minor), int(patch))
        order = (1, numbers, _prerelease_order(prerelease), build or "", text)
        return _named(text, order, prerelease=prerelease is not None, timestamped=False)
    if (found := _TIMESTAMPED.fullmatch(text)) and _is_time(found[2]):
        return _named(text, (0, found[2], text), prerelease=False, timestamped=True)
    return None


def latest_of(versions: Iterable[str]) -> str:
    """Give the newest, a pre-release only where there is nothing else; empty for none."""
    read = [version for text in versions if (version := read_version(text)) is not None]
    stable = [version for version in read if not version.prerelease]
    newest = max(stable or read, key=lambda version: version.order, default=None)
    return newest.text if newest else ""


def newest_first(versions: Iterable[str]) -> list[str]:
    """Sort versions for people."""
    return sorted(versions, key=lambda text: version.order if (version := read_version(text)) else (-1,), reverse=True)


def _named(text: str, order: tuple[object, ...], *, prerelease: bool, timestamped: bool) -> VersionName:
    # v1.0.0 and 1.0.0 are one release to a reader, 1.0.0-RC1 and 1.0.0-rc1 one folder to some disks, and registries
    # that know no + write _ for it.
    collision = text.removeprefix("v") if not timestamped else text
    return VersionName(
        text=text, order=order, collision=collision.casefold().replace("+", "_"), prerelease=prerelease,
        timestamped=timestamped,
    )  # fmt: skip


def _prerelease_order(prerelease: str | None) -> tuple[object, ...]:
    if prerelease is None:
        return (1,)
    fields = [(0, int(each), "") if each.isdigit() else (1, 0, each) for each in prerelease.split(".")]
    return (0, *fields)


def _is_time(stamp: str) -> bool:
    try:
        datetime.strptime(stamp, "%Y-%m-%d-%H%M%S")
    except ValueError:
        return False
    return True


def _why_not(text: str, *, timestamped: bool) -> str:
    if len(text) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    if text.casefold().endswith(_CONTROL_ENDINGS):
        return "could be mistaken for one of the repository's own files"
    if not timestamped and _TIMESTAMPED.fullmatch(text):
        return "is named after a time, which this project does not allow"
    forms = "SemVer or name-YYYY-MM-DD-HHMMSS" if timestamped else "SemVer"
    return f"is no version ({forms})"
