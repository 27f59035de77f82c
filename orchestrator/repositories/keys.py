"""Which keys a repository takes, and which of them may be replaced or removed."""

from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final

from builders.names import escaped, unsafe_reason
from orchestrator.errors import RepositoryError

STAGING: Final = ".staging-"
"""How the name of a staging area begins; only what lies below one is ever removed."""

PROBE: Final = ".staging-probe-"

OWN: Final = (".lock", ".new-")
"""How the names begin that an adapter keeps for itself; they are no keys."""

_KNOWN_NAMES: Final = 4096
"""A publish asks for each name of a release five times and more."""
_VIEWS: Final = frozenset({"index.md"})


def check_key(key: PurePosixPath) -> PurePosixPath:
    """Refuse a key that leaves the repository, hides a byte, or is a name that the adapter itself uses."""
    if key.is_absolute() or not key.parts:
        raise _refused(key, "is not a relative path")
    for part in key.parts:
        if reason := _unsafe_reason(part):
            raise _refused(key, reason)
    if key.parts[0].startswith(OWN):
        raise _refused(key, "is a name that the repository keeps for itself")
    return key


def check_replaceable(key: PurePosixPath) -> PurePosixPath:
    """Refuse to replace what is written once: only staging areas and views may be."""
    check_key(key)
    if not is_staged(key) and key.as_posix() not in _VIEWS:
        raise _refused(key, "is written once, and only staging areas and views are replaced")
    return key


def check_staging(prefix: PurePosixPath) -> PurePosixPath:
    """Refuse to remove anything but one whole staging area."""
    check_key(prefix)
    if len(prefix.parts) != 1 or not is_staged(prefix):
        raise _refused(prefix, "is no staging area, and nothing else is ever removed")
    return prefix


def is_staged(key: PurePosixPath) -> bool:
    return key.parts[0].startswith(STAGING)


@lru_cache(maxsize=_KNOWN_NAMES)
def _unsafe_reason(name: str) -> str:
    return unsafe_reason(name.encode("utf-8", "surrogateescape"))


def _refused(key: PurePosixPath, reason: str) -> RepositoryError:
    return RepositoryError(
        f"the repository key {escaped(key.as_posix())} {reason}", next_step="rename the file or the version"
    )
