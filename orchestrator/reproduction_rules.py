"""What `[reproduce]` says: what a release must have been proved before it is published, and in which worlds."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from builders.world import Axis


class ReproductionGate(StrEnum):
    """What it means for publishing that a release was not proved reproducible."""

    BLOCK = "block"
    WARN = "warn"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproductionRules:
    """`rebuilders` different keys must say that these very bytes came out again.

    `keys` are the public keys of rebuilders, beside those of the trust file. `libfaketime` is a library's path, where
    it does not lie in Debian's place. `rebuilds` bounds how many further builds may look for what made bytes differ.
    """

    gate: ReproductionGate = ReproductionGate.WARN
    rebuilders: int = 1
    axes: tuple[Axis, ...] = tuple(Axis)
    keys: tuple[Path, ...] = ()
    libfaketime: Path | None = None
    rebuilds: int = 12
