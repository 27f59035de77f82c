"""What Syft found in an artifact, in relbuild's own words.

Format: Syft's own JSON, schema 16 (https://github.com/anchore/syft/tree/main/schema/json).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

SCHEMA: Final = "relbuild/syft/v1"

_MAJOR: Final = "16."
_LICENSE_FIELDS: Final = ("spdxExpression", "value")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPackage:
    """A package inside an artifact. `paths` are the files that show it, each with a leading slash.

    `licenses` are SPDX expressions, `other_licenses` texts that are none. `go_sum` is the module's digest as go.sum
    writes it, which is no digest of any file.
    """

    key: str
    name: str
    version: str
    kind: str
    purl: str
    found_by: str
    paths: tuple[str, ...]
    cpes: tuple[str, ...]
    licenses: tuple[str, ...]
    other_licenses: tuple[str, ...]
    go_sum: str
    needs: tuple[str, ...]
    """Keys of the packages that this one depends on."""


def reduced(said: bytes) -> dict[str, Any]:
    """Keep of Syft's answer what the documents use, without times, paths of this machine and settings.

    Raises ValueError or KeyError for anything else than an answer of Syft.
    """
    answer = json.loads(said)
    if answer["descriptor"]["name"] != "syft" or not answer["schema"]["version"].startswith(_MAJOR):
        raise ValueError(f"schema {answer['schema']['version']} of {answer['descriptor']['name']}")
    packages = sorted((_row(row) for row in answer["artifacts"]), key=lambda row: (row["key"], row["id"]))
    keys = {row.pop("id"): row["key"] for row in packages}
    needs: dict[str, set[str]] = {}
    for link in answer["artifactRelationships"]:
        if link["type"] == "dependency-of" and {link["parent"], link["child"]} <= keys.keys():
            needs.setdefault(keys[link["child"]], set()).add(keys[link["parent"]])
    # Syft counts what is the same in all that is told here as one only where it is the same in everything.
    once = {row["key"]: {**row, "needs": sorted(needs.get(row["key"], set()) - {row["key"]})} for row in packages}
    return {"schema": SCHEMA, "syft": answer["descriptor"]["version"], "packages": list(once.values())}


def packages(kept: Mapping[str, Any]) -> tuple[FoundPackage, ...]:
    """Read packages as `reduced` wrote them. Raises ValueError, KeyError, TypeError for anything else."""
    if kept["schema"] != SCHEMA:
        raise ValueError(f"schema {kept['schema']}")
    found = tuple(_package(row) for row in kept["packages"])
    keys = {one.key for one in found}
    if len(keys) != len(found) or any(not keys.issuperset(one.needs) for one in found):
        raise ValueError("packages that do not hold together")
    return found


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    licenses = [[one.get(name) or "" for name in _LICENSE_FIELDS] for one in row["licenses"]]
    metadata = row.get("metadata") or {}
    kept: dict[str, Any] = {
        "name": row["name"], "version": row["version"], "kind": row["type"], "purl": row["purl"],
        "found_by": row["foundBy"], "paths": sorted({place["path"] for place in row["locations"]}),
        # Syft's first one is its best guess.
        "cpes": list(dict.fromkeys(one["cpe"] for one in row["cpes"])),
        "licenses": sorted({expression for expression, _ in licenses if expression}),
        "other_licenses": sorted({value for expression, value in licenses if value and not expression}),
        "go_sum": metadata.get("h1Digest") or "" if isinstance(metadata, dict) else "",
    }  # fmt: skip
    known = "\0".join([kept["name"], kept["version"], kept["kind"], kept["purl"], *kept["paths"]])
    return kept | {"key": hashlib.sha256(known.encode()).hexdigest()[:16], "id": row["id"]}


def _package(row: Mapping[str, Any]) -> FoundPackage:
    texts = ("key", "name", "version", "kind", "purl", "found_by", "go_sum")
    lists = ("paths", "cpes", "licenses", "other_licenses", "needs")
    if not all(_is_text(row[name]) for name in texts) or not all(_are_texts(row[name]) for name in lists):
        raise ValueError("not a package")
    values: dict[str, Any] = {name: row[name] for name in texts} | {name: tuple(row[name]) for name in lists}
    return FoundPackage(**values)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(_is_text(one) for one in value)


def needed(found: Iterable[FoundPackage]) -> frozenset[str]:
    """Give the keys of all packages that another one depends on."""
    return frozenset(key for one in found for key in one.needs)
