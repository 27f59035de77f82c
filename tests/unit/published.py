"""A small publisher for the tests of what readers and owners do: real keys, real signatures, a repository in memory."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from cryptography.hazmat.primitives.asymmetric import rsa

from orchestrator.publication import EventType, Index, IndexedFile, PolicyMode, ReleaseEntry, RuleOutcome
from orchestrator.publish.audit import audit_document, new_audit_id
from orchestrator.publish.index import with_event
from orchestrator.publish.index_keys import PublisherKeys, RepositoryTrust, audit_keys_of
from orchestrator.publish.pointer import KnownIndex, commit
from orchestrator.publish.rsa_pss import RsaKey
from orchestrator.signing.key_file import KeyFileSigner, new_key
from orchestrator.trust import KeyId
from orchestrator.verify.keys import KeyKind, TrustedKey
from orchestrator.verify.trust_root import RELEASE, Role, TrustRoot
from tests.repository_fake import MemoryRepository

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)
EXPIRES = NOW + timedelta(days=90)
PASSED = RuleOutcome(rule="immutability", passed=True, text="free")


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def rsa_key(name: str = "audit") -> RsaKey:
    return _rsa_key(name)


def signer(name: str = "index") -> KeyFileSigner:
    return _signer(name)


@functools.cache
def _rsa_key(_: str) -> RsaKey:
    return RsaKey(_private=rsa.generate_private_key(65537, 3072))


@functools.cache
def _signer(name: str) -> KeyFileSigner:
    return KeyFileSigner(name=name, key=new_key())


def keys(name: str = "index", audit: str = "audit") -> PublisherKeys:
    return PublisherKeys(signer(name), lambda: rsa_key(audit))


def trust_root(*names: str, revoked: datetime | None = None, until: datetime | None = None) -> TrustRoot:
    since = datetime(1970, 1, 1, tzinfo=UTC)
    trusted = {
        each.key_id: TrustedKey(key_id=each.key_id, kind=KeyKind.ECDSA, public=each.key.public_pem.decode(),
                                since=since, revoked=revoked, until=until)
        for each in map(signer, names or ("index",))
    }  # fmt: skip
    return TrustRoot(place="keys", project="", version=0, expires=None, keys=trusted,
                     roles={RELEASE: Role(threshold=1, keys=tuple(trusted))})  # fmt: skip


def trust(*names: str, audit: str = "audit") -> RepositoryTrust:
    return RepositoryTrust(trust=trust_root(*names), now=NOW, audit_keys=audit_keys_of(rsa_key(audit).public_pem))


def contents(version: str) -> dict[str, bytes]:
    return {
        f"hello-{version}.tar.gz": f"hello {version}".encode() * 1000,
        "checksums.txt": b"sums",
        "manifest.json": f"manifest of {version}".encode(),
    }


def files_of(bodies: Mapping[str, bytes]) -> tuple[IndexedFile, ...]:
    return tuple(
        IndexedFile(path=path, size_bytes=len(body), sha256=sha256(body)) for path, body in sorted(bodies.items())
    )


def entry(version: str, bodies: Mapping[str, bytes] | None = None, **changes: object) -> ReleaseEntry:
    files = files_of(contents(version) if bodies is None else bodies)
    manifest = next(file.sha256 for file in files if file.path == "manifest.json")
    values: dict[str, object] = {
        "version": version, "timestamp": NOW, "sha256": manifest, "manifest_sha256": manifest,
        "size_bytes": sum(file.size_bytes for file in files),
        "artifacts": tuple(file for file in files if file.path.startswith("hello")),
        "sbom_id": "sha256:1", "slsa_id": "sha256:2", "provenance_hash": "sha256:3", "signed": True,
        "encrypted": False, "verification": {"passed": True, "timestamp": "2030-01-31T12:00:00Z"}, "validation": None,
        "targets": ("x86_64",), **changes,
    }  # fmt: skip
    return ReleaseEntry(**values)  # type: ignore[arg-type]  # the keywords are the test's own


def audited(version: str, audit_id: str = "", repository_id: str = "r1") -> tuple[ReleaseEntry, bytes]:
    plain = entry(version)
    body = audit_document(
        plain, files_of(contents(version)), audit_id=audit_id or new_audit_id(), repository_id=repository_id,
        machine_id="test", now=NOW, repository_type="memory", policy_mode=PolicyMode.STRICT, outcomes=(PASSED,),
    )  # fmt: skip
    return dataclasses.replace(plain, audit_sha256=sha256(body)), body


def add(index: Index | None, kind: EventType, subject: ReleaseEntry | str, **changes: object) -> Index:
    values: dict[str, object] = {
        "reason": "because", "actor": "ann", "key_id": KeyId("0" * 64), "now": NOW, "expires": EXPIRES,
        "repository_id": "r1", **changes,
    }  # fmt: skip
    return with_event(index, kind, subject, **values)  # type: ignore[arg-type]  # the keywords are the test's own


def grown(*versions: str) -> Index:
    index = None
    for version in versions:
        index = add(index, EventType.PUBLISH, audited(version, "0" * 8 + "-0000-0000-0000-" + "0" * 12)[0])
    assert index is not None
    return index


def put(repository: MemoryRepository, key: str, body: bytes) -> None:
    repository.put_new(PurePosixPath(key), body, sha256(body))


def publish(repository: MemoryRepository, *versions: str, known: KnownIndex | None = None) -> None:
    for version in versions:
        listed, body = audited(version)
        for path, content in contents(version).items():
            put(repository, f"{version}/{path}", content)
        put(repository, f"{version}.audit.json", body)
        put(repository, f"{version}.audit.sig", keys().sign_audit(body))

        def step(index: Index | None, listed: ReleaseEntry = listed) -> Index | None:
            done = index is not None and index.release(listed.version) is not None
            return None if done else add(index, EventType.PUBLISH, listed)

        commit(known or KnownIndex(repository, trust()), keys(), step)
