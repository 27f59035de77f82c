"""Runs gpg with a home of its own: never the user's keyring, never an agent that was there before or stays after."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from builders import command
from builders.errors import BuildError
from builders.names import escaped
from orchestrator.errors import KeyRefused, PassphraseWrong, SigningFailed
from orchestrator.signing.private_file import refuse_bad_folder
from orchestrator.trust import KeyId

# What holds keys. Sockets, locks and the agent's settings are the room's own: the path of a socket must be short, and
# an agent that remembers a passphrase would let a wrong one pass.
_LINKED: Final = (
    "private-keys-v1.d", "pubring.kbx", "pubring.gpg", "public-keys.d", "common.conf", "scdaemon.conf",
)  # fmt: skip
_AGENT_SETTINGS = "allow-loopback-pinentry\ndefault-cache-ttl 0\nmax-cache-ttl 0\n"
_STATUS = "[GNUPG:] "
# GPG_ERR_BAD_PASSPHRASE and GPG_ERR_NO_PASSPHRASE of libgpg-error; the upper half of a code names who said it.
_WRONG_PASSPHRASE = frozenset({11, 177})
_CODE_MASK = 0xFFFF
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a gpg that did its work gave: its output, and its status lines by keyword."""

    output: bytes
    status: tuple[tuple[str, ...], ...]

    def field(self, keyword: str, index: int) -> str:
        """Give a field of the first status line of a keyword, counted from the keyword, or an empty string."""
        lines = (line for line in self.status if line[0] == keyword and len(line) > index)
        return next((line[index] for line in lines), "")


class GpgRoom:
    """A short-lived GNUPGHOME below /tmp that shows the keys of another home."""

    def __init__(self, folder: Path, what: str) -> None:
        self.folder = folder
        self._what = what

    def run(self, *arguments: str, passphrase: bytes | None = None) -> Said:
        """Run gpg without questions. Raises PassphraseWrong, SigningFailed with gpg's own words."""
        argv = [
            *("gpg", "--batch", "--no-tty", "--no-options", "--no-auto-check-trustdb", "--trust-model", "always"),
            *("--no-emit-version", "--no-comments", "--status-fd", "2"),
            *("--pinentry-mode", "loopback", "--passphrase-fd", "0", *arguments),
        ]
        done = _capture(argv, self._env(), stdin=(passphrase or b"") + b"\n")
        text = done.stderr.decode("utf-8", "replace").splitlines()
        status = tuple(tuple(line.removeprefix(_STATUS).split(" ")) for line in text if line.startswith(_STATUS))
        if done.exit_code:
            self._failed(status, [line for line in text if not line.startswith(_STATUS)], passphrase)
        return Said(output=done.stdout, status=status)

    def close(self) -> None:
        """End the agent that gpg started, and remove the room. The keys of the other home stay."""
        try:
            _capture(["gpgconf", "--kill", "all"], self._env(), stdin=b"")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _env(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath), "GNUPGHOME": str(self.folder), "HOME": str(self.folder),
            "LC_ALL": "C",
        }  # fmt: skip

    def _failed(self, status: tuple[tuple[str, ...], ...], said: list[str], passphrase: bytes | None) -> NoReturn:
        code = Said(output=b"", status=status).field("FAILURE", 2)
        if code.isdecimal() and int(code) & _CODE_MASK in _WRONG_PASSPHRASE:
            text = f"the passphrase is not that of {self._what}"
            if passphrase is None:
                text = f"{self._what} is protected, and no passphrase was given"
            raise PassphraseWrong(text, next_step="mend `passphrase` of that signer in [signing]")
        words = "; ".join(line.removeprefix("gpg: ") for line in said if line.startswith("gpg: "))
        raise SigningFailed(f"gpg could not sign with {self._what}: {escaped(words or 'it gave no reason')}",
                            next_step="try the key by hand: gpg --homedir HOME --list-secret-keys")  # fmt: skip


@contextmanager
def room_of(home: Path | None, what: str) -> Iterator[GpgRoom]:
    """Open a room that shows the keys of `home`, or an empty one. Raises KeyRefused, SigningFailed."""
    room = Path(tempfile.mkdtemp(prefix="relbuild-gpg-", dir="/tmp"))
    gpg = GpgRoom(room, what)
    try:
        (room / "gpg-agent.conf").write_text(_AGENT_SETTINGS, encoding="utf-8")
        if home is not None:
            refuse_bad_folder(home)
            for name in _LINKED:
                if (home / name).exists():
                    (room / name).symlink_to((home / name).absolute())
        yield gpg
    finally:
        gpg.close()


def make_gpg_key(home: Path, user_id: str, passphrase: bytes | None) -> tuple[KeyId, bytes]:
    """Make an ed25519 signing key in a new folder; give its fingerprint and its armored public half.

    Raises KeyRefused where the folder is there already.
    """
    try:
        home.mkdir(mode=0o700)
    except OSError as error:
        reason = "is there already and is not overwritten" if isinstance(error, FileExistsError) else error.strerror
        raise KeyRefused(f"the folder {escaped(str(home))} {reason}", next_step="name a new folder") from error
    for name in ("private-keys-v1.d", "openpgp-revocs.d"):
        (home / name).mkdir(mode=0o700)
    try:
        with room_of(home, escaped(str(home))) as room:
            (room.folder / "openpgp-revocs.d").symlink_to((home / "openpgp-revocs.d").absolute())
            room.run("--quick-generate-key", "--", user_id, "ed25519", "sign", "never", passphrase=passphrase)
            rows = room.run("--with-colons", "--list-secret-keys").output.decode().splitlines()
            fingerprint = KeyId(next(row.split(":")[9] for row in rows if row.startswith("fpr:")))
            public = room.run("--armor", "--export", fingerprint).output
            shutil.copyfile(room.folder / "pubring.kbx", home / "pubring.kbx")
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    return fingerprint, public


def fingerprint_of(path: Path, armored: bytes) -> KeyId:
    """Give the fingerprint of the only key in an armored public key. Raises KeyRefused."""
    with room_of(None, escaped(str(path))) as room:
        file = room.folder / "key.asc"
        file.write_bytes(armored)
        try:
            rows = room.run("--with-colons", "--show-keys", str(file)).output.decode("utf-8", "replace").splitlines()
        except SigningFailed as error:
            raise KeyRefused(
                f"{escaped(str(path))} holds no GPG public key", next_step="gpg --armor --export KEY"
            ) from error
    kinds = [row.split(":")[0] for row in rows]
    if kinds.count("pub") != 1 or "sec" in kinds:
        raise KeyRefused(f"{escaped(str(path))} does not hold exactly one GPG public key",
                         next_step="gpg --armor --export FINGERPRINT")  # fmt: skip
    return KeyId(next(row.split(":")[9] for row in rows if row.startswith("fpr:")))


def _capture(argv: list[str], env: Mapping[str, str], stdin: bytes) -> command.Completed:
    try:
        return command.capture(argv, env=env, stdin=stdin, timeout_s=_TIMEOUT_S)
    except BuildError as error:
        raise SigningFailed(f"{argv[0]} did not run: {error.what}", next_step="install gnupg") from error
