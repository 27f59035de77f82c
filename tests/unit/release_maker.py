"""Makes whole signed releases by the contract, for tests. Shares no code with the rooms signing/ and verify/.

Everything is deterministic but the ECDSA signatures: the same parameters give the same artifacts and documents.
"""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
SINCE, UNTIL = "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"
GPG_CLOCK = "20260201T000000"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
COMMIT, EPOCH, COMPRESSOR = "c" * 40, 1_700_000_000, "zlib 1.3.1 level 6"
SOURCE_URI = "git+https://example.org/hello"


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2).encode() + b"\n"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha512(data: bytes) -> str:
    return hashlib.sha512(data).hexdigest()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- keys --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EcdsaKey:
    """A P-256 key that is the same for the same seed."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def spki(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def public(self) -> str:
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def key_id(self) -> str:
        return sha256(self.spki)

    @property
    def kind(self) -> str:
        return "ecdsa-p256"

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data, ec.ECDSA(hashes.SHA256()))

    def bundle(self, data: bytes) -> dict[str, Any]:
        """Give a message bundle over data."""
        digest = base64_of(hashlib.sha256(data).digest())
        content = {
            "messageDigest": {"algorithm": "SHA2_256", "digest": digest},
            "signature": base64_of(self.sign(data)),
        }
        return {**self._head(), "messageSignature": content}

    def attestation(self, payload: bytes) -> dict[str, Any]:
        """Give a DSSE bundle over a statement."""
        signed = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
        envelope = {"payload": base64_of(payload), "payloadType": PAYLOAD_TYPE,
                    "signatures": [{"sig": base64_of(self.sign(signed))}]}  # fmt: skip
        return {**self._head(), "dsseEnvelope": envelope}

    def _head(self) -> dict[str, Any]:
        hint = base64_of(hashlib.sha256(self.spki).digest())
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        }


def ecdsa_key(seed: int = 1) -> EcdsaKey:
    return EcdsaKey(ec.derive_private_key(seed + 10**9, ec.SECP256R1()))


@dataclass(frozen=True)
class GpgKey:
    """A real gpg key in its own home; `home` must have a short path."""

    home: Path
    key_id: str
    public: str

    @property
    def kind(self) -> str:
        return "gpg"

    def armor(self, data: bytes) -> bytes:
        """Give a detached signature."""
        return run_gpg(self.home, "--armor", "--detach-sign", "--local-user", self.key_id, stdin=data)


def run_gpg(home: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C"}
    argv = ("gpg", "--homedir", str(home), "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "",
            "--faked-system-time", GPG_CLOCK, *arguments)  # fmt: skip
    done = subprocess.run(argv, input=stdin, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def gpg_key(home: Path, *, algorithm: str = "ed25519", name: str = "Test <test@example.org>") -> GpgKey:
    home.mkdir(mode=0o700, exist_ok=True)
    run_gpg(home, "--quick-generate-key", name, algorithm, "sign", "never")
    listed = run_gpg(home, "--list-keys", "--with-colons", f"={name}").decode().splitlines()
    fingerprint = next(line.split(":")[9] for line in listed if line.startswith("fpr:"))
    return GpgKey(home=home, key_id=fingerprint, public=run_gpg(home, "--armor", "--export", fingerprint).decode())


@contextlib.contextmanager
def gpg_keys(*names: str, algorithm: str = "ed25519") -> Iterator[tuple[GpgKey, ...]]:
    """Make keys in a home of their own, and end its agent afterwards."""
    # The agent's socket lies in it, and the path of a socket must be short.
    home = Path(tempfile.mkdtemp(prefix="rm-gpg", dir="/tmp"))
    try:
        yield tuple(gpg_key(home, algorithm=algorithm, name=name) for name in names)
    finally:
        subprocess.run(("gpgconf", "--homedir", str(home), "--kill", "all"), check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


Key = EcdsaKey | GpgKey


# --- trust -------------------------------------------------------------------------------------------------------


def write_trust(path: Path, keys: Sequence[Key], *, threshold: int = 1, project: str = "hello") -> Path:
    """Write a trust file for these release keys, itself signed by `ecdsa_key(99)`."""
    body = trust_body(keys=keys, trust_keys=(ecdsa_key(99),), threshold=threshold, project=project)
    path.write_bytes(signed_trust(body, [ecdsa_key(99)]))
    return path


def trust_body(
    *, keys: Sequence[Key], trust_keys: Sequence[EcdsaKey], project: str = "hello", version: int = 1,
    threshold: int = 1, trust_threshold: int = 1, expires: str | None = UNTIL,
    periods: Mapping[str, Mapping[str, str | None]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Give an unsigned trust file. `periods` changes from, until or revoked of a key, by its id."""
    entries = {
        key.key_id: {"kind": key.kind, "public": key.public, "from": SINCE, "until": UNTIL, "revoked": None,
                     **(periods or {}).get(key.key_id, {})}
        for key in (*keys, *trust_keys)
    }  # fmt: skip
    roles = {
        "release": {"threshold": threshold, "keys": [key.key_id for key in keys]},
        "trust": {"threshold": trust_threshold, "keys": [key.key_id for key in trust_keys]},
    }
    return {"schema": "relbuild/trust/v1", "project": project, "version": version, "expires": expires, "keys": entries,
            "roles": roles}  # fmt: skip


def signed_trust(body: Mapping[str, Any], signers: Sequence[EcdsaKey]) -> bytes:
    signatures = [{"key_id": key.key_id, "signature": base64_of(key.sign(canonical(body)))} for key in signers]
    return canonical({**body, "signatures": signatures})


# --- documents ---------------------------------------------------------------------------------------------------


def spdx(name: str, content: bytes) -> bytes:
    sums = [{"algorithm": "SHA256", "checksumValue": sha256(content)}]
    artifact = {"SPDXID": "SPDXRef-artifact", "name": name, "downloadLocation": "NOASSERTION", "checksums": sums}
    part = {"SPDXID": "SPDXRef-zlib", "name": "zlib", "downloadLocation": "NOASSERTION", "versionInfo": "1.3.1"}
    return canonical(
        {
            "spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "dataLicense": "CC0-1.0", "name": name,
            "documentNamespace": f"https://example.org/spdx/{name}/{sha256(content)}",
            "creationInfo": {"created": "2023-11-14T22:13:20Z", "creators": ["Tool: release_maker"]},
            "packages": [artifact, part],
            "relationships": [
                {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                 "relatedSpdxElement": "SPDXRef-artifact"},
                {"spdxElementId": "SPDXRef-artifact", "relationshipType": "CONTAINS",
                 "relatedSpdxElement": "SPDXRef-zlib"},
            ],
        }
    )  # fmt: skip


def cyclonedx(name: str, content: bytes) -> bytes:
    component = {"type": "file", "name": name, "bom-ref": "artifact",
                 "hashes": [{"alg": "SHA-256", "content": sha256(content)}]}  # fmt: skip
    return canonical(
        {
            "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": component},
            "components": [{"type": "library", "name": "zlib", "version": "1.3.1", "bom-ref": "zlib"}],
        }
    )  # fmt: skip


def made(target: str) -> dict[str, Any]:
    return {
        "cell": f"hello/{target}", "key": sha256(f"cell {target}".encode()), "builder": "container",
        "placement": "cross", "isolation": "container, no network",
        "toolchain": {"name": "gcc", "digest": f"sha256:{sha256(b'gcc')}"},
        "source": {"digest": f"sha256:{sha256(b'source')}", "origin": "folder ."},
        "smoke": {"how": "emulated", "tests": 1, "note": ""}, "findings": [],
    }  # fmt: skip


def statement(name: str, content: bytes, target: str, *, project: str, version: str) -> dict[str, Any]:
    cell = made(target)
    git = {"gitCommit": COMMIT}
    external = {
        "project": project, "version": version, "product": "hello", "target": target,
        "recipe": {"kind": "command", "toolchain": "gcc", "commands": [["make"]], "script": ""},
        "environment": {"LANG": "C"}, "outputs": [{"glob": "**", "exactly_one": False}],
        "libc": {"kind": "gnu", "floor": "2.34"}, "network": False, "placement": "cross",
        "source": {"uri": f"{SOURCE_URI}#src", "digest": {"sha256": sha256(b"source"), **git}}, "epoch": EPOCH,
        "archive": {"format": "tar.gz", "name": "{name}", "extra": []},
    }  # fmt: skip
    internal = {"builder": "container", "isolation": "container, no network", "engine": "docker", "relbuild": "0.3.0",
                "cell_key": cell["key"], "compressor": COMPRESSOR}  # fmt: skip
    dependencies = [
        {"name": "project", "uri": SOURCE_URI, "digest": git},
        {"name": "source tree", "uri": f"{SOURCE_URI}#src", "digest": {"sha256": sha256(b"source")}},
        {"name": "toolchain", "uri": "urn:relbuild:toolchain:gcc", "digest": {"sha256": sha256(b"gcc")}},
    ]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": sha256(content), "sha512": sha512(content)}}],
        "predicateType": PROVENANCE_TYPE,
        "predicate": {
            "buildDefinition": {"buildType": "urn:relbuild:build:cell:v1", "externalParameters": external,
                                "internalParameters": internal, "resolvedDependencies": dependencies},
            "runDetails": {
                "builder": {"id": "urn:relbuild:builder:container:workstation", "version": {"relbuild": "0.3.0"}},
                "metadata": {"invocationId": cell["key"]},
                "byproducts": [{"name": "smoke", "annotations": cell["smoke"]}],
            },
        },
    }  # fmt: skip


# --- the release -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MadeRelease:
    folder: Path
    project: str
    version: str
    artifacts: tuple[str, ...]
    keys: tuple[Key, ...]

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def sign(self, name: str) -> None:
        """Sign a file anew with every key."""
        counts = {"ecdsa-p256": 0, "gpg": 0}
        for key in self.keys:
            short = f".{key.key_id[:12]}" if counts[key.kind] else ""
            counts[key.kind] += 1
            if isinstance(key, GpgKey):
                self.write(f"{name}{short}.asc", key.armor(self.read(name)))
            else:
                self.write(f"{name}{short}.sigstore.json", line(key.bundle(self.read(name))))

    def attest(self, name: str, payload: bytes) -> None:
        """Write an attestation file with a line by every key that can attest."""
        keys = [key for key in self.keys if isinstance(key, EcdsaKey)]
        if keys:
            self.write(name, b"".join(line(key.attestation(payload)) + b"\n" for key in keys))


def line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


TARGETS = ("aarch64", "armv7", "riscv64", "x86_64")


def make_release(
    folder: Path, *, project: str = "hello", version: str = "1.2.3", artifacts: int = 2, keys: Sequence[Key] = (),
    each_artifact: bool = False, salt: bytes = b"",
) -> MadeRelease:  # fmt: skip
    """Write a whole signed release into a new folder: `artifacts` archives, by default signed by `ecdsa_key(1)`."""
    folder.mkdir(parents=True)
    targets = TARGETS[:artifacts]
    names = tuple(f"{project}_{version}_linux_{target}.tar.gz" for target in targets)
    release = MadeRelease(folder, project, version, names, tuple(keys) or (ecdsa_key(1),))
    for name, target in zip(names, targets, strict=True):
        content = (b"archive of %b %b " % (name.encode(), salt)) * 20
        release.write(name, content)
        release.write(f"{name}.spdx.json", spdx(name, content))
        release.write(f"{name}.cdx.json", cyclonedx(name, content))
        release.write(f"{name}.provenance.json",
                      canonical(statement(name, content, target, project=project, version=version)))  # fmt: skip
    release.write("artifacts.json", canonical([{"name": name, "type": "Archive"} for name in names]))
    finish(release, dict(zip(names, targets, strict=True)))
    if each_artifact:
        for name in names:
            release.sign(name)
    return release


def finish(release: MadeRelease, targets: Mapping[str, str]) -> None:
    """Write checksums, manifest and their signatures from what lies there."""
    documents = [(f"{name}{ending}", kind, name) for name in release.artifacts for ending, kind in DOCUMENTS.items()]
    summed = sorted([*release.artifacts, *(path for path, _, _ in documents)])
    for paper, digest in (("checksums.txt", sha256), ("checksums.sha512", sha512)):
        release.write(paper, "".join(f"{digest(release.read(name))}  {name}\n" for name in summed).encode())
    papers = [("artifacts.json", "goreleaser", ""), ("checksums.txt", "checksums", ""),
              ("checksums.sha512", "checksums", "")]  # fmt: skip
    entries = [
        {**sized(release, name), "kind": "archive", "product": "hello", "target": targets[name],
         "made": made(targets[name]), "compressor": COMPRESSOR, "root": name.removesuffix(".tar.gz"),
         "files": [{"path": "bin/hello", "size": 3, "sha256": sha256(b"abc"), "executable": True}]}
        for name in sorted(release.artifacts)
    ]  # fmt: skip
    release.write("manifest.json", canonical({
        "schema": "relbuild/manifest/v1", "project": release.project, "version": release.version, "commit": COMMIT,
        "dirty": False, "epoch": EPOCH, "artifacts": entries, "absent": [],
        "documents": [{**sized(release, path), "kind": kind, "of": of}
                      for path, kind, of in sorted(documents + papers)],
    }))  # fmt: skip
    for name in ("manifest.json", "checksums.txt"):
        release.sign(name)
    for name in release.artifacts:
        release.attest(f"{name}.intoto.jsonl", release.read(f"{name}.provenance.json"))


DOCUMENTS = {".spdx.json": "sbom-spdx", ".cdx.json": "sbom-cyclonedx", ".provenance.json": "provenance"}


def sized(release: MadeRelease, name: str) -> dict[str, Any]:
    content = release.read(name)
    return {"path": name, "size": len(content), "sha256": sha256(content), "sha512": sha512(content)}


# --- changes of documents ----------------------------------------------------------------------------------------


def put(*path: Any, value: Any) -> Callable[[Any], object]:
    """Give a change that puts a value at a place of a document."""

    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


def drop(*path: Any) -> Callable[[Any], object]:
    """Give a change that takes a value out of a document."""

    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        del document[path[-1]]

    return change
