"""An artifact and its cell -> the in-toto statement that says how it was made.

Formats: in-toto Statement v1 (https://github.com/in-toto/attestation, spec/v1), SLSA provenance v1
(https://slsa.dev/spec/v1.0/provenance). Whatever it says a stranger can read, so it holds no time of the wall clock, no
name or path of this machine, and no secret; the same build on another machine gives the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from builders.model import CommandRecipe, DockerfileRecipe, Recipe
from orchestrator import __version__
from orchestrator.archive import COMPRESSOR, PackedFile
from orchestrator.canonical import Json, canonical_json
from orchestrator.errors import StagingError
from orchestrator.model import Artifact, ArtifactKind, Built, Matrix, Plan, Product
from orchestrator.provenance import buildkit
from orchestrator.provenance.dependencies import Origin, Story, dependencies, source_of
from orchestrator.provenance.remote import remote_of, repository_uri
from orchestrator.provenance.wording import wording

__all__ = ["BUILD_TYPE", "PREDICATE", "STATEMENT", "ProvenanceContext", "remote_of", "statement"]

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:relbuild:build:cell:v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenanceContext:
    """What a run's statements share. `remote` is what `remote_of` gave, or an empty string."""

    plan: Plan
    matrix: Matrix
    remote: str = ""
    relbuild: str = __version__
    compressor: str = COMPRESSOR


def statement(subject: Artifact, built: Built, context: ProvenanceContext, packed: Sequence[PackedFile] = ()) -> bytes:
    """Write the unsigned statement of one artifact. `packed` is what its archive holds.

    Raises StagingError for a cell of no product, and for a document of BuildKit's that cannot be read.
    """
    content = built.documents.get(buildkit.DOCUMENT)
    story = Story(
        product=_product(built, context.matrix),
        built=built,
        origin=Origin.of(context.plan, repository_uri(context.remote, context.matrix.project.name)),
        words=wording(built, context.matrix),
        account=None if content is None else buildkit.read_account(content, built.cell.id),
        packed=packed,
    )
    predicate: dict[str, Json] = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {**_asked(story, context, subject), "source": source_of(story)},
            "internalParameters": _own(story, context, subject),
            "resolvedDependencies": dependencies(story),
        },
        "runDetails": _details(story, context),
    }
    digest: dict[str, Json] = {"sha256": subject.sha256, "sha512": subject.sha512}
    return canonical_json(
        {
            "_type": STATEMENT,
            "subject": [{"name": str(subject.path), "digest": digest}],
            "predicateType": PREDICATE,
            "predicate": story.words.clean(predicate),
        }
    )


def _product(built: Built, matrix: Matrix) -> Product:
    for product in matrix.products:
        if product.name == built.cell.product:
            return product
    raise StagingError(f"the cell {built.cell.id} belongs to no product of the project",
                       next_step="plan and build again: matrix.toml was changed since")  # fmt: skip


# --- what was asked for ------------------------------------------------------------------------------------------


def _asked(story: Story, context: ProvenanceContext, subject: Artifact) -> dict[str, Json]:
    cell = story.built.cell
    return {
        "project": context.plan.project,
        "version": cell.version,
        "product": cell.product,
        "target": cell.target.name,
        "recipe": _recipe(cell.recipe),
        "environment": dict(cell.env),
        "outputs": [{"glob": output.glob, "exactly_one": output.exactly_one} for output in cell.outputs],
        "libc": {"kind": cell.libc.kind.value, "floor": cell.libc.floor},
        "network": cell.network,
        "placement": cell.placement.value,
        "epoch": cell.epoch,
        "archive": _archive(story.product, story.built, subject),
    }


def _recipe(recipe: Recipe) -> Json:
    match recipe:
        case CommandRecipe():
            commands = [list(command) for command in recipe.commands]
            return {"kind": "command", "toolchain": recipe.toolchain, "commands": commands, "script": recipe.script}
        case DockerfileRecipe():
            file, images = str(recipe.dockerfile), list(recipe.images)
            return {"kind": "dockerfile", "dockerfile": file, "stage": recipe.stage, "images": images}
        case _:
            assert_never(recipe)


def _archive(product: Product, built: Built, subject: Artifact) -> Json:
    if product.archive is None or subject.kind is ArtifactKind.FILE:
        return {"format": "file"}
    rules = product.archive
    return {
        "format": rules.format_for(built.cell.target).value,
        "name": rules.name,
        "extra": [str(path) for path in rules.extra],
    }


# --- how it was done ---------------------------------------------------------------------------------------------


def _own(story: Story, context: ProvenanceContext, subject: Artifact) -> Json:
    cell = story.built.cell
    isolation = story.words.seen(cell.toolchain.isolation)
    return {
        "builder": cell.builder,
        "isolation": f"no container; {isolation}" if cell.builder == "local" else isolation,
        "engine": context.plan.engine,
        "relbuild": context.relbuild,
        "cell_key": cell.key,
        "compressor": context.compressor if subject.kind is ArtifactKind.ARCHIVE else "",
    }


def _details(story: Story, context: ProvenanceContext) -> Json:
    smoke, words, account = story.built.smoke, story.words, story.account
    note = {"how": smoke.how.value, "tests": smoke.tests, "note": words.seen(smoke.note)}
    byproducts: list[Json] = [{"name": "smoke", "annotations": note}]
    if account is not None:
        byproducts.append(buildkit.byproduct(account.predicate_type, words.clean(words.foreign(account.predicate))))
    return {
        # A machine that its owner can reach into is Build L1, whatever it signs: its name claims no more.
        "builder": {
            "id": f"urn:relbuild:builder:{story.built.cell.builder}:workstation",
            "version": {"relbuild": context.relbuild},
        },
        "metadata": {"invocationId": story.built.cell.key},
        "byproducts": byproducts,
    }
