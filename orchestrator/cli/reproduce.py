"""`relbuild reproduce`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli import repository_options as asked

if TYPE_CHECKING:
    from orchestrator.cli.rebuilding import Asked


def reproduce(  # noqa: PLR0917  (options are keyword-only on the command line)
    version: Annotated[
        str, typer.Argument(help="The version; default: the one that is staged for this source, or the latest.")
    ] = "",
    cell: Annotated[
        list[str] | None, typer.Option("--cell", metavar="PRODUCT/TARGET", help="Prove this cell alone; repeated.")
    ] = None,
    from_: Annotated[
        str, typer.Option("--from", metavar="REPOSITORY", help="A folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.")
    ] = "",
    staged: Annotated[Path | None, typer.Option("--staged", help="The folder of a staged release.")] = None,
    source: Annotated[
        Path | None, typer.Option("--source", help="A folder with the source, where the release does not give it.")
    ] = None,
    axes: Annotated[
        list[str] | None, typer.Option("--axes", help="Vary these alone, comma-separated or repeated; default: all.")
    ] = None,
    rebuilds: Annotated[
        int | None, typer.Option("--rebuilds", min=0, help="Further rounds of builds to find a cause; default: 12.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="Show what was proved here before, and stop.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the differing files beside the result.")] = False,
    as_json: asked.AsJson = False,
    config: options.Config = None,
    output: options.Output = None,
    jobs: options.Jobs = None,
    trust: asked.Trust = None,
    memory: asked.Memory = None,
    endpoint_url: asked.Endpoint = "",
    key: Annotated[
        Path | None, typer.Option("--key", help="Sign the statement with this key file, its .pub beside it.")
    ] = None,
    passphrase_env: asked.KeyPassphrase = None,
) -> None:
    """Rebuild a release from its own source in another world, compare every byte, and say why where they differ."""
    from orchestrator.cli import rebuilding  # noqa: PLC0415  (heavy, and --help does not need it)

    request: Asked = rebuilding.Asked(
        version=version, cells=options.names(cell), repository=from_, staged=staged, source=source,
        axes=options.names(axes), rebuilds=rebuilds, keep=keep, as_json=as_json, config=config, output=output,
        jobs=jobs or 0, trust=trust, memory=memory, endpoint=endpoint_url, key=key, passphrase_env=passphrase_env,
    )  # fmt: skip
    if history:
        rebuilding.show_history(request)
    else:
        rebuilding.run(request)
