"""Downloads over https, http and file, with bounds on size and time. The only place that opens a URL."""

import base64
import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from builders.copying import CHUNK_BYTES, new_file, write_all
from builders.errors import SourceUnavailable
from builders.names import shown_url

SCHEMES: Final = ("https", "http", "file")

_SILENCE_S = 60.0
_TOTAL_S = 1800.0
_MOST_BYTES = 4 << 30
_HANDLERS = (
    urllib.request.ProxyHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPRedirectHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
    urllib.request.FileHandler,
)


def download(url: str, to: Path, *, ca_file: str | None = None) -> str:
    """Write what a URL gives to a new file, and give its SHA-256 in hexadecimal. Raises SourceUnavailable."""
    digest = hashlib.sha256()
    with new_file(to, executable=False) as descriptor:
        for chunk in _chunks(url, {}, _MOST_BYTES, ca_file):
            digest.update(chunk)
            write_all(descriptor, chunk)
    return digest.hexdigest()


def read(url: str, *, accept: str, most_bytes: int, ca_file: str | None = None) -> bytes:
    """Give what a URL answers, of at most `most_bytes`. Raises SourceUnavailable."""
    return b"".join(_chunks(url, {"Accept": accept}, most_bytes, ca_file))


def _chunks(url: str, headers: Mapping[str, str], most_bytes: int, ca_file: str | None) -> Iterator[bytes]:
    deadline, size = time.monotonic() + _TOTAL_S, 0
    try:
        with _opener(ca_file).open(_request(url, headers), timeout=_SILENCE_S) as response:
            promised = response.headers.get("Content-Length", "")
            while chunk := response.read(CHUNK_BYTES):
                size += len(chunk)
                _check(url, size, most_bytes, deadline)
                yield chunk
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise _unavailable(url, f"{getattr(error, 'code', '')} {reason}".strip()) from error
    if promised.isdigit() and int(promised) != size:
        raise _unavailable(url, f"{size} of {promised} bytes came")


def _request(url: str, headers: Mapping[str, str]) -> urllib.request.Request:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise _unavailable(url, f"only {', '.join(SCHEMES)} URLs can be fetched")
    extra = {"User-Agent": "relbuild", "Accept-Encoding": "identity"}
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        extra["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return urllib.request.Request(url, headers={**extra, **headers})  # noqa: S310 - the scheme was checked above


def _opener(ca_file: str | None) -> urllib.request.OpenerDirector:
    # Built by hand: the default opener also answers ftp: and data: URLs.
    opener = urllib.request.OpenerDirector()
    for handler in _HANDLERS:
        opener.add_handler(handler())
    opener.add_handler(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)))
    return opener


def _check(url: str, size: int, most_bytes: int, deadline: float) -> None:
    if size > most_bytes:
        raise _unavailable(url, f"it gives more than {most_bytes} bytes")
    if time.monotonic() > deadline:
        raise _unavailable(url, f"it takes longer than {_TOTAL_S:g} s")


def _unavailable(url: str, reason: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"{shown_url(url)} cannot be fetched: {reason}",
        next_step="see that this machine reaches it (proxies are read from the environment), then run again",
    )
