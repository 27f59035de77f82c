"""Where the source of a release may be, best first; each place gives folders that could be the project's."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from builders.copying import full_disk_named, make_folders
from builders.names import escaped, shown_url
from builders.sources import git, read_whole
from builders.sources.unpack import unpack
from orchestrator.errors import OriginUnavailable
from orchestrator.reproduce.promises import ReleaseFacts
from orchestrator.verify.manifests import Listed
from orchestrator.verify.reading import Unreadable, read_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in words. `roots` raises a RelbuildError where the source cannot be had there."""

    words: str
    roots: Callable[[], Iterable[Path]]
    by_git: bool = False


def places_of(facts: ReleaseFacts, room: Path, checkout: Path | None) -> Iterator[Place]:
    """Name the places to look at, in order; nothing is fetched before its turn. What is unpacked goes below `room`."""
    room = room.absolute()
    make_folders(room)
    if not facts.sources:
        yield Place(words="the release's source archive", roots=_nowhere("the release has none"))
    for number, source in enumerate(facts.sources):
        folder = room / f"archive-{number}"
        yield Place(words=f"the source archive {source.path}", roots=partial(_archived, facts, source, folder))
    if not facts.repositories:
        yield Place(words="the git repository", roots=_nowhere("the provenance names no commit"))
    for number, uri in enumerate(facts.repositories):
        folder = room / f"git-{number}"
        words = f"the repository {shown_url(uri)}"
        yield Place(words=words, roots=partial(_cloned, facts, uri, folder))
    if checkout is None:
        yield Place(words="a folder named with --source", roots=_nowhere("none was named"))
        return
    place = checkout.absolute()
    at = f"the commit in {escaped(str(place))}"
    yield Place(words=at, roots=partial(_exported, facts, place, room / "checkout"))
    yield Place(words=f"the folder {escaped(str(place))}", roots=partial(_itself, facts, place), by_git=True)
    # An unpacked source in somebody else's work tree: that tree's .gitignore has no say.
    whole = f"the folder {escaped(str(place))} with all its files"
    yield Place(words=whole, roots=partial(_itself, facts, place))


def _nowhere(reason: str) -> Callable[[], Iterable[Path]]:
    def roots() -> Iterable[Path]:
        raise OriginUnavailable(reason)

    return roots


def _archived(facts: ReleaseFacts, source: Listed, room: Path) -> Iterable[Path]:
    """Unpack a source archive from a private copy, so that what was hashed is what is unpacked."""
    make_folders(room)
    with full_disk_named(room):
        try:
            file = read_file(facts.folder / source.path, room / "archive")
        except Unreadable as error:
            raise OriginUnavailable(f"it {error}") from None
        if (file.sha256, file.size_bytes) != (source.sha256, source.size_bytes):
            raise OriginUnavailable("it has other bytes than the manifest promises")
        unpack(room / "archive", room / "unpacked")
        (room / "archive").unlink()
    root = room / "unpacked" / str(source.entry["root"])
    if os.listdir(root.parent) != [root.name] or root.is_symlink() or not root.is_dir():  # noqa: PTH208 - names only
        raise OriginUnavailable(f"it is not one folder named {escaped(root.name)}")
    found = read_whole(root, origin=source.path).digest
    if found != source.entry["tree"]:
        raise OriginUnavailable(f"its files have the digest {found}, and the manifest names {source.entry['tree']}")
    return (root,)


def _cloned(facts: ReleaseFacts, uri: str, room: Path) -> Iterable[Path]:
    if not uri.startswith("git+"):
        raise OriginUnavailable("the provenance names no repository that others can reach")
    return _commit(facts, uri.removeprefix("git+"), room)


def _exported(facts: ReleaseFacts, checkout: Path, room: Path) -> Iterable[Path]:
    top = git.top_of(checkout)
    if top is None:
        raise OriginUnavailable("git knows nothing of it")
    return _commit(facts, str(top), room)


def _commit(facts: ReleaseFacts, url: str, room: Path) -> Iterable[Path]:
    """Fetch the release's commit and unpack what a checkout of it would hold."""
    if facts.dirty or not facts.commit:
        raise OriginUnavailable("the release was built from files that are in no commit")
    make_folders(room)
    with full_disk_named(room):
        git.export_commit(
            url, facts.commit, repository=room / "repository", archive=room / "commit.tar", project_root=room,
            as_checkout=True,
        )  # fmt: skip
        unpack(room / "commit.tar", room / "commit")
        (room / "commit.tar").unlink()
    return _with_matrix(room / "commit", facts.matrix_name)


def _with_matrix(top: Path, name: str) -> tuple[Path, ...]:
    """Give the folders that hold a configuration, upper ones first: a project may lie anywhere in its repository."""
    found = [path.parent for path in top.rglob("*") if path.name == name and path.is_file() and not path.is_symlink()]
    return tuple(sorted(found, key=lambda path: (len(path.parts), path)))


def _itself(facts: ReleaseFacts, folder: Path) -> Iterable[Path]:
    if not (folder / facts.matrix_name).is_file():
        raise OriginUnavailable(f"it holds no {escaped(facts.matrix_name)}")
    return (folder,)
