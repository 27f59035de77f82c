"""`relbuild list` and `fetch`: what readers of a repository do. Public keys alone are enough."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options, reading
from orchestrator.cli import repository_options as asked

if TYPE_CHECKING:
    from orchestrator.publication import ReleaseEntry


def list_(  # noqa: PLR0917  (options are keyword-only on the command line)
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
    """List the releases that are published, newest first."""
    from orchestrator.cli import tables  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.publish.version_names import newest_first  # noqa: PLC0415

    place = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    _, index = reading.read(reading.open_reader(place, config, trust, memory))
    entries = {entry.version: entry for entry in index.releases}
    newest = [entries[version] for version in newest_first(entries)]
    if as_json:
        told = {"latest": index.latest, "releases": [reading.entry_data(entry) for entry in newest]}
        print(tables.to_json(told))
        return
    head = ("VERSION", "STATUS", "PUBLISHED", "SIZE", "ARTIFACTS", "SIGNED", "TARGETS")
    print(tables.columns(head, [_row(entry, index.latest) for entry in newest]))


def fetch(  # noqa: PLR0917  (as above)
    version: Annotated[str, typer.Argument(help="The version; default: the latest.")] = "",
    to: Annotated[Path, typer.Option("--to", help="The folder that gets a folder of the version's name.")] = Path(),
    only: Annotated[list[str] | None, typer.Option("--only", help="Get this file alone; repeated.")] = None,
    target: asked.OnlyTargets = None,
    config: options.Config = None,
    repository: asked.Repository = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    trust: asked.Trust = None,
    memory: asked.Memory = None,
    repository_id: Annotated[
        str, typer.Option("--repository-id", help="What the repository must call itself; default: anything.")
    ] = "",
) -> None:
    """Download a release by the signed index, every byte checked, and never from an older index than was seen."""
    from orchestrator.cli import publisher, tables  # noqa: PLC0415  (as above)
    from orchestrator.publish import reader  # noqa: PLC0415

    place = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    targets = options.target_names(target)
    if targets and only:
        raise typer.BadParameter("names files by their target, and --only by their name: give one of them",
                                 param_hint="--target")  # fmt: skip
    opened = reading.open_reader(place, config, trust, memory)
    got = reader.fetch(
        opened.repository, opened.index_trust(), version, to, memory=opened.memory, now=publisher.now(),
        only=only or (), targets=targets, repository_id=repository_id,
    )  # fmt: skip
    for note in got.notes:
        typer.echo(f"note: {note}", err=True)
    files = tables.counted(len(got.files), "file")
    print(f"got {files} of {got.version} in {got.folder}, by revision {got.revision:,} of the index")
    if not only:
        part = f" --target {','.join(targets)}" if targets else ""
        print(f"next: relbuild verify {got.folder}{part}{f' --trust {trust}' if trust else ''}")


def _row(entry: "ReleaseEntry", latest: str) -> tuple[str, ...]:
    from orchestrator.cli import tables  # noqa: PLC0415  (as above)

    status = f"{entry.status.value}, latest" if entry.version == latest else entry.status.value
    return (
        entry.version, status, reading.shown_time(entry.timestamp), tables.size(entry.size_bytes),
        str(len(entry.artifacts)), "yes" if entry.signed else "no", ", ".join(entry.targets),
    )  # fmt: skip
