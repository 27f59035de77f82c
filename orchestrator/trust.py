"""The values that travel from a staged release to a verified one.

StagedRelease -> SignedRelease -> VerifiedRelease, with the VerificationResult that says what was looked at.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import NewType

from orchestrator.model import StagedRelease

# Said twice because what signs is written with these names as much as with those below.
from orchestrator.signing_rules import EncryptionRules as EncryptionRules  # noqa: PLC0414
from orchestrator.signing_rules import PassphraseFrom as PassphraseFrom  # noqa: PLC0414
from orchestrator.signing_rules import PassphraseSource as PassphraseSource  # noqa: PLC0414
from orchestrator.signing_rules import PlainFiles as PlainFiles  # noqa: PLC0414
from orchestrator.signing_rules import SignerKind as SignerKind  # noqa: PLC0414
from orchestrator.signing_rules import SignerRules as SignerRules  # noqa: PLC0414
from orchestrator.signing_rules import SigningRules as SigningRules  # noqa: PLC0414

KeyId = NewType("KeyId", str)
"""SHA-256 of the public key's SPKI in DER (64 hexadecimal digits), or a GPG fingerprint (40), or `keyless:IDENTITY`."""

# --- names of the files that signing adds; a name says what a file is, so that a foreign one is noticed ------------

BUNDLE = ".sigstore.json"
"""Sigstore bundle v0.3 over the file before it; a second signer's ends in .<12 digits of its key id> and that."""
ARMOR = ".asc"
ATTESTATION = ".intoto.jsonl"
"""One Sigstore bundle with a DSSE envelope a line, one line a signer."""
STATEMENT = ".provenance.json"
"""The unsigned in-toto statement: the exact payload of the attestation beside it."""
SPDX, CYCLONEDX = ".spdx.json", ".cdx.json"
SUMMARY = ".vsa.intoto.jsonl"
"""`<version>.vsa.intoto.jsonl`."""
ENCRYPTED = ".age"


# --- the release on its way --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRelease:
    """A staged release with signatures beside its files. Signed is not yet verified."""

    staged: StagedRelease
    key_ids: tuple[KeyId, ...]
    files: tuple[PurePosixPath, ...]
    """What signing wrote, relative to the release's folder."""


class Check(StrEnum):
    """The families of checks, as VerificationResult reports them."""

    HASH = "hash"
    SIGNATURE = "signature"
    SBOM = "sbom"
    SLSA = "slsa"
    POLICY = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One thing that was looked at. `error` names the class of what is wrong, or is empty."""

    check: Check
    file: str
    text: str
    error: str = ""
    exit_code: int = 0
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationResult:
    """What a verification found, bound to the manifest that it judged (`subject`: sha256 of manifest.json).

    `exit_code` is 0, the code of the only kind of failure, or 40 for several.
    """

    subject: str
    project: str
    version: str
    passed: bool
    timestamp: datetime
    hash_verified: bool
    signature_verified: bool
    sbom_validated: bool
    slsa_validated: bool
    policy_passed: bool
    exit_code: int
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRelease:
    """A release whose every byte was read again and held. Only orchestrator/verify makes one."""

    folder: Path
    project: str
    version: str
    manifest_sha256: str
    files: tuple[tuple[PurePosixPath, str], ...]
    """Every file of the folder with its SHA-256, as it was when it was verified."""
    result: VerificationResult
