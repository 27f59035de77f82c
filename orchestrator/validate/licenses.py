"""Licence expressions (SPDX specification, annex D): is one denied whichever way it is read?"""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

_Names = Mapping[str, str]
_OPERATOR: Final = re.compile(r"(?<![^\s()])(?:and|or|with)(?![^\s()])", re.IGNORECASE)
"""A word between names. Only capitals make it an operator: "GPL version 3 or later" gives no choice."""


def denied_by(expression: str, globs: Sequence[str], names: _Names) -> str:
    """Name the licence that a package cannot be had without and that a glob denies; empty where there is none.

    Of "A OR B" both must be denied, of "A AND B" one; "A WITH E" is denied as A is. `names` gives what a LicenseRef is
    called. A text that is no expression is taken for the name of one licence; where it has operators that are not in
    capitals, each part of it may be a licence that is needed. Case does not count in names.
    """
    if not all(word.isupper() for word in _OPERATOR.findall(expression)):
        parts = (expression, *(each.strip(" ()") for each in _OPERATOR.split(expression)))
        return next(filter(None, (_of_name(each, globs, names) for each in parts)), "")
    from license_expression import ExpressionError, Licensing  # noqa: PLC0415 - only where licences are denied

    try:
        tree = Licensing().parse(expression)
    except ExpressionError:
        tree = None
    return _of_name(expression, globs, names) if tree is None else _of_tree(tree, globs, names)


def _of_tree(tree: Any, globs: Sequence[str], names: _Names) -> str:
    from license_expression import AND, OR, LicenseWithExceptionSymbol  # noqa: PLC0415 - as above

    if isinstance(tree, AND | OR):
        found = [_of_tree(each, globs, names) for each in tree.args]
        if isinstance(tree, OR):
            return found[0] if all(found) else ""
        return next(filter(None, found), "")
    if isinstance(tree, LicenseWithExceptionSymbol):
        return _of_tree(tree.license_symbol, globs, names)
    return _of_name(str(tree.key), globs, names)


def _of_name(name: str, globs: Sequence[str], names: _Names) -> str:
    called = [each for each in (name, names.get(name, "")) if each]
    hit = any(fnmatchcase(each.lower(), glob.lower()) for each in called for glob in globs)
    return called[-1] if hit else ""
