"""What a reader saw last of each repository: a small file for each, so that nothing older is ever believed."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builders.copying import make_folders
from builders.names import escaped
from orchestrator.canonical import canonical_json
from orchestrator.errors import IndexReplayed, PublicationError, VerificationError
from orchestrator.publication import Index
from orchestrator.publish.index import index_sha256, refused
from orchestrator.publish.merkle import tree_head
from orchestrator.verify.json_strict import SHA256, TEXT, BadJson, check, exactly, integer, parse_canonical, record

_SCHEMA: Final = "relbuild/seen/v1"
_MAX_BYTES: Final = 1 << 16
_SHAPE = record(
    {"schema": exactly(_SCHEMA), "repository_id": TEXT, "location": TEXT, "revision": integer,
     "index_sha256": SHA256, "root": SHA256}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One index as it was seen: enough to tell whether another one extends it."""

    repository_id: str
    location: str
    revision: int
    index_sha256: str
    root: str


def remember(index: Index, location: str, memory: Path) -> None:
    """Refuse an index that is not what became of the last one seen, and keep this one in mind.

    Raises VerificationError; PublicationError where the memory cannot be written.
    """
    now = Seen(
        repository_id=index.repository_id, location=location, revision=index.revision,
        index_sha256=index_sha256(index), root=index.root,
    )  # fmt: skip
    try:
        make_folders(memory)
        with _alone(memory):
            known = _read_all(memory)
            _refuse_exchange(now, known)
            before = next((each for each in known if each.repository_id == now.repository_id), None)
            if before is not None:
                with _told_where(before, location):
                    _refuse_other_past(index, before)
            if now != before:
                _write(memory, now)
    except OSError as error:
        raise PublicationError(
            f"what was seen cannot be kept in {escaped(str(memory))}: {error.strerror}",
            next_step="name a folder that you may write to",
        ) from None


@contextmanager
def _told_where(before: Seen, location: str) -> Iterator[None]:
    """Say where the other one was seen: two repositories of one project look like a fork of one."""
    try:
        yield
    except IndexReplayed as error:
        if before.location == location:
            raise
        raise IndexReplayed(
            f"{error.what}; it was seen in {escaped(before.location)}, and this is {escaped(location)}",
            next_step="if these are two repositories by intention, publish into one of them under an id of its own "
            f"(id in [repository]); otherwise {error.next_step}",
        ) from None


def _refuse_other_past(index: Index, before: Seen) -> None:
    if index.revision < before.revision:
        raise refused(f"index.json has revision {index.revision}, and {before.revision} was seen before: a rollback")
    if index.revision == before.revision and index_sha256(index) != before.index_sha256:
        raise refused(f"there are two different indexes of revision {index.revision}: a fork")
    if tree_head(index.events.lines[: before.revision]) != before.root:
        raise refused(f"the first {before.revision} events are not those that were seen before: a fork")


def _refuse_exchange(now: Seen, known: list[Seen]) -> None:
    for each in known:
        if each.location == now.location and each.repository_id != now.repository_id:
            raise refused(
                f"{now.location} was the repository {each.repository_id} and is {now.repository_id} now: an exchange"
            )


def _read_all(memory: Path) -> list[Seen]:
    return [_read(path) for path in sorted(memory.glob("*.seen.json"))]


def _read(path: Path) -> Seen:
    try:
        with path.open("rb") as file:
            value = check(parse_canonical(file.read(_MAX_BYTES + 1), _MAX_BYTES), _SHAPE)
    except BadJson as error:
        # Never forgotten silently: that would let anything older in.
        raise VerificationError(
            f"{escaped(str(path))} {error}", next_step="it remembers what was seen; remove it only if you know why"
        ) from None
    return Seen(**{name: value[name] for name in value if name != "schema"})


def _write(memory: Path, seen: Seen) -> None:
    body = canonical_json(
        {
            "schema": _SCHEMA,
            "repository_id": seen.repository_id,
            "location": seen.location,
            "revision": seen.revision,
            "index_sha256": seen.index_sha256,
            "root": seen.root,
        }
    )
    with tempfile.NamedTemporaryFile(dir=memory, prefix=".seen-", delete=False) as file:
        try:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(memory / f"{seen.repository_id}.seen.json")
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


@contextmanager
def _alone(memory: Path) -> Iterator[None]:
    descriptor = os.open(memory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
