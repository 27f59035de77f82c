"""Evidence that is valid, but for something else: another artifact, another version, another key's release.

Two keys, each with two versions of two artifacts. Every piece of evidence of one is put in the place of every other of
its kind; only what was there before passes. Both versions have the same key, so that every signature stays good: what
fails is what it is about.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyrage import encrypt, x25519  # type: ignore[import-not-found,import-untyped,unused-ignore]  # a compiled module without types

from orchestrator.trust import VerificationResult
from orchestrator.verify import Expectations, judge_release, load_trust, summary_statement, verify_file, verify_release
from tests.unit.release_maker import NOW, EcdsaKey, MadeRelease, ecdsa_key, make_release, write_trust

KEYS = (ecdsa_key(1), ecdsa_key(2))
VERSIONS = ("1.2.3", "1.2.4")
PLACES = tuple(itertools.product(range(2), VERSIONS, range(2)))
"""Key, version, artifact."""

KINDS = {
    "{artifact}": {"DigestMismatch", "SignatureInvalid"},
    "{artifact}.sigstore.json": {"SignatureInvalid"},
    "{artifact}.spdx.json": {"DigestMismatch", "SbomInvalid"},
    "{artifact}.cdx.json": {"DigestMismatch", "SbomInvalid"},
    "{artifact}.provenance.json": {"DigestMismatch", "ProvenanceInvalid"},
    "{artifact}.intoto.jsonl": {"ProvenanceInvalid", "SummaryInvalid"},
    "{artifact}.age": {"SignatureInvalid", "EncryptionInvalid", "SummaryInvalid"},
    "{artifact}.age.sigstore.json": {"SignatureInvalid"},
    "manifest.json": {"SignatureInvalid", "DigestMismatch", "SbomInvalid", "ProvenanceInvalid", "EncryptionInvalid",
                      "ManifestInvalid", "SummaryInvalid", "TooFewSignatures"},
    "manifest.json.sigstore.json": {"SignatureInvalid"},
    "checksums.txt": {"DigestMismatch", "SignatureInvalid"},
    "checksums.txt.sigstore.json": {"SignatureInvalid"},
    "{version}.vsa.intoto.jsonl": {"SummaryInvalid"},
}  # fmt: skip
"""By kind of file: what may be said when another one of its kind, signed by the same key, stands in its place."""

MAIN = {
    "{artifact}": "DigestMismatch", "{artifact}.spdx.json": "SbomInvalid", "{artifact}.cdx.json": "SbomInvalid",
    "{artifact}.provenance.json": "ProvenanceInvalid", "{artifact}.intoto.jsonl": "ProvenanceInvalid",
    "checksums.txt": "DigestMismatch", "{version}.vsa.intoto.jsonl": "SummaryInvalid",
}  # fmt: skip
"""What must be said of each kind; of the others SignatureInvalid."""

OF_THE_RELEASE = {kind for kind in KINDS if "{artifact}" not in kind}
SIGNED_BY_ITSELF = {kind for kind in KINDS if kind.endswith((".sigstore.json", ".intoto.jsonl"))}
WANTED = Expectations(require_summary=True, require_encryption=True, require_artifact_signatures=True)


@dataclass(frozen=True)
class World:
    root: Path
    identity: x25519.Identity
    releases: dict[tuple[int, str], MadeRelease]

    def judge(self, key: int, version: str) -> VerificationResult:
        trust = load_trust(self.root / f"trust-{key}.json")
        return judge_release(self.releases[key, version].folder, trust, WANTED, NOW, (self.identity,))[0]

    def path(self, kind: str, place: tuple[int, str, int]) -> Path:
        key, version, artifact = place
        release = self.releases[key, version]
        return release.folder / kind.format(artifact=release.artifacts[artifact], version=version)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("swapped")
    identity = x25519.Identity.generate()
    releases = {}
    for key, version in itertools.product(range(2), VERSIONS):
        write_trust(root / f"trust-{key}.json", (KEYS[key],))
        releases[key, version] = whole(root / f"{key}-{version}", KEYS[key], version, identity)
    return World(root, identity, releases)


def whole(folder: Path, key: EcdsaKey, version: str, identity: x25519.Identity) -> MadeRelease:
    release = make_release(folder, version=version, keys=(key,), each_artifact=True, salt=key.spki)
    for name in release.artifacts:
        release.write(f"{name}.age", encrypt(release.read(name), [identity.to_public()]))
        release.sign(f"{name}.age")
    trust = load_trust(write_trust(folder.parent / "made.json", (key,)))
    verified = verify_release(folder, trust, Expectations(), NOW)
    release.attest(f"{version}.vsa.intoto.jsonl", summary_statement(verified, NOW))
    return release


def errors_of(result: VerificationResult) -> set[str]:
    return {each.error for each in result.evidence if each.error}


def test_every_release_holds_as_it_was_made(world: World) -> None:
    for key, version in world.releases:
        assert world.judge(key, version).passed


@pytest.mark.fault(54, 55, 56, 57, 58)
@pytest.mark.parametrize("kind", KINDS)
def test_only_its_own_evidence_counts(world: World, kind: str) -> None:
    for here, there in itertools.product(PLACES, PLACES):
        target, other = world.path(kind, here), world.path(kind, there)
        if target == other:
            continue
        mine = target.read_bytes()
        assert mine != other.read_bytes()
        try:
            target.write_bytes(other.read_bytes())
            result = world.judge(here[0], here[1])
        finally:
            target.write_bytes(mine)
        same_key = here[0] == there[0]
        expected = KINDS[kind] | (set() if same_key else {"UntrustedKey"})
        said = errors_of(result)
        assert said, f"{kind}: {there} passes for {here}"
        assert said <= expected, f"{kind}: {there} for {here}: {said}"
        if same_key:
            assert MAIN.get(kind, "SignatureInvalid") in said, f"{kind}: {there} for {here}: {said}"
        elif kind in SIGNED_BY_ITSELF:
            assert "UntrustedKey" in said


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - OF_THE_RELEASE))
def test_an_artifact_with_all_of_the_others_evidence(world: World, kind: str) -> None:
    """All evidence of one artifact under the names of the other, but for one piece: every mixture is refused."""
    here, there = (0, "1.2.3", 0), (0, "1.2.3", 1)
    kinds = [each for each in KINDS if each not in OF_THE_RELEASE and each != kind]
    kept = {each: world.path(each, here).read_bytes() for each in kinds}
    try:
        for each in kinds:
            world.path(each, here).write_bytes(world.path(each, there).read_bytes())
        assert not world.judge(0, "1.2.3").passed
    finally:
        for each, content in kept.items():
            world.path(each, here).write_bytes(content)
    assert world.judge(0, "1.2.3").passed


def test_a_whole_release_under_another_versions_expectation(world: World) -> None:
    trust = load_trust(world.root / "trust-0.json")
    for version, wanted in itertools.product(VERSIONS, VERSIONS):
        expectations = Expectations(version=wanted)
        result, _ = judge_release(world.releases[0, version].folder, trust, expectations, NOW)
        assert errors_of(result) == (set() if version == wanted else {"ManifestInvalid"})


@pytest.mark.fault(64)
def test_a_manifest_of_one_version_with_its_signature_and_the_files_of_another(world: World, tmp_path: Path) -> None:
    mixed = whole(tmp_path / "mixed", KEYS[0], "1.2.3", world.identity)
    for name in ("manifest.json", "manifest.json.sigstore.json", "checksums.txt", "checksums.txt.sigstore.json"):
        mixed.write(name, world.releases[0, "1.2.4"].read(name))
    result, verified = judge_release(mixed.folder, load_trust(world.root / "trust-0.json"), Expectations(), NOW)
    assert verified is None
    assert "DigestMismatch" in errors_of(result)
    assert "SignatureInvalid" not in errors_of(result)


def test_single_files_with_swapped_evidence(world: World) -> None:
    trust = load_trust(world.root / "trust-0.json")
    expected = {"{artifact}.sigstore.json": "SignatureInvalid", "{artifact}.intoto.jsonl": "ProvenanceInvalid",
                "{artifact}.spdx.json": "SbomInvalid", "{artifact}.cdx.json": "SbomInvalid",
                "{artifact}.provenance.json": "ProvenanceInvalid"}  # fmt: skip
    for kind, error in expected.items():
        for here, there in itertools.product((place for place in PLACES if place[0] == 0), repeat=2):
            target, mine = world.path(kind, here), world.path(kind, here).read_bytes()
            try:
                target.write_bytes(world.path(kind, there).read_bytes())
                said = errors_of(verify_file(world.path("{artifact}", here), trust, NOW))
            finally:
                target.write_bytes(mine)
            assert said == (set() if here == there else {error}), f"{kind}: {there} for {here}"
