"""`relbuild keys`: make, show and change the keys that sign releases and the file that says which count."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.signing.key_file import EcKey
    from orchestrator.signing.passphrase import Passphrases
    from orchestrator.signing_rules import PassphraseSource

app = typer.Typer(help="Make, show and rotate the keys that sign releases.", no_args_is_help=True)


class KeyForm(StrEnum):
    """What a new private key is written as."""

    KEY_FILE = "key-file"
    COSIGN = "cosign"
    GPG = "gpg"
    AUDIT = "audit"


PassphraseEnv = Annotated[
    str | None, typer.Option("--passphrase-env", metavar="NAME", help="The environment variable that holds it.")
]
PassphraseFd = Annotated[
    int | None, typer.Option("--passphrase-fd", metavar="N", help="The open file descriptor that it is read from.")
]
NoPassphrase = Annotated[bool, typer.Option("--no-passphrase", help="Ask for none: the keys have none.")]
PassphraseEnvs = Annotated[
    list[str] | None,
    typer.Option("--passphrase-env", metavar="NAME", help="The variable that holds it; one for all keys, or one each."),
]
PassphraseFds = Annotated[
    list[int] | None,
    typer.Option("--passphrase-fd", metavar="N", help="The descriptor that it is read from; one for all, or one each."),
]
Trust = Annotated[Path, typer.Option("--trust", help="The trust.json.")]
Expires = Annotated[
    datetime | None, typer.Option("--expires", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"], help="In UTC.")
]


@app.command()
def generate(  # noqa: PLR0917  (options are keyword-only on the command line)
    out: Annotated[Path, typer.Option("--out", help="The private key to write; a folder for gpg. Never overwritten.")],
    kind: Annotated[
        KeyForm, typer.Option("--kind", help="PKCS#8, cosign's own format, a GPG home, or RSA for audits.")
    ] = (KeyForm.KEY_FILE),
    passphrase_env: PassphraseEnv = None,
    passphrase_fd: PassphraseFd = None,
    no_passphrase: Annotated[bool, typer.Option("--no-passphrase", help="Write it unencrypted.")] = False,
    trust: Annotated[Path | None, typer.Option("--trust", help="Also write a new trust.json that names it.")] = None,
    project: Annotated[str, typer.Option("--project", help="The project that the trust.json is for.")] = "",
    threshold: Annotated[int, typer.Option("--threshold", min=1, help="How many keys must sign.")] = 1,
    user_id: Annotated[str, typer.Option("--user-id", help="The name on a GPG key.")] = "relbuild release key",
) -> None:
    """Make a signing key: the private half for its owner alone, the public half beside it as .pub."""
    from orchestrator.signing import new_keys  # noqa: PLC0415  (cryptography costs, and --help does not need it)

    if trust is not None and (not project or kind in {KeyForm.GPG, KeyForm.AUDIT}):
        raise typer.BadParameter("--trust needs --project, and a key that signs trust files: --kind key-file or cosign")
    secret = None if no_passphrase else _new_passphrase(passphrase_env, passphrase_fd, out)
    wanted = new_keys.NewTrust(path=trust, project=project, threshold=threshold) if trust else None
    match kind:
        case KeyForm.GPG:
            made = new_keys.make_gpg(out, user_id, secret)
        case KeyForm.AUDIT:
            made = new_keys.make_audit_key(out, secret)
        case KeyForm.COSIGN | KeyForm.KEY_FILE:
            form = new_keys.cosign_form if kind is KeyForm.COSIGN else new_keys.pkcs8_form
            made = new_keys.make_key_file(out, form, secret, wanted, _now())
    print(f"{made.key_id}\nprivate: {made.private}\npublic:  {made.public}")
    if trust is not None:
        print(f"trust:   {trust}")


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A public key, a private key, or a trust.json.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    passphrase_env: PassphraseEnv = None,
    passphrase_fd: PassphraseFd = None,
    no_passphrase: NoPassphrase = False,
) -> None:
    """Show which key a file holds, or which keys a trust.json counts."""
    from orchestrator.cli import tables  # noqa: PLC0415  (as above)
    from orchestrator.signing import shown_keys  # noqa: PLC0415

    secrets, source = _passphrases(), _source(passphrase_env, passphrase_fd, none=no_passphrase)
    found = shown_keys.look_at(path, lambda: secrets.get(source, str(path)), _now())
    if as_json:
        print(tables.to_json(found.data))
        return
    if found.title:
        print(found.title)
    print(tables.columns(found.head, found.rows))


@app.command()
def rotate(  # noqa: PLR0917  (options are keyword-only on the command line)
    trust: Trust,
    key: Annotated[list[Path], typer.Option("--key", help="Private keys that sign the change, old and new; repeated.")],
    add: Annotated[list[Path] | None, typer.Option("--add", help="A public key to count from now; repeated.")] = None,
    role: Annotated[
        str,
        typer.Option(
            "--role", help="What the added keys may do alone: shard, rebuild, ci, approver; default: sign releases."
        ),
    ] = "",
    retire: Annotated[
        list[str] | None, typer.Option("--retire", help="A key id that stops counting at --until; repeated.")
    ] = None,
    revoke: Annotated[
        list[str] | None, typer.Option("--revoke", help="A key id that no longer counts for anything; repeated.")
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"], help="In UTC; default: now."),
    ] = None,
    expires: Expires = None,
    threshold: Annotated[
        int | None, typer.Option("--threshold", min=1, help="So many keys must sign a release.")
    ] = None,
    trust_threshold: Annotated[
        int | None, typer.Option("--trust-threshold", min=1, help="So many keys must sign this file.")
    ] = None,
    passphrase_env: PassphraseEnvs = None,
    passphrase_fd: PassphraseFds = None,
    no_passphrase: NoPassphrase = False,
) -> None:
    """Write the next version of a trust.json, signed by old and new keys at their thresholds."""
    from orchestrator.signing import public_keys, trust_file  # noqa: PLC0415  (as above)
    from orchestrator.trust import KeyId  # noqa: PLC0415

    change = trust_file.Rotation(
        add=tuple(public_keys.read_public_key(path) for path in add or ()),
        role=role,
        retire=tuple(KeyId(name) for name in retire or ()),
        until=_utc(until),
        revoke=tuple(KeyId(name) for name in revoke or ()),
        threshold=threshold,
        trust_threshold=trust_threshold,
        expires=_utc(expires),
    )
    sources = _sources(passphrase_env or [], passphrase_fd or [], len(key), none=no_passphrase)
    signers = _read_keys(key, sources)
    data = trust_file.rotate(trust_file.read_trust(trust), change, signers, _now())
    trust_file.write_trust(trust, data, new=False)
    print(f"{trust} is version {trust_file.parsed(data)['version']} now")


def _read_keys(paths: "Sequence[Path]", sources: "Sequence[PassphraseSource]") -> "list[EcKey]":
    from orchestrator.signing import key_file  # noqa: PLC0415  (as above)

    secrets = _passphrases()

    def read(path: Path, source: "PassphraseSource") -> "EcKey":
        return key_file.read_key(path, lambda: secrets.get(source, str(path)))

    return [read(path, source) for path, source in zip(paths, sources, strict=True)]


def _sources(
    variables: "Sequence[str]", descriptors: "Sequence[int]", count: int, *, none: bool
) -> "list[PassphraseSource]":
    given = [_source(name, None) for name in variables] + [_source(None, number) for number in descriptors]
    if len(given) > 1 and (len(given) != count or (variables and descriptors)):
        raise typer.BadParameter("give one passphrase for all keys, or one for each --key in the same order")
    return given if len(given) > 1 else (given or [_source(None, None, none=none)]) * count


def _new_passphrase(variable: str | None, descriptor: int | None, out: Path) -> bytes | None:
    from orchestrator.errors import PassphraseWrong  # noqa: PLC0415  (as above)

    secrets, source = _passphrases(), _source(variable, descriptor)
    secret = secrets.get(source, f"the new key {out}")
    if variable is None and descriptor is None and secret != secrets.get(source, "the same again"):
        raise PassphraseWrong("the two passphrases differ", next_step="run it again and give the same one twice")
    if not secret:
        raise PassphraseWrong("the passphrase is empty", next_step="give one, or say --no-passphrase")
    return secret


def _passphrases() -> "Passphrases":
    from orchestrator.cli.sign import ask_for_secret  # noqa: PLC0415  (as above)
    from orchestrator.signing.passphrase import Passphrases  # noqa: PLC0415

    return Passphrases(ask_for_secret())


def _source(variable: str | None, descriptor: int | None, *, none: bool = False) -> "PassphraseSource":
    from orchestrator.signing_rules import PassphraseFrom, PassphraseSource  # noqa: PLC0415  (as above)

    if variable is not None and descriptor is not None:
        raise typer.BadParameter("--passphrase-env and --passphrase-fd exclude each other")
    if variable is not None:
        return PassphraseSource(kind=PassphraseFrom.ENV, where=variable)
    if descriptor is not None:
        return PassphraseSource(kind=PassphraseFrom.FD, where=str(descriptor))
    return PassphraseSource(kind=PassphraseFrom.NONE if none else PassphraseFrom.PROMPT)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _utc(when: datetime | None) -> datetime | None:
    return None if when is None else when.replace(tzinfo=UTC)
