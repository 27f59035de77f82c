"""BuildKit's own provenance, as much of it as two runs on two machines share.

Formats: SLSA provenance v0.2 and v1 with buildType https://mobyproject.org/buildkit@v1 and
https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.canonical import Json, canonical_json
from orchestrator.errors import StagingError

DOCUMENT: Final = "buildkit-provenance.json"
_MOST_BYTES = 1 << 20
"""A longer account is named by its digest only, so that the attestation stays in bounds."""

_ALL: Final[Mapping[str, Any]] = {}
_REQUEST = {"frontend": _ALL, "args": _ALL, "locals": _ALL}
_STEPS = {"llbDefinition": _ALL}
_KEPT: Final[Mapping[str, Mapping[str, Any]]] = {
    "https://slsa.dev/provenance/v0.2": {
        "buildType": _ALL, "materials": _ALL, "buildConfig": _STEPS, "metadata": {"completeness": _ALL},
        "invocation": {"configSource": {"entryPoint": _ALL}, "parameters": _REQUEST},
    },
    "https://slsa.dev/provenance/v1": {
        "buildDefinition": {
            "buildType": _ALL, "resolvedDependencies": _ALL, "internalParameters": {"buildConfig": _STEPS},
            "externalParameters": {"configSource": {"path": _ALL}, "request": _REQUEST},
        },
    },
}  # fmt: skip
"""By predicate type: what depends on the recipe and its inputs alone. An empty table keeps all below a name."""

_VOLATILE = re.compile(
    r"no-cache|vcs:.*|attest:.*|cache-.*|local-?sessionid.*|local\.(sessionid|uniqueid|sharedkeyhint|differ)"
)
"""Names of settings that differ from run to run, or tell of the machine, and decide no byte of the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What BuildKit says: its predicate without what is volatile, and the images and files that it fetched."""

    predicate_type: str
    predicate: Json
    materials: tuple[tuple[str, Mapping[str, str]], ...]
    """URI and digests, sorted."""


def read_account(content: bytes, cell_id: str) -> Account:
    """Read BuildKit's statement. Raises StagingError for one whose form is not known."""
    try:
        data = json.loads(content, parse_constant=_refuse_constant)
        kind = data["predicateType"]
        predicate = _steady(_picked(data["predicate"], _KEPT[kind]))
        materials = _materials(data["predicate"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StagingError(
            f"{cell_id}: BuildKit's provenance has a form that is not known ({type(error).__name__}: {error})",
            next_step="`--clean` builds the cell anew; an engine that is newer than relbuild may need a newer relbuild",
        ) from error
    return Account(predicate_type=kind, predicate=predicate, materials=materials)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def byproduct(predicate_type: str, predicate: Json) -> dict[str, Json]:
    """Word the account as a resource descriptor; its digest is that of the document in canonical JSON."""
    document: dict[str, Json] = {"predicateType": predicate_type, "predicate": predicate}
    text = canonical_json(document)
    whole: dict[str, Json] = {"document": document} if len(text) <= _MOST_BYTES else {"left_out": "too long"}
    return {
        "name": DOCUMENT,
        "mediaType": "application/json",
        "digest": {"sha256": hashlib.sha256(text).hexdigest()},
        "annotations": whole,
    }


def _picked(value: Any, kept: Mapping[str, Any]) -> Any:
    if not kept:
        return value
    return {name: _picked(value[name], below) for name, below in kept.items() if name in value}


def _steady(value: Any) -> Json:
    """Leave volatile settings out."""
    if isinstance(value, dict):
        return {name: _steady(item) for name, item in value.items() if not _VOLATILE.fullmatch(name)}
    if isinstance(value, list):
        return [_steady(item) for item in value]
    return value  # type: ignore[no-any-return]  # json.loads gives nothing else


def _materials(predicate: Mapping[str, Any]) -> tuple[tuple[str, Mapping[str, str]], ...]:
    listed = predicate.get("materials") or predicate.get("buildDefinition", {}).get("resolvedDependencies") or []
    found = ((str(each["uri"]), {str(k): str(v) for k, v in each.get("digest", {}).items()}) for each in listed)
    return tuple(sorted(found, key=lambda material: (material[0], sorted(material[1].items()))))
