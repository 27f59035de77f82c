"""Asks the real gpg about detached signatures, with a throw-away keyring that holds exactly the trusted keys."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

from builders import command
from builders.errors import RelbuildError
from orchestrator.trust import KeyId
from orchestrator.verify.keys import KeyKind, TrustedKey
from orchestrator.verify.packets import BadPacket, read_signature
from orchestrator.verify.reading import FileRead

_PREFIX = "[GNUPG:] "
_TIMEOUT_S: Final = 600.0
_VALIDSIG_FIELDS: Final = 10
_CLOCK_SKEW_S: Final = 24 * 3600
"""A long signing is checked as of the time when it began; and clocks differ."""
_BAD = frozenset(
    {"BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NODATA", "NO_PUBKEY", "FAILURE", "UNEXPECTED"}
)
_DOES_NOT_COUNT = {"EXPSIG": "has expired", "EXPKEYSIG": "is by an expired key", "REVKEYSIG": "is by a revoked key"}


class UnknownMaker(Exception):
    """Nobody trusts the key that a signature names."""

    def __init__(self, fingerprint: str) -> None:
        super().__init__(fingerprint)
        self.fingerprint = fingerprint


class NotCounting(Exception):
    """A good signature that gpg itself does not let count; the words follow the file's name."""


@dataclass(frozen=True, kw_only=True)
class Gpg:
    """A keyring in a private folder. It is made when the first signature asks for it. Not slotted: it caches."""

    folder: Path
    keys: tuple[TrustedKey, ...]

    @classmethod
    def of(cls, folder: Path, keys: Iterable[TrustedKey]) -> "Gpg":
        return cls(folder=folder, keys=tuple(key for key in keys if key.kind is KeyKind.GPG))

    @cached_property
    def _home(self) -> Path:
        home = self.folder / "gpg"
        home.mkdir(mode=0o700, exist_ok=True)
        for key in self.keys:
            said = self._run(home, "--status-fd", "1", "--import", stdin=key.public.encode())
            if b"[GNUPG:] IMPORT_OK " not in said:
                raise BadPacket(f"cannot be checked: gpg could not put the key {key.key_id} into a keyring in {home}")
        return home

    def signer_of(self, armored: bytes, subject: FileRead, now: datetime) -> KeyId:
        """Give the primary fingerprint of the key that signed a file.

        Raises BadPacket where the signature is not in its only form or does not fit, UnknownMaker, NotCounting.
        """
        signature = read_signature(armored)
        if signature.created > now.timestamp() + _CLOCK_SKEW_S:
            raise BadPacket("was made in the future")
        hashed = subject.hashes[signature.hash_name].copy()
        hashed.update(signature.trailer)
        if hashed.digest()[:2] != signature.start:
            raise BadPacket(f"is a signature of other bytes than those of {subject.name}")
        if not self.keys:
            raise UnknownMaker(signature.made_by)
        status = self._verify(armored, subject, now)
        return _judged(status, signature.made_by)

    def _verify(self, armored: bytes, subject: FileRead, now: datetime) -> list[list[str]]:
        home = self._home
        signature = home / "signature.asc"
        signature.write_bytes(armored)
        data = subject.copy or home / "data"
        if subject.copy is None:
            data.write_bytes(subject.content or b"")
        clock = now.astimezone(UTC).strftime("%Y%m%dT%H%M%S!")
        lines = self._run(
            home, "--status-fd", "1", "--faked-system-time", clock, "--verify", str(signature), str(data)
        ).decode("utf-8", "replace").splitlines()  # fmt: skip
        return [line.removeprefix(_PREFIX).split(" ") for line in lines if line.startswith(_PREFIX)]

    @staticmethod
    def _run(home: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
        options = ("--homedir", str(home), "--batch", "--no-tty", "--no-options", "--no-autostart", "--disable-dirmngr",
                   "--no-auto-key-retrieve", "--no-auto-check-trustdb", "--trust-model", "always")  # fmt: skip
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LC_ALL": "C"}
        try:
            # The exit code says nothing that the status lines do not say better.
            return command.capture(("gpg", *options, *arguments), env=env, stdin=stdin, timeout_s=_TIMEOUT_S).stdout
        except RelbuildError as error:
            raise BadPacket(f"cannot be checked: {error.what}") from None


def _judged(status: list[list[str]], made_by: str) -> KeyId:
    said = {line[0]: line[1:] for line in status}
    valid = [line[1:] for line in status if line[0] == "VALIDSIG"]
    for word, meaning in _DOES_NOT_COUNT.items():
        if word in said:
            raise NotCounting(meaning)
    if "NO_PUBKEY" in said and not valid:
        raise UnknownMaker(made_by)
    if said.keys() & _BAD or len(valid) != 1 or [line[0] for line in status].count("GOODSIG") != 1:
        raise BadPacket("does not fit: gpg calls it bad")
    (fields,) = valid
    # VALIDSIG: fingerprint, date, time, expiry, version, reserved, algorithm, hash, class, primary fingerprint.
    if len(fields) != _VALIDSIG_FIELDS or fields[0] != made_by or fields[8] != "00":
        raise BadPacket("is not what it says it is: gpg names another key or another kind of signature")
    return KeyId(fields[9])
