"""What bench/publish.py publishes, and with what: generated releases, a publisher with keys in files, a full index."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bench.index import filled
from orchestrator.canonical import Json, canonical_json
from orchestrator.events import Event
from orchestrator.policy import RULES, enforce
from orchestrator.policy_evidence import Approval, GateReport, PolicyEvidence, PublishedArtifact
from orchestrator.publication import Promotion, RepositoryRules, RuleOutcome
from orchestrator.publication_policy import PublicationPolicy
from orchestrator.publish.desk import Terms
from orchestrator.publish.index import encode_index
from orchestrator.publish.index_keys import RepositoryTrust, audit_keys_of, open_keys
from orchestrator.publish.pointer import index_signature
from orchestrator.publish.promote import promote
from orchestrator.publish.rsa_pss import read_rsa_key
from orchestrator.repositories import open_repository
from orchestrator.signing.key_file import new_key, open_key_file
from orchestrator.trust import Check, Evidence, VerificationResult, VerifiedRelease
from orchestrator.verify.keys import KeyKind, TrustedKey
from orchestrator.verify.trust_root import RELEASE, Role, TrustRoot

TERMS = Terms(actor="bench", repository_id="bench", machine_id="bench")
_BLOCK = 1 << 20


def now() -> datetime:
    return datetime.now(UTC)


def silent(_: Event) -> None:
    """Observe nothing."""


# --- who publishes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Keys in files, as a publisher has them, and the trust that fits them."""

    index_key: Path
    audit_key: Path
    trust: RepositoryTrust
    sign: Callable[[bytes], bytes]
    """One bare ECDSA P-256 signature, for the floor."""

    def publish(self, release: VerifiedRelease, rules: RepositoryRules) -> Promotion:
        keys = open_keys(open_key_file(self.index_key, lambda: None), self.audit_key, lambda: None)
        outcomes = (RuleOutcome(rule="immutability", passed=True, text="free"),)
        return promote(release, open_repository(rules), keys, self.trust, outcomes=outcomes, now=now, observer=silent,
                       terms=TERMS)  # fmt: skip


def new_publisher(root: Path) -> Publisher:
    index_key, audit_key = root / "index.key", root / "audit.key"
    write_private(index_key, new_key().private_pem(None))
    pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(audit_key, rsa.generate_private_key(65537, 3072).private_bytes(*pkcs8))
    key = open_key_file(index_key, lambda: None)
    trusted = TrustedKey(key_id=key.key_id, kind=KeyKind.ECDSA, public=key.key.public_pem.decode(),
                         since=datetime(1970, 1, 1, tzinfo=UTC), revoked=None, until=None)  # fmt: skip
    root_of_trust = TrustRoot(place="keys", project="", version=0, expires=None, keys={key.key_id: trusted},
                              roles={RELEASE: Role(threshold=1, keys=(key.key_id,))})  # fmt: skip
    audit = audit_keys_of(read_rsa_key(audit_key, lambda: None).public_pem)
    bare = ec.generate_private_key(ec.SECP256R1())
    return Publisher(
        index_key=index_key, audit_key=audit_key,
        trust=RepositoryTrust(trust=root_of_trust, now=now(), audit_keys=audit),
        sign=lambda body: bare.sign(body, ec.ECDSA(hashes.SHA256())),
    )  # fmt: skip


def write_private(path: Path, body: bytes) -> None:
    path.write_bytes(body)
    path.chmod(0o600)


# --- what is published -------------------------------------------------------------------------------------------


def release(base: Path, version: str, count: int, size_bytes: int) -> VerifiedRelease:
    """Write a release of so many files, its two papers counted, and so many bytes that do not compress."""
    folder = base / version
    folder.mkdir(parents=True)
    names = [f"hello-{version}-{number:04}.tar.gz" for number in range(count - 2)]
    rows = [artifact(folder / name, size_bytes // len(names)) for name in names]
    digests = {str(row["path"]): str(row["sha256"]) for row in rows}
    papers = {
        "checksums.txt": "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode(),
        "manifest.json": canonical_json({
            "schema": "relbuild/manifest/v1", "project": "hello", "version": version, "commit": "", "dirty": False,
            "epoch": 1, "artifacts": list(rows), "documents": [], "absent": [],
        }),
    }  # fmt: skip
    for name, body in papers.items():
        (folder / name).write_bytes(body)
        digests[name] = hashlib.sha256(body).hexdigest()
    return taken_as_verified(folder, digests)


def artifact(path: Path, size_bytes: int) -> dict[str, Json]:
    sha256, sha512 = hashlib.sha256(), hashlib.sha512()
    with path.open("wb") as file:
        for start in range(0, size_bytes, _BLOCK):
            block = os.urandom(min(_BLOCK, size_bytes - start))
            sha256.update(block)
            sha512.update(block)
            file.write(block)
    return {"path": path.name, "kind": "file", "product": "hello", "target": "x86_64", "size": size_bytes,
            "sha256": sha256.hexdigest(), "sha512": sha512.hexdigest(), "made": {}, "executable": False}  # fmt: skip


def taken_as_verified(folder: Path, digests: Mapping[str, str]) -> VerifiedRelease:
    """Give a folder as verified: what verification costs is bench/trust.py's to tell."""
    files = tuple(sorted((PurePosixPath(name), digest) for name, digest in digests.items()))
    return VerifiedRelease(
        folder=folder, project="hello", version=folder.name, manifest_sha256=digests["manifest.json"], files=files,
        result=result(digests["manifest.json"], folder.name, ()),
    )  # fmt: skip


def result(subject: str, version: str, evidence: tuple[Evidence, ...]) -> VerificationResult:
    return VerificationResult(
        subject=subject, project="hello", version=version, passed=True, timestamp=now(), hash_verified=True,
        signature_verified=True, sbom_validated=True, slsa_validated=True, policy_passed=True, exit_code=0,
        evidence=evidence,
    )  # fmt: skip


# --- a repository with a history ---------------------------------------------------------------------------------


def stock(base: Path, publisher: Publisher, count: int) -> None:
    """Write a repository that lists so many releases, with the names of their folders and audits, which are empty."""
    body = encode_index(filled(count))
    keys = open_keys(open_key_file(publisher.index_key, lambda: None), publisher.audit_key, lambda: None)
    signature = base / index_signature(hashlib.sha256(body).hexdigest())
    signature.parent.mkdir(parents=True)
    signature.write_bytes(keys.sign_index(body))
    (base / "index.json").write_bytes(body)
    for number in range(count):
        version = f"v1.{number // 100}.{number % 100}"
        (base / version).mkdir()
        for ending in (".audit.json", ".audit.sig"):
            (base / f"{version}{ending}").touch()


def index_bytes(base: Path) -> int:
    return (base / "index.json").stat().st_size


# --- a policy ----------------------------------------------------------------------------------------------------


def judge(artifacts: int) -> None:
    """Judge a release of so many artifacts by every rule there is. Raises SystemExit where one does not hold."""
    subject = "0" * 64
    names = [f"hello-{number}.tar.gz" for number in range(artifacts)]
    gate = GateReport(subject=subject, passed=True, text="", checks=(("all", True),))
    looked = tuple(Evidence(check=Check.HASH, file=name, text="held") for name in names)
    evidence = PolicyEvidence(
        version="1.0.0", subject=subject, verification=result(subject, "1.0.0", looked),
        artifacts=tuple(PublishedArtifact(path=name, target="x86_64", sbom=True, provenance=True, encrypted=True)
                        for name in names),
        files=frozenset({*names, "manifest.json", "checksums.txt"}), signed_by=("0" * 64,),
        required_targets=frozenset({"x86_64"}), absent=(), taken="",
        gates=dict.fromkeys(RULES, gate),
        approvals=(Approval(subject=subject, by="ann"),),
    )  # fmt: skip
    if not enforce(PublicationPolicy.STRICT.requiring(*RULES), evidence).passed:
        raise SystemExit("the policy does not let a good release out")
