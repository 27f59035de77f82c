"""Files with private keys: which are refused and in what words, formats, and where passphrases come from."""

import base64
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import PrivateFormat

from builders import command
from orchestrator.errors import KeyRefused, PassphraseWrong
from orchestrator.signing import cosign_key, key_file, private_file
from orchestrator.signing.passphrase import Passphrases
from orchestrator.signing_rules import PassphraseFrom, PassphraseSource, SignerKind, SignerRules, SigningRules

SECRET = b"canary-7c1e0b passphrase"


def none() -> bytes | None:
    return None


def asked() -> bytes | None:
    pytest.fail("a passphrase was asked for, and the file alone was reason enough to refuse it")


def good_key(path: Path, passphrase: bytes | None = None) -> key_file.EcKey:
    key = key_file.new_key()
    private_file.write_private(path, key.private_pem(passphrase))
    return key


# --- refusals ----------------------------------------------------------------------------------------------------


def _link(path: Path) -> None:
    good_key(path.with_name("real.key"))
    path.symlink_to(path.with_name("real.key"))


def _mode(mode: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        good_key(path)
        path.chmod(mode)

    return make


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def _text(data: bytes) -> Callable[[Path], None]:
    return lambda path: private_file.write_private(path, data)


def _pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey, form: PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _two_keys(path: Path) -> None:
    private_file.write_private(path, key_file.new_key().private_pem(None) + key_file.new_key().private_pem(None))


P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()

REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "is missing"),
    "symlink": (_link, "is a symbolic link"),
    "dangling-symlink": (lambda path: path.symlink_to("nowhere"), "is a symbolic link"),
    "fifo": (lambda path: os.mkfifo(path, 0o600), "is a named pipe"),
    "socket": (_socket, "is a socket"),
    "folder": (lambda path: path.mkdir(mode=0o700), "is a folder"),
    "world-readable": (_mode(0o604), r"is open to other users \(mode 0604\)"),
    "group-readable": (_mode(0o640), r"is open to other users \(mode 0640\)"),
    "world-writable": (_mode(0o602), r"is open to other users \(mode 0602\)"),
    "0644": (_mode(0o644), r"is open to other users \(mode 0644\)"),
    "empty": (_text(b""), "is empty"),
    "huge": (_text(b"\n" * (private_file.MAX_KEY_BYTES + 1)), "is larger than 65536 bytes"),
    "no-pem": (_text(b"hello\n"), "is not one PEM block"),
    "two-blocks": (_two_keys, "is not one PEM block"),
    "damaged": (_text(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "is damaged"),
    "sec1": (_text(_pem(P256, PrivateFormat.TraditionalOpenSSL)), "holds a 'EC PRIVATE KEY', not a PKCS#8"),
    "openssh": (_text(_pem(ED25519, PrivateFormat.OpenSSH)), "holds a 'OPENSSH PRIVATE KEY'"),
    "public": (_text(key_file.new_key().public_pem), "holds a 'PUBLIC KEY'"),
    "ed25519": (_text(_pem(ED25519, PrivateFormat.PKCS8)), "is not an ECDSA P-256 key"),
    "p384": (_text(_pem(P384, PrivateFormat.PKCS8)), "is not an ECDSA P-256 key"),
}  # fmt: skip


@pytest.mark.fault(78)
@pytest.mark.parametrize(("make", "words"), REFUSALS.values(), ids=REFUSALS)
def test_a_bad_key_file_is_refused_in_its_own_words(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    path = tmp_path / "release.key"
    make(path)
    with pytest.raises(KeyRefused, match=words) as caught:
        key_file.read_key(path, asked)
    assert str(path) in str(caught.value)
    assert caught.value.next_step
    assert caught.value.exit_code == 70


def test_every_refusal_that_looks_at_the_file_has_other_words() -> None:
    words = [text for name, (_, text) in REFUSALS.items() if name not in {"dangling-symlink", "two-blocks", "p384"}]
    assert len(set(words)) == len(words)


@pytest.mark.fault(78)
def test_devices_are_refused() -> None:
    with pytest.raises(KeyRefused, match="is a device"):
        key_file.read_key(Path("/dev/zero"), asked)


@pytest.mark.fault(78)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_another_user_s_key_is_refused(tmp_path: Path) -> None:
    good_key(tmp_path / "release.key")
    os.chown(tmp_path / "release.key", 12345, -1)
    with pytest.raises(KeyRefused, match=r"belongs to another user \(uid 12345\)"):
        key_file.read_key(tmp_path / "release.key", asked)


def test_a_new_key_is_private_whatever_the_umask_and_overwrites_nothing(tmp_path: Path) -> None:
    before = os.umask(0o277)
    try:
        private_file.write_private(tmp_path / "a.key", b"first")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    (tmp_path / "link.key").symlink_to("elsewhere")
    for name in ("a.key", "link.key"):
        with pytest.raises(KeyRefused, match="is there already and is not overwritten"):
            private_file.write_private(tmp_path / name, b"second")
    assert (tmp_path / "a.key").read_bytes() == b"first"
    assert not (tmp_path / "elsewhere").exists()


# --- formats and passphrases -------------------------------------------------------------------------------------


def _write(path: Path, form: str, key: key_file.EcKey) -> None:
    private_file.write_private(path, key.cosign_pem(SECRET) if form == "cosign" else key.private_pem(SECRET))


@pytest.mark.fault(78)
@pytest.mark.parametrize("form", ["pkcs8", "cosign"])
def test_an_encrypted_key_opens_with_its_passphrase_only(tmp_path: Path, form: str) -> None:
    path, key = tmp_path / "release.key", key_file.new_key()
    _write(path, form, key)
    assert key_file.read_key(path, lambda: SECRET).key_id == key.key_id
    assert key_file.is_encrypted(path)
    calls = []

    def wrong() -> bytes:
        calls.append(1)
        return SECRET + b"x"

    with pytest.raises(PassphraseWrong, match="passphrase is not that of the key") as caught:
        key_file.read_key(path, wrong)
    assert len(calls) == 1
    assert caught.value.exit_code == 71
    assert "canary" not in str(caught.value)
    with pytest.raises(PassphraseWrong, match="no passphrase was given"):
        key_file.read_key(path, none)


def test_cosign_s_older_label_is_read(tmp_path: Path) -> None:
    key = key_file.new_key()
    old = key.cosign_pem(SECRET).replace(b"SIGSTORE", b"COSIGN")
    private_file.write_private(tmp_path / "cosign.key", old)
    assert key_file.read_key(tmp_path / "cosign.key", lambda: SECRET).key_id == key.key_id


def _cosign_body() -> dict[str, object]:
    text = b"".join(key_file.new_key().cosign_pem(SECRET).split(b"\n")[1:-2])
    body: dict[str, object] = json.loads(base64.b64decode(text))
    return body


@pytest.mark.parametrize(
    "change",
    [
        {"kdf": {"name": "scrypt", "params": {"N": 1 << 30, "r": 8, "p": 1}, "salt": "AAAA"}},
        {"kdf": {"name": "argon2", "params": {"N": 65536, "r": 8, "p": 1}, "salt": "AAAA"}},
        {"cipher": {"name": "none", "nonce": ""}},
        {"cipher": {"name": "nacl/secretbox", "nonce": "AAAA"}},
        {"ciphertext": 7},
        {"ciphertext": "*"},
        {"kdf": None},
    ],
)
def test_a_damaged_cosign_key_is_refused_before_it_costs_anything(change: dict[str, object]) -> None:
    body = json.dumps(_cosign_body() | change).encode()
    with pytest.raises(cosign_key.Damaged):
        cosign_key.decrypted(body, SECRET)


@pytest.mark.fault(72)
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"[" * 100_000, b"\xff"])
def test_a_cosign_key_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(cosign_key.Damaged):
        cosign_key.decrypted(body, SECRET)


def test_a_plain_key_asks_for_nothing(tmp_path: Path) -> None:
    key = good_key(tmp_path / "release.key")
    assert key_file.read_key(tmp_path / "release.key", asked).key_id == key.key_id
    assert not key_file.is_encrypted(tmp_path / "release.key")


def test_a_key_shows_nothing_of_itself(tmp_path: Path) -> None:
    key = good_key(tmp_path / "release.key")
    assert repr(key) == "EcKey()"


# --- where passphrases come from ---------------------------------------------------------------------------------

ENV = PassphraseSource(kind=PassphraseFrom.ENV, where="RELBUILD_TEST_SECRET")


def test_a_variable_is_gone_from_the_environment_once_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV.where, SECRET.decode())
    secrets = Passphrases(None)
    assert secrets.get(ENV, "the key") == SECRET
    done = command.capture([sys.executable, "-c", "import os; print(dict(os.environ))"])
    assert b"canary" not in done.stdout
    assert ENV.where not in os.environ
    assert secrets.get(ENV, "the key") == SECRET


def test_variables_can_be_taken_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV.where, SECRET.decode())
    rules = SigningRules(
        signers=(SignerRules(kind=SignerKind.KEY_FILE, key="release.key", passphrase=ENV),), trust=Path("trust.json")
    )
    secrets = Passphrases(None)
    secrets.take_environment(rules)
    assert ENV.where not in os.environ
    assert secrets.get(ENV, "the key") == SECRET
    assert "canary" not in repr(secrets)


@pytest.mark.parametrize(
    ("written", "read"), [(b"pass\n", b"pass"), (b"pass\r\n", b"pass"), (b" a b \n\n", b" a b \n")]
)
def test_a_descriptor_is_read_once_without_its_line_end(written: bytes, read: bytes) -> None:
    reader, writer = os.pipe()
    os.write(writer, written)
    os.close(writer)
    source = PassphraseSource(kind=PassphraseFrom.FD, where=str(reader))
    secrets = Passphrases(None)
    assert [secrets.get(source, "one"), secrets.get(source, "two")] == [read, read]
    os.close(reader)


def test_a_prompt_names_the_key_and_asks_once() -> None:
    questions: list[str] = []

    def ask(question: str) -> str:
        questions.append(question)
        return "gr\u00fcn"

    secrets = Passphrases(ask)
    assert secrets.get(PassphraseSource(kind=PassphraseFrom.PROMPT), "the key-file release.key") == "gr\u00fcn".encode()
    assert questions == ["Passphrase of the key-file release.key: "]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (PassphraseSource(kind=PassphraseFrom.ENV, where="RELBUILD_TEST_UNSET"), "is not set"),
        (PassphraseSource(kind=PassphraseFrom.FD, where="987"), "Bad file descriptor"),
        (PassphraseSource(kind=PassphraseFrom.FD, where="nine"), "not a number"),
        (PassphraseSource(kind=PassphraseFrom.FD, where="9" * 30), "cannot be read"),
        (PassphraseSource(kind=PassphraseFrom.PROMPT), "nobody is here to answer"),
    ],
)
def test_a_passphrase_that_cannot_be_had_says_why(source: PassphraseSource, words: str) -> None:
    with pytest.raises(PassphraseWrong, match=words) as caught:
        Passphrases(None).get(source, "the key")
    assert caught.value.next_step


def test_an_empty_variable_is_no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV.where, "")
    with pytest.raises(PassphraseWrong, match="is empty"):
        Passphrases(None).get(ENV, "the key")


def test_an_endless_descriptor_is_no_passphrase() -> None:
    descriptor = os.open("/dev/zero", os.O_RDONLY)
    with pytest.raises(PassphraseWrong, match="holds more than 65536 bytes"):
        Passphrases(None).get(PassphraseSource(kind=PassphraseFrom.FD, where=str(descriptor)), "the key")
    os.close(descriptor)


def test_reading_keys_imports_nothing_that_signing_does_not_need() -> None:
    program = "import sys, orchestrator.signing.sign, orchestrator.cli.keys; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for name in ("boto3", "sigstore", "pyrage", "nacl", "cryptography"):
        assert f"'{name}'" not in done.stdout
