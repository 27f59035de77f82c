"""Takes secrets, and what only this machine has, out of what a statement says."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.canonical import Json
from orchestrator.model import Built, Matrix
from orchestrator.places import named, neutral, places

WITHHELD = "[withheld]"
"""Stands where a secret was."""

_GUARDED = r"(?:token|secret|password|passwd|passphrase|credentials?|auth|api_?key|private_?key|access_?key)"
_SECRET_NAME = re.compile(rf"(?:.*_)?{_GUARDED}(?:_.*)?", re.IGNORECASE)
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)=(\S*)")
_URL = re.compile(r"[a-z][a-z0-9+.-]{0,30}://[^\s\"<>]+", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/?#]*@")
_SECRET_QUERY = re.compile(rf"([?&;][\w.-]{{0,40}}(?:{_GUARDED}|signature|sig)[\w.-]{{0,40}}=)[^&;#]+", re.IGNORECASE)
# What names no secret itself: git's usual user, and variables that the shell fills in.
_HARMLESS_USER = re.compile(r"(?:git|(?:\$\{?\w+\}?:?)+)@")
_LEAST_SECRET = 8
"""A shorter value is only taken out where its name stands, because it may be part of any word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What must not be said: values of secret variables, and paths of this machine with the words for them."""

    secrets: tuple[str, ...]
    paths: Mapping[str, str]
    deep_paths: Mapping[str, str]
    """Those of `paths` that no sandbox is likely to have as well, as it may have /src or /root."""

    def seen(self, text: str) -> str:
        """Give a text of this machine without its paths."""
        return neutral(text, self.paths)

    def said(self, text: str) -> str:
        """Give a text of the project or of a tool as Unicode without secrets."""
        for secret in self.secrets:
            text = text.replace(secret, WITHHELD)
        # Bounded repeats above: BuildKit quotes whole files, and a pattern must not take a minute for one.
        text = _URL.sub(lambda found: without_credentials(found[0]), text)
        return text.encode("utf-8", "backslashreplace").decode()

    def clean(self, value: Json, name: str = "") -> Json:
        """Give a value without secrets, those that only their name tells included."""
        match value:
            case str():
                return WITHHELD if is_secret(name) else _assigned(self.said(value))
            case Mapping():
                return {key: self.clean(item, key.removeprefix("build-arg:")) for key, item in value.items()}
            case list() | tuple():
                return [self.clean(_variable(item) if name == "env" else item) for item in value]
            case _:
                return value

    def foreign(self, value: Json) -> Json:
        """Give what another program says without paths of this machine."""
        match value:
            case str():
                return neutral(value, self.deep_paths)
            case Mapping():
                return {key: self.foreign(item) for key, item in value.items()}
            case list() | tuple():
                return [self.foreign(item) for item in value]
            case _:
                return value


def wording(built: Built, matrix: Matrix) -> Wording:
    """Collect what must not be said of a cell."""
    paths = {**named({Path.home(): "$HOME"}), **places(built, matrix)}
    ordered = {path: paths[path] for path in sorted(paths, key=len, reverse=True)}
    secrets = sorted(set(_secret_values(built.cell.env)), key=lambda value: (-len(value), value))
    deep = {path: name for path, name in ordered.items() if path.strip("/").count("/")}
    return Wording(secrets=tuple(secrets), paths=ordered, deep_paths=deep)


def is_secret(name: str) -> bool:
    """Tell whether a variable's name says that its value is a secret."""
    return _SECRET_NAME.fullmatch(name) is not None


def without_credentials(url: str) -> str:
    """Give a URL without the user, the password and the secret query values in it."""
    url = _USER.sub(lambda user: user[0] if _HARMLESS_USER.fullmatch(user[0]) else "", url)
    return _SECRET_QUERY.sub(rf"\1{WITHHELD}", url)


def _secret_values(env: Mapping[str, str]) -> Iterator[str]:
    return (value for name, value in env.items() if is_secret(name) and len(value) >= _LEAST_SECRET)


def _assigned(text: str) -> str:
    """Take the value out of a word such as API_TOKEN=abc."""
    found = _ASSIGNED.fullmatch(text)
    return f"{found[1]}={WITHHELD}" if found and is_secret(found[1]) else text


def _variable(item: Json) -> Json:
    """Take the value, whatever it holds, out of an entry of an environment."""
    if not isinstance(item, str):
        return item
    name, separator, _ = item.partition("=")
    return f"{name}={WITHHELD}" if separator and is_secret(name) else item
