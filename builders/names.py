"""Names of files that strangers chose: which are refused, and how they are shown."""

import unicodedata
from collections.abc import Callable

MAX_NAME_BYTES = 255

_WINDOWS_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "123456789¹²³"))
)
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def escaped(name: str | bytes) -> str:
    """Quote a name so that printing it cannot move a cursor, reorder text or hide a byte."""
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    if text.isprintable() and "'" not in text and "\\" not in text:
        return f"'{text}'"
    return "'" + "".join(_shown(character) for character in text) + "'"


def shown_url(url: str) -> str:
    """Quote a URL without the name and password in it."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return escaped(f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}" if separator else url)


def decoded(name: bytes) -> str | None:
    """Give a name as text, or None where it is not UTF-8."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return None


def has_control(text: str) -> bool:
    """Tell whether a text holds C0 or C1 control characters, newline and NUL among them."""
    return not text.isprintable() and any(unicodedata.category(character) == "Cc" for character in text)


def unsafe_reason(name: bytes) -> str:
    """Say why one path segment may not be published, or give an empty string."""
    if len(name) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    text = decoded(name)
    if text is None:
        return "is not UTF-8"
    if text in {"", ".", ".."}:
        return "is not a name"
    if has_control(text):
        return "holds a control character"
    return next((reason for test, reason in _UNSAFE_TEXT if test(text)), "")


def collision_key(path: str) -> str:
    """Give what two paths share where a file system ignores case or normalises Unicode (NFC)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


_UNSAFE_TEXT: tuple[tuple[Callable[[str], bool], str], ...] = (
    (lambda text: not _BIDI_CONTROLS.isdisjoint(text), "holds a character that reorders the text around it"),
    (lambda text: text.startswith("-"), "starts with '-' and would be read as an option"),
    (lambda text: "\\" in text, "holds a backslash, which Windows takes for a folder"),
    (lambda text: text.endswith((".", " ")), "ends in a dot or a space, which Windows drops"),
    (lambda text: text.split(".", 1)[0].rstrip().lower() in _WINDOWS_DEVICES, "is the name of a device on Windows"),
    (lambda text: not text.isprintable(), "holds an invisible character"),
)


def _shown(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    # A byte that was not UTF-8 travels as a lone surrogate (PEP 383): show the byte.
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 - the range of PEP 383
        return f"\\x{code - 0xDC00:02x}"
    return repr(character)[1:-1]
