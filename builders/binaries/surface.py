"""Says what a library offers to those that link with it: the symbols that it exports, and the name that it goes by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from builders.binaries import archive
from builders.binaries.facts import BinaryFacts, BinaryKind, CorruptBinary, Window, opened
from builders.binaries.inspection import inspect


class SymbolKind(StrEnum):
    """What stands behind a name, as far as the file tells."""

    FUNCTION = "function"
    OBJECT = "object"
    THREAD_LOCAL = "thread-local object"
    OTHER = "symbol"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A symbol. `size_bytes` is that of an object, which programs may have copied into themselves; else 0."""

    kind: SymbolKind
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """A library as others see it. Names are `symbol@VERSION` where symbols have versions, `#1` for a bare ordinal.

    `soname` is DT_SONAME, the install name of a dylib, the DLL's own name, or empty.
    """

    kind: BinaryKind
    soname: str
    exports: Mapping[str, Export] = field(default_factory=dict)


def read_surface(path: Path) -> Surface | None:
    """Give what a shared library or a static one offers; None for every other file.

    Raises GateFailed where the file is broken, or is an archive without a table of its symbols.
    """
    facts = inspect(path)
    if facts is None or facts.kind not in {BinaryKind.SHARED, BinaryKind.ARCHIVE}:
        return None
    with opened(path, mend="build it again, with `ar s` for a static library") as window:
        return _surface(window, facts)


def _surface(window: Window, facts: BinaryFacts) -> Surface:
    if facts.kind is BinaryKind.ARCHIVE:
        names = archive.symbol_names(window)
        if names is None:
            raise CorruptBinary("is a static library without a table of its symbols")
        return Surface(kind=facts.kind, soname="", exports=dict.fromkeys(sorted(names), Export(kind=SymbolKind.OTHER)))
    from builders.binaries.exports import exports  # noqa: PLC0415 - lief costs more than a second

    soname, found = exports(window, facts)
    return Surface(kind=facts.kind, soname=soname, exports=dict(sorted(found.items())))
