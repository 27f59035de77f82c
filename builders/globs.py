"""Globs of outputs: `*`, `?` and `[...]` within one segment, `**` as a segment across any number of folders."""

import fnmatch
import re
from collections.abc import Sequence


class Glob:
    """A pattern for paths relative to $OUT. Case counts, and a leading dot is nothing special."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        segments = [part for part in pattern.split("/") if part not in {"", "."}]
        self._segments = [None if part == "**" else re.compile(fnmatch.translate(part)) for part in segments]

    def matches(self, path: str) -> bool:
        """Tell whether the pattern takes a path."""
        parts = path.split("/")
        # reached holds the numbers of segments that the parts so far may have used up.
        reached = self._skipping({0})
        for part in parts:
            reached = self._skipping(self._after(reached, part))
        return len(self._segments) in reached

    def _after(self, reached: set[int], part: str) -> set[int]:
        after = set()
        for at in reached:
            if at < len(self._segments):
                segment = self._segments[at]
                if segment is None:
                    after.add(at)
                elif segment.match(part):
                    after.add(at + 1)
        return after

    def _skipping(self, reached: set[int]) -> set[int]:
        """Add what is reached by letting `**` stand for no folder at all."""
        for at in sorted(reached):
            step = at
            while step < len(self._segments) and self._segments[step] is None:
                step += 1
                reached.add(step)
        return reached


def any_matches(globs: Sequence[Glob], path: str) -> bool:
    """Tell whether one of the patterns takes a path."""
    return any(glob.matches(path) for glob in globs)
