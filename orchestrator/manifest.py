"""The papers of a staged release: checksums, the manifest that gets signed, and GoReleaser's list of artifacts.

None of them holds a time other than the epoch, or a path of the machine that they were written on.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, assert_never

from builders.model import Cell, Digest
from orchestrator.archive import COMPRESSOR, Packed
from orchestrator.canonical import Json, canonical_json
from orchestrator.model import (
    Artifact,
    ArtifactKind,
    BuildReport,
    Built,
    Failed,
    Matrix,
    Plan,
    Skipped,
)
from orchestrator.places import neutral, places
from orchestrator.trust import ARMOR, ATTESTATION, BUNDLE, CYCLONEDX, ENCRYPTED, SPDX, STATEMENT

SCHEMA = "relbuild/manifest/v1"
MANIFEST, ARTIFACTS = "manifest.json", "artifacts.json"
SHA256_SUMS, SHA512_SUMS = "checksums.txt", "checksums.sha512"

RESERVED = frozenset({MANIFEST, ARTIFACTS, SHA256_SUMS, SHA512_SUMS, "index.json"})
"""Names that no artifact may have, whatever their case."""


RESERVED_ENDINGS = (
    SPDX, CYCLONEDX, STATEMENT, BUNDLE, ATTESTATION, ARMOR, ENCRYPTED,
)  # fmt: skip
"""What the names of documents and signatures end in: an artifact that did could be taken for one."""


class DocumentKind(StrEnum):
    """What a file beside the artifacts is."""

    SPDX = "sbom-spdx"
    CYCLONEDX = "sbom-cyclonedx"
    PROVENANCE = "provenance"
    CHECKSUMS = "checksums"
    GORELEASER = "goreleaser"


_ENDINGS = {DocumentKind.SPDX: SPDX, DocumentKind.CYCLONEDX: CYCLONEDX, DocumentKind.PROVENANCE: STATEMENT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file that describes an artifact (`of`), or all of them (`of` is empty)."""

    path: str
    kind: DocumentKind
    content: bytes
    of: str = ""

    @classmethod
    def about(cls, artifact: Artifact, kind: DocumentKind, content: bytes) -> Self:
        """Name a document after the artifact that it describes."""
        return cls(path=f"{artifact.path}{_ENDINGS[kind]}", kind=kind, content=content, of=str(artifact.path))


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedArtifact:
    """An artifact, the cell that it came of, and what was packed into it. `wrapped_in` is empty for a plain file."""

    artifact: Artifact
    built: Built
    packed: Packed
    executable: bool
    wrapped_in: str = ""
    format: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedSource:
    """A source archive: of which commit, the digest of all its files, and what its configuration is called."""

    artifact: Artifact
    commit: str
    tree: Digest
    matrix: str
    wrapped_in: str
    format: str


Staged = StagedArtifact | StagedSource

_DIGESTS: dict[str, Callable[[Artifact], str]] = {
    "sha256": lambda artifact: artifact.sha256,
    "sha512": lambda artifact: artifact.sha512,
}


def checksums(artifacts: Sequence[Staged], documents: Sequence[Document], algorithm: str) -> bytes:
    """Write what `sha256sum -c --strict` reads: digest, two spaces, base name, LF, sorted by name."""
    digest_of = _DIGESTS[algorithm]
    lines = [(str(staged.artifact.path), digest_of(staged.artifact)) for staged in artifacts]
    lines += [(document.path, hashlib.new(algorithm, document.content).hexdigest()) for document in documents]
    lines.sort()
    return "".join(f"{digest}  {name}\n" for name, digest in lines).encode()


def manifest(artifacts: Sequence[Staged], documents: Sequence[Document], report: BuildReport, matrix: Matrix) -> bytes:
    """Write manifest.json: what was released, and how each artifact was made."""
    plan = report.plan
    return canonical_json(
        {
            "schema": SCHEMA,
            "project": plan.project,
            "version": plan.version,
            "commit": plan.commit,
            "dirty": plan.dirty,
            "epoch": plan.epoch,
            "artifacts": [_entry(staged, matrix) for staged in artifacts],
            "documents": [_document(document) for document in sorted(documents, key=lambda each: each.path)],
            "absent": _absent(report),
        }
    )


def goreleaser_artifacts(artifacts: Sequence[Staged], plan: Plan) -> bytes:
    """Write artifacts.json in the shape of GoReleaser's dist/artifacts.json, paths relative to the project."""
    below = f"dist/staging/{plan.version}"
    sums: list[Json] = [
        {"name": name, "path": f"{below}/{name}", "internal_type": _CHECKSUM[0], "type": _CHECKSUM[1], "extra": {}}
        for name in (SHA256_SUMS, SHA512_SUMS)
    ]
    return canonical_json([*(_goreleaser_entry(staged, below) for staged in artifacts), *sums])


# --- the manifest ------------------------------------------------------------------------------------------------


def _entry(staged: Staged, matrix: Matrix) -> dict[str, Json]:
    artifact = staged.artifact
    entry: dict[str, Json] = {
        "path": str(artifact.path),
        "kind": artifact.kind.value,
        "size": artifact.size_bytes,
        "sha256": artifact.sha256,
        "sha512": artifact.sha512,
    }
    match staged:
        case StagedArtifact():
            return entry | _built_entry(staged, matrix)
        case StagedSource():
            return entry | {
                "compressor": COMPRESSOR,
                "root": staged.wrapped_in,
                "commit": staged.commit,
                "tree": staged.tree,
                "matrix": staged.matrix,
            }
        case _:
            assert_never(staged)


def _built_entry(staged: StagedArtifact, matrix: Matrix) -> dict[str, Json]:
    artifact = staged.artifact
    entry: dict[str, Json] = {
        "product": artifact.product,
        "target": artifact.target,
        "made": _made(staged.built, matrix),
    }
    if artifact.kind is ArtifactKind.ARCHIVE:
        entry["compressor"] = COMPRESSOR
        entry["root"] = staged.wrapped_in
        entry["files"] = [
            {"path": str(file.name), "size": file.size_bytes, "sha256": file.sha256, "executable": file.executable}
            for file in staged.packed.files
        ]
    else:
        entry["executable"] = staged.executable
    return entry


def _document(document: Document) -> dict[str, Json]:
    return {
        "path": document.path,
        "kind": document.kind.value,
        "of": document.of,
        "size": len(document.content),
        "sha256": hashlib.sha256(document.content).hexdigest(),
        "sha512": hashlib.sha512(document.content).hexdigest(),
    }


def _made(built: Built, matrix: Matrix) -> dict[str, Json]:
    cell, smoke = built.cell, built.smoke
    names = places(built, matrix)
    return {
        "cell": cell.id,
        "key": cell.key,
        "builder": cell.builder,
        "placement": cell.placement.value,
        "isolation": neutral(cell.toolchain.isolation, names),
        "toolchain": {"name": cell.toolchain.name, "digest": cell.toolchain.identity},
        "source": {"digest": cell.source.digest, "origin": neutral(cell.source.origin, names)},
        "smoke": {
            "how": smoke.how.value,
            "tests": smoke.tests,
            "note": neutral(smoke.note, names),
            "runs": [
                {"run": list(each.run), "exit": each.exit, "stdout_sha256": each.stdout_sha256} for each in smoke.runs
            ],
        },
        "findings": [
            {
                "path": str(finding.path),
                "rule": finding.rule,
                "text": neutral(finding.text, names),
                "verdict": finding.verdict.value,
            }
            for finding in built.findings
        ],
    }


def _absent(report: BuildReport) -> list[Json]:
    """List the cells that were asked for and are not in this release, so that nobody takes it for a whole one."""
    absent: list[tuple[str, bool, str]] = [
        (f"{left.product}/{left.target}", left.required, "left out") for left in report.plan.left_out
    ]
    for result in report.results:
        match result:
            case Built():
                pass
            case Failed(cell=cell, error=error):
                absent.append(_absent_cell(cell, type(error).__name__))
            case Skipped(cell=cell):
                absent.append(_absent_cell(cell, "skipped"))
    return [{"cell": cell, "required": required, "why": why} for cell, required, why in sorted(absent)]


def _absent_cell(cell: Cell, why: str) -> tuple[str, bool, str]:
    return cell.id, cell.required, why


# --- GoReleaser's list -------------------------------------------------------------------------------------------

# Numbers and names of internal/artifact/artifact.go of GoReleaser 1.17 and later.
_ARCHIVE, _BINARY, _FILE, _CHECKSUM = (1, "Archive"), (2, "Binary"), (3, "File"), (12, "Checksum")
_SOURCE = (15, "Source")


def _goreleaser_entry(staged: Staged, below: str) -> dict[str, Json]:
    match staged:
        case StagedArtifact():
            return _goreleaser_built(staged, below)
        case StagedSource(artifact=artifact):
            return {
                "name": str(artifact.path),
                "path": f"{below}/{artifact.path}",
                "internal_type": _SOURCE[0],
                "type": _SOURCE[1],
                "extra": {"Checksum": f"sha256:{artifact.sha256}", "Format": staged.format},
            }
        case _:
            assert_never(staged)


def _goreleaser_built(staged: StagedArtifact, below: str) -> dict[str, Json]:
    artifact, target = staged.artifact, staged.built.cell.target
    number, name = _ARCHIVE if staged.wrapped_in else _BINARY if staged.executable else _FILE
    extra: dict[str, Json] = {"Checksum": f"sha256:{artifact.sha256}", "ID": artifact.product}
    if staged.wrapped_in:
        binaries = [file.name.name for file in staged.packed.files if file.executable]
        extra |= {"Format": staged.format, "WrappedIn": staged.wrapped_in, "Binaries": binaries}
    entry: dict[str, Json] = {
        "name": str(artifact.path),
        "path": f"{below}/{artifact.path}",
        "goos": target.goos,
        "goarch": target.goarch,
        "target": "_".join(filter(None, (target.goos, target.goarch, target.goarm))),
        "internal_type": number,
        "type": name,
        "extra": extra,
    }
    return entry | ({"goarm": target.goarm} if target.goarm else {})
