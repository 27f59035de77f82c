"""matrix.toml -> Matrix: whole or not at all, every problem at once, each with its line.

lines and reading turn bytes into tables and know no keys; texts and shapes say what may stand where; meaning, products,
targeting and archives hold the rules between keys; problems gives every broken rule its line and its words.
"""

from pathlib import Path

from orchestrator.errors import ConfigInvalid, ConfigNotFound
from orchestrator.model import Matrix

FILE_NAME = "matrix.toml"


def find(start: Path) -> Path:
    """Give the nearest matrix.toml in this folder or above it. Raises ConfigNotFound."""
    folder = start.absolute()
    for place in (folder, *folder.parents):
        if (place / FILE_NAME).is_file():
            return place / FILE_NAME
    raise ConfigNotFound(
        f"there is no {FILE_NAME} in {folder} or in a folder above it",
        next_step="write one with `relbuild init`, or name one with --config",
    )


def load(path: Path) -> Matrix:
    """Give the matrix that a file describes.

    Raises ConfigNotFound where there is no readable file, ConfigSyntax where it is not TOML, ConfigInvalid with every
    broken rule.
    """
    from orchestrator.config import meaning, problems, reading  # noqa: PLC0415 - pydantic takes 0.1 s to import

    raw, lines = reading.read_toml(path)
    drafts: list[problems.Draft] = []
    shape, left_out = problems.read_shapes(raw, drafts)
    matrix = meaning.matrix(path, shape, lines, left_out=left_out, drafts=drafts)
    if drafts:
        raise ConfigInvalid(problems.problems(drafts, path, lines))
    return matrix


def json_schema() -> str:
    """Give the JSON Schema (2020-12) of matrix.toml as canonical text."""
    from orchestrator.config.json_form import schema_text  # noqa: PLC0415 - pydantic takes 0.1 s to import

    return schema_text()
