"""What staging is told to write beside an artifact: its SBOMs and its provenance."""

from collections.abc import Callable, Sequence
from pathlib import Path

from builders.model import Cell, Material
from builders.sources import OutsideSource
from orchestrator import provenance, sbom
from orchestrator.archive import Member
from orchestrator.manifest import Document, DocumentKind, StagedArtifact
from orchestrator.model import Matrix, Plan
from orchestrator.stage import Describe

MaterialsOf = Callable[[Cell], tuple[Material, ...]]


def describer(plan: Plan, matrix: Matrix, materials_of: MaterialsOf, cache: Path) -> Describe:
    """Give what describes the artifacts of a plan. `cache` is the project's folder of kept answers.

    Raises ToolchainUnavailable at once where Syft is not on this machine.
    """
    scanner = sbom.find_syft()
    context = provenance.ProvenanceContext(plan=plan, matrix=matrix, remote=provenance.remote_of(matrix.root))
    products = {product.name: product for product in matrix.products}

    def describe(staged: StagedArtifact, members: Sequence[Member]) -> tuple[Document, ...]:
        artifact, cell = staged.artifact, staged.built.cell
        source = products[cell.product].source
        request = sbom.SbomRequest(
            name=str(artifact.path), sha256=artifact.sha256, sha512=artifact.sha512, payload=members,
            product=cell.product, version=cell.version, project=matrix.project.name, target=cell.target.name,
            epoch=cell.epoch, root_dir=staged.wrapped_in, license=matrix.project.license,
            supplier=matrix.project.maintainer, homepage=matrix.project.homepage,
            source=source if isinstance(source, OutsideSource) else None, materials=materials_of(cell),
        )  # fmt: skip
        described = sbom.describe(request, cache / sbom.FOLDER, scanner)
        statement = provenance.statement(artifact, staged.built, context, staged.packed.files)
        return (
            Document.about(artifact, DocumentKind.SPDX, described.spdx),
            Document.about(artifact, DocumentKind.CYCLONEDX, described.cyclonedx),
            Document.about(artifact, DocumentKind.PROVENANCE, statement),
        )

    return describe
