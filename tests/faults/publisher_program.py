"""A small real publisher: promotes a release folder into a local repository, or recovers one. Fault tests kill it.

Its keys are HMACs with one secret: real signatures that differ each time, made by nothing that takes long to load.
Run as `python -m tests.faults.publisher_program promote|recover REPOSITORY [FOLDER]`; the last line is the state.
"""

import hashlib
import hmac
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from builders.errors import RelbuildError
from orchestrator.canonical import Json, canonical_json
from orchestrator.errors import SignatureInvalid
from orchestrator.events import Event
from orchestrator.publication import Promotion, RuleOutcome
from orchestrator.publish.desk import Terms, state_of
from orchestrator.publish.promote import promote
from orchestrator.publish.recover import RecoveryReport, recover
from orchestrator.repositories.interface import Repository, Upload
from orchestrator.repositories.local import LocalRepository
from orchestrator.trust import KeyId, VerificationResult, VerifiedRelease

TERMS = Terms(actor="a test", repository_id="test", lock_timeout_s=120.0, readers=1, machine_id="a machine")
OUTCOMES = (RuleOutcome(rule="verified", passed=True, text="it is"),)
_SECRET = b"known to all tests"


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacKeys:
    """IndexKeys and IndexTrust in one. Each signature has its own nonce, as ECDSA's and PSS's have."""

    secret: bytes = _SECRET

    @property
    def index_key_id(self) -> KeyId:
        return KeyId("1" * 64)

    @property
    def audit_key_id(self) -> KeyId:
        return KeyId("2" * 64)

    def preload(self) -> None:
        """Have nothing to load."""

    def sign_index(self, body: bytes) -> bytes:
        return self._sign(b"index", body)

    def sign_audit(self, body: bytes) -> bytes:
        return self._sign(b"audit", body)

    def check_index(self, body: bytes, signature: bytes) -> KeyId:
        self._check(b"index", body, signature)
        return self.index_key_id

    def check_audit(self, body: bytes, signature: bytes) -> KeyId:
        self._check(b"audit", body, signature)
        return self.audit_key_id

    def _sign(self, what: bytes, body: bytes) -> bytes:
        nonce = os.urandom(16)
        return nonce + self._mac(what, nonce, body)

    def _check(self, what: bytes, body: bytes, signature: bytes) -> None:
        if not hmac.compare_digest(signature[16:], self._mac(what, signature[:16], body)):
            raise SignatureInvalid(f"the signature of the {what.decode()} does not fit")

    def _mac(self, what: bytes, nonce: bytes, body: bytes) -> bytes:
        return hmac.digest(self.secret, what + nonce + body, "sha256")


KEYS = HmacKeys()


class OneByOne:
    """A repository whose uploads go one after the other, so that the calls of a run can be counted."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def __getattr__(self, name: str) -> object:
        return getattr(self._repository, name)

    def put_all(self, uploads: Sequence[Upload]) -> None:
        for upload in uploads:
            self._repository.put(upload.key, upload.body, upload.sha256)


# --- releases ----------------------------------------------------------------------------------------------------


def make_release(base: Path, version: str, text: str = "", artifacts: int = 2) -> VerifiedRelease:
    """Write a release folder `base/VERSION` and give it as verified."""
    folder = base / version
    folder.mkdir(parents=True, exist_ok=True)
    bodies = {f"hello_{version}_{n}.bin": f"{version} {text} {n}\n".encode() * 40 for n in range(artifacts)}
    rows: list[Json] = [
        {
            "path": name, "kind": "file", "product": "hello", "target": f"t{n}", "size": len(body),
            "sha256": hashlib.sha256(body).hexdigest(), "sha512": hashlib.sha512(body).hexdigest(), "made": {},
            "executable": False,
        }
        for n, (name, body) in enumerate(sorted(bodies.items()))
    ]  # fmt: skip
    bodies["checksums.txt"] = "".join(
        f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in sorted(bodies.items())
    ).encode()
    bodies["manifest.json"] = canonical_json(
        {
            "schema": "relbuild/manifest/v1", "project": "hello", "version": version, "commit": "", "dirty": False,
            "epoch": 1, "artifacts": rows, "documents": [], "absent": [],
        }
    )  # fmt: skip
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    return verified(folder)


def verified(folder: Path) -> VerifiedRelease:
    """Take a folder for verified as it is: what verification looks at is tested elsewhere."""
    files = {PurePosixPath(path.name): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    manifest = files[PurePosixPath("manifest.json")]
    result = VerificationResult(
        subject=manifest, project="hello", version=folder.name, passed=True, timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        hash_verified=True, signature_verified=True, sbom_validated=True, slsa_validated=True, policy_passed=True,
        exit_code=0, evidence=(),
    )  # fmt: skip
    return VerifiedRelease(
        folder=folder, project="hello", version=folder.name, manifest_sha256=manifest,
        files=tuple(sorted(files.items())), result=result,
    )  # fmt: skip


# --- publishing ---------------------------------------------------------------------------------------------------


def now() -> datetime:
    return datetime.now(UTC)


def silent(_event: Event) -> None:
    """Observe nothing."""


def publish(
    repository: Repository, release: VerifiedRelease, *, terms: Terms = TERMS, keys: HmacKeys = KEYS,
    observer: Callable[[Event], None] = silent,
) -> Promotion:  # fmt: skip
    return promote(release, repository, keys, keys, outcomes=OUTCOMES, now=now, observer=observer, terms=terms)


def recovered(repository: Repository, *, terms: Terms = TERMS, keys: HmacKeys = KEYS) -> RecoveryReport:
    return recover(repository, keys, keys, now=now, observer=silent, terms=terms)


def main(argv: Sequence[str]) -> int:
    """Do what is asked, print how it stands, and give the exit code."""
    repository: Repository = LocalRepository(Path(argv[1]))
    if "RELBUILD_ONE_BY_ONE" in os.environ:
        repository = OneByOne(repository)  # type: ignore[assignment]  # it hands on by __getattr__
    try:
        if argv[0] == "recover":
            print(json.dumps([(each.became, each.place, each.why) for each in recovered(repository).found]))
        else:
            print(publish(repository, verified(Path(argv[2]))).state)
    except RelbuildError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        print(state_of(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
