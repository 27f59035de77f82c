"""From a path to the tables of a TOML file, or one clear error. Nothing here knows what the tables mean."""

import os
import re
import stat
import tomllib
from pathlib import Path

from orchestrator.config.lines import Lines, TooComplex, scan
from orchestrator.errors import ConfigNotFound, ConfigSyntax

MAX_BYTES = 256 * 1024

_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_OTHER_ENCODINGS = ((b"\xef\xbb\xbf", "a byte order mark"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def read_toml(path: Path) -> tuple[dict[str, object], Lines]:
    """Give the tables of a TOML file and the lines of their keys.

    Raises ConfigNotFound where there is no plain readable file, ConfigSyntax where it is not TOML within the bounds.
    """
    return parse(_decode(_read(path), path), path)


def _read(path: Path) -> bytes:
    """Read a plain file, never waiting for a writer as an ordinary open of a FIFO would."""
    try:
        _refuse_odd(path, path.stat())
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no Path
            _refuse_odd(path, os.fstat(descriptor))
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigNotFound(
            f"{path} cannot be read: {reason}", next_step="name a readable matrix.toml with --config"
        ) from error
    if len(data) > MAX_BYTES:
        raise ConfigSyntax(
            f"{path}: the file is larger than {MAX_BYTES // 1024} KiB",
            next_step="move long scripts into files of the project",
        )
    return data


def _refuse_odd(path: Path, status: os.stat_result) -> None:
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise ConfigNotFound(f"{path} is {kind}, not a file", next_step="name a matrix.toml with --config")


def _decode(data: bytes, path: Path) -> str:
    for start, encoding in _OTHER_ENCODINGS:
        if data.startswith(start):
            raise _syntax(path, 1, f"the file begins with {encoding}", "save it as UTF-8 without a byte order mark")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise _syntax(path, line, "the file holds a NUL byte", "save it as UTF-8 text")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _syntax(path, line, "the file is not UTF-8", "save it as UTF-8 without a byte order mark") from error


def parse(text: str, path: Path) -> tuple[dict[str, object], Lines]:
    """Give the tables of a TOML text and the lines of their keys. Raises ConfigSyntax; `path` is for its words."""
    unclosed = 0
    try:
        scanned = scan(text)
        unclosed = scanned.unclosed
        return tomllib.loads(text), Lines(scanned.tokens)
    except TooComplex as error:
        raise _syntax(path, error.line, error.what, "write it flatter") from error
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        line, what = _placed(str(error), unclosed, text)
        raise _syntax(path, line, what, "mend this line; https://toml.io has the rules") from error


def _placed(words: str, unclosed: int, text: str) -> tuple[int, str]:
    """Give the line that the parser's words point to; at the end of the text, that of what is not closed."""
    place = _PLACE.search(words)
    what = _PLACE.sub("", words)
    if place and place["line"]:
        return int(place["line"]), f"{what} (column {place['column']})"
    if unclosed:
        return unclosed, f"{what}; what is opened on this line is never closed"
    return text.count("\n") + 1, what


def _syntax(path: Path, line: int, what: str, next_step: str) -> ConfigSyntax:
    return ConfigSyntax(f"{path}:{line}: {what}", next_step=next_step)
