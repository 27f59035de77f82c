"""Compares the libraries of two payloads: what programs that use the old one would miss in the new one."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from builders.binaries.facts import BinaryKind
from builders.binaries.surface import Surface, SymbolKind, read_surface
from builders.errors import GateFailed
from orchestrator.validate.values import Finding, Gap, Released

_SUFFIXES: Final = re.compile(r"(\.so|\.dylib|\.dll|\.a|\.lib)\b.*\Z", re.IGNORECASE)
_VERSION_IN_NAME: Final = re.compile(r"[-.]?\d+(\.\d+)*\Z")
_SHOWN: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library of a payload; `path` is relative to it."""

    path: PurePosixPath
    file: Path
    surface: Surface

    @property
    def name(self) -> str:
        """The name by which programs ask for it: SONAME, or the file's where it has none."""
        return self.surface.soname or self.path.name

    @property
    def stem(self) -> str:
        """What stays of the name when its version changes: libz of libz.so.1 and of libz.1.dylib."""
        return _VERSION_IN_NAME.sub("", _SUFFIXES.sub("", PurePosixPath(self.name).name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A library and what replaces it; None where nothing does."""

    old: Library
    new: Library | None


def libraries(artifact: Released, folder: Path) -> tuple[list[Library], list[Gap]]:
    """Read every shared and static library of a payload, and name the files that cannot be read."""
    found, gaps = [], []
    for path in sorted(each.relative_to(folder) for each in folder.rglob("*") if each.is_file()):
        try:
            surface = read_surface(folder / path)
        except GateFailed as error:
            said = error.what.removeprefix(f"{folder / path} ")
            gaps.append(Gap(rule="symbols", place=f"{artifact.place}: {path}", reason=f"the file {said}"))
            continue
        if surface is not None:
            found.append(Library(path=PurePosixPath(path), file=folder / path, surface=surface))
    return found, gaps


def steps(old: list[Library], new: list[Library]) -> list[Step]:
    """Match libraries: by the name that programs ask for, then by path, then by name without version."""
    left = list(new)
    matched: dict[int, Library] = {}
    for same in _SAME:
        for number, each in enumerate(old):
            if number not in matched and (found := _find(each, left, same)):
                matched[number] = found
                left.remove(found)
    return [Step(old=each, new=matched.get(number)) for number, each in enumerate(old)]


_SAME: Final[tuple[Callable[[Library], object], ...]] = (
    lambda each: (each.surface.kind, each.surface.soname, each.path),
    lambda each: (each.surface.kind, each.name),
    lambda each: (each.surface.kind, each.path),
    lambda each: (each.surface.kind, each.stem),
)


def _find(wanted: Library, among: list[Library], same: Callable[[Library], object]) -> Library | None:
    return next((each for each in among if same(each) == same(wanted)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Something that users of a library lose. `name` is what `allow_api_breaks` calls it."""

    rule: str
    name: str
    text: str


def losses(step: Step) -> Iterator[Loss]:
    """Give what is lost from one release to the next."""
    old, new = step.old, step.new
    if new is None:
        yield Loss(rule="library_gone", name=f"soname:{old.name}", text=f"the library {old.name} is gone")
        return
    if old.name != new.name and (old.surface.soname or new.surface.soname):
        text = f"its SONAME was {old.name} and is {new.name}: programs linked with it do not start"
        yield Loss(rule="soname", name=f"soname:{old.name}", text=text)
    rule = "static_symbol_gone" if old.surface.kind is BinaryKind.ARCHIVE else "symbol_gone"
    for name in old.surface.exports:
        if not _still_there(name, new.surface.exports):
            yield Loss(rule=rule, name=name, text=name)
    for name, before in old.surface.exports.items():
        after = new.surface.exports.get(name)
        if after is None or before == after or {before.kind, after.kind} == {SymbolKind.FUNCTION, SymbolKind.OTHER}:
            continue
        if before.kind is not after.kind:
            yield Loss(rule="symbol_changed", name=name, text=f"{name} (was a {before.kind}, is a {after.kind})")
        elif before.size_bytes != after.size_bytes:
            sizes = f"{before.size_bytes} bytes, now {after.size_bytes}"
            yield Loss(rule="symbol_changed", name=name, text=f"{name} ({sizes}; programs may hold a copy)")


def _still_there(name: str, exports: Mapping[str, object]) -> bool:
    # A program that was linked without versions takes whatever version the library has.
    return name in exports or ("@" not in name and any(each.startswith(f"{name}@") for each in exports))


_HEADINGS: Final = {
    "symbol_gone": "exports no longer",
    "static_symbol_gone": "holds no longer",
    "symbol_changed": "exports otherwise",
}


def told(losses_of_one_rule: list[Loss], place: str) -> Finding:
    """Make one finding of all losses of a library that break one rule."""
    rule = losses_of_one_rule[0].rule
    names = ", ".join(each.text for each in losses_of_one_rule[:_SHOWN])
    more = f" and {len(losses_of_one_rule) - _SHOWN} more" if len(losses_of_one_rule) > _SHOWN else ""
    heading = _HEADINGS.get(rule)
    return Finding(rule=rule, place=place, text=f"{heading}: {names}{more}" if heading else names + more)
