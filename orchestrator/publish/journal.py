"""What was tried and did not work: a local file of JSON lines, each with the digest of the one before.

It tells an owner what happened on this machine. Whoever can write the file can write all of it anew: it is no proof.
"""

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from builders.copying import make_folders, write_all
from builders.errors import RelbuildError
from builders.names import escaped
from orchestrator.canonical import Json
from orchestrator.errors import PublicationError, VerificationError
from orchestrator.publish.index_json import written
from orchestrator.verify.json_strict import TEXT, BadJson, check, integer, parse, record, text

_MAX_LINE_BYTES: Final = 1 << 16
_MAX_BYTES: Final = 256 << 20
_LINE = record(
    {"seq": integer, "prev": text(r"(?:[0-9a-f]{64})?", "digest"), "time": TEXT, "action": TEXT, "version": TEXT,
     "repository": TEXT, "error": TEXT, "exit_code": integer, "text": TEXT}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Something that was refused or failed. `error` names the class."""

    action: str
    version: str
    repository: str
    time: datetime
    error: str
    exit_code: int
    text: str

    @classmethod
    def of(cls, error: RelbuildError, *, action: str, version: str, repository: str, now: datetime) -> "Attempt":
        """Describe an attempt by the error that ended it."""
        return cls(
            action=action, version=version, repository=repository, time=now, error=type(error).__name__,
            exit_code=error.exit_code, text=error.what,
        )  # fmt: skip


def append_attempt(path: Path, attempt: Attempt) -> None:
    """Write one line more, durably. A last line that was cut off by a crash was never acknowledged, and is dropped.

    Raises PublicationError.
    """
    try:
        make_folders(path.parent)
        with _opened(path) as descriptor:
            seq, prev, end = _tail(_content(descriptor))
            os.ftruncate(descriptor, end)
            os.lseek(descriptor, end, os.SEEK_SET)
            write_all(descriptor, _line(attempt, seq, prev))
            os.fsync(descriptor)
    except OSError as error:
        raise PublicationError(
            f"the journal {escaped(str(path))} cannot be written: {error.strerror}", next_step="see who owns it"
        ) from None


def verify_journal(path: Path) -> int:
    """Check every line and give their number. Raises VerificationError that names the first line that fails."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except OSError as error:
        raise VerificationError(
            f"the journal {escaped(str(path))} cannot be read: {error.strerror}", next_step="name the right file"
        ) from None
    prev, count = "", 0
    for count, line in enumerate(data.splitlines(keepends=True), start=1):
        reason = _why_not(line, count, prev)
        if reason:
            raise VerificationError(
                f"line {count} of the journal {escaped(str(path))} {reason}",
                next_step="somebody changed it, or a crash cut it off; what stands before it holds",
            )
        prev = hashlib.sha256(line).hexdigest()
    return count


def _why_not(line: bytes, number: int, prev: str) -> str:
    if not line.endswith(b"\n"):
        return "is cut off"
    try:
        value = check(parse(line, _MAX_LINE_BYTES), _LINE)
    except BadJson as error:
        return str(error)
    if (value["seq"], value["prev"]) != (number, prev):
        return "does not follow the line before: one was removed, moved or changed"
    return ""


def _line(attempt: Attempt, seq: int, prev: str) -> bytes:
    value: dict[str, Json] = {
        "seq": seq,
        "prev": prev,
        "time": written(attempt.time),
        "action": attempt.action,
        "version": attempt.version[:200].encode("utf-8", "replace").decode(),
        "repository": attempt.repository[:1000].encode("utf-8", "replace").decode(),
        "error": attempt.error,
        "exit_code": attempt.exit_code,
        "text": attempt.text[:4000].encode("utf-8", "replace").decode(),
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PublicationError(f"the journal {escaped(str(path))} is no regular file", next_step="name another")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_size > _MAX_BYTES - _MAX_LINE_BYTES:
            raise PublicationError(f"the journal {escaped(str(path))} is full", next_step="move it away, and keep it")
        yield descriptor
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return file.read(_MAX_BYTES)


def _tail(data: bytes) -> tuple[int, str, int]:
    """Give the next line's number, the digest of the last whole line, and where it ends."""
    end = data.rfind(b"\n") + 1
    if not end:
        return 1, "", 0
    last = data[data.rfind(b"\n", 0, end - 1) + 1 : end]
    return data.count(b"\n", 0, end) + 1, hashlib.sha256(last).hexdigest(), end
