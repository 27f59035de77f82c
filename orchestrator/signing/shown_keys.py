"""Says what a file of keys holds, for a person or as data. Never shows a private half."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from builders.names import escaped
from orchestrator.errors import KeyRefused
from orchestrator.signing import key_file, public_keys, trust_file
from orchestrator.signing.public_keys import PublicKey

_MOST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A table, its title, and the same as data."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    data: Mapping[str, Any]


def look_at(path: Path, passphrase: key_file.GetPassphrase, now: datetime) -> Shown:
    """Show a trust file, a public or a private key. Raises KeyRefused, TrustInvalid, PassphraseWrong."""
    try:
        if path.is_dir():
            raise KeyRefused(f"{escaped(str(path))} is a folder", next_step="name a key's file or a trust.json")
        with path.open("rb") as file:
            head = file.read(_MOST_BYTES)
    except OSError as error:
        raise KeyRefused(
            f"{escaped(str(path))} cannot be read: {error.strerror}", next_step="name a key's file"
        ) from error
    if head.lstrip().startswith(b"{"):
        return _trust(trust_file.parsed(head), now)
    if b"PRIVATE KEY-----" in head:
        key = key_file.read_key(path, passphrase)
        return _key(public_keys.ecdsa_key(key.public_pem, escaped(str(path))), "private, encrypted"
                    if key_file.is_encrypted(path) else "private, not encrypted")  # fmt: skip
    return _key(public_keys.read_public_key(path), "public")


def _key(key: PublicKey, half: str) -> Shown:
    data = {"schema": "relbuild/key/v1", "key_id": key.key_id, "kind": key.kind, "half": half, "public": key.text}
    return Shown(title="", head=("KEY", "KIND", "HALF"), rows=[(key.key_id, key.kind, half)], data=data)


def _trust(body: Mapping[str, Any], now: datetime) -> Shown:
    counting = {role: trust_file.counting(body, role, now) for role in body["roles"]}
    rows = [
        (
            key_id, str(key["kind"]), key["from"], key["revoked"] or key["until"] or "",
            "revoked" if key["revoked"] else "",
            " ".join(sorted(role for role, keys in counting.items() if key_id in keys)) or "does not count now",
        )
        for key_id, key in sorted(body["keys"].items())
    ]  # fmt: skip
    roles = ", ".join(f"{role} {rule['threshold']}" for role, rule in sorted(body["roles"].items()))
    expires = body["expires"] or "never"
    title = f"{escaped(str(body['project']))}, version {body['version']}, expires {expires}; thresholds: {roles}\n"
    head = ("KEY", "KIND", "FROM", "UNTIL", "", "ROLES NOW")
    return Shown(title=title, head=head, rows=rows, data=body)
