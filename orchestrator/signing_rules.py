"""What `[signing]` says: who signs, whose signatures count, and for whom files are encrypted."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class SignerKind(StrEnum):
    KEY_FILE = "key-file"
    GPG = "gpg"
    KMS = "kms"
    KEYLESS = "keyless"


class PassphraseFrom(StrEnum):
    NONE = "none"
    ENV = "env"
    FD = "fd"
    PROMPT = "prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassphraseSource:
    """Where a passphrase comes from: `where` names the environment variable or the file descriptor."""

    kind: PassphraseFrom = PassphraseFrom.NONE
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerRules:
    """One signer of the configuration.

    key-file: `key` is a path. gpg: `key` is a fingerprint, `home` its own GNUPGHOME. kms: `key` is an ARN, a key id or
    an alias, `endpoint` and `region` where the machine's own do not count. keyless: `key` is the identity it must get.
    """

    kind: SignerKind
    key: str
    home: Path | None = None
    endpoint: str = ""
    region: str = ""
    passphrase: PassphraseSource = PassphraseSource()


class PlainFiles(StrEnum):
    """What becomes of the plain files where encrypted ones are made."""

    KEEP = "keep"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionRules:
    """age recipients (`age1...`), and whether the plain archives stay in the release."""

    recipients: tuple[str, ...] = ()
    plain: PlainFiles = PlainFiles.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningRules:
    """`[signing]`: who signs, whose signatures count, and what beside manifest and checksums gets one."""

    signers: tuple[SignerRules, ...]
    trust: Path
    each_artifact: bool = False
    encryption: EncryptionRules = EncryptionRules()
