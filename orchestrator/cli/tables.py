"""Values as text: the plan, the artifacts of a release."""

import json
from collections.abc import Sequence

from orchestrator.model import BuildReport, Built, Plan, PlannedCell, StagedRelease
from orchestrator.trust import VerifiedRelease

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows below a head, each column as wide as its widest cell."""
    table = [head, *rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(head))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
    return "\n".join(lines)


def counted(count: int, what: str) -> str:
    """Say how many there are of something whose plural takes an s."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size(size_bytes: int) -> str:
    """Give a size as people read it."""
    for unit, name in _UNITS:
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes} B"


def plan_text(plan: Plan) -> str:
    """Show a plan: each cell with its placement and why, its toolchain, its cache state and what it may take."""
    commit = f" at {plan.commit[:12]}{' (changed)' if plan.dirty else ''}" if plan.commit else ""
    head = f"{plan.project} {plan.version}{commit}\nengine: {plan.engine} ({plan.engine_reason})\n"
    table = columns(
        ("CELL", "PLACEMENT", "BUILDER", "TOOLCHAIN", "STATE", "BUILD TAKES", "WHY"),
        [_plan_row(planned) for planned in plan.cells],
    )
    parts = [head, table] if plan.cells else [head, "no cell can be built"]
    if plan.left_out:
        rows = [(f"{gap.product}/{gap.target}", gap.reason, gap.next_step) for gap in plan.left_out]
        parts += ["", "left out:", columns(("CELL", "WHY", "NEXT STEP"), rows)]
    return "\n".join(parts)


def release_text(staged: StagedRelease, report: BuildReport, verified: VerifiedRelease | None) -> str:
    """Show a staged release: its artifacts, where they lie, and whether they are signed and verified."""
    built = {(result.cell.product, result.cell.target.name): result for result in report.built}
    rows = []
    for artifact in staged.artifacts:
        result = built.get((artifact.product, artifact.target))
        how = f"{result.cell.placement}, {_smoked(result)}" if result else "of the commit"
        rows.append((str(artifact.path), artifact.target, size(artifact.size_bytes), artifact.sha256[:16], how))
    table = columns(("ARTIFACT", "TARGET", "SIZE", "SHA-256", "HOW"), rows)
    count = f"{len(rows)} artifacts of {staged.version} are" if len(rows) != 1 else f"1 artifact of {staged.version} is"
    trust = f"\nsigned, read again and verified: manifest sha256:{verified.manifest_sha256}" if verified else ""
    return f"{table}\n\n{count} staged in {staged.folder}{trust}"


def to_json(data: object) -> str:
    """Give data as canonical text for a terminal or a file."""
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False)


def _plan_row(planned: PlannedCell) -> tuple[str, ...]:
    cell = planned.cell
    # What a build took last time; a cached cell costs nothing, and its last build is what a change would cost.
    estimate = f"{planned.estimate_s:.1f} s" if planned.estimate_s is not None else "not known"
    toolchain = f"{cell.toolchain.name}@{cell.toolchain.identity.removeprefix('sha256:')[:12]}"
    return (cell.id, cell.placement, cell.builder, toolchain, planned.cache, estimate, cell.reason)


def _smoked(result: Built) -> str:
    return f"smoke {result.smoke.how}" if result.smoke.tests else "no smoke test"
