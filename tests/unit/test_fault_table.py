"""docs/reference/faults.md says what the marks on the tests say, and the marks are read as pytest reads them."""

from pathlib import Path

import pytest

from tests import fault_table
from tests.fault_rows import FAULTS, LATER


def test_the_page_is_that_of_the_marks() -> None:
    there = fault_table.PAGE.read_text(encoding="utf-8") if fault_table.PAGE.exists() else ""
    assert there == fault_table.page(), f"docs/reference/faults.md is stale: run `{fault_table.COMMAND}`"


def test_rows_are_numbered_from_one_on_and_fit_into_a_table() -> None:
    assert [fault.number for fault in FAULTS] == list(range(1, 91))
    for fault in FAULTS:
        assert fault.fault
        assert fault.outcome
        assert "|" not in fault.fault + fault.outcome + fault.lacks
    assert {number for rows in LATER.values() for number in rows} <= {fault.number for fault in FAULTS}


def test_what_lacks_something_is_provoked_by_some_test() -> None:
    tests = fault_table.tests_of_rows()
    assert [fault.number for fault in FAULTS if fault.lacks and not tests[fault.number]] == []


def test_pytest_sees_the_same_marks(request: pytest.FixtureRequest) -> None:
    """Of all tests of this run: the source is read here, and pytest has imported it."""
    known = fault_table.marks()
    for item in request.session.items:
        test = item.nodeid.split("[")[0]
        assert tuple(row for mark in item.iter_markers("fault") for row in mark.args) == known.get(test, ()), test


BAD_MARKS = {
    "an unknown row": "@pytest.mark.fault(91)\ndef test_a(): ...\n",
    "no row": "@pytest.mark.fault()\ndef test_a(): ...\n",
    "a row twice": "@pytest.mark.fault(1, 1)\ndef test_a(): ...\n",
    "rows out of order": "@pytest.mark.fault(2, 1)\ndef test_a(): ...\n",
    "a text": "@pytest.mark.fault('1')\ndef test_a(): ...\n",
    "a row by name": "@pytest.mark.fault(ROW)\ndef test_a(): ...\n",
    "no call": "@pytest.mark.fault\ndef test_a(): ...\n",
    "on no test": "@pytest.mark.fault(1)\ndef helper(): ...\n",
    "in a class that is no test": "class A:\n    @pytest.mark.fault(1)\n    def test_a(self): ...\n",
    "on a module": "pytestmark = pytest.mark.fault(1)\n",
    "on one case": "@pytest.mark.parametrize('a', [pytest.param(1, marks=pytest.mark.fault(1))])\ndef test_a(a): ...\n",
    "twice on a test": "@pytest.mark.fault(1)\n@pytest.mark.fault(2)\ndef test_a(): ...\n",
}


@pytest.mark.parametrize("text", BAD_MARKS.values(), ids=BAD_MARKS)
def test_a_mark_that_would_be_lost_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_x.py").write_text("import pytest\n@pytest.mark.fault(1, 90)\ndef test_good(): ...\n")
    monkeypatch.setattr(fault_table, "ROOT", tmp_path)
    assert fault_table.marks() == {"tests/test_x.py::test_good": (1, 90)}
    (tmp_path / "tests/test_y.py").write_text("import pytest\n" + text)
    with pytest.raises(fault_table.BadMark, match=r"tests/test_y\.py"):
        fault_table.marks()
