"""`relbuild sign`: put signatures beside the files of a staged release."""

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.signing.passphrase import Ask
    from orchestrator.signing_rules import SigningRules


def sign(
    folder: Annotated[
        Path | None, typer.Argument(help="The staged folder; default: that of this version below dist/staging.")
    ] = None,
    config: options.Config = None,
    output: options.Output = None,
) -> None:
    """Sign a staged release as [signing] says. Signatures that are there and hold are kept."""
    from orchestrator import release, staged, survey  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.cli import wire  # noqa: PLC0415
    from orchestrator.errors import SigningFailed  # noqa: PLC0415
    from orchestrator.signing.passphrase import Passphrases  # noqa: PLC0415

    loaded = wire.load_matrix(config)
    rules: SigningRules | None = loaded.signing
    if rules is None:
        raise SigningFailed(f"{loaded.file} has no [signing], so nobody signs", next_step="say there who signs")
    passphrases = Passphrases(ask_for_secret())
    # Before anything else runs: git is asked for the version, and no child is to inherit a passphrase.
    passphrases.take_environment(rules)
    place = folder or (output or loaded.root / "dist") / "staging" / survey.version_of(loaded)
    signed = release.sign_release(staged.read_staged(place), rules, passphrases)
    for key_id in signed.key_ids:
        print(f"signed by {key_id}")
    print(f"{len(signed.files)} files of signatures are in {signed.staged.folder}")


def ask_for_secret() -> "Ask | None":
    """Give what asks a person without showing the answer, or None where there is no terminal."""
    return getpass.getpass if sys.stdin.isatty() and sys.stderr.isatty() else None
