"""Where keys stand: the scanner agrees with the parser on every key of good TOML."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config.lines import KeyPath, Lines, TooComplex, scan

TEXT = '''\
top = 1 # first
a.b."c.d" = 1.5e3
date = 1979-05-27 07:32:00.99
after = true
[x.y]
k = { q = [1, { z = 2 }], "w\\u0041" = 07:32:00 }
text = """
a = 1 [ ""\\""""
raw = \'\'\'
[not.a.table]\'\'\'\'
next = 'b = "'
[[arr.r]]
m = []
[[arr.r]]
n = [
  1, # ]
  { o = 2 },

  [3],
]
[arr.r.sub]
s = ""
[x]
t = "#"
'''
EXPECTED: dict[KeyPath, int] = {
    ("top",): 1,
    ("a", "b", "c.d"): 2,
    ("date",): 3,
    ("after",): 4,
    ("x", "y"): 5,
    ("x", "y", "k", "q", 1, "z"): 6,
    ("x", "y", "k", "wA"): 6,
    ("x", "y", "text"): 7,
    ("x", "y", "raw"): 9,
    ("x", "y", "next"): 11,
    ("arr", "r", 0): 12,
    ("arr", "r", 0, "m"): 13,
    ("arr", "r", 1): 14,
    ("arr", "r", 1, "n"): 15,
    ("arr", "r", 1, "n", 0): 16,
    ("arr", "r", 1, "n", 1, "o"): 17,
    ("arr", "r", 1, "n", 2, 0): 19,
    ("arr", "r", 1, "sub"): 21,
    ("arr", "r", 1, "sub", "s"): 22,
    ("x",): 23,
    ("x", "t"): 24,
}


def lines(text: str) -> Lines:
    return Lines(scan(text).tokens)


def paths(value: object, at: KeyPath = ()) -> list[KeyPath]:
    """List every path of a parsed document."""
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [at, *(path for key, inner in items for path in paths(inner, (*at, key)))]


@pytest.mark.parametrize("path", EXPECTED, ids=str)
def test_keys_have_their_lines(path: KeyPath) -> None:
    assert lines(TEXT).of(path) == EXPECTED[path]


def test_windows_line_ends_change_no_line() -> None:
    read = lines(TEXT.replace("\n", "\r\n"))
    assert {path: read.of(path) for path in EXPECTED} == EXPECTED


def test_a_missing_key_has_the_line_of_its_table() -> None:
    assert lines(TEXT).of(("x", "y", "missing", 3, "z")) == 5
    assert lines(TEXT).of(("missing",)) == 1


def test_the_line_of_a_table_is_that_of_its_header_even_when_an_inner_one_comes_first() -> None:
    assert lines("[a.b]\nx = 1\n[a]\n").of(("a",)) == 3


KEYS = st.sampled_from(["a", "b-1", "1", '"q.r"', "'s t'", '"\\u00e9"', '""'])
SCALARS = st.sampled_from(
    [
        "1",
        "-1.5",
        "true",
        "1979-05-27",
        "1979-05-27 07:32:00Z",
        '"]"',
        "'#'",
        '"""\n"x""""',
        "'''\n'''",
        '"\\""',
        "0x1f",
        "inf",
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[\n" + ",\n".join(items) + " # ,\n]"),
        st.dictionaries(KEYS, inner, max_size=3).map(
            lambda table: "{ " + ", ".join(f"{key} = {value}" for key, value in table.items()) + " }"
        ),
    ),
    max_leaves=6,
)
STATEMENTS = st.one_of(
    st.tuples(KEYS, VALUES).map(" = ".join),
    st.tuples(KEYS, KEYS, VALUES).map(lambda parts: f"{parts[0]} . {parts[1]} = {parts[2]}"),
    st.lists(KEYS, min_size=1, max_size=3).map(lambda keys: f"[{'.'.join(keys)}] # ["),
    st.lists(KEYS, min_size=1, max_size=2).map(lambda keys: f"[[ {' . '.join(keys)} ]]"),
    st.just(""),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STATEMENTS, max_size=8))
def test_every_key_that_the_parser_reads_has_a_line_of_its_own(statements: list[str]) -> None:
    kept: list[str] = []
    for statement in statements:
        try:
            tomllib.loads("\n".join([*kept, statement]))
        except tomllib.TOMLDecodeError:
            continue
        kept.append(statement)
    text = "\n".join(kept)
    known = lines(text)._line
    assert set(known) == set(paths(tomllib.loads(text))) - {()}
    assert all(1 <= line <= text.count("\n") + 1 for line in known.values())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\n" + ".".join("a" * 17), 2),
        ("\n" + " . ".join(['"."'] * 17), 2),
        ("x = " + "[\n" * 17, 17),
        ("\nx = " + "9" * 1001, 2),
        ("1,\n" * 10_001, 10_001),
    ],
)
def test_bounds_are_kept_with_a_line(text: str, line: int) -> None:
    with pytest.raises(TooComplex) as caught:
        scan(text)
    assert caught.value.line == line


@pytest.mark.parametrize(
    "text", [".".join("a" * 16), "[" * 16, "9" * 1000, 'x = "' + "." * 100 + '"', "# " + "[" * 100]
)
def test_what_is_just_within_the_bounds_passes(text: str) -> None:
    assert scan(text).tokens or text.startswith("#")


@pytest.mark.parametrize(
    ("text", "line"), [('a = 1\nb = """\n\n', 2), ("a = [\n[1],\n", 1), ("a = [1]", 0), ("a = '\n'", 1)]
)
def test_what_is_not_closed_is_found(text: str, line: int) -> None:
    assert scan(text).unclosed == line
