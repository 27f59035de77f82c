"""What a run tells its observers while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.model import CellResult, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class CellStarted:
    cell: str
    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellStep:
    """A line about what the builder itself does."""

    cell: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOutput:
    """A line that the recipe printed, escaped."""

    cell: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFinished:
    result: CellResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A line about the run as a whole."""

    text: str


Event = RunStarted | CellStarted | CellStep | CellOutput | CellFinished | Note
Observer = Callable[[Event], None]
