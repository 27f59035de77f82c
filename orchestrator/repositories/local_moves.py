"""How a folder repository moves a whole release by one rename, and what it looks at before and afterwards."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from builders.names import escaped
from orchestrator.errors import KeyTaken, RepositoryError
from orchestrator.repositories import folders, tree
from orchestrator.repositories.local_disk import Disk, missing_file


def move_new(disk: Disk, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> None:
    """Rename the staged folder to its place in one step, if it holds exactly these keys."""
    source, target = disk.place(staged), disk.place(place)
    with disk.writing(target) as base, disk.making(base, place.parts[:-1]) as above:
        if not _holds_exactly(disk, base, staged, keys):
            _require_moved(disk, base, staged, place, keys)
        else:
            with folders.closing(folders.open_folder(base, staged.parts[:-1])) as below:
                try:
                    disk.rename_new(base, (below, staged.name), (above, place.name))
                except FileExistsError:
                    if not _same(base, staged, place, keys):
                        raise taken(target) from None
                disk.sync(below, source)
        disk.sync(above, target)


def _holds_exactly(disk: Disk, base: int, staged: PurePosixPath, keys: Sequence[PurePosixPath]) -> bool:
    """Tell whether the staged folder is there; refuse one that lacks a key or holds something else."""
    try:
        folder = folders.open_folder(base, staged.parts)
    except FileNotFoundError:
        return False
    with folders.closing(folder):
        found = {entry.key for entry in tree.entries(folder, PurePosixPath())}
    if missing := sorted(set(keys) - found):
        raise missing_file(disk.place(staged / missing[0]))
    if foreign := sorted(found - set(keys)):
        raise RepositoryError(
            f"{escaped(str(disk.place(staged / foreign[0])))} is no part of the release",
            next_step="find out who put it there, remove it, then run `relbuild recover`",
        )
    return True


def _require_moved(
    disk: Disk, base: int, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]
) -> None:
    for key in keys:
        try:
            with folders.closing(folders.open_folder(base, (place / key).parts[:-1])) as folder:
                os.close(folders.open_file(folder, key.name))
        except FileNotFoundError:
            raise missing_file(disk.place(staged / key)) from None


def _same(base: int, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath]) -> bool:
    try:
        with folders.closing(folders.open_folder(base, place.parts)) as folder:
            there = {entry.key for entry in tree.entries(folder, PurePosixPath())}
        return there == set(keys) and all(
            tree.digest(base, staged / key) == tree.digest(base, place / key) for key in keys
        )
    except OSError:
        return False


def taken(place: Path) -> KeyTaken:
    return KeyTaken(f"{escaped(str(place))} is there already", next_step="choose another version: nothing is replaced")
