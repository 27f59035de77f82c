"""Judges a version for the policy's rule "semver": strict SemVer 2.0.0, newer than what is there, and its tag's own."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from orchestrator.errors import PolicyViolation
from orchestrator.policy_evidence import GateReport
from orchestrator.publish.version_names import VersionName, read_version

_SHAPED: Final = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionGuard:
    """What a version is held against: the tags of its commit, and whether it may be older than the newest release."""

    tags: tuple[str, ...] = ()
    allow_older: bool = False


def judge_version(version: str, subject: str, active: Collection[str], guard: VersionGuard) -> GateReport:
    """Say what speaks against a version that is not published yet; `active` are the releases that readers may take."""
    why = {
        "strict SemVer": _not_strict(version),
        "newer": _not_newer(version, active, allow_older=guard.allow_older),
        "tag": _other_tag(version, guard.tags),
    }
    broken = [text for text in why.values() if text]
    return GateReport(
        subject=subject, passed=not broken, text="".join(f"\n    {text}" for text in broken),
        exit_code=PolicyViolation.exit_code if broken else 0,
        checks=tuple((name, not text) for name, text in why.items()),
    )  # fmt: skip


def _read(version: str) -> VersionName | None:
    found = read_version(version)
    return None if found is None or found.timestamped or version.startswith("v") else found


def _not_strict(version: str) -> str:
    if _read(version) is not None:
        return ""
    return f"{version} is no strict SemVer 2.0.0 (MAJOR.MINOR.PATCH without a v): https://semver.org"


def _not_newer(version: str, active: Collection[str], *, allow_older: bool) -> str:
    ours = read_version(version)
    if ours is None or ours.timestamped:
        return ""
    others = [text for text in active if (other := read_version(text)) is not None and not other.timestamped]
    if allow_older:
        others = [text for text in others if _line(text) == _line(version)]
    if not ours.prerelease:
        # A pre-release of what comes next is no reason to stop a fix of what is there.
        others = [text for text in others if not _is_prerelease(text)]
    newest = max(others, key=_precedence, default="")
    if not newest or _precedence(version) > _precedence(newest):
        return ""
    way = "" if allow_older else "; allow_older = true in [ci] is for the fix of an older line"
    return f"{version} is not newer than {newest}, which is released{way}"


def _other_tag(version: str, tags: Collection[str]) -> str:
    named = [tag for tag in tags if _SHAPED.fullmatch(tag)]
    if not named or version in {tag.removeprefix("v") for tag in named}:
        return ""
    return f"the commit is tagged {', '.join(sorted(named))}, and the release is {version}"


def _precedence(version: str) -> tuple[object, ...]:
    """Give what SemVer compares: build metadata makes no version newer than another."""
    found = read_version(version)
    return found.order[:3] if found else ()


def _line(version: str) -> tuple[str, ...]:
    return tuple(version.removeprefix("v").split(".")[:2])


def _is_prerelease(version: str) -> bool:
    found = read_version(version)
    return found is not None and found.prerelease
