"""Where shards meet: a folder or a bucket, through the seam that releases are published by, so that nothing replaces.

shards-<12 digits of the plan>/<shard id>/<try>/...   a shard's files; shard.json last, so that a try with it is whole

A try is named by the digest of shard.json and its signature: a send that was cut short is in nobody's way.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from builders.copying import full_disk_named, make_folders, new_file, write_all
from builders.hashing import file_sha256
from builders.names import escaped
from orchestrator.errors import CellTwice, KeyTaken, ShardError
from orchestrator.folder_swap import new_folder
from orchestrator.repositories.interface import Repository
from orchestrator.shards.plan_file import PlanFile
from orchestrator.shards.shard_file import SHARD

_CHUNK_BYTES: Final = 1 << 20
_DIGITS: Final = 12
_BELOW_A_TRY: Final = 2


def send(repository: Repository, folder: Path, planned: PlanFile) -> PurePosixPath:
    """Put a shard there, its list last. The same shard again changes nothing.

    Raises CellTwice where another one has its name, RepositoryError.
    """
    place = _area(planned) / folder.name
    content = (folder / SHARD).read_bytes()
    for there in _whole_tries(repository, place):
        if there == content:
            return place
        raise CellTwice(
            f"{repository.location} holds another {escaped(str(place))} already: these cells were built before",
            next_step="take the shard that is there, or plan again and build all of it",
        )
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    signed = b"".join(path.read_bytes() for path in sorted(folder.glob(f"{SHARD}.*")))
    place /= hashlib.sha256(content + signed).hexdigest()[:_DIGITS]
    for name in sorted(names, key=lambda each: each == SHARD):
        _put(repository, place / name, folder / name)
    return place


def _whole_tries(repository: Repository, place: PurePosixPath) -> Iterator[bytes]:
    for entry in repository.list(place):
        if entry.key.name == SHARD and len(entry.key.parts) == len(place.parts) + 2:
            yield b"".join(_chunks(repository, entry.key))


def receive(repository: Repository, planned: PlanFile, into: Path) -> tuple[Path, ...]:
    """Fetch every whole shard of a plan; nothing of them is believed yet. Raises ShardError where there is none."""
    area = _area(planned)
    by_try: dict[tuple[str, str], list[PurePosixPath]] = {}
    for entry in repository.list(area):
        below = entry.key.relative_to(area).parts
        if len(below) > _BELOW_A_TRY:
            by_try.setdefault((below[0], below[1]), []).append(entry.key)
    whole: dict[str, tuple[str, list[PurePosixPath]]] = {}
    for (shard, tried), keys in sorted(by_try.items()):
        # Two whole tries of one shard come of two machines that sent it at once: either is signed, and one is enough.
        if area / shard / tried / SHARD in keys:
            whole.setdefault(shard, (tried, keys))
    if not whole:
        raise ShardError(
            f"{repository.location} holds no shard of this plan (sha256 {planned.sha256[:_DIGITS]}...)",
            next_step="send them there: relbuild build --plan plan.json --targets T --to PLACE",
        )
    return tuple(
        _fetch(repository, area / shard / tried, keys, into / shard) for shard, (tried, keys) in sorted(whole.items())
    )


def _area(planned: PlanFile) -> PurePosixPath:
    return PurePosixPath(f"shards-{planned.sha256[:_DIGITS]}")


def _put(repository: Repository, key: PurePosixPath, path: Path) -> None:
    digest = file_sha256(path)
    try:
        repository.put_new(key, path, digest)
    except KeyTaken:
        there = hashlib.sha256()
        for chunk in _chunks(repository, key):
            there.update(chunk)
        if there.hexdigest() != digest:
            raise CellTwice(
                f"{repository.location} holds another {escaped(str(key))} already: these cells were built before",
                next_step="take the shard that is there, or plan again and build all of it",
            ) from None


def _fetch(repository: Repository, place: PurePosixPath, keys: list[PurePosixPath], into: Path) -> Path:
    try:
        with full_disk_named(into), new_folder(into) as folder:
            for key in keys:
                # `list` gives keys that the seam accepts: plain relative paths.
                path = folder / key.relative_to(place)
                make_folders(path.parent)
                with new_file(path, executable=False) as descriptor:
                    for chunk in _chunks(repository, key):
                        write_all(descriptor, chunk)
    except OSError as error:
        raise ShardError(
            f"{escaped(str(place))} cannot be fetched into {escaped(str(into))}: {error.strerror}",
            next_step="see who owns that folder; a name that is a file and a folder is no shard's",
        ) from error
    return into


def _chunks(repository: Repository, key: PurePosixPath) -> Iterator[bytes]:
    with repository.open(key) as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
