"""Places that releases are promoted to, behind one seam."""

from typing import assert_never

from orchestrator.errors import RepositoryError
from orchestrator.publication import RepositoryKind, RepositoryRules
from orchestrator.repositories.interface import Repository


def open_repository(rules: RepositoryRules) -> Repository:
    """Give the repository that rules name; stores on a network are asked again when an answer is lost."""
    # Each adapter is imported where it is chosen: their packages cost time, and some are extras.
    match rules.kind:
        case RepositoryKind.LOCAL:
            return _local(rules)
        case RepositoryKind.S3:
            return _patient(_s3(rules))
        case RepositoryKind.GCS:
            return _patient(_gcs(rules))
        case _:
            assert_never(rules.kind)


def _local(rules: RepositoryRules) -> Repository:
    from orchestrator.repositories.local import LocalRepository  # noqa: PLC0415 - only where it is chosen

    if rules.path is None:
        raise RepositoryError("a local repository has no path", next_step="give one by --repository-path")
    return LocalRepository(rules.path, unsafe_filesystem=rules.unsafe_filesystem)


def _s3(rules: RepositoryRules) -> Repository:
    _require_bucket(rules)
    try:
        from orchestrator.repositories.s3 import S3Repository  # noqa: PLC0415 - only where it is chosen
    except ImportError as error:
        raise _extra_missing("aws", error) from error
    return S3Repository(rules.bucket, prefix=rules.prefix, endpoint=rules.endpoint, region=rules.region)


def _gcs(rules: RepositoryRules) -> Repository:
    _require_bucket(rules)
    try:
        from orchestrator.repositories.gcs import GcsRepository  # noqa: PLC0415 - only where it is chosen
    except ImportError as error:
        raise _extra_missing("gcs", error) from error
    return GcsRepository(rules.bucket, prefix=rules.prefix, endpoint=rules.endpoint)


def _patient(repository: Repository) -> Repository:
    from orchestrator.repositories.retrying import RetryingRepository  # noqa: PLC0415 - only where it is chosen

    return RetryingRepository(repository)


def _require_bucket(rules: RepositoryRules) -> None:
    if not rules.bucket:
        raise RepositoryError(f"the {rules.kind} repository has no bucket", next_step="give one by --repository-bucket")


def _extra_missing(extra: str, error: ImportError) -> RepositoryError:
    return RepositoryError(
        f"the Python package {error.name} is not installed", next_step=f"pip install 'relbuild[{extra}]'"
    )
