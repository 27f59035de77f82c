"""Measures whether a command starts slower than it did: old and new in turn, so that a busy machine slows both."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.validate.trials import Booth

MARGIN_S: Final = 0.001
"""A start that is later by less than this is the same to everyone, whatever the ratio."""

_SAMPLE_S, _ROUND_S = 0.06, 6.0
_MOST_STARTS, _FEWEST_PAIRS, _MOST_PAIRS, _ROUNDS = 64, 7, 15, 3
_CHANCE: Final = 0.05
_NANO: Final = 1e9
# The clock is read inside: the sandbox around it takes longer than most programs do. Needs GNU date, or one like it.
_LOOP: Final = (
    'n=$1; shift; start=$(date +%s%N); i=0; while [ "$i" -lt "$n" ]; do "$@" >/dev/null 2>&1; i=$((i+1)); done; '
    'end=$(date +%s%N); echo "$((end-start))"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What pairs of samples gave. Ratios are new to old; `low` and `high` hold the middle half of them."""

    ratio: float
    low: float
    high: float
    sure_above: float
    """The median ratio is above this with a chance of error below 5 % (order statistics, sign test)."""
    fastest_ratio: float
    """The fastest new sample to the fastest old one: other work on the machine only ever adds to a time."""
    old_s: float
    new_s: float
    pairs: int

    def __str__(self) -> str:
        times = f"{self.new_s * 1000:.1f} ms, before {self.old_s * 1000:.1f} ms"
        return f"{self.ratio:.2f} times ({times}; half of {self.pairs} ratios from {self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a command is slower than the budget allows, and what was measured."""

    slower: bool
    timing: Timing


Sample = Callable[[int], float]
"""Starts a command so many times, and gives the seconds that one start took."""


def sampler(place: Booth, words: Sequence[str]) -> Sample:
    """Give what samples a command. It raises ValueError where the machine's clock cannot be read in a sandbox."""

    def sample(starts: int) -> float:
        said = place.run(words, before=("sh", "-c", _LOOP, "sh", str(starts))).stdout.strip()
        if not said.isdigit():
            raise ValueError("`date +%s%N` gives no nanoseconds here")
        return int(said) / _NANO / starts

    return sample


def compare(old: Sample, new: Sample, budget: float) -> Verdict:
    """Measure until it is clear whether the ratio is beyond the budget; after three rounds the median decides."""
    first = max(old(1), new(1))
    starts = max(1, min(_MOST_STARTS, math.ceil(_SAMPLE_S / max(first, 1e-6))))
    pairs = max(_FEWEST_PAIRS, min(_MOST_PAIRS, int(_ROUND_S / (2 * starts * max(first, 1e-6)))))
    measured: list[tuple[float, float]] = []
    for number in range(1, _ROUNDS + 1):
        measured += [_pair(old, new, starts, turn) for turn in range(pairs)]
        timing = _timing(measured)
        beyond = timing.ratio > budget and timing.new_s - timing.old_s > MARGIN_S
        # Chance alone moves a median; it hardly moves the fastest of many samples as well.
        beyond = beyond and timing.fastest_ratio > 1 + (budget - 1) / 2
        if not beyond or timing.sure_above > budget or number == _ROUNDS:
            break
    return Verdict(slower=beyond, timing=timing)


def _pair(old: Sample, new: Sample, starts: int, turn: int) -> tuple[float, float]:
    # Who goes first changes, so that neither profits from what the other one warmed.
    if turn % 2:
        after = new(starts)
        return old(starts), after
    return old(starts), new(starts)


def _timing(pairs: Sequence[tuple[float, float]]) -> Timing:
    ratios = sorted(after / max(before, 1e-9) for before, after in pairs)
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Timing(
        fastest_ratio=min(after for _, after in pairs) / max(min(before for before, _ in pairs), 1e-9),
        ratio=statistics.median(ratios), low=low, high=high, sure_above=ratios[_rank(len(ratios))], pairs=len(pairs),
        old_s=statistics.median(before for before, _ in pairs), new_s=statistics.median(after for _, after in pairs),
    )  # fmt: skip


def _rank(count: int) -> int:
    """Give the place of the largest ratio that lies below the true median with a chance of error below 5 %."""
    chance, rank = 0.0, 0
    for place in range(count):
        chance += math.comb(count, place) / 2**count
        if chance > _CHANCE:
            break
        rank = place
    return rank
