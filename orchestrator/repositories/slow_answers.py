"""An end to answers that keep coming and never end: a server that sends a byte a second is never silent.

Only time spent waiting for bytes counts, so that a reader that is slow itself blames nobody. Silence ends before, by
the time-out that each client sets on its sockets.
"""

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long an answer may keep its reader waiting in all: the grace, and a second more for so many bytes of it.

    Amazon takes minutes to complete a large object, and sends spaces meanwhile.
    """

    grace_s: float = 300.0
    bytes_per_s: int = 4096


USUAL: Final = Pace()


def paced(pools: Mapping[str, Any], pace: Pace) -> dict[str, Any]:
    """Give the classes of urllib3's pools, by scheme, so that they end answers that keep no pace: by TimeoutError."""
    return {scheme: _paced_pool(pool, pace) for scheme, pool in pools.items()}


def _paced_pool(base: Any, pace: Pace) -> Any:
    connection = _paced_connection(base.ConnectionCls, pace)
    return type(f"Paced{base.__name__}", (base,), {"ConnectionCls": connection})


def _paced_connection(base: Any, pace: Pace) -> Any:
    def connect(self: Any) -> None:
        base.connect(self)
        self.sock = _PacedSocket(self.sock, pace)

    return type(f"Paced{base.__name__}", (base,), {"connect": connect})


class _PacedSocket:
    """A connected socket; whoever reads an answer makes a file of it, one for each answer."""

    def __init__(self, connected: Any, pace: Pace) -> None:
        self._connected = connected
        self._pace = pace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connected, name)

    def makefile(self, mode: str, buffering: int = -1) -> io.IOBase:
        assert mode == "rb", mode  # noqa: S101 - http.client and botocore open answers in no other way
        answer = _Answer(self._connected, self._pace, ends=buffering != 0)
        return io.BufferedReader(answer) if buffering else answer


class _Answer(io.RawIOBase):
    """Reads an answer. `ends`: its end is for the reader to understand; else it is an error.

    botocore reads "100 Continue" without a buffer, and waits for the empty line behind it even where nothing comes.
    """

    def __init__(self, connected: Any, pace: Pace, *, ends: bool) -> None:
        super().__init__()
        self._connected = connected
        self._raw = connected.makefile("rb", 0)
        self._pace = pace
        self._ends = ends
        self._waited_s = 0.0
        self._came = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]  # it is always a memoryview here
        silence_s = self._connected.gettimeout()
        left_s = self._pace.grace_s + self._came / self._pace.bytes_per_s - self._waited_s
        if left_s <= 0:
            raise TimeoutError(f"after {self._came} bytes the answer had not ended")
        self._connected.settimeout(left_s if silence_s is None else min(silence_s, left_s))
        began = time.monotonic()
        try:
            count: int | None = self._raw.readinto(buffer)
        finally:
            self._waited_s += time.monotonic() - began
            self._connected.settimeout(silence_s)
        if not count and not self._ends:
            raise ConnectionResetError("the answer ended within")
        self._came += count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
