"""Compares how two releases were built, by their provenance: builder, source, toolchain and what was asked for."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from orchestrator.validate.values import FIRST_RELEASE, Compared, Finding, Gap, Outcome, Released, outcome_of
from orchestrator.validation_rules import Change, Severity, ValidationRules

Facts = Mapping[str, str]
_OF_THE_RELEASE: Final = ("project", "version", "product", "target", "epoch", "source")
"""External parameters that say which release it is; the source has a rule of its own."""
_OF_THE_BUILDER: Final = ("builder", "isolation", "engine", "compressor")
_TOOLS: Final = re.compile(r"toolchain|image .*|buildkit material")
_VERSION: Final = re.compile(r"(pkg:.*|docker-image://.*)@[^?#/]+(?:\?[^#]*)?(.*)")
"""What says which version of a package or an image a URI names; an address may hold an "@" of another meaning."""
_SHOWN: Final = 200


def check(compared: Compared) -> Outcome:
    """List each change of builder, build type, source repository, toolchain and parameters; policy allows kinds."""
    gaps = [
        Gap(rule="provenance", place=each.place, reason=f"{side} has no provenance")
        for side, artifact in (("it", "new"), ("the one of the baseline", "old"))
        for pair in compared.pairs
        if (each := getattr(pair, artifact)) is not None and not each.provenance
    ]
    if compared.old is None:
        return outcome_of([], gaps, [FIRST_RELEASE])
    findings = []
    for pair in compared.pairs:
        if pair.old is None:
            findings += [*_strangers(pair.new, compared.old.artifacts)]
        elif pair.new.provenance and pair.old.provenance:
            findings += [*_changes(pair.new, pair.old)]
    return outcome_of(
        [each for each in findings if not _allowed(each, compared.rules)], gaps,
        [f"{each.place}: {each.text} (allowed: {each.rule})" for each in findings if _allowed(each, compared.rules)],
    )  # fmt: skip


def _allowed(finding: Finding, rules: ValidationRules) -> bool:
    return finding.severity is Severity.ERROR and Change(finding.rule) in rules.allow_changes


def _changes(new: Released, old: Released) -> Iterator[Finding]:
    for change, facts_of in _FACTS.items():
        now, then = facts_of(new.provenance), facts_of(old.provenance)
        for name in sorted(now.keys() | then.keys()):
            if now.get(name) != then.get(name):
                text = f"{name} changed from {_shown(then.get(name))} to {_shown(now.get(name))}"
                yield Finding(rule=change.value, place=new.place, text=text)


def _strangers(new: Released, olds: tuple[Released, ...]) -> Iterator[Finding]:
    """Object to a new artifact by a builder or from a place that the baseline does not know at all."""
    for change in (Change.BUILDER, Change.BUILD_TYPE, Change.SOURCE):
        known = {item for old in olds if old.provenance for item in _FACTS[change](old.provenance).items()}
        for name, value in _FACTS[change](new.provenance).items() if new.provenance else ():
            if (name, value) not in known:
                text = f"{name} is {_shown(value)}, which nothing in the baseline has"
                yield Finding(rule=change.value, place=new.place, text=text)


# --- facts -------------------------------------------------------------------------------------------------------


def _builder(statement: Mapping[str, Any]) -> Facts:
    return {"builder id": str(statement["predicate"]["runDetails"]["builder"]["id"])}


def _build_type(statement: Mapping[str, Any]) -> Facts:
    return {"build type": str(_definition(statement)["buildType"])}


def _source(statement: Mapping[str, Any]) -> Facts:
    """Name where the source comes from, without what only says which version of it."""
    source = {"source repository": _definition(statement)["externalParameters"]["source"]["uri"]}
    others = {
        f"{each['name']} repository": each["uri"]
        for each in _dependencies(statement)
        if each["name"] == "project" or each["name"].startswith("mount ")
    }
    return {name: _unversioned(str(uri)) for name, uri in (source | others).items()}


def _toolchain(statement: Mapping[str, Any]) -> Facts:
    """Give the digests of all that compiles: toolchain, base images, what BuildKit fetched."""
    found: dict[str, list[str]] = {}
    for each in _dependencies(statement):
        if _TOOLS.fullmatch(each["name"]):
            # An image is named with its digest; it is the same image when the digest changes.
            name = f"{each['name'].partition(' ')[0]} {_unversioned(str(each.get('uri', '')))}"
            found.setdefault(name, []).append(_flat(each.get("digest") or each.get("annotations") or {}))
    return {name: " ".join(sorted(each)) for name, each in found.items()}


def _parameters(statement: Mapping[str, Any]) -> Facts:
    definition = _definition(statement)
    asked = {key: value for key, value in definition["externalParameters"].items() if key not in _OF_THE_RELEASE}
    own = {key: value for key, value in definition["internalParameters"].items() if key in _OF_THE_BUILDER}
    return dict(_leaves(asked, "parameter ")) | dict(_leaves(own, "internal parameter "))


_FACTS: Final[Mapping[Change, Callable[[Mapping[str, Any]], Facts]]] = {
    Change.BUILDER: _builder,
    Change.BUILD_TYPE: _build_type,
    Change.SOURCE: _source,
    Change.TOOLCHAIN: _toolchain,
    Change.PARAMETERS: _parameters,
}


def _definition(statement: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = statement["predicate"]["buildDefinition"]
    return found


def _dependencies(statement: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = _definition(statement)["resolvedDependencies"]
    return found


def _unversioned(uri: str) -> str:
    found = _VERSION.fullmatch(uri)
    return f"{found[1]}{found[2]}" if found else uri


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}{key}" if name.endswith(" ") else f"{name}.{key}")
    else:
        yield name, _flat(value)


def _flat(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _shown(text: str | None) -> str:
    if text is None:
        return "nothing"
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r} and {len(text) - _SHOWN} characters more"
