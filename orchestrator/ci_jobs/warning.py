"""What generated jobs will not be able to do, as matrix.toml stands: told by name, and nothing is refused for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builders.names import escaped
from orchestrator.ci_jobs.graph import MERGE, PUBLISH, REPRODUCE, STAGING, Job
from orchestrator.ci_rules import ChecksFrom
from orchestrator.model import Matrix
from orchestrator.publishing_rules import PolicyMode, RepositoryKind
from orchestrator.reproduction_rules import ReproductionGate
from orchestrator.signing_rules import SignerKind, SignerRules
from orchestrator.validation_rules import ValidationGate, ValidationRules

_LOST: Final = 'the publish job writes into the folder of [repository] (kind = "local") on its runner; '


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What becomes of a repository on a runner: the warning, and the comment in the file."""

    text: str
    comment: str


_IN_CHECKOUT: Final = Loss(
    text=f"{_LOST}it lies below the checkout, so any runner loses it: a hosted one with the job, any other when the "
    'next job cleans the checkout; an absolute path outside the checkout of a runner that is kept, or kind = "s3" or '
    '"gcs", keeps it',
    comment="""\
# The publish job writes into a folder of its checkout, as [repository] says.
# Any runner loses it: the next job cleans the checkout. An absolute path
# outside the checkout, or an S3 or GCS repository, keeps it.
""",
)
_ON_RUNNER: Final = Loss(
    text=f"{_LOST}a hosted runner loses it with the job, and the release with it: a runner that is kept, or "
    'kind = "s3" or "gcs", keeps it',
    comment="""\
# The publish job writes into a folder of its runner, as [repository] says.
# A hosted runner loses it: an S3 or GCS repository is needed there.
""",
)
_APPROVALS: Final = Path(STAGING).with_name("approvals")
_NAMES: Final = {MERGE: "sign_files", PUBLISH: "publish_files"}


def of_repository(matrix: Matrix, graph: tuple[Job, ...]) -> Loss | None:
    """Say how jobs on machines of their own lose what is published, where it lies on the runner's disk."""
    if matrix.repository is None or matrix.repository.repository.kind is not RepositoryKind.LOCAL:
        return None
    return _IN_CHECKOUT if any(job.repository for job in graph) else _ON_RUNNER


def of_jobs(matrix: Matrix, graph: tuple[Job, ...]) -> tuple[str, ...]:
    """Name all that jobs lack wherever they run."""
    return (*_of_keys(matrix, graph), *_of_validation(matrix), *_of_proof(matrix), *_of_evidence(matrix, graph))


def _of_keys(matrix: Matrix, graph: tuple[Job, ...]) -> tuple[str, ...]:
    """Name each file of a key that a job reads and that is laid down by nothing."""
    jobs = {job.name: job for job in graph}
    wanted = ((jobs[name], path) for name, path in _keys(matrix) if name in jobs)
    return tuple(_missing(matrix.root, job, path) for job, path in wanted if not _is_laid(matrix.root, job, path))


def _of_validation(matrix: Matrix) -> Iterator[str]:
    """Say so where nothing that the jobs make can pass the validation."""
    rules, repository = matrix.validation or ValidationRules(), matrix.repository
    if repository is None or repository.mode is not PolicyMode.STRICT or rules.passable:
        return
    if rules.gate is ValidationGate.BLOCK and all(each.rule != "validation" for each in repository.waivers):
        yield ("publishing ends with 31: [validate] asks for known vulnerabilities, and has no osv_database to look "
               'them up in; vulnerabilities = "ignore" in [validate.security] says that none is wanted')  # fmt: skip


def _of_proof(matrix: Matrix) -> Iterator[str]:
    """Say so where what the one job that rebuilds says is not enough for the gate."""
    rules = matrix.reproduce
    if rules is None or rules.gate is not ReproductionGate.BLOCK:
        return
    if not rules.keys:
        yield (f"[reproduce] has no `keys`: what the job {REPRODUCE} signs cannot count, unless the trust file holds "
               "its key; name its .pub there")  # fmt: skip
    if rules.rebuilders > 1:
        yield (f"[reproduce] asks for {rules.rebuilders} rebuilders, and the job that rebuilds is one: publishing ends "
               "with 38 unless others' statements are handed on with its own")  # fmt: skip


def _of_evidence(matrix: Matrix, graph: tuple[Job, ...]) -> Iterator[str]:
    """Name what publishing asks for and no job hands on: approvals, and a file of checks."""
    publish = next((job for job in graph if job.name == PUBLISH), None)
    if publish is None or matrix.repository is None:
        return
    wanted, checks = matrix.repository.approvals, matrix.ci.checks
    if wanted and not _is_laid(matrix.root, publish, _APPROVALS):
        yield (f"[repository] asks for {wanted} approvals, and no job hands on {_APPROVALS}/, where they lie: the job "
               f"{PUBLISH} finds none; publish by hand, or lay them down by publish_files of [ci]")  # fmt: skip
    asks = checks.required and checks.source is ChecksFrom.FILE
    if asks and not _is_laid(matrix.root, publish, checks.file):
        full = matrix.root / checks.file
        shown = full.relative_to(matrix.root) if full.is_relative_to(matrix.root) else full
        yield (f'required_checks of [ci] are read from {escaped(shown.as_posix())} (checks_from = "file"), which must '
               "be of the very commit, and no job hands it on: lay it down by publish_files of [ci], or take "
               'checks_from = "github"')  # fmt: skip


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
