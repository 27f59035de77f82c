"""Signs with a certificate that Sigstore gives for an identity, and an entry in its public log."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, assert_never

from cryptography import x509
from sigstore import dsse, oidc
from sigstore.errors import NetworkError, TUFError
from sigstore.hashes import Hashed
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.sign import Signer as Session
from sigstore.sign import SigningContext
from sigstore_models.common.v1 import HashAlgorithm

from builders.names import escaped
from orchestrator.errors import SigningFailed
from orchestrator.signing.blobs import blob_digest
from orchestrator.signing.interface import Blob, Statement
from orchestrator.trust import BUNDLE, KeyId, SignerRules

_T = TypeVar("_T")

_ONLINE = "see that this machine reaches Sigstore; an offline release signs with a key-file, gpg or kms signer"
_NEXT_STEPS: tuple[tuple[type[Exception], str], ...] = (
    (oidc.IdentityError, "give a fresh token made for the audience sigstore: `passphrase` of that signer names where"),
    (oidc.ExpiredIdentity, "sign sooner after the token was made, or get a new one"),
    (TUFError, _ONLINE),
    (NetworkError, _ONLINE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeylessSigner:
    """A Signer with one short-lived certificate for all that it signs."""

    name: str
    identity: str
    token: oidc.IdentityToken = field(repr=False)
    session: Session = field(repr=False)
    suffix: str = BUNDLE
    attests: bool = True

    @property
    def key_id(self) -> KeyId:
        return KeyId(f"keyless:{self.identity}")

    def sign(self, subject: Blob | Statement) -> bytes:
        match subject:
            case Blob():
                hashed = Hashed(algorithm=HashAlgorithm.SHA2_256, digest=blob_digest(subject))
                bundle = _asked(self.name, self.token, lambda: self.session.sign_artifact(hashed))
            case Statement(payload=payload):
                bundle = _asked(self.name, self.token, lambda: self.session.sign_dsse(dsse.Statement(payload)))
            case _:
                assert_never(subject)
        self._refuse_other_identity(bundle)
        return bundle.to_json().encode()

    def _refuse_other_identity(self, bundle: Bundle) -> None:
        # What counts is the name in the certificate; a token of GitHub names the same job in other words.
        names = bundle.signing_certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [str(name.value) for name in names if hasattr(name, "value")]
        if found != [self.identity]:
            raise SigningFailed(f"{self.name} got a certificate for {escaped(', '.join(found))}",
                                next_step="make `key` of that signer the identity that this job has")  # fmt: skip


def open_keyless(
    rules: SignerRules,
    token: Callable[[], bytes | None],
    trust: Callable[[], ClientTrustConfig] = ClientTrustConfig.production,
) -> KeylessSigner:
    """Get a certificate for an identity token: the given one, or the one that this CI service gives its jobs.

    Raises SigningFailed where there is no token, it is no good, or Sigstore cannot be reached.
    """
    name = f"keyless {escaped(rules.key)}"
    identity = _token(name, token())
    context = _asked(name, identity, lambda: SigningContext.from_trust_config(trust()))
    session = _asked(name, identity, lambda: Session(identity, context, cache=True))
    return KeylessSigner(name=name, identity=rules.key, token=identity, session=session)


def _token(name: str, given: bytes | None) -> oidc.IdentityToken:
    raw = given.decode("ascii", "replace").strip() if given else _asked(name, None, oidc.detect_credential)
    if not raw:
        raise SigningFailed(
            f"{name} has no identity token, and this machine offers none",
            next_step="run it in a CI job that may ask for one (GitHub: permissions: id-token: write), or say where"
            " a token comes from: `passphrase` of that signer",
        )
    return _asked(name, None, lambda: oidc.IdentityToken(raw))


def _asked(name: str, token: oidc.IdentityToken | None, ask: Callable[[], _T]) -> _T:
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 - the library lets errors of requests, tuf and pydantic through
        step = next((step for kind, step in _NEXT_STEPS if isinstance(error, kind)), _ONLINE)
        words = f"{type(error).__name__}: {error}"
        if token is not None:
            words = words.replace(str(token), "(token)")
        # Not "from error": its chain holds requests with the token in their headers.
        raise SigningFailed(f"{name} could not sign: {escaped(words)}", next_step=step) from None
