"""Holds what the SBOMs of a release list against an offline database of known vulnerabilities."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.validate import osv
from orchestrator.validate.ecosystems import Known, known, unasked
from orchestrator.validate.osv import Answer, Hit
from orchestrator.validate.values import EVERYWHERE, Compared, Finding, Gap, Released
from orchestrator.validation_rules import Severity

_RULE = "vulnerability"
_UNSEEN = "vulnerabilities"
_SHOWN = 5


def vulnerabilities(compared: Compared) -> Iterator[Finding | Gap | str]:
    """Give findings, gaps and notes. Raises ValidationFailed where the database cannot be read.

    The packages are those inside of an artifact and the source that it was built from, not those of its compiler.
    """
    if compared.rules.security.vulnerabilities is Severity.IGNORE:
        yield 'known vulnerabilities are not looked for: security.vulnerabilities is "ignore"'
        return
    if compared.rules.osv_database is None:
        reason = "no OSV database is given, so that nobody looked for known vulnerabilities: [validate] osv_database"
        yield Gap(rule=_UNSEEN, place=EVERYWHERE, reason=reason)
        return
    listed = [(each, _purls(each)) for each in compared.new.artifacts]
    packages = {purl: package for _, purls in listed for purl in purls or () if (package := known(purl))}
    answer = osv.ask(compared.rules.osv_database, sorted(set(packages.values()), key=str))
    yield f"{answer.entries:,} entries of the OSV database, the newest of {answer.newest or 'an unknown day'}"
    said: list[Finding | Gap | str] = []
    for artifact, purls in listed:
        if purls is None:
            reason = f"{artifact.path} has no SBOM, so that nobody knows its packages"
            said.append(Gap(rule=_UNSEEN, place=artifact.place, reason=reason))
        else:
            said += _judged(artifact, purls, packages, answer, compared.rules.security.vulnerabilities)
    yield from dict.fromkeys(said)  # artifacts of one cell often hold the same packages


def _judged(
    artifact: Released, purls: Sequence[str], packages: Mapping[str, Known], answer: Answer, severity: Severity
) -> Iterator[Finding | Gap | str]:
    place, mine = artifact.place, {packages[purl] for purl in purls if purl in packages}
    for hit in answer.hits:
        if hit.package in mine:
            yield Finding(rule=_RULE, place=f"{place}: {hit.entry}", text=_told(hit), severity=severity)
    for ecosystem in sorted({each.ecosystem for each in mine} - answer.ecosystems):
        names = ", ".join(sorted(each.name for each in mine if each.ecosystem == ecosystem)[:10])
        yield Gap(rule=_UNSEEN, place=place, reason=f"the OSV database has nothing about {ecosystem}: {names}")
    yield from _unheld(artifact, sorted(set(purls) - packages.keys()))
    yield f"{place}: {artifact.path}: {len(mine)} packages were held against the OSV database"


def _unheld(artifact: Released, purls: Sequence[str]) -> Iterator[Gap | str]:
    """Tell which packages nobody asked for: a gap where OSV may know them, a note where it has none of their type."""
    reasons = {purl: unasked(purl) for purl in purls}
    for reason in sorted({each for each in reasons.values() if each}):
        shown = _shown([purl for purl in purls if reasons[purl] == reason])
        text = f"OSV was not asked for {shown}: {reason}"
        yield Gap(rule=_UNSEEN, place=artifact.place, reason=text)
    others = [purl for purl in purls if not reasons[purl]]
    if others:
        named = f"{artifact.place}: {artifact.path}"
        yield f"{named}: {len(others)} packages are of no ecosystem that OSV has: {_shown(others)}"


def _shown(purls: Sequence[str]) -> str:
    more = len(purls) - _SHOWN
    return ", ".join(purls[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _told(hit: Hit) -> str:
    names = ", ".join(hit.aliases)
    text = f"{hit.package.name} {hit.package.version} ({hit.package.ecosystem}) has {hit.entry}"
    text += (f" ({names})" if names else "") + (f": {hit.summary}" if hit.summary else "")
    text += f"; fixed in {', '.join(hit.fixed)}" if hit.fixed else "; no fixed version is known"
    return text if hit.sure else f"{text}; whether this version is affected cannot be told here: look it up"


def _purls(artifact: Released) -> list[str] | None:
    """Give the package URLs of an artifact's SBOM, those of files and of the toolchain left out; None without one."""
    if artifact.cyclonedx:
        return _of_cyclonedx(artifact.cyclonedx)
    return _of_spdx(artifact.spdx) if artifact.spdx else None


def _of_cyclonedx(document: Mapping[str, Any]) -> list[str]:
    itself = document["metadata"]["component"]
    rows = [*document.get("components", ()), *itself.get("pedigree", {}).get("ancestors", ())]
    return sorted({str(row.get("purl") or _unnamed(row)) for row in rows if row["type"] != "file"})


def _of_spdx(document: Mapping[str, Any]) -> list[str]:
    links = document["relationships"]
    left_out = {each["spdxElementId"] for each in links if each["relationshipType"] == "BUILD_TOOL_OF"}
    left_out |= {each["relatedSpdxElement"] for each in links if each["relationshipType"] == "DESCRIBES"}
    found = set()
    for row in document["packages"]:
        if row["SPDXID"] not in left_out:
            urls = [each["referenceLocator"] for each in row.get("externalRefs", ()) if each["referenceType"] == "purl"]
            found.add(urls[0] if urls else _unnamed(row))
    return sorted(found)


def _unnamed(row: Mapping[str, Any]) -> str:
    return f"{row['name']} {row.get('version') or row.get('versionInfo', '')}".strip()
