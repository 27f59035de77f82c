"""`relbuild index`: shows, checks and renews the signed index of a repository."""

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import lifecycle, options, reading
from orchestrator.cli import repository_options as asked

if TYPE_CHECKING:
    from orchestrator.cli.publisher import Reader
    from orchestrator.publication import Index

app = typer.Typer(help="Show, check and renew the signed index of a repository.", no_args_is_help=True)
app.command("renew")(lifecycle.renew)


@app.command("show")
def index_show(  # noqa: PLR0917  (options are keyword-only on the command line)
    version: Annotated[str, typer.Argument(help="Show this release and its files; default: the history.")] = "",
    config: options.Config = None,
    repository: asked.Repository = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    trust: asked.Trust = None,
    memory: asked.Memory = None,
    as_json: asked.AsJson = False,
) -> None:
    """Show the history that the index holds, or one release of it."""
    place = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    opened, index = reading.read(reading.open_reader(place, config, trust, memory))
    print(_release_text(opened, index, version, as_json) if version else _index_text(index, as_json))


@app.command("verify")
def index_verify(  # noqa: PLR0917  (as above)
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
    """Check the index: its form, its signature, its chain, and that it is no older than what was seen here before."""
    from orchestrator.cli.tables import counted  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.publish.index import index_sha256  # noqa: PLC0415

    place = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    _, index = reading.read(reading.open_reader(place, config, trust, memory))
    releases = counted(index.total_releases, "release")
    print(f"index.json holds: {index.repository_id}, revision {index.revision:,}, {releases}")
    print(f"sha256:{index_sha256(index)}, good until {reading.shown_time(index.expires)}")


def _release_text(opened: "Reader", index: "Index", version: str, as_json: bool) -> str:
    from orchestrator.cli import tables  # noqa: PLC0415  (as above)
    from orchestrator.publish.audit import parse_audit  # noqa: PLC0415

    entry = reading.named(index, version)
    if as_json:
        return tables.to_json(reading.entry_data(entry))
    rows = [
        (file.path, tables.size(file.size_bytes), file.sha256)
        for file in parse_audit(reading.audit_of(opened, entry)).files
    ]
    head = f"{entry.version}: {entry.status.value}, published {reading.shown_time(entry.timestamp)}"
    return f"{head}\n\n{tables.columns(('FILE', 'SIZE', 'SHA-256'), rows)}"


def _index_text(index: "Index", as_json: bool) -> str:
    from builders.names import escaped  # noqa: PLC0415  (as above)
    from orchestrator.cli import tables  # noqa: PLC0415
    from orchestrator.publish.index import encode_index  # noqa: PLC0415

    if as_json:
        return encode_index(index).decode().rstrip("\n")
    rows = [
        (str(each.seq), reading.shown_time(each.time), each.type.value, each.version, escaped(each.actor)[1:-1],
         escaped(each.reason)[1:-1])
        for each in index.events
    ]  # fmt: skip
    head = (
        f"{index.repository_id}, revision {index.revision:,}, good until {reading.shown_time(index.expires)}\n"
        f"latest: {index.latest or 'none'}; root {index.root}"
    )
    return f"{head}\n\n{tables.columns(('EVENT', 'TIME', 'WHAT', 'VERSION', 'BY', 'WHY'), rows)}"
