"""Checks signatures of Sigstore's keyless signers, without a network: certificate, log entry and identity."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.verify.bundles import Bundle, Envelope
from orchestrator.verify.keys import TrustedKey

if TYPE_CHECKING:
    from sigstore.hashes import Hashed
    from sigstore.verify import Verifier

EXTRA = "keyless signatures need the extra: pip install 'relbuild[keyless]'"


def identities_in(certificate: bytes) -> tuple[str, ...]:
    """Give the identities (e-mail addresses, URIs) that a certificate in DER names; none for garbage."""
    from cryptography import x509  # noqa: PLC0415 - costs

    try:
        names = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value  # fmt: skip
        return (*names.get_values_for_type(x509.RFC822Name), *names.get_values_for_type(x509.UniformResourceIdentifier))
    except Exception:  # noqa: BLE001 - a stranger's certificate: whatever it raises, it names nobody
        return ()


def why_not(bundle: Bundle, key: TrustedKey, sha256: str) -> str:
    """Say why a keyless bundle does not hold for a file's SHA-256 (or its own payload), or give an empty string."""
    try:
        from sigstore.models import Bundle as SigstoreBundle  # noqa: PLC0415 - costs, and is an extra
        from sigstore.verify import policy  # noqa: PLC0415
    except ImportError:
        return EXTRA
    try:
        verifier, whole = _verifier(key), SigstoreBundle.from_json(bundle.text)
        wanted = policy.Identity(identity=key.identity, issuer=key.issuer)
        if isinstance(bundle.content, Envelope):
            _, payload = verifier.verify_dsse(whole, wanted)
            return "" if payload == bundle.content.payload else "attests something else than it shows"
        verifier.verify_artifact(_hashed(sha256), whole, wanted)
    except Exception as error:  # noqa: BLE001 - outside code over a stranger's bytes: every error means "does not hold"
        return f"does not hold: {type(error).__name__}: {str(error)[:200]}"
    return ""


def _verifier(key: TrustedKey) -> "Verifier":
    from sigstore.models import TrustedRoot  # noqa: PLC0415
    from sigstore.verify import Verifier  # noqa: PLC0415

    if not key.public.strip():
        return Verifier.production(offline=True)
    # `public` of a keyless key may hold the trusted root of a private Sigstore.
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as file:
        file.write(key.public)
        file.flush()
        return Verifier(trusted_root=TrustedRoot.from_file(str(Path(file.name))))


def _hashed(sha256: str) -> "Hashed":
    from sigstore.hashes import Hashed  # noqa: PLC0415
    from sigstore_models.common.v1 import HashAlgorithm  # noqa: PLC0415

    return Hashed(algorithm=HashAlgorithm.SHA2_256, digest=bytes.fromhex(sha256))
