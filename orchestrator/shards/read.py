"""A folder -> a shard that counts: signed by a key that may, every byte as it is listed, nothing beside it.

A shard comes by way of stores and jobs that nobody trusts, so nothing of it is looked at before its signature held.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from builders.names import escaped
from orchestrator import verify
from orchestrator.errors import ShardTampered, ShardUnsigned, ShardUntrusted, VerificationError
from orchestrator.shards.shard_file import SHARD, Listed, Shard, files_folder, parse_shard
from orchestrator.shards.write import SIGNATURE
from orchestrator.verify.json_strict import BadJson
from orchestrator.verify.reading import Unreadable, private_folder, read_file

ROLE: Final = "shard"
_DEEPEST: Final = 64
_AGAIN: Final = "copy the shard again from the machine that built it, or build it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadShard:
    """A shard whose every byte was read and held. Only this module makes one. `key_id` is empty for an unsigned one."""

    folder: Path
    shard: Shard
    key_id: str


def read_shard(folder: Path, trust: verify.TrustRoot | None, now: datetime) -> ReadShard:
    """Read and judge one shard. `trust` None takes an unsigned one: for a person who says so, and nobody else.

    Raises ShardUnsigned, ShardUntrusted, ShardTampered.
    """
    place = escaped(str(folder))
    try:
        content = read_file(folder / SHARD).kept()
    except (BadJson, Unreadable) as error:
        raise ShardTampered(f"{place} is no shard: {SHARD} {error}", next_step="name a folder of dist/shards") from None
    key_id = "" if trust is None else _signer(folder, content, trust, now)
    try:
        shard = parse_shard(content)
    except BadJson as error:
        raise ShardTampered(f"{place}/{SHARD} {error}", next_step=_AGAIN) from None
    _refuse_other_files(folder, shard)
    return ReadShard(folder=folder, shard=shard, key_id=key_id)


def _signer(folder: Path, content: bytes, trust: verify.TrustRoot, now: datetime) -> str:
    """Name the key that signed these very bytes: those that are read afterwards, whatever the folder holds by then."""
    place = escaped(str(folder))
    try:
        signature = read_file(folder / SIGNATURE).kept()
    except (Unreadable, BadJson) as error:
        raise ShardUnsigned(
            f"{place} has no signature that can be read: {SIGNATURE} {error}",
            next_step="build it again with --shard-key, a key that trust.json lists in the role 'shard'",
        ) from None
    try:
        with private_folder() as room:
            (room / SHARD).write_bytes(content)
            return verify.check_role_signature(room / SHARD, signature, trust, ROLE, now)
    except VerificationError as error:
        raise ShardUntrusted(f"{place}: {error.what}", next_step=error.next_step or _AGAIN) from error


def _refuse_other_files(folder: Path, shard: Shard) -> None:
    listed = {str(each.path) for each in shard.listed}
    found = set(_files(folder)) - {SHARD, SIGNATURE}
    if missing := sorted(listed - found):
        raise ShardTampered(f"{escaped(str(folder / missing[0]))} is missing", next_step=_AGAIN)
    if foreign := sorted(found - listed):
        raise ShardTampered(f"{escaped(str(folder / foreign[0]))} is not in the list of its shard", next_step=_AGAIN)
    strong = {files_folder(cell.folder) / file.path: file.sha512 for cell in shard.cells for file in cell.files}
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for problem in pool.map(lambda each: _problem(folder, each, strong.get(each.path, "")), shard.listed):
            if problem:
                raise ShardTampered(problem, next_step=_AGAIN)


def _problem(folder: Path, promised: Listed, sha512: str) -> str:
    path = folder / promised.path
    try:
        read = read_file(path)
    except Unreadable as error:
        return f"{escaped(str(path))} {error}"
    same = (read.size_bytes, read.sha256) == (promised.size_bytes, promised.sha256)
    same = same and sha512 in {"", read.sha512}
    return "" if same else f"{escaped(str(path))} has other bytes than its shard lists"


def _files(folder: Path) -> Iterator[str]:
    """Name everything below a folder that is no plain folder itself; links are named, and not followed."""
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            entries = list(place.iterdir())
        except OSError as error:
            raise ShardTampered(f"{escaped(str(place))} cannot be read: {error.strerror}", next_step=_AGAIN) from error
        for path in entries:
            if path.is_dir() and not path.is_symlink():
                waiting.append(path)
            else:
                yield path.relative_to(folder).as_posix()
            if len(path.parts) - len(folder.parts) > _DEEPEST:
                raise ShardTampered(f"{escaped(str(folder))} is nested too deep", next_step=_AGAIN)
