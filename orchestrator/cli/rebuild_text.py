"""A reproduction as text: verdicts, the axes of its worlds, causes; and the history of earlier ones."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from builders.names import escaped
from orchestrator.cli import tables
from orchestrator.reproduce.history import Past
from orchestrator.reproduce.values import (
    AxisSkipped,
    AxisVaried,
    Bad,
    Fail,
    Reproduced,
    Reproduction,
    Skip,
    Verdict,
)

_MOST_CAUSES = 12


def text(said: Reproduction) -> str:
    """Show what a rebuild said of a release."""
    rows = [
        (str(each.path), each.verdict.value, each.builder or "-", f"{each.seconds:.1f} s" if each.seconds else "-")
        for each in said.artifacts
    ]
    parts = [tables.columns(("ARTIFACT", "VERDICT", "BUILDER", "BUILD TOOK"), rows)]
    parts += [line for group in _by_axes(said.artifacts) for line in ("", *_axes(group))]
    parts += [line for each in said.artifacts for line in _reasons(each)]
    counts = ", ".join(f"{len(said.of(verdict))} {verdict.value}" for verdict in Verdict if said.of(verdict))
    whole = "" if len(said.artifacts) == said.asked else f" (of {said.asked} artifacts)"
    parts += ["", f"{said.project} {said.version}: {counts}{whole}; from {said.source}; manifest sha256:{said.subject}"]
    return "\n".join(parts)


def history_text(past: Sequence[Past]) -> str:
    """Show earlier runs, newest first."""
    rows = [
        (
            each.time,
            each.version,
            each.subject[:12],
            _counts(each),
            each.signed or "no",
            each.varied or "-",
            each.folder,
        )
        for each in reversed(past)
    ]
    head = ("TIME", "VERSION", "MANIFEST", "VERDICTS", "SIGNED", "VARIED FOR ALL", "FOLDER")
    return tables.columns(head, rows) if rows else "nothing was reproduced here yet"


def history_json(past: Sequence[Past]) -> str:
    """Give earlier runs, oldest first."""
    return tables.to_json([{**asdict(each), "verdicts": dict(each.verdicts)} for each in past])


def _counts(each: Past) -> str:
    return ", ".join(f"{count} {name}" for name, count in each.verdicts if count) or "none"


def _by_axes(artifacts: Sequence[Reproduced]) -> Iterator[list[Reproduced]]:
    """Group the artifacts whose worlds differed in the same way."""
    groups: dict[str, list[Reproduced]] = {}
    for each in artifacts:
        if each.axes:
            groups.setdefault(repr(each.axes), []).append(each)
    yield from groups.values()


def _axes(group: Sequence[Reproduced]) -> Iterator[str]:
    yield f"worlds of {', '.join(dict.fromkeys(each.cell for each in group))}:"
    rows = []
    for axis, outcome in group[0].axes.items():
        match outcome:
            case AxisVaried(usual=usual, other=other, limits=limits):
                rows.append((axis.value, "varied", usual, other, limits))
            case AxisSkipped(reason=reason):
                rows.append((axis.value, "SKIPPED", "", "", reason))
    yield tables.columns(("AXIS", "", "RELEASE", "REBUILD", "NOTE"), rows)


def _reasons(each: Reproduced) -> Iterator[str]:
    match each.outcome:
        case Bad() as bad:
            yield f"\n{each.path}: BAD: the release has sha256:{each.sha256}"
            yield f"  and the rebuild sha256:{bad.rebuilt_sha256}"
            yield from _causes(bad)
        case Fail(error=error, log=log):
            yield f"\n{each.path}: FAIL: {error.what}"
            yield from ([f"  next: {error.next_step}"] if error.next_step else [])
            yield from ([f"  log: {log.name}, beside the result"] if log else [])
        case Skip(reason=reason):
            yield f"\n{each.path}: SKIPPED: {reason}"
        case _:
            return


def _causes(bad: Bad) -> Iterator[str]:
    if bad.unstable:
        yield "  it differs from build to build, with nothing varied"
    if bad.guilty:
        yield f"  varied alone, these make a difference: {', '.join(axis.value for axis in bad.guilty)}"
    for cause in bad.causes[:_MOST_CAUSES]:
        yield f"  {cause.kind}: {_clean(cause.place)}: {_clean(cause.text)}"
    if len(bad.causes) > _MOST_CAUSES:
        yield f"  and {len(bad.causes) - _MOST_CAUSES} more, in result.json"
    if bad.report:
        yield f"  diffoscope's account: {bad.report}, beside the result"


def _clean(text: str) -> str:
    return escaped(text)[1:-1].replace("\\'", "'")
