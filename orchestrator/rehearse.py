"""Runs staging, SBOM, provenance, signing and verifying on a tiny artifact, so that a problem shows before a build."""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TypeVar

from builders.copying import full_disk_named, make_folders
from builders.errors import RelbuildError
from builders.model import (
    DEFAULT_EPOCH,
    BuiltFile,
    Cell,
    CellKey,
    CommandRecipe,
    Digest,
    Libc,
    OutputPattern,
    Placement,
    SmokeHow,
    SmokeResult,
    SourceTree,
    Toolchain,
)
from builders.names import escaped
from builders.targets import TARGETS, host
from orchestrator import documents, release
from orchestrator.errors import StagingError
from orchestrator.model import (
    BuildReport,
    Built,
    CacheState,
    Matrix,
    Plan,
    PlannedCell,
    Product,
    Project,
    StagedRelease,
)
from orchestrator.signing import new_keys
from orchestrator.signing.interface import Signer
from orchestrator.signing.openers import open_signers
from orchestrator.signing.passphrase import Passphrases
from orchestrator.signing_rules import SignerKind, SignerRules, SigningRules
from orchestrator.stage import stage

T = TypeVar("T")

_NAME = "rehearsal"
_VERSION = "0.0.0"
_CONTENT = b"This file stands in for a program.\n"
_NO_DIGEST = Digest("sha256:" + "0" * 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was tried, how long it took, and what is wrong with it, or None."""

    name: str
    seconds: float
    error: RelbuildError | None = None


@dataclass(slots=True)
class _Run:
    """What was tried so far."""

    steps: list[Step] = field(default_factory=list)

    def tried(self, name: str, work: Callable[[], T]) -> T | None:
        started, error, result = time.monotonic(), None, None
        try:
            result = work()
        except RelbuildError as caught:
            error = caught
        self.steps.append(Step(name=name, seconds=time.monotonic() - started, error=error))
        return result

    @property
    def failed(self) -> bool:
        return any(step.error is not None for step in self.steps)


def rehearse(
    project: str, rules: SigningRules | None, passphrases: Passphrases, dist: Path, now: datetime
) -> tuple[Step, ...]:
    """Try each stage after the build with the configured keys, or with throw-away ones where `rules` is None.

    All is made below `dist`, the disk that the release will need, and removed again. What rests on a step that failed
    is not tried. Raises StagingError and DiskFull where not even a folder can be made.
    """
    run = _Run()
    with _room(dist) as room:
        chosen = rules or _throw_away(room, project, now)
        staged = run.tried("stage, SBOM and provenance", lambda: _staged(room, project))
        run.tried(f"trust file {escaped(chosen.trust.name)}", lambda: release.check_trust(chosen, now))
        signers = [signer for each in chosen.signers if (signer := _opened(run, chosen, each, passphrases))]
        if staged is not None and not run.failed:
            run.tried("sign, verify and summarise", lambda: release.trust_release(staged, chosen, signers))
    return tuple(run.steps)


@contextmanager
def _room(dist: Path) -> Iterator[Path]:
    try:
        with full_disk_named(dist):
            make_folders(dist)
            with tempfile.TemporaryDirectory(prefix=f".{_NAME}-", dir=dist) as room:
                yield Path(room)
    except OSError as error:
        raise StagingError(
            f"{escaped(str(dist))} cannot be written: {error.strerror}", next_step="see who owns that folder"
        ) from error


def _opened(run: _Run, rules: SigningRules, signer: SignerRules, passphrases: Passphrases) -> Signer | None:
    name = f"signer {signer.kind} {escaped(signer.key)}"
    opened = run.tried(name, lambda: open_signers(replace(rules, signers=(signer,)), None, passphrases))
    return opened[0] if opened else None


def _throw_away(room: Path, project: str, now: datetime) -> SigningRules:
    """Make a key and a trust file that die with the room."""
    key, trust = room / "release.key", room / "trust.json"
    wanted = new_keys.NewTrust(path=trust, project=project, threshold=1)
    new_keys.make_key_file(key, new_keys.pkcs8_form, None, wanted, now)
    signer = SignerRules(kind=SignerKind.KEY_FILE, key=str(key))
    return SigningRules(signers=(signer,), trust=trust, each_artifact=True)


# --- a release of one small file ---------------------------------------------------------------------------------


def _staged(room: Path, project: str) -> StagedRelease:
    matrix = _matrix(room, project)
    built = _built(room)
    planned = PlannedCell(cell=built.cell, cache=CacheState.MISS, estimate_s=None)
    plan = Plan(
        project=project, version=_VERSION, commit="", dirty=False, epoch=DEFAULT_EPOCH, engine=_NAME,
        engine_reason=_NAME, cells=(planned,),
    )  # fmt: skip
    describe = documents.describer(plan, matrix, lambda _cell: (), room / "cache")
    return stage(BuildReport(plan=plan, results=(built,)), matrix, room / "dist", describe)


def _matrix(room: Path, project: str) -> Matrix:
    product = Product(
        name=_NAME, source=PurePosixPath(), recipe=CommandRecipe(toolchain=_NAME), targets=(host().name,),
        outputs=(OutputPattern(glob=_NAME),),
    )  # fmt: skip
    return Matrix(
        file=room / "matrix.toml", root=room, project=Project(name=project, version=_VERSION), targets=TARGETS,
        best_effort=frozenset(), products=(product,),
    )  # fmt: skip


def _built(room: Path) -> Built:
    folder = room / "files"
    folder.mkdir()
    (folder / _NAME).write_bytes(_CONTENT)
    file = BuiltFile(
        path=PurePosixPath(_NAME), size_bytes=len(_CONTENT), sha256=hashlib.sha256(_CONTENT).hexdigest(),
        sha512=hashlib.sha512(_CONTENT).hexdigest(), executable=False,
    )  # fmt: skip
    cell = Cell(
        product=_NAME, target=host(), recipe=CommandRecipe(toolchain=_NAME), placement=Placement.NATIVE,
        reason=_NAME, builder="local", libc=Libc(), version=_VERSION, epoch=DEFAULT_EPOCH, key=CellKey("0" * 64),
        toolchain=Toolchain(name=_NAME, identity=_NO_DIGEST, description=_NAME, isolation=_NAME),
        source=SourceTree(root=folder, files=(), digest=_NO_DIGEST, origin=_NAME), outputs=(OutputPattern(glob=_NAME),),
    )  # fmt: skip
    return Built(
        cell=cell, folder=folder, files=(file,), findings=(), smoke=SmokeResult(how=SmokeHow.NONE), seconds=0.0,
        from_cache=False,
    )  # fmt: skip
