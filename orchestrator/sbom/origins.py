"""Says where an outside source comes from, for documents that strangers read: no password, no path of a machine."""

import re
from dataclasses import dataclass
from typing import Final, assert_never
from urllib.parse import quote, urlsplit

from builders.materials import purl, pypi_name
from builders.sources import ArchiveSource, DebianSource, GitSource, OutsideSource, PypiSource

_HOST: Final = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}(:[0-9]{1,5})?", re.IGNORECASE)
_SCHEMES: Final = frozenset({"http", "https", "ssh", "git", "ftp"})
_SHA1_DIGITS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """An outside source. What its kind has not is empty; `file` is a file name, `url` free of user names."""

    name: str
    version: str = ""
    purl: str = ""
    url: str = ""
    file: str = ""
    sha256: str = ""
    commit: str = ""

    @property
    def swhid(self) -> str:
        """The Software Heritage identifier of a git commit (SWHID specification 1.2); SHA-1 commits only."""
        return f"swh:1:rev:{self.commit}" if len(self.commit) == _SHA1_DIGITS else ""


def of_source(source: OutsideSource) -> Origin:
    """Give an outside source as documents name it."""
    match source:
        case DebianSource(package=name, version=version, sha256=sha256):
            where = purl("deb", f"debian/{name}", version, {"arch": "source"})
            upstream = version.partition(":")[2] or version  # file names leave the epoch out
            return Origin(name=name, version=version, purl=where, file=f"{name}_{upstream}.dsc", sha256=sha256)
        case PypiSource(package=name, version=version, sha256=sha256):
            return Origin(name=name, version=version, purl=purl("pypi", pypi_name(name), version), sha256=sha256)
        case GitSource(url=url, commit=commit):
            return Origin(name=_last(url).removesuffix(".git"), version=commit, url=public_url(url), commit=commit)
        case ArchiveSource(location=location, sha256=sha256):
            return Origin(name=_last(location), url=public_url(location), file=_last(location), sha256=sha256)
        case _:
            assert_never(source)


def public_url(text: str) -> str:
    """Give a URL of a named host without user, query and fragment; empty for everything else."""
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    if parts.scheme not in _SCHEMES or not _HOST.fullmatch(host):
        return ""
    return f"{parts.scheme}://{host}{quote(parts.path, safe='/%:@+,;=~!$&*()')}"


def _last(location: str) -> str:
    path = location.partition("?")[0].partition("#")[0]
    return re.split(r"[/:]", path.rstrip("/"))[-1] or "source"
