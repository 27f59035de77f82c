"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.model import EngineKind

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="The matrix.toml to use; default: the nearest one above.")
]
Targets = Annotated[
    list[str] | None,
    typer.Option("--targets", "-t", help="Targets or aliases, comma-separated or repeated; default: all."),
]
Products = Annotated[
    list[str] | None, typer.Option("--products", "-p", help="Products, comma-separated or repeated; default: all.")
]
EngineChoice = Annotated[
    EngineKind | None, typer.Option("--engine", help="What builds; auto takes docker where a daemon answers.")
]
ForbidEmulation = Annotated[
    bool, typer.Option("--forbid-emulation", help="Fail where only QEMU could build a cell that did not ask for it.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The folder to write; default: dist beside matrix.toml.")
]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", min=0, help="Cells side by side; 0: by the CPUs.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first required cell that fails.")]
Clean = Annotated[bool, typer.Option("--clean", help="Forget the finished cells of every engine and build again.")]


def target_names(given: list[str] | None) -> tuple[str, ...]:
    """Take lists of targets apart, aliases by their targets' names."""
    from builders import targets  # noqa: PLC0415  (only where somebody asks)

    return tuple(dict.fromkeys(found.name if (found := targets.find(name)) else name for name in names(given)))


def names(given: list[str] | None) -> tuple[str, ...]:
    """Take lists apart: `-t a,b -t c` names three."""
    parts = (part.strip() for text in given or () for part in text.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))
