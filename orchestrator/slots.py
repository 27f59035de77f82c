"""How many cells run side by side: bounded by number, processors and memory."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from builders.model import Limits

_POLL_S = 0.2


@dataclass(slots=True)
class Slots:
    """A budget. A cell that is larger than the whole budget still runs, alone."""

    most: int
    cpus: float
    memory_bytes: int
    _running: list[Limits] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @classmethod
    def of_this_machine(cls, jobs: int) -> "Slots":
        """Take `jobs` cells at once; 0 = one for each processor that this process may use."""
        cpus = len(os.sched_getaffinity(0))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(most=jobs or cpus, cpus=max(float(cpus), float(jobs)), memory_bytes=memory)

    @contextmanager
    def taken(self, limits: Limits, cancelled: threading.Event) -> Iterator[None]:
        """Wait for room for a cell, and hold it. A set `cancelled` ends the wait."""
        with self._changed:
            while not (self._fits(limits) or cancelled.is_set()):
                self._changed.wait(_POLL_S)
            self._running.append(limits)
        try:
            yield
        finally:
            with self._changed:
                self._running.remove(limits)
                self._changed.notify_all()

    def _fits(self, limits: Limits) -> bool:
        everyone = [*self._running, limits]
        return not self._running or (
            len(everyone) <= self.most
            and sum(each.cpus or 1.0 for each in everyone) <= self.cpus
            and sum(each.memory_bytes for each in everyone) <= self.memory_bytes
        )
