"""A release in a folder -> a Side: what its manifest and documents tell, its bytes held against their digests."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from builders.errors import RelbuildError
from builders.hashing import file_sha256
from builders.model import SmokeHow, SmokeRun
from builders.names import escaped, unsafe_reason
from builders.sources import unpack
from orchestrator.errors import ManifestInvalid, ValidationFailed
from orchestrator.manifest import MANIFEST, DocumentKind
from orchestrator.model import Artifact, ArtifactKind
from orchestrator.staged import StagedDocument, read_documents, read_staged
from orchestrator.validate.values import PackedFile, Pair, Released, Side
from orchestrator.verify.json_strict import DOCUMENT_BYTES, BadJson, parse
from orchestrator.verify.manifests import read_manifest

_DESCRIBING: Final = (DocumentKind.SPDX, DocumentKind.CYCLONEDX, DocumentKind.PROVENANCE)
_Documents = Mapping[tuple[str, DocumentKind], Mapping[str, Any]]


def open_side(folder: Path, room: Path) -> Side:
    """Read the release of a folder. `room` is an empty folder for what is unpacked.

    Raises StagingError, ManifestInvalid, and ValidationFailed where a file is not what the manifest promises.
    """
    staged = read_staged(folder)
    documents = read_documents(staged)
    promised = {each.path: each.sha256 for each in staged.artifacts} | {each.path: each.sha256 for each in documents}
    for path, sha256 in promised.items():
        _refuse_other_bytes(staged.folder / path, sha256)
    manifest = _manifest(staged.folder / MANIFEST)
    entries = {str(entry["path"]): entry for entry in manifest["artifacts"]}
    described = _described(staged.folder, documents)
    return Side(
        version=staged.version,
        manifest_sha256=staged.manifest_sha256,
        manifest=manifest,
        # An archive of the source was not built: no check has anything to say of it.
        artifacts=tuple(
            _released(each, entries[str(each.path)], described)
            for each in staged.artifacts
            if each.kind is not ArtifactKind.SOURCE
        ),
        payload=_Payloads(staged.folder, room),
    )


def pair_up(new: Side, old: Side | None) -> tuple[tuple[Pair, ...], tuple[Released, ...]]:
    """Match artifacts by product and target, several of one cell by name without the version; give what is gone, too.

    Names of artifacts hold the version, and their template may change: they count only where a cell gave several.
    """
    olds = _by_key(old.version, old.artifacts) if old else {}
    pairs = tuple(Pair(new=each, old=olds.pop(key, None)) for key, each in _by_key(new.version, new.artifacts).items())
    return pairs, tuple(olds.values())


def _by_key(version: str, artifacts: Sequence[Released]) -> dict[tuple[str, str, str], Released]:
    cells = [each.place for each in artifacts]
    return {
        (each.product, each.target, each.path.replace(version, "*", 1) if cells.count(each.place) > 1 else ""): each
        for each in artifacts
    }


def _manifest(path: Path) -> Mapping[str, Any]:
    """Read a manifest whose whole shape the verifier knows, down to how each artifact was made."""
    content = path.read_bytes()
    try:
        read_manifest(content)
    except BadJson as error:
        raise ManifestInvalid(f"{escaped(str(path))} {error}", next_step="stage the release again") from None
    value: Mapping[str, Any] = json.loads(content)
    return value


# --- what the manifest tells -------------------------------------------------------------------------------------


def _released(artifact: Artifact, entry: Mapping[str, Any], documents: _Documents) -> Released:
    smoke = entry["made"]["smoke"]
    path = str(artifact.path)
    return Released(
        path=path, kind=artifact.kind, product=artifact.product, target=artifact.target,
        size_bytes=artifact.size_bytes, sha256=artifact.sha256, root=_safe(entry.get("root", ""), path, deep=False),
        files=tuple(_packed(each) for each in entry.get("files", ())), cell_key=entry["made"]["key"],
        smoke_how=SmokeHow(smoke["how"]), smoke_tests=smoke["tests"], smoke_note=smoke["note"],
        smoke_recorded="runs" in smoke, smoke=tuple(_run(each) for each in smoke.get("runs", ())),
        spdx=documents.get((path, DocumentKind.SPDX), {}),
        cyclonedx=documents.get((path, DocumentKind.CYCLONEDX), {}),
        provenance=documents.get((path, DocumentKind.PROVENANCE), {}),
    )  # fmt: skip


def _packed(entry: Mapping[str, Any]) -> PackedFile:
    return PackedFile(
        path=PurePosixPath(_safe(entry["path"], "an archive", deep=True)), size_bytes=entry["size"],
        sha256=entry["sha256"], executable=entry["executable"],
    )  # fmt: skip


def _safe(name: str, where: str, *, deep: bool) -> str:
    """Give a name of the manifest that leads nowhere else than below the artifact's own folder."""
    parts = name.split("/") if deep else [name]
    reason = next(filter(None, (unsafe_reason(part.encode("utf-8", "surrogateescape")) for part in parts)), "")
    if name and (reason or (not deep and "/" in name)):
        raise ManifestInvalid(
            f"{MANIFEST} names {escaped(name)} in {escaped(where)}, which {reason or 'holds a slash'}",
            next_step="stage the release again",
        )
    return name


def _run(entry: Mapping[str, Any]) -> SmokeRun:
    return SmokeRun(run=tuple(entry["run"]), exit=entry["exit"], stdout_sha256=entry["stdout_sha256"])


def _described(folder: Path, documents: Iterable[StagedDocument]) -> dict[tuple[str, DocumentKind], Mapping[str, Any]]:
    return {(each.of, each.kind): _parsed(folder / each.path) for each in documents if each.kind in _DESCRIBING}


def _parsed(path: Path) -> Mapping[str, Any]:
    try:
        value = parse(path.read_bytes(), DOCUMENT_BYTES)
    except BadJson as error:
        raise ValidationFailed(f"{escaped(str(path))} {error}", next_step="stage the release again") from None
    if not isinstance(value, dict):
        raise ValidationFailed(f"{escaped(str(path))} is not a JSON object", next_step="stage the release again")
    return value


def _refuse_other_bytes(path: Path, sha256: str) -> None:
    try:
        same = not path.is_symlink() and file_sha256(path) == sha256
    except OSError as error:
        raise ValidationFailed(
            f"{escaped(str(path))} cannot be read: {error.strerror}",
            next_step="validation needs the plain files of a release: stage it again, or fetch it whole",
        ) from None
    if not same:
        raise ValidationFailed(
            f"{escaped(str(path))} has other bytes than {MANIFEST} promises",
            next_step="stage the release again, or fetch it again",
        )


# --- what an artifact holds --------------------------------------------------------------------------------------


class _Payloads:
    """Unpacks artifacts, each once."""

    def __init__(self, folder: Path, room: Path) -> None:
        self._folder = folder
        self._room = room

    def __call__(self, artifact: Released) -> Path:
        place = self._room / artifact.sha256
        if not place.is_dir():
            half = self._room / f"{artifact.sha256}.half"
            shutil.rmtree(half, ignore_errors=True)
            self._room.mkdir(parents=True, exist_ok=True)
            self._fill(artifact, half)
            half.rename(place)
        return place / artifact.root if artifact.root else place

    def _fill(self, artifact: Released, place: Path) -> None:
        if artifact.kind is ArtifactKind.FILE:
            to = place / _name_inside(artifact)
            to.parent.mkdir(parents=True)
            shutil.copyfile(self._folder / artifact.path, to)
            to.chmod(0o755)
            return
        try:
            unpack.unpack(self._folder / artifact.path, place)
        except RelbuildError as error:
            raise ValidationFailed(f"{artifact.place}: {error.what}", next_step=error.next_step) from error
        _refuse_other_files(artifact, place)


def _name_inside(artifact: Released) -> str:
    """Give the path that a plain file had below $OUT, which its SBOM tells; its own name where that says nothing."""
    names = [str(each.get("fileName", "")) for each in artifact.spdx.get("files", ()) if isinstance(each, dict)]
    path = PurePosixPath(names[0]) if len(names) == 1 else PurePosixPath()
    safe = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    return str(path) if safe else artifact.path


def _refuse_other_files(artifact: Released, place: Path) -> None:
    top = place / artifact.root
    promised = {str(each.path): each.sha256 for each in artifact.files}
    found = {
        path.relative_to(top).as_posix() if path.is_relative_to(top) else f"../{path.name}": path
        for path in place.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    odd = found.keys() ^ promised.keys()
    odd |= {name for name in found.keys() & promised.keys() if file_sha256(found[name]) != promised[name]}
    if odd:
        raise ValidationFailed(
            f"{artifact.place}: {artifact.path} holds other files than {MANIFEST} lists: {escaped(min(odd))}",
            next_step="stage the release again, or fetch it again",
        )
