"""Looks for secrets in files: the forms of well-known tokens, and random-looking values beside words such as password.

What is found is told by kind, place and a short hash: never by its text. The forms are those that the issuers document.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CHUNK_BYTES: Final = 1 << 20
_OVERLAP_BYTES: Final = 8192
"""Longer than any form below: what lies across two chunks is seen whole in the second."""
_HASH_DIGITS: Final = 8
_LEAST_ENTROPY: Final = 3.5
"""Bits for each character. Words of a language have less, random letters and digits have more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Something that looks like a secret. `offset` counts bytes; `fingerprint` is the start of its SHA-256."""

    kind: str
    offset: int
    fingerprint: str


def _form(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode())


_START, _END = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_])"
_BODY = r"(?:\\n|\\r|\s)+(?:[A-Za-z-]+: [^\n]{1,200}\s+)*[A-Za-z0-9+/=]{32}"
"""A key has a body below its heading; a program that only knows the heading has none."""

_FORMS: Final[Mapping[str, tuple[tuple[str, ...], re.Pattern[bytes]]]] = {
    "AWS access key": (("AKIA", "ASIA"), _form(rf"{_START}(?:AKIA|ASIA)[A-Z2-7]{{16}}{_END}")),
    "GitHub token": (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        _form(rf"{_START}(?:gh[pousr]_[A-Za-z0-9]{{36,255}}|github_pat_[A-Za-z0-9_]{{80,100}}){_END}"),
    ),
    "GitLab token": (("gl",), _form(rf"{_START}gl(?:pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{{20,64}}{_END}")),
    "Slack token": (("xox",), _form(rf"{_START}xox[abeoprs]-[0-9A-Za-z-]{{20,250}}{_END}")),
    "Slack webhook": (
        ("hooks.slack.com/",),
        _form(r"hooks\.slack\.com/services/T[A-Z0-9]{6,12}/B[A-Z0-9]{6,12}/[A-Za-z0-9]{20,30}"),
    ),
    "Google API key": (("AIza",), _form(rf"{_START}AIza[0-9A-Za-z_-]{{35}}{_END}")),
    "Google OAuth token": (("ya29.",), _form(rf"{_START}ya29\.[0-9A-Za-z_-]{{40,500}}{_END}")),
    "Stripe key": (("k_live_",), _form(r"k_live_[0-9a-zA-Z]{20,120}(?![A-Za-z0-9_])")),
    "npm token": (("npm_",), _form(rf"{_START}npm_[A-Za-z0-9]{{36}}{_END}")),
    "PyPI token": (("pypi-AgE",), _form(rf"{_START}pypi-AgE[A-Za-z0-9_-]{{50,500}}{_END}")),
    "crates.io token": (("cio",), _form(rf"{_START}cio[A-Za-z0-9]{{32}}{_END}")),
    "Docker Hub token": (("dckr_",), _form(rf"{_START}dckr_(?:pat|oat)_[A-Za-z0-9_-]{{20,64}}{_END}")),
    "Hugging Face token": (("hf_",), _form(rf"{_START}hf_[A-Za-z0-9]{{34}}{_END}")),
    "DigitalOcean token": (("_v1_",), _form(rf"_v1_[a-f0-9]{{64}}{_END}")),
    "SendGrid key": (("SG.",), _form(rf"{_START}SG\.[\w-]{{22}}\.[\w-]{{43}}{_END}")),
    "Azure storage key": (("AccountKey=",), _form(r"AccountKey=[A-Za-z0-9+/]{86}==")),
    "age key": (("AGE-SECRET-KEY-1",), _form(rf"{_START}AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{{58}}{_END}")),
    "JSON web token": (
        ("eyJ",),
        _form(rf"{_START}eyJ[A-Za-z0-9_-]{{10,2000}}\.eyJ[A-Za-z0-9_-]{{10,4000}}\.[A-Za-z0-9_-]{{20,700}}"),
    ),
    "private key": (
        ("-----BEGIN ",),
        _form(rf"-----BEGIN (?:[A-Z0-9]+ ){{0,3}}PRIVATE KEY(?: BLOCK)?-----{_BODY}"),
    ),
    "password in a URL": (
        ("://",),
        _form(r"://[^\s/:@\"'<>${}%]{1,64}:([^\s/:@\"'<>${}%]{6,128})@[A-Za-z0-9]"),
    ),
}
"""By kind: how it begins, and its whole form, of which group 1, where there is one, is the secret itself."""

_WORDS: Final = ("passw", "passphrase", "secret", "token", "api", "access", "private", "credential")
_ASSIGNED: Final = _form(
    r"(?i:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)[A-Za-z0-9_]{0,20}"
    r"[\"']?\s{0,3}(?:=|:|=>|:=)\s{0,3}[\"']?([A-Za-z0-9+/_.~=-]{16,256})(?![A-Za-z0-9+/_.~=-])"
)


def find(chunks: Iterable[bytes]) -> Iterator[Secret]:
    """Give what looks like a secret in bytes that come piece by piece, each value once."""
    seen: set[str] = set()
    tail, at = b"", 0
    for chunk in chunks:
        data = tail + chunk
        for secret in _in(data, at - len(tail)):
            if secret.fingerprint not in seen:
                seen.add(secret.fingerprint)
                yield secret
        tail, at = data[-_OVERLAP_BYTES:], at + len(chunk)


def chunks_of(path: Path) -> Iterator[bytes]:
    """Give the bytes of a file. Raises OSError."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _in(data: bytes, offset: int) -> Iterator[Secret]:
    for kind, (starts, form) in _FORMS.items():
        for at in _places(data, starts):
            if match := form.match(data, at):
                yield _secret(kind, match, offset)
    for at in _places(data.lower(), _WORDS):
        if (match := _ASSIGNED.match(data, at)) and _is_random(match[1]):
            yield _secret("random value beside a word for a secret", match, offset)


def _places(data: bytes, starts: Iterable[str]) -> Iterator[int]:
    # A search for fixed bytes is a hundred times as fast as one for a pattern, and programs are large.
    for start in starts:
        wanted, at = start.encode(), -1
        while (at := data.find(wanted, at + 1)) >= 0:
            yield at


def _secret(kind: str, match: re.Match[bytes], offset: int) -> Secret:
    value = match[1] if match.re.groups else match[0]
    digits = hashlib.sha256(value).hexdigest()[:_HASH_DIGITS]
    return Secret(kind=kind, offset=offset + match.start(), fingerprint=digits)


def _is_random(value: bytes) -> bool:
    text = value.decode("ascii")
    mixed = any(each.isdigit() for each in text) and any(each.isalpha() for each in text)
    counts = Counter(text).values()
    bits = -sum(count / len(text) * math.log2(count / len(text)) for count in counts)
    return mixed and bits >= _LEAST_ENTROPY
