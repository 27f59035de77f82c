"""Verifies one file with the evidence beside it, and one signature at once after it was made."""

import glob
import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from builders.names import escaped, unsafe_reason
from orchestrator.errors import DigestMismatch, ProvenanceInvalid, SbomInvalid, TooFewSignatures, TrustInvalid
from orchestrator.trust import ARMOR, ATTESTATION, BUNDLE, STATEMENT, Check, KeyId, VerificationResult
from orchestrator.verify.expectations import Expectations
from orchestrator.verify.json_strict import BadJson
from orchestrator.verify.keys import TrustedKey
from orchestrator.verify.names import DOCUMENT_ENDINGS, signatures_of
from orchestrator.verify.pgp import Gpg
from orchestrator.verify.provenances import builder_of, commit_of, read_statement, source_uris, subject_problem
from orchestrator.verify.reading import FileRead, Unreadable, private_folder, read_file
from orchestrator.verify.results import Ledger, error_of
from orchestrator.verify.sboms import refuse_other_sbom
from orchestrator.verify.signatures import SignatureJudge
from orchestrator.verify.trust_root import RELEASE, Role, TrustRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beside:
    """A file and the evidence that lies beside it, by name."""

    file: FileRead
    evidence: Mapping[str, FileRead]
    judge: SignatureJudge
    wanted: Expectations

    def named(self, ending: str) -> FileRead | None:
        return self.evidence.get(f"{self.file.name}{ending}")


def verify_file(
    path: Path, trust: TrustRoot, now: datetime, expectations: Expectations | None = None
) -> VerificationResult:
    """Verify one artifact with its `.sigstore.json`, `.asc`, `.intoto.jsonl`, `.provenance.json` and SBOMs.

    Distinct keys count across its signatures and its attestation. Whether it belongs to a release nobody looks at.
    """
    ledger = Ledger()
    subject = ""
    for problem in trust.problems(now):
        ledger.bad(Check.POLICY, "", TrustInvalid, f"{trust.place} {problem}")
    with private_folder() as room:
        judge = SignatureJudge(trust=trust, gpg=Gpg.of(room, trust.keys.values()), now=now, ledger=ledger)
        try:
            _refuse_bad_name(path)
            armored = any(path.parent.glob(f"{glob.escape(path.name)}*{ARMOR}"))
            file = read_file(path, copy=room / "copy" if armored else None)
            subject = file.sha256
            ledger.good(Check.HASH, file.name, f"was read: SHA-256 {file.sha256}")
            evidence = dict(_read_beside(path, ledger))
            _judge(_Beside(file=file, evidence=evidence, judge=judge, wanted=expectations or Expectations()))
        except (Unreadable, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            ledger.bad(Check.HASH, escaped(str(path)), DigestMismatch, reason or "cannot be read")
    return ledger.result(subject=subject, project=trust.project, version="", now=now)


def check_signature(subject: Path | bytes, signature: bytes, key: TrustedKey, now: datetime) -> None:
    """Check one fresh signature: of a file, or of a statement (its bytes), by exactly this key.

    Raises SignatureInvalid, UntrustedKey (another key, or not now), ProvenanceInvalid (another statement);
    DigestMismatch for a file that cannot be read.
    """
    trust = TrustRoot(place="the signer's key", project="", version=0, expires=None, keys={key.key_id: key},
                      roles={RELEASE: Role(threshold=1, keys=(key.key_id,))})  # fmt: skip
    ledger, ending = Ledger(), ARMOR if signature.startswith(b"-----") else BUNDLE
    # Only gpg needs a folder, and making one for each of a thousand signatures would be a third of their cost.
    with private_folder() if ending == ARMOR else nullcontext(Path()) as room:
        judge = SignatureJudge(trust=trust, gpg=Gpg.of(room, (key,)), now=now, ledger=ledger)
        if isinstance(subject, bytes):
            attestation = _in_memory("the statement", signature.removesuffix(b"\n") + b"\n")
            said, _ = judge.judge_attestation(attestation, 1)
            if said not in {None, subject}:
                ledger.bad(Check.SIGNATURE, "the statement", ProvenanceInvalid, "is signed with another payload")
        else:
            try:
                # Only gpg reads the bytes a second time, from a private copy.
                file = read_file(subject, copy=room / "copy" if ending == ARMOR else None)
                judge.judge_file(file, [_in_memory(f"{file.name}{ending}", signature)], 1)
            except Unreadable as error:
                ledger.bad(Check.HASH, subject.name, DigestMismatch, str(error))
    result = ledger.result(subject="", project="", version="", now=now)
    if not result.passed:
        raise error_of(result)


def _refuse_bad_name(path: Path) -> None:
    reason = "holds a zero" if "\0" in str(path) else unsafe_reason(os.fsencode(path.name))
    if reason:
        raise Unreadable(reason)


def _in_memory(name: str, content: bytes) -> FileRead:
    return FileRead(name=name, size_bytes=len(content), sha256="", sha512="", hashes={}, content=content)


def _read_beside(path: Path, ledger: Ledger) -> Iterable[tuple[str, FileRead]]:
    names = {each.name for each in path.parent.iterdir() if each.name.startswith(path.name)}
    wanted = set(signatures_of(names, {path.name}).get(path.name, ()))
    wanted |= {f"{path.name}{ending}" for ending in (ATTESTATION, STATEMENT, *DOCUMENT_ENDINGS.values())} & names
    for name in sorted(wanted):
        try:
            yield name, read_file(path.parent / name)
        except Unreadable as error:
            ledger.bad(Check.HASH, name, DigestMismatch, str(error))


def _judge(beside: _Beside) -> None:
    ledger, file, threshold = beside.judge.ledger, beside.file, beside.judge.trust.release.threshold
    signatures = [each for name, each in beside.evidence.items() if name.endswith((BUNDLE, ARMOR))]
    attestation = beside.named(ATTESTATION)
    both = bool(signatures) and attestation is not None
    makers: set[KeyId] = set()
    if signatures or attestation is None:
        makers |= set(beside.judge.judge_file(file, signatures, 0 if both else threshold))
    if attestation is not None:
        makers |= set(_judge_attestation(beside, attestation, 0 if both else threshold))
    if both and len(makers) < threshold:
        what = f"is signed by {len(makers)} keys that count, and {threshold} must"
        ledger.bad(Check.SIGNATURE, file.name, TooFewSignatures, what)
    for kind in ("sbom-spdx", "sbom-cyclonedx"):
        _judge_sbom(beside, kind)


def _judge_attestation(beside: _Beside, attestation: FileRead, required: int) -> tuple[KeyId, ...]:
    said, makers = beside.judge.judge_attestation(attestation, required)
    statement = beside.named(STATEMENT)
    ledger, wanted, file = beside.judge.ledger, beside.wanted, beside.file
    if said is None:
        return ()
    if statement is not None and statement.content != said:
        what = f"attests something else than {statement.name} says"
        ledger.bad(Check.SLSA, attestation.name, ProvenanceInvalid, what)
    try:
        read = read_statement(said)
    except BadJson as error:
        ledger.bad(Check.SLSA, attestation.name, ProvenanceInvalid, f"{error} (its statement)")
        return ()
    problems = {
        subject_problem(read, file.name, file.sha256, file.sha512): Check.SLSA,
        _unlike("builder", builder_of(read), builder_of(read) in wanted.builders): Check.POLICY,
        _unlike("commit", str(commit_of(read)), not wanted.commit or commit_of(read) == wanted.commit): Check.POLICY,
        _unlike("source", ", ".join(sorted(source_uris(read))),
                not wanted.source_uri or wanted.source_uri in source_uris(read)): Check.POLICY,
    }  # fmt: skip
    found = {problem: check for problem, check in problems.items() if problem}
    for problem, check in found.items():
        ledger.bad(check, attestation.name, ProvenanceInvalid, problem)
    if not found:
        ledger.good(Check.SLSA, attestation.name, f"says how {file.name} was built, by {builder_of(read)}")
    return () if found else makers


def _unlike(what: str, said: str, expected: bool) -> str:
    return "" if expected else f"names the {what} {said[:200]!r}, which is not expected"


def _judge_sbom(beside: _Beside, kind: str) -> None:
    sbom = beside.named(DOCUMENT_ENDINGS[kind])
    if sbom is None:
        return
    try:
        refuse_other_sbom(sbom.kept(), kind, beside.file.sha256, beside.file.sha512)
    except BadJson as error:
        beside.judge.ledger.bad(Check.SBOM, sbom.name, SbomInvalid, str(error))
    else:
        what = f"describes {beside.file.name}; its own signature is that of the release's manifest, not looked at here"
        beside.judge.ledger.good(Check.SBOM, sbom.name, what)
