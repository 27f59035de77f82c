"""The floor: the least that a durable publish can do in Python. What relbuild's publish costs is told against it.

Copy with 4 threads while hashing, fsync each file, write a manifest, sign once, read everything back and hash it,
rename, fsync. No claim, no index, no audit; nobody can finish it for a dead publisher.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 4
CHUNK_BYTES = 1 << 20


def publish(source: Path, base: Path, version: str, sign: Callable[[bytes], bytes]) -> None:
    """Copy a folder to `base/version`."""
    staging = base / f".floor-{version}"
    staging.mkdir(parents=True)
    names = sorted(path.name for path in source.iterdir())
    with ThreadPoolExecutor(THREADS) as pool:
        digests = dict(zip(names, pool.map(lambda name: copy(source / name, staging / name), names), strict=True))
    manifest = json.dumps(digests).encode()
    write(staging / "floor.json", manifest)
    write(staging / "floor.sig", sign(manifest))
    sync(staging)
    with ThreadPoolExecutor(THREADS) as pool:
        again = dict(zip(names, pool.map(lambda name: digest(staging / name), names), strict=True))
    if again != digests:
        raise SystemExit("the disk gave other bytes back")
    staging.rename(base / version)
    sync(base)


def copy(source: Path, target: Path) -> str:
    found = hashlib.sha256()
    with source.open("rb", buffering=0) as there, target.open("xb", buffering=0) as here:
        while chunk := there.read(CHUNK_BYTES):
            found.update(chunk)
            here.write(chunk)
        os.fsync(here.fileno())
    return found.hexdigest()


def digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def write(path: Path, body: bytes) -> None:
    with path.open("xb", buffering=0) as file:
        file.write(body)
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(opened)
    os.close(opened)


def remove(base: Path) -> None:
    """Remove what was published, and let the disk come to rest, so that the next round pays only for itself."""
    # Half of a repository must not be left for the next round unseen: it would be an index without its signature.
    if base.exists():
        shutil.rmtree(base)
    os.sync()
