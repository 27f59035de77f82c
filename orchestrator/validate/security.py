"""Checks that a release is hardened as it was, and gives away no secret, no build path and no known vulnerability."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from builders.binaries import build_paths
from builders.errors import GateFailed
from builders.names import escaped
from orchestrator.validate import defences, nested, secrets
from orchestrator.validate.values import Compared, Finding, Gap, Outcome, Released, outcome_of
from orchestrator.validate.vulnerabilities import vulnerabilities
from orchestrator.validation_rules import Severity

_LEAST_DEPTH: Final = 2
"""Folders with fewer parts, such as /root, are named by programs that were not built there, too."""

_Said = Finding | Gap | str
"""What a part of the check gives: a finding, a gap, or a note."""


def check(compared: Compared) -> Outcome:
    """Judge every artifact of the new release; a first release has only no defences to lose."""
    said: list[_Said] = []
    for pair in compared.pairs:
        said += _hardening(compared, pair.new, pair.old)
        said += _secrets(compared, pair.new)
        said += _build_paths(compared, pair.new)
    said += vulnerabilities(compared)
    return outcome_of(
        [each for each in said if isinstance(each, Finding)],
        [each for each in said if isinstance(each, Gap)],
        [each for each in said if isinstance(each, str)],
    )


# --- hardening ---------------------------------------------------------------------------------------------------


def _hardening(compared: Compared, new: Released, old: Released | None) -> Iterator[_Said]:
    found, gaps = defences.binaries(new, compared.new.payload(new))
    before: dict[str, defences.Binary] = {}
    if old is not None and compared.old is not None:
        before, old_gaps = defences.binaries(old, compared.old.payload(old))
        gaps += old_gaps
    by_soname = {each.facts.soname: each for each in before.values() if each.facts.soname}
    yield from gaps
    for path, binary in found.items():
        earlier = before.get(path) or by_soname.get(binary.facts.soname)
        yield from defences.judge(binary, earlier, f"{new.place}: {path}", compared.rules.security)


# --- secrets -----------------------------------------------------------------------------------------------------


def _secrets(compared: Compared, artifact: Released) -> Iterator[_Said]:
    severity = compared.rules.security.secrets
    if severity is Severity.IGNORE:
        yield f'{artifact.place}: nobody looked for secrets: security.secrets is "ignore"'
        return
    folder = compared.new.payload(artifact)
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        path = file.relative_to(folder).as_posix()
        if any(fnmatchcase(path, glob) for glob in compared.rules.allow_secrets):
            yield f"{artifact.place}: {path}: was not looked into, because allow_secrets names it"
            continue
        try:
            for where, secret in _in_file(file, path):
                text = f"a {secret.kind} at byte {secret.offset} (sha256 {secret.fingerprint}...)"
                yield Finding(rule="secret", place=f"{artifact.place}: {where}", text=text, severity=severity)
        except nested.BROKEN as error:
            reason = f"it is packed, and cannot be looked into: {error or type(error).__name__}"
            yield Gap(rule="secret", place=f"{artifact.place}: {path}", reason=reason)


def _in_file(file: Path, path: str) -> Iterator[tuple[str, secrets.Secret]]:
    yield from ((path, secret) for secret in secrets.find(secrets.chunks_of(file)))
    for name, chunks in nested.contents(file):
        where = f"{path}/{name}" if name else f"{path} (unpacked)"
        yield from ((where, secret) for secret in secrets.find(chunks))


# --- build paths -------------------------------------------------------------------------------------------------


def _build_paths(compared: Compared, artifact: Released) -> Iterator[_Said]:
    """Tell what the truth gate said when the artifact was built, and look for this machine's own folders."""
    severity = compared.rules.security.build_paths
    for row in _gate_findings(compared.new.manifest, artifact):
        place = f"{artifact.place}: {row['path']}"
        yield Finding(rule="build_path", place=place, text=f"the truth gate said: {row['text']}", severity=severity)
    needles = [str(each).encode() for each in _folders(compared.cells) if len(each.parts) > _LEAST_DEPTH]
    folder = compared.new.payload(artifact)
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        place = f"{artifact.place}: {file.relative_to(folder).as_posix()}"
        try:
            found = build_paths(file, needles)
        except GateFailed as error:
            yield Gap(rule="build_path", place=place, reason=error.what)
            continue
        for path in found:
            text = f"it has the folder {escaped(path)} of this machine inside"
            yield Finding(rule="build_path", place=place, text=text, severity=severity)


def _gate_findings(manifest: Mapping[str, Any], artifact: Released) -> Iterator[Mapping[str, Any]]:
    for entry in manifest["artifacts"]:
        if entry["path"] == artifact.path:
            yield from (row for row in entry["made"]["findings"] if row["rule"] == "build_paths")


def _folders(cells: Path | None) -> Iterator[Path]:
    yield Path.home()
    if cells is not None:
        yield cells.absolute().parent.parent  # the project's own: dist/cells lies in it
