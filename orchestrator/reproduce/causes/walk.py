"""Walks from two artifacts that differ to the places where they do, through archives in archives.

Nothing is executed or written but copies without a name; what breaks its own form is compared as bytes.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builders.binaries.facts import Window, open_regular, printable
from builders.tar_stream import Malformed
from orchestrator.reproduce.causes.containers import (
    BROKEN,
    ArFile,
    Container,
    Folder,
    TarFile,
    ZipFile,
    copied,
    decompressed,
    digested,
    extracted,
)
from orchestrator.reproduce.causes.gzip_header import gzip_findings
from orchestrator.reproduce.causes.members import Key, Member, compare_members, keyed
from orchestrator.reproduce.causes.pieces import Finding
from orchestrator.reproduce.causes.programs import reader_of
from orchestrator.reproduce.causes.regions import are_equal, byte_findings
from orchestrator.reproduce.causes.settled import settled
from orchestrator.reproduce.causes.texts import is_text, text_findings
from orchestrator.reproduce.causes.values import (
    MAX_CAUSES,
    MAX_CAUSES_PER_FILE,
    MAX_DEPTH,
    MAX_FILES,
    Cause,
    CauseKind,
    Hints,
)

_COPIED_BYTES = 1 << 30
_TAR_MAGIC_AT = 257
_MAGICS: Final = (
    (b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"PK\x03\x04", "zip"), (b"!<arch>\n", "ar"),
)  # fmt: skip
_COMPRESSED: Final = frozenset({"gzip", "bzip2", "xz"})
_PACKED: Final = _COMPRESSED | {"zip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A finding and its whole place."""

    place: str
    finding: Finding


def explain(first: Path, second: Path, hints: Hints) -> tuple[Cause, ...]:
    """Say why two artifacts, or two unpacked folders, differ: no cause where they do not.

    Tar (plain, gz, bz2, xz), zip, static libraries, ELF, texts and other bytes are looked into; memory stays flat, and
    at most MAX_CAUSES are told. Raises GateFailed where one of the two is neither a folder nor a file to be read.
    """
    walk = _Walk(hints=hints)
    found = _folders(walk, first, second) if first.is_dir() and second.is_dir() else _files(walk, first, second)
    return settled([(row.place, row.finding) for row in found], hints)[:MAX_CAUSES]


def _folders(walk: "_Walk", first: Path, second: Path) -> list[Found]:
    try:
        return walk.containers(Folder(first), Folder(second), "", 0)
    except BROKEN as error:
        return [_closed("", "a folder", error)]


def _files(walk: "_Walk", first: Path, second: Path) -> list[Found]:
    with ExitStack() as stack:
        fds = []
        for path in (first, second):
            fds.append(open_regular(path))
            stack.callback(os.close, fds[-1])
        return walk.file(fds[0], fds[1], "", 0)


@dataclass(slots=True)
class _Walk:
    """What is to be known everywhere, and how many files may still be looked into."""

    hints: Hints
    files_left: int = MAX_FILES

    def file(self, first: int, second: int, place: str, depth: int) -> list[Found]:
        """Explain two open files. Each way of reading starts anew, as windows bound how often they are read."""

        def windows() -> tuple[Window, Window]:
            sizes = os.fstat(first).st_size, os.fstat(second).st_size
            return Window(first, 0, sizes[0]), Window(second, 0, sizes[1])

        if are_equal(*windows()):
            return []
        try:
            found = self._by_form(*windows(), place, depth)
        except BROKEN as error:
            form = form_of(windows()[0])
            # Compressed bytes tell nothing, and may look like anything.
            found = [_closed(place, form, error)] if form in _PACKED else []
        return (found or self._plain(*windows(), place))[:MAX_CAUSES]

    def _by_form(self, first: Window, second: Window, place: str, depth: int) -> list[Found]:
        form, other = form_of(first), form_of(second)
        if form != other:
            what = f"it is {form} in the first, {other} in the second"
            return [Found(place=place, finding=Finding(kind=CauseKind.UNKNOWN, at=0, what=what, weak=True))]
        if depth >= MAX_DEPTH and form != "plain":
            raise Malformed(f"it lies {depth} archives deep")
        if form in _COMPRESSED:
            return self._compressed(first, second, form, place, depth)
        container = _CONTAINERS.get(form)
        if container:
            found = self.containers(container(first), container(second), place, depth)
            return found or ([_only_packed(place, form)] if form in _PACKED else [])
        spots = reader_of(first, second)
        return [Found(place=joined(place, _in_section(spot.section, spot.finding)), finding=spot.finding)
                for spot in (spots(first, second, self.hints) if spots else ())]  # fmt: skip

    def _plain(self, first: Window, second: Window, place: str) -> list[Found]:
        if is_text(first) and is_text(second):
            return [Found(place=joined(place, f"line {row.at}"), finding=row)
                    for row in text_findings(first, second, self.hints)][:MAX_CAUSES_PER_FILE]  # fmt: skip
        return [Found(place=joined(place, _at(row.at)), finding=row)
                for row in byte_findings(first, second, self.hints)][:MAX_CAUSES_PER_FILE]  # fmt: skip

    # --- what holds files ----------------------------------------------------------------------------------------

    def _compressed(self, first: Window, second: Window, form: str, place: str, depth: int) -> list[Found]:
        heads = gzip_findings(first, second, self.hints) if form == "gzip" else []
        found = [Found(place=joined(place, "gzip header"), finding=row) for row in heads]
        try:
            if _holds_tar(first, form) and _holds_tar(second, form):
                found += self.containers(TarFile(first, form), TarFile(second, form), place, depth)
            if len(found) == len(heads):
                found += self._unpacked(first, second, form, place, depth)
        except BROKEN:
            if not found:
                raise
        return found or [_only_packed(place, form)]

    def _unpacked(self, first: Window, second: Window, form: str, place: str, depth: int) -> list[Found]:
        with ExitStack() as stack:
            copies = [copied(decompressed(window, form), _COPIED_BYTES, stack) for window in (first, second)]
            return self.file(copies[0].fileno(), copies[1].fileno(), joined(place, "unpacked"), depth + 1)

    def containers(self, first: Container, second: Container, place: str, depth: int) -> list[Found]:
        """Explain two containers: what they say of their files, then the files that differ."""
        mine, other = keyed(digested(first)), keyed(digested(second))
        found = [Found(place=joined(place, printable(told.name)), finding=told.finding)
                 for told in compare_members(mine, other, self.hints)]  # fmt: skip
        apart = _differing(mine, other)
        wanted = apart[: self.files_left]
        self.files_left -= len(wanted)
        found += self._contents(first, second, wanted, place, depth)
        return found + ([_left_out(place, len(apart) - len(wanted))] if len(apart) > len(wanted) else [])

    def _contents(
        self, first: Container, second: Container, wanted: list[Key], place: str, depth: int
    ) -> Iterator[Found]:
        if not wanted:
            return
        limit = _COPIED_BYTES // len(wanted)
        with ExitStack() as stack:
            mine, other = (extracted(container, wanted, limit, stack) for container in (first, second))
            for key in wanted:
                inside = joined(place, printable(key[0]))
                found = self.file(mine[key].fileno(), other[key].fileno(), inside, depth + 1)
                yield from found or [_too_long(inside, limit)]


def _differing(first: Mapping[Key, Member], second: Mapping[Key, Member]) -> list[Key]:
    return [key for key, member in first.items() if key in second and member.digest != second[key].digest]


def _holds_tar(window: Window, form: str) -> bool:
    head = next(decompressed(window, form), b"")
    return head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar"


def form_of(window: Window) -> str:
    """Name the form of a file by its first bytes."""
    head = window.at(0, min(window.size, _TAR_MAGIC_AT + 5))
    if head[_TAR_MAGIC_AT:] == b"ustar":
        return "tar"
    return next((form for magic, form in _MAGICS if head.startswith(magic)), "plain")


_CONTAINERS: Final[Mapping[str, Callable[[Window], Container]]] = {
    "tar": lambda window: TarFile(window, "plain"), "zip": ZipFile, "ar": ArFile,
}  # fmt: skip


def _only_packed(place: str, form: str) -> Found:
    what = f"the contents are equal, and the {form} around them is not"
    return Found(place=place, finding=Finding(kind=CauseKind.COMPRESSION, at=0, what=what))


def _closed(place: str, form: str, error: Exception) -> Found:
    what = f"it cannot be looked into as {form}: {printable(str(error).encode('utf-8', 'replace')) or 'it is broken'}"
    return Found(place=place, finding=Finding(kind=CauseKind.UNKNOWN, at=0, what=what, weak=True))


def _left_out(place: str, count: int) -> Found:
    what = f"{count} more of its files differ and were not looked into"
    return Found(place=place, finding=Finding(kind=CauseKind.UNKNOWN, at=0, what=what, weak=True))


def _too_long(place: str, limit_bytes: int) -> Found:
    what = f"it differs after its first {limit_bytes} bytes"
    return Found(place=place, finding=Finding(kind=CauseKind.UNKNOWN, at=0, what=what, weak=True))


def joined(place: str, part: str) -> str:
    """Give the place of a part: member path, then what is inside of it."""
    return f"{place} > {part}" if place and part else place or part


def _in_section(section: str, finding: Finding) -> str:
    return f"{section}+{finding.at:#x}" if section else _at(finding.at)


def _at(offset: int) -> str:
    return f"offset {offset:#x}"
