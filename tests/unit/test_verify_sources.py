"""A source archive needs no SBOM and no provenance; nothing else gets away with that by calling itself one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DigestMismatch, ManifestInvalid, TooFewSignatures, VerificationError
from orchestrator.policy import enforce
from orchestrator.policy_evidence import PolicyEvidence, PublishedArtifact
from orchestrator.publication import RuleOutcome
from orchestrator.publication_policy import PublicationPolicy
from orchestrator.publishing_evidence import gather, read_candidate
from orchestrator.trust import ENCRYPTED, VerifiedRelease
from orchestrator.verify import Expectations, load_trust, summary_statement, verify_release, with_summary
from tests.unit.release_maker import (
    COMMIT,
    COMPRESSOR,
    NOW,
    MadeRelease,
    canonical,
    drop,
    ecdsa_key,
    make_release,
    put,
    sha256,
    sha512,
    write_trust,
)

KEY = ecdsa_key(1)
VERSION = "1.2.3"
SOURCE = f"hello_{VERSION}_source.tar.gz"
Change = Callable[[Any], object]


def add_source(release: MadeRelease, *changes: Change, name: str = SOURCE, signed: bool = False) -> MadeRelease:
    """Put a source archive into a release, change its entry, and sign everything anew."""
    release.write(name, b"the commit's files")
    entry: dict[str, Any] = {
        "path": name, "kind": "source", "size": 18, "sha256": sha256(b"the commit's files"),
        "sha512": sha512(b"the commit's files"), "compressor": COMPRESSOR, "root": f"hello-{VERSION}",
        "commit": COMMIT, "tree": f"sha256:{'5' * 64}", "matrix": "matrix.toml",
    }  # fmt: skip
    for change in changes:
        change(entry)
    change_manifest(release, lambda manifest: manifest["artifacts"].append(entry))
    if signed:
        release.sign(name)
    return release


def change_manifest(release: MadeRelease, change: Change) -> None:
    """Change the manifest, write the checksums that go with it, and sign both."""
    manifest = json.loads(release.read("manifest.json"))
    change(manifest)
    manifest["artifacts"].sort(key=lambda entry: entry["path"].encode())
    summed = [*manifest["artifacts"], *(each for each in manifest["documents"] if each["of"])]
    for paper, algorithm in (("checksums.txt", "sha256"), ("checksums.sha512", "sha512")):
        lines = sorted((each["path"], each[algorithm]) for each in summed)
        release.write(paper, "".join(f"{digest}  {name}\n" for name, digest in lines).encode())
        (listed,) = (each for each in manifest["documents"] if each["path"] == paper)
        content = release.read(paper)
        listed |= {"size": len(content), "sha256": sha256(content), "sha512": sha512(content)}
    release.write("manifest.json", canonical(manifest))
    for name in ("manifest.json", "checksums.txt"):
        release.sign(name)


@pytest.fixture
def release(tmp_path: Path) -> MadeRelease:
    return make_release(tmp_path / VERSION)


def verified(release: MadeRelease, wanted: Expectations | None = None) -> VerifiedRelease:
    trust = load_trust(write_trust(release.folder.parent / "trust.json", (KEY,)))
    return verify_release(release.folder, trust, wanted or Expectations(version=VERSION), NOW)


# --- verifying ---------------------------------------------------------------------------------------------------


def test_it_is_verified_without_sbom_and_provenance(release: MadeRelease) -> None:
    result = verified(add_source(release)).result
    assert result.passed
    assert any(each.file == SOURCE and "promised bytes" in each.text for each in result.evidence)


def test_a_built_artifact_still_needs_them(release: MadeRelease) -> None:
    add_source(release)
    name = f"{release.artifacts[0]}.spdx.json"
    (release.folder / name).unlink()
    change_manifest(release, lambda manifest: manifest["documents"].remove(
        next(each for each in manifest["documents"] if each["path"] == name)))  # fmt: skip
    with pytest.raises(VerificationError, match="SBOM is asked for"):
        verified(release)


def test_other_bytes_are_refused(release: MadeRelease) -> None:
    add_source(release).write(SOURCE, b"the commit's Files")
    with pytest.raises(DigestMismatch, match=SOURCE):
        verified(release)


def test_its_signature_is_asked_for_like_any_others(tmp_path: Path, release: MadeRelease) -> None:
    wanted = Expectations(version=VERSION, require_artifact_signatures=True)
    each = make_release(tmp_path / "each" / VERSION, each_artifact=True)
    with pytest.raises(TooFewSignatures, match=SOURCE):
        verified(add_source(each), wanted)
    each.sign(SOURCE)
    assert verified(each, wanted).result.signature_verified


def test_its_encrypted_copy_is_asked_for_like_any_others(release: MadeRelease) -> None:
    add_source(release)
    with pytest.raises(VerificationError) as caught:
        verified(release, Expectations(version=VERSION, require_encryption=True))
    assert f"{SOURCE}{ENCRYPTED}" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([put("path", value="hello_1.2.3_linux_x86_64.deb")], "not named like one"),
        ([put("path", value=f"hello_{VERSION}_source.tar.xz")], "not named like one"),
        ([put("root", value="..")], "not named like one"),
        ([put("commit", value="d" * 40)], "another commit"),
        ([put("commit", value="")], "commit"),
        ([put("product", value="hello")], "product"),
        ([put("target", value="x86_64")], "target"),
        ([put("executable", value=True)], "executable"),
        ([drop("tree")], "tree"),
        ([put("kind", value="sources")], "known kind"),
    ],
)
def test_what_only_calls_itself_a_source_archive_is_refused(
    release: MadeRelease, changes: list[Change], said: str
) -> None:
    with pytest.raises((ManifestInvalid, VerificationError), match=said):
        verified(add_source(release, *changes))


def test_a_program_cannot_pass_for_a_source_archive(release: MadeRelease) -> None:
    """The kind of a built artifact is turned, and with it all that would have to be said of it."""
    name = release.artifacts[0]

    def turn(manifest: Any) -> None:
        (entry,) = (each for each in manifest["artifacts"] if each["path"] == name)
        for key in ("product", "target", "made", "files"):
            del entry[key]
        entry |= {"kind": "source", "commit": COMMIT, "tree": f"sha256:{'5' * 64}", "matrix": "matrix.toml"}
        manifest["documents"] = [each for each in manifest["documents"] if each["of"] != name]

    for ending in (".spdx.json", ".cdx.json", ".provenance.json", ".intoto.jsonl"):
        (release.folder / f"{name}{ending}").unlink()
    change_manifest(release, turn)
    with pytest.raises(ManifestInvalid, match="not named like one of this release"):
        verified(release)


def test_a_dirty_release_has_no_source_archive(release: MadeRelease) -> None:
    add_source(release)
    change_manifest(release, put("dirty", value=True))
    with pytest.raises(VerificationError, match="another commit"):
        verified(release)


def test_two_forms_hold_the_same_files(release: MadeRelease) -> None:
    add_source(release)
    other = f"hello_{VERSION}_source.zip"
    add_source(release, put("tree", value=f"sha256:{'6' * 64}"), name=other)
    with pytest.raises(ManifestInvalid, match="different files"):
        verified(release)


def test_a_release_is_more_than_its_source(release: MadeRelease) -> None:
    add_source(release)

    def drop_built(manifest: Any) -> None:
        manifest["artifacts"] = [each for each in manifest["artifacts"] if each["kind"] == "source"]
        manifest["documents"] = [each for each in manifest["documents"] if not each["of"]]

    change_manifest(release, drop_built)
    with pytest.raises((ManifestInvalid, VerificationError), match="no artifact that was built"):
        verified(release)


@pytest.mark.parametrize("ending", [".spdx.json", ".provenance.json", ".intoto.jsonl"])
def test_nothing_describes_it_beside_the_manifest(release: MadeRelease, ending: str) -> None:
    add_source(release).write(f"{SOURCE}{ending}", b"{}")
    with pytest.raises(VerificationError, match="foreign"):
        verified(release)


def test_a_listed_document_about_it_is_refused(release: MadeRelease) -> None:
    add_source(release).write(f"{SOURCE}.spdx.json", b"{}")
    document = {"path": f"{SOURCE}.spdx.json", "kind": "sbom-spdx", "of": SOURCE, "size": 2, "sha256": sha256(b"{}"),
                "sha512": sha512(b"{}")}  # fmt: skip

    def add(manifest: Any) -> None:
        manifest["documents"] = sorted([*manifest["documents"], document], key=lambda each: each["path"])

    change_manifest(release, add)
    with pytest.raises(VerificationError, match="not named after an artifact that was built"):
        verified(release)


def test_the_summary_claims_a_build_level_for_what_was_built_alone(release: MadeRelease) -> None:
    add_source(release)
    before = verified(release)
    statement = summary_statement(before, NOW)
    names = {subject["name"] for subject in json.loads(statement)["subject"]}
    assert names == {"manifest.json", *release.artifacts}
    release.attest(f"{VERSION}.vsa.intoto.jsonl", statement)
    trust = load_trust(write_trust(release.folder.parent / "trust.json", (KEY,)))
    assert with_summary(before, release.folder / f"{VERSION}.vsa.intoto.jsonl", trust, NOW).result.passed
    assert verified(release, Expectations(version=VERSION, require_summary=True)).result.passed


# --- the policy --------------------------------------------------------------------------------------------------


def judged(evidence: PolicyEvidence, rule: str) -> RuleOutcome:
    judgement = enforce(PublicationPolicy.STRICT.requiring("encryption"), evidence)
    return next(each for each in judgement.outcomes if each.rule == rule)


@pytest.mark.parametrize("rule", ["sbom", "provenance", "targets", "manifest", "signatures"])
def test_the_policy_asks_of_it_what_it_can_have(release: MadeRelease, rule: str) -> None:
    add_source(release)
    candidate = read_candidate(release.folder)
    evidence = gather(
        candidate, verified(release).result, attested=True, taken="", required=frozenset({"aarch64", "armv7"}),
        validation=None, earlier=None,
    )  # fmt: skip
    assert {each.path for each in evidence.artifacts if each.source} == {SOURCE}
    assert judged(evidence, rule).passed, judged(evidence, rule).text
    encryption = judged(evidence, "encryption")
    assert not encryption.passed
    assert SOURCE in encryption.text


@pytest.mark.parametrize("rule", ["sbom", "provenance"])
def test_sources_alone_fulfil_no_rule_about_what_was_built(release: MadeRelease, rule: str) -> None:
    candidate = read_candidate(add_source(release).folder)
    evidence = gather(candidate, verified(release).result, attested=True, taken="", required=frozenset(),
                      validation=None, earlier=None)  # fmt: skip
    source = PublishedArtifact(path=SOURCE, target="", sbom=False, provenance=False, encrypted=False, source=True)
    lonely = {**{name: getattr(evidence, name) for name in evidence.__slots__}, "artifacts": (source,)}
    assert not judged(PolicyEvidence(**lonely), rule).passed
