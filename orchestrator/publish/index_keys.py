"""Who signs an index and its audits, and whose signatures count: adapters of signing/ and verify/ to both seams."""

import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.errors import AuditInvalid, IndexInvalid, SignatureInvalid, SigningFailed, TrustInvalid, UntrustedKey
from orchestrator.publish.audit import parse_seal, seal_document
from orchestrator.publish.index import sha256_of
from orchestrator.publish.index_json import time
from orchestrator.signing.interface import Blob, Signer
from orchestrator.trust import BUNDLE, KeyId
from orchestrator.verify.bundles import MessageSignature, parse_bundle
from orchestrator.verify.json_strict import BadJson
from orchestrator.verify.keys import TrustedKey
from orchestrator.verify.pgp import Gpg
from orchestrator.verify.results import Ledger
from orchestrator.verify.signatures import Refused, SignatureJudge, shown_key
from orchestrator.verify.trust_root import RELEASE, TrustRoot

if TYPE_CHECKING:
    from orchestrator.publish.rsa_pss import RsaKey

AUDIT_ROLE: Final = "audit"
RSA_KIND: Final = "rsa-pss-sha256"
_NOT_YOURS: Final = "compare the key with what the project publishes; if it is right, get the newer trust file"


class PublisherKeys:
    """IndexKeys of a signer and an RSA key, which is loaded in a thread of its own when `preload` is called."""

    def __init__(self, signer: Signer, load_audit_key: "Callable[[], RsaKey]") -> None:
        if signer.suffix != BUNDLE:
            raise SigningFailed(
                f"{signer.name} cannot sign an index: it makes no Sigstore bundles",
                next_step="name a key file, a KMS key or a keyless signer for the index",
            )
        self._signer = signer
        self._load = load_audit_key
        self._audit_key: Future[RsaKey] = Future()
        self._begun = threading.Lock()

    @property
    def index_key_id(self) -> KeyId:
        return self._signer.key_id

    @property
    def audit_key_id(self) -> KeyId:
        return self._key().key_id

    def preload(self) -> None:
        if self._begun.acquire(blocking=False):
            threading.Thread(target=self._loaded, name="load the audit key", daemon=True).start()

    def sign_index(self, body: bytes) -> bytes:
        # A Signer signs files. This one is private, and gone when it is signed.
        with tempfile.NamedTemporaryFile(prefix="relbuild-index-") as file:
            file.write(body)
            file.flush()
            return self._signer.sign(Blob(path=Path(file.name), sha256=sha256_of(body)))

    def sign_audit(self, body: bytes) -> bytes:
        key = self._key()
        return seal_document(body, key.key_id, key.sign(body))

    def _key(self) -> "RsaKey":
        self.preload()
        return self._audit_key.result()

    def _loaded(self) -> None:
        try:
            self._audit_key.set_result(self._load())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the key gets it
            self._audit_key.set_exception(error)


def open_keys(signer: Signer, audit_key: Path, passphrase: Callable[[], bytes | None]) -> PublisherKeys:
    """Give the keys of a publisher; the audit key's file is read when it is needed, or by `preload`.

    Using them raises KeyRefused, PassphraseWrong, SigningFailed.
    """

    def load() -> "RsaKey":
        from orchestrator.publish.rsa_pss import read_rsa_key  # noqa: PLC0415 - costs

        return read_rsa_key(audit_key, passphrase)

    return PublisherKeys(signer, load)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryTrust:
    """IndexTrust of a trust file: its "release" keys sign indexes, its "audit" keys sign audits.

    `audit_keys` are bare public keys in PEM by their ids, which count at any time, beside those of the file. An audit
    is judged by when it was made, which the index that lists it binds; a revoked key never counts.
    """

    trust: TrustRoot
    now: datetime
    audit_keys: Mapping[KeyId, str] = field(default_factory=dict)

    def check_index(self, body: bytes, signature: bytes) -> KeyId:
        if problems := self.trust.problems(self.now):
            raise TrustInvalid(f"{self.trust.place} {'; '.join(problems)}", next_step="get the newest trust file")
        judge = SignatureJudge(
            trust=self.trust, gpg=Gpg.of(Path(), ()), now=self.now, ledger=Ledger()
        )  # fmt: skip
        try:
            bundle = parse_bundle(signature)
            if not isinstance(bundle.content, MessageSignature):
                raise Refused(SignatureInvalid, "holds an attestation where a signature belongs")  # noqa: TRY301 - worded below with the others
            key_id = judge.maker_of(bundle, sha256_of(body))
        except BadJson as error:
            raise IndexInvalid(f"the signature of index.json {error}", next_step="get it again") from None
        except Refused as error:
            kind = IndexInvalid if error.error is SignatureInvalid else error.error
            raise kind(
                f"the signature of index.json {error}",
                next_step="do not use it; get it again, or ask its owner",
            ) from None
        if why := self.trust.why_not(key_id, RELEASE, self.now):
            raise UntrustedKey(f"index.json is signed by {shown_key(key_id)}, which {why}", next_step=_NOT_YOURS)
        return key_id

    def check_audit(self, body: bytes, signature: bytes) -> KeyId:
        from orchestrator.publish.rsa_pss import BadPublicKey, rsa_holds  # noqa: PLC0415 - costs

        seal = parse_seal(body, signature)
        # The seal was held against the audit, its time included.
        public = self._audit_key(seal.key_id, time(seal.timestamp, "timestamp"))
        try:
            holds = rsa_holds(public, body, seal.signature)
        except BadPublicKey as error:
            raise TrustInvalid(f"the audit key {shown_key(seal.key_id)} {error}", next_step=_NOT_YOURS) from None
        if not holds:
            raise AuditInvalid(
                f"audit.sig does not fit audit.json (key {shown_key(seal.key_id)})",
                next_step="get both files again; if that is no help, somebody changed one",
            )
        return seal.key_id

    def _audit_key(self, key_id: KeyId, made: datetime) -> str:
        if key_id in self.audit_keys:
            return self.audit_keys[key_id]
        role = self.trust.roles.get(AUDIT_ROLE)
        key: TrustedKey | None = self.trust.keys.get(key_id) if role and key_id in role.keys else None
        why = key.why_not(made) if key else "is not one of the 'audit' keys"
        if key is None or why or key.kind.value != RSA_KIND:
            raise AuditInvalid(
                f"the audit is signed by {shown_key(key_id)}, which {why or 'is no RSA key'}", next_step=_NOT_YOURS
            )
        return key.public


def audit_keys_of(*publics: str) -> Mapping[KeyId, str]:
    """Give bare public keys in PEM by their ids. Raises TrustInvalid."""
    from orchestrator.publish.rsa_pss import BadPublicKey, rsa_key_id  # noqa: PLC0415 - costs

    try:
        return {rsa_key_id(public): public for public in publics}
    except BadPublicKey as error:
        raise TrustInvalid(f"an audit key {error}", next_step="give a public key in PEM") from None
