"""A part of a release: the artifacts for some targets, with all that is about the release as a whole."""

from collections.abc import Collection, Mapping
from typing import Final

from builders.names import escaped
from orchestrator.errors import UnknownName
from orchestrator.trust import ATTESTATION, ENCRYPTED, VerificationResult
from orchestrator.verify.manifests import ReadManifest
from orchestrator.verify.names import DOCUMENT_ENDINGS, signatures_of, signed_names

LEFT_OUT: Final = "was not looked at: it is not here, and for none of the targets that were asked for"


def refuse_unknown(targets: Collection[str], there: Collection[str], version: str) -> None:
    """Raise UnknownName for a target that a release has nothing for."""
    unknown = [target for target in targets if target not in there]
    if unknown:
        raise UnknownName(
            f"{version} has nothing for the target {escaped(unknown[0][:200])}",
            next_step=f"it has {', '.join(sorted(there))}",
        )


def is_part(result: VerificationResult) -> bool:
    """Tell whether a result is about a part of a release."""
    return any(each.text == LEFT_OUT for each in result.evidence)


def targets_of(manifest: ReadManifest) -> frozenset[str]:
    """Name the targets that a release was built for."""
    return frozenset(each.entry["target"] for each in manifest.built)


def about_others(
    manifest: ReadManifest, targets: Collection[str], found: Collection[str]
) -> Mapping[str, frozenset[str]]:  # fmt: skip
    """Give the found files that are about each artifact which is for none of the targets; no targets mean all.

    Those are the artifact, its encrypted copy, its documents and its signatures. A source archive is for no target.
    """
    wanted = frozenset(targets)
    others = [each.path for each in manifest.artifacts if wanted and each.entry.get("target") not in wanted]
    signed = signatures_of(found, signed_names(each.path for each in manifest.artifacts))
    there = frozenset(found)
    return {
        name: _own(name) & there | {*signed.get(name, ()), *signed.get(f"{name}{ENCRYPTED}", ())} for name in others
    }


def unsaid(names: Collection[str]) -> frozenset[str]:
    """Name the files by which a summary speaks of artifacts without naming them themselves."""
    return frozenset(f"{name}{ending}" for name in names for ending in (ENCRYPTED, ATTESTATION))


def _own(artifact: str) -> frozenset[str]:
    endings = ("", ENCRYPTED, ATTESTATION, *DOCUMENT_ENDINGS.values())
    return frozenset(f"{artifact}{ending}" for ending in endings)
