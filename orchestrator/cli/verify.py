"""`relbuild verify`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options, reading, step_summary
from orchestrator.cli import repository_options as asked

if TYPE_CHECKING:
    from orchestrator.cli.lifecycle import Where
    from orchestrator.trust import VerificationResult
    from orchestrator.verify import Expectations, TrustRoot

_FAMILIES = (
    ("bytes", "hash_verified", "hash"),
    ("signatures", "signature_verified", "signature"),
    ("SBOMs", "sbom_validated", "sbom"),
    ("provenance", "slsa_validated", "slsa"),
    ("expectations", "policy_passed", "policy"),
)


def verify(  # noqa: PLR0917  (options are keyword-only on the command line)
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH|VERSION",
            help="A release's folder; one artifact with its evidence beside it; or a published version.",
        ),
    ],
    config: options.Config = None,
    trust: asked.Trust = None,
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="Trust this public key (cosign.pub, armored GPG key) instead.")
    ] = None,
    threshold: Annotated[int, typer.Option("--threshold", help="How many of the given keys must have signed.")] = 1,
    builder: Annotated[
        list[str] | None, typer.Option("--builder", help="A builder id that may have built; default: those known.")
    ] = None,
    source: Annotated[str, typer.Option("--source", help="The source's URI that must have been built.")] = "",
    commit: Annotated[str, typer.Option("--commit", help="The commit that must have been built.")] = "",
    identity: Annotated[
        list[Path] | None, typer.Option("--identity", help="An age identity file: look into encrypted copies.")
    ] = None,
    require_encryption: Annotated[
        bool, typer.Option("--require-encryption", help="Fail where an artifact has no encrypted copy.")
    ] = False,
    at: Annotated[str, typer.Option("--at", help="Verify as of this time (RFC 3339); default: now.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    result: Annotated[Path | None, typer.Option("--result", help="Write the result as JSON to this file.")] = None,
    repository: asked.Repository = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    memory: asked.Memory = None,
    target: asked.OnlyTargets = None,
) -> None:
    """Read a release again, byte by byte, and check all of its evidence. A published version is fetched first."""
    from orchestrator import verify as verifier  # noqa: PLC0415  (heavy, and --help does not need it)

    now = _time(at)
    root = verifier.trust_of_keys(key, threshold) if key else _trust_file(trust, config)
    wanted = verifier.Expectations(source_uri=source, commit=commit, require_encryption=require_encryption,
                                    targets=options.target_names(target))  # fmt: skip
    wanted = replace(wanted, builders=tuple(builder)) if builder else wanted
    place = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    if _is_published(path, place, config):
        wanted = replace(wanted, version=str(path))
        with _fetched(wanted, place, config, root, memory) as folder:
            found = _judged(folder, root, wanted, now, identity)
    else:
        found = _judged(path, root, wanted, now, identity)
    written = verifier.to_json(found)
    if result is not None:
        _write(result, written)
    shown = text(found, wanted.targets)
    step_summary.add(step_summary.of_text("Verification", shown))
    print(written.decode() if as_json else shown, end="" if as_json else "\n")
    raise typer.Exit(found.exit_code)


def _judged(
    path: Path, root: "TrustRoot", wanted: "Expectations", now: datetime, identity: list[Path] | None
) -> "VerificationResult":  # fmt: skip
    """Judge a release's folder, or one file with its evidence beside it."""
    from orchestrator import verify as verifier  # noqa: PLC0415  (as above)

    if not path.is_dir():
        if wanted.targets:
            raise typer.BadParameter("picks from a release, and this is one file", param_hint="--target")
        return verifier.verify_file(path, root, now, wanted)
    return verifier.judge_release(path, root, wanted, now, verifier.load_identities(identity or ()))[0]


def text(result: "VerificationResult", targets: tuple[str, ...] = ()) -> str:
    """Show a result: a table of checks, then each failure with what to do about it."""
    from builders.names import escaped  # noqa: PLC0415
    from orchestrator.cli import tables  # noqa: PLC0415
    from orchestrator.verify.parts import LEFT_OUT  # noqa: PLC0415

    rows = []
    for name, flag, family in _FAMILIES:
        looked_at = [each for each in result.evidence if each.check == family]
        bad = sum(bool(each.error) for each in looked_at)
        verdict = "ok" if getattr(result, flag) else "FAILED" if bad else "not checked"
        rows.append((name, verdict, str(len(looked_at)), str(bad)))
    parts = [tables.columns(("CHECK", "RESULT", "LOOKED AT", "FAILED"), rows)]
    for each in result.evidence:
        if each.error:
            shown = escaped(each.text)[1:-1].replace("\\'", "'")
            parts.append(f"\n{each.file or 'the release'}: {shown}\n  {each.error} ({each.exit_code})"
                         f"\n  next: {each.next_step}")  # fmt: skip
    parts += [f"not looked at: {each.file}" for each in result.evidence if each.text == LEFT_OUT]
    what = f"{result.project} {result.version}".strip() or "it"
    what += f" for {', '.join(targets)}" if targets else ""
    digest = f" (sha256:{result.subject})" if result.subject else ""
    parts.append(f"\n{escaped(what)[1:-1]} {'is verified' if result.passed else 'is NOT verified'}{digest}")
    return "\n".join(parts)


def _is_published(path: Path, place: "Where", config: Path | None) -> bool:
    """Tell whether a version was named: a repository is named, or [repository] is there and no such file."""
    from orchestrator.cli import wire  # noqa: PLC0415
    from orchestrator.publish.version_names import read_version  # noqa: PLC0415

    if any(place):
        return True
    if path.exists() or path.is_symlink() or read_version(str(path)) is None:
        return False
    matrix = wire.find_matrix(config)
    return matrix is not None and matrix.repository is not None


@contextmanager
def _fetched(
    wanted: "Expectations", place: "Where", config: Path | None, root: "TrustRoot", memory: Path | None
) -> Iterator[Path]:  # fmt: skip
    """Give a private folder with what the signed index lists of a version, until the block ends."""
    from orchestrator.cli import publisher  # noqa: PLC0415
    from orchestrator.publish import reader  # noqa: PLC0415

    opened = reading.open_reader(place, config, root, memory)
    with tempfile.TemporaryDirectory(prefix="relbuild-verify-") as private:
        got = reader.fetch(
            opened.repository, opened.index_trust(), wanted.version, Path(private), memory=opened.memory,
            now=publisher.now(), targets=wanted.targets,
        )  # fmt: skip
        for note in got.notes:
            typer.echo(f"note: {note}", err=True)
        yield got.folder


def _trust_file(trust: Path | None, config: Path | None) -> "TrustRoot":
    from orchestrator.cli import wire  # noqa: PLC0415
    from orchestrator.errors import TrustInvalid  # noqa: PLC0415
    from orchestrator.verify import load_trust  # noqa: PLC0415

    if trust is not None:
        return load_trust(trust)
    matrix = wire.load_matrix(config)
    signing = matrix.signing
    if signing is None:
        raise TrustInvalid(f"{matrix.file} names no trust file", next_step="give --trust FILE, or --key PUB")
    return load_trust(matrix.root / signing.trust)


def _time(written: str) -> datetime:
    if not written:
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(written)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise typer.BadParameter(f"{written!r} is no time with a zone, such as 2030-01-31T12:00:00Z", param_hint="--at")
    return time


def _write(path: Path, content: bytes) -> None:
    from orchestrator.errors import VerificationError  # noqa: PLC0415

    try:
        path.write_bytes(content)
    except OSError as error:
        raise VerificationError(f"{path} cannot be written: {error.strerror}",
                                next_step="name a file in a folder that is yours") from error  # fmt: skip
