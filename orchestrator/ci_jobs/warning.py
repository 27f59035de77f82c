"""What generated jobs will not be able to do, as matrix.toml stands: told by name, and nothing is refused for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from builders.names import escaped
from orchestrator.ci_jobs.graph import MERGE, PUBLISH, Job
from orchestrator.model import Matrix
from orchestrator.publishing_rules import RepositoryKind
from orchestrator.reproduction_rules import ReproductionGate
from orchestrator.signing_rules import SignerKind, SignerRules

LOST: Final = (
    'the publish job writes into the folder of [repository] (kind = "local") on its runner; a hosted runner loses it '
    'with the job, and the release with it: kind = "s3" or "gcs" keeps it'
)
COMMENT: Final = """\
# The publish job writes into a folder of its runner, as [repository] says.
# A hosted runner loses it: an S3 or GCS repository is needed there.
"""
_NAMES: Final = {MERGE: "sign_files", PUBLISH: "publish_files"}


def loses_repository(matrix: Matrix) -> bool:
    """Tell whether what is published lies on the runner's own disk."""
    return matrix.repository is not None and matrix.repository.repository.kind is RepositoryKind.LOCAL


def of_keys(matrix: Matrix, graph: tuple[Job, ...]) -> tuple[str, ...]:
    """Name each file of a key that a job reads and that is laid down by nothing."""
    jobs = {job.name: job for job in graph}
    wanted = ((jobs[name], path) for name, path in _keys(matrix) if name in jobs)
    return tuple(_missing(matrix.root, job, path) for job, path in wanted if not _is_laid(matrix.root, job, path))


def of_proof(matrix: Matrix) -> tuple[str, ...]:
    """Say so where the one job that rebuilds is not enough for the gate."""
    rules = matrix.reproduce
    if rules is None or rules.gate is not ReproductionGate.BLOCK or rules.rebuilders == 1:
        return ()
    return (f"[reproduce] asks for {rules.rebuilders} rebuilders, and the job that rebuilds is one: publishing ends "
            "with 38 unless others' statements are handed on with its own",)  # fmt: skip


def _keys(matrix: Matrix) -> Iterator[tuple[str, Path]]:
    """Give each file or folder of a private key, with the job that reads it."""
    signers = matrix.signing.signers if matrix.signing else ()
    yield from ((MERGE, path) for signer in signers if (path := _place(signer)))
    if matrix.repository is not None:
        # The first that can sign an index signs it.
        first = next((signer for signer in signers if signer.kind is not SignerKind.GPG), None)
        if first and (path := _place(first)):
            yield PUBLISH, path
        yield PUBLISH, matrix.repository.audit_key


def _place(signer: SignerRules) -> Path | None:
    return Path(signer.key) if signer.kind is SignerKind.KEY_FILE else signer.home


def _is_laid(root: Path, job: Job, path: Path) -> bool:
    full = root / path
    return any(full == root / each or (each.endswith("/") and full.is_relative_to(root / each)) for each in job.files)


def _missing(root: Path, job: Job, path: Path) -> str:
    full = root / path
    if full.is_relative_to(root):
        name = escaped(full.relative_to(root).as_posix())
        return f"the job {job.name} reads the key {name}, and {_NAMES[job.name]} of [ci] lays down no such file"
    return (f"the job {job.name} reads the key {escaped(str(full))}, outside of the project: it is there only if its "
            f"machine has it; {_NAMES[job.name]} of [ci] lays down files of the project")  # fmt: skip
