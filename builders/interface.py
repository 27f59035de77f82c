"""The seam: what every builder can do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from builders.model import BuildEvents, BuiltFile, Cell, Libc, Material, Placement, Recipe, SmokeResult, Toolchain
from builders.targets import Target
from builders.world import Axis, AxisState, BuildWorld


class Builder(Protocol):
    """Turns cells into files. Implementations: local.py, container.py, buildx.py."""

    @property
    def name(self) -> str:
        """Say which builder this is, in the words of the documentation."""

    def toolchain(self, recipe: Recipe, target: Target, libc: Libc, placement: Placement) -> Toolchain:
        """Name what would compile this, by digest, without building anything.

        Raises ToolchainUnavailable where this builder has nothing that could.
        """

    def check(self, cells: Sequence[Cell]) -> None:
        """Raise a BuildError before anything is built, if one of these cells cannot work here."""

    def build(self, cell: Cell, out_dir: Path, events: BuildEvents) -> tuple[BuiltFile, ...]:
        """Run the recipe and copy the matching outputs into `out_dir`, an empty folder.

        Raises a CellError for what the recipe did, a BuildError for what the engine did, Interrupted when
        `events.cancelled` was set. Leaves no process and no container behind.
        """

    def smoke(self, cell: Cell, out_dir: Path, events: BuildEvents) -> SmokeResult:
        """Run the cell's smoke tests against the files in `out_dir`. Raises SmokeFailed."""

    def materials(self, cell: Cell) -> tuple[Material, ...]:
        """Name what the cell's toolchain consists of, sorted. Starts nothing where an earlier answer was kept.

        Raises a BuildError where the toolchain cannot be asked.
        """

    def axes(self, cell: Cell, other: BuildWorld) -> Mapping[Axis, AxisState]:
        """Say for every axis whether this cell can be given the other world's here, and what it usually is.

        Raises a BuildError where the engine cannot be asked.
        """

    def within(self, world: BuildWorld) -> "Builder":
        """Give this builder with its recipes in another world; STANDARD is the one that it has of itself."""
