"""A stream that the store breaks off is taken up where it was, unless something else is there now."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

import pytest

from orchestrator.errors import OutcomeUnknown
from orchestrator.repositories.retrying import Patience, RetryingRepository
from orchestrator.repositories.streams import translated
from tests.repository_fake import MemoryRepository

KEY = PurePosixPath("v1/app")
BODY = bytes(range(256)) * 20_000


class BreaksOff(MemoryRepository):
    """Gives each of these bodies in turn, and breaks all but the last off after so many bytes."""

    bodies: list[bytes]
    after = 3 << 20

    @contextlib.contextmanager
    def open(self, key: PurePosixPath) -> Iterator[BinaryIO]:
        del key
        stream, left = io.BytesIO(self.bodies.pop(0)), self.after if self.bodies else 1 << 40

        def read(size: int) -> bytes:
            nonlocal left
            if not left:
                raise OutcomeUnknown("the connection broke")
            chunk = stream.read(min(size, left))
            left -= len(chunk)
            return chunk

        yield translated(read, contextlib.nullcontext)


def read(*bodies: bytes) -> bytes:
    inner = BreaksOff()
    inner.bodies = list(bodies)
    patience = Patience(attempts=3, first_pause_s=0.001, longest_pause_s=0.001)
    with RetryingRepository(inner, patience).open(KEY) as stream:
        return stream.read()


def test_a_stream_goes_on_where_it_was_broken_off() -> None:
    assert read(BODY, BODY, BODY) == BODY


@pytest.mark.parametrize("at", [0, (3 << 20) - 1])
def test_a_stream_never_goes_on_in_other_bytes(at: int) -> None:
    other = bytearray(BODY)
    other[at] ^= 1
    with pytest.raises(OutcomeUnknown, match="changed meanwhile"):
        read(BODY, bytes(other), bytes(other), bytes(other))


def test_a_stream_never_goes_on_in_what_is_shorter_now() -> None:
    with pytest.raises(OutcomeUnknown, match="changed meanwhile"):
        read(BODY, BODY[:100], BODY[:100], BODY[:100])
