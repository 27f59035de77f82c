"""`relbuild list`, `fetch`, `index` and `audit`: what readers do. Public keys alone are enough."""

from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import lifecycle, options
from orchestrator.cli import repository_options as asked

if TYPE_CHECKING:
    from orchestrator.cli.publisher import Reader
    from orchestrator.publication import Index, ReleaseEntry

index_app = typer.Typer(help="Show, check and renew the signed index of a repository.", no_args_is_help=True)
audit_app = typer.Typer(help="Show and check what was published, when, and on whose word.", no_args_is_help=True)
index_app.command("renew")(lifecycle.renew)


def list_(  # noqa: PLR0917  (options are keyword-only on the command line)
    config: options.Config = None,
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

    place = (repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    _, index = _read(_reader(place, config, trust, memory))
    entries = {entry.version: entry for entry in index.releases}
    newest = [entries[version] for version in newest_first(entries)]
    if as_json:
        told = {"latest": index.latest, "releases": [_entry_data(entry) for entry in newest]}
        print(tables.to_json(told))
        return
    head = ("VERSION", "STATUS", "PUBLISHED", "SIZE", "ARTIFACTS", "SIGNED", "TARGETS")
    print(tables.columns(head, [_row(entry, index.latest) for entry in newest]))


def fetch(  # noqa: PLR0917  (as above)
    version: Annotated[str, typer.Argument(help="The version; default: the latest.")] = "",
    to: Annotated[Path, typer.Option("--to", help="The folder that gets a folder of the version's name.")] = Path(),
    only: Annotated[list[str] | None, typer.Option("--only", help="Get this file alone; repeated.")] = None,
    config: options.Config = None,
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
    from orchestrator.cli import publisher  # noqa: PLC0415  (as above)
    from orchestrator.publish import reader  # noqa: PLC0415

    place = (repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    opened = _reader(place, config, trust, memory)
    got = reader.fetch(
        opened.repository, opened.index_trust(), version, to, memory=opened.memory, now=publisher.now(),
        only=only or (), repository_id=repository_id,
    )  # fmt: skip
    for note in got.notes:
        typer.echo(f"note: {note}", err=True)
    print(
        f"{len(got.files)} files of {got.version} are in {got.folder}, as revision {got.revision:,} of the index says"
    )
    if not only:
        print(f"next: relbuild verify {got.folder}{f' --trust {trust}' if trust else ''}")


# --- index -------------------------------------------------------------------------------------------------------


@index_app.command("show")
def index_show(  # noqa: PLR0917  (as above)
    version: Annotated[str, typer.Argument(help="Show this release and its files; default: the history.")] = "",
    config: options.Config = None,
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
    place = (repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    opened, index = _read(_reader(place, config, trust, memory))
    print(_release_text(opened, index, version, as_json) if version else _index_text(index, as_json))


@index_app.command("verify")
def index_verify(  # noqa: PLR0917  (as above)
    config: options.Config = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    trust: asked.Trust = None,
    memory: asked.Memory = None,
) -> None:
    """Check the index: its form, its signature, its chain, and that it is no older than what was seen here before."""
    from orchestrator.publish.index import index_sha256  # noqa: PLC0415  (as above)

    place = (repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    _, index = _read(_reader(place, config, trust, memory))
    print(f"index.json holds: {index.repository_id}, revision {index.revision:,}, {index.total_releases:,} releases")
    print(f"sha256:{index_sha256(index)}, good until {_when(index.expires)}")


# --- audit -------------------------------------------------------------------------------------------------------


@audit_app.command("verify")
def audit_verify(  # noqa: PLR0917  (as above)
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="The history must extend this export of an earlier day.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="Check this local journal of failures instead.")
    ] = None,
    config: options.Config = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    trust: asked.Trust = None,
) -> None:
    """Check the whole history, every audit and its signature, and name the first thing that fails."""
    from orchestrator.publish.audit_check import verify_audits  # noqa: PLC0415  (as above)
    from orchestrator.publish.journal import verify_journal  # noqa: PLC0415

    if journal is not None:
        print(f"{verify_journal(journal):,} lines of {journal} hold")
        return
    place = (repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    opened = _reader(place, config, trust, None)
    known = _file(checkpoint) if checkpoint else b""
    report = verify_audits(opened.repository, opened.index_trust(), known)
    for version in report.unlisted:
        typer.echo(f"note: {version} has an audit and is not published: claimed, or abandoned", err=True)
    if report.wrong is not None:
        print(f"the first {report.audits:,} audits hold")
        raise report.wrong.error
    print(f"{report.revision:,} events and {report.audits:,} audits hold, with their signatures (root {report.root})")


@audit_app.command("show")
def audit_show(  # noqa: PLR0917  (as above)
    version: Annotated[str, typer.Argument(help="The version whose audit is shown.")],
    config: options.Config = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    trust: asked.Trust = None,
    memory: asked.Memory = None,
) -> None:
    """Print the audit of a published version, after checking it against the index and its signature."""
    place = (repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    opened, index = _read(_reader(place, config, trust, memory))
    print(_audit(opened, _named(index, version)).decode(), end="")


@audit_app.command("export-checkpoint")
def audit_export_checkpoint(  # noqa: PLR0917  (as above)
    out: Annotated[Path | None, typer.Option("--out", help="Write it to this file; default: print it.")] = None,
    config: options.Config = None,
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

    place = (repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    _, index = _read(_reader(place, config, trust, memory))
    body = export_checkpoint(index)
    if out is None:
        print(body.decode(), end="")
        return
    try:
        out.write_bytes(body)
    except OSError as error:
        raise PublicationError(f"{out} cannot be written: {error.strerror}", next_step="name another file") from None
    print(f"revision {index.revision:,} is in {out}")


# --- what they share ---------------------------------------------------------------------------------------------


def _reader(place: lifecycle.Where, config: Path | None, trust: Path | None, memory: Path | None) -> "Reader":
    from orchestrator.cli import publisher  # noqa: PLC0415  (as above)

    kind, path, bucket, prefix, endpoint = place
    named = publisher.Place(kind=kind, path=path, bucket=bucket, prefix=prefix, endpoint=endpoint)
    return publisher.open_reader(named, config, trust, memory)


def _read(opened: "Reader") -> "tuple[Reader, Index]":
    from orchestrator.cli import publisher  # noqa: PLC0415  (as above)
    from orchestrator.publish import reader  # noqa: PLC0415

    index = reader.read_index(opened.repository, opened.index_trust(), memory=opened.memory, now=publisher.now())
    return opened, index


def _named(index: "Index", version: str) -> "ReleaseEntry":
    from builders.names import escaped  # noqa: PLC0415  (as above)
    from orchestrator.errors import PublicationError  # noqa: PLC0415

    entry = index.release(version)
    if entry is None:
        raise PublicationError(f"{escaped(version[:200])} is not published", next_step="`relbuild list`")
    return entry


def _audit(opened: "Reader", entry: "ReleaseEntry") -> bytes:
    import hashlib  # noqa: PLC0415  (as above)

    from orchestrator.errors import DigestMismatch  # noqa: PLC0415
    from orchestrator.publication import AUDIT, AUDIT_SIGNATURE  # noqa: PLC0415
    from orchestrator.publish.staging import read_whole  # noqa: PLC0415

    body = read_whole(opened.repository, PurePosixPath(f"{entry.version}{AUDIT}"))
    if hashlib.sha256(body).hexdigest() != entry.audit_sha256:
        raise DigestMismatch(
            f"{entry.version}{AUDIT} has other bytes than the signed index promises",
            next_step="do not use this version before you know who changed it",
        )
    seal = read_whole(opened.repository, PurePosixPath(f"{entry.version}{AUDIT_SIGNATURE}"))
    opened.index_trust().check_audit(body, seal)
    return body


def _release_text(opened: "Reader", index: "Index", version: str, as_json: bool) -> str:
    from orchestrator.cli import tables  # noqa: PLC0415  (as above)
    from orchestrator.publish.audit import parse_audit  # noqa: PLC0415

    entry = _named(index, version)
    if as_json:
        return tables.to_json(_entry_data(entry))
    rows = [(file.path, tables.size(file.size_bytes), file.sha256) for file in parse_audit(_audit(opened, entry)).files]
    head = f"{entry.version}: {entry.status.value}, published {_when(entry.timestamp)}"
    return f"{head}\n\n{tables.columns(('FILE', 'SIZE', 'SHA-256'), rows)}"


def _index_text(index: "Index", as_json: bool) -> str:
    from builders.names import escaped  # noqa: PLC0415  (as above)
    from orchestrator.cli import tables  # noqa: PLC0415
    from orchestrator.publish.index import encode_index  # noqa: PLC0415

    if as_json:
        return encode_index(index).decode().rstrip("\n")
    rows = [
        (str(each.seq), _when(each.time), each.type.value, each.version, escaped(each.actor)[1:-1],
         escaped(each.reason)[1:-1])
        for each in index.events
    ]  # fmt: skip
    head = (
        f"{index.repository_id}, revision {index.revision:,}, good until {_when(index.expires)}\n"
        f"latest: {index.latest or 'none'}; root {index.root}"
    )
    return f"{head}\n\n{tables.columns(('EVENT', 'TIME', 'WHAT', 'VERSION', 'BY', 'WHY'), rows)}"


def _entry_data(entry: "ReleaseEntry") -> dict[str, Any]:
    from orchestrator.publish.index_rows import entry_json  # noqa: PLC0415  (as above)

    return dict(entry_json(entry))


def _row(entry: "ReleaseEntry", latest: str) -> tuple[str, ...]:
    from orchestrator.cli import tables  # noqa: PLC0415  (as above)

    status = f"{entry.status.value}, latest" if entry.version == latest else entry.status.value
    return (
        entry.version, status, _when(entry.timestamp), tables.size(entry.size_bytes), str(len(entry.artifacts)),
        "yes" if entry.signed else "no", ", ".join(entry.targets),
    )  # fmt: skip


def _when(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _file(path: Path) -> bytes:
    from orchestrator.errors import VerificationError  # noqa: PLC0415  (as above)

    try:
        return path.read_bytes()
    except OSError as error:
        raise VerificationError(f"{path} cannot be read: {error.strerror}", next_step="name the right file") from None
