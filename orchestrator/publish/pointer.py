"""The one mutable object: index.json, believed only with its signature, replaced only on condition."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from orchestrator.errors import AtomicPublishError, IndexInvalid, IndexReplayed, OutcomeUnknown, PointerMoved
from orchestrator.publication import INDEX, INDEX_SIGNATURES, Index, IndexKeys, IndexTrust
from orchestrator.publish.index import check_extension, encode_index, parse_next, sha256_of
from orchestrator.publish.staging import create, read_or_none
from orchestrator.repositories.interface import PointerToken, Repository

_TRIES: Final = 200
"""A swap is lost only to somebody else's, so this many publishers at once get through, each in its turn."""
_LOST_TRIES: Final = 5
"""A store that answers none of so many swaps is down, however patiently each was asked."""
_LONGEST_PAUSE_S: Final = 0.2

Change = Callable[[Index | None], Index | None]
"""Gives the next index, or None where nothing is left to do. It is asked again whenever somebody else was first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An index that was proven, the state that it was read in, and its digest. Before the first publish: None, ""."""

    index: Index | None
    body: bytes
    token: PointerToken | None

    @property
    def sha256(self) -> str:
        return sha256_of(self.body) if self.index else ""


class KnownIndex:
    """What this process has seen of a repository's index; it never believes less than that again."""

    def __init__(self, repository: Repository, trust: IndexTrust) -> None:
        self.repository = repository
        self._trust = trust
        self._last = Seen(index=None, body=b"", token=None)
        self._made: Index | None = None

    @property
    def last(self) -> Seen:
        """Give what was read last; somebody may have changed it since."""
        return self._last

    def read(self) -> Seen:
        """Give the index as it is now. Raises VerificationError where it is not signed, or not what became of it."""
        pointer = self.repository.read_pointer(INDEX)
        if pointer is None:
            if self._last.index is not None:
                raise IndexReplayed(
                    f"{INDEX} vanished from {self.repository.location}",
                    next_step="somebody removed it: restore the repository, then run again",
                )
            return self._last
        index = self._last.index
        if index is None or pointer.body != self._last.body:
            index = self._proven(pointer.body)
        self._last = Seen(index=index, body=pointer.body, token=pointer.token)
        return self._last

    def sign(self, index: Index, keys: IndexKeys) -> bytes:
        """Give the bytes of the next index, its signature put in place first: what readers will see holds already."""
        body = encode_index(index)
        key = index_signature(sha256_of(body))
        # Two finishers may write the same index; signatures of equal bytes differ, and either serves.
        signature = create(self.repository, key, keys.sign_index(body))
        self._trust.check_index(body, signature)
        self._made = self._extends(parse_next(self._last.index, body))
        return body

    def _proven(self, body: bytes) -> Index:
        key = index_signature(sha256_of(body))
        signature = read_or_none(self.repository, key)
        if signature is None:
            raise IndexInvalid(
                f"{INDEX} in {self.repository.location} has no signature at {key}",
                next_step="relbuild signs before it swaps: somebody else wrote this index; restore the last signed one",
            )
        self._trust.check_index(body, signature)
        return self._extends(self._parsed(body))

    def _parsed(self, body: bytes) -> Index:
        # What this process made was read before it was put here, and these are its very bytes.
        mine = self._made is not None and self._made.sha256 == sha256_of(body)
        return self._made if self._made and mine else parse_next(self._last.index, body)

    def _extends(self, index: Index) -> Index:
        if self._last.index is not None:
            check_extension(self._last.index, index)
        return index


def index_signature(sha256: str) -> PurePosixPath:
    """Name the signature of the index with this digest."""
    return INDEX_SIGNATURES / f"{sha256}.sigstore.json"


def commit(known: KnownIndex, keys: IndexKeys, change: Change) -> Seen:
    """Replace the index until `change` has nothing left to do, and give what then stands there, read back.

    Raises what `change` raises; OutcomeUnknown where no answer came; AtomicPublishError where somebody else was faster
    every time.
    """
    lost: list[OutcomeUnknown] = []
    for turn in range(_TRIES):
        # What was read before serves for the first turn: the swap fails where it is no longer so.
        seen = known.read() if turn or known.last.index is None else known.last
        wanted = change(seen.index)
        if wanted is None:
            return seen
        if len(lost) == _LOST_TRIES:
            raise lost[-1]
        try:
            known.repository.swap_pointer(INDEX, known.sign(wanted, keys), seen.token)
        except PointerMoved:
            _give_way(turn)
        except OutcomeUnknown as error:
            lost.append(error)
            # The next turn reads whether it happened.
            continue
    raise AtomicPublishError(
        f"{INDEX} in {known.repository.location} was changed by others {_TRIES} times in a row",
        next_step="run `relbuild recover` when fewer publish at once",
    )


def _give_way(turn: int) -> None:
    # Chance keeps many publishers apart; nothing rests on how long it takes.
    time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.005 * (turn + 1))))  # noqa: S311 - no secret
