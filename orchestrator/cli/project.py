"""`relbuild init` and `relbuild schema`."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.errors import ConfigError


def init(
    folder: Annotated[Path, typer.Argument(help="The project's folder.")] = Path(),
) -> None:
    """Write a commented matrix.toml for the project that stands here."""
    from orchestrator import scaffold  # noqa: PLC0415  (costs; only this command wants it)

    path = folder / "matrix.toml"
    if path.is_symlink() or path.exists():
        raise ConfigError(f"{path} exists already", next_step="edit it, or move it away first")
    text = scaffold.propose(folder)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    print(f"wrote {path}")
    print("next: read it, then `relbuild plan` and `relbuild matrix --targets all`")


def schema() -> None:
    """Print the JSON Schema of matrix.toml."""
    from orchestrator import config  # noqa: PLC0415  (costs; only this command wants it)

    print(config.json_schema(), end="")
