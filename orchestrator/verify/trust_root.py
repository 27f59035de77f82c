"""Which keys count: trust.json with its own signatures and rotations (as TUF's root role does it), or bare keys."""

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from builders.names import escaped
from orchestrator.errors import TrustInvalid
from orchestrator.trust import KeyId
from orchestrator.verify.bundles import decode
from orchestrator.verify.json_strict import (
    SMALL_BYTES,
    TEXT,
    BadJson,
    Shape,
    canonical,
    check,
    exactly,
    integer,
    list_of,
    map_of,
    optional,
    parse_canonical,
    record,
    text,
)
from orchestrator.verify.keys import BadKey, KeyKind, TrustedKey, ecdsa_key_id, holds_for_message, rsa_key_id
from orchestrator.verify.packets import BadPacket, fingerprint_of

SCHEMA: Final = "relbuild/trust/v1"
RELEASE, TRUST = "release", "trust"
NARROW = ("shard", "rebuild", "ci", "approver")
"""Roles that no release key may have: it signs any file of a release, and so could one that means something there."""
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_FORM = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    threshold: int
    keys: tuple[KeyId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRoot:
    """The keys that count, by role. `version` 0 and an empty `project` mean bare keys: nobody signed their list."""

    place: str
    project: str
    version: int
    expires: datetime | None
    keys: Mapping[KeyId, TrustedKey]
    roles: Mapping[str, Role]
    signed: bytes = field(default=b"", repr=False)
    signatures: tuple[tuple[KeyId, bytes], ...] = field(default=(), repr=False)

    @property
    def release(self) -> Role:
        return self.roles[RELEASE]

    def attesting(self, now: datetime) -> int:
        """Say how many distinct keys must sign an attestation: the threshold, or as many as can (GPG keys cannot)."""
        able = [self.keys[key_id] for key_id in self.release.keys if self.keys[key_id].kind is not KeyKind.GPG]
        counting = sum(not key.why_not(now) for key in able)
        # Keys that no longer count do not lower it to none.
        return min(self.release.threshold, max(counting, 1)) if able else 0

    def why_not(self, key_id: KeyId, role: str, now: datetime) -> str:
        """Say why a key of this file does not count in a role at a time, or give an empty string."""
        if key_id not in self.roles[role].keys:
            return f"is not one of the {role!r} keys"
        return self.keys[key_id].why_not(now)

    def problems(self, now: datetime) -> tuple[str, ...]:
        """Say why this file does not count at a time: expired, or signed by keys that no longer count."""
        if not self.version:
            return ()
        found = []
        if self.expires is not None and now >= self.expires:
            found.append(f"expired at {self.expires:{_TIME_FORM}}")
        counting = [key_id for key_id in _makers(self, self) if not self.why_not(key_id, TRUST, now)]
        if len(counting) < self.roles[TRUST].threshold:
            found.append(
                f"is signed by {len(counting)} keys that count now, and asks for {self.roles[TRUST].threshold}"
            )
        return tuple(found)


def load_trust(path: Path) -> TrustRoot:
    """Read trust.json and check its own signatures. Whether it has expired depends on `now`, and is asked later.

    Raises TrustInvalid.
    """
    place = escaped(str(path))
    try:
        trust = _parsed(_content(path), place)
    except (BadJson, BadKey, BadPacket) as error:
        raise TrustInvalid(
            f"{place} {error}", next_step="get the file again from where the project publishes it"
        ) from None
    _refuse_bad_signatures(trust, dict(trust.keys))
    _ask_for_threshold(trust, by=trust)
    return trust


def trust_of_keys(paths: Sequence[Path], threshold: int = 1) -> TrustRoot:
    """Trust bare public keys: PEM (cosign.pub) or armored GPG keys. Raises TrustInvalid."""
    keys: dict[KeyId, TrustedKey] = {}
    for path in paths:
        try:
            key = _bare_key(_content(path).decode("ascii"))
        except (BadJson, BadKey, BadPacket, UnicodeDecodeError) as error:
            why = "is no public key" if isinstance(error, UnicodeDecodeError) else str(error)
            raise TrustInvalid(
                f"{escaped(str(path))} {why}", next_step="give a cosign.pub, or what `gpg --armor --export` writes"
            ) from None
        keys[key.key_id] = key
    if not 1 <= threshold <= len(keys):
        raise TrustInvalid(
            f"a threshold of {threshold} cannot be met by {len(keys)} different keys",
            next_step="give as many different keys as must have signed",
        )
    return TrustRoot(place="the given keys", project="", version=0, expires=None, keys=keys,
                     roles={RELEASE: Role(threshold=threshold, keys=tuple(keys))})  # fmt: skip


def accept_rotation(old: TrustRoot, new: TrustRoot, now: datetime | None = None) -> TrustRoot:
    """Give the new file if the old one's keys signed for it. Raises TrustInvalid.

    With `now`, the old file's keys must count then: a revoked or outdated key does not appoint its followers.
    """
    if not old.version or new.version != old.version + 1 or new.project != old.project:
        raise TrustInvalid(
            f"{new.place} ({new.project} version {new.version}) does not follow {old.place} ({old.project} version "
            f"{old.version})", next_step="take the versions one after the other, none left out",
        )  # fmt: skip
    _refuse_bad_signatures(new, {**old.keys, **new.keys})
    if any(key_id not in old.keys and key_id not in new.keys for key_id, _ in new.signatures):
        raise TrustInvalid(f"{new.place} is signed by a key that neither version knows",
                           next_step="get the file again from where the project publishes it")  # fmt: skip
    _ask_for_threshold(new, by=new)
    _ask_for_threshold(new, by=old, now=now)
    return new


# --- signatures --------------------------------------------------------------------------------------------------


def _makers(trust: TrustRoot, by: TrustRoot) -> tuple[KeyId, ...]:
    """Name the trust keys of `by` that signed `trust`, each once."""
    role = by.roles[TRUST].keys
    return tuple(
        key_id
        for key_id in dict.fromkeys(key_id for key_id, _ in trust.signatures)
        if key_id in role and _holds(trust, by.keys[key_id])
    )


def _holds(trust: TrustRoot, key: TrustedKey) -> bool:
    return any(
        holds_for_message(key.public, trust.signed, signature)
        for key_id, signature in trust.signatures
        if key_id == key.key_id
    )


def _refuse_bad_signatures(trust: TrustRoot, keys: Mapping[KeyId, TrustedKey]) -> None:
    for key_id, signature in trust.signatures:
        key = keys.get(key_id)
        if key is None:
            continue
        if key.kind is not KeyKind.ECDSA or not holds_for_message(key.public, trust.signed, signature):
            raise TrustInvalid(f"{trust.place}: the signature by {key_id[:12]} does not fit",
                               next_step="get the file again; if that is no help, somebody changed it")  # fmt: skip


def _ask_for_threshold(trust: TrustRoot, *, by: TrustRoot, now: datetime | None = None) -> None:
    makers = [key_id for key_id in _makers(trust, by) if now is None or not by.keys[key_id].why_not(now)]
    if len(makers) < by.roles[TRUST].threshold:
        raise TrustInvalid(
            f"{trust.place} is signed by {len(makers)} of the 'trust' keys of {by.place} version {by.version}, "
            f"and {by.roles[TRUST].threshold} must",
            next_step="have it signed by more of them: `relbuild keys rotate`",
        )


# --- the file ----------------------------------------------------------------------------------------------------

_KEY_ID = text(r"[0-9a-f]{64}|[0-9A-F]{40}|keyless:[^\x00-\x20]{1,400}", "key id")
_TIME = text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", "time such as 2030-01-31T12:00:00Z")
_PERIOD: dict[str, Shape] = {"from": _TIME, "until": optional(_TIME), "revoked": optional(_TIME)}
_KEY = record(
    {"kind": exactly(*(kind.value for kind in KeyKind)), "public": TEXT, **_PERIOD},
    {"identity": text(r".{1,400}", "identity"), "issuer": text(r".{1,400}", "issuer")},
)
_FILE = record(
    {
        "schema": exactly(SCHEMA),
        "project": text(r".{1,200}", "project"),
        "version": integer,
        "expires": optional(_TIME),
        "keys": map_of(_KEY),
        "roles": map_of(record({"threshold": integer, "keys": list_of(_KEY_ID, least=1, most=100)})),
        "signatures": list_of(
            record({"key_id": _KEY_ID, "signature": text(r"[A-Za-z0-9+/]+={0,2}", "base64")}), least=1, most=100
        ),
    }
)


def _parsed(data: bytes, place: str) -> TrustRoot:
    value = check(parse_canonical(data, SMALL_BYTES), _FILE)
    if value["version"] < 1:
        raise BadJson("has the version 0; the first is 1")
    keys = {KeyId(key_id): _key(key_id, entry) for key_id, entry in value["keys"].items()}
    roles = {name: _role(name, entry, keys) for name, entry in value["roles"].items()}
    for name in (RELEASE, TRUST):
        if name not in roles:
            raise BadJson(f"has no role {name!r}")
    if any(keys[key_id].kind is not KeyKind.ECDSA for key_id in roles[TRUST].keys):
        raise BadJson("lets a key that is not ECDSA P-256 sign trust files")
    if any(keys[key_id].kind is KeyKind.RSA for key_id in roles[RELEASE].keys):
        raise BadJson("lets a key for audits sign releases")
    if twice := [name for name in NARROW if name in roles and set(roles[name].keys) & set(roles[RELEASE].keys)]:
        raise BadJson(f"lets a key that signs releases be one of the {twice[0]!r} keys, too")
    return TrustRoot(
        place=place, project=value["project"], version=value["version"], expires=_time(value["expires"]), keys=keys,
        roles=roles, signed=canonical({name: inner for name, inner in value.items() if name != "signatures"}),
        signatures=tuple((KeyId(one["key_id"]), decode(one["signature"], "signature")) for one in value["signatures"]),
    )  # fmt: skip


def _role(name: str, entry: Mapping[str, Any], keys: Mapping[KeyId, TrustedKey]) -> Role:
    named = entry["keys"]
    if len(set(named)) != len(named) or not set(named) <= keys.keys():
        raise BadJson(f"names keys in the role {name!r} twice, or some that it does not hold")
    if not 1 <= entry["threshold"] <= len(named):
        raise BadJson(f"asks for {entry['threshold']} of {len(named)} keys in the role {name!r}")
    return Role(threshold=entry["threshold"], keys=tuple(KeyId(key_id) for key_id in named))


def _key(key_id: str, entry: Mapping[str, Any]) -> TrustedKey:
    kind = KeyKind(entry["kind"])
    if _id_of(kind, entry) != key_id:
        raise BadJson(f"calls a key {key_id[:12]} that is another one")
    since = _time(entry["from"])
    if since is None:
        raise BadJson(f"does not say from when the key {key_id[:12]} counts")
    return TrustedKey(
        key_id=KeyId(key_id), kind=kind, public=entry["public"], since=since, until=_time(entry["until"]),
        revoked=_time(entry["revoked"]), identity=entry.get("identity", ""), issuer=entry.get("issuer", ""),
    )  # fmt: skip


def _id_of(kind: KeyKind, entry: Mapping[str, Any]) -> str:
    if kind is not KeyKind.KEYLESS and {"identity", "issuer"} & entry.keys():
        raise BadJson("gives an identity or issuer to a key that has none")
    match kind:
        case KeyKind.ECDSA:
            return ecdsa_key_id(entry["public"])
        case KeyKind.RSA:
            return rsa_key_id(entry["public"])
        case KeyKind.GPG:
            return fingerprint_of(entry["public"].encode())
        case KeyKind.KEYLESS:
            if not entry.get("identity") or not entry.get("issuer"):
                raise BadJson("names a keyless signer without identity and issuer")
            return f"keyless:{entry['identity']}"


def _time(written: str | None) -> datetime | None:
    if written is None:
        return None
    try:
        return datetime.strptime(written, _TIME_FORM).replace(tzinfo=UTC)
    except ValueError:
        raise BadJson(f"has {written!r}, which is no time") from None


def _bare_key(public: str) -> TrustedKey:
    if "BEGIN PGP" in public:
        return TrustedKey(key_id=KeyId(fingerprint_of(public.encode())), kind=KeyKind.GPG, public=public, since=_ALWAYS)
    return TrustedKey(key_id=ecdsa_key_id(public), kind=KeyKind.ECDSA, public=public, since=_ALWAYS)


def _content(path: Path) -> bytes:
    try:
        # A pipe would be waited for. Links are followed: this path is the user's own word, not a release's.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadJson("is no regular file")
        with path.open("rb") as file:
            return file.read(SMALL_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, BadJson):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadJson(f"cannot be read: {reason}") from None
