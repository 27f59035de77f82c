"""The places where shards meet, as the command line names them: a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.repositories.interface import Repository
    from orchestrator.shards.plan_file import PlanFile

To = Annotated[
    str | None, typer.Option("--to", metavar="PLACE", help="Also put it there: a folder, s3://BUCKET/DIR, gs://...")
]
WhereFrom = Annotated[
    str | None, typer.Option("--from", metavar="PLACE", help="Fetch all shards of the plan from there.")
]


def send(place: str, folder: Path, planned: "PlanFile") -> str:
    """Put a shard into a place, and say where it is."""
    from orchestrator.shards import meeting  # noqa: PLC0415  (only who shares needs it)

    repository = _open(place)
    return f"{repository.location}/{meeting.send(repository, folder, planned)}"


def receive(place: str, planned: "PlanFile", dist: Path) -> tuple[Path, ...]:
    """Fetch the shards of a plan below the output folder."""
    from orchestrator.shards import meeting  # noqa: PLC0415  (as above)

    return meeting.receive(_open(place), planned, dist / "received")


def _open(place: str) -> "Repository":
    from orchestrator.publishing_rules import RepositoryKind, RepositoryRules  # noqa: PLC0415  (as above)
    from orchestrator.repositories import open_repository  # noqa: PLC0415

    kinds = {"s3": RepositoryKind.S3, "gs": RepositoryKind.GCS}
    scheme, separator, rest = place.partition("://")
    if not separator:
        return open_repository(RepositoryRules(kind=RepositoryKind.LOCAL, path=Path(place)))
    if scheme not in kinds:
        raise typer.BadParameter(f"{scheme}:// is no place for shards: name a folder, s3://BUCKET or gs://BUCKET")
    bucket, _, prefix = rest.partition("/")
    return open_repository(RepositoryRules(kind=kinds[scheme], bucket=bucket, prefix=prefix))
