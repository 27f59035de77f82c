"""Signs a rebuild's statement, each signature verified at once by other code than made it."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from builders.copying import new_file, write_all
from orchestrator import verify
from orchestrator.errors import SigningFailed, UntrustedKey, VerificationError
from orchestrator.reproduce.form import statement_json
from orchestrator.reproduce.history import SIGNED, UNSIGNED
from orchestrator.reproduce.values import Reproduction
from orchestrator.signing.interface import Signer, Statement
from orchestrator.signing.openers import open_signers
from orchestrator.signing.passphrase import Passphrases
from orchestrator.signing_rules import SigningRules
from orchestrator.verify.trust_root import TrustRoot

NO_SIGNER: Final = "the statement is unsigned, and counts for nobody: there is no [signing] and no --key"


def write_statement(
    said: Reproduction, folder: Path, rules: SigningRules | None, passphrases: Passphrases, rebuilders: Sequence[Path]
) -> tuple[Path, str]:  # fmt: skip
    """Write the statement into a folder, signed where somebody signs; give it, and why it is not signed.

    A signer's key must be in the trust file, or among the public keys of `rebuilders`. Raises SigningFailed.
    """
    signers = [each for each in open_signers(rules, None, passphrases) if each.attests] if rules else []
    payload = statement_json(said, [each.key_id for each in signers])
    if rules is None or not signers:
        return _written(folder / UNSIGNED, payload), NO_SIGNER
    roots = _roots(rules.trust, rebuilders)
    lines = [_signed(each, payload, roots, said.time) + b"\n" for each in signers]
    return _written(folder / SIGNED, b"".join(lines)), ""


def refuse_unknown(rules: SigningRules | None, passphrases: Passphrases, rebuilders: Sequence[Path]) -> None:
    """Refuse, before anything is rebuilt, a key whose word would count for nobody. Raises SigningFailed."""
    signers = [each for each in open_signers(rules, None, passphrases) if each.attests] if rules else []
    roots = _roots(rules.trust, rebuilders) if rules and signers else ()
    trust = f", or the key into {rules.trust}" if rules and rules.trust.name else ""
    for each in signers:
        if not any(each.key_id in root.keys for root in roots):
            raise SigningFailed(
                f"nobody is told that the key {each.key_id} ({each.name}) counts: its word on a rebuild would be lost",
                next_step=f"put its .pub into `keys` of [reproduce]{trust}",
            )


def _roots(trust: Path, rebuilders: Sequence[Path]) -> tuple[TrustRoot, ...]:
    """Open the keys that may sign: those of the trust file, if one is named, and those of independent rebuilders."""
    own = (verify.load_trust(trust),) if trust.name else ()
    return (*own, *((verify.trust_of_keys(rebuilders),) if rebuilders else ()))


def _signed(signer: Signer, payload: bytes, roots: Sequence[TrustRoot], now: datetime) -> bytes:
    content = signer.sign(Statement(payload=payload))
    known = [root.keys[signer.key_id] for root in roots if signer.key_id in root.keys]
    try:
        if not known:
            raise UntrustedKey(
                f"nobody is told that the key {signer.key_id} counts",
                next_step="put it into the trust file, or its .pub into `keys` of [reproduce]",
            )
        verify.check_signature(payload, content, known[0], now)
    except VerificationError as error:
        raise SigningFailed(
            f"the signature that {signer.name} made of the rebuild's statement does not verify: {error.what}",
            next_step=error.next_step or "see that the trust file knows this key",
        ) from error
    return content.removesuffix(b"\n")


def _written(path: Path, content: bytes) -> Path:
    try:
        with new_file(path, executable=False) as descriptor:
            write_all(descriptor, content)
    except OSError as error:
        raise SigningFailed(f"{path} cannot be written: {error.strerror}", next_step="see who owns it") from error
    return path
