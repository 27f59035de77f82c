"""Reads a staged folder back: manifest.json in the only form that staging writes (orchestrator/manifest.py)."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, NoReturn

from builders.copying import read_chunks
from builders.names import collision_key, escaped, unsafe_reason
from orchestrator.canonical import canonical_json
from orchestrator.errors import ManifestInvalid, StagingError
from orchestrator.manifest import MANIFEST, RESERVED_ENDINGS, SCHEMA, DocumentKind
from orchestrator.model import Artifact, ArtifactKind, StagedRelease

MAX_BYTES: Final = 64 << 20

_HEX = {"sha256": re.compile(r"[0-9a-f]{64}"), "sha512": re.compile(r"[0-9a-f]{128}")}
_TOP = {"schema", "project", "version", "commit", "dirty", "epoch", "artifacts", "documents", "absent"}
_FILE = {"path", "kind", "size", "sha256", "sha512"}
_ARTIFACT = {
    ArtifactKind.ARCHIVE: {*_FILE, "product", "target", "made", "compressor", "root", "files"},
    ArtifactKind.FILE: {*_FILE, "product", "target", "made", "executable"},
    ArtifactKind.SOURCE: {*_FILE, "compressor", "root", "commit", "tree", "matrix"},
}
_DOCUMENT = {*_FILE, "of"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedDocument:
    """A file that describes an artifact (`of`), or all of them (`of` is empty), as manifest.json lists it."""

    path: PurePosixPath
    kind: DocumentKind
    of: str
    size_bytes: int
    sha256: str
    sha512: str


def read_staged(folder: Path) -> StagedRelease:
    """Read the release that a folder holds. Its artifacts are listed, not yet looked at.

    Raises StagingError where there is no such folder, ManifestInvalid.
    """
    place = folder.absolute()
    if not place.is_dir() or place.is_symlink():
        raise StagingError(f"{escaped(str(folder))} is not a folder of a staged release",
                           next_step="stage one: relbuild matrix; or name dist/staging/VERSION")  # fmt: skip
    data = _read(place / MANIFEST)
    manifest = _parsed(place / MANIFEST, data)
    version = manifest["version"]
    if version != place.name:
        _refuse(place / MANIFEST, f"is for version {escaped(str(version))}, and its folder for {escaped(place.name)}")
    artifacts = tuple(_artifact(place / MANIFEST, entry) for entry in manifest["artifacts"])
    documents = _documents(place / MANIFEST, manifest)
    _refuse_clashes(place / MANIFEST, [*(each.path for each in artifacts), *(each.path for each in documents)])
    return StagedRelease(
        folder=place, version=version, artifacts=artifacts, manifest_sha256=hashlib.sha256(data).hexdigest()
    )


def read_documents(staged: StagedRelease) -> tuple[StagedDocument, ...]:
    """Give the documents of a staged release. Raises ManifestInvalid where its manifest is no longer the staged one."""
    path = staged.folder / MANIFEST
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != staged.manifest_sha256:
        _refuse(path, "has other bytes than when it was staged")
    return _documents(path, _parsed(path, data))


def _documents(path: Path, manifest: Mapping[str, Any]) -> tuple[StagedDocument, ...]:
    return tuple(_document(path, entry) for entry in manifest["documents"])


# --- reading -----------------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror}")
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            _refuse(path, f"is not a regular file of at most {MAX_BYTES >> 20} MiB")
        return b"".join(read_chunks(descriptor, status.st_size))
    finally:
        os.close(descriptor)


def _parsed(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
        # Equal bytes leave no room for double keys, NaN, odd spaces or bytes behind the end.
        canonical = canonical_json(value) == data
    except (ValueError, RecursionError):
        _refuse(path, "is not JSON")
    if not canonical:
        _refuse(path, "is not canonical JSON")
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        _refuse(path, f"does not say {SCHEMA}")
    _refuse_other_keys(path, "the manifest", value, _TOP)
    for key in ("project", "version", "commit"):
        if not isinstance(value[key], str):
            _refuse(path, f"has no text at {key}")
    for key in ("artifacts", "documents"):
        if not isinstance(value[key], list) or not all(isinstance(entry, dict) for entry in value[key]):
            _refuse(path, f"has no list of objects at {key}")
    if not value["artifacts"]:
        _refuse(path, "lists no artifact")
    return value


def _artifact(path: Path, entry: Mapping[str, Any]) -> Artifact:
    name = _name(path, entry)
    kinds = {kind.value: kind for kind in ArtifactKind}
    kind = kinds.get(str(entry.get("kind"))) or _refuse(path, f"gives {name} a kind that does not exist")
    _refuse_other_keys(path, str(name), entry, _ARTIFACT[kind])
    product, target = (entry.get(key, "") for key in ("product", "target"))
    if not isinstance(product, str) or not isinstance(target, str):
        _refuse(path, f"names no product and target of {name}")
    if str(name).endswith(RESERVED_ENDINGS):
        _refuse(path, f"lists {name} as an artifact, whose name is that of a document or a signature")
    return Artifact(path=name, kind=kind, product=product, target=target, **_content(path, entry))


def _document(path: Path, entry: Mapping[str, Any]) -> StagedDocument:
    name = _name(path, entry)
    kinds = {kind.value: kind for kind in DocumentKind}
    kind = kinds.get(str(entry.get("kind"))) or _refuse(path, f"gives {name} a kind that does not exist")
    _refuse_other_keys(path, str(name), entry, _DOCUMENT)
    if not isinstance(entry["of"], str):
        _refuse(path, f"does not say what {name} is about")
    return StagedDocument(path=name, kind=kind, of=entry["of"], **_content(path, entry))


def _name(path: Path, entry: Mapping[str, Any]) -> PurePosixPath:
    name = entry.get("path")
    if not isinstance(name, str) or "/" in name or name.startswith(".") or name == MANIFEST:
        _refuse(path, f"lists a file named {escaped(str(name))}, which cannot be in a release")
    if reason := unsafe_reason(name.encode("utf-8", "surrogateescape")):
        _refuse(path, f"lists a file whose name {reason}: {escaped(name)}")
    return PurePosixPath(name)


def _content(path: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    size = entry["size"]
    if type(size) is not int or size < 0:
        _refuse(path, f"gives {entry['path']} no size")
    for algorithm, form in _HEX.items():
        if not isinstance(entry[algorithm], str) or not form.fullmatch(entry[algorithm]):
            _refuse(path, f"gives {entry['path']} no {algorithm}")
    return {"size_bytes": size, "sha256": entry["sha256"], "sha512": entry["sha512"]}


# --- refusing ----------------------------------------------------------------------------------------------------


def _refuse_other_keys(path: Path, what: str, value: Mapping[str, Any], known: set[str]) -> None:
    if value.keys() != known:
        odd = ", ".join(escaped(key) for key in sorted(value.keys() ^ known))
        _refuse(path, f"has unknown or missing fields in {what}: {odd}")


def _refuse_clashes(path: Path, names: list[PurePosixPath]) -> None:
    seen: set[str] = set()
    for name in names:
        key = collision_key(str(name))
        if key in seen:
            _refuse(path, f"lists {escaped(str(name))} twice")
        seen.add(key)


def _refuse(path: Path, reason: str) -> NoReturn:
    raise ManifestInvalid(f"{escaped(str(path))} {reason}", next_step="stage the release again: relbuild matrix")
