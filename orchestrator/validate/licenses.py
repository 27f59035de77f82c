"""Licence expressions (SPDX specification, annex D): is one denied whichever way it is read?"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

_Names = Mapping[str, str]


def denied_by(expression: str, globs: Sequence[str], names: _Names) -> str:
    """Name the licence that a package cannot be had without and that a glob denies; empty where there is none.

    Of "A OR B" both must be denied, of "A AND B" one; "A WITH E" is denied as A is. `names` gives what a LicenseRef is
    called. A text that is no expression is taken for the name of one licence. Case does not count.
    """
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
