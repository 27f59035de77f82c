"""`relbuild audit`: shows and checks what was published, when, and on whose word. Public keys alone are enough."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options, reading
from orchestrator.cli import repository_options as asked

app = typer.Typer(help="Show and check what was published, when, and on whose word.", no_args_is_help=True)


@app.command("verify")
def audit_verify(  # noqa: PLR0917  (options are keyword-only on the command line)
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="The history must extend this export of an earlier day.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="Check this local journal of failures instead.")
    ] = None,
    config: options.Config = None,
    repository: asked.Repository = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    trust: asked.Trust = None,
    memory: asked.Memory = None,
) -> None:
    """Check the whole history, every audit and its signature, and that it extends what was seen here before.

    Names the first thing that fails.
    """
    from orchestrator.cli.tables import counted  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.publish.audit_check import verify_audits  # noqa: PLC0415
    from orchestrator.publish.journal import verify_journal  # noqa: PLC0415

    if journal is not None:
        lines = verify_journal(journal)
        print(f"{counted(lines, 'line')} of {journal} {'holds' if lines == 1 else 'hold'}")
        return
    place = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    opened = reading.open_reader(place, config, trust, memory)
    known = _file(checkpoint) if checkpoint else b""
    report = verify_audits(opened.repository, opened.index_trust(), known, memory=opened.memory)
    for version in report.unlisted:
        typer.echo(f"note: {version} has an audit and is not published: claimed, or abandoned", err=True)
    if report.wrong is not None:
        if report.audits:
            print(f"{counted(report.audits, 'audit')} held before that")
        raise report.wrong.error
    both = f"{counted(report.revision, 'event')} and {counted(report.audits, 'audit')}"
    print(f"{both} hold, with their signatures (root {report.root})")


@app.command("show")
def audit_show(  # noqa: PLR0917  (as above)
    version: Annotated[str, typer.Argument(help="The version whose audit is shown.")],
    config: options.Config = None,
    repository: asked.Repository = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    trust: asked.Trust = None,
    memory: asked.Memory = None,
) -> None:
    """Print the audit of a published version, after checking it against the index and its signature."""
    place = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    opened, index = reading.read(reading.open_reader(place, config, trust, memory))
    print(reading.audit_of(opened, reading.named(index, version)).decode(), end="")


@app.command("export-checkpoint")
def audit_export_checkpoint(  # noqa: PLR0917  (as above)
    out: Annotated[Path | None, typer.Option("--out", help="Write it to this file; default: print it.")] = None,
    config: options.Config = None,
    repository: asked.Repository = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    trust: asked.Trust = None,
    memory: asked.Memory = None,
) -> None:
    """Write what to keep elsewhere, so that a history that was rewritten later is noticed."""
    from orchestrator.errors import PublicationError  # noqa: PLC0415  (as above)
    from orchestrator.publish.audit_check import export_checkpoint  # noqa: PLC0415

    place = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    _, index = reading.read(reading.open_reader(place, config, trust, memory))
    body = export_checkpoint(index)
    if out is None:
        print(body.decode(), end="")
        return
    try:
        out.write_bytes(body)
    except OSError as error:
        raise PublicationError(f"{out} cannot be written: {error.strerror}", next_step="name another file") from None
    print(f"revision {index.revision:,} is in {out}")


def _file(path: Path) -> bytes:
    from orchestrator.errors import VerificationError  # noqa: PLC0415  (as above)

    try:
        return path.read_bytes()
    except OSError as error:
        raise VerificationError(f"{path} cannot be read: {error.strerror}", next_step="name the right file") from None
