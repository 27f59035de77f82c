"""Which repository the command line names: in one word, or by its parts."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from builders.names import escaped
from orchestrator.errors import PublicationError
from orchestrator.model import Matrix
from orchestrator.publishing_rules import RepositoryKind, RepositoryRules

if TYPE_CHECKING:
    from orchestrator.cli.lifecycle import Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the command line says that the repository is; nothing said means [repository]."""

    kind: RepositoryKind | None
    path: Path | None
    bucket: str = ""
    prefix: str = ""
    endpoint: str = ""

    @property
    def named(self) -> bool:
        return self.kind is not None or bool(self.path or self.bucket)


def named_place(text: str, endpoint: str = "") -> Place:
    """Read a repository as one word: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, or a folder. Nothing: [repository]."""
    scheme, separator, rest = text.partition("://")
    if not text:
        return Place(kind=None, path=None, endpoint=endpoint)
    kind = {"s3": RepositoryKind.S3, "gs": RepositoryKind.GCS}.get(scheme) if separator else None
    if kind is not None:
        bucket, _, prefix = rest.partition("/")
        return Place(kind=kind, path=None, bucket=bucket, prefix=prefix.strip("/"), endpoint=endpoint)
    if separator and scheme != "file":
        raise PublicationError(f"{escaped(text)} is no repository", next_step="name a folder, s3://... or gs://...")
    return Place(kind=RepositoryKind.LOCAL, path=Path(rest if separator else text))


def placed(where: "Where") -> Place:
    """Join the options that name a repository: in one word, or by its parts. Both at once are wrong usage."""
    word, kind, path, bucket, prefix, endpoint = where
    if word is None:
        return Place(kind=kind, path=path, bucket=bucket, prefix=prefix, endpoint=endpoint)
    parts = {"--repository-type": kind, "--repository-path": path, "--repository-bucket": bucket,
             "--repository-prefix": prefix}  # fmt: skip
    again = [option for option, value in parts.items() if value]
    if again:
        raise typer.BadParameter(
            f"names the repository, and so does {again[0]}: give one of them", param_hint="--repository"
        )
    return named_place(word, endpoint)


def rules_of(place: Place, matrix: Matrix | None) -> RepositoryRules:
    """Give the repository that is named, else that of [repository]. Raises PublicationError where none is."""
    if not place.named:
        if matrix is None or matrix.repository is None:
            where = f"{matrix.file} has no [repository]" if matrix else "no matrix.toml is here"
            raise PublicationError(
                f"no repository is named: {where}",
                next_step="add [repository], or give --repository FOLDER, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX",
            )
        return matrix.repository.repository
    kind = place.kind or (RepositoryKind.LOCAL if place.path else RepositoryKind.S3)
    if kind is RepositoryKind.LOCAL and (place.path is None or place.bucket):
        raise PublicationError("a local repository is a folder", next_step="give --repository-path and no bucket")
    if kind is not RepositoryKind.LOCAL and (not place.bucket or place.path):
        raise PublicationError(
            f"{kind.words} is a bucket", next_step="give --repository SCHEME://BUCKET/PREFIX, or --repository-bucket"
        )
    return RepositoryRules(
        kind=kind, path=place.path, bucket=place.bucket, prefix=place.prefix, endpoint=place.endpoint
    )
