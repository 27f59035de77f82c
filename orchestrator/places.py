"""What the paths of this machine are called in papers that go out."""

from collections.abc import Mapping
from pathlib import Path

from orchestrator.model import Built, Matrix


def places(built: Built, matrix: Matrix) -> Mapping[str, str]:
    """Give the paths of this machine that a note may name, and what to call them, longer ones first."""
    return named({built.cell.source.root: "$SOURCE", built.folder: "$OUT", matrix.root: "$PROJECT"})


def named(paths: Mapping[Path, str]) -> Mapping[str, str]:
    """Order names of paths for `neutral`; the root folder stays what it is."""
    return {str(path): paths[path] for path in sorted(paths, key=lambda path: -len(str(path))) if path.parent != path}


def neutral(text: str, names: Mapping[str, str]) -> str:
    """Put the names of `places` in the place of their paths."""
    for path, name in names.items():
        text = text.replace(path, name)
    return text
