"""Reads manifest.json (relbuild/manifest/v1) from its bytes alone, and says what the other papers must hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from builders.names import collision_key, unsafe_reason
from orchestrator.verify.json_strict import (
    DIGEST,
    SHA256,
    SHA512,
    TEXT,
    BadJson,
    Shape,
    boolean,
    check,
    exactly,
    integer,
    list_of,
    parse_canonical,
    record,
    text,
)
from orchestrator.verify.names import DOCUMENT_ENDINGS, MANIFEST, PAPERS, TAKEN_ENDINGS, summary_name

SCHEMA: Final = "relbuild/manifest/v1"
SOURCE: Final = "source"
"""The kind of an archive of the commit itself: nothing was built there, so nothing but the manifest describes it."""

_COMMIT = text(r"(?:[0-9a-f]{40}|[0-9a-f]{64})", "commit")
_NAME = text(r"[^/\x00]{1,255}", "file name")
_PATH = text(r"[^\x00]{1,4096}", "path")
_WORD = text(r"[^\x00]{1,200}", "name")
_SIZED: dict[str, Shape] = {"path": _NAME, "size": integer, "sha256": SHA256, "sha512": SHA512}
_RUN = record({"run": list_of(TEXT, least=1), "exit": integer, "stdout_sha256": SHA256})
_MADE = record(
    {
        "cell": _WORD,
        "key": SHA256,
        "builder": _WORD,
        "placement": exactly("native", "cross", "emulate"),
        "isolation": TEXT,
        "toolchain": record({"name": _WORD, "digest": DIGEST}),
        "source": record({"digest": DIGEST, "origin": TEXT}),
        "smoke": record({"how": _WORD, "tests": integer, "note": TEXT}, {"runs": list_of(_RUN)}),
        "findings": list_of(record({"path": _PATH, "rule": _WORD, "text": TEXT, "verdict": _WORD})),
    }
)
_ENTRY: dict[str, Shape] = {**_SIZED, "product": _WORD, "target": _WORD, "made": _MADE}
_PACKED = record({"path": _PATH, "size": integer, "sha256": SHA256, "executable": boolean})
_KINDS: dict[object, Shape] = {
    "archive": record(
        {**_ENTRY, "kind": exactly("archive"), "compressor": TEXT, "root": _PATH, "files": list_of(_PACKED)}
    ),
    "file": record({**_ENTRY, "kind": exactly("file"), "executable": boolean}),
    SOURCE: record({**_SIZED, "kind": exactly(SOURCE), "compressor": TEXT, "root": _PATH, "commit": _COMMIT,
                    "tree": DIGEST, "matrix": _NAME}),
}  # fmt: skip


def _artifact_shape(value: object, where: str) -> None:
    kind = value.get("kind") if isinstance(value, dict) else None
    shape = _KINDS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise BadJson(f"has no artifact of a known kind at {where}")
    shape(value, where)


_FILE = record(
    {
        "schema": exactly(SCHEMA),
        "project": _WORD,
        "version": _NAME,
        "commit": text(r"(?:[0-9a-f]{40}|[0-9a-f]{64})?", "commit"),
        "dirty": boolean,
        "epoch": integer,
        "artifacts": list_of(_artifact_shape, least=1, most=5_000),
        "documents": list_of(
            record({**_SIZED, "kind": exactly(*DOCUMENT_ENDINGS, *sorted(set(PAPERS.values()))), "of": TEXT}),
            most=15_010,
        ),
        "absent": list_of(record({"cell": _WORD, "required": boolean, "why": TEXT})),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A file that the manifest names. `of` is the artifact that a document describes; `entry` is all of its words."""

    path: str
    kind: str
    size_bytes: int
    sha256: str
    sha512: str
    of: str = ""
    entry: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadManifest:
    """A manifest that holds together."""

    project: str
    version: str
    commit: str
    dirty: bool
    epoch: int
    artifacts: tuple[Listed, ...]
    documents: tuple[Listed, ...]

    @property
    def built(self) -> tuple[Listed, ...]:
        """Give the artifacts that cells made."""
        return tuple(each for each in self.artifacts if each.kind != SOURCE)

    @property
    def listed(self) -> tuple[Listed, ...]:
        return (*self.artifacts, *self.documents)

    def document(self, artifact: str, kind: str) -> Listed | None:
        """Find the document of a kind that describes an artifact."""
        return next((each for each in self.documents if (each.of, each.kind) == (artifact, kind)), None)


def read_manifest(data: bytes) -> ReadManifest:
    """Read a manifest. Raises BadJson in words that follow its name."""
    value = check(parse_canonical(data), _FILE)
    manifest = ReadManifest(
        project=value["project"], version=value["version"], commit=value["commit"], dirty=value["dirty"],
        epoch=value["epoch"], artifacts=tuple(map(_listed, value["artifacts"])),
        documents=tuple(map(_listed, value["documents"])),
    )  # fmt: skip
    _refuse_bad_names(manifest)
    _refuse_disorder(manifest.artifacts, "artifacts")
    _refuse_disorder(manifest.documents, "documents")
    _refuse_odd_sources(manifest)
    _refuse_odd_documents(manifest)
    return manifest


def checksums(manifest: ReadManifest, algorithm: str) -> bytes:
    """Give what a checksums file must hold, byte for byte."""
    summed = [*manifest.artifacts, *(each for each in manifest.documents if each.of)]
    lines = sorted((each.path, each.sha256 if algorithm == "sha256" else each.sha512) for each in summed)
    return "".join(f"{digest}  {name}\n" for name, digest in lines).encode()


def _listed(entry: Mapping[str, Any]) -> Listed:
    return Listed(
        path=entry["path"], kind=entry["kind"], size_bytes=entry["size"], sha256=entry["sha256"],
        sha512=entry["sha512"], of=entry.get("of", ""), entry=entry,
    )  # fmt: skip


def _refuse_bad_names(manifest: ReadManifest) -> None:
    owners = {collision_key(MANIFEST): MANIFEST, collision_key(summary_name(manifest.version)): "the summary"}
    for listed in manifest.listed:
        reason = unsafe_reason(listed.path.encode()) or ("starts with a dot" if listed.path.startswith(".") else "")
        if reason:
            raise BadJson(f"lists {listed.path!r}, a name that {reason}")
        other = owners.setdefault(collision_key(listed.path), listed.path)
        if other is not listed.path:
            raise BadJson(f"lists {listed.path!r} beside {other!r}: one file where names ignore case")
    for artifact in manifest.artifacts:
        if collision_key(artifact.path).endswith(TAKEN_ENDINGS):
            raise BadJson(f"lists the artifact {artifact.path!r}, which is named like a document or a signature")


def _refuse_disorder(listed: Sequence[Listed], what: str) -> None:
    names = [each.path.encode() for each in listed]
    if names != sorted(names):
        raise BadJson(f"does not list its {what} in order")


def _refuse_odd_sources(manifest: ReadManifest) -> None:
    """Let nothing pass for a source archive, which needs no SBOM and no provenance, but an archive of the commit."""
    names = {f"{manifest.project}_{manifest.version}_{SOURCE}.{form}" for form in ("tar.gz", "zip")}
    for source in manifest.artifacts:
        if source.kind != SOURCE:
            continue
        if source.path not in names or source.entry["root"] != f"{manifest.project}-{manifest.version}":
            raise BadJson(f"calls {source.path!r} a source archive, which is not named like one of this release")
        if manifest.dirty or source.entry["commit"] != manifest.commit:
            raise BadJson(f"lists {source.path!r} as the source of another commit than the release's")
    if len({source.entry["tree"] for source in manifest.artifacts if source.kind == SOURCE}) > 1:
        raise BadJson("lists source archives that hold different files")
    if not manifest.built:
        raise BadJson("lists no artifact that was built")


def _refuse_odd_documents(manifest: ReadManifest) -> None:
    artifacts = {each.path for each in manifest.built}
    for document in manifest.documents:
        ending = DOCUMENT_ENDINGS.get(document.kind)
        if ending is None:
            if PAPERS.get(document.path) != document.kind or document.of:
                raise BadJson(f"calls {document.path!r} a {document.kind!r}, which it is not")
        elif document.of not in artifacts or document.path != f"{document.of}{ending}":
            raise BadJson(f"lists {document.path!r}, which is not named after an artifact that was built")
    missing = PAPERS.keys() - {each.path for each in manifest.documents}
    if missing:
        raise BadJson(f"does not list {', '.join(sorted(missing))}")
