"""Two artifacts that differ -> why: what their bytes tell, and what rebuilds with one axis varied at a time show."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from builders.hashing import file_sha256
from builders.world import STANDARD, Axis, varied_on
from orchestrator.events import Note
from orchestrator.reproduce.causes import CauseKind, Hints, explain
from orchestrator.reproduce.causes.values import NOTHING_VARIED
from orchestrator.reproduce.rebuild import Bench, rebuild, varied
from orchestrator.reproduce.values import AxisOutcome, AxisVaried, Bad, ToldCause

_OF_CAUSE: Final[Mapping[CauseKind, Axis]] = {
    CauseKind.PATH: Axis.PATH,
    CauseKind.ORDER: Axis.FILE_ORDER,
    CauseKind.DATE_STRING: Axis.TIME,
    CauseKind.TIME_ZONE: Axis.TIME_ZONE,
    CauseKind.LOCALE: Axis.LOCALE,
    CauseKind.HOST_NAME: Axis.HOST_NAME,
    CauseKind.USER: Axis.USER,
    CauseKind.CPU_COUNT: Axis.CPU_COUNT,
    CauseKind.UMASK: Axis.UMASK,
    CauseKind.ENVIRONMENT: Axis.ENVIRONMENT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """An artifact that came out with other bytes. `release` is None where only its digest is here."""

    path: PurePosixPath
    cell: str
    sha256: str
    release: Path | None
    rebuilt: Path
    axes: Mapping[Axis, AxisOutcome]


@dataclass(slots=True, kw_only=True)
class _Alibis:
    """What further rebuilds showed of one artifact. Not frozen: it fills round by round."""

    guilty: list[Axis] = field(default_factory=list)
    unstable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """How causes are looked for: at most `rebuilds` further rounds of builds, in folders below `room`."""

    bench: Bench
    room: Path
    libfaketime: str
    rebuilds: int

    def investigate(self, suspects: Sequence[Suspect]) -> dict[PurePosixPath, Bad]:
        """Say why artifacts differ. Raises Interrupted."""
        first = {each.path: _told(each, ()) for each in suspects}
        alibis = {each.path: _Alibis() for each in suspects}
        for number, proposed in enumerate(_rounds(suspects, first)):
            worlds = {cell: axis for cell, axis in proposed.items() if not _settled(cell, suspects, alibis)}
            if number >= self.rebuilds or not worlds:
                break
            self._one_round(suspects, worlds, alibis, self.room / f"round-{number}")
        return {each.path: _bad(each, alibis[each.path], first[each.path]) for each in suspects}

    def _one_round(
        self, suspects: Sequence[Suspect], axes: Mapping[str, Axis | None], alibis: Mapping[PurePosixPath, _Alibis],
        room: Path,
    ) -> None:  # fmt: skip
        shown = ", ".join(f"{cell} ({axis or 'nothing varied'})" for cell, axis in axes.items())
        self.bench.observer(Note(text=f"building once more, to see what alone makes a difference: {shown}"))
        worlds = {cell: varied_on({axis}, self.libfaketime) if axis else STANDARD for cell, axis in axes.items()}
        files = rebuild(self.bench, worlds, room).files
        for each in suspects:
            if each.cell not in axes or each.path not in files or file_sha256(files[each.path]) == each.sha256:
                continue
            axis = axes[each.cell]
            if axis is None:
                alibis[each.path].unstable = True
            else:
                alibis[each.path].guilty.append(axis)


def _rounds(
    suspects: Sequence[Suspect], first: Mapping[PurePosixPath, tuple[ToldCause, ...]]
) -> Iterator[dict[str, Axis | None]]:  # fmt: skip
    """Give for every round the axis that each cell is built with: first none, then those that the bytes speak of."""
    orders: dict[str, list[Axis]] = {}
    for each in suspects:
        named = [
            _OF_CAUSE[kind] for kind in map(CauseKind, (one.kind for one in first[each.path])) if kind in _OF_CAUSE
        ]
        axes = varied(each.axes)
        ordered = dict.fromkeys([*(axis for axis in named if axis in axes), *axes])
        orders.setdefault(each.cell, []).extend(axis for axis in ordered if axis not in orders.get(each.cell, ()))
    yield dict.fromkeys(orders)
    for number in range(max(map(len, orders.values()), default=0)):
        yield {cell: axes[number] for cell, axes in orders.items() if number < len(axes)}


def _settled(cell: str, suspects: Sequence[Suspect], alibis: Mapping[PurePosixPath, _Alibis]) -> bool:
    """Tell whether varying one axis more can say nothing: all of a cell's artifacts differ with nothing varied."""
    return all(alibis[each.path].unstable for each in suspects if each.cell == cell)


def _bad(suspect: Suspect, alibi: _Alibis, first: tuple[ToldCause, ...]) -> Bad:
    guilty = (NOTHING_VARIED,) if alibi.unstable else tuple(axis.value for axis in alibi.guilty)
    return Bad(
        rebuilt_sha256=file_sha256(suspect.rebuilt), causes=_told(suspect, guilty) if guilty else first,
        guilty=tuple(alibi.guilty), unstable=alibi.unstable,
    )  # fmt: skip


def _told(suspect: Suspect, guilty: tuple[str, ...]) -> tuple[ToldCause, ...]:
    if suspect.release is None:
        text = "the release's own bytes are not here to compare"
        return (ToldCause(kind=CauseKind.UNKNOWN.value, place="", text=text),)
    worlds = {
        axis.value: (each.usual, each.other) for axis, each in suspect.axes.items() if isinstance(each, AxisVaried)
    }
    causes = explain(suspect.release, suspect.rebuilt, Hints(worlds=worlds, guilty_axes=guilty))
    return tuple(ToldCause(kind=each.kind.value, place=each.place, text=each.text) for each in causes)
