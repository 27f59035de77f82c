"""What the index lists of a release, taken from its manifest and its verification."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from orchestrator.canonical import Json
from orchestrator.errors import DigestMismatch
from orchestrator.publication import IndexedFile, ReleaseEntry
from orchestrator.publish.index_json import written
from orchestrator.staged import read_staged
from orchestrator.trust import (
    ARMOR,
    ATTESTATION,
    BUNDLE,
    CYCLONEDX,
    ENCRYPTED,
    SPDX,
    STATEMENT,
    SUMMARY,
    VerificationResult,
    VerifiedRelease,
)


def listed_files(release: VerifiedRelease) -> tuple[IndexedFile, ...]:
    """Give every file of a release with its size. A file that changes later is caught where its bytes are read."""
    return tuple(
        IndexedFile(path=str(path), size_bytes=(release.folder / path).stat().st_size, sha256=digest)
        for path, digest in sorted(release.files)
    )


def release_entry(
    release: VerifiedRelease, files: Sequence[IndexedFile], validation: Mapping[str, Json] | None, now: datetime
) -> ReleaseEntry:
    """Give the entry of a release, its audit's digest left open. Raises ManifestInvalid, DigestMismatch."""
    staged = read_staged(release.folder)
    if staged.manifest_sha256 != release.manifest_sha256:
        raise DigestMismatch(
            f"{release.folder / 'manifest.json'} changed since it was verified", next_step="stage anew"
        )
    named = {file.path: file for file in files}
    # A plain file may have been taken out for its encrypted form.
    places = [str(artifact.path) for artifact in staged.artifacts]
    artifacts = [named[path] if path in named else named[f"{path}{ENCRYPTED}"] for path in places]
    return ReleaseEntry(
        version=release.version,
        timestamp=now,
        sha256=release.manifest_sha256,
        size_bytes=sum(file.size_bytes for file in files),
        artifacts=tuple(artifacts),
        sbom_id=_digest_of(files, SPDX, CYCLONEDX),
        slsa_id=_digest_of([file for file in files if not file.path.endswith(SUMMARY)], ATTESTATION),
        provenance_hash=_digest_of(files, STATEMENT),
        signed=any(f"manifest.json{ending}" in named for ending in (BUNDLE, ARMOR)),
        encrypted=any(path.endswith(ENCRYPTED) for path in named),
        verification=verification_json(release.result),
        validation=validation,
        manifest_sha256=release.manifest_sha256,
        targets=tuple(sorted({artifact.target for artifact in staged.artifacts if artifact.target})),
    )


def verification_json(result: VerificationResult) -> dict[str, Json]:
    """Give the seed's fields of a verification."""
    return {
        "passed": result.passed,
        "timestamp": written(result.timestamp),
        "hash_verified": result.hash_verified,
        "signature_verified": result.signature_verified,
        "sbom_validated": result.sbom_validated,
        "slsa_validated": result.slsa_validated,
    }


def _digest_of(files: Sequence[IndexedFile], *endings: str) -> str:
    """Name a set of documents by one digest: that of their lines as `sha256sum` writes them; empty for none."""
    lines = [f"{file.sha256}  {file.path}\n" for file in files if file.path.endswith(endings)]
    return f"sha256:{hashlib.sha256(''.join(sorted(lines)).encode()).hexdigest()}" if lines else ""
