"""The table of targets as a project sees it: the known ones, changed and added to."""

from collections.abc import Mapping
from dataclasses import dataclass

from builders.targets import TARGETS, Format, Target
from orchestrator.config.problems import Draft
from orchestrator.config.shapes import TargetShape

_OF_KNOWN = frozenset({"tier", "floor"})
_NEEDED = ("os", "arch", "format", "machine")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTable:
    """`names` leads from every name in lower case to a canonical one; `floors` and `best_effort` use canonical ones."""

    rows: Mapping[str, Target]
    names: Mapping[str, str]
    best_effort: frozenset[str]
    floors: Mapping[str, str]


def target_table(wanted: Mapping[str, TargetShape], drafts: list[Draft]) -> TargetTable:
    """Apply `[targets]` to the known targets."""
    rows = dict(TARGETS)
    names = {name.lower(): row.name for row in TARGETS.values() for name in (row.name, *row.aliases)}
    chosen: dict[str, TargetShape] = {}
    for name, shape in wanted.items():
        known = names.get(name.lower())
        if known in chosen:
            drafts.append(Draft(path=("targets", name), what=f"it is the target {known}, which has a table already"))
        elif known is not None:
            _check_change(name, known, shape, drafts)
        elif _is_whole(name, shape, names, drafts):
            rows[name] = _added(name, shape)
            _claim_names(name, shape, names, drafts)
        chosen.setdefault(known or name, shape)
    return TargetTable(
        rows=rows,
        names=names,
        best_effort=frozenset(name for name, shape in chosen.items() if shape.tier == "best-effort"),
        floors={name: shape.floor for name, shape in chosen.items() if shape.floor},
    )


def _check_change(name: str, known: str, shape: TargetShape, drafts: list[Draft]) -> None:
    drafts.extend(
        Draft(path=("targets", name, key), what=f"{known} is a known target; only tier and floor can be changed")
        for key in sorted(shape.model_fields_set - _OF_KNOWN)
    )
    if shape.floor and TARGETS[known].os != "linux":
        drafts.append(Draft(path=("targets", name, "floor"), what=f"{known} has no glibc, so it has no floor"))


def _is_whole(name: str, shape: TargetShape, names: Mapping[str, str], drafts: list[Draft]) -> bool:
    missing = [key for key in _NEEDED if key not in shape.model_fields_set]
    if missing:
        what = f"there is no target {name}; to add it, give {', '.join(missing)}"
        drafts.append(Draft(path=("targets", name), what=what, name=name.lower(), known=names))
    return not missing


def _claim_names(name: str, shape: TargetShape, names: dict[str, str], drafts: list[Draft]) -> None:
    names[name.lower()] = name
    for index, alias in enumerate(shape.aliases):
        owner = names.setdefault(alias.lower(), name)
        if owner != name:
            drafts.append(
                Draft(path=("targets", name, "aliases", index), what=f"{alias} is the target {owner} already")
            )


def _added(name: str, shape: TargetShape) -> Target:
    return Target(
        name=name, aliases=tuple(shape.aliases), os=shape.os or "", arch=shape.arch or "", oci=shape.oci, gnu=shape.gnu,
        rust=shape.rust, goos=shape.goos, goarch=shape.goarch, goarm=shape.goarm, zig=shape.zig, zig_cpu="",
        deb=shape.deb, rpm=shape.rpm, apk=shape.apk, format=Format(shape.format or "elf"), machine=shape.machine or 0,
        qemu=shape.qemu,
    )  # fmt: skip
