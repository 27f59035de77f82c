"""From the shape of [reproduce] to its rules."""

from pathlib import Path

from builders.world import Axis
from orchestrator.config.problems import Draft
from orchestrator.config.reproduction_shape import ReproductionShape
from orchestrator.config.signing import full_path
from orchestrator.reproduction_rules import ReproductionGate, ReproductionRules


def reproduction(
    shape: ReproductionShape | None, root: Path, drafts: list[Draft], *, signs: bool
) -> ReproductionRules | None:
    """Give the rules, and add a draft where a gate blocks and nobody could sign what lifts it."""
    if shape is None:
        return None
    if shape.gate == "block" and not signs:
        what = "only signed statements count, and there is no [signing]"
        drafts.append(Draft(path=("reproduce", "gate"), what=what, suggestion="say who signs"))
    return ReproductionRules(
        gate=ReproductionGate(shape.gate),
        rebuilders=shape.rebuilders,
        axes=tuple(Axis) if shape.axes is None else tuple(map(Axis, dict.fromkeys(shape.axes))),
        keys=tuple(full_path(each, root) for each in shape.keys),
        libfaketime=full_path(shape.libfaketime, root) if shape.libfaketime else None,
        rebuilds=shape.rebuilds,
    )
