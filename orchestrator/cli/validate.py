"""`relbuild validate`."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli import repository_options as asked

if TYPE_CHECKING:
    from orchestrator.cli.lifecycle import Where
    from orchestrator.cli.publisher import Publisher, Reader
    from orchestrator.model import Matrix
    from orchestrator.validate.baseline import Shelf, Wish
    from orchestrator.validate.results import Judged, ValidationResult
    from orchestrator.validation_evidence import Validation
    from orchestrator.validation_rules import ValidationRules
    from orchestrator.verify.trust_root import TrustRoot

_NONE = "none"
_FOLDER = "validation"
"""Below dist/: what was found of each version that was to be published."""


def validate(  # noqa: PLR0917  (options are keyword-only on the command line)
    release: Annotated[
        Path, typer.Argument(metavar="VERSION|FOLDER", help="A staged release: its version, or its folder.")
    ],
    baseline: Annotated[
        str,
        typer.Option(
            "--baseline", metavar="VERSION|FOLDER|FILE|none",
            help="What to compare with; default: the last good release of the repository.",
        ),
    ] = "",
    waivers: Annotated[Path | None, typer.Option("--waivers", help="File of waivers; default: [validate].")] = None,
    result: Annotated[Path | None, typer.Option("--result", help="Write the result as JSON to this file.")] = None,
    as_json: asked.AsJson = False,
    config: options.Config = None,
    trust: asked.Trust = None,
    repository: asked.Repository = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    memory: asked.Memory = None,
) -> None:  # fmt: skip
    """Compare a staged release with the last good one: packages, provenance, API, speed, security, behaviour."""
    from orchestrator.cli import publisher, wire  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.validate import results, runner  # noqa: PLC0415
    from orchestrator.validation_rules import ValidationRules  # noqa: PLC0415

    matrix = wire.find_matrix(config)
    place = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    reader = _reader(place, config, trust, memory, matrix)
    rules = (matrix.validation if matrix else None) or ValidationRules()
    folder = _staged(release, matrix)
    request = runner.Request(
        folder=folder, wish=_wish(baseline, matrix, reader),
        rules=replace(rules, waivers=waivers) if waivers else rules,
        shelf=_shelf(reader) if reader else None, trust=reader.trust if reader else _trust(trust, matrix),
        cells=_cells(folder),
    )  # fmt: skip
    found = runner.validate_release(request, publisher.now())
    written = results.to_json(found)
    if result is not None:
        _write(result, written)
    print(written.decode() if as_json else text(found), end="" if as_json else "\n")
    raise typer.Exit(found.exit_code)


def for_publication(folder: Path, rules: "ValidationRules", opened: "Publisher", against: str = "") -> "Validation":
    """Validate a release that is to be published against a version there, the last good one if none is named.

    What was found is kept.
    """
    from builders.errors import Interrupted, RelbuildError  # noqa: PLC0415  (as above)
    from orchestrator import validation_evidence  # noqa: PLC0415
    from orchestrator.cli import publisher  # noqa: PLC0415
    from orchestrator.publish.index_keys import RepositoryTrust  # noqa: PLC0415
    from orchestrator.validate import baseline, results, runner  # noqa: PLC0415

    now = publisher.now()
    with tempfile.TemporaryDirectory(prefix="relbuild-seen-") as memory:
        # A publisher proves the index itself, and keeps no memory of it.
        shelf = baseline.Shelf(
            repository=opened.repository, index_trust=RepositoryTrust(trust=opened.trust, now=now), memory=Path(memory)
        )
        request = runner.Request(
            folder=folder, wish=baseline.Named(version=against) if against else baseline.LastGood(), rules=rules,
            shelf=shelf, trust=opened.trust, cells=_cells(folder),
        )  # fmt: skip
        try:
            written = results.to_json(runner.validate_release(request, now))
        except Interrupted:
            raise
        except RelbuildError as error:
            return validation_evidence.silent_validation(error)
    kept = opened.journal.parent / _FOLDER / f"{folder.name}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    _write(kept, written)
    return validation_evidence.parse_validation(written, now, whole=True)


def text(result: "ValidationResult") -> str:
    """Show a result: a table of checks, what is wrong or was not seen, who let what pass, and the verdict."""
    from orchestrator.cli import tables  # noqa: PLC0415  (as above)

    rows = [
        (each.check.value, _verdict(each), str(len(each.findings)), str(len(each.gaps)), str(_waived(each)))
        for each in result.checks
    ]
    parts = [tables.columns(("CHECK", "RESULT", "FOUND", "NOT CHECKED", "WAIVED"), rows)]
    parts += [line for each in result.checks for line in _lines(each)]
    parts += [f"idle waiver: {each.rule} at {each.place}: {each.text}" for each in result.idle]
    against = result.baseline.version if result.baseline else "nothing: it is the first release"
    verdict = "is valid" if result.passed else "is NOT valid"
    parts.append(f"\n{result.version} {verdict} against {against} (sha256:{result.subject})")
    return "\n".join(parts)


def _verdict(judged: "Judged") -> str:
    if judged.passed:
        return "ok"
    return "FAILED" if judged.failures else "not checked"


def _waived(judged: "Judged") -> int:
    return sum(bool(each.waived) for each in judged.findings) + sum(bool(each.waived) for each in judged.gaps)


def _lines(judged: "Judged") -> list[str]:
    from builders.names import escaped  # noqa: PLC0415  (as above)

    def plain(words: str) -> str:
        return escaped(words)[1:-1].replace("\\'", "'")

    def line(kind: str, rule: str, place: str, words: str, waived: str) -> str:
        said = f"{kind}: {judged.check}.{rule} at {plain(place)}: {plain(words)}"
        return said + (f"\n  waived: {plain(waived)}" if waived else "")

    return [
        *(line(each.severity.value, each.rule, each.place, each.text, each.waived) for each in judged.findings),
        *(line("not checked", each.rule, each.place, each.reason, each.waived) for each in judged.gaps),
        *(f"note: {judged.check}: {plain(each)}" for each in judged.notes),
    ]


# --- what was said -----------------------------------------------------------------------------------------------


def _staged(release: Path, matrix: "Matrix | None") -> Path:
    if release.exists() or matrix is None:
        return release
    return matrix.root / "dist" / "staging" / release


def _wish(baseline: str, matrix: "Matrix | None", reader: "Reader | None") -> "Wish":
    """Say what is compared with. Where there is no repository, a version is one that is staged here."""
    from orchestrator.validate.baseline import FirstRelease, InFolder, LastGood, Named  # noqa: PLC0415  (as above)

    if not baseline:
        return LastGood()
    if baseline == _NONE:
        return FirstRelease()
    path = Path(baseline)
    staged = matrix.root / "dist" / "staging" / baseline if matrix else path
    if reader is None and "/" not in baseline and staged.is_dir():
        return InFolder(path=staged)
    return InFolder(path=path) if "/" in baseline or path.exists() else Named(version=baseline)


def _reader(
    place: "Where", config: Path | None, trust: Path | None, memory: Path | None, matrix: "Matrix | None"
) -> "Reader | None":
    """Join a reader where a repository is named, here or in the configuration."""
    from orchestrator.cli import places, publisher  # noqa: PLC0415  (as above)

    named = places.placed(place)
    if not named.named and (matrix is None or matrix.repository is None):
        return None
    return publisher.open_reader(named, config, trust, memory)


def _shelf(reader: "Reader") -> "Shelf":
    from orchestrator.validate.baseline import Shelf  # noqa: PLC0415  (as above)

    return Shelf(repository=reader.repository, index_trust=reader.index_trust(), memory=reader.memory)


def _trust(trust: Path | None, matrix: "Matrix | None") -> "TrustRoot | None":
    from orchestrator.verify import load_trust  # noqa: PLC0415  (as above)

    place = trust or (matrix.signing.trust if matrix and matrix.signing else None)
    return load_trust(place) if place else None


def _cells(folder: Path) -> Path | None:
    """Find the cells that a folder of dist/staging was staged from."""
    cells = folder.absolute().parent.parent / "cells"
    return cells if cells.is_dir() else None


def _write(path: Path, content: bytes) -> None:
    from orchestrator.errors import ValidationFailed  # noqa: PLC0415  (as above)

    try:
        path.write_bytes(content)
    except OSError as error:
        raise ValidationFailed(
            f"{path} cannot be written: {error.strerror}", next_step="name a file in a folder that is yours"
        ) from error
