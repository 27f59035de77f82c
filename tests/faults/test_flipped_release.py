"""Every file of a real release, made by the command line: one bit flipped, cut, longer, empty, gone, or one too many.

tests/unit/test_verify_tampering.py holds the same over releases that the tests make themselves; here the writer and the
reader are both ours, so that a field that both forgot would show.
"""

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.trust import ARMOR, BUNDLE, ENCRYPTED, VerificationResult
from orchestrator.verify import Expectations, TrustRoot, judge_release, load_trust
from tests.integration.test_trusted_release import (
    ARTIFACTS,
    SIGNED,
    Project,
    built,
    encrypting,
    identity_in,
)

OFFSETS = 20
ALLOWED = {
    "manifest.json": {"ManifestInvalid", "SignatureInvalid"},
    "checksums.txt": {"DigestMismatch", "SignatureInvalid"},
    ".sigstore.json": {"SignatureInvalid", "UntrustedKey"},
    ".asc": {"SignatureInvalid", "UntrustedKey"},
    ".vsa.intoto.jsonl": {"SignatureInvalid", "UntrustedKey", "SummaryInvalid"},
    ".intoto.jsonl": {"SignatureInvalid", "UntrustedKey", "ProvenanceInvalid"},
    ".provenance.json": {"DigestMismatch", "ProvenanceInvalid"},
    ".spdx.json": {"DigestMismatch", "SbomInvalid"},
    ".cdx.json": {"DigestMismatch", "SbomInvalid"},
    ".age": {"SignatureInvalid", "EncryptionInvalid", "SummaryInvalid"},
    "": {"DigestMismatch", "SignatureInvalid"},
}
"""By the ending of a file: the classes of what may be said of it, or of what signs it. The first that fits counts."""

CHANGES: Mapping[str, Callable[[bytes], bytes]] = {
    "cut by one": lambda content: content[:-1],
    "cut in half": lambda content: content[: len(content) // 2],
    "longer by a line feed": lambda content: content + b"\n",
    "longer by a zero": lambda content: content + b"\0",
    "empty": lambda content: b"",
}
GONE = {"DigestMismatch", "ManifestInvalid", "TooFewSignatures", "ProvenanceInvalid", "EncryptionInvalid",
        "SummaryInvalid"}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A release and what it is judged by. `names` are its files that this one is there to be changed in."""

    folder: Path
    trust: TrustRoot
    wanted: Expectations
    names: tuple[str, ...]

    def judge(self) -> tuple[VerificationResult, bool]:
        result, verified = judge_release(self.folder, self.trust, self.wanted, datetime.now(UTC))
        assert result.passed is (verified is not None)
        return result, result.passed

    def refusal(self, about: str) -> set[str]:
        """Judge it, and give the classes of what is said of a file or of what signs it. Nothing: it passed."""
        result, passed = self.judge()
        bad = {each.error: each for each in result.evidence if each.error}
        assert passed is not bool(bad)
        assert (result.exit_code == 0) is passed
        assert all(each.next_step and each.exit_code for each in bad.values())
        return {each.error for each in result.evidence if each.error and each.file.startswith(about)}


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Target, ...]:
    """Give copies of two releases: by both signers, and by the key file alone with encrypted copies.

    The second is judged without gpg and so much faster: the first is there for the signatures that only it has.
    """
    place = tmp_path_factory.mktemp("flipped")
    project = built(tmp_path_factory.getbasetemp())
    other = project.copy(place / "project", encrypting(identity_in(place).recipient, "keep"))
    assert "signed, read again and verified" in other.matrix()
    both, one = (shutil.copytree(each.release, place / name) for name, each in (("two", project), ("one", other)))
    wanted = {"require_summary": True, "require_artifact_signatures": True, "version": "1.2.3"}
    return (
        Target(both, trust_of(project), Expectations(**wanted), tuple(project.names(ARMOR))),  # type: ignore[arg-type]  # the keywords are the test's own
        Target(one, trust_of(other), Expectations(**wanted, require_encryption=True), tuple(other.names())),  # type: ignore[arg-type]  # the same
    )


def trust_of(project: Project) -> TrustRoot:
    return load_trust(project.keys / "trust.json")


def allowed(name: str) -> set[str]:
    return next(classes for ending, classes in ALLOWED.items() if name.endswith(ending))


def places(content: bytes) -> list[int]:
    """Give the first, the last and the middle byte, and others spread over the rest."""
    spread = (len(content) * step // (OFFSETS + 1) for step in range(1, OFFSETS + 1))
    return sorted({0, len(content) // 2, len(content) - 1, *spread})


def test_both_releases_hold_and_hold_every_kind_of_file(targets: tuple[Target, ...]) -> None:
    assert all(target.judge()[1] for target in targets)
    both, one = targets
    assert len(both.names) == len(SIGNED)
    assert len(one.names) == 5 + 4 * len(ARTIFACTS) + len(ARTIFACTS) + len(SIGNED) + 2 * len(ARTIFACTS)
    kinds = [ending for ending in ALLOWED if ending and any(name.endswith(ending) for name in both.names + one.names)]
    assert kinds == [ending for ending in ALLOWED if ending]


@pytest.mark.fault(52, 54, 57)
def test_one_flipped_bit_is_refused_wherever_it_is(targets: tuple[Target, ...]) -> None:
    tried = 0
    for target in targets:
        for name in target.names:
            path, chance = target.folder / name, random.Random(name)
            content = path.read_bytes()
            for at in places(content):
                changed = bytearray(content)
                changed[at] ^= 1 << chance.randrange(8)
                path.write_bytes(changed)
                said = target.refusal(name)
                assert said, f"{name}: byte {at} of {len(content)} may be {bytes(changed[at : at + 1])!r}"
                assert said <= allowed(name), f"{name}: byte {at}: {said}"
                tried += 1
            path.write_bytes(content)
    # Every file is long enough for all places to differ.
    assert tried == sum(len(target.names) for target in targets) * (OFFSETS + 3)
    assert tried == (len(SIGNED) + 31) * (OFFSETS + 3) == 828
    assert all(target.judge()[1] for target in targets)


@pytest.mark.fault(54, 55)
def test_another_length_is_refused(targets: tuple[Target, ...]) -> None:
    tried = 0
    for target in targets:
        for name in target.names:
            path = target.folder / name
            content = path.read_bytes()
            for kind, change in CHANGES.items():
                path.write_bytes(change(content))
                said = target.refusal(name)
                assert said, f"{name}: {kind} passes"
                # Without a line, or with half of one, a file of attestations is signed by nobody.
                assert said <= allowed(name) | {"TooFewSignatures"}, f"{name}: {kind}: {said}"
                tried += 1
            path.write_bytes(content)
    assert tried == 36 * len(CHANGES)


@pytest.mark.fault(55)
def test_a_file_that_is_gone_is_missed(targets: tuple[Target, ...]) -> None:
    for target in targets:
        for name in target.names:
            path = target.folder / name
            content = path.read_bytes()
            path.unlink()
            result, passed = target.judge()
            path.write_bytes(content)
            # One of two signatures may go: the threshold of this trust file is one.
            if name.endswith(ARMOR):
                assert passed, name
                continue
            said = {each.error for each in result.evidence if each.error}
            assert said, f"{name} is not missed"
            assert said <= GONE, f"{name}: {said}"


@pytest.mark.parametrize(
    "name",
    ["foreign", ".hidden", "hello_1.2.3_linux_riscv64.tar.gz", "manifest.json.bak", f"artifacts.json{BUNDLE}",
     f"manifest.json.0123456789ab{BUNDLE}", f"{ARTIFACTS[0]}.sig", "1.2.4.vsa.intoto.jsonl", f"foreign{ENCRYPTED}"],
)  # fmt: skip
def test_a_foreign_file_is_refused_and_named(targets: tuple[Target, ...], name: str) -> None:
    for target in targets:
        path = target.folder / name
        for content in (b"", b"foreign", (target.folder / ARTIFACTS[0]).read_bytes()):
            path.write_bytes(content)
            said = target.refusal(name)
            path.unlink()
            assert said, f"{name} may lie there"
            assert said <= {"DigestMismatch", "SignatureInvalid"}, f"{name}: {said}"


def test_links_and_folders_in_a_release_are_refused(targets: tuple[Target, ...]) -> None:
    for target in targets:
        (target.folder / "folder").mkdir()
        assert target.refusal("folder") == {"DigestMismatch"}
        (target.folder / "folder").rmdir()
        (target.folder / "link").symlink_to(ARTIFACTS[0])
        assert target.refusal("link") == {"DigestMismatch"}
        (target.folder / "link").unlink()
