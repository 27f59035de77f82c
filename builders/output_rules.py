"""What may be an output of a recipe: names, kinds, numbers, and which pattern takes which file."""

import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from builders.errors import OutputAmbiguous, OutputCollision, OutputMissing, OutputUnsafe
from builders.globs import Glob
from builders.model import OutputPattern
from builders.names import collision_key, escaped, unsafe_reason

MAX_ENTRIES: Final = 200_000
MAX_DEPTH: Final = 64

_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file or link below $OUT. `identity` is (device, inode) in a folder; `first` is what a tar's hard link names."""

    path: str
    symlink: bool = False
    size_bytes: int = 0
    executable: bool = False
    identity: tuple[int, int] = (0, 0)
    links: int = 1
    first: str = ""


def choose(found: Sequence[FoundFile], patterns: Sequence[OutputPattern], cell_id: str) -> list[FoundFile]:
    """Give the files that the patterns take, by path. Raises the error of the rule that one of them breaks."""
    found = sorted(found, key=lambda file: file.path)
    chosen: dict[str, FoundFile] = {}
    for pattern in patterns:
        glob = Glob(pattern.glob)
        taken = [file for file in found if glob.matches(file.path)]
        for file in taken:
            if file.symlink:
                raise unsafe(cell_id, file.path, f"is a symbolic link, and {escaped(pattern.glob)} takes it",
                              "copy what it points to (cp -L), or narrow the pattern")  # fmt: skip
        if not taken:
            raise _missing(pattern, found, cell_id)
        if pattern.exactly_one and len(taken) > 1:
            raise OutputAmbiguous(
                f"{cell_id}: {escaped(pattern.glob)} must match one file and matches {len(taken)}: {_listed(taken)}",
                next_step="narrow the pattern, or leave `exactly_one` out",
            )
        chosen |= {file.path: file for file in taken}
    if not chosen:
        raise OutputMissing(f"{cell_id}: it has no pattern in `outputs`", next_step="name what the recipe makes")
    _refuse_collisions(chosen, cell_id)
    return [chosen[path] for path in sorted(chosen)]


def _missing(pattern: OutputPattern, found: Sequence[FoundFile], cell_id: str) -> OutputMissing:
    inside = [file for file in found if Glob(f"{pattern.glob}/**").matches(file.path)]
    hint = f"to take a folder, write {pattern.glob}/**" if inside else "the recipe writes its outputs below $OUT"
    there = f"$OUT holds {_listed(found)}" if found else "$OUT is empty"
    return OutputMissing(f"{cell_id}: no file matches {escaped(pattern.glob)}; {there}", next_step=hint)


def _listed(found: Sequence[FoundFile]) -> str:
    shown = ", ".join(escaped(file.path) for file in found[:_SHOWN])
    return f"{shown} and {len(found) - _SHOWN} more" if len(found) > _SHOWN else shown


def _refuse_collisions(paths: Iterable[str], cell_id: str) -> None:
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(collision_key(path), path)
        if other != path:
            raise OutputCollision(
                f"{cell_id}: the outputs {other!a} and {path!a} have one name where case or Unicode form"
                " does not count",
                next_step="rename one of them",
            )


def checked_path(below: str, name: bytes, cell_id: str) -> str:
    """Give the path of a name in a folder, or raise OutputUnsafe for a name that nobody should publish."""
    shown = f"{below}/" if below else ""
    if reason := unsafe_reason(name):
        raise OutputUnsafe(
            f"{cell_id}: the output {escaped(shown.encode() + name)} cannot be published: its name {reason}",
            next_step="let the recipe choose another name",
        )
    if below.count("/") >= MAX_DEPTH - 1:
        raise OutputUnsafe(f"{cell_id}: {escaped(below)} lies more than {MAX_DEPTH} folders deep")
    return shown + name.decode()


def check_count(count: int, cell_id: str) -> None:
    """Raise OutputUnsafe for more entries than MAX_ENTRIES."""
    if count > MAX_ENTRIES:
        raise OutputUnsafe(f"{cell_id}: $OUT holds more than {MAX_ENTRIES} entries",
                           next_step="pack them into one file in the recipe")  # fmt: skip


def check_size(size: int, max_bytes: int, cell_id: str) -> None:
    """Raise OutputUnsafe for more bytes than allowed."""
    if size > max_bytes:
        raise OutputUnsafe(f"{cell_id}: the outputs have {size} bytes or more; {max_bytes} are allowed",
                           next_step="narrow the patterns of `outputs`, or see why a file is that large")  # fmt: skip


def unsafe(cell_id: str, path: str, reason: str, next_step: str = "") -> OutputUnsafe:
    """Make the error for one output; `reason` goes on after its name."""
    return OutputUnsafe(
        f"{cell_id}: the output {escaped(path)} {reason}",
        next_step=next_step or "let the recipe leave plain files only in $OUT",
    )


_SPECIAL = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


def check_plain(path: str, mode: int, cell_id: str) -> None:
    """Raise OutputUnsafe for whatever is no plain file, or would run as somebody else."""
    if not stat.S_ISREG(mode):
        kind = next((text for test, text in _SPECIAL if test(mode)), "no plain file")
        raise unsafe(cell_id, path, f"is {kind}")
    if mode & (stat.S_ISUID | stat.S_ISGID):
        raise unsafe(cell_id, path, "has the set-user or set-group bit")
