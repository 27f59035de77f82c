"""Says which of the usual defences a program was built with. Reads headers and symbols, never the code itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from builders.binaries.facts import BinaryKind, opened
from builders.binaries.inspection import inspect


class Trait(StrEnum):
    """A defence."""

    PIE = "pie"
    RELRO = "relro"
    BIND_NOW = "bind_now"
    NX = "nx"
    CANARY = "canary"
    FORTIFY = "fortify"
    HIGH_ENTROPY = "high_entropy"
    GUARD_CF = "guard_cf"


class State(StrEnum):
    """Whether a program has a defence. HIDDEN: it may have it, and the file does not show it."""

    ON = "on"
    OFF = "off"
    HIDDEN = "cannot be seen"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is known of one defence, and why, where that is not plain."""

    state: State
    why: str = ""


Hardening = Mapping[Trait, Mark]


def read_hardening(path: Path) -> Hardening | None:
    """Give the defences of a program or a shared library; None for every other file.

    Of a universal file each defence is as good as in its worst slice. Raises GateFailed where the file is broken.
    """
    facts = inspect(path)
    if facts is None or facts.kind not in {BinaryKind.EXECUTABLE, BinaryKind.SHARED}:
        return None
    from builders.binaries.traits import traits  # noqa: PLC0415 - lief costs more than a second

    with opened(path, mend="build it again") as window:
        return traits(window, facts)
