"""The seam: who knows which checks of a commit are green."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRun:
    """One check of a commit. `conclusion` is the source's own word, and empty for a check that has not ended."""

    name: str
    conclusion: str
    url: str = ""


class CheckSource(Protocol):
    """Tells the checks of a commit. Implementations: signed_file.py, github.py."""

    def checks(self, commit: str) -> tuple[CheckRun, ...]:
        """Give all checks of exactly this commit. Raises RelbuildError for every doubt that there may be others."""
