"""What the index lists of a release, taken from its manifest and its verification."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from builders.names import escaped
from orchestrator.canonical import Json
from orchestrator.errors import DigestMismatch
from orchestrator.manifest import MANIFEST
from orchestrator.publication import IndexedFile, ReleaseEntry
from orchestrator.publish.index_json import written
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
    listed = sorted((str(path), digest) for path, digest in release.files)
    return tuple(
        IndexedFile(path=path, size_bytes=Path(release.folder, path).stat().st_size, sha256=digest)
        for path, digest in listed
    )


def release_entry(
    release: VerifiedRelease, files: Sequence[IndexedFile], validation: Mapping[str, Json] | None, now: datetime
) -> ReleaseEntry:
    """Give the entry of a release, its audit's digest left open. Raises DigestMismatch."""
    listed = _listed(release)
    named = {file.path: file for file in files}
    # A plain file may have been taken out for its encrypted form.
    artifacts = [named[path] if path in named else named[f"{path}{ENCRYPTED}"] for path, _ in listed]
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
        targets=tuple(sorted({target for _, target in listed if target})),
    )


def _listed(release: VerifiedRelease) -> list[tuple[str, str]]:
    """Give path and target of each artifact that the manifest lists."""
    # Whoever verified the release read these very bytes strictly: only whether they are the same is open.
    body = _read(release.folder / MANIFEST)
    if hashlib.sha256(body).hexdigest() != release.manifest_sha256:
        raise DigestMismatch(f"{release.folder / MANIFEST} changed since it was verified", next_step="stage anew")
    return [(entry["path"], entry.get("target", "")) for entry in json.loads(body)["artifacts"]]


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = f"{escaped(str(path))} cannot be read any more: {error.strerror}"
        raise DigestMismatch(what, next_step="stage anew") from None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


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
