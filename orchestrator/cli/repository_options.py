"""The options that name a repository, whose keys count for it, and who changes it."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.publishing_rules import PolicyMode, RepositoryKind


def _said(place: str | None) -> str | None:
    if place == "":
        # An empty variable must not mean another repository than the one that was meant.
        raise typer.BadParameter("is empty: name a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
    return place


Repository = Annotated[
    str | None,
    typer.Option(
        "--repository", metavar="PLACE", callback=_said,
        help="What holds the releases, in one word: a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.",
    ),
]  # fmt: skip
Kind = Annotated[
    RepositoryKind | None, typer.Option("--repository-type", help="What holds the releases; default: [repository].")
]
Folder = Annotated[Path | None, typer.Option("--repository-path", help="local: the folder.")]
Bucket = Annotated[str, typer.Option("--repository-bucket", help="s3, gcs: the bucket.")]
Prefix = Annotated[str, typer.Option("--repository-prefix", help="s3, gcs: a folder in the bucket.")]
Endpoint = Annotated[str, typer.Option("--endpoint-url", help="s3, gcs: another server than the provider's own.")]
OnlyTargets = Annotated[
    list[str] | None,
    typer.Option("--target", "-t", metavar="T", help="The artifacts for this target alone; comma-separated, repeated."),
]
Trust = Annotated[Path | None, typer.Option("--trust", help="The trust file; default: [signing] trust.")]
Memory = Annotated[
    Path | None, typer.Option("--memory", help="Keeps what was seen last; default: ~/.local/state/relbuild/seen.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]

Key = Annotated[Path | None, typer.Option("--key", help="The key file that signs the index; default: [signing].")]
AuditKey = Annotated[Path | None, typer.Option("--audit-key", help="RSA key that signs audits; default: [repository].")]
KeyPassphrase = Annotated[
    str | None, typer.Option("--passphrase-env", metavar="NAME", help="The variable with the passphrase of --key.")
]
AuditPassphrase = Annotated[
    str | None,
    typer.Option("--audit-passphrase-env", metavar="NAME", help="The variable with the passphrase of --audit-key."),
]
RepositoryId = Annotated[
    str, typer.Option("--repository-id", help="Name of a new repository; default: [repository] id, or the project's.")
]
Actor = Annotated[str, typer.Option("--actor", help="Who does it, as the index tells for ever; default: your login.")]
Journal = Annotated[
    Path | None,
    typer.Option("--journal", help="Keeps what was refused or failed; default: dist/publication-journal.jsonl."),
]

Policy = Annotated[
    PolicyMode | None,
    typer.Option("--policy", "--publication-policy", help="Whether a broken rule stops; default: [repository] policy."),
]
JsonReport = Annotated[Path | None, typer.Option("--json-report", help="Write the report as JSON to this file.")]
TextReport = Annotated[Path | None, typer.Option("--text-report", help="Write the report as text to this file.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do everything but write; say what would be written.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say each stage while it goes on.")]
RequireSignatures = Annotated[
    bool, typer.Option("--require-signatures", help="Ask for a signature beside each artifact, too.")
]
RequireEncryption = Annotated[
    bool, typer.Option("--require-encryption", help="Ask for an encrypted copy of each artifact.")
]
ValidationResult = Annotated[
    Path | None, typer.Option("--validation-result", help="What validation found (relbuild/validation/v1).")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; the index tells it for ever.")]
Expires = Annotated[
    datetime | None,
    typer.Option("--expires", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"], help="In UTC; default: [repository]."),
]
