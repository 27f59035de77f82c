"""Reads in-toto statements with SLSA provenance v1, and holds them against the manifest and what is expected.

Formats: in-toto Statement v1 and ResourceDescriptor, SLSA provenance v1, build type urn:relbuild:build:cell:v1.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from orchestrator.verify.json_strict import (
    SHA256,
    SHA512,
    TEXT,
    BadJson,
    Shape,
    anything,
    boolean,
    check,
    exactly,
    integer,
    list_of,
    map_of,
    parse_canonical,
    record,
    text,
)
from orchestrator.verify.manifests import Listed, ReadManifest

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:relbuild:build:cell:v1"
BUILDERS: Final = tuple(f"urn:relbuild:builder:{name}:workstation" for name in ("container", "buildx", "local"))

_WORD = text(r"[^\x00]+", "text")
_DIGESTS = map_of(text(r"[0-9a-f]{8,128}", "digest"), keys=r"[A-Za-z0-9]{1,40}")
_RECIPES: Final[dict[object, Shape]] = {
    "command": record({"kind": exactly("command"), "toolchain": _WORD, "commands": list_of(list_of(TEXT)),
                       "script": TEXT}),
    "dockerfile": record({"kind": exactly("dockerfile"), "dockerfile": _WORD, "stage": TEXT,
                          "images": list_of(_WORD)}),
}  # fmt: skip
_ARCHIVES: Final[dict[object, Shape]] = {
    "file": record({"format": exactly("file")}),
    **dict.fromkeys(
        ("tar.gz", "zip"),
        record({"format": exactly("tar.gz", "zip"), "name": _WORD, "extra": list_of(_WORD)}),
    ),
}


def _one_of(shapes: Mapping[object, Shape], key: str) -> Shape:
    def look(value: object, where: str) -> None:
        chosen = value.get(key) if isinstance(value, dict) else None
        if not isinstance(chosen, str) or chosen not in shapes:
            raise BadJson(f"has no known {key!r} at {where.lstrip('.')}")
        shapes[chosen](value, where)

    return look


_EXTERNAL = record(
    {
        "project": _WORD,
        "version": _WORD,
        "product": _WORD,
        "target": _WORD,
        "recipe": _one_of(_RECIPES, "kind"),
        "environment": map_of(TEXT),
        "outputs": list_of(record({"glob": _WORD, "exactly_one": boolean})),
        "libc": record({"kind": _WORD, "floor": TEXT}),
        "network": boolean,
        "placement": exactly("native", "cross", "emulate"),
        "source": record({"uri": _WORD, "digest": _DIGESTS}),
        "epoch": integer,
        "archive": _one_of(_ARCHIVES, "format"),
    }
)
_INTERNAL = record(
    {"builder": _WORD, "isolation": TEXT, "engine": _WORD, "relbuild": _WORD, "cell_key": SHA256, "compressor": TEXT}
)
_DEPENDENCY = record({"name": _WORD}, {"uri": _WORD, "digest": _DIGESTS, "annotations": map_of(anything)})
_PREDICATE = record(
    {
        "buildDefinition": record(
            {
                "buildType": exactly(BUILD_TYPE),
                "externalParameters": _EXTERNAL,
                "internalParameters": _INTERNAL,
                "resolvedDependencies": list_of(_DEPENDENCY, most=10_000),
            }
        ),
        "runDetails": record(
            {
                "builder": record({"id": _WORD, "version": record({"relbuild": _WORD})}),
                "metadata": record({"invocationId": SHA256}),
                "byproducts": list_of(
                    record({"name": _WORD}, {"uri": TEXT, "digest": _DIGESTS, "mediaType": TEXT, "content": TEXT,
                                             "annotations": map_of(anything)}),
                ),
            }
        ),
    }
)  # fmt: skip
_STATEMENT = record(
    {
        "_type": exactly(STATEMENT_TYPE),
        "subject": list_of(record({"name": _WORD, "digest": record({"sha256": SHA256, "sha512": SHA512})}),
                           least=1, most=1),
        "predicateType": exactly(PREDICATE_TYPE),
        "predicate": _PREDICATE,
    }
)  # fmt: skip


def read_statement(data: bytes) -> Any:
    """Read a provenance statement. Raises BadJson in words that follow its name."""
    return check(parse_canonical(data), _STATEMENT)


def subject_problem(statement: Any, name: str, sha256: str, sha512: str) -> str:
    """Say how a statement's subject is not this file, or give an empty string."""
    (subject,) = statement["subject"]
    if subject != {"name": name, "digest": {"sha256": sha256, "sha512": sha512}}:
        return f"is about {subject['name'][:100]!r} (SHA-256 {subject['digest']['sha256'][:16]}...), not this artifact"
    return ""


def builder_of(statement: Any) -> str:
    """Give the builder id."""
    return str(statement["predicate"]["runDetails"]["builder"]["id"])


def commit_of(statement: Any) -> str:
    """Give the commit that was built; empty where there is none, or where files were changed since."""
    commit, dirty = _commit(statement["predicate"]["buildDefinition"])
    return "" if dirty else str(commit or "")


def source_uris(statement: Any) -> frozenset[str]:
    """Give the URIs that a source may be expected by: the project's, and those of the source without their folder."""
    definition = statement["predicate"]["buildDefinition"]
    named = [each["uri"] for each in definition["resolvedDependencies"]
             if each["name"] in {"project", "source tree", "outside source"} and "uri" in each]  # fmt: skip
    return frozenset(part for uri in (*named, definition["externalParameters"]["source"]["uri"])
                     for part in (uri, uri.partition("#")[0]))  # fmt: skip


def contradictions(statement: Any, artifact: Listed, manifest: ReadManifest) -> Iterator[str]:
    """Say what a statement tells otherwise than the manifest that was signed."""
    predicate = statement["predicate"]
    definition, details, made = predicate["buildDefinition"], predicate["runDetails"], artifact.entry["made"]
    external, internal = definition["externalParameters"], definition["internalParameters"]
    form = external["archive"]["format"]
    said: dict[str, tuple[object, object]] = {
        "project": (external["project"], manifest.project),
        "version": (external["version"], manifest.version),
        "product": (external["product"], artifact.entry["product"]),
        "target": (external["target"], artifact.entry["target"]),
        "placement": (external["placement"], made["placement"]),
        "epoch": (external["epoch"], manifest.epoch),
        "kind of archive": (form == "file", artifact.kind == "file"),
        "ending": (form == "file" or artifact.path.endswith(f".{form}"), True),
        "builder": (internal["builder"], made["builder"]),
        "builder id": (details["builder"]["id"], f"urn:relbuild:builder:{made['builder']}:workstation"),
        "cell key": (internal["cell_key"], made["key"]),
        "invocation": (details["metadata"]["invocationId"], made["key"]),
        "compressor": (internal["compressor"], artifact.entry.get("compressor", "")),
        "relbuild": (details["builder"]["version"]["relbuild"], internal["relbuild"]),
        "commit": (_commit(definition), _expected_commit(manifest)),
        **_digests_said(definition, made),
    }
    for what, (here, there) in said.items():
        if here != there:
            yield f"says {what} {str(here)[:100]!r}, and the manifest {str(there)[:100]!r}"


def _digests_said(definition: Any, made: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
    return {
        f"{name} digest": (_dependency_digest(definition, name), made[key]["digest"].removeprefix("sha256:"))
        for name, key in (("source tree", "source"), ("toolchain", "toolchain"))
    }


def _dependency_digest(definition: Any, name: str) -> object:
    found = [each for each in definition["resolvedDependencies"] if each["name"] == name]
    return found[0].get("digest", {}).get("sha256") if len(found) == 1 else f"of {len(found)} things"


def _commit(definition: Any) -> tuple[object, bool]:
    """Give the project's commit and whether files were changed since."""
    found = [each for each in definition["resolvedDependencies"] if each["name"] == "project"]
    if len(found) != 1:
        return ("", False) if not found else ("several", False)
    notes = found[0].get("annotations", {})
    if notes.get("dirty") is True:
        return str(notes.get("changed_since")), True
    return found[0].get("digest", {}).get("gitCommit"), False


def _expected_commit(manifest: ReadManifest) -> object:
    return manifest.commit, manifest.dirty and bool(manifest.commit)
