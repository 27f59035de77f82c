"""Who signed a file or a statement: every signature beside it is checked, and distinct keys are counted."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.errors import SignatureInvalid, TooFewSignatures, UntrustedKey, VerificationError
from orchestrator.trust import ARMOR, BUNDLE, Check, KeyId
from orchestrator.verify import keyless
from orchestrator.verify.bundles import Bundle, Envelope, MessageSignature, parse_attestation, parse_bundle
from orchestrator.verify.json_strict import BadJson
from orchestrator.verify.keys import KeyKind, TrustedKey, holds_for_digest, holds_for_message
from orchestrator.verify.packets import BadPacket
from orchestrator.verify.pgp import Gpg, NotCounting, UnknownMaker
from orchestrator.verify.reading import FileRead
from orchestrator.verify.results import Ledger
from orchestrator.verify.trust_root import RELEASE, TrustRoot

SHORT_ID = 12


class Refused(Exception):
    """A signature that does not hold: the error's class, and words that follow the file's name."""

    def __init__(self, error: type[VerificationError], what: str) -> None:
        super().__init__(what)
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureJudge:
    """Checks signatures with the keys of a trust root, at one time."""

    trust: TrustRoot
    gpg: Gpg
    now: datetime
    ledger: Ledger

    def judge_file(self, subject: FileRead, signatures: Sequence[FileRead], required: int) -> tuple[KeyId, ...]:
        """Check the signatures of a file, ask for `required` distinct keys, and name the keys that count."""
        makers = [
            (each.name, self._noted(each.name, functools.partial(self._maker, subject, each))) for each in signatures
        ]
        return self._count(subject.name, makers, required)

    def judge_attestation(self, file: FileRead, required: int) -> tuple[bytes | None, tuple[KeyId, ...]]:
        """Check the lines of an attestation; give the one payload that all attest, and the keys that count."""
        try:
            lines = parse_attestation(file.kept())
        except BadJson as error:
            self.ledger.bad(Check.SIGNATURE, file.name, SignatureInvalid, str(error))
            return None, ()
        said = {line.content.payload for line in lines if isinstance(line.content, Envelope)}
        makers = [(file.name, self._noted(file.name, functools.partial(self.maker_of, line, ""))) for line in lines]
        if len(said) != 1:
            self.ledger.bad(Check.SIGNATURE, file.name, SignatureInvalid, "attests different things in its lines")
            return None, ()
        return said.pop(), self._count(file.name, makers, required)

    def maker_of(self, bundle: Bundle, sha256: str) -> KeyId:
        """Name the key of a bundle whose signature holds, whether the key counts or not. Raises Refused."""
        key = self._key_of(bundle)
        match bundle.content:
            case MessageSignature() as content if content.sha256 != sha256:
                raise Refused(SignatureInvalid, "is a signature of other bytes (its digest is not the file's)")
            case MessageSignature(signature=signature):
                holds = key.kind is KeyKind.ECDSA and holds_for_digest(key.public, sha256, signature)
            case Envelope(signed=signed, signature=signature):
                holds = key.kind is KeyKind.ECDSA and holds_for_message(key.public, signed, signature)
        reason = keyless.why_not(bundle, key, sha256) if bundle.certificate else "" if holds else "does not fit"
        if reason:
            raise Refused(SignatureInvalid, f"{reason} (key {shown_key(key.key_id)})")
        return key.key_id

    def _key_of(self, bundle: Bundle) -> TrustedKey:
        names = (
            [f"keyless:{each}" for each in keyless.identities_in(bundle.certificate)]
            if bundle.certificate
            else [bundle.key_sha256]
        )
        for name in names:
            if key := self.trust.keys.get(KeyId(name)):
                return key
        raise Refused(UntrustedKey, f"is signed by {', '.join(map(shown_key, names)) or 'nobody'}, whom nobody trusts")

    def _maker(self, subject: FileRead, signature: FileRead) -> KeyId:
        content = signature.kept()
        if signature.name.endswith(ARMOR):
            key_id = self._gpg_maker(subject, content)
        else:
            bundle = parse_bundle(content)
            if not isinstance(bundle.content, MessageSignature):
                raise Refused(SignatureInvalid, "holds an attestation where a signature belongs")
            key_id = self.maker_of(bundle, subject.sha256)
        ending = ARMOR if signature.name.endswith(ARMOR) else BUNDLE
        if signature.name not in {f"{subject.name}{ending}", f"{subject.name}.{key_id[:SHORT_ID]}{ending}"}:
            raise Refused(SignatureInvalid, f"is named after another key than {shown_key(key_id)}, which made it")
        return key_id

    def _gpg_maker(self, subject: FileRead, content: bytes) -> KeyId:
        try:
            key_id = self.gpg.signer_of(content, subject, self.now)
        except UnknownMaker as error:
            raise Refused(UntrustedKey, f"is signed by {error.fingerprint}, whom nobody trusts") from None
        except NotCounting as error:
            raise Refused(UntrustedKey, str(error)) from None
        if key_id not in self.trust.keys:
            raise Refused(UntrustedKey, f"is signed by {key_id}, whom nobody trusts")
        return key_id

    def _noted(self, name: str, find: Callable[[], KeyId]) -> KeyId | None:
        try:
            return find()
        except (BadJson, BadPacket) as error:
            self.ledger.bad(Check.SIGNATURE, name, SignatureInvalid, str(error))
        except Refused as error:
            self.ledger.bad(Check.SIGNATURE, name, error.error, str(error))
        return None

    def _count(self, subject: str, makers: Sequence[tuple[str, KeyId | None]], required: int) -> tuple[KeyId, ...]:
        """Count each key once. A good signature whose key does not count now fails only where it would be needed."""
        reasons = {key_id: self.trust.why_not(key_id, RELEASE, self.now) for _, key_id in makers if key_id}
        counting = tuple(key_id for key_id, reason in reasons.items() if not reason)
        for name, key_id in makers:
            if key_id and reasons[key_id] and len(counting) < required:
                what = f"is signed by {shown_key(key_id)}, which {reasons[key_id]}"
                self.ledger.bad(Check.SIGNATURE, name, UntrustedKey, what)
            elif key_id:
                note = f", which {reasons[key_id]} and is not counted" if reasons[key_id] else ""
                self.ledger.good(Check.SIGNATURE, name, f"a good signature by {shown_key(key_id)}{note}")
        explained = any(key_id is None or reasons[key_id] for _, key_id in makers)
        twice = len(reasons) < sum(key_id is not None for _, key_id in makers)
        if twice or (len(counting) < required and not explained):
            again = "; one signed twice, and counts once" if twice else ""
            what = f"is signed by {len(counting)} keys that count, and {required} must{again}"
            self.ledger.bad(Check.SIGNATURE, subject, TooFewSignatures, what)
        return counting


def shown_key(key_id: str) -> str:
    """Shorten the id of a key for a person; fingerprints and identities stay whole."""
    return f"{key_id[:16]}..." if len(key_id) == 64 and not key_id.startswith("keyless:") else key_id  # noqa: PLR2004
