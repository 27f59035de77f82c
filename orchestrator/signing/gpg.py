"""Signs files with a GPG key of a home of its own: armored detached signatures (RFC 4880)."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from builders.names import escaped
from orchestrator.errors import KeyRefused, SigningFailed
from orchestrator.signing.blobs import blob_digest
from orchestrator.signing.gpg_home import GpgRoom, room_of
from orchestrator.signing.interface import Blob, Statement
from orchestrator.trust import ARMOR, KeyId, SignerRules

ONLY = "only"
"""Stands for the one secret key that a home holds."""

_FINGERPRINT = re.compile(r"[0-9A-F]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpgSigner:
    """A Signer with a GPG key. It signs files, and says that it cannot attest."""

    name: str
    key_id: KeyId
    rules: SignerRules
    passphrase: bytes | None = field(repr=False)
    suffix: str = ARMOR
    attests: bool = False

    def sign(self, subject: Blob | Statement) -> bytes:
        if isinstance(subject, Statement):
            raise SigningFailed(f"{self.name} cannot sign statements: GPG has no DSSE",
                                next_step="add a key-file, kms or keyless signer to [signing]")  # fmt: skip
        blob_digest(subject)
        with room_of(self.rules.home, self.name) as room:
            # "!" keeps gpg from taking another key of the same owner.
            said = room.run(
                "--local-user", f"{self.key_id}!", "--digest-algo", "SHA512", "--armor", "--detach-sign",
                "--output", "-", "--", str(subject.path.absolute()), passphrase=self.passphrase,
            )  # fmt: skip
        # gpg read the path by itself, between these two looks.
        blob_digest(subject)
        if said.field("SIG_CREATED", 1) != "D" or said.field("SIG_CREATED", 6) != self.key_id:
            raise SigningFailed(f"gpg did not say that it signed with {self.name}",
                                next_step="try the key by hand: gpg --homedir HOME --detach-sign FILE")  # fmt: skip
        return said.output


def open_gpg(rules: SignerRules, passphrase: Callable[[], bytes | None]) -> GpgSigner:
    """Find the secret key in its home. Raises KeyRefused, SigningFailed where gpg is missing."""
    name = f"gpg {escaped(rules.key)}"
    if rules.key != ONLY and not _FINGERPRINT.fullmatch(rules.key):
        raise KeyRefused(f"{name} is not a fingerprint of 40 upper-case hexadecimal digits",
                         next_step="gpg --homedir HOME --list-secret-keys --with-colons shows it")  # fmt: skip
    if rules.home is None:
        raise KeyRefused(f"{name} has no home, and the user's own keyring is never used",
                         next_step="name a folder with its own keyring: `home` of that signer")  # fmt: skip
    with room_of(rules.home, name) as room:
        keys, subkeys = _secret_keys(room)
    if rules.key == ONLY and len(keys) != 1:
        raise KeyRefused(f"{escaped(str(rules.home))} holds {len(keys)} secret keys, and `only` stands for one",
                         next_step="name the fingerprint: gpg --homedir HOME --list-secret-keys shows it")  # fmt: skip
    if rules.key not in {ONLY, *keys, *subkeys}:
        raise KeyRefused(f"{name}: no such secret key is in {escaped(str(rules.home))}",
                         next_step="gpg --homedir HOME --list-secret-keys shows those that are")  # fmt: skip
    key_id = KeyId(keys[0] if rules.key == ONLY else rules.key)
    return GpgSigner(name=name, key_id=key_id, rules=rules, passphrase=passphrase())


def _secret_keys(room: GpgRoom) -> tuple[list[str], list[str]]:
    """Give the fingerprints of primary keys and of subkeys: in each listing the line after the key's own."""
    rows = room.run("--with-colons", "--list-secret-keys").output.decode("utf-8", "replace").splitlines()
    found: dict[str, list[str]] = {"sec": [], "ssb": []}
    kind = ""
    for row in rows:
        fields = row.split(":")
        if fields[0] in found:
            kind = fields[0]
        elif fields[0] == "fpr" and kind:
            found[kind].append(fields[9])
            kind = ""
    return found["sec"], found["ssb"]
