"""Manifests, checksums, SBOMs and provenance that are well signed, and still not what they should be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.trust import VerificationResult
from orchestrator.verify import Expectations, judge_release, load_trust
from orchestrator.verify.sboms import refuse_other_sbom
from tests.unit.release_maker import (
    NOW,
    TARGETS,
    MadeRelease,
    canonical,
    cyclonedx,
    drop,
    ecdsa_key,
    finish,
    make_release,
    put,
    sha256,
    sha512,
    spdx,
    write_trust,
)

KEY = ecdsa_key(1)
Change = Callable[[Any], object]


def errors_of(result: VerificationResult) -> set[str]:
    return {each.error for each in result.evidence if each.error}


def judge(release: MadeRelease) -> VerificationResult:
    trust = load_trust(write_trust(release.folder.parent / "trust.json", (KEY,)))
    return judge_release(release.folder, trust, Expectations(), NOW)[0]


# --- manifests, all with good signatures -------------------------------------------------------------------------


BAD_MANIFESTS: dict[str, Change] = {
    "another schema": put("schema", value="relbuild/manifest/v2"),
    "an unknown field": put("more", value=1),
    "an unknown field of an artifact": put("artifacts", 0, "more", value=1),
    "no version": drop("version"),
    "a size as text": put("artifacts", 0, "size", value="1"),
    "a size as truth": put("artifacts", 0, "size", value=True),
    "a size below zero": put("artifacts", 0, "size", value=-1),
    "a digest in capitals": lambda manifest: manifest["artifacts"][0].update(sha256="A" * 64),
    "a short digest": put("artifacts", 0, "sha512", value="a" * 64),
    "a way up": put("artifacts", 0, "path", value=".."),
    "a slash": put("artifacts", 0, "path", value="a/b"),
    "a control character": put("artifacts", 0, "path", value="a\nb"),
    "an option": put("artifacts", 0, "path", value="-rf"),
    "a dot file": put("artifacts", 0, "path", value=".hidden"),
    "an artifact twice": lambda manifest: manifest["artifacts"].append(manifest["artifacts"][-1]),
    "artifacts out of order": lambda manifest: manifest["artifacts"].reverse(),
    "documents out of order": lambda manifest: manifest["documents"].reverse(),
    "one name in two cases": lambda manifest: manifest["artifacts"].insert(
        0, {**manifest["artifacts"][0], "path": manifest["artifacts"][0]["path"].replace("hello", "Hello")}
    ),
    "an artifact called manifest.json": put("artifacts", 1, "path", value="manifest.json"),
    "an artifact named like a signature": put("artifacts", 1, "path", value="z.sigstore.json"),
    "an artifact named like an attestation": put("artifacts", 1, "path", value="z.intoto.jsonl"),
    "no checksums": lambda manifest: manifest["documents"].pop(1),
    "a document of nothing": put("documents", 3, "of", value="other"),
    "a document of another artifact": put("documents", 3, "of", value="hello_1.2.3_linux_armv7.tar.gz"),
    "a paper that is not one": put("documents", 0, "path", value="a.json"),
    "no artifacts": put("artifacts", value=[]),
    "not an object": put("artifacts", 0, value=1),
    "an unknown kind": put("artifacts", 0, "kind", value=["archive"]),
}


@pytest.mark.fault(65)
@pytest.mark.parametrize("case", BAD_MANIFESTS)
def test_a_signed_manifest_that_is_none_is_refused(tmp_path: Path, case: str) -> None:
    release = make_release(tmp_path / "release")
    manifest = json.loads(release.read("manifest.json"))
    BAD_MANIFESTS[case](manifest)
    release.write("manifest.json", canonical(manifest))
    release.sign("manifest.json")
    assert errors_of(judge(release)) == {"ManifestInvalid"}


def test_signed_checksums_that_say_something_else_are_refused(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release")
    manifest = json.loads(release.read("manifest.json"))
    sums = release.read("checksums.txt")
    for changed in (sums.replace(b"  ", b" *"), b"".join(reversed(sums.splitlines(keepends=True))), sums + b"\n"):
        release.write("checksums.txt", changed)
        (entry,) = (each for each in manifest["documents"] if each["path"] == "checksums.txt")
        entry.update(size=len(changed), sha256=sha256(changed), sha512=sha512(changed))
        release.write("manifest.json", canonical(manifest))
        release.sign("manifest.json")
        release.sign("checksums.txt")
        bad = [each for each in judge(release).evidence if each.error]
        assert [(each.file, each.error) for each in bad] == [("checksums.txt", "DigestMismatch")]


@pytest.mark.parametrize(
    ("ending", "error"), [("manifest", "ManifestInvalid"), (".provenance.json", "ProvenanceInvalid")]
)
def test_a_signed_document_in_another_form_is_refused(tmp_path: Path, ending: str, error: str) -> None:
    release = make_release(tmp_path / "release", artifacts=1)
    name = "manifest.json" if ending == "manifest" else f"{release.artifacts[0]}{ending}"
    release.write(name, json.dumps(json.loads(release.read(name))).encode())
    if ending == "manifest":
        release.sign(name)
    else:
        finish(release, dict(zip(release.artifacts, TARGETS, strict=False)))
    assert errors_of(judge(release)) == {error}


# --- SBOMs -------------------------------------------------------------------------------------------------------

COMPONENT = ("metadata", "component")
BAD_SBOMS: dict[str, tuple[str, Change]] = {
    "another SPDX version": ("sbom-spdx", put("spdxVersion", value="SPDX-2.2")),
    "no name space": ("sbom-spdx", drop("documentNamespace")),
    "no packages": ("sbom-spdx", put("packages", value=[])),
    "one identifier twice": ("sbom-spdx", put("packages", 1, "SPDXID", value="SPDXRef-artifact")),
    "nothing described": ("sbom-spdx", put("relationships", 0, "relationshipType", value="CONTAINS")),
    "two things described": ("sbom-spdx", put("documentDescribes", value=["SPDXRef-zlib"])),
    "something described that is not there": ("sbom-spdx", put("relationships", 0, "relatedSpdxElement",
                                                               value="SPDXRef-none")),
    "no digest": ("sbom-spdx", drop("packages", 0, "checksums")),
    "another digest": ("sbom-spdx", put("packages", 0, "checksums", 0, "checksumValue", value="0" * 64)),
    "a digest of another length": ("sbom-spdx", put("packages", 0, "checksums", 0, "checksumValue", value="0" * 40)),
    "another SHA-512": ("sbom-spdx", lambda sbom: sbom["packages"][0]["checksums"].append(
        {"algorithm": "SHA512", "checksumValue": "0" * 128})),
    "two digests of one kind": ("sbom-spdx", lambda sbom: sbom["packages"][0]["checksums"].append(
        {"algorithm": "SHA256", "checksumValue": "0" * 64})),
    "another format": ("sbom-cyclonedx", put("bomFormat", value="SPDX")),
    "another CycloneDX version": ("sbom-cyclonedx", put("specVersion", value="2.0")),
    "no component": ("sbom-cyclonedx", drop(*COMPONENT)),
    "no hash": ("sbom-cyclonedx", drop(*COMPONENT, "hashes")),
    "another hash": ("sbom-cyclonedx", put(*COMPONENT, "hashes", 0, "content", value="0" * 64)),
    "one reference twice": ("sbom-cyclonedx", lambda sbom: sbom["components"].append(sbom["components"][0])),
    "a bad serial number": ("sbom-cyclonedx", put("serialNumber", value="1")),
}  # fmt: skip


@pytest.mark.fault(57)
@pytest.mark.parametrize("case", BAD_SBOMS)
def test_sboms_that_describe_something_else_are_refused(tmp_path: Path, case: str) -> None:
    kind, change = BAD_SBOMS[case]
    ending, make = (".spdx.json", spdx) if kind == "sbom-spdx" else (".cdx.json", cyclonedx)
    sbom = json.loads(make("name", b"content"))
    refuse_other_sbom(canonical(sbom), kind, sha256(b"content"), sha512(b"content"))
    release = make_release(tmp_path / "release", artifacts=1)
    name = f"{release.artifacts[0]}{ending}"
    sbom = json.loads(release.read(name))
    change(sbom)
    release.write(name, canonical(sbom))
    finish(release, dict(zip(release.artifacts, TARGETS, strict=False)))
    assert errors_of(judge(release)) == {"SbomInvalid"}


# --- provenance, all with good signatures ------------------------------------------------------------------------

DEFINITION, DETAILS = ("predicate", "buildDefinition"), ("predicate", "runDetails")
EXTERNAL, INTERNAL = (*DEFINITION, "externalParameters"), (*DEFINITION, "internalParameters")
DEPENDENCIES = (*DEFINITION, "resolvedDependencies")
BAD_STATEMENTS: dict[str, Change] = {
    "another type": put("_type", value="https://in-toto.io/Statement/v0.1"),
    "another predicate": put("predicateType", value="https://slsa.dev/provenance/v0.2"),
    "two subjects": lambda statement: statement["subject"].append(statement["subject"][0]),
    "another name": put("subject", 0, "name", value="other.tar.gz"),
    "another digest": put("subject", 0, "digest", "sha256", value="0" * 64),
    "another SHA-512": put("subject", 0, "digest", "sha512", value="0" * 128),
    "another build type": put(*DEFINITION, "buildType", value="urn:other"),
    "an unknown builder": put(*DETAILS, "builder", "id", value="urn:relbuild:builder:container:cloud"),
    "another known builder": put(*DETAILS, "builder", "id", value="urn:relbuild:builder:buildx:workstation"),
    "an unknown parameter": put(*EXTERNAL, "debug", value=True),
    "an unknown parameter of the recipe": put(*EXTERNAL, "recipe", "shell", value="sh"),
    "an unknown own parameter": put(*INTERNAL, "debug", value=True),
    "an unknown field": put("predicate", "more", value=1),
    "a missing parameter": drop(*EXTERNAL, "network"),
    **{f"another {name}": put(*EXTERNAL, name, value="other") for name in ("project", "version", "product", "target")},
    "another epoch": put(*EXTERNAL, "epoch", value=1),
    "another placement": put(*EXTERNAL, "placement", value="native"),
    "another archive": put(*EXTERNAL, "archive", "format", value="zip"),
    "another cell key": put(*INTERNAL, "cell_key", value="0" * 64),
    "another compressor": put(*INTERNAL, "compressor", value="pigz"),
    "another invocation": put(*DETAILS, "metadata", "invocationId", value="0" * 64),
    "another commit": put(*DEPENDENCIES, 0, "digest", "gitCommit", value="d" * 40),
    "no commit": drop(*DEPENDENCIES, 0),
    "a dirty commit": put(*DEPENDENCIES, 0, "annotations", value={"dirty": True, "changed_since": "c" * 40}),
    "two commits": lambda statement: statement["predicate"]["buildDefinition"]["resolvedDependencies"].append(
        {"name": "project", "uri": "x"}),
    "another source": put(*DEPENDENCIES, 1, "digest", "sha256", value="0" * 64),
    "no source": drop(*DEPENDENCIES, 1),
    "another toolchain": put(*DEPENDENCIES, 2, "digest", "sha256", value="0" * 64),
    "another relbuild": put(*INTERNAL, "relbuild", value="9.9.9"),
}  # fmt: skip


@pytest.mark.fault(58)
@pytest.mark.parametrize("case", BAD_STATEMENTS)
def test_signed_provenance_of_something_else_is_refused(tmp_path: Path, case: str) -> None:
    release = make_release(tmp_path / "release", artifacts=1)
    name = f"{release.artifacts[0]}.provenance.json"
    statement = json.loads(release.read(name))
    BAD_STATEMENTS[case](statement)
    release.write(name, canonical(statement))
    finish(release, dict(zip(release.artifacts, TARGETS, strict=False)))
    assert errors_of(judge(release)) == {"ProvenanceInvalid"}
