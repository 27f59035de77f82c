"""A cell's log: what its recipe printed, made harmless, in its own file and line by line for the terminal."""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

_LINE_LIMIT = 16 * 1024
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape(line: bytes) -> str:
    """Give a line as text in which no character moves a cursor, starts a colour, or forges another line.

    A leading `::` is broken up, because CI services take it for a command of theirs.
    """
    text = _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", line.decode("utf-8", "backslashreplace"))
    return text.replace("::", ":\\x3a", 1) if text.lstrip().startswith("::") else text


class CellLog:
    """Takes a recipe's output (`BuildEvents`); keeps at most `limit_bytes` of it, and says how much was left out."""

    def __init__(
        self,
        path: Path,
        *,
        limit_bytes: int,
        cancelled: threading.Event,
        on_line: Callable[[str], None],
        on_step: Callable[[str], None],
    ) -> None:
        self.path = path
        self.cancelled = cancelled
        self._limit = limit_bytes
        self._on_line = on_line
        self._on_step = on_step
        self._pending = b""
        self._written = 0
        self._dropped = 0
        self.documents: dict[str, bytes] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8", buffering=1 << 16)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pending:
            self._line(self._pending)
        if self._dropped:
            self._file.write(f"[{self._dropped} bytes more were printed and not kept]\n")
        self._file.close()

    def output(self, chunk: bytes) -> None:
        """Take bytes that the recipe printed."""
        if self._written > self._limit:
            self._dropped += len(chunk)
            return
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._pending) > _LINE_LIMIT:
            self._line(self._pending)
            self._pending = b""

    def step(self, text: str) -> None:
        """Take one line about what the builder itself does."""
        self.remark(text)
        self._on_step(text)

    def attach(self, name: str, content: bytes) -> None:
        """Take a document about the build; one of the same name gives way."""
        self.documents[name] = content

    def remark(self, text: str) -> None:
        """Write a line of relbuild's own that only readers of the log want."""
        self._file.write(f"[relbuild] {text}\n")

    def _line(self, line: bytes) -> None:
        text = escape(line.rstrip(b"\r"))
        self._written += len(line) + 1
        self._file.write(text + "\n")
        self._on_line(text)
