"""`relbuild yank`, `unyank`, `revoke`, `rollback`, `abandon`, `index renew`: what becomes of a release afterwards."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builders.errors import RelbuildError
from orchestrator.cli import options
from orchestrator.cli import repository_options as asked
from orchestrator.publishing_rules import RepositoryKind

if TYPE_CHECKING:
    from orchestrator.cli.publisher import Owner, Publisher
    from orchestrator.publish.lifecycle import Changed, Office, Order

Version = Annotated[str, typer.Argument(help="The version, exactly as it was published.")]
Change = Callable[["Office", str, "Order"], "Changed"]
Configured = tuple[Path | None, Path | None]
"""The configuration and the trust file that were named."""
Where = tuple[str | None, RepositoryKind | None, Path | None, str, str, str]
"""Place in one word, kind, path, bucket, prefix and endpoint of the repository, as they were named."""
Who = tuple[Path | None, str | None, Path | None, str | None, str, Path | None]
"""Index key and its passphrase, audit key and its passphrase, actor, and the journal, as they were named."""


def _command(name: str, words: str) -> Callable[..., None]:
    """Make a command that does one thing to one version: their options are the same."""

    def command(  # noqa: PLR0917  (options are keyword-only on the command line)
        version: Version,
        reason: asked.Reason = "",
        config: options.Config = None,
        repository: asked.Repository = None,
        repository_type: asked.Kind = None,
        repository_path: asked.Folder = None,
        repository_bucket: asked.Bucket = "",
        repository_prefix: asked.Prefix = "",
        endpoint_url: asked.Endpoint = "",
        trust: asked.Trust = None,
        key: asked.Key = None,
        passphrase_env: asked.KeyPassphrase = None,
        audit_key: asked.AuditKey = None,
        audit_passphrase_env: asked.AuditPassphrase = None,
        actor: asked.Actor = "",
        journal: asked.Journal = None,
    ) -> None:
        from orchestrator.publish import lifecycle  # noqa: PLC0415  (heavy, and --help does not need it)

        changes: dict[str, Change] = {
            "yank": lifecycle.yank, "unyank": lifecycle.unyank, "revoke": lifecycle.revoke,
            "abandon": lifecycle.abandon,
        }  # fmt: skip
        place = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
        who = (key, passphrase_env, audit_key, audit_passphrase_env, actor, journal)
        _change(name, changes[name], version, reason, (config, trust), place, who)

    command.__doc__ = words
    return command


yank = _command("yank", "Leave a release to those who name it exactly: it is never the latest.")
unyank = _command("unyank", "Take a yank back.")
revoke = _command("revoke", "Forbid a release to every reader, for ever. Needs a --reason.")
abandon = _command("abandon", "Give up a version that is claimed and cannot be finished. Needs a --reason.")


def rollback(  # noqa: PLR0917  (as above)
    to: Annotated[str, typer.Option("--to", help="The release that is to be the latest again.")],
    reason: asked.Reason = "",
    config: options.Config = None,
    repository: asked.Repository = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    trust: asked.Trust = None,
    key: asked.Key = None,
    passphrase_env: asked.KeyPassphrase = None,
    audit_key: asked.AuditKey = None,
    audit_passphrase_env: asked.AuditPassphrase = None,
    actor: asked.Actor = "",
    journal: asked.Journal = None,
) -> None:
    """Make an older release the latest again; the newer ones are superseded, and stay."""
    from orchestrator.publish import lifecycle  # noqa: PLC0415  (as above)

    place = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    who = (key, passphrase_env, audit_key, audit_passphrase_env, actor, journal)
    _change("rollback", lifecycle.rollback, to, reason, (config, trust), place, who)


def renew(  # noqa: PLR0917  (as above)
    expires: asked.Expires = None,
    config: options.Config = None,
    repository: asked.Repository = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    trust: asked.Trust = None,
    key: asked.Key = None,
    passphrase_env: asked.KeyPassphrase = None,
    audit_key: asked.AuditKey = None,
    audit_passphrase_env: asked.AuditPassphrase = None,
    actor: asked.Actor = "",
    journal: asked.Journal = None,
) -> None:
    """Let readers believe the index for longer where nobody publishes."""
    from orchestrator.publish import lifecycle  # noqa: PLC0415  (as above)

    place = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    who = (key, passphrase_env, audit_key, audit_passphrase_env, actor, journal)
    until = expires.replace(tzinfo=UTC) if expires else None
    _change(
        "renew", lambda office, _, order: lifecycle.renew(office, order), "", "", (config, trust), place, who, until
    )


# --- what all of them do -----------------------------------------------------------------------------------------


def _change(  # noqa: PLR0917  (each is a group of what was said on the command line)
    name: str, change: Change, version: str, reason: str, configured: Configured, place: Where, who: Who,
    expires: datetime | None = None,
) -> None:  # fmt: skip
    """Make one change, say what it gave, and note it where it is refused."""
    from orchestrator import publishing  # noqa: PLC0415  (as above)
    from orchestrator.cli import places, publisher, wire  # noqa: PLC0415

    matrix = wire.find_matrix(configured[0])
    owner = _owner(who)
    passphrases = publisher.take_passphrases(matrix, owner)
    opened = publisher.open_publisher(places.placed(place), owner, matrix, configured[1], passphrases)
    try:
        changed = change(opened.office(), version, opened.order(reason, expires))
    except RelbuildError as error:
        note = publishing.note_failure(opened.press(publisher.say(verbose=False)), name, version, error)
        if note:
            print(f"relbuild: {note}", file=sys.stderr)
        raise
    _tell(changed, opened)


def _owner(who: Who) -> "Owner":
    from orchestrator.cli import publisher  # noqa: PLC0415  (as above)

    key, passphrase, audit_key, audit_passphrase, actor, journal = who
    return publisher.Owner(
        key=key, key_passphrase=passphrase, audit_key=audit_key, audit_passphrase=audit_passphrase, actor=actor,
        journal=journal,
    )  # fmt: skip


def _tell(changed: "Changed", opened: "Publisher") -> None:
    what = f"{changed.kind.value} {changed.version}".strip()
    done = "was so already" if changed.no_op else "is done"
    print(f"{what} {done}: revision {changed.revision:,} of {opened.repository.location}")
    print(f"latest: {changed.latest or 'none'}")
