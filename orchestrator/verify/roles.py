"""Checks a file's one signature by a key of a named role: what is signed is no release."""

from datetime import datetime
from pathlib import Path

from builders.names import escaped
from orchestrator.errors import DigestMismatch, SignatureInvalid, TrustInvalid, UntrustedKey
from orchestrator.trust import KeyId
from orchestrator.verify.bundles import parse_bundle
from orchestrator.verify.json_strict import BadJson
from orchestrator.verify.signatures import shown_key
from orchestrator.verify.single import check_signature
from orchestrator.verify.trust_root import TrustRoot


def read_role_signed(
    path: Path, beside: Path, trust: TrustRoot, role: str, now: datetime, *, most: int
) -> tuple[bytes, KeyId]:  # fmt: skip
    """Give a file's bytes (at most `most` and one), and the key whose bundle `beside` signs exactly them in that role.

    Raises OSError, and what check_role_signature raises.
    """
    with path.open("rb") as file, beside.open("rb") as bundle:
        data, signature = file.read(most + 1), bundle.read(most + 1)
    key_id = check_role_signature(path, signature, trust, role, now)
    # What was judged is what lies there; what was read must be the same bytes.
    if path.read_bytes() != data:
        raise DigestMismatch(f"{escaped(str(path))} is longer than {most} bytes, or changes while it is read",
                             next_step="get the file and its signature again")  # fmt: skip
    return data, key_id


def check_role_signature(path: Path, signature: bytes, trust: TrustRoot, role: str, now: datetime) -> KeyId:
    """Name the key of a bundle that signs a file, which must hold that role now.

    Raises SignatureInvalid, UntrustedKey, TrustInvalid (the trust file does not count now), DigestMismatch.
    """
    if problems := trust.problems(now):
        raise TrustInvalid(f"{trust.place} {'; it '.join(problems)}",
                           next_step="get its next version, or write one: relbuild keys rotate")  # fmt: skip
    try:
        key_id = KeyId(parse_bundle(signature).key_sha256)
    except BadJson as error:
        raise SignatureInvalid(f"the signature of {escaped(str(path))} {error}",
                               next_step="get the file and its signature again") from None  # fmt: skip
    reason = (
        trust.why_not(key_id, role, now) if role in trust.roles else f"is not one of the {role!r} keys: it has none"
    )
    if key_id not in trust.keys or reason:
        raise UntrustedKey(
            f"{escaped(str(path))} is signed by {shown_key(key_id)}, which {reason or 'nobody trusts'} ({trust.place})",
            next_step=f"`relbuild keys rotate --add PUB --role {role}` lets a key do that",
        )
    check_signature(path, signature, trust.keys[key_id], now)
    return key_id
