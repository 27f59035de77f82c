"""What the policy is shown of a release: taken from its verification, its manifest and its folder, and from papers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Never

from builders.errors import RelbuildError
from builders.names import escaped
from orchestrator import verify
from orchestrator.errors import MetadataMissing, VerificationRequired
from orchestrator.manifest import MANIFEST, DocumentKind
from orchestrator.model import ArtifactKind, StagedRelease
from orchestrator.policy import RULES, Broken, Held, Rule, Verdict
from orchestrator.policy_evidence import Approval, GateReport, PolicyEvidence, PublishedArtifact
from orchestrator.publication_policy import PublicationPolicy
from orchestrator.staged import StagedDocument, read_documents, read_staged
from orchestrator.trust import ARMOR, ATTESTATION, BUNDLE, ENCRYPTED, Check, VerificationResult
from orchestrator.validation_evidence import Validation
from orchestrator.verify.json_strict import BadJson
from orchestrator.verify.parts import is_part

ARTIFACT_SIGNATURES: Final = "artifact signatures"
"""A rule that `--require-signatures` turns on, beside "signatures", which the manifest's fulfil."""

_MAX_BYTES: Final = 64 << 20
_DOCUMENTED: Final = (DocumentKind.SPDX, DocumentKind.CYCLONEDX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A staged release that somebody wants published, as its manifest tells it."""

    staged: StagedRelease
    documents: tuple[StagedDocument, ...]
    project: str
    commit: str
    absent: tuple[str, ...]
    """Required cells that are not in it."""
    dirty: bool = True
    """Whether it was built of a tree that was not its commit's."""


# --- papers ------------------------------------------------------------------------------------------------------


def read_candidate(folder: Path) -> Candidate:
    """Read the manifest of a staged folder. Raises MetadataMissing where it has none, StagingError, ManifestInvalid."""
    if folder.is_dir() and not (folder / MANIFEST).exists():
        raise MetadataMissing(
            f"{escaped(str(folder))} has no {MANIFEST}", next_step="stage and sign the release: relbuild matrix"
        )
    staged = read_staged(folder)
    documents = read_documents(staged)
    # Its form was checked by both readers above; these fields are theirs to leave alone.
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    absent = [each for each in manifest["absent"] if isinstance(each, dict)]
    return Candidate(
        staged=staged, documents=documents, project=str(manifest["project"]), commit=str(manifest["commit"]),
        dirty=manifest["dirty"] is not False,
        absent=tuple(str(each.get("cell")) for each in absent if each.get("required") is not False),
    )  # fmt: skip


def read_verification(path: Path) -> VerificationResult:
    """Read a result of `relbuild verify --result`. Raises VerificationRequired."""
    try:
        result = verify.from_json(_content(path))
    except BadJson as error:
        raise VerificationRequired(
            f"{escaped(str(path))} is no verification result: it {error}",
            next_step="`relbuild verify FOLDER --result FILE` writes one",
        ) from None
    except OSError as error:
        _unreadable(path, error, VerificationRequired)
    if is_part(result):
        raise VerificationRequired(
            f"{escaped(str(path))} is about a part of a release alone",
            next_step="verify the whole of it: `relbuild verify FOLDER --result FILE`",
        )
    return result


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES)


def _unreadable(path: Path, error: OSError, kind: type[RelbuildError]) -> Never:
    raise kind(f"{escaped(str(path))} cannot be read: {error.strerror}", next_step="name the right file") from None


# --- evidence ----------------------------------------------------------------------------------------------------


def gather(
    candidate: Candidate, result: VerificationResult, *, attested: bool, taken: str, required: frozenset[str],
    validation: Validation | None, earlier: VerificationResult | None, reproduction: GateReport | None = None,
    more: Mapping[str, GateReport] | None = None, approvals: tuple[Approval, ...] = (),
) -> PolicyEvidence:  # fmt: skip
    """Gather what the rules look at. `attested`: some trusted key can sign provenance, so that somebody must have."""
    staged = candidate.staged
    files = frozenset(path.name for path in staged.folder.iterdir())
    failed = {each.file for each in result.evidence if each.error}
    held = files - failed
    documents = {(each.of, each.kind) for each in candidate.documents if str(each.path) in held}

    def about(name: str, target: str, kind: ArtifactKind) -> PublishedArtifact:
        statement = (name, DocumentKind.PROVENANCE) in documents
        return PublishedArtifact(
            path=name, target=target, sbom=all((name, kind) in documents for kind in _DOCUMENTED),
            provenance=statement and (not attested or f"{name}{ATTESTATION}" in held),
            encrypted=f"{name}{ENCRYPTED}" in held, source=kind is ArtifactKind.SOURCE,
        )  # fmt: skip

    return PolicyEvidence(
        version=staged.version,
        subject=staged.manifest_sha256,
        verification=_worse(result, earlier, staged.manifest_sha256),
        artifacts=tuple(about(str(each.path), each.target, each.kind) for each in staged.artifacts),
        files=files,
        signed_by=_signers(result),
        required_targets=required,
        absent=candidate.absent,
        taken=taken,
        gates={
            **({"validation": validation.report} if validation else {}),
            **({"reproducibility": reproduction} if reproduction else {}),
            **(more or {}),
        },
        approvals=approvals,
    )


def _worse(result: VerificationResult, earlier: VerificationResult | None, subject: str) -> VerificationResult:
    """Give the verification that says no, of the one that was just made and one that was brought along."""
    if earlier is None or not result.passed or (earlier.passed and earlier.subject == subject):
        return result
    return earlier


def _signers(result: VerificationResult) -> tuple[str, ...]:
    """Name the good signatures of the manifest whose keys count."""
    return tuple(
        each.text
        for each in result.evidence
        if each.check is Check.SIGNATURE and not each.error and each.file.startswith(MANIFEST)
        and "not counted" not in each.text
    )  # fmt: skip


def _artifacts_signed(_: PublicationPolicy, evidence: PolicyEvidence) -> Verdict:
    # Each signature that is there was verified: one that does not hold fails the verification.
    names = [each.path for each in evidence.artifacts]
    missing = sorted(
        path
        for path in names
        if not any(each.startswith(f"{path}.") and each.endswith((BUNDLE, ARMOR)) for each in evidence.files)
    )
    if missing or not names or evidence.verification is None or not evidence.verification.signature_verified:
        return Broken(text=f"no signature that holds beside {', '.join(missing) or 'any artifact'}")
    return Held(text="each artifact has its own signature")


OUR_RULES: Final[Mapping[str, Rule]] = {
    **RULES,
    ARTIFACT_SIGNATURES: Rule(
        name=ARTIFACT_SIGNATURES,
        error=RULES["signatures"].error,
        look=_artifacts_signed,
    ),
}
