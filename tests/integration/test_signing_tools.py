"""Signatures against the real tools: cosign 2 and 3, gpg, moto's KMS; and what others can see of secrets meanwhile."""

import hashlib
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3  # type: ignore[import-untyped]  # boto3 carries no types
import pytest
from moto.server import ThreadedMotoServer

from orchestrator.canonical import canonical_json
from orchestrator.errors import KeyRefused, PassphraseWrong, SigningFailed
from orchestrator.signing import gpg, kms, new_keys
from orchestrator.signing.interface import Blob, Signer, Statement
from orchestrator.signing.key_file import open_key_file
from orchestrator.signing.sign import open_signers, sign_release
from orchestrator.staged import read_staged
from orchestrator.trust import KeyId, PassphraseFrom, PassphraseSource, SignerKind, SignerRules, SigningRules
from tests.contract.test_signers import (
    NOW,
    aws_answers_here,
    blob_of,
    gpg_verifies,
    missing,
    require_gpg,
    statement,
)
from tests.unit.test_signing import manifest_of

CANARY = "canary-5f3a9e passphrase"
DATA = b"release " * 1000
# An empty trusted root: all that verification with a key of one's own needs, and nothing to fetch.
TRUSTED_ROOT = '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'


# --- cosign ------------------------------------------------------------------------------------------------------


class Cosign:
    """The real program, with a home of its own and no way out of the machine."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder = program, folder
        (folder / "trusted_root.json").write_text(TRUSTED_ROOT, encoding="utf-8")

    def run(self, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
        env = {
            "HOME": str(self.folder / "home"), "PATH": os.defpath, "COSIGN_PASSWORD": password,
            "HTTPS_PROXY": "http://127.0.0.1:9",
        }  # fmt: skip
        return subprocess.run(
            [str(self.program), *arguments], cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )

    def verifies(self, command: str, key: Path, bundle: bytes, file: Path, *more: str) -> bool:
        (self.folder / "bundle.json").write_bytes(bundle)
        done = self.run(
            command, "--key", str(key), "--bundle", "bundle.json", "--new-bundle-format", "--trusted-root",
            "trusted_root.json", "--insecure-ignore-tlog", *more, str(file),
        )  # fmt: skip
        assert ("Verified OK" in done.stderr) == (done.returncode == 0), done.stderr
        return done.returncode == 0


@pytest.fixture(params=["2", "3"])
def cosign(request: pytest.FixtureRequest, tmp_path: Path) -> Cosign:
    prefix = Path(os.environ.get("RELBUILD_TOOLS_PREFIX", "/opt/relbuild-tools"))
    program = prefix / f"cosign-{request.param}" / "usr/bin/cosign"
    if not program.is_file():
        missing(f"{program} is not here: ci/tools unpacks it")
    folder = tmp_path / "cosign"
    folder.mkdir()
    return Cosign(program, folder)


@pytest.mark.parametrize("form", [new_keys.pkcs8_form, new_keys.cosign_form])
def test_cosign_verifies_files_and_attestations(cosign: Cosign, tmp_path: Path, form: new_keys.Form) -> None:
    made = new_keys.make_key_file(tmp_path / "release.key", form, CANARY.encode(), None, NOW)
    signer = open_key_file(made.private, CANARY.encode)
    blob = blob_of(tmp_path / "file", DATA)
    bundle = signer.sign(blob)
    attestation = signer.sign(Statement(payload=statement("file", blob.sha256)))
    assert cosign.verifies("verify-blob", made.public, bundle, blob.path)
    kind = ("--type", "slsaprovenance1")
    assert cosign.verifies("verify-blob-attestation", made.public, attestation, blob.path, *kind)
    other = new_keys.make_key_file(tmp_path / "other.key", new_keys.pkcs8_form, None, None, NOW)
    assert not cosign.verifies("verify-blob", other.public, bundle, blob.path)
    blob.path.write_bytes(DATA + b"x")
    assert not cosign.verifies("verify-blob", made.public, bundle, blob.path)
    assert not cosign.verifies("verify-blob-attestation", made.public, attestation, blob.path, *kind)


def test_keys_that_cosign_made_are_read(cosign: Cosign, tmp_path: Path) -> None:
    assert cosign.run("generate-key-pair", "--output-key-prefix", "theirs", password=CANARY).returncode == 0
    private, public = cosign.folder / "theirs.key", cosign.folder / "theirs.pub"
    signer = open_key_file(private, CANARY.encode)
    assert signer.key.public_pem == public.read_bytes()
    blob = blob_of(tmp_path / "file", DATA)
    assert cosign.verifies("verify-blob", public, signer.sign(blob), blob.path)
    with pytest.raises(PassphraseWrong):
        open_key_file(private, lambda: b"another")


@pytest.mark.parametrize("password", [CANARY, ""])
def test_cosign_signs_with_keys_that_we_made(cosign: Cosign, tmp_path: Path, password: str) -> None:
    secret = password.encode() or None
    made = new_keys.make_key_file(cosign.folder / "ours.key", new_keys.cosign_form, secret, None, NOW)
    shown = cosign.run("public-key", "--key", "ours.key", password=password)
    assert shown.stdout.encode() == made.public.read_bytes()
    assert cosign.run("public-key", "--key", "ours.key", password="another").returncode != 0


# --- gpg ---------------------------------------------------------------------------------------------------------

BY_ENV = PassphraseSource(kind=PassphraseFrom.ENV, where="RELBUILD_TEST_SECRET")


@pytest.fixture(scope="module")
def gpg_key(tmp_path_factory: pytest.TempPathFactory) -> new_keys.MadeKey:
    require_gpg()
    # Deeper than the path of a socket may be.
    deep = tmp_path_factory.mktemp("gpg").joinpath(*["a-folder-with-a-long-name"] * 5)
    deep.mkdir(parents=True)
    return new_keys.make_gpg(deep / "home", "relbuild test", CANARY.encode())


def gpg_rules(made: new_keys.MadeKey, **changes: object) -> SignerRules:
    values: dict[str, object] = {"kind": SignerKind.GPG, "key": made.key_id, "home": made.private, "passphrase": BY_ENV}
    return SignerRules(**{**values, **changes})  # type: ignore[arg-type]  # the keywords are the test's own


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_gpg_verifies_a_signature_and_nothing_is_left(
    gpg_key: new_keys.MadeKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GNUPGHOME", str(home / "keyring"))
    before, rooms, make = files_of(gpg_key.private), list[str](), tempfile.mkdtemp

    def noted(*given: str, **more: str) -> str:
        rooms.append(make(*given, **more))
        return rooms[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", noted)
    signer = gpg.open_gpg(gpg_rules(gpg_key), CANARY.encode)
    signature = signer.sign(blob_of(tmp_path / "file", DATA))
    assert gpg_verifies(gpg_key.public.read_bytes(), signature, DATA, tmp_path) == gpg_key.key_id
    assert files_of(gpg_key.private) == before
    assert not list(home.iterdir())
    assert any("relbuild-gpg-" in room for room in rooms)
    assert not [room for room in rooms if Path(room).exists()]
    assert not [line for line in processes().values() for room in rooms if room.encode() in line]


@pytest.mark.fault(78)
def test_a_wrong_passphrase_fails_at_once_even_after_a_right_one(gpg_key: new_keys.MadeKey, tmp_path: Path) -> None:
    blob = blob_of(tmp_path / "file", DATA)
    gpg.open_gpg(gpg_rules(gpg_key), CANARY.encode).sign(blob)
    started = time.monotonic()
    with pytest.raises(PassphraseWrong, match="passphrase is not that of") as caught:
        gpg.open_gpg(gpg_rules(gpg_key), lambda: b"another canary").sign(blob)
    assert "canary" not in str(caught.value)
    with pytest.raises(PassphraseWrong, match="no passphrase was given"):
        gpg.open_gpg(gpg_rules(gpg_key), lambda: None).sign(blob)
    assert time.monotonic() - started < 20


def test_a_gpg_key_that_is_not_there_is_refused(gpg_key: new_keys.MadeKey, tmp_path: Path) -> None:
    open_home = tmp_path / "open"
    open_home.mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(gpg_key.private)
    for rules, words in (
        (gpg_rules(gpg_key, key="A" * 40), "no such secret key"),
        (gpg_rules(gpg_key, key=gpg_key.key_id.lower()), "is not a fingerprint of 40"),
        (gpg_rules(gpg_key, key="--version"), "is not a fingerprint of 40"),
        (gpg_rules(gpg_key, home=None), "has no home"),
        (gpg_rules(gpg_key, home=open_home), r"is open to other users \(mode 0755\)"),
        (gpg_rules(gpg_key, home=tmp_path / "nowhere"), "cannot be read"),
        (gpg_rules(gpg_key, home=tmp_path / "link"), "is a symbolic link"),
    ):
        with pytest.raises(KeyRefused, match=words):
            gpg.open_gpg(rules, lambda: pytest.fail("asked for a passphrase"))


def test_a_gpg_home_is_never_overwritten(gpg_key: new_keys.MadeKey) -> None:
    with pytest.raises(KeyRefused, match="is there already"):
        new_keys.make_gpg(gpg_key.private, "another", None)


# --- KMS ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def kms_rules(endpoint: str, key: str) -> SignerRules:
    return SignerRules(kind=SignerKind.KMS, key=key, endpoint=endpoint, region="eu-central-1")


def make_kms_key(endpoint: str, spec: str) -> str:
    client = boto3.client("kms", endpoint_url=endpoint, region_name="eu-central-1")
    return str(client.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"])


def test_moto_s_keys_are_opened_or_refused(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    aws_answers_here(monkeypatch)
    signer = kms.open_kms(kms_rules(moto, make_kms_key(moto, "ECC_NIST_P256")))
    assert len(signer.key_id) == 64
    with pytest.raises(KeyRefused, match="is not an ECDSA P-256 key"):
        kms.open_kms(kms_rules(moto, make_kms_key(moto, "RSA_3072")))
    with pytest.raises(SigningFailed, match="NotFoundException") as caught:
        kms.open_kms(kms_rules(moto, "00000000-0000-0000-0000-000000000000"))
    assert "kms:GetPublicKey" in caught.value.next_step


@pytest.mark.fault(79)
def test_a_kms_that_signs_another_digest_is_noticed(moto: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # moto takes a digest for a message and hashes it again: just such a service.
    aws_answers_here(monkeypatch)
    signer = kms.open_kms(kms_rules(moto, make_kms_key(moto, "ECC_NIST_P256")))
    with pytest.raises(SigningFailed, match="does not verify"):
        sign_release(read_staged(folder), [signer], RULES, Checked({signer.key_id: signer.spki}))
    assert not list(folder.glob("*.sigstore.json"))


@pytest.mark.fault(79)
def test_a_silent_kms_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    aws_answers_here(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(SigningFailed, match="could not be used") as caught:
            kms.open_kms(kms_rules(endpoint, "alias/release"), read_timeout_s=0.2)
        assert time.monotonic() - started < 60
    assert "answers too late" in caught.value.next_step
    with pytest.raises(SigningFailed, match="could not be used") as caught:
        kms.open_kms(kms_rules(endpoint, "alias/release"))
    assert "can be reached" in caught.value.next_step


def test_kms_without_credentials_says_so(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    aws_answers_here(monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SigningFailed, match="Unable to locate credentials") as caught:
        kms.open_kms(kms_rules(moto, "alias/release"))
    assert "credentials" in caught.value.next_step


# --- a whole release, and what others see of secrets meanwhile ---------------------------------------------------

RULES = SigningRules(signers=(), trust=Path("trust.json"), each_artifact=True)


class Checked:
    """Verifies each signature with the cryptography package or gpg, as orchestrator/verify would."""

    def __init__(self, keys: Mapping[KeyId, bytes]) -> None:
        self._keys, self.seen = keys, 0

    def __call__(self, subject: Blob | Statement, content: bytes, key_id: KeyId) -> None:
        import base64
        import json
        import tempfile

        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        from orchestrator.errors import SignatureInvalid

        self.seen += 1
        if isinstance(subject, Blob) and len(key_id) == 40:
            with tempfile.TemporaryDirectory() as folder:
                data = subject.path.read_bytes()
                if gpg_verifies(self._keys[key_id], content, data, Path(folder)) != key_id:
                    raise SignatureInvalid("gpg says no")
            return
        bundle = json.loads(content)
        if isinstance(subject, Blob):
            signature, signed = bundle["messageSignature"]["signature"], subject.path.read_bytes()
        else:
            signature = bundle["dsseEnvelope"]["signatures"][0]["sig"]
            signed = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(subject.payload), subject.payload)
        key = serialization.load_der_public_key(self._keys[key_id])
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            key.verify(base64.b64decode(signature), signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise SignatureInvalid("the signature does not fit") from None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "1.2.3"
    place.mkdir()
    files = {"one": b"first", "two": b"second", "checksums.txt": b"sums\n"}
    files |= {
        f"{name}.provenance.json": statement(name, hashlib.sha256(files[name]).hexdigest()) for name in ("one", "two")
    }
    for name, data in files.items():
        (place / name).write_bytes(data)
    (place / "manifest.json").write_bytes(canonical_json(manifest_of(files)))
    return place


def processes() -> dict[int, bytes]:
    """Give what anyone may read of every process (command line), and its environment where we may."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found[int(entry.name)] = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
        except OSError:
            continue
    return found


class Watch(threading.Thread):
    """Looks at all processes, again and again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.gpg_seen, self.leaks = 0, set[bytes]()

    def run(self) -> None:
        while not self.ended.is_set():
            for text in processes().values():
                self.gpg_seen += b"relbuild-gpg" in text
                if CANARY.encode() in text:
                    self.leaks.add(text)


@pytest.mark.fault(77)
def test_no_secret_is_seen_while_a_release_is_signed(
    folder: Path,
    tmp_path: Path,
    gpg_key: new_keys.MadeKey,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(BY_ENV.where, CANARY)
    made = new_keys.make_key_file(tmp_path / "a.key", new_keys.cosign_form, CANARY.encode(), None, NOW)
    by_file = SignerRules(kind=SignerKind.KEY_FILE, key=str(made.private), passphrase=BY_ENV)
    watch = Watch()
    watch.start()
    signers: tuple[Signer, ...] = open_signers(
        SigningRules(signers=(by_file, gpg_rules(gpg_key)), trust=Path("trust.json")), None
    )
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_public_key(made.public.read_bytes())
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    check = Checked({made.key_id: spki, gpg_key.key_id: gpg_key.public.read_bytes()})
    sign_release(read_staged(folder), signers, RULES, check)
    watch.ended.set()
    watch.join()
    assert check.seen == 10
    assert watch.gpg_seen
    assert not watch.leaks
    assert BY_ENV.where not in os.environ
    said = capfd.readouterr()
    assert CANARY not in said.out + said.err
    for name, data in files_of(folder).items():
        assert CANARY.encode() not in data, name
        assert b"PRIVATE" not in data, name
    assert CANARY not in repr(signers)
