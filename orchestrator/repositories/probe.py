"""Holds a store to the promises that the commit rests on, by breaking them from many threads at once.

A store that ignores conditions answers "done" to everybody; one that checks and then writes in two steps is right
until two ask at the same instant. So both are tried, several times.
"""

import hashlib
import secrets
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Final, Protocol, TypeVar

from orchestrator.errors import KeyTaken, OutcomeUnknown, PointerMoved, RepositoryError
from orchestrator.repositories.interface import Pointer, PointerToken
from orchestrator.repositories.keys import PROBE

_AREAS: Final = 3
"""How often it is tried anew where others removed what was being tried."""
_RACERS: Final = 8
_ROUNDS: Final = 4
_TRIES: Final = 20

_Answer = TypeVar("_Answer")


class Located(Protocol):
    """What can be named in an error."""

    @property
    def location(self) -> str: ...


class Racing(Located, Protocol):
    """The part of a repository that is tried."""

    def put_new(self, key: PurePosixPath, body: bytes, sha256: str) -> None: ...

    def read_pointer(self, key: PurePosixPath) -> Pointer | None: ...

    def swap_pointer(self, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken: ...


class Cleared(Racing, Protocol):
    """What can be tried, and cleared of it again."""

    def delete(self, prefix: PurePosixPath) -> None: ...


def below_an_area(store: Cleared, tried: Callable[[PurePosixPath], None]) -> None:
    """Try a store below an area of its own, which is removed afterwards. Raises what `tried` does.

    Where nobody knows who lives, `relbuild recover` takes the area for what a killed probe left. What was seen of the
    store then says nothing, and it is tried anew.
    """
    for left in reversed(range(_AREAS)):
        area = PurePosixPath(f"{PROBE}{secrets.token_hex(8)}")
        mark, placed = area / "mark", False
        try:
            placed = _created(store, mark, b"a probe")
            tried(area)
        except RepositoryError:
            if not left or not placed or store.read_pointer(mark) is not None:
                raise
        else:
            return
        finally:
            store.delete(area)


def race(store: Racing, area: PurePosixPath, *, rounds: int = _ROUNDS, racers: int = _RACERS) -> None:
    """Refuse a store where a second create, a stale swap, or the loser of a race is told that it won."""
    _create_twice(store, area / "twice")
    _swap_stale(store, area / "stale")
    for number in range(rounds):
        _race_creates(store, area / f"create-{number}", racers)
        _race_swaps(store, area / f"swap-{number}", racers)


def refused(store: Located, what: str) -> RepositoryError:
    """Say what a store does not do, and that nothing can be published to it."""
    return RepositoryError(
        f"{store.location} {what}, so two publishers could overwrite each other's releases or publish broken ones",
        next_step="use a store that enforces conditional writes and checksums: docs/reference/stores.md names some",
    )


def _create_twice(store: Racing, key: PurePosixPath) -> None:
    if not _created(store, key, b"first"):
        raise refused(store, "refuses to create an object that is not there")
    if _created(store, key, b"second"):
        raise refused(store, "creates an object that is there already (it ignores If-None-Match)")
    _require_body(store, key, {b"first"})


def _swap_stale(store: Racing, key: PurePosixPath) -> None:
    first = _swapped(store, key, b"one", None)
    second = first and _swapped(store, key, b"two", first)
    if not first or not second:
        raise refused(store, "refuses to replace an object whose state is known")
    if _swapped(store, key, b"three", first) or _swapped(store, key, b"four", None):
        raise refused(store, "replaces an object that has changed (it ignores If-Match)")
    _require_body(store, key, {b"two"})


def _race_creates(store: Racing, key: PurePosixPath, racers: int) -> None:
    bodies = [f"racer {number}".encode() for number in range(racers)]
    won = at_once([partial(_created, store, key, body) for body in bodies])
    if won.count(True) > 1:
        raise refused(store, f"let {won.count(True)} of {racers} create the same object at the same time")
    _require_body(store, key, {body for body, winner in zip(bodies, won, strict=True) if winner} or set(bodies))


def _race_swaps(store: Racing, key: PurePosixPath, racers: int) -> None:
    before = _swapped(store, key, b"before", None)
    bodies = [f"racer {number}".encode() for number in range(racers)]
    won = [bool(token) for token in at_once([partial(_swapped, store, key, body, before) for body in bodies])]
    if won.count(True) > 1:
        raise refused(store, f"let {won.count(True)} of {racers} replace the same state at the same time")
    _require_body(store, key, {body for body, winner in zip(bodies, won, strict=True) if winner} or set(bodies))


def _created(store: Racing, key: PurePosixPath, body: bytes) -> bool:
    try:
        _patiently(lambda: store.put_new(key, body, hashlib.sha256(body).hexdigest()))
    except KeyTaken:
        return False
    return True


def _swapped(store: Racing, key: PurePosixPath, body: bytes, expected: PointerToken | None) -> PointerToken | None:
    try:
        return _patiently(lambda: store.swap_pointer(key, body, expected))
    except PointerMoved:
        return None


def _patiently(ask: Callable[[], _Answer]) -> _Answer:
    """Ask again after an answer that says neither yes nor no: a store may answer 409 while two requests meet."""
    for _ in range(_TRIES - 1):
        try:
            return ask()
        except OutcomeUnknown:
            continue
    return ask()


def _require_body(store: Racing, key: PurePosixPath, allowed: set[bytes]) -> None:
    found = store.read_pointer(key)
    if found is None or found.body not in allowed:
        raise refused(store, "does not give back what it said that it had written")


def at_once(asks: Sequence[Callable[[], _Answer]]) -> list[_Answer]:
    """Run all at the same instant, one thread each, and give the answers in order."""
    barrier = threading.Barrier(len(asks))
    answers: dict[int, _Answer] = {}
    failures: list[BaseException] = []

    def run(number: int, ask: Callable[[], _Answer]) -> None:
        barrier.wait()
        try:
            answers[number] = ask()
        except RepositoryError as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number, ask)) for number, ask in enumerate(asks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [answers[number] for number in range(len(asks))]
