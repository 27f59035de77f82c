"""Bytes and public keys -> VerifiedRelease. No network, nothing believed of the run that made the release.

The steps stand in order in `_judge`; none ends the verification, so that every reason to refuse is told at once.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePosixPath

from builders.names import escaped
from orchestrator.errors import DigestMismatch, ManifestInvalid, ProvenanceInvalid, SummaryInvalid, TrustInvalid
from orchestrator.trust import Check, VerificationResult, VerifiedRelease
from orchestrator.verify import artifacts, listing, parts, summary
from orchestrator.verify.case import Case
from orchestrator.verify.expectations import Expectations
from orchestrator.verify.json_strict import BadJson
from orchestrator.verify.manifests import ReadManifest, read_manifest
from orchestrator.verify.names import MANIFEST, SIGNED_PAPERS, summary_name
from orchestrator.verify.opened import Identity
from orchestrator.verify.pgp import Gpg
from orchestrator.verify.reading import FolderRead, Unreadable, private_folder, read_file, read_folder
from orchestrator.verify.results import Ledger, error_of
from orchestrator.verify.signatures import SignatureJudge
from orchestrator.verify.trust_root import TrustRoot


def verify_release(
    folder: Path, trust: TrustRoot, expectations: Expectations, now: datetime,
    identities: Sequence[Identity] = (),
) -> VerifiedRelease:  # fmt: skip
    """Verify a whole release.

    Raises the class of the only kind of failure, or VerificationError for several; its `result` tells each.
    """
    result, verified = judge_release(folder, trust, replace(expectations, targets=()), now, identities)
    if verified is None:
        raise error_of(result)
    return verified


def judge_release(
    folder: Path, trust: TrustRoot, expectations: Expectations, now: datetime,
    identities: Sequence[Identity] = (),
) -> tuple[VerificationResult, VerifiedRelease | None]:  # fmt: skip
    """Verify a release, and give the result whether it holds or not; only a whole one becomes a VerifiedRelease.

    Raises UnknownName where a part of it is asked for that it does not have.
    """
    ledger, read, manifest = Ledger(), None, None
    with private_folder() as room:
        try:
            read = read_folder(folder, room, open_encrypted=bool(identities))
        except Unreadable as error:
            ledger.bad(Check.HASH, "", DigestMismatch, f"{escaped(str(folder))} {error}")
        if read is not None:
            judge = SignatureJudge(trust=trust, gpg=Gpg.of(room, trust.keys.values()), now=now, ledger=ledger)
            manifest = _manifest(read, ledger)
            _judge(Case(folder=read, manifest=manifest, judge=judge, expectations=expectations,
                        identities=tuple(identities)))  # fmt: skip
    subject = read.files[MANIFEST].sha256 if read and MANIFEST in read.files else ""
    result = ledger.result(
        subject=subject, project=manifest.project if manifest else trust.project,
        version=manifest.version if manifest else expectations.version, now=now,
    )  # fmt: skip
    # A manifest that nobody vouches for is not asked what the release has.
    if manifest is not None and result.signature_verified:
        parts.refuse_unknown(expectations.targets, parts.targets_of(manifest), manifest.version)
    if not result.passed or read is None or manifest is None or expectations.targets:
        return result, None
    files = tuple((PurePosixPath(name), file.sha256) for name, file in sorted(read.files.items()))
    return result, VerifiedRelease(
        folder=folder, project=manifest.project, version=manifest.version, manifest_sha256=subject, files=files,
        result=result,
    )  # fmt: skip


def with_summary(verified: VerifiedRelease, path: Path, trust: TrustRoot, now: datetime) -> VerifiedRelease:
    """Give the verified release with its freshly signed summary, which is checked like any other. Raises
    SummaryInvalid or the error of its signatures.
    """
    ledger = Ledger()
    name = summary_name(verified.version)
    with private_folder() as room:
        judge = SignatureJudge(trust=trust, gpg=Gpg.of(room, ()), now=now, ledger=ledger)
        try:
            file = read_file(path)
            said, _ = judge.judge_attestation(file, max(1, trust.attesting(now)))
            same = said is None or said == summary.summary_statement(verified, summary.time_of(said))
            if path.name != name or not same:
                what = f"is not {name}, the summary of this release"
                ledger.bad(Check.POLICY, path.name, SummaryInvalid, what)
        except (Unreadable, BadJson) as error:
            ledger.bad(Check.POLICY, path.name, SummaryInvalid, str(error))
    result = ledger.result(
        subject=verified.manifest_sha256, project=verified.project, version=verified.version, now=now
    )
    if not result.passed:
        raise error_of(result)
    files = tuple(sorted({**dict(verified.files), PurePosixPath(name): file.sha256}.items()))
    return VerifiedRelease(
        folder=verified.folder, project=verified.project, version=verified.version,
        manifest_sha256=verified.manifest_sha256, files=files, result=verified.result,
    )  # fmt: skip


# --- the steps ---------------------------------------------------------------------------------------------------


def _judge(case: Case) -> None:
    _judge_trust(case)  # 1. the keys count now
    for name in SIGNED_PAPERS:  # 2. the manifest and the checksums are signed by enough of them
        if name in case.folder.files:
            case.judge_signatures(case.folder.files[name], case.threshold)
    listing.judge(case)  # 3. the folder holds what the manifest lists, with those bytes, and nothing else
    if case.manifest is None:
        return
    _judge_expectations(case, case.manifest)  # 4. it is the release that was asked for
    for artifact in case.manifest.artifacts:  # 5. each artifact has evidence, and the evidence is about it
        if artifact.path in case.left_out:
            case.good(Check.POLICY, artifact.path, parts.LEFT_OUT)
        else:
            artifacts.judge(case, case.manifest, artifact)
    _judge_summary(case, case.manifest)  # 6. the summary, where there is one, is about all of that


def _manifest(read: FolderRead, ledger: Ledger) -> ReadManifest | None:
    file = read.files.get(MANIFEST)
    if file is None:
        ledger.bad(Check.HASH, MANIFEST, ManifestInvalid, read.refused.get(MANIFEST, "is missing"))
        return None
    try:
        manifest = read_manifest(file.kept())
    except BadJson as error:
        ledger.bad(Check.HASH, MANIFEST, ManifestInvalid, str(error))
        return None
    ledger.good(Check.HASH, MANIFEST, f"lists {len(manifest.listed)} files of {manifest.project} {manifest.version}")
    return manifest


def _judge_trust(case: Case) -> None:
    trust = case.judge.trust
    problems = trust.problems(case.judge.now)
    for problem in problems:
        case.ledger.bad(Check.POLICY, "", TrustInvalid, f"{trust.place} {problem}")
    if not problems:
        name = f"{trust.place}, version {trust.version}" if trust.version else trust.place
        case.good(Check.POLICY, "", f"{case.threshold} of {len(trust.release.keys)} keys must sign, by {name}")


def _judge_expectations(case: Case, manifest: ReadManifest) -> None:
    wanted, trust, ledger = case.expectations, case.judge.trust, case.ledger
    if trust.project and trust.project != manifest.project:
        what = f"is of {manifest.project!r}, and {trust.place} speaks for {trust.project!r} only"
        ledger.bad(Check.POLICY, MANIFEST, ManifestInvalid, what, "verify it with the trust file of its own project")
    if wanted.version and wanted.version != manifest.version:
        what = f"is of version {manifest.version!r}, not {wanted.version!r}"
        ledger.bad(Check.POLICY, MANIFEST, ManifestInvalid, what)
    if wanted.commit and (wanted.commit != manifest.commit or manifest.dirty):
        changed = " with changes" if manifest.dirty else ""
        what = f"is of commit {manifest.commit or 'none'}{changed}, not {wanted.commit}"
        ledger.bad(Check.POLICY, MANIFEST, ProvenanceInvalid, what)


def _judge_summary(case: Case, manifest: ReadManifest) -> None:
    name = summary_name(manifest.version)
    file = case.folder.files.get(name)
    if file is None:
        if case.expectations.require_summary:
            case.ledger.bad(Check.POLICY, name, SummaryInvalid, "is missing, and a summary is asked for")
        return
    said, _ = case.judge.judge_attestation(file, case.attesting)
    if said is None:
        return
    read = {each.name: each.sha256 for each in case.folder.files.values()}
    try:
        statement = summary.read_summary(said)
        # What the summary says of files that need not be here is taken at its word; it binds all that is here.
        told = summary.digests_in(statement, parts.unsaid(case.left_out)) | read
        problems = summary.summary_problems(statement, manifest, read[MANIFEST], told, case.judge.now)
        for problem in problems:
            case.ledger.bad(Check.POLICY, name, SummaryInvalid, problem)
    except BadJson as error:
        case.ledger.bad(Check.POLICY, name, SummaryInvalid, f"{error} (its statement)")
    if not case.ledger.failed(name):
        case.good(Check.POLICY, name, "says that this release passed")
