"""`relbuild approve`: sign that exactly the staged bytes may be published; and what the policy is told of that."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.cli.publisher import Publisher
    from orchestrator.publishing.approving import Approvals


def approve(  # noqa: PLR0917  (options are keyword-only on the command line)
    key: Annotated[Path, typer.Option("--key", help="A key of the role 'approver' in trust.json.")],
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="A staged version; default: that of matrix.toml.")
    ] = "",
    staged: Annotated[
        Path | None, typer.Option("--staged", help="The staged folder; default: that of the version below dist.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write; default: approvals/VERSION beside staging/.")
    ] = None,
    passphrase_env: Annotated[
        str | None, typer.Option("--passphrase-env", metavar="NAME", help="The variable with the key's passphrase.")
    ] = None,
    config: options.Config = None,
) -> None:
    """Sign that a staged release may be published: exactly these bytes. [repository] approvals says how many must."""
    from orchestrator.cli import publish, signed_files, wire  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.publishing.approving import approval_json, approvals_of  # noqa: PLC0415
    from orchestrator.publishing_evidence import read_candidate  # noqa: PLC0415

    if staged is not None and version:
        raise typer.BadParameter("name a version or --staged, not both")
    candidate = read_candidate(staged or publish.usual_folder(wire.find_matrix(config), version))
    signer = signed_files.open_signer(key, passphrase_env)
    file = (out or approvals_of(candidate)) / f"{signer.key_id}.json"
    signed_files.write_signed(file, approval_json(candidate), signer)
    release = candidate.staged
    print(f"{file}: {candidate.project} {release.version} (manifest sha256:{release.manifest_sha256})")
    print(f"approved by {signer.key_id}")


def approvals(opened: "Publisher", folder: Path) -> "Approvals | None":
    """Read who approved a staged release, where [repository] asks for approvals."""
    from orchestrator.cli import publisher  # noqa: PLC0415  (as above)
    from orchestrator.publishing.approving import read_approvals  # noqa: PLC0415
    from orchestrator.publishing_evidence import read_candidate  # noqa: PLC0415

    if not opened.rules.approvals:
        return None
    return read_approvals(read_candidate(folder), opened.trust, publisher.now())
