"""What `relbuild doctor` finds of describing, signing and verifying. No private key is decrypted."""

from collections.abc import Callable, Iterator
from datetime import datetime

from builders import command
from builders.errors import RelbuildError
from orchestrator import release, sbom
from orchestrator.checkup import Grade, Symptom
from orchestrator.signing.openers import refuse_unready
from orchestrator.signing_rules import SignerKind, SignerRules, SigningRules


def examine_trust(rules: SigningRules | None, now: datetime) -> Iterator[Symptom]:
    """Look at what stands between a staged and a verified release."""
    yield _tried("syft", lambda: f"Syft {sbom.find_syft().version}")
    if rules is None:
        text = "no [signing]: releases are staged and described, and nobody vouches for them"
        yield Symptom(name="signing", grade=Grade.NOTE, text=text, mend="`relbuild keys generate`, then [signing]")
        return
    for signer in rules.signers:
        yield _signer(signer)
    yield _tried("trust", lambda: _trust(rules, now))


def _tried(name: str, look: Callable[[], str]) -> Symptom:
    try:
        return Symptom(name=name, grade=Grade.OK, text=look())
    except RelbuildError as error:
        return Symptom(name=name, grade=Grade.BAD, text=error.what, mend=error.next_step)


def _signer(signer: SignerRules) -> Symptom:
    name = f"signer {signer.kind}"
    if signer.kind is SignerKind.GPG and command.find_program("gpg") is None:
        return Symptom(name=name, grade=Grade.BAD, text="gpg is not installed", mend="install gnupg")

    def look() -> str:
        refuse_unready(signer)
        return f"{signer.key} (`relbuild rehearse` signs with it)"

    return _tried(name, look)


def _trust(rules: SigningRules, now: datetime) -> str:
    release.check_trust(rules, now)
    return f"{rules.trust} counts now"
