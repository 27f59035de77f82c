"""Makes pairs of releases to compare: whole folders with real archives, changed as a test wants, and read as a Side."""

import copy
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.validate.runner import compare
from orchestrator.validate.sides import open_side
from orchestrator.validate.values import Compared, Side
from orchestrator.validation_rules import ValidationRules
from tests.unit import release_maker
from tests.unit.release_maker import MadeRelease, canonical, sha256

Change = Callable[[Any], object]
TARGETS = ("aarch64", "armv7")
HELLO = hashlib.sha256(b"hello\n").hexdigest()
RUNS = ({"run": ["bin/hello"], "exit": 0, "stdout_sha256": HELLO},)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is other than usual: documents and manifest entries of the targets named, of all where there is none."""

    spdx: Change | None = None
    cyclonedx: Change | None = None
    provenance: Change | None = None
    entry: Change | None = None
    targets: tuple[str, ...] = TARGETS
    made_for: tuple[str, ...] = TARGETS
    files: Mapping[str, bytes] = field(default_factory=lambda: {"bin/hello": b"hello"})


def make(folder: Path, version: str, changes: Changes | None = None) -> Path:
    """Write an unsigned release into `folder/version`."""
    wanted = changes or Changes()
    made = release_maker.make_release(folder / version, version=version, artifacts=len(TARGETS))
    manifest = json.loads(made.read("manifest.json"))
    manifest["artifacts"] = [each for each in manifest["artifacts"] if each["target"] in wanted.made_for]
    kept = {each["path"] for each in manifest["artifacts"]}
    manifest["documents"] = [each for each in manifest["documents"] if not each["of"] or each["of"] in kept]
    for entry in manifest["artifacts"]:
        entry["made"]["smoke"] |= {"tests": len(RUNS), "runs": copy.deepcopy(list(RUNS))}
        _pack(made, entry, wanted.files)
        if entry["target"] in wanted.targets and wanted.entry:
            wanted.entry(entry)
        for ending, change in _document_changes(wanted).items():
            if change and entry["target"] in wanted.targets:
                document = json.loads(made.read(f"{entry['path']}{ending}"))
                change(document)
                made.write(f"{entry['path']}{ending}", canonical(document))
    for document in manifest["documents"]:
        document.update(release_maker.sized(made, document["path"]))
    made.write("manifest.json", canonical(manifest))
    return made.folder


def _document_changes(changes: Changes) -> dict[str, Change | None]:
    return {".spdx.json": changes.spdx, ".cdx.json": changes.cyclonedx, ".provenance.json": changes.provenance}


def _pack(made: MadeRelease, entry: dict[str, Any], files: Mapping[str, bytes]) -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{entry['root']}/{name}")
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    made.write(entry["path"], packed.getvalue())
    entry |= release_maker.sized(made, entry["path"])
    entry["files"] = [
        {"path": name, "size": len(content), "sha256": sha256(content), "executable": True}
        for name, content in sorted(files.items())
    ]


def side(folder: Path, version: str, changes: Changes | None = None) -> Side:
    return open_side(make(folder, version, changes), folder / f"room {version}")


def pair(
    folder: Path, new: Changes | None = None, old: Changes | None = None, rules: ValidationRules | None = None
) -> Compared:
    """Give 1.1.0 beside 1.0.0."""
    return compare(side(folder, "1.1.0", new), side(folder, "1.0.0", old), rules or ValidationRules())


def first(folder: Path, new: Changes | None = None, rules: ValidationRules | None = None) -> Compared:
    """Give 1.0.0 with nothing beside it."""
    return compare(side(folder, "1.0.0", new), None, rules or ValidationRules())


def package(name: str, version: str, purl: str = "", license_: str = "NOASSERTION") -> dict[str, Any]:
    refs = [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}]
    return {
        "SPDXID": f"SPDXRef-{name}-{version}".replace("/", "-"), "name": name, "versionInfo": version,
        "downloadLocation": "NOASSERTION", "licenseDeclared": license_, "externalRefs": refs if purl else [],
    }  # fmt: skip


def with_packages(*packages: dict[str, Any], relation: str = "CONTAINS") -> Changes:
    """Put packages into both documents of each artifact."""

    def spdx(document: Any) -> None:
        for each in packages:
            document["packages"].append(each)
            ends = [each["SPDXID"], "SPDXRef-artifact"]
            one, other = ends if relation == "BUILD_TOOL_OF" else ends[::-1]
            document["relationships"].append(
                {"spdxElementId": one, "relationshipType": relation, "relatedSpdxElement": other}
            )

    def cyclonedx(document: Any) -> None:
        rows = [
            {
                "type": "library", "bom-ref": each["SPDXID"], "name": each["name"], "version": each["versionInfo"],
                **({"purl": each["externalRefs"][0]["referenceLocator"]} if each["externalRefs"] else {}),
            }
            for each in packages
        ]  # fmt: skip
        if relation == "CONTAINS":
            document["components"] += rows
        else:
            document["formulation"] = [{"bom-ref": "toolchain", "components": rows}]

    return Changes(spdx=spdx, cyclonedx=cyclonedx)
