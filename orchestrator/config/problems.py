"""From broken rules to problems with a line: what pydantic found, in the words of the file."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestrator.config import (
    ci_shape,
    nodes_shape,
    product_shapes,
    repository_shape,
    shapes,
    signing_shapes,
    validation_shape,
)
from orchestrator.config.base_shape import Shape, is_tag
from orchestrator.config.lines import KeyPath, Lines
from orchestrator.config.texts import cut, near_hint, shown
from orchestrator.errors import Problem

MAX_SHOWN = 200

_STAND_IN = {"name": "unnamed"}
_ROUNDS = 4
_KEY = "[key]"
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_TABLES: dict[KeyPath, tuple[type[Shape], ...]] = {
    (): (shapes.MatrixShape,),
    ("project",): (shapes.ProjectShape,),
    ("project", "version"): (shapes.VersionFileShape,),
    ("targets", "*"): (shapes.TargetShape,),
    ("products", "*"): (product_shapes.ProductShape,),
    ("products", "*", "source"): (
        product_shapes.Debian,
        product_shapes.Pypi,
        product_shapes.Git,
        product_shapes.Archive,
    ),
    ("products", "*", "outputs", "*"): (product_shapes.OutputShape,),
    ("products", "*", "smoke", "*"): (product_shapes.SmokeShape,),
    ("products", "*", "archive"): (product_shapes.ArchiveShape,),
    ("engine",): (shapes.EngineShape,),
    ("engine", "nodes", "*"): (nodes_shape.NodeShape,),
    ("policy",): (shapes.PolicyShape,),
    ("policy", "gate"): (shapes.GateShape,),
    ("repository",): (repository_shape.RepositoryShape,),
    ("repository", "waivers", "*"): (repository_shape.RuleWaiverShape,),
    ("ci",): (ci_shape.CiShape,),
    ("ci", "runner"): (ci_shape.RunnerShape,),
    ("ci", "runners", "*"): (ci_shape.RunnerShape,),
    ("validate",): (validation_shape.ValidateShape,),
    ("validate", "security"): (validation_shape.SecurityShape,),
    ("signing",): (signing_shapes.SigningShape,),
    ("signing", "signers", "*"): (
        signing_shapes.KeyFileShape,
        signing_shapes.GpgShape,
        signing_shapes.KmsShape,
        signing_shapes.KeylessShape,
    ),
    ("signing", "encryption"): (signing_shapes.EncryptionShape,),
}
_WANTED = {
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}
_GIVEN = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A broken rule before its line and its suggestion are looked up, which takes long for thousands of them.

    Where `suggestion` is empty, the nearest to `name` of the `known` names is suggested.
    """

    path: KeyPath
    what: str
    suggestion: str = ""
    name: str = ""
    known: Iterable[str] = ()


def problems(drafts: Iterable[Draft], file: Path, lines: Lines) -> tuple[Problem, ...]:
    """Order the drafts by line and finish the first 200 of them; one last problem counts the others."""
    ordered = sorted(((lines.of(draft.path), draft) for draft in drafts), key=lambda pair: pair[0])
    finished = [
        Problem(
            file=str(file), line=line, key=key_path(draft.path), what=draft.what,
            suggestion=draft.suggestion or near_hint(draft.name, draft.known),
        )
        for line, draft in ordered[:MAX_SHOWN]
    ]  # fmt: skip
    if rest := len(ordered) - len(finished):
        finished.append(Problem(file=str(file), line=0, key="", what=f"{rest} more problems are not shown"))
    return tuple(finished)


def key_path(path: KeyPath) -> str:
    """Write a path as in `products.hello.smoke[0].run`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_quoted(part)}" for part in path).removeprefix(".")


def _quoted(part: str) -> str:
    short = cut(part)
    return short if _BARE.fullmatch(short) else json.dumps(short)


# --- shapes --------------------------------------------------------------------------------------------------------


def read_shapes(raw: Mapping[str, Any], drafts: list[Draft]) -> tuple[shapes.MatrixShape, frozenset[KeyPath]]:
    """Give the tables in their shapes, and the paths that had to be left out because of a draft added here.

    What is left out is left out so that the rules beyond shapes can be checked on all the rest in the same go.
    """
    rest: dict[str, Any] = {key: _copied(value) for key, value in raw.items()}
    left_out: set[KeyPath] = set()
    for round_ in range(_ROUNDS):
        try:
            return shapes.MatrixShape.model_validate(rest), frozenset(left_out)
        except ValidationError as error:
            details = error.errors(include_url=False)
        if round_ == 0:
            drafts.extend(_draft(detail) for detail in details)
        cuts = {_cut(detail) for detail in details}
        left_out |= cuts
        for path in cuts:
            _remove(rest, path)
    return shapes.MatrixShape.model_validate({"project": _STAND_IN}), frozenset({()})


def _copied(value: object) -> object:
    return {key: _copied(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _cut(detail: ErrorDetails) -> KeyPath:
    """Give the path to leave out: a key of a section, product or target, or one entry of env or mounts."""
    loc = tuple(part for part in detail["loc"] if part != _KEY)
    if detail["type"] == "missing":
        loc = loc[:-1] or loc
    if loc[0] not in {"products", "targets"}:
        return loc[:2]
    return loc[:4] if loc[2:3] in {("env",), ("mounts",)} else loc[:3]


def _remove(rest: dict[str, Any], cut: KeyPath) -> None:
    if cut == ("project",):
        rest["project"] = _STAND_IN
        return
    inner: Any = rest
    for part in cut[:-1]:
        inner = inner.get(part, {})
    inner.pop(cut[-1], None)


# --- words ---------------------------------------------------------------------------------------------------------


def _draft(detail: ErrorDetails) -> Draft:
    path = tuple(part for part in detail["loc"] if not is_tag(part) and part != _KEY)
    kind = detail["type"]
    if kind in _WANTED:
        given = _GIVEN.get(type(detail["input"]), "a date or time")
        return Draft(path=path, what=f"it must be {_WANTED[kind]}, not {given}")
    return _WORDS.get(kind, _other)(path, detail)


def _own(path: KeyPath, detail: ErrorDetails) -> Draft:
    return Draft(path=path, what=detail["msg"], suggestion=detail.get("ctx", {}).get("suggestion", ""))


def _missing(path: KeyPath, detail: ErrorDetails) -> Draft:  # noqa: ARG001 - one signature for the table below
    if path == ("project",):
        return Draft(path=path, what="the table [project] is missing", suggestion="it needs at least a name")
    return Draft(path=path, what="this key is missing")


def _unknown(path: KeyPath, detail: ErrorDetails) -> Draft:  # noqa: ARG001
    name = str(path[-1])
    # What another kind of this table has is no help here.
    known = [key for key in _known(path[:-1]) if key != name]
    what = f"there is no key {shown(name)} here" if len(path) > 1 else f"there is no table {shown(name)}"
    return Draft(path=path, what=what, name=name, known=known)


def _known(table: KeyPath) -> list[str]:
    """Give the keys of a table, or of all tables that can stand at its place."""
    general = tuple("*" if _varies(table, index) else part for index, part in enumerate(table))
    return list(dict.fromkeys(key for shape in _TABLES.get(general, ()) for key in _keys(shape)))


def _keys(shape: type[Shape]) -> list[str]:
    return [field.alias or name for name, field in shape.model_fields.items()]


def _varies(table: KeyPath, index: int) -> bool:
    return (
        isinstance(table[index], int)
        or (index == 1 and table[0] in {"products", "targets"})
        or table[:index] in {("ci", "runners"), ("engine", "nodes")}
    )


def _choice(path: KeyPath, detail: ErrorDetails) -> Draft:
    known = re.findall(r"'([^']*)'", str(detail["ctx"]["expected"]))
    given = detail["input"]
    name = given if isinstance(given, str) else ""
    return Draft(path=path, what=f"{shown(given)} is not one of {', '.join(known)}", name=name, known=known)


def _bound(path: KeyPath, detail: ErrorDetails) -> Draft:
    bounds = {"gt": "more than", "ge": "at least", "le": "at most", "lt": "less than"}
    words = " and ".join(f"{bounds[key]} {value:g}" for key, value in detail["ctx"].items() if key in bounds)
    return Draft(path=path, what=f"it must be {words}, not {shown(detail['input'])}")


def _other(path: KeyPath, detail: ErrorDetails) -> Draft:
    return Draft(path=path, what=detail["msg"])


_WORDS: dict[str, Callable[[KeyPath, ErrorDetails], Draft]] = {
    "relbuild": _own,
    "missing": _missing,
    "extra_forbidden": _unknown,
    "literal_error": _choice,
    "too_short": lambda path, _: Draft(path=path, what="there is no product, and at least one is needed"),
    **dict.fromkeys(("greater_than", "greater_than_equal", "less_than", "less_than_equal"), _bound),
}
