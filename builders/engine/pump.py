"""Hands on a blocking stream while a cell's time-out and the wish to stop are watched."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from builders.errors import Interrupted, TimedOut
from builders.model import Cell

_POLL_S = 0.1
_JOIN_S = 10.0
_IN_FLIGHT = 64
_PIECE_BYTES = 1 << 18

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """When work for a cell has to stop: at a point of time.monotonic(), or as soon as `cancelled` is set."""

    cell_id: str
    timeout_s: float
    cancelled: threading.Event
    deadline: float

    def check(self) -> None:
        """Raise Interrupted or TimedOut where the time has come."""
        if self.cancelled.is_set():
            raise Interrupted(f"{self.cell_id}: stopped")
        if time.monotonic() > self.deadline:
            raise TimedOut(
                f"{self.cell_id}: took longer than {self.timeout_s:g} s and was killed",
                next_step="raise timeout_s of the product, or find out what it waits for in the cell's log",
            )

    def over(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Give chunks as they come, and check before each."""
        for chunk in chunks:
            self.check()
            yield chunk


def watch(cell: Cell, cancelled: threading.Event, timeout_s: float | None = None) -> Watch:
    """Start the clock of a cell, or of a shorter piece of work for it."""
    allowed = cell.limits.timeout_s if timeout_s is None else timeout_s
    return Watch(
        cell_id=cell.id, timeout_s=allowed, cancelled=cancelled, deadline=time.monotonic() + allowed
    )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Pump(Generic[Item]):
    """Reads a stream in a thread of its own, a few items ahead at the most, so that its reader never blocks.

    `close` must follow once the stream's other end is dead; it waits for the thread.
    """

    items: Iterable[Item]
    _queue: "queue.Queue[Item | BaseException | None]" = field(default_factory=lambda: queue.Queue(_IN_FLIGHT))
    _closed: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def run(self, take: Callable[[Item], None], check: Callable[[], None]) -> None:
        """Give every item to `take`, calling `check` all the while. Raises what reading the stream raised."""
        self._thread = threading.Thread(target=self._read, name="relbuild-pump", daemon=True)
        self._thread.start()
        while True:
            check()
            try:
                item = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            take(item)

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def _read(self) -> None:
        try:
            for item in self.items:
                if not self._put(item):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - it belongs to the thread that reads the queue
            self._put(error)

    def _put(self, item: Item | BaseException | None) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False


def in_pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Join small chunks to pieces worth a system call each."""
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        if len(waiting) >= _PIECE_BYTES:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)
