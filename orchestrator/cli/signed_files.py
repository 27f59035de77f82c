"""Writes a file that somebody's key vouches for, and its signature beside it."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from builders.copying import new_file, write_all

if TYPE_CHECKING:
    from orchestrator.signing.interface import Signer


def open_signer(key: Path, passphrase_env: str | None) -> "Signer":
    """Open the one key that a command line names."""
    from orchestrator.cli import publisher, wire  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.signing.openers import open_signers  # noqa: PLC0415
    from orchestrator.signing_rules import SigningRules  # noqa: PLC0415

    rules = SigningRules(signers=(publisher.key_signer(key, passphrase_env),), trust=Path())
    return open_signers(rules, None, wire.take_passphrases(rules))[0]


def write_signed(out: Path, data: bytes, signer: "Signer") -> None:
    """Write a file and its bundle. Raises SigningFailed."""
    import hashlib  # noqa: PLC0415  (as above)

    from orchestrator.errors import SigningFailed  # noqa: PLC0415
    from orchestrator.signing.interface import Blob  # noqa: PLC0415
    from orchestrator.trust import BUNDLE  # noqa: PLC0415

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _put(out, data)
        signature = signer.sign(Blob(path=out, sha256=hashlib.sha256(data).hexdigest()))
        _put(out.with_name(f"{out.name}{BUNDLE}"), signature)
    except OSError as error:
        raise SigningFailed(f"{out} cannot be written: {error.strerror}",
                            next_step="name another place by --out") from error  # fmt: skip


def _put(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with new_file(fresh, executable=False) as descriptor:
            write_all(descriptor, data)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
