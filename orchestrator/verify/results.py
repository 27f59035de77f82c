"""What a verification found: collected check by check, judged once, and written as JSON (relbuild/verification/v1)."""

from datetime import UTC, datetime
from typing import Any, Final

from orchestrator import errors
from orchestrator.errors import (
    DigestMismatch,
    EncryptionInvalid,
    ManifestInvalid,
    ProvenanceInvalid,
    SbomInvalid,
    SignatureInvalid,
    SummaryInvalid,
    TooFewSignatures,
    TrustInvalid,
    UntrustedKey,
    VerificationError,
)
from orchestrator.trust import Check, Evidence, VerificationResult
from orchestrator.verify.json_strict import (
    TEXT,
    BadJson,
    boolean,
    canonical,
    check,
    exactly,
    integer,
    list_of,
    parse_canonical,
    record,
    text,
)

SCHEMA: Final = "relbuild/verification/v1"
_TIME_FORM = "%Y-%m-%dT%H:%M:%SZ"
_FLAGS: dict[str, Check] = {
    "hash_verified": Check.HASH,
    "signature_verified": Check.SIGNATURE,
    "sbom_validated": Check.SBOM,
    "slsa_validated": Check.SLSA,
    "policy_passed": Check.POLICY,
}
_NEXT_STEPS: dict[type[VerificationError], str] = {
    DigestMismatch: "get the release again; if that is no help, it was changed after it was made: do not use it",
    SignatureInvalid: "get the signature again; if that is no help, do not use what it should sign",
    TooFewSignatures: "get the missing signatures, or sign with one more trusted key",
    UntrustedKey: "compare the key with what the project publishes; if it is right, get the newer trust file",
    SbomInvalid: "get the release again, or make it again: this SBOM says nothing about the artifact",
    ManifestInvalid: "get the release again; without a manifest nothing in it can be believed",
    ProvenanceInvalid: "do not use the artifact unless you know why it was built otherwise",
    EncryptionInvalid: "get the encrypted file again, or give the right --identity",
    TrustInvalid: "get the newest trust file from the project",
    SummaryInvalid: "verify the release without the summary, and have a new one made",
}


class Ledger:
    """Collects what was looked at, good and bad, in the order in which it was looked at."""

    def __init__(self) -> None:
        self._evidence: list[Evidence] = []

    def keep(self, evidence: Evidence) -> None:
        """Take evidence as it is."""
        self._evidence.append(evidence)

    def good(self, check_kind: Check, file: str, what: str) -> None:
        """Note what held."""
        self._evidence.append(Evidence(check=check_kind, file=file, text=what))

    def bad(self, check_kind: Check, file: str, error: type[VerificationError], what: str, next_step: str = "") -> None:
        """Note what did not hold; the check goes on."""
        self._evidence.append(
            Evidence(
                check=check_kind, file=file, text=what, error=error.__name__, exit_code=error.exit_code,
                next_step=next_step or _NEXT_STEPS[error],
            )
        )  # fmt: skip

    def failed(self, file: str) -> bool:
        """Tell whether something of a file did not hold so far."""
        return any(each.error for each in self._evidence if each.file == file)

    def result(self, *, subject: str, project: str, version: str, now: datetime) -> VerificationResult:
        """Judge: a family of checks holds when something of it was looked at, and nothing of it failed."""
        bad = [each for each in self._evidence if each.error]
        codes = {each.exit_code for each in bad}
        looked_at = {each.check for each in self._evidence}
        held = {flag: kind in looked_at and all(each.check is not kind for each in bad)
                for flag, kind in _FLAGS.items()}  # fmt: skip
        code = 0 if not codes else codes.pop() if len(codes) == 1 else VerificationError.exit_code
        return VerificationResult(
            subject=subject, project=project, version=version, passed=not bad, timestamp=now.replace(microsecond=0),
            exit_code=code, evidence=tuple(self._evidence), **held,
        )  # fmt: skip


def error_of(result: VerificationResult) -> VerificationError:
    """Give the error that a failed verification ends with: of the only kind, or VerificationError for several."""
    bad = [each for each in result.evidence if each.error]
    kinds = {each.error for each in bad}
    kind = getattr(errors, kinds.pop()) if len(kinds) == 1 else VerificationError
    lines = "\n".join(f"  {each.file or 'the release'}: {each.text}" for each in bad)
    what = f"{result.project or 'the release'} {result.version}".strip()
    error: VerificationError = kind(
        f"{what} does not hold, for {len(bad)} reason{'s' if len(bad) != 1 else ''}:\n{lines}",
        next_step="; ".join(dict.fromkeys(each.next_step for each in bad)),
    )
    error.result = result  # type: ignore[attr-defined]  # callers that want every reason read it (contract)
    return error


# --- JSON --------------------------------------------------------------------------------------------------------

_KINDS: tuple[type[VerificationError], ...] = (*_NEXT_STEPS, VerificationError)
_ERRORS = {kind.__name__: kind.exit_code for kind in _KINDS}
_EVIDENCE = record(
    {
        "check": exactly(*(kind.value for kind in Check)),
        "file": TEXT,
        "text": TEXT,
        "error": exactly("", *_ERRORS),
        "exit_code": integer,
        "next_step": TEXT,
    }
)
_RESULT = record(
    {
        "schema": exactly(SCHEMA),
        "subject": text(r"(?:[0-9a-f]{64})?", "SHA-256, or nothing"),
        "project": TEXT,
        "version": TEXT,
        "passed": boolean,
        "timestamp": text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", "time"),
        "exit_code": integer,
        "evidence": list_of(_EVIDENCE),
        **dict.fromkeys(_FLAGS, boolean),
    }
)


def to_json(result: VerificationResult) -> bytes:
    """Write a result as canonical JSON."""
    return canonical(
        {
            "schema": SCHEMA,
            "subject": result.subject,
            "project": result.project,
            "version": result.version,
            "passed": result.passed,
            "timestamp": result.timestamp.astimezone(UTC).strftime(_TIME_FORM),
            "exit_code": result.exit_code,
            "evidence": [
                {"check": each.check.value, "file": each.file, "text": each.text, "error": each.error,
                 "exit_code": each.exit_code, "next_step": each.next_step}
                for each in result.evidence
            ],
            **{flag: getattr(result, flag) for flag in _FLAGS},
        }
    )  # fmt: skip


def from_json(data: bytes) -> VerificationResult:
    """Read a result, and judge its evidence anew: a result that contradicts it is refused. Raises BadJson."""
    value = check(parse_canonical(data), _RESULT)
    ledger = Ledger()
    for each in value["evidence"]:
        ledger.keep(_evidence(each))
    when = _time(value["timestamp"])
    result = ledger.result(subject=value["subject"], project=value["project"], version=value["version"], now=when)
    if to_json(result) != data:
        raise BadJson("contradicts its own evidence")
    return result


def _evidence(value: Any) -> Evidence:
    if value["exit_code"] != _ERRORS.get(value["error"], 0):
        raise BadJson(f"gives {value['error'] or 'no error'} the exit code {value['exit_code']}")
    return Evidence(**{**value, "check": Check(value["check"])})


def _time(written: str) -> datetime:
    try:
        return datetime.strptime(written, _TIME_FORM).replace(tzinfo=UTC)
    except ValueError:
        raise BadJson(f"has {written!r}, which is no time") from None
