"""Writes trust.json: which keys count, from when until when, signed by those who may say so."""

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from builders.copying import new_file, write_all
from builders.names import escaped
from orchestrator.canonical import Json, canonical_json
from orchestrator.errors import KeyRefused, SigningFailed, TrustInvalid
from orchestrator.signing.key_file import EcKey
from orchestrator.signing.public_keys import ECDSA, GPG, RSA, PublicKey
from orchestrator.trust import KeyId

SCHEMA: Final = "relbuild/trust/v1"
RELEASE, TRUST, AUDIT, SHARD, REBUILD, CI, APPROVER = (
    "release", "trust", "audit", "shard", "rebuild", "ci", "approver",
)  # fmt: skip
_ROLES: Final = {ECDSA: (RELEASE, TRUST), GPG: (RELEASE,), RSA: (AUDIT,)}
"""What a new key may do: GPG keys sign releases, and only ECDSA keys say which keys count."""

_NARROW: Final = (SHARD, REBUILD, CI, APPROVER)
"""What a key may be for alone: it signs shards, rebuilds, checks or approvals, and never a release."""

_MAX_BYTES: Final = 4 << 20
_FIELDS = {"schema", "project", "version", "expires", "keys", "roles", "signatures"}
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What changes from one version to the next. None leaves a thing as it is.

    Retired keys count until `until`; revoked ones never again, not even for what they signed before.
    """

    add: tuple[PublicKey, ...] = ()
    role: str = ""
    """What added keys may do: "shard", "rebuild", "ci", "approver" alone; empty gives what the kind of the key may."""
    retire: tuple[KeyId, ...] = ()
    until: datetime | None = None
    revoke: tuple[KeyId, ...] = ()
    threshold: int | None = None
    """How many keys must sign a release."""
    trust_threshold: int | None = None
    """How many must sign the trust file itself."""
    expires: datetime | None = None


def new_trust(
    *, project: str, keys: Sequence[PublicKey], threshold: int, signers: Sequence[EcKey], now: datetime,
    expires: datetime | None = None,
) -> bytes:  # fmt: skip
    """Make version 1. Raises SigningFailed where too few keys sign it, KeyRefused where no key may."""
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "project": project,
        "version": 1,
        "expires": _text(expires),
        "keys": {},
        "roles": {role: {"threshold": threshold, "keys": []} for role in (RELEASE, TRUST)},
    }
    _add(body, keys, now)
    return _signed(body, signers, now, (body,))


def rotate(old: bytes, change: Rotation, signers: Sequence[EcKey], now: datetime) -> bytes:
    """Make the next version, signed at the thresholds of the old one and of its own.

    Raises TrustInvalid where `old` is no trust file, KeyRefused for keys that cannot be changed so, SigningFailed.
    """
    before = parsed(old)
    body = json.loads(json.dumps(before))
    body["version"] += 1
    if change.expires is not None:
        body["expires"] = _text(change.expires)
    _add(body, change.add, now, change.role)
    for key_id in change.retire:
        _known(body, key_id)["until"] = _text(change.until or now)
    for key_id in change.revoke:
        _known(body, key_id)["revoked"] = _text(now)
    for role, threshold in ((RELEASE, change.threshold), (TRUST, change.trust_threshold)):
        if threshold is not None:
            body["roles"][role]["threshold"] = threshold
    _refuse_too_few(body, max(change.until or now, now))
    return _signed(body, signers, now, (before, body))


def parsed(data: bytes) -> dict[str, Any]:
    """Give a trust file without its signatures. They are the verifier's to judge. Raises TrustInvalid."""
    try:
        value = json.loads(data)
        canonical = len(data) <= _MAX_BYTES and canonical_json(value) == data
    except (ValueError, RecursionError):
        raise _invalid("is not JSON") from None
    if not canonical or not isinstance(value, dict) or value.keys() != _FIELDS or value["schema"] != SCHEMA:
        raise _invalid(f"is not {SCHEMA} in canonical form")
    if not _shaped(value):
        raise _invalid("has keys or roles of another shape")
    del value["signatures"]
    return value


def read_trust(path: Path) -> bytes:
    """Give a trust file's bytes. Raises TrustInvalid."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise TrustInvalid(f"{escaped(str(path))} cannot be read: {error.strerror}",
                           next_step="make one: relbuild keys generate --trust FILE") from error  # fmt: skip


def counting(body: Mapping[str, Any], role: str, now: datetime) -> set[KeyId]:
    """Name the keys of a role that count at a time."""
    return {KeyId(key_id) for key_id in body["roles"][role]["keys"] if _counts(body["keys"].get(key_id), now)}


def write_trust(path: Path, data: bytes, *, new: bool) -> None:
    """Put a trust file in its place in one step; a new one never over another. Raises SigningFailed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        try:
            with new_file(temporary, executable=False) as descriptor:
                write_all(descriptor, data)
                os.fsync(descriptor)
            # A link fails where the name is taken; a rename would replace it.
            if new:
                path.hardlink_to(temporary)
            else:
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        raise SigningFailed(f"{escaped(str(path))} is there already and is not overwritten",
                            next_step="change it by `relbuild keys rotate --trust FILE`") from error  # fmt: skip
    except OSError as error:
        raise SigningFailed(f"{escaped(str(path))} cannot be written: {error.strerror}",
                            next_step="name a folder that you may write to") from error  # fmt: skip


# --- what changes ------------------------------------------------------------------------------------------------


def _add(body: dict[str, Any], keys: Iterable[PublicKey], now: datetime, role: str = "") -> None:
    for key in keys:
        if role and (role not in _NARROW or key.kind != ECDSA):
            raise KeyRefused(f"the key {key.key_id} ({key.kind}) cannot have the role {escaped(role)}",
                             next_step="roles for ECDSA keys: " + ", ".join(_NARROW))  # fmt: skip
        if key.key_id in body["keys"]:
            raise KeyRefused(f"the key {key.key_id} is in the trust file already", next_step="leave it out of --add")
        body["keys"][key.key_id] = {
            "kind": key.kind, "public": key.text, "from": _text(now), "until": None, "revoked": None,
        }  # fmt: skip
        for name in (role,) if role else _ROLES[key.kind]:
            entry = body["roles"].setdefault(name, {"threshold": 1, "keys": []})
            entry["keys"] = sorted([*entry["keys"], key.key_id])


def _known(body: Mapping[str, Any], key_id: KeyId) -> dict[str, Any]:
    found = body["keys"].get(key_id)
    if not isinstance(found, dict):
        raise KeyRefused(
            f"the trust file knows no key {escaped(key_id)}", next_step="see `relbuild keys show trust.json`"
        )
    return found


# --- who signs ---------------------------------------------------------------------------------------------------


def _signed(
    body: dict[str, Any], signers: Sequence[EcKey], now: datetime, judges: Iterable[Mapping[str, Any]]
) -> bytes:
    _refuse_too_few(body, now)
    by_id = {signer.key_id: signer for signer in signers}
    useful: set[KeyId] = set()
    for judge in judges:
        may = counting(judge, TRUST, now)
        wanted = judge["roles"][TRUST]["threshold"]
        if len(may & by_id.keys()) < wanted:
            raise SigningFailed(
                f"version {judge['version']} of the trust file wants the signatures of {wanted} of its trust keys, and"
                f" {len(may & by_id.keys())} of them are here",
                next_step="name more of these by --key: " + ", ".join(f"{key_id[:12]}..." for key_id in sorted(may)),
            )
        useful |= may & by_id.keys()
    digest = hashlib.sha256(canonical_json(body)).digest()
    signatures: list[Json] = [
        {"key_id": key_id, "signature": base64.b64encode(by_id[key_id].sign_digest(digest)).decode()}
        for key_id in sorted(useful)
    ]
    return canonical_json({**body, "signatures": signatures})


def _refuse_too_few(body: Mapping[str, Any], when: datetime) -> None:
    """Raise KeyRefused for roles that could never reach their threshold: nobody could mend that later.

    The narrow ones can wait for a key: a stolen last one must go at once.
    """
    for role, rule in body["roles"].items():
        if role in _NARROW:
            continue
        have = len(counting(body, role, when))
        if rule["threshold"] < 1 or have < rule["threshold"]:
            raise KeyRefused(
                f"the role {escaped(role)} wants {rule['threshold']} keys, and {have} would count at {_text(when)}",
                next_step="add keys (--add), retire fewer, or change --threshold",
            )


def _counts(key: Mapping[str, Any] | None, now: datetime) -> bool:
    if key is None or key["revoked"] is not None or _time(key["from"]) > now:
        return False
    return key["until"] is None or now < _time(key["until"])


# --- shapes ------------------------------------------------------------------------------------------------------


def _shaped(value: Mapping[str, Any]) -> bool:
    try:
        for key in value["keys"].values():
            _time(key["from"])
            for moment in (key["until"], key["revoked"]):
                _ = moment if moment is None else _time(moment)
        roles = value["roles"]
        lists = all(
            type(role["threshold"]) is int and all(isinstance(key_id, str) for key_id in role["keys"])
            for role in roles.values()
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return lists and {RELEASE, TRUST} <= roles.keys() and type(value["version"]) is int


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def _text(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).strftime(_TIME)


def _invalid(reason: str) -> TrustInvalid:
    return TrustInvalid(f"the trust file {reason}", next_step="take it from the project again")
