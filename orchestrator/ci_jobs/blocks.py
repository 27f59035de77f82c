"""A managed block in a file that people edit: what stands around it is theirs."""

from dataclasses import dataclass
from typing import Final

from orchestrator.errors import CiInvalid

BEGIN: Final = "# relbuild:begin"
END: Final = "# relbuild:end"
_SAID: Final = f"{BEGIN}  `relbuild ci {{provider}} --write` replaces all up to :end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A file in three: before the block, the block without its marks, and behind it."""

    before: str
    block: str
    after: str


def split(text: str, place: str) -> Parts | None:
    """Take a file apart; None where it has no block. Raises CiInvalid where the marks do not pair."""
    lines = text.splitlines(keepends=True)
    begins = [number for number, line in enumerate(lines) if line.strip().startswith(BEGIN)]
    ends = [number for number, line in enumerate(lines) if line.strip().startswith(END)]
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise CiInvalid(
            f"{place} has {len(begins)} '{BEGIN}' and {len(ends)} '{END}': one block is written, and no more",
            next_step="leave one pair of these lines, or move the file away and write it anew",
        )
    begin, end = begins[0], ends[0]
    return Parts(before="".join(lines[:begin]), block="".join(lines[begin + 1 : end]), after="".join(lines[end + 1 :]))


def join(parts: Parts, provider: str) -> str:
    """Put a file together again, with its marks."""
    return f"{parts.before}{_SAID.format(provider=provider)}\n{parts.block}{END}\n{parts.after}"
