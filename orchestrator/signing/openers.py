"""Opens the signers of a configuration: the only place of this room that knows which exist."""

from pathlib import Path
from typing import assert_never

from orchestrator.errors import SigningFailed
from orchestrator.signing.interface import Signer
from orchestrator.signing.passphrase import Ask, Passphrases
from orchestrator.signing.private_file import refuse_bad_file, refuse_bad_folder
from orchestrator.signing_rules import SignerKind, SignerRules, SigningRules


def open_signers(rules: SigningRules, ask: Ask | None, passphrases: Passphrases | None = None) -> tuple[Signer, ...]:
    """Load every key, in the order of the configuration. `ask` is None where nobody is there to answer.

    `passphrases` are those taken out of the environment before anything was built.
    Raises KeyRefused, PassphraseWrong, SigningFailed.
    """
    secrets = passphrases or Passphrases(ask)
    secrets.take_environment(rules)
    signers = tuple(_open(signer, secrets) for signer in rules.signers)
    if not signers:
        raise SigningFailed("nobody signs", next_step="add a signer: [[signing.signers]]")
    seen: dict[str, Signer] = {}
    for signer in signers:
        other = seen.setdefault(signer.key_id, signer)
        if other is not signer:
            raise SigningFailed(f"{other.name} and {signer.name} are one key, which counts once",
                                next_step="leave one of them out of [signing]")  # fmt: skip
    return signers


def refuse_unready(rules: SignerRules) -> None:
    """Raise KeyRefused where a key lies as `open_signers` would refuse it. No key is read."""
    match rules.kind:
        case SignerKind.KEY_FILE:
            refuse_bad_file(Path(rules.key))
        case SignerKind.GPG if rules.home is not None:
            refuse_bad_folder(rules.home)
        case _:
            pass


def _open(rules: SignerRules, passphrases: Passphrases) -> Signer:
    def secret() -> bytes | None:
        return passphrases.get(rules.passphrase, f"the {rules.kind} {rules.key}")

    # Each of these imports costs, and two of them are extras.
    match rules.kind:
        case SignerKind.KEY_FILE:
            from orchestrator.signing import key_file  # noqa: PLC0415

            return key_file.open_key_file(Path(rules.key), secret)
        case SignerKind.GPG:
            from orchestrator.signing import gpg  # noqa: PLC0415

            return gpg.open_gpg(rules, secret)
        case SignerKind.KMS:
            try:
                from orchestrator.signing import kms  # noqa: PLC0415
            except ImportError as error:
                raise _no_extra("kms", "aws", error) from error
            return kms.open_kms(rules)
        case SignerKind.KEYLESS:
            try:
                from orchestrator.signing import keyless  # noqa: PLC0415
            except ImportError as error:
                raise _no_extra("keyless", "keyless", error) from error
            return keyless.open_keyless(rules, secret)
        case _:
            assert_never(rules.kind)


def _no_extra(kind: str, extra: str, error: ImportError) -> SigningFailed:
    return SigningFailed(f"a {kind} signer needs a package that is not installed: {error.name}",
                         next_step=f"pip install 'relbuild[{extra}]'")  # fmt: skip
