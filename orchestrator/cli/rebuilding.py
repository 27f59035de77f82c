"""Joins the rooms of `relbuild reproduce`: which release, whose keys, which engine, and what is told."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from builders.copying import make_folders
from builders.errors import Interrupted
from builders.names import escaped
from builders.targets import host
from builders.world import Axis, find_libfaketime
from orchestrator import run as runs
from orchestrator import survey, verify
from orchestrator.cli import places, publisher, rebuild_text, wire
from orchestrator.cli.matrix import stopped_by_signals
from orchestrator.errors import OriginUnavailable, StagingError, TrustInvalid, UnknownName
from orchestrator.events import CellFinished, Event, Note
from orchestrator.model import Built, EngineKind, Matrix, StagedRelease
from orchestrator.publish import reader
from orchestrator.publishing_evidence import read_candidate
from orchestrator.reproduce import diffoscope, history, signed
from orchestrator.reproduce.form import result_json
from orchestrator.reproduce.proof import REBUILT, Lab, Wanted, reproduce
from orchestrator.reproduce.values import Bad, Reproduced, Reproduction, error_of
from orchestrator.reproduction_rules import ReproductionRules
from orchestrator.signing.passphrase import Passphrases
from orchestrator.signing_rules import SigningRules
from orchestrator.staged import read_staged
from orchestrator.verify.trust_root import TrustRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says of a reproduction."""

    version: str = ""
    cells: tuple[str, ...] = ()
    repository: str = ""
    staged: Path | None = None
    source: Path | None = None
    axes: tuple[str, ...] = ()
    rebuilds: int | None = None
    keep: bool = False
    as_json: bool = False
    config: Path | None = None
    output: Path | None = None
    jobs: int = 0
    trust: Path | None = None
    memory: Path | None = None
    endpoint: str = ""
    key: Path | None = None
    passphrase_env: str | None = None


def run(asked: Asked) -> None:
    """Find the release, verify it, rebuild it, keep and tell what came out. Raises the error that it ends with."""
    matrix = wire.find_matrix(asked.config)
    # First of all: no child of this run is to inherit a passphrase.
    passphrases = publisher.take_passphrases(
        matrix, publisher.Owner(key=asked.key, key_passphrase=asked.passphrase_env)
    )
    said = prove(asked, matrix, passphrases)
    print(result_json(said).decode() if asked.as_json else rebuild_text.text(said), end="" if asked.as_json else "\n")
    if error := error_of(said):
        raise error


def prove(asked: Asked, matrix: Matrix | None, passphrases: Passphrases) -> Reproduction:
    """Rebuild what was asked for, and keep what came out with its signed statement."""
    wanted, dist, stop = _wanted(asked, _rules(matrix), matrix), _dist(asked, matrix), runs.Stop()
    signing = _signing(asked, matrix)
    signed.refuse_unknown(signing.rules, passphrases, signing.keys)
    with (
        runs.locked(dist), stopped_by_signals(stop), _release(asked, matrix, dist) as staged, _aside(dist) as aside,
    ):  # fmt: skip
        said = _proved(staged, wanted, dist, aside, stop)
        _record(said, dist, aside, signing, passphrases, keep=asked.keep)
    if stop.interrupted:
        raise Interrupted("the run was stopped, and its result is kept", next_step="run it again")
    return said


@contextmanager
def _aside(dist: Path) -> Iterator[Path]:
    """Give a folder for what a person may want to look at, until it is known where that belongs."""
    make_folders(dist / "work")
    with tempfile.TemporaryDirectory(prefix="aside-", dir=dist / "work") as folder:
        yield Path(folder)


def show_history(asked: Asked) -> None:
    """Show every run that is on this output folder's list."""
    past = history.read_history(_dist(asked, wire.find_matrix(asked.config)))
    chosen = tuple(each for each in past if asked.version in {"", each.version})
    print(rebuild_text.history_json(chosen) if asked.as_json else rebuild_text.history_text(chosen))


# --- what was asked ------------------------------------------------------------------------------------------------


def _dist(asked: Asked, matrix: Matrix | None) -> Path:
    return (asked.output or (matrix.root if matrix else Path.cwd()) / "dist").absolute()


def _wanted(asked: Asked, rules: ReproductionRules, matrix: Matrix | None) -> Wanted:
    known = {axis.value: axis for axis in Axis}
    for name in asked.axes:
        if name not in known:
            raise UnknownName(f"there is no axis {name!r}", next_step=f"there are {', '.join(known)}")
    # Whoever stands in the project has the source at hand, if the release does not bring it.
    beside = matrix.root if matrix and not asked.repository else None
    return Wanted(
        cells=asked.cells, axes=tuple(known[name] for name in asked.axes) or rules.axes,
        checkout=asked.source or beside, libfaketime=find_libfaketime(host().gnu, rules.libfaketime),
        rebuilds=rules.rebuilds if asked.rebuilds is None else asked.rebuilds, jobs=asked.jobs,
    )  # fmt: skip


# --- the release ---------------------------------------------------------------------------------------------------


@contextmanager
def _release(asked: Asked, matrix: Matrix | None, dist: Path) -> Iterator[StagedRelease]:
    """Give the release, verified where it is signed; a published one lies in a private folder until the block ends."""
    folder = None if asked.repository else asked.staged or _staged_folder(asked, matrix, dist)
    if folder is not None:
        staged = read_staged(folder)
        if asked.trust or (matrix and matrix.signing and _is_signed(folder)):
            _verified(folder, _trust(asked, matrix), staged.version)
        yield staged
        return
    place = places.named_place(asked.repository, asked.endpoint)
    root = _trust(asked, matrix)
    opened = publisher.open_reader(place, asked.config, root, asked.memory)
    with tempfile.TemporaryDirectory(prefix="relbuild-reproduce-") as private:
        got = reader.fetch(
            opened.repository, opened.index_trust(), asked.version, Path(private), memory=opened.memory,
            now=publisher.now(),
        )  # fmt: skip
        for note in got.notes:
            typer.echo(f"note: {note}", err=True)
        _verified(got.folder, root, got.version)
        yield read_staged(got.folder)


def _staged_folder(asked: Asked, matrix: Matrix | None, dist: Path) -> Path | None:
    """Name what is staged for a version, or give None where the version can only be a published one."""
    version = asked.version or (survey.version_of(matrix) if matrix else "")
    folder = dist / "staging" / version
    if version and folder.is_dir():
        return folder
    if matrix is not None and matrix.repository is not None:
        return None
    raise StagingError(
        f"no release is named: {folder if version else 'no matrix.toml is here'}",
        next_step="stage one (`relbuild matrix`), or name one: --staged FOLDER, or --from REPOSITORY VERSION",
    )


def _is_signed(folder: Path) -> bool:
    return any(folder.glob("manifest.json.*"))


def _trust(asked: Asked, matrix: Matrix | None) -> TrustRoot:
    if asked.trust is not None:
        return verify.load_trust(asked.trust)
    if matrix is None or matrix.signing is None:
        raise TrustInvalid(
            "no trust file is named, so nobody's signature would count",
            next_step="give --trust FILE, or [signing] trust",
        )
    return verify.load_trust(matrix.signing.trust)


def _verified(folder: Path, root: TrustRoot, version: str) -> None:
    verify.verify_release(folder, root, verify.Expectations(version=version), publisher.now())


# --- the run -------------------------------------------------------------------------------------------------------


def _proved(staged: StagedRelease, wanted: Wanted, dist: Path, aside: Path, stop: runs.Stop) -> Reproduction:
    lab = Lab(
        open_engine=lambda name: wire.open_engine(_engine(name), dist), work=dist / "work", cache=dist / "cache",
        observer=_watch, stop=stop, now=publisher.now, aside=aside,
    )  # fmt: skip
    return _with_reports(reproduce(staged, read_candidate(staged.folder).project, wanted, lab), staged, aside)


def _engine(name: str) -> EngineKind:
    try:
        return EngineKind(name)
    except ValueError:
        raise OriginUnavailable(
            f"the release was built by the engine {escaped(name)}, which this version does not know",
            next_step="use the version of relbuild that made it, or a later one",
        ) from None


def _with_reports(said: Reproduction, staged: StagedRelease, aside: Path) -> Reproduction:
    """Add diffoscope's account of each artifact that differs."""

    def told(each: Reproduced) -> Reproduced:
        if not isinstance(each.outcome, Bad) or each.outcome.kept is None:
            return each
        name = f"{each.path.name}.diffoscope.txt"
        why_not = diffoscope.account(staged.folder / each.path, each.outcome.kept, aside / name)
        _watch(Note(text=f"{each.path}: {f'no report: {why_not}' if why_not else name}"))
        return replace(each, outcome=replace(each.outcome, report="" if why_not else name))

    return replace(said, artifacts=tuple(told(each) for each in said.artifacts))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signing:
    """Who signs the statement, and the public keys of rebuilders that are known beside the trust file."""

    rules: SigningRules | None
    keys: tuple[Path, ...]


def _signing(asked: Asked, matrix: Matrix | None) -> _Signing:
    """Take the key that was named, with its public part if that lies beside it, else those of [signing]."""
    keys = _rules(matrix).keys
    if asked.key is None:
        return _Signing(rules=matrix.signing if matrix else None, keys=keys)
    signer = publisher.key_signer(asked.key, asked.passphrase_env)
    beside = (public,) if (public := asked.key.with_suffix(".pub")).exists() else ()
    return _Signing(rules=SigningRules(signers=(signer,), trust=Path()), keys=(*keys, *beside))


def _record(
    said: Reproduction, dist: Path, aside: Path, signing: _Signing, passphrases: Passphrases, *, keep: bool
) -> None:  # fmt: skip
    """Write what was found, and its statement, where nothing of it is ever changed."""
    with history.new_entry(dist, said) as folder:
        for path in sorted(aside.iterdir()):
            if keep or not path.name.endswith(REBUILT):
                shutil.move(path, folder / path.name)
        statement, unsigned = signed.write_statement(said, folder, signing.rules, passphrases, signing.keys)
    print(f"the result is in {folder}", file=sys.stderr)
    print(f"note: {unsigned}" if unsigned else f"signed: {statement.name}", file=sys.stderr)


def _rules(matrix: Matrix | None) -> ReproductionRules:
    return (matrix.reproduce if matrix else None) or ReproductionRules()


def _watch(event: Event) -> None:
    match event:
        case Note(text=text):
            print(text, file=sys.stderr)
        case CellFinished(result=Built() as built):
            print(f"built {built.cell.id} again in {built.seconds:.1f} s", file=sys.stderr)
        case CellFinished(result=result):
            print(f"did not build {result.cell.id}", file=sys.stderr)
        case _:
            pass
