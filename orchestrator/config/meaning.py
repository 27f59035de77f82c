"""From shapes to the matrix, with the rules that a shape cannot say."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

from orchestrator.config import shapes
from orchestrator.config.archives import collisions
from orchestrator.config.ci import ci
from orchestrator.config.lines import KeyPath, Lines
from orchestrator.config.nodes import nodes
from orchestrator.config.problems import Draft
from orchestrator.config.products import Surroundings, product
from orchestrator.config.repository import repository
from orchestrator.config.reproduction import reproduction
from orchestrator.config.signing import signing
from orchestrator.config.targeting import target_table
from orchestrator.config.validation import validation
from orchestrator.model import (
    ArchiveFormat,
    EngineKind,
    EngineRules,
    GateRules,
    Matrix,
    PolicyRules,
    Project,
    Verdict,
    VersionFile,
)


def matrix(
    file: Path, shape: shapes.MatrixShape, lines: Lines, *, left_out: frozenset[KeyPath], drafts: list[Draft]
) -> Matrix:
    """Give the matrix, and add a draft for every broken rule that does not come from what was left out."""
    root = file.parent.resolve()
    found: list[Draft] = []
    table = target_table(shape.targets, found)
    around = Surroundings(root=root, table=table, several=len(shape.products) > 1)
    products = tuple(
        product(name, value, lines.of(("products", name)), around, found) for name, value in shape.products.items()
    )
    project = _project(shape.project)
    if not left_out:
        found.extend(collisions(project, products, table))
    if not products and not any(path[:1] == ("products",) for path in left_out):
        what = "there is no product"
        found.append(Draft(path=("products",), what=what, suggestion="add a table [products.NAME] with a recipe"))
    rules = signing(shape.signing, root, found)
    publishing = repository(shape.repository, root, project.name, found, signs=rules is not None)
    proving = reproduction(shape.reproduce, root, found, signs=rules is not None)
    machines = nodes(shape.engine.nodes, root, found)
    jobs = ci(shape.ci, root, table.rows, found)
    drafts.extend(_not_consequences(found, left_out))
    return Matrix(
        file=root / file.name,
        root=root,
        project=project,
        targets=table.rows,
        best_effort=table.best_effort,
        floors=table.floors,
        products=products,
        engine=EngineRules(kind=EngineKind(shape.engine.kind), jobs=shape.engine.jobs, nodes=machines),
        policy=_policy(shape.policy),
        signing=rules,
        repository=publishing,
        reproduce=proving,
        validation=validation(shape.validation, root),
        ci=jobs,
    )


def _not_consequences(found: Iterable[Draft], left_out: frozenset[KeyPath]) -> Iterable[Draft]:
    """Drop what is only wrong because something was left out: "run is missing" where run was misshapen."""
    unsure = {str(path[1]).lower() for path in left_out if path[:1] == ("targets",) and len(path) > 1}
    for draft in found:
        ends = (draft.path[:length] for length in range(len(draft.path) + 1))
        if left_out.isdisjoint(ends) and draft.name not in unsure:
            yield draft


def _project(shape: shapes.ProjectShape) -> Project:
    return Project(
        name=shape.name,
        version=_version(shape.version),
        license=shape.license,
        homepage=shape.homepage,
        description=shape.description,
        maintainer=shape.maintainer,
        source_archive=_source_archive(shape.source_archive),
    )


def _source_archive(forms: list[Literal["tar.gz", "zip"]] | None) -> tuple[ArchiveFormat, ...] | None:
    return None if forms is None else tuple(dict.fromkeys(map(ArchiveFormat, forms)))


def _version(shape: str | shapes.VersionFileShape) -> str | VersionFile | None:
    if isinstance(shape, shapes.VersionFileShape):
        return VersionFile(file=PurePosixPath(shape.file), pattern=shape.pattern)
    return None if shape == "git" else shape


def _policy(shape: shapes.PolicyShape) -> PolicyRules:
    verdicts = {key: Verdict(value) for key, value in shape.gate.model_dump(exclude={"allow_needed"}).items()}
    return PolicyRules(
        gate=GateRules(**verdicts, allow_needed=tuple(shape.gate.allow_needed)),
        smoke_not_run=Verdict(shape.smoke_not_run),
        left_out=Verdict(shape.left_out),
    )
