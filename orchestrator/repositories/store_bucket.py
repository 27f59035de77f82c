"""What a bucket of any provider is: keys below a prefix, names for people, and a client that is made late."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import PurePosixPath
from typing import Any

from builders.names import escaped, shown_url
from orchestrator.errors import KeyTaken

Answered = Callable[[str], AbstractContextManager[None]]
"""Turns a provider's errors about a thing, which it names, into ours."""


class StoreBucket:
    """A bucket, or what lies below a prefix of one; `connect` is called when it is first needed."""

    def __init__(
        self, scheme: str, name: str, prefix: str, endpoint: str, *, connect: Callable[[], Any], answered: Answered
    ) -> None:  # fmt: skip
        self.name = name
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._scheme = scheme
        self._at = f" at {shown_url(endpoint)}" if endpoint else ""
        self._answered = answered
        self._connect = connect
        self._connected: Any = None
        self._connecting = threading.Lock()

    @property
    def location(self) -> str:
        return f"{self._scheme}://{self.name}/{self.prefix}".rstrip("/") + self._at

    @property
    def connected(self) -> Any:
        """Give what `connect` made."""
        with self._connecting:
            if self._connected is None:
                with self.answered(PurePosixPath()):
                    self._connected = self._connect()
            return self._connected

    def key(self, key: PurePosixPath) -> str:
        return f"{self.prefix}{key.as_posix()}"

    def shown(self, key: PurePosixPath) -> str:
        """Name an object, and the server where it is not the provider's own, for people."""
        return escaped(f"{self._scheme}://{self.name}/{self.key(key) if key.parts else self.prefix}") + self._at

    def answered(self, key: PurePosixPath) -> AbstractContextManager[None]:
        return self._answered(self.shown(key))

    def taken(self, key: PurePosixPath) -> KeyTaken:
        return KeyTaken(f"{self.shown(key)} is there already", next_step="choose another version: nothing is replaced")
