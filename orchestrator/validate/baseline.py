"""Finds the release to compare with: the last good one of a repository, one that was named, or a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import assert_never

from builders.errors import Interrupted, RelbuildError
from builders.names import escaped
from orchestrator import verify
from orchestrator.errors import BaselineUnusable
from orchestrator.manifest import MANIFEST
from orchestrator.publication import Index, IndexTrust, ReleaseEntry, ReleaseStatus
from orchestrator.publish import reader
from orchestrator.publish.pointer import KnownIndex
from orchestrator.publish.version_names import latest_of, read_version
from orchestrator.repositories.interface import Repository
from orchestrator.validate.sides import open_side
from orchestrator.validate.values import Side
from orchestrator.verify.trust_root import TrustRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class LastGood:
    """The newest active release before this one, or none where the repository has no other release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRelease:
    """Nothing to compare with, as a person says: believed only of a repository that has nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A published version."""

    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InFolder:
    """A release in a folder, by its path or that of its manifest.json."""

    path: Path


Wish = LastGood | FirstRelease | Named | InFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """A repository and what it takes to believe it. `memory` keeps what was seen of its index last."""

    repository: Repository
    index_trust: IndexTrust
    memory: Path


def open_baseline(
    wish: Wish, new: Side, room: Path, now: datetime, *, shelf: Shelf | None, trust: TrustRoot | None
) -> Side | None:
    """Give the release to compare with, verified; None for a first release. `room` is an empty folder.

    A folder is only held against its own manifest where there is no `trust`. Raises BaselineUnusable.
    """
    with _unusable():
        side = _opened(wish, new, room, now, shelf, trust)
    if side is not None and side.manifest_sha256 == new.manifest_sha256:
        raise BaselineUnusable("the baseline is the release itself", next_step="name an earlier one with --baseline")
    if side is not None and side.manifest["project"] != new.manifest["project"]:
        raise BaselineUnusable(
            f"the baseline is a release of {escaped(str(side.manifest['project']))}",
            next_step=f"name a release of {escaped(str(new.manifest['project']))}",
        )
    return side


def _opened(  # noqa: PLR0917 - the caller's own, which names them
    wish: Wish, new: Side, room: Path, now: datetime, shelf: Shelf | None, trust: TrustRoot | None
) -> Side | None:
    match wish:
        case InFolder(path=path):
            folder = path.parent if path.name == MANIFEST else path
            if not folder.is_dir():
                raise BaselineUnusable(
                    f"{escaped(str(path))} is not a folder of a release", next_step="name its folder, or a version"
                )
            return _verified(folder, room, now, trust)
        case Named(version=version):
            return _fetched(_needed(shelf), version, room, now, trust)
        case FirstRelease():
            if shelf is not None:
                _refuse_others(_index(shelf), new.version)
            return None
        case LastGood():
            entry = last_good(_index(_needed(shelf)), new.version)
            return _fetched(_needed(shelf), entry.version, room, now, trust) if entry else None
        case _:
            assert_never(wish)


@contextmanager
def _unusable() -> Iterator[None]:
    try:
        yield
    except (BaselineUnusable, Interrupted):
        raise
    except RelbuildError as error:
        raise BaselineUnusable(f"the baseline cannot be used: {error.what}", next_step=error.next_step) from error


def _needed(shelf: Shelf | None) -> Shelf:
    if shelf is None:
        raise BaselineUnusable(
            "no repository is known to look for a baseline in",
            next_step="name a folder with --baseline, or a repository, or say `--baseline none` for a first release",
        )
    return shelf


def _index(shelf: Shelf) -> Index | None:
    return KnownIndex(shelf.repository, shelf.index_trust).read().index


def _fetched(shelf: Shelf, version: str, room: Path, now: datetime, trust: TrustRoot | None) -> Side:
    got = reader.fetch(
        shelf.repository, shelf.index_trust, version, room / "fetched", memory=shelf.memory, now=now
    )  # fmt: skip
    return _verified(got.folder, room, now, trust)


def _verified(folder: Path, room: Path, now: datetime, trust: TrustRoot | None) -> Side:
    if trust is not None:
        verify.verify_release(folder, trust, verify.Expectations(), now)
    return open_side(folder, room / "baseline")


# --- which one ---------------------------------------------------------------------------------------------------


def last_good(index: Index | None, version: str) -> ReleaseEntry | None:
    """Give the newest active release that comes before a version, else the newest active one; None for a first release.

    Raises BaselineUnusable where there are other releases and none of them is active.
    """
    others = _others(index, version)
    active = {each.version: each for each in others if each.status is ReleaseStatus.ACTIVE}
    if others and not active:
        raise BaselineUnusable(
            "no release of the repository is active: " + _told(others),
            next_step="name the one to compare with: --baseline VERSION or FOLDER",
        )
    asked = read_version(version)
    before = [text for text in active if asked and (read := read_version(text)) and read.order < asked.order]
    return active.get(latest_of(before or active))


def _others(index: Index | None, version: str) -> list[ReleaseEntry]:
    releases = index.releases if index else ()
    return [each for each in releases if each.version != version]


def _refuse_others(index: Index | None, version: str) -> None:
    others = _others(index, version)
    if others:
        raise BaselineUnusable(
            "this is no first release, the repository has others: " + _told(others),
            next_step="leave --baseline out to compare with the last good one, or name one",
        )


def _told(entries: list[ReleaseEntry]) -> str:
    shown = ", ".join(f"{each.version} ({each.status})" for each in entries[:5])
    return shown + (f" and {len(entries) - 5} more" if len(entries) > 5 else "")  # noqa: PLR2004 - as said
