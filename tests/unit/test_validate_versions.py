"""Which version is older, and which licence is denied."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.validate.licenses import denied_by
from orchestrator.validate.versions import compare, has_order

# Held against `dpkg --compare-versions`, each pair of them.
DEBIAN = ("0~", "1.0~~", "1.0~rc1", "1.0", "1.0-1", "1.0-1+b1", "1.0+dfsg", "1.0.0", "1.9", "1.10",
          "12.2.0-14", "12.2.0-14+deb12u1", "1:0.9")  # fmt: skip
ASCENDING = {
    "deb": DEBIAN,
    "pypi": ("1.0.dev1", "1.0a1", "1.0rc1", "1.0", "1.0.post1", "1.1", "1.10", "1!0.1"),
    "npm": ("1.0.0-alpha", "1.0.0-alpha.2", "1.0.0-alpha.10", "1.0.0-beta", "1.0.0", "1.2", "1.10.0", "2"),
    "golang": ("v0.0.0-20190101000000-abcdefabcdef", "v0.9.9", "v0.10.0", "v1.0.0"),
    "generic": ("1.1.1v", "1.1.1w", "3.0.2"),
}


@pytest.mark.parametrize("kind", ASCENDING)
def test_versions_are_ordered_as_their_packages_order_them(kind: str) -> None:
    for (at, one), (other_at, other) in itertools.product(enumerate(ASCENDING[kind]), repeat=2):
        order = compare(kind, one, other)
        assert (order > 0) - (order < 0) == (at > other_at) - (at < other_at), (one, other)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [("deb", "1.0", "0:1.0-0"), ("pypi", "1.0", "1.0.0"), ("npm", "1.0.0+a", "1.0.0+b"), ("golang", "v1.2.0", "1.2")],
)
def test_versions_that_differ_in_writing_only(kind: str, one: str, other: str) -> None:
    assert compare(kind, one, other) == 0


@given(st.sampled_from(("deb", "pypi", "npm", "")), st.text(max_size=12), st.text(max_size=12))
def test_any_two_texts_have_one_order(kind: str, one: str, other: str) -> None:
    assert compare(kind, one, other) == -compare(kind, other, one)
    assert compare(kind, one, one) == 0


def test_digests_and_commits_have_no_order() -> None:
    assert not has_order("sha256:" + "a" * 64)
    assert not has_order("a" * 40)
    assert has_order("20240101")


@pytest.mark.parametrize(
    ("expression", "denied"),
    [
        ("MIT", ""),
        ("GPL-3.0-only", "GPL-3.0-only"),
        ("gpl-3.0-ONLY", "gpl-3.0-ONLY"),
        ("MIT OR GPL-3.0-only", ""),
        ("GPL-3.0-only OR MIT", ""),
        ("GPL-3.0-only OR AGPL-3.0-only", "GPL-3.0-only"),
        ("MIT AND (Apache-2.0 AND AGPL-3.0-only)", "AGPL-3.0-only"),
        ("MIT AND (Apache-2.0 OR AGPL-3.0-only)", ""),
        ("GPL-3.0-only WITH GCC-exception-3.1", "GPL-3.0-only"),
        ("LicenseRef-relbuild-0123", "Commons Clause"),
        ("MIT AND", ""),
        ("AGPL-3.0-only AND", ""),
        ("", ""),
    ],
)
def test_a_licence_is_denied_where_no_way_leads_around_it(expression: str, denied: str) -> None:
    names = {"LicenseRef-relbuild-0123": "Commons Clause"}
    assert denied_by(expression, ("GPL-3*", "AGPL-3.0-only", "Commons*"), names) == denied
