"""How staged objects of a bucket come to their place: copied by the server where it proved fit, else through here.

A copy that the server makes spares a way there and back. It lands in an upload that nobody sees, with its SHA-256, and
completing that on If-None-Match is what creates the object; what a server makes of the condition there is tried first.
"""

import secrets
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import BinaryIO, Final, Protocol

from orchestrator.errors import OutcomeUnknown
from orchestrator.repositories import s3_probe, streams
from orchestrator.repositories.keys import PROBE
from orchestrator.repositories.s3_bucket import CREATE, Bucket
from orchestrator.repositories.s3_client import THREADS
from orchestrator.repositories.s3_errors import ConditionFailed
from orchestrator.repositories.s3_parts import PART_BYTES, copied

COPIED_FROM_BYTES: Final = 1 << 20
"""Smaller objects come and go in two requests, and a copy takes three."""
_COPIED_TO_BYTES: Final = 256 << 20
"""Larger ones would take a server longer than an answer is waited for."""
_WORTH_TRYING_BYTES: Final = 8 << 20
_LAST_KEYS: Final = 2
_NOTES: Final[Mapping[bool | None, str]] = {
    True: "the server copies files of 1 MiB to 256 MiB to their place; the rest comes through relbuild",
    False: "every file is moved through relbuild: the server's own copies did not prove fit, or took too long",
    None: "every file was moved through relbuild: less than 8 MiB are not worth trying the server's own copies",
}


class Send(Protocol):
    """Writes a stream as an object, checked."""

    def __call__(self, key: PurePosixPath, stream: BinaryIO, size: int, sha256: str, **condition: str) -> None: ...


class Moves:
    """The moves of one repository. It knows what was put there, and what the server was found to be fit for."""

    def __init__(self, bucket: Bucket, send: Send) -> None:
        self._bucket = bucket
        self._send = send
        self._put: dict[PurePosixPath, str] = {}
        self._copies: bool | None = None
        self._finding = threading.Lock()
        self._moved = False

    @property
    def note(self) -> str:
        """Say which way moved objects take; nothing before that is known."""
        return _NOTES[self._copies] if self._moved or self._copies is not None else ""

    def remember(self, key: PurePosixPath, sha256: str) -> None:
        """Note what an object was staged with: a copy of it is held against that."""
        self._put[key] = sha256

    def find_way(self, *, rounds: int) -> bool:
        """Find out, once, whether the server may copy; it is tried so many times. Raises OutcomeUnknown."""
        with self._finding:
            if self._copies is None:
                area = PurePosixPath(f"{PROBE}{secrets.token_hex(8)}")
                try:
                    self._copies = s3_probe.copies_on_condition(self._bucket, area, rounds)
                finally:
                    self._bucket.remove(area)
            return self._copies

    def move(
        self, staged: PurePosixPath, place: PurePosixPath, keys: Sequence[PurePosixPath], *,
        sizes: Mapping[PurePosixPath, int],
    ) -> None:  # fmt: skip
        """Create the objects side by side, then the last two of the keys one by one."""
        large = {key for key in keys if COPIED_FROM_BYTES <= sizes.get(staged / key, 0) <= _COPIED_TO_BYTES}
        worth = sum(sizes[staged / key] for key in large) >= _WORTH_TRYING_BYTES
        copied_keys = large if worth and self.find_way(rounds=s3_probe.FEWEST_ROUNDS) else set()
        moves = [partial(self._copy if key in copied_keys else self._carry, staged / key, place / key) for key in keys]
        self._moved = True
        streams.side_by_side(moves[:-_LAST_KEYS], THREADS)
        for move in moves[-_LAST_KEYS:]:
            move()
        if copied_keys or any(size > PART_BYTES for size in sizes.values()):
            # All is in its place: what a killed run had begun there, nobody needs any more.
            self._bucket.end_uploads(place)

    def _copy(self, staged: PurePosixPath, place: PurePosixPath) -> None:
        try:
            with copied(self._bucket, staged, place, self._promised(staged)) as (upload, parts):
                upload.complete(parts, **CREATE)
        except ConditionFailed:
            self._require_same(staged, place)
        except OutcomeUnknown:
            # Perhaps it takes longer than an answer is waited for: who asks again gets there without it.
            self._copies = False
            raise

    def _carry(self, staged: PurePosixPath, place: PurePosixPath) -> None:
        try:
            with self._bucket.got(staged) as (stream, answer):
                self._send(place, stream, answer["ContentLength"], self._bucket.promised(staged, answer), **CREATE)
        except ConditionFailed:
            self._require_same(staged, place)

    def _require_same(self, staged: PurePosixPath, place: PurePosixPath) -> None:
        """Refuse an object that is there already, unless it has the staged bytes."""
        if self._bucket.digest(staged) != self._bucket.digest(place):
            raise self._bucket.taken(place)

    def _promised(self, staged: PurePosixPath) -> str:
        if staged in self._put:
            return self._put[staged]
        with self._bucket.answered(staged):
            answer = self._bucket.client.head_object(**self._bucket.place(staged))
        return self._bucket.promised(staged, answer)
