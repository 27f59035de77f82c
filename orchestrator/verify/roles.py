"""Checks a file's one signature by a key of a named role: what is signed is no release."""

from datetime import datetime
from pathlib import Path

from builders.names import escaped
from orchestrator.errors import SignatureInvalid, TrustInvalid, UntrustedKey
from orchestrator.trust import KeyId
from orchestrator.verify.bundles import parse_bundle
from orchestrator.verify.json_strict import BadJson
from orchestrator.verify.reading import Unreadable, private_folder, read_file
from orchestrator.verify.signatures import shown_key
from orchestrator.verify.single import check_signature
from orchestrator.verify.trust_root import TrustRoot


def read_role_signed(
    path: Path, beside: Path, trust: TrustRoot, role: str, now: datetime, *, most: int
) -> tuple[bytes, KeyId]:  # fmt: skip
    """Give a file's bytes, and the key whose bundle `beside` signs exactly them in that role.

    Raises BadJson for what is no file of at most `most` bytes, and what check_role_signature raises.
    """
    data = _bytes_of(path, most)
    try:
        signature = _bytes_of(beside, most)
    except BadJson as error:
        raise BadJson(f"has no signature: {escaped(beside.name)} {error}") from None
    with private_folder() as room:
        # Nobody else can change what is judged there; the file itself may lie where others write.
        (room / path.name).write_bytes(data)
        return data, check_role_signature(room / path.name, signature, trust, role, now, shown=path)


def _bytes_of(path: Path, most: int) -> bytes:
    try:
        data = read_file(path).kept()
    except Unreadable as error:
        raise BadJson(str(error)) from None
    if len(data) > most:
        raise BadJson(f"is longer than {most} bytes")
    return data


def check_role_signature(
    path: Path, signature: bytes, trust: TrustRoot, role: str, now: datetime, *, shown: Path | None = None
) -> KeyId:
    """Name the key of a bundle that signs a file (`shown` in errors), which must hold that role now.

    Raises SignatureInvalid, UntrustedKey, TrustInvalid (the trust file does not count now), DigestMismatch.
    """
    place = escaped(str(shown or path))
    if problems := trust.problems(now):
        raise TrustInvalid(f"{trust.place} {'; it '.join(problems)}",
                           next_step="get its next version, or write one: relbuild keys rotate")  # fmt: skip
    try:
        key_id = KeyId(parse_bundle(signature).key_sha256)
    except BadJson as error:
        raise SignatureInvalid(f"the signature of {place} {error}",
                               next_step="get the file and its signature again") from None  # fmt: skip
    reason = (
        trust.why_not(key_id, role, now) if role in trust.roles else f"is not one of the {role!r} keys: it has none"
    )
    if key_id not in trust.keys or reason:
        raise UntrustedKey(
            f"{place} is signed by {shown_key(key_id)}, which {reason or 'nobody trusts'} ({trust.place})",
            next_step=f"`relbuild keys rotate --add PUB --role {role}` lets a key do that",
        )
    check_signature(path, signature, trust.keys[key_id], now)
    return key_id
