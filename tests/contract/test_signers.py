"""What every signer promises: key files, cosign's own format, GPG and KMS all pass this."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from orchestrator.canonical import Json, canonical_json
from orchestrator.errors import SigningFailed
from orchestrator.signing import new_keys
from orchestrator.signing.interface import Blob, Signer, Statement
from orchestrator.signing.sign import open_signers
from orchestrator.trust import (
    ARMOR,
    BUNDLE,
    PassphraseFrom,
    PassphraseSource,
    SignerKind,
    SignerRules,
    SigningRules,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PASSPHRASE = b"contract suite"
BY_ENV = PassphraseSource(kind=PassphraseFrom.ENV, where="RELBUILD_TEST_PASSPHRASE")


def missing(what: str) -> None:
    """Skip where a tool is missing; fail where RELBUILD_REQUIRE_ENGINE=1 says that all must be here."""
    if os.environ.get("RELBUILD_REQUIRE_ENGINE") == "1":
        pytest.fail(f"RELBUILD_REQUIRE_ENGINE=1, and {what}")
    pytest.skip(what)


def require_gpg() -> None:
    if not shutil.which("gpg") or not shutil.which("gpg-agent"):
        missing("gpg is not here: ci/tools installs it")


def aws_answers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give boto3 what it wants to know, and nothing of this machine's own."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def statement(name: str, sha256: str) -> bytes:
    subject: Json = {"name": name, "digest": {"sha256": sha256}}
    return canonical_json(
        {
            "_type": "https://in-toto.io/Statement/v1", "subject": [subject],
            "predicateType": "https://slsa.dev/provenance/v1", "predicate": {},
        }
    )  # fmt: skip


class LocalKms(ThreadingHTTPServer):
    """The two calls of AWS KMS that signing needs, MessageType DIGEST included (moto hashes a digest again)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _KmsCalls)
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.digests: list[bytes] = []


class _KmsCalls(BaseHTTPRequestHandler):
    server: LocalKms

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self._sign(asked) if self.headers["X-Amz-Target"].endswith(".Sign") else self._public_key()
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _sign(self, asked: dict[str, str]) -> dict[str, str]:
        assert (asked["MessageType"], asked["SigningAlgorithm"]) == ("DIGEST", "ECDSA_SHA_256")
        digest = base64.b64decode(asked["Message"])
        self.server.digests.append(digest)
        signature = self.server.private.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        return {"Signature": base64.b64encode(signature).decode(), "SigningAlgorithm": "ECDSA_SHA_256"}

    def _public_key(self) -> dict[str, str]:
        spki = self.server.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        key = base64.b64encode(spki).decode()
        return {"PublicKey": key, "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@dataclass(frozen=True)
class Case:
    """How to open a signer, and how somebody else verifies what it made: raises where it does not fit."""

    rules: SignerRules
    public: Callable[[], bytes]
    passphrase: bytes = b""

    def open(self) -> Signer:
        if self.passphrase:
            os.environb[BY_ENV.where.encode()] = self.passphrase
        (signer,) = open_signers(SigningRules(signers=(self.rules,), trust=Path("trust.json")), None)
        return signer


def _key_file_case(folder: Path, form: new_keys.Form, passphrase: bytes | None) -> Case:
    made = new_keys.make_key_file(folder / "release.key", form, passphrase, None, NOW)
    source = BY_ENV if passphrase else PassphraseSource()
    return Case(
        rules=SignerRules(kind=SignerKind.KEY_FILE, key=str(made.private), passphrase=source),
        public=made.public.read_bytes, passphrase=passphrase or b"",
    )  # fmt: skip


def _gpg_case(folder: Path, passphrase: bytes | None) -> Case:
    require_gpg()
    made = new_keys.make_gpg(folder / "home", "relbuild test", passphrase)
    source = BY_ENV if passphrase else PassphraseSource()
    return Case(
        rules=SignerRules(kind=SignerKind.GPG, key=made.key_id, home=made.private, passphrase=source),
        public=made.public.read_bytes, passphrase=passphrase or b"",
    )  # fmt: skip


CASES: dict[str, Callable[[Path], Case]] = {
    "key-file-plain": lambda folder: _key_file_case(folder, new_keys.pkcs8_form, None),
    "key-file-encrypted": lambda folder: _key_file_case(folder, new_keys.pkcs8_form, PASSPHRASE),
    "cosign-format": lambda folder: _key_file_case(folder, new_keys.cosign_form, PASSPHRASE),
    "cosign-format-empty-passphrase": lambda folder: _key_file_case(folder, new_keys.cosign_form, None),
    "gpg-plain": lambda folder: _gpg_case(folder, None),
    "gpg-encrypted": lambda folder: _gpg_case(folder, PASSPHRASE),
}


@pytest.fixture(scope="module")
def kms() -> Iterator[LocalKms]:
    with LocalKms() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module", params=[*CASES, "kms"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kms: LocalKms) -> Case:
    if request.param != "kms":
        return CASES[request.param](tmp_path_factory.mktemp("keys"))
    public = kms.private.public_key()
    return Case(
        rules=SignerRules(kind=SignerKind.KMS, key="alias/release", endpoint=kms.url, region="eu-central-1"),
        public=lambda: public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


@pytest.fixture
def signer(case: Case, monkeypatch: pytest.MonkeyPatch) -> Signer:
    aws_answers_here(monkeypatch)
    return case.open()


def blob_of(path: Path, data: bytes) -> Blob:
    path.write_bytes(data)
    return Blob(path=path, sha256=hashlib.sha256(data).hexdigest())


def verify_blob(case: Case, signer: Signer, content: bytes, data: bytes, folder: Path) -> None:
    """Verify with nothing of ours: the cryptography package, or gpg with a new home."""
    if signer.suffix == ARMOR:
        assert gpg_verifies(case.public(), content, data, folder) == signer.key_id
        return
    bundle = json.loads(content)
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    message = bundle["messageSignature"]
    assert message["messageDigest"] == {
        "algorithm": "SHA2_256", "digest": base64.b64encode(hashlib.sha256(data).digest()).decode(),
    }  # fmt: skip
    hint = base64.b64decode(bundle["verificationMaterial"]["publicKey"]["hint"]).hex()
    assert hint == signer.key_id
    _ec(case).verify(base64.b64decode(message["signature"]), data, ec.ECDSA(hashes.SHA256()))


def gpg_verifies(public: bytes, signature: bytes, data: bytes, folder: Path) -> str:
    """Give the fingerprint of VALIDSIG, or an empty string."""
    home = folder / "verify"
    home.mkdir(mode=0o700)
    for name, content in (("public", public), ("signature", signature), ("data", data)):
        (home / name).write_bytes(content)
    gpg = ("gpg", "--homedir", str(home), "--batch", "--no-autostart")
    subprocess.run([*gpg, "--import", str(home / "public")], check=True, capture_output=True)
    done = subprocess.run(
        [*gpg, "--status-fd", "1", "--verify", str(home / "signature"), str(home / "data")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    valid = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("[GNUPG:] VALIDSIG ")]
    return valid[0] if valid and done.returncode == 0 else ""


def _ec(case: Case) -> ec.EllipticCurvePublicKey:
    key = serialization.load_pem_public_key(case.public())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


# --- the promises ------------------------------------------------------------------------------------------------


def test_a_signature_verifies_with_other_code(case: Case, signer: Signer, tmp_path: Path) -> None:
    data = b"release " * 10_000
    verify_blob(case, signer, signer.sign(blob_of(tmp_path / "-file with space", data)), data, tmp_path)


def test_a_signature_does_not_fit_other_bytes(case: Case, signer: Signer, tmp_path: Path) -> None:
    content = signer.sign(blob_of(tmp_path / "file", b"these"))
    with pytest.raises((AssertionError, InvalidSignature)):
        verify_blob(case, signer, content, b"those", tmp_path)


def test_a_changed_file_is_refused(signer: Signer, tmp_path: Path) -> None:
    blob = blob_of(tmp_path / "file", b"promised")
    blob.path.write_bytes(b"replaced")
    with pytest.raises(SigningFailed, match=r"'.*file' has other bytes than promised"):
        signer.sign(blob)


@pytest.mark.parametrize("kind", ["missing", "link", "folder"])
def test_what_is_not_a_file_is_refused(signer: Signer, tmp_path: Path, kind: str) -> None:
    real, path = blob_of(tmp_path / "real", b"bytes"), tmp_path / "file"
    if kind == "link":
        path.symlink_to(real.path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(SigningFailed, match="file'"):
        signer.sign(Blob(path=path, sha256=real.sha256))


def test_a_statement_is_signed_as_its_bytes_or_refused(case: Case, signer: Signer) -> None:
    payload = statement("a", "0" * 64)
    if not signer.attests:
        with pytest.raises(SigningFailed, match="cannot sign statements"):
            signer.sign(Statement(payload=payload))
        return
    content = signer.sign(Statement(payload=payload))
    assert b"\n" not in content
    envelope = json.loads(content)["dsseEnvelope"]
    assert base64.b64decode(envelope["payload"]) == payload
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    (signature,) = envelope["signatures"]
    assert signature.keys() == {"sig"}
    pae = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" " + payload
    _ec(case).verify(base64.b64decode(signature["sig"]), pae, ec.ECDSA(hashes.SHA256()))


def test_the_key_id_is_the_key_s_own_and_stable(case: Case, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert case.open().key_id == signer.key_id
    if signer.suffix == BUNDLE:
        spki = _ec(case).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        assert signer.key_id == hashlib.sha256(spki).hexdigest()
    else:
        assert signer.key_id == case.rules.key


def test_nothing_secret_is_shown(signer: Signer) -> None:
    for text in (repr(signer), str(signer), signer.name):
        assert PASSPHRASE.decode() not in text
        assert "PRIVATE" not in text


def test_kms_is_given_the_digest_of_the_file(kms: LocalKms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aws_answers_here(monkeypatch)
    rules = SignerRules(kind=SignerKind.KMS, key="alias/release", endpoint=kms.url, region="eu-central-1")
    (signer,) = open_signers(SigningRules(signers=(rules,), trust=Path("trust.json")), None)
    blob = blob_of(tmp_path / "file", b"bytes")
    signer.sign(blob)
    assert kms.digests[-1].hex() == blob.sha256
