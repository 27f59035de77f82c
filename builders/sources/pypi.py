"""Fetches an sdist from the package indexes that this machine's pip uses, without running anything in it.

`pip download` would start the build backend of an sdist to learn its metadata, so the index is read directly:
simple repository API, PEP 503 (HTML) and PEP 691 (JSON).
"""

import ast
import json
import re
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from builders.command import capture
from builders.errors import SourceMismatch, SourceUnavailable, ToolchainUnavailable
from builders.names import shown_url
from builders.sources import PypiSource
from builders.sources.download import download, read

_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, text/html;q=0.2, */*;q=0.1"
_MOST_PAGE_BYTES = 64 << 20
_SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".zip", ".tgz")

# How pip itself says where it looks by default, so that no host name stands here.
_DEFAULT_INDEX = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    file: str
    url: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _PipSettings:
    indexes: tuple[str, ...]
    ca_file: str | None


def fetch(source: PypiSource, to: Path) -> None:
    """Download the sdist to a new file and check its digest.

    Raises SourceMismatch where every index has other bytes under that version, SourceUnavailable where none has it.
    """
    settings = _pip_settings()
    links, reasons = [], []
    for index in settings.indexes:
        try:
            links += _links(index, source, settings.ca_file)
        except SourceUnavailable as error:
            reasons.append(error.what)
    if not links:
        raise SourceUnavailable(
            f"no index of this machine's pip has an sdist {source.package} {source.version}: "
            + ("; ".join(reasons) or f"asked {', '.join(map(shown_url, settings.indexes))}"),
            next_step="see `pip config list` for the indexes, and their page of the package for its versions",
        )
    # The digest decides, so a file of that name on another index can do no harm.
    link = next((link for link in links if link.sha256 == source.sha256), links[0])
    found = link.sha256 if link.sha256 not in {"", source.sha256} else download(link.url, to, ca_file=settings.ca_file)
    if found != source.sha256:
        raise SourceMismatch(
            f"the sdist {link.file} has the digest sha256:{found}, and matrix.toml promises sha256:{source.sha256}",
            next_step="find out why it changed; only then put the new digest into matrix.toml",
        )


def _links(index: str, source: PypiSource, ca_file: str | None) -> list[_Link]:
    page_url = f"{index.rstrip('/')}/{_normal(source.package)}/"
    if page_url.startswith("file:"):
        page_url += "index.html"
    page = read(page_url, accept=_ACCEPT, most_bytes=_MOST_PAGE_BYTES, ca_file=ca_file)
    try:
        links = _json_links(page, page_url) if page.lstrip().startswith(b"{") else _html_links(page, page_url)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceUnavailable(f"{shown_url(page_url)} is no page of a package index: {error}") from error
    return [link for link in links if _is_sdist_of(link.file, source)]


def _is_sdist_of(file: str, source: PypiSource) -> bool:
    stem = next((file.removesuffix(suffix) for suffix in _SUFFIXES if file.endswith(suffix)), "")
    name, _, version = stem.rpartition("-")
    return _normal(name) == _normal(source.package) and version == source.version


def _json_links(page: bytes, page_url: str) -> list[_Link]:
    files: list[Mapping[str, Any]] = json.loads(page)["files"]
    return [
        _Link(
            file=str(file["filename"]),
            url=urllib.parse.urljoin(page_url, str(file["url"])),
            sha256=str(file["hashes"].get("sha256", "")),
        )
        for file in files
    ]


def _html_links(page: bytes, page_url: str) -> list[_Link]:
    parser = _Anchors()
    parser.feed(page.decode("utf-8", "replace"))
    return list(_from_anchors(parser.targets, page_url))


def _from_anchors(targets: list[str], page_url: str) -> Iterator[_Link]:
    for target in targets:
        url, _, fragment = urllib.parse.urljoin(page_url, target).partition("#")
        file = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])
        yield _Link(file=file, url=url, sha256=fragment.removeprefix("sha256=") if "sha256=" in fragment else "")


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]


def _normal(name: str) -> str:
    """Normalise a project name as PEP 503 says."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip_settings() -> _PipSettings:
    python = _python_with_pip()
    settings = dict(_parse_settings(capture((python, "-m", "pip", "config", "list")).stdout.decode("utf-8", "replace")))
    main = settings.get("index-url") or capture((python, "-c", _DEFAULT_INDEX)).stdout.decode().strip()
    indexes = (main, *settings.get("extra-index-url", "").split())
    return _PipSettings(indexes=tuple(filter(None, indexes)), ca_file=settings.get("cert"))


def _parse_settings(listing: str) -> Iterator[tuple[str, str]]:
    """Read `SECTION.NAME='VALUE'` lines, those that count more later: pip lists the environment with section :env:."""
    lines = [line for line in listing.splitlines() if "=" in line]
    for line in sorted(lines, key=lambda line: line.startswith(":env:.")):
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in {"global", "download", ":env:"}:
            yield name, str(ast.literal_eval(value))


def _python_with_pip() -> str:
    for python in (sys.executable, "python3"):
        try:
            if capture((python, "-c", "import pip")).exit_code == 0:
                return python
        except ToolchainUnavailable:
            continue
    raise ToolchainUnavailable(
        "no Python here has pip, whose settings say where packages come from",
        next_step="install pip (python3 -m ensurepip), or name the sdist's own URL with `archive`",
    )
