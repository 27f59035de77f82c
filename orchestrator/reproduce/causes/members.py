"""What an archive, a static library or a folder says of the files in it, compared without their contents."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from builders.names import escaped
from orchestrator.reproduce.causes.evidence import compare
from orchestrator.reproduce.causes.orders import is_sorted_by_locale
from orchestrator.reproduce.causes.pieces import Finding, Piece, shown
from orchestrator.reproduce.causes.values import CauseKind, Hints
from orchestrator.reproduce.causes.worlds import user_words

Key = tuple[bytes, int]
"""A name, and how many of that name come before: an archive can hold one name twice."""

_ACCESS_BITS = 0o777
_UMASKED = (0o666, 0o777)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry as it stands there; None for what the form does not note. `digest` is empty where it has no bytes."""

    name: bytes
    kind: str = ""
    mtime: str | None = None
    mode: int | None = None
    owner: str | None = None
    group: str | None = None
    link: bytes = b""
    notes: Mapping[str, str] = field(default_factory=dict)
    digest: bytes = b""


def keyed(members: Sequence[Member]) -> dict[Key, Member]:
    """Number the members of each name, in their order."""
    seen: Counter[bytes] = Counter()
    found: dict[Key, Member] = {}
    for member in members:
        found[member.name, seen[member.name]] = member
        seen[member.name] += 1
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A finding about a member, or about the archive where `name` is empty."""

    name: bytes
    finding: Finding


def compare_members(first: Mapping[Key, Member], second: Mapping[Key, Member], hints: Hints) -> Iterator[Told]:
    """Say what of names, order and metadata is not the same; one of a kind, and how often."""
    common = [key for key in first if key in second]
    yield from _names(first, second, hints)
    yield from _order(common, [key for key in second if key in first])
    yield from _links([(first[key], second[key]) for key in common], hints)
    for note in _NOTES:
        apart = [(first[key], second[key]) for key in common if note.of(first[key]) != note.of(second[key])]
        if apart:
            yield from _noted(note, apart, hints)


def _links(pairs: Sequence[tuple[Member, Member]], hints: Hints) -> Iterator[Told]:
    for a, b in pairs:
        if a.link != b.link:
            mine, other = Piece(at=0, text=a.link), Piece(at=0, text=b.link)
            yield from (Told(name=a.name, finding=_of_links(found)) for found in compare([mine], [other], hints))


def _of_links(found: Finding) -> Finding:
    return Finding(kind=found.kind, at=0, what=f"the link leads elsewhere: {found.what}", weak=found.weak)


def _names(first: Mapping[Key, Member], second: Mapping[Key, Member], hints: Hints) -> Iterator[Told]:
    mine = [Piece(at=0, text=key[0]) for key in first if key not in second]
    other = [Piece(at=0, text=key[0]) for key in second if key not in first]
    if mine and other:
        yield from (Told(name=b"", finding=_of_names(found)) for found in compare(mine, other, hints))
    elif mine or other:
        where, names = ("first", mine) if mine else ("second", other)
        what = f"{len(names)} of the files are in the {where} only: {shown(names[0].text)}"
        yield Told(name=names[0].text, finding=Finding(kind=CauseKind.MISSING, at=0, what=what, weak=True))


def _of_names(found: Finding) -> Finding:
    return Finding(kind=found.kind, at=0, what=f"names of files differ: {found.what}", weak=found.weak)


def _order(first: Sequence[Key], second: Sequence[Key]) -> Iterator[Told]:
    if first == second:
        return
    at = next(number for number, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1])
    what = f"the same {len(first)} members stand in another order: number {at + 1} is {escaped(first[at][0])} in the " \
           f"first, {escaped(second[at][0])} in the second"  # fmt: skip
    by_locale = is_sorted_by_locale([key[0] for key in first], [key[0] for key in second])
    kind = CauseKind.LOCALE if by_locale else CauseKind.ORDER
    yield Told(name=b"", finding=Finding(kind=kind, at=0, what=what, weak=not by_locale))


# --- metadata ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    word: str
    of: Callable[[Member], object]
    kind: Callable[[Member, Member, Hints], CauseKind]
    show: Callable[[Member], str]


def _noted(note: _Note, apart: Sequence[tuple[Member, Member]], hints: Hints) -> Iterator[Told]:
    kinds: dict[CauseKind, list[tuple[Member, Member]]] = {}
    for a, b in apart:
        kinds.setdefault(note.kind(a, b, hints), []).append((a, b))
    for kind, pairs in kinds.items():
        a, b = pairs[0]
        more = f", and so of {len(pairs) - 1} more" if len(pairs) > 1 else ""
        what = f"the {note.word} is {note.show(a)} in the first, {note.show(b)} in the second{more}"
        weak = kind is CauseKind.ARCHIVE_METADATA
        yield Told(name=a.name, finding=Finding(kind=kind, at=0, what=what, weak=weak))


def _mode_kind(a: Member, b: Member, hints: Hints) -> CauseKind:
    """Blame the umask where it makes both modes of what programs ask for, or, unknown, where the owner has one say."""
    if a.mode is None or b.mode is None:
        return CauseKind.ARCHIVE_METADATA
    masks = [int(text, 8) for text in hints.worlds.get("umask", ()) if text and set(text) <= set("01234567")]
    if len(masks) == 2:  # noqa: PLR2004 - the two worlds
        made = [(base & ~masks[0], base & ~masks[1]) for base in _UMASKED]
        fits = (a.mode & _ACCESS_BITS, b.mode & _ACCESS_BITS) in made
    else:
        fits = not (a.mode ^ b.mode) & ~0o077
    return CauseKind.UMASK if fits else CauseKind.ARCHIVE_METADATA


def _owner_kind(a: Member, b: Member, hints: Hints) -> CauseKind:
    """Blame the user where the second owner is the one of the second world, and the first is not."""
    first, second = (set(user_words(world)) for world in hints.worlds.get("user", ("", "")))
    fits = bool(_owners(b) & (second - first)) and not _owners(a) & (second - first)
    return CauseKind.USER if fits else CauseKind.ARCHIVE_METADATA


def _owners(member: Member) -> set[str]:
    return set((member.owner or "").split("/"))


def _notes_kind(a: Member, b: Member, _hints: Hints) -> CauseKind:
    apart = {name for name in {*a.notes, *b.notes} if a.notes.get(name) != b.notes.get(name)}
    return CauseKind.MTIME if apart <= {"mtime", "atime", "ctime"} else CauseKind.ARCHIVE_METADATA


def _always(kind: CauseKind) -> Callable[[Member, Member, Hints], CauseKind]:
    return lambda _a, _b, _hints: kind


def _shown_notes(member: Member) -> str:
    return shown(" ".join(f"{name}={value}" for name, value in sorted(member.notes.items())).encode())


_NOTES: Final = (
    _Note(word="time", of=lambda row: row.mtime, kind=_always(CauseKind.MTIME), show=lambda row: str(row.mtime)),
    _Note(word="mode", of=lambda row: row.mode, kind=_mode_kind,
          show=lambda row: f"{row.mode:04o}" if row.mode is not None else "not there"),
    _Note(word="owner", of=lambda row: row.owner, kind=_owner_kind, show=lambda row: shown((row.owner or "").encode())),
    _Note(word="group", of=lambda row: row.group, kind=_always(CauseKind.ARCHIVE_METADATA),
          show=lambda row: shown((row.group or "").encode())),
    _Note(word="kind of entry", of=lambda row: row.kind, kind=_always(CauseKind.UNKNOWN), show=lambda row: row.kind),
    _Note(word="extra field", of=lambda row: row.notes, kind=_notes_kind, show=_shown_notes),
)  # fmt: skip
