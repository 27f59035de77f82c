"""Judges the evidence of one artifact: signatures, SBOMs, provenance with its attestation, encrypted copy."""

from orchestrator.errors import (
    DigestMismatch,
    EncryptionInvalid,
    ProvenanceInvalid,
    SbomInvalid,
    TooFewSignatures,
)
from orchestrator.trust import ATTESTATION, ENCRYPTED, STATEMENT, Check
from orchestrator.verify import opened
from orchestrator.verify.case import Case
from orchestrator.verify.json_strict import BadJson
from orchestrator.verify.manifests import SOURCE, Listed, ReadManifest
from orchestrator.verify.names import DOCUMENT_ENDINGS
from orchestrator.verify.provenances import (
    builder_of,
    contradictions,
    read_statement,
    source_uris,
    subject_problem,
)
from orchestrator.verify.reading import FileRead
from orchestrator.verify.sboms import refuse_other_sbom

_SBOMS = ("sbom-spdx", "sbom-cyclonedx")


def judge(case: Case, manifest: ReadManifest, artifact: Listed) -> None:
    """Note what holds and what does not."""
    file = case.folder.files.get(artifact.path)
    if file is not None:
        required = case.threshold if case.expectations.require_artifact_signatures else 0
        case.judge_signatures(file, required)
    elif case.signatures.get(artifact.path):
        for name in case.signatures[artifact.path]:
            case.ledger.bad(Check.HASH, name, DigestMismatch, f"signs {artifact.path}, which is not here")
    if artifact.kind != SOURCE:
        for kind in _SBOMS:
            _judge_sbom(case, manifest, artifact, kind)
        _judge_provenance(case, manifest, artifact)
    _judge_encrypted(case, artifact, plain=file)


# --- SBOM --------------------------------------------------------------------------------------------------------


def _judge_sbom(case: Case, manifest: ReadManifest, artifact: Listed, kind: str) -> None:
    name = f"{artifact.path}{DOCUMENT_ENDINGS[kind]}"
    if manifest.document(artifact.path, kind) is None:
        if case.expectations.require_sbom:
            case.ledger.bad(Check.SBOM, name, SbomInvalid, "is not in the manifest, and an SBOM is asked for")
        return
    file = case.folder.files.get(name)
    if file is None:
        return
    try:
        refuse_other_sbom(file.kept(), kind, artifact.sha256, artifact.sha512)
    except BadJson as error:
        case.ledger.bad(Check.SBOM, name, SbomInvalid, str(error))
    else:
        case.good(Check.SBOM, name, f"describes {artifact.path}")


# --- provenance --------------------------------------------------------------------------------------------------


def _judge_provenance(case: Case, manifest: ReadManifest, artifact: Listed) -> None:
    name, attested_name = f"{artifact.path}{STATEMENT}", f"{artifact.path}{ATTESTATION}"
    listed = manifest.document(artifact.path, "provenance")
    if listed is None and case.expectations.require_attestations:
        case.ledger.bad(Check.SLSA, name, ProvenanceInvalid, "is not in the manifest, and provenance is asked for")
    file, attestation = case.folder.files.get(name), case.folder.files.get(attested_name)
    said = None
    if attestation is not None:
        said, _ = case.judge.judge_attestation(attestation, case.attesting)
    elif case.expectations.require_attestations:
        _note_missing_attestation(case, attested_name)
    if file is None:
        if attestation is not None and listed is None:
            what = "attests a statement that the manifest does not list"
            case.ledger.bad(Check.SLSA, attested_name, ProvenanceInvalid, what)
        return
    if said is not None and said != file.content:
        what = f"attests something else than {name} says"
        case.ledger.bad(Check.SLSA, attested_name, ProvenanceInvalid, what)
    _judge_statement(case, manifest, artifact, file)


def _note_missing_attestation(case: Case, name: str) -> None:
    if case.attesting:
        case.ledger.bad(Check.SIGNATURE, name, TooFewSignatures, "is missing: nobody signed the provenance")
    else:
        what = (
            "is not there: no trusted key can attest (GPG keys cannot); the signed manifest vouches for the statement"
        )
        case.good(Check.SLSA, name, what)


def _judge_statement(case: Case, manifest: ReadManifest, artifact: Listed, file: FileRead) -> None:
    try:
        statement = read_statement(file.kept())
    except BadJson as error:
        case.ledger.bad(Check.SLSA, file.name, ProvenanceInvalid, str(error))
        return
    problems = [subject_problem(statement, artifact.path, artifact.sha256, artifact.sha512)]
    problems += contradictions(statement, artifact, manifest)
    for problem in filter(None, problems):
        case.ledger.bad(Check.SLSA, file.name, ProvenanceInvalid, problem)
    wanted = case.expectations
    if builder_of(statement) not in wanted.builders:
        what = f"names the builder {builder_of(statement)[:100]!r}, which is not expected"
        case.ledger.bad(Check.POLICY, file.name, ProvenanceInvalid, what)
    if wanted.source_uri and wanted.source_uri not in source_uris(statement):
        what = f"names the sources {', '.join(sorted(source_uris(statement)))[:300]}, not {wanted.source_uri}"
        case.ledger.bad(Check.POLICY, file.name, ProvenanceInvalid, what)
    if not case.ledger.failed(file.name):
        case.good(Check.SLSA, file.name, f"says how {artifact.path} was built, by {builder_of(statement)}")


# --- encrypted copies --------------------------------------------------------------------------------------------


def _judge_encrypted(case: Case, artifact: Listed, plain: FileRead | None) -> None:
    name = f"{artifact.path}{ENCRYPTED}"
    file = case.folder.files.get(name)
    if file is None:
        if case.expectations.require_encryption:
            case.ledger.bad(Check.POLICY, name, EncryptionInvalid, "is missing, and encryption is asked for")
        for signature in case.signatures.get(name, ()):
            case.ledger.bad(Check.HASH, signature, DigestMismatch, f"signs {name}, which is not here")
        return
    case.judge_signatures(file, case.threshold)
    if case.identities:
        _judge_inside(case, artifact, file)
    elif plain is None and not case.expectations.require_encryption:
        what = f"is missing, and its encrypted copy {name} was not opened"
        step = "give --identity to look inside, or --require-encryption to take the signed copy for it"
        case.ledger.bad(Check.HASH, artifact.path, DigestMismatch, what, step)
    else:
        case.good(Check.POLICY, name, "is signed; it was not opened")


def _judge_inside(case: Case, artifact: Listed, file: FileRead) -> None:
    try:
        inside = opened.open_encrypted(file.copy, case.identities)
    except opened.NotOpened as error:
        case.ledger.bad(Check.POLICY, file.name, EncryptionInvalid, str(error))
        return
    if (inside.size_bytes, inside.sha256) == (artifact.size_bytes, artifact.sha256):
        case.good(Check.POLICY, file.name, f"holds {artifact.path}")
    else:
        what = f"holds something else than {artifact.path} (SHA-256 {inside.sha256[:16]}...)"
        case.ledger.bad(Check.POLICY, file.name, EncryptionInvalid, what)
