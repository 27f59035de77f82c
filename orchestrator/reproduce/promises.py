"""What a release says of its own source: the manifest, and a statement of each artifact, by their promised bytes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from builders.errors import RelbuildError
from builders.model import Digest
from builders.names import escaped
from orchestrator.errors import DigestMismatch, ManifestInvalid, OriginUnavailable, ProvenanceInvalid
from orchestrator.manifest import MANIFEST
from orchestrator.model import Artifact, ArtifactKind
from orchestrator.staged import read_staged
from orchestrator.verify.json_strict import BadJson
from orchestrator.verify.manifests import SOURCE, Listed, ReadManifest, read_manifest
from orchestrator.verify.provenances import read_statement, subject_problem
from orchestrator.verify.reading import Unreadable, read_file

_MATRIX = "matrix.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """The digests of what a product was built from."""

    source: Digest
    mounts: Mapping[PurePosixPath, Digest]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFacts:
    """A release as its own papers tell it. `repositories` are the URIs that its statements name the project by."""

    folder: Path
    project: str
    version: str
    commit: str
    dirty: bool
    epoch: int
    matrix_name: str
    artifacts: tuple[Artifact, ...]
    sources: tuple[Listed, ...]
    repositories: tuple[str, ...]
    statements: Mapping[PurePosixPath, Mapping[str, Any]] = field(repr=False)
    promises: Mapping[str, Promise] = field(repr=False)


def read_facts(folder: Path) -> ReleaseFacts:
    """Read the manifest and the statements of a release's folder.

    Raises StagingError, ManifestInvalid, DigestMismatch, ProvenanceInvalid; OriginUnavailable where no statement says
    what was built.
    """
    staged = read_staged(folder)
    manifest = _manifest(staged.folder, staged.manifest_sha256)
    statements = dict(_statements(staged.folder, manifest))
    if not statements:
        raise OriginUnavailable(
            f"{escaped(str(folder))} holds no provenance, so nothing says what it was built from",
            next_step="fetch the whole release, with its .provenance.json files",
        )
    sources = tuple(each for each in manifest.artifacts if each.kind == SOURCE)
    return ReleaseFacts(
        folder=staged.folder,
        project=manifest.project,
        version=manifest.version,
        commit=manifest.commit,
        dirty=manifest.dirty,
        epoch=manifest.epoch,
        matrix_name=next((str(each.entry["matrix"]) for each in sources), _MATRIX),
        artifacts=tuple(each for each in staged.artifacts if each.kind is not ArtifactKind.SOURCE),
        sources=sources,
        repositories=tuple(dict.fromkeys(uri for each in statements.values() for uri in _repository(each))),
        statements=statements,
        promises=promises_of(statements),
    )


def _manifest(folder: Path, sha256: str) -> ReadManifest:
    try:
        file = read_file(folder / MANIFEST)
        if file.sha256 != sha256:
            _refuse(DigestMismatch, folder / MANIFEST, "changed while it was read")
        return read_manifest(file.kept())
    except (Unreadable, BadJson) as error:
        _refuse(ManifestInvalid, folder / MANIFEST, str(error))


def _statements(folder: Path, manifest: ReadManifest) -> Iterator[tuple[PurePosixPath, Mapping[str, Any]]]:
    for artifact in manifest.built:
        listed = manifest.document(artifact.path, "provenance")
        if listed is None or not (folder / listed.path).exists():
            continue
        try:
            file = read_file(folder / listed.path)
            if file.sha256 != listed.sha256:
                _refuse(DigestMismatch, folder / listed.path, "has other bytes than the manifest promises")
            statement = read_statement(file.kept())
        except (Unreadable, BadJson) as error:
            _refuse(ProvenanceInvalid, folder / listed.path, str(error))
        if problem := subject_problem(statement, artifact.path, artifact.sha256, artifact.sha512):
            _refuse(ProvenanceInvalid, folder / listed.path, problem)
        yield PurePosixPath(artifact.path), statement


def promises_of(statements: Mapping[PurePosixPath, Mapping[str, Any]]) -> dict[str, Promise]:
    """Give what each product was built from. Raises ProvenanceInvalid where two statements name different sources."""
    promises: dict[str, Promise] = {}
    for path, statement in statements.items():
        definition = statement["predicate"]["buildDefinition"]
        product, promise = str(definition["externalParameters"]["product"]), _promise(path, definition)
        if promises.setdefault(product, promise) != promise:
            raise ProvenanceInvalid(
                f"the statements of {escaped(product)} name different sources for one release",
                next_step="ask whoever made it; it cannot have come of one run",
            )
    return promises


def _promise(path: PurePosixPath, definition: Mapping[str, Any]) -> Promise:
    trees: list[Digest] = []
    mounts: dict[PurePosixPath, Digest] = {}
    for each in definition["resolvedDependencies"]:
        digest = Digest(f"sha256:{each.get('digest', {}).get('sha256', '')}")
        if each["name"] == "source tree":
            trees.append(digest)
        elif str(each["name"]).startswith("mount "):
            mounts[PurePosixPath(each["name"].removeprefix("mount "))] = digest
    if len(trees) != 1:
        raise ProvenanceInvalid(f"the provenance of {escaped(str(path))} names {len(trees)} source trees, not one",
                                next_step="verify the release first: relbuild verify")  # fmt: skip
    return Promise(source=trees[0], mounts=mounts)


def _repository(statement: Mapping[str, Any]) -> Iterator[str]:
    for each in statement["predicate"]["buildDefinition"]["resolvedDependencies"]:
        if each["name"] == "project" and "uri" in each:
            yield str(each["uri"])


def _refuse(kind: type[RelbuildError], path: Path, reason: str) -> NoReturn:
    raise kind(f"{escaped(str(path))} {reason}", next_step="verify the release first: relbuild verify")
