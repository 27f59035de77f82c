"""Compares what two releases are made of, by their SBOMs: no way back, no denied licence, not too much that is new."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key, partial
from typing import Final

from orchestrator.validate import licenses, versions
from orchestrator.validate.packages import Listing, Package, Scope, of_cyclonedx, of_spdx
from orchestrator.validate.values import (
    EVERYWHERE,
    FIRST_RELEASE,
    Compared,
    Finding,
    Gap,
    Outcome,
    Pair,
    Released,
    outcome_of,
)
from orchestrator.validation_rules import ValidationRules

_Key = tuple[Scope, str, str]
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lists:
    """What an artifact has now and had before. Without an earlier one, `old` holds what any other artifact had."""

    pair: Pair
    new: Listing
    old: Listing

    @property
    def place(self) -> str:
        return self.pair.new.place

    @property
    def replaces(self) -> bool:
        return self.pair.old is not None


def check(compared: Compared) -> Outcome:
    """Judge packages added, removed, up- and downgraded, and their licences."""
    read = [_lists(pair, _all_of(compared)) for pair in compared.pairs]
    lists = [each for each in read if isinstance(each, _Lists)]
    gaps = [each for each in read if isinstance(each, Gap)]
    findings: list[Finding] = []
    notes = [] if compared.old else [FIRST_RELEASE]
    for each in lists:
        findings += _contradictions(each.pair.new)
        findings += _downgrades(each) if each.replaces else ()
        denied, unknown = _license_rules(each, compared.rules)
        findings, gaps = [*findings, *denied], [*gaps, *unknown]
        notes += _changes(each) if each.replaces else ()
    if compared.old:
        findings += _too_many(lists, compared.rules.max_new_packages)
    return outcome_of(findings, gaps, notes)


# --- reading -----------------------------------------------------------------------------------------------------


def _listing(artifact: Released) -> Listing | None:
    if artifact.spdx:
        return of_spdx(artifact.spdx)
    return of_cyclonedx(artifact.cyclonedx) if artifact.cyclonedx else None


def _all_of(compared: Compared) -> Listing:
    found = [_listing(each) for each in compared.old.artifacts] if compared.old else []
    return Listing(packages=tuple(package for each in found if each for package in each.packages))


def _lists(pair: Pair, anywhere: Listing) -> _Lists | Gap:
    new = _listing(pair.new)
    old = _listing(pair.old) if pair.old else anywhere
    if new is None or old is None:
        which = "it" if new is None else "the one of the baseline"
        return Gap(rule="sbom", place=pair.new.place, reason=f"{which} has no SBOM")
    return _Lists(pair=pair, new=new, old=old)


def _contradictions(artifact: Released) -> Iterator[Finding]:
    """Object to two documents of one artifact that tell of different packages."""
    if not artifact.spdx or not artifact.cyclonedx:
        return
    one, other = ({(each.name, each.version) for each in read.of(Scope.INSIDE)}
                  for read in (of_spdx(artifact.spdx), of_cyclonedx(artifact.cyclonedx)))  # fmt: skip
    if odd := one ^ other:
        shown = _listed(f"{name} {version}".strip() for name, version in odd)
        yield Finding(rule="documents_differ", place=artifact.place, text=f"only one of its SBOMs names {shown}")


# --- rules -------------------------------------------------------------------------------------------------------


def _downgrades(lists: _Lists) -> Iterator[Finding]:
    old = _versions(lists.old)
    for key, found in _versions(lists.new).items():
        before = old.get(key)
        if key[0] is Scope.ARTIFACT or not before or versions.compare(key[1], found[-1], before[-1]) >= 0:
            continue
        rule = "tool_downgraded" if key[0] is Scope.TOOL else "downgraded"
        text = f"{key[0]} {key[2]} went back from {before[-1]} to {found[-1]}"
        yield Finding(rule=rule, place=f"{lists.place}: {key[2]}", text=text)


def _versions(listing: Listing) -> dict[_Key, list[str]]:
    """Give the versions that are there of each package and can be ordered, the newest last."""
    found: dict[_Key, set[str]] = {}
    for each in listing.packages:
        if each.version and versions.has_order(each.version):
            found.setdefault(each.key, set()).add(each.version)
    return {key: sorted(each, key=cmp_to_key(partial(versions.compare, key[1]))) for key, each in found.items()}


def _license_rules(lists: _Lists, rules: ValidationRules) -> tuple[list[Finding], list[Gap]]:
    """Object to licences that are denied and were not there before. Build tools are not given to anybody."""
    findings: list[Finding] = []
    gaps: list[Gap] = []
    if not rules.denied_licenses:
        return findings, gaps
    before = {(each.key, each.license) for each in lists.old.packages}
    for each in lists.new.of(Scope.ARTIFACT, Scope.INSIDE, Scope.SOURCE):
        place = f"{lists.place}: {each.name}"
        if (each.key, each.license) in before:
            continue
        if not each.license and each.scope is not Scope.SOURCE:
            gaps.append(Gap(rule="license_unknown", place=place, reason="it is new, and nobody says its licence"))
        elif name := licenses.denied_by(each.license, rules.denied_licenses, lists.new.licenses):
            text = f"{each.scope} {each.name} {each.version} is under {name}, which is denied"
            findings.append(Finding(rule="license_denied", place=place, text=text))
    return findings, gaps


def _too_many(lists: Sequence[_Lists], most: int) -> Iterator[Finding]:
    added = {key[2] for each in lists for key in _keys(each.new) - _keys(each.old)}
    if len(added) > most:
        text = f"{len(added)} packages are new, and at most {most} may be: {_listed(added)}"
        yield Finding(rule="new_packages", place=EVERYWHERE, text=text)


def _keys(listing: Listing) -> set[_Key]:
    return {each.key for each in listing.of(Scope.INSIDE)}


# --- what changed ------------------------------------------------------------------------------------------------


def _changes(lists: _Lists) -> Iterator[str]:
    new, old = _grouped(lists.new), _grouped(lists.old)
    for key in sorted(new.keys() | old.keys()):
        what = f"{lists.place}: {key[0]} {key[2]}"
        after, before = new.get(key, []), old.get(key, [])
        if not before or not after:
            yield f"{what} {_shown(after or before)} {'added' if after else 'removed'}"
            continue
        if _shown(after) != _shown(before):
            yield f"{what} changed from {_shown(before)} to {_shown(after)}"
        if (now := {each.license for each in after}) != (then := {each.license for each in before}):
            yield f"{what}: licence changed from {_listed(then)} to {_listed(now)}"


def _grouped(listing: Listing) -> Mapping[_Key, list[Package]]:
    found: dict[_Key, list[Package]] = {}
    for each in listing.packages:
        if each.scope is not Scope.ARTIFACT:
            found.setdefault(each.key, []).append(each)
    return found


def _shown(packages: Iterable[Package]) -> str:
    return _listed({each.version for each in packages})


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(each or "nothing" for each in names)
    rest = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + rest
