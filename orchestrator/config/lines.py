"""Where each key of a TOML text stands, and the bounds that keep the parser quick.

The standard parser gives no positions, and it needs seconds for a key of many dots and a stack frame for each bracket.
Format: TOML 1.0.0, https://toml.io/en/v1.0.0.
"""

import re
import tomllib
from typing import NamedTuple

MAX_KEY_PARTS = 16
MAX_NESTING = 16
MAX_WORD_CHARS = 1000
MAX_TOKENS = 20_000

KeyPath = tuple[str | int, ...]

_TOKEN = re.compile(
    r"""
    (?P<blank>(?:[ \t\n]+|\r\n|\#[^\n]*)+)
  | (?P<word>[^\s"'\#=.,\[\]{}]+)
  | (?P<mark>[=.,\[\]{}])
  | (?P<text>
        \"\"\"[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"{3,5}
      | '''[^']*(?:'(?!'')[^']*)*'{3,5}
      | (?!\"\"\")"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*"
      | (?!''')'[^'\n]*'
    )
  | (?P<broken>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A word, a string or a mark of the text; lines count from 1."""

    kind: str
    text: str
    line: int


class TooComplex(Exception):
    """The text passes one of the bounds of this module."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line
        self.what = what


class Scan(NamedTuple):
    """The tokens of a text, and the line of a string or bracket that is opened and not closed (0: none)."""

    tokens: list[Token]
    unclosed: int


def scan(text: str) -> Scan:
    """Cut a TOML text into tokens, in time linear in its size. Raises TooComplex.

    It stops at what cannot be TOML; the parser has the better words for that.
    """
    tokens: list[Token] = []
    opened: list[int] = []
    line, dots = 1, 0
    for match in _TOKEN.finditer(text):
        kind, found = str(match.lastgroup), match[0]
        if kind == "broken":
            return Scan(tokens, line)
        if kind != "blank":
            tokens.append(Token(kind, found, line))
            dots = _dots(tokens[-1], dots)
            _nest(tokens[-1], opened)
            _check(tokens[-1], len(tokens), dots, len(opened))
        line += found.count("\n")
    return Scan(tokens, opened[-1] if opened else 0)


def _dots(token: Token, before: int) -> int:
    if token.kind != "mark":
        return before
    return before + 1 if token.text == "." else 0


def _nest(token: Token, opened: list[int]) -> None:
    if token.text in {"[", "{"}:
        opened.append(token.line)
    elif token.text in {"]", "}"} and opened:
        opened.pop()


def _check(token: Token, count: int, dots: int, depth: int) -> None:
    if count > MAX_TOKENS:
        raise TooComplex(token.line, f"the file holds more than {MAX_TOKENS} keys, values and marks")
    if dots >= MAX_KEY_PARTS:
        raise TooComplex(token.line, f"a key has more than {MAX_KEY_PARTS} parts")
    if depth > MAX_NESTING:
        raise TooComplex(token.line, f"brackets are nested more than {MAX_NESTING} deep")
    if token.kind == "word" and len(token.text) > MAX_WORD_CHARS:
        raise TooComplex(token.line, f"a key or number has more than {MAX_WORD_CHARS} characters")


class Lines:
    """The line of every key and list element of a text that the parser has accepted."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = [*tokens, Token("end", "", 0)]
        self._at = 0
        self._line: dict[KeyPath, int] = {}
        self._last: dict[KeyPath, int] = {}
        self._document()

    def of(self, path: KeyPath) -> int:
        """Give the line of a key, or that of the nearest table around it, or 1."""
        while path and path not in self._line:
            path = path[:-1]
        return self._line.get(path, 1)

    def _document(self) -> None:
        table: KeyPath = ()
        while self._tokens[self._at].kind != "end":
            table = self._header() if self._tokens[self._at].text == "[" else self._pair(table)

    def _header(self) -> KeyPath:
        line = self._tokens[self._at].line
        many = self._tokens[self._at + 1].text == "["
        self._at += 2 if many else 1
        path: KeyPath = ()
        parts = self._key()
        self._at += 2 if many else 1
        for part in parts[:-1]:
            path = self._inside((*path, part), line)
        path = (*path, parts[-1])
        if many:
            self._line.setdefault(path, line)
            self._last[path] = self._last.get(path, -1) + 1
        path = self._inside(path, line)
        self._line[path] = line
        return path

    def _inside(self, path: KeyPath, line: int) -> KeyPath:
        """Step into the newest element where the path is an array of tables."""
        self._line.setdefault(path, line)
        return (*path, self._last[path]) if path in self._last else path

    def _pair(self, table: KeyPath) -> KeyPath:
        line = self._tokens[self._at].line
        path = table
        for part in self._key():
            path = (*path, part)
            self._line.setdefault(path, line)
        self._at += 1
        self._value(path)
        return table

    def _key(self) -> list[str]:
        parts = [self._name()]
        while self._tokens[self._at].text == ".":
            self._at += 1
            parts.append(self._name())
        return parts

    def _name(self) -> str:
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "word":
            return token.text
        if token.text[0] == "'" or "\\" not in token.text:
            return token.text[1:-1]
        return str(tomllib.loads(f"key = {token.text}")["key"])

    def _value(self, path: KeyPath) -> None:
        token = self._tokens[self._at]
        self._at += 1
        if token.text == "[":
            self._array(path)
        elif token.text == "{":
            self._inline(path)
        elif token.kind == "word":
            while self._continues(token.line):
                self._at += 1

    def _continues(self, line: int) -> bool:
        """Tell whether the next token is still the same number or date."""
        token = self._tokens[self._at]
        return token.line == line and (token.kind == "word" or token.text == ".")

    def _array(self, path: KeyPath) -> None:
        index = 0
        while (token := self._tokens[self._at]).text != "]":
            if token.text == ",":
                self._at += 1
                continue
            self._line[(*path, index)] = token.line
            self._value((*path, index))
            index += 1
        self._at += 1

    def _inline(self, path: KeyPath) -> None:
        while (token := self._tokens[self._at]).text != "}":
            if token.text == ",":
                self._at += 1
            else:
                self._pair(path)
        self._at += 1
