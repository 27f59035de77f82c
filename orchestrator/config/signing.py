"""From the shape of [signing] to its rules."""

from pathlib import Path
from typing import assert_never

from orchestrator.config import signing_shapes, texts
from orchestrator.config.problems import Draft
from orchestrator.signing_rules import (
    EncryptionRules,
    PassphraseFrom,
    PassphraseSource,
    PlainFiles,
    SignerKind,
    SignerRules,
    SigningRules,
)


def signing(shape: signing_shapes.SigningShape | None, root: Path, drafts: list[Draft]) -> SigningRules | None:
    """Give the rules, and add a draft where no signer can attest to provenance."""
    if shape is None:
        return None
    signers = tuple(_signer(each, root) for each in shape.signers)
    if all(each.kind is SignerKind.GPG for each in signers):
        what = "none of these signers can sign provenance: GPG signs files only"
        drafts.append(Draft(path=("signing", "signers"), what=what, suggestion="add one with key_file, kms or keyless"))
    encryption = EncryptionRules()
    if shape.encryption is not None:
        recipients = tuple(shape.encryption.recipients)
        encryption = EncryptionRules(recipients=recipients, plain=PlainFiles(shape.encryption.plain))
    return SigningRules(
        signers=signers, trust=full_path(shape.trust, root), each_artifact=shape.artifacts, encryption=encryption
    )


def _signer(shape: signing_shapes.Signer, root: Path) -> SignerRules:
    match shape:
        case signing_shapes.KeyFileShape(key_file=path, passphrase=words):
            key = str(full_path(path, root))
            return SignerRules(kind=SignerKind.KEY_FILE, key=key, passphrase=passphrase_source(words))
        case signing_shapes.GpgShape(gpg=key, home=home, passphrase=words):
            place = full_path(home, root)
            return SignerRules(kind=SignerKind.GPG, key=key, home=place, passphrase=passphrase_source(words))
        case signing_shapes.KmsShape(kms=key, region=region, endpoint=endpoint):
            return SignerRules(kind=SignerKind.KMS, key=key, region=region, endpoint=endpoint)
        case signing_shapes.KeylessShape(keyless=identity):
            return SignerRules(kind=SignerKind.KEYLESS, key=identity)
        case _:
            assert_never(shape)


def passphrase_source(words: str) -> PassphraseSource:
    """Read "env:NAME", "fd:NUMBER", "prompt" or nothing."""
    if words == "prompt":
        return PassphraseSource(kind=PassphraseFrom.PROMPT)
    match = texts.PASSPHRASE.fullmatch(words)
    if not words or match is None:
        return PassphraseSource()
    return PassphraseSource(kind=PassphraseFrom(match[1] or match[3]), where=match[2] or match[4])


def full_path(text: str, root: Path) -> Path:
    """Make a path absolute: `~` is the home of whoever runs this, all else is relative to the project."""
    try:
        return root / Path(text).expanduser()
    except RuntimeError:
        # A user that nobody knows: it is then a folder of that name, and whoever opens it says that it is not there.
        return root / text
