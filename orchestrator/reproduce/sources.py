"""Makes the source archive of a release again, from the source that was found, and compares it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from builders.copying import make_folders
from builders.errors import SourceUnavailable
from builders.hashing import file_sha256
from builders.model import SourceTree
from builders.sources import git, read_whole
from builders.sources.unpack import unpack
from orchestrator.archive import COMPRESSOR, ArchiveWriter, Member, write_tar_gz, write_zip
from orchestrator.errors import OriginUnavailable
from orchestrator.manifest import MANIFEST
from orchestrator.model import ArchiveFormat, Artifact, StagedRelease
from orchestrator.reproduce.origin import Origin
from orchestrator.reproduce.values import Bad, Fail, Good, Outcome, Reproduced, Skip, ToldCause

_WRITERS: Final[Mapping[ArchiveFormat, ArchiveWriter]] = {
    ArchiveFormat.TAR_GZ: write_tar_gz, ArchiveFormat.ZIP: write_zip,
}  # fmt: skip


def remade(artifact: Artifact, staged: StagedRelease, origin: Origin, room: Path) -> Reproduced:
    """Pack the commit's files again and say whether the same archive comes out. Nothing runs, so no world is varied."""
    entry = _entry(staged, artifact)
    return Reproduced(
        path=artifact.path, sha256=artifact.sha256, cell="", outcome=_outcome(artifact, entry, origin, room / "source")
    )


def other_compressor(said: str) -> OriginUnavailable | None:
    """Say why archives cannot come out the same here: compressors differ in their bytes from version to version."""
    if said in {"", COMPRESSOR}:
        return None
    return OriginUnavailable(
        f"the release was packed by {said}, and here is {COMPRESSOR}",
        next_step="run it where Python has that zlib, as in the image that made the release",
    )


def _outcome(artifact: Artifact, entry: Mapping[str, Any], origin: Origin, room: Path) -> Outcome:
    if problem := other_compressor(str(entry.get("compressor", ""))):
        return Fail(error=problem)
    tree = _tree(entry, origin, room)
    if tree is None:
        return Skip(reason=f"the source that was found ({origin.words}) is not the commit's own archive")
    form = next(form for form in ArchiveFormat if artifact.path.name.endswith(f".{form.value}"))
    members = [
        Member(name=each.path, content=tree.root / each.path, executable=each.executable, sha256=each.sha256,
               link=each.link)
        for each in tree.files
    ]  # fmt: skip
    fresh = room / artifact.path.name
    _WRITERS[form](fresh, str(entry["root"]), members, origin.epoch)
    found = file_sha256(fresh)
    if found == artifact.sha256:
        return Good()
    cause = ToldCause(kind="unknown", place="", text="the same files are packed otherwise: another epoch or packer")
    return Bad(rebuilt_sha256=found, causes=(cause,))


def _tree(entry: Mapping[str, Any], origin: Origin, room: Path) -> SourceTree | None:
    """Give the commit's files, where what was found holds exactly them."""
    make_folders(room)
    try:
        if origin.by_git:
            git.archive_commit(origin.root, str(entry["commit"]), room / "commit.tar")
            unpack(room / "commit.tar", room / "commit")
        tree = read_whole(room / "commit" if origin.by_git else origin.root, origin="the source archive")
    except SourceUnavailable:
        return None
    return tree if tree.digest == entry["tree"] else None


def _entry(staged: StagedRelease, artifact: Artifact) -> Mapping[str, Any]:
    # Its form was checked when it was read as a staged release.
    manifest: dict[str, Any] = json.loads((staged.folder / MANIFEST).read_bytes())
    found: Mapping[str, Any] = next(each for each in manifest["artifacts"] if each["path"] == str(artifact.path))
    return found
