"""Puts a finished folder in the place of an older one: a reader, or a kill, finds one or the other, never none."""

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from builders.copying import make_folders

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # renameat2(2)
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """Give an empty hidden folder that takes the place of `place` when the block ends well, and is removed otherwise.

    Removes what a killed run left beside it first: every hidden name in the parent folder.
    """
    make_folders(place.parent)
    for leftover in place.parent.glob(".*"):
        _remove(leftover)
    fresh = Path(tempfile.mkdtemp(prefix=".new.", dir=place.parent))
    try:
        fresh.chmod(0o755)
        yield fresh
        _put_in_place(fresh, place)
    finally:
        _remove(fresh)


def _put_in_place(fresh: Path, place: Path) -> None:
    """Swap the two names in one step where the file system can, so that `fresh` is then the older folder."""
    if not os.path.lexists(place):
        fresh.rename(place)
    elif not _exchange(fresh, place):
        # Two steps: a kill between them leaves no folder here, and the old one under a hidden name.
        older = place.with_name(f"{fresh.name}.older")
        place.rename(older)
        fresh.rename(place)
        _remove(older)


def _exchange(one: Path, other: Path) -> bool:
    try:
        renameat2 = _LIBC.renameat2
    except AttributeError:
        return False
    result: int = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return result == 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
