"""Canonical JSON is written faster than Python's own indenting encoder does it, and is the same to the byte."""

import json
from enum import IntEnum, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.canonical import Json, canonical_json
from orchestrator.verify import json_strict

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["},\n  {", "},\n    {", "\n  ", "{", "}", '"', "\\", "\x00\x7f", " ", ""]
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
ROWS = st.lists(st.dictionaries(TEXT, PLAIN, max_size=3), max_size=4)
VALUES = st.recursive(
    PLAIN | ROWS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)


class Named(StrEnum):
    A = "a"


class Numbered(IntEnum):
    ONE = 1


def by_definition(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=2).encode() + b"\n"


@given(VALUES)
def test_every_value_is_written_as_the_slow_encoder_writes_it(value: Json) -> None:
    assert canonical_json(value) == by_definition(value)


@pytest.mark.parametrize(
    "value",
    [
        [{}], [{}, {}], [{"a": 1}, {}], [{"a": []}], [{"a": 1}, [1]], [{"a": [1, 2]}], [{"a": {"b": 1}}], [], {},
        [[]], [[{}]], ({"a": 1},), [({"b": 2},)],
        [{"a": Named.A}, {"a": Numbered.ONE}], {Named.A: Numbered.ONE}, [True, None, 0.1, 10**40],
        [{"a": "},\n    {"}, {"b": "}"}],
    ],
    ids=repr,
)  # fmt: skip
def test_odd_values_are_written_as_the_slow_encoder_writes_them(value: Json) -> None:
    assert canonical_json(value) == by_definition(value)


@given(VALUES)
def test_the_verifier_which_shares_no_code_agrees(value: Json) -> None:
    assert canonical_json(value) == json_strict.canonical(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}, [{"a": float("-inf")}]])
def test_what_json_cannot_say_is_refused_wherever_it_is(value: Json) -> None:
    wholes: list[Json] = [value, [value], {"a": value}, [{"a": value}, {"b": 1}]]
    for whole in wholes:
        with pytest.raises(ValueError, match=r"JSON compliant|surrogates"):
            canonical_json(whole)
