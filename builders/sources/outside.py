"""Fetches outside sources before any build, checks them against their digests, and keeps them by digest."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import assert_never

from builders.copying import full_disk_named, make_folders
from builders.errors import SourceMismatch, SourceUnavailable
from builders.hashing import file_sha256
from builders.model import SourceTree
from builders.names import escaped, shown_url
from builders.sources import (
    ArchiveSource,
    DebianSource,
    GitSource,
    OutsideSource,
    PypiSource,
    debian,
    git,
    pypi,
    read_whole,
)
from builders.sources.download import download
from builders.sources.unpack import sole_folder, unpack

_TREE, _DIGEST = "tree", "tree.digest"


def fetch(source: OutsideSource, cache: Path, project_root: Path) -> SourceTree:
    """Give an outside source as a tree, from `cache/<digest>/` where it is there already.

    Raises SourceMismatch where the bytes are others than the digest promises, SourceUnavailable where they cannot be
    had or not be unpacked safely, ToolchainUnavailable where apt-get, git or patch is wanted and missing.
    """
    key, origin = _key(source), describe(source)
    cache = cache.absolute()
    try:
        with full_disk_named(cache), _sole_fetcher(cache, key):
            return _kept(cache / key, origin) or _fetch_anew(source, cache, project_root)
    except OSError as error:
        raise SourceUnavailable(
            f"{origin} cannot be kept below {escaped(str(cache))}: {error.strerror} ({escaped(str(error.filename))})",
            next_step="see who owns that folder, and that its file system is writable",
        ) from error


def describe(source: OutsideSource) -> str:
    """Name an outside source in one line, the same on every machine and without passwords."""
    match source:
        case DebianSource():
            return f"debian source package {source.package} {source.version} (sha256:{source.sha256})"
        case PypiSource():
            return f"pypi sdist {source.package} {source.version} (sha256:{source.sha256})"
        case GitSource():
            return f"git repository {shown_url(source.url)} at {source.commit}"
        case ArchiveSource():
            return f"archive {shown_url(source.location)} (sha256:{source.sha256})"
        case _:
            assert_never(source)


def _key(source: OutsideSource) -> str:
    return source.commit if isinstance(source, GitSource) else source.sha256


def _fetch_anew(source: OutsideSource, cache: Path, project_root: Path) -> SourceTree:
    key, origin = _key(source), describe(source)
    work = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=cache))
    work.chmod(0o700)  # whatever the umask says
    try:
        _fetch(source, work, cache, project_root)
        _keep(work, cache / key, origin)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return read_whole(cache / key / _TREE, origin=origin)


def _fetch(source: OutsideSource, work: Path, cache: Path, project_root: Path) -> None:
    match source:
        case DebianSource():
            with _sole_fetcher(cache, "apt"):  # apt gives up at once where another apt holds its lists
                debian.fetch(source, apt_state=cache / "apt", downloads=work / "files", tree=work / _TREE)
        case PypiSource():
            pypi.fetch(source, work / "sdist")
            _unpack_sole(work / "sdist", work)
        case GitSource():
            git.export_commit(source.url, source.commit, repository=work / "repository", archive=work / "commit.tar",
                              project_root=project_root)  # fmt: skip
            unpack(work / "commit.tar", work / _TREE)
        case ArchiveSource():
            _fetch_archive(source, work / "archive", project_root)
            _unpack_sole(work / "archive", work)
        case _:
            assert_never(source)


def _fetch_archive(source: ArchiveSource, to: Path, project_root: Path) -> None:
    if "://" in source.location:
        found = download(source.location, to)
    else:
        found = _link_local(source.location, to, project_root.resolve())
    if found != source.sha256:
        raise SourceMismatch(
            f"{shown_url(source.location)} has the digest sha256:{found}, and matrix.toml promises "
            f"sha256:{source.sha256}",
            next_step="find out why it changed; only then put the new digest into matrix.toml",
        )


def _link_local(location: str, to: Path, root: Path) -> str:
    file = (root / location).resolve()
    if not file.is_relative_to(root) or not file.is_file():
        raise SourceUnavailable(
            f"the archive {escaped(location)} is not a file below {escaped(str(root))}",
            next_step="`archive` is a URL, or a path relative to the folder of matrix.toml",
        )
    shutil.copyfile(file, to)  # hashed and unpacked from a private copy, so that nothing changes in between
    return file_sha256(to)


def _unpack_sole(archive: Path, work: Path) -> None:
    unpack(archive, work / "unpacked")
    sole_folder(work / "unpacked").rename(work / _TREE)


# --- the cache ---------------------------------------------------------------------------------------------------


def _kept(place: Path, origin: str) -> SourceTree | None:
    """Give a kept tree, or None where there is none or it is no longer what was fetched."""
    try:
        promised = (place / _DIGEST).read_text(encoding="ascii").strip()
        tree = read_whole(place / _TREE, origin=origin)
    except (OSError, UnicodeDecodeError, SourceUnavailable):
        return None
    return tree if tree.digest == promised else None


def _keep(work: Path, place: Path, origin: str) -> None:
    tree = read_whole(work / _TREE, origin=origin)
    for entry in work.iterdir():
        if entry.name != _TREE:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (work / _DIGEST).write_text(f"{tree.digest}\n", encoding="ascii")
    work.chmod(0o755)
    shutil.rmtree(place, ignore_errors=True)
    work.rename(place)


@contextlib.contextmanager
def _sole_fetcher(cache: Path, key: str) -> Iterator[None]:
    """Keep other runs from fetching the same source, and remove what a killed one left behind."""
    make_folders(cache)
    descriptor = os.open(cache / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # whatever the umask says
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for leftover in cache.glob(f".{key}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)
