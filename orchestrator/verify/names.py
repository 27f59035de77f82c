"""What a file of a release is, told by its name: nothing else may lie in its folder."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from orchestrator.trust import ARMOR, ATTESTATION, BUNDLE, CYCLONEDX, ENCRYPTED, SPDX, STATEMENT, SUMMARY
from orchestrator.verify.signatures import SHORT_ID

MANIFEST, SHA256_SUMS, SHA512_SUMS, GORELEASER = "manifest.json", "checksums.txt", "checksums.sha512", "artifacts.json"
SIGNED_PAPERS: Final = (MANIFEST, SHA256_SUMS)

DOCUMENT_ENDINGS: Final = {"sbom-spdx": SPDX, "sbom-cyclonedx": CYCLONEDX, "provenance": STATEMENT}
PAPERS: Final = {SHA256_SUMS: "checksums", SHA512_SUMS: "checksums", GORELEASER: "goreleaser"}

TAKEN_ENDINGS: Final = (SPDX, CYCLONEDX, STATEMENT, BUNDLE, ATTESTATION, ARMOR, ENCRYPTED, SUMMARY, ".vsa")
"""Endings that no artifact may have: its name would say that it is something else."""


def summary_name(version: str) -> str:
    return f"{version}{SUMMARY}"


def signed_names(artifacts: Iterable[str]) -> set[str]:
    """Name the files that may have signatures beside them."""
    return {*SIGNED_PAPERS, *(name for artifact in artifacts for name in (artifact, f"{artifact}{ENCRYPTED}"))}


def signatures_of(found: Collection[str], subjects: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """Give the signatures among the found names, by what they sign; F.<12 digits>.asc and F.asc sign F."""
    signatures: dict[str, list[str]] = {}
    for name in sorted(found):
        subject = _subject_of(name, subjects)
        if subject is not None:
            signatures.setdefault(subject, []).append(name)
    return {subject: tuple(names) for subject, names in signatures.items()}


def _subject_of(name: str, subjects: Collection[str]) -> str | None:
    for ending in (BUNDLE, ARMOR):
        stem = name.removesuffix(ending)
        if stem == name:
            continue
        if stem in subjects:
            return stem
        before, dot, digits = stem.rpartition(".")
        if dot and len(digits) == SHORT_ID and before in subjects:
            return before
    return None
