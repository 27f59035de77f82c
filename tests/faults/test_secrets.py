"""Canaries in every secret of a run; afterwards they are looked for in all that was written, said and started.

Real processes, from `keys generate` to `verify`, with their errors. What a process was started with by whoever started
it stays readable to its own user in /proc; what relbuild hands on to its children, and what any command line shows, may
hold no secret.
"""

import base64
import gzip
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pyrage import x25519  # type: ignore[import-not-found,import-untyped,unused-ignore]  # a compiled module without types

from builders.targets import host
from tests.contract.test_signers import require_gpg

ROOT = Path(__file__).parents[2]
RELBUILD = (sys.executable, "-P", "-c", "from orchestrator.cli import main; main()")
FD = 57
SHORTEST = 12
PROJECT = """
[project]
name = "hello"
version = "1.2.3"
[products.hello]
source = "src"
recipe = "command"
run = 'sleep 1; env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline || true; env >"$OUT/environment"'
outputs = ["environment"]
"""
"""Its recipe shows what it is given, in its log and in the release; and takes long enough to be seen."""


# --- canaries ----------------------------------------------------------------------------------------------------


def canary(name: str) -> str:
    """Make a secret that is nobody else's, with characters that encodings change."""
    return f"canary {name}/{secrets.token_hex(8)}+&%~"


def forms(secret: bytes) -> set[bytes]:
    """Give a secret as it could be written: plain, escaped, percent-encoded, hexadecimal, base64 at any offset."""
    text = secret.decode("utf-8", "backslashreplace")
    found = {secret, secret.hex().encode(), secret.hex().upper().encode(), urllib.parse.quote(secret, "").encode(),
             urllib.parse.quote(secret).encode(), urllib.parse.quote_plus(secret).encode(),
             json.dumps(text)[1:-1].encode(), repr(text)[1:-1].encode(), text.encode("utf-16-le")}  # fmt: skip
    for offset, first in enumerate((0, 2, 3)):
        # The characters at both ends also hold bits of what stands beside the secret.
        whole = base64.b64encode(b"\0" * offset + secret)[first : (offset + len(secret)) * 8 // 6]
        found |= {whole, whole.translate(bytes.maketrans(b"+/", b"-_"))}
    assert all(len(form) >= SHORTEST for form in found)
    return found


class Hunt:
    """Finds canaries, in any of their forms."""

    def __init__(self, canaries: Mapping[str, Iterable[bytes]]) -> None:
        self.forms = {form: name for name, each in canaries.items() for secret in each for form in forms(secret)}
        self._pattern = re.compile(b"|".join(re.escape(form) for form in sorted(self.forms, key=len, reverse=True)))

    def __call__(self, data: bytes) -> set[str]:
        return {self.forms[found] for found in self._pattern.findall(data)}

    def below(self, folder: Path) -> dict[str, set[str]]:
        """Give the canaries that lie in files (packed ones too), file names and links, by path."""
        found = {}
        for path in folder.rglob("*"):
            data = os.fsencode(path.name)
            if path.is_symlink():
                data += b"\n" + os.fsencode(path.readlink())
            elif path.is_file():
                content = path.read_bytes()
                data += b"\n" + (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
            if names := self(data):
                found[str(path.relative_to(folder))] = names
        return found


class Watch(threading.Thread):
    """Looks at the command lines of all processes that were not there before, and at the environments of children.

    A child has its parent's memory until it starts another program: such a one is known by the same command line.
    """

    def __init__(self, hunt: Hunt, argv: Iterable[str]) -> None:
        super().__init__(daemon=True)
        self._hunt, self._before = hunt, set(os.listdir("/proc"))  # noqa: PTH208  (names are all that is wanted)
        self._own = b"".join(os.fsencode(word) + b"\0" for word in argv)
        self._ended = threading.Event()
        self.programs, self.leaks = set[bytes](), set[str]()

    def run(self) -> None:
        while not self._ended.is_set():
            for name in set(os.listdir("/proc")) - self._before:  # noqa: PTH208  (as above)
                if name.isdigit():
                    self._look(Path("/proc") / name)

    def _look(self, process: Path) -> None:
        try:
            line = (process / "cmdline").read_bytes()
            environment = b"" if line == self._own else (process / "environ").read_bytes()
            if line != (process / "cmdline").read_bytes():
                return  # It became another program in between, and is looked at again.
        except OSError:
            return
        self.programs.add(Path(os.fsdecode(line.partition(b"\0")[0])).name.encode())
        for place, data in (("command line", line), ("environment", environment)):
            self.leaks |= {f"{name} in the {place} of {line[:200]!r}" for name in self._hunt(data)}

    def end(self) -> None:
        self._ended.set()
        self.join()


# --- the runs ----------------------------------------------------------------------------------------------------


@dataclass
class World:
    """A folder with secrets, and one with all that the runs write. `said` holds what each run printed, by its name."""

    root: Path
    hunt: Hunt
    env: dict[str, str]
    descriptor: Path
    said: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    leaks: set[str] = field(default_factory=set)
    programs: set[bytes] = field(default_factory=set)

    @property
    def secret(self) -> Path:
        return self.root / "secret"

    @property
    def written(self) -> Path:
        return self.root / "written"

    def run(self, name: str, *arguments: object, env: Mapping[str, str] | None = None, fd: Path | None = None) -> None:
        """Run relbuild as a process, watched."""
        argv = [*RELBUILD, *map(str, arguments)]
        watch = Watch(self.hunt, argv)
        source = os.open(fd or self.descriptor, os.O_RDONLY)
        os.dup2(source, FD)
        watch.start()
        try:
            done = subprocess.run(argv, cwd=self.written / "project", env={**self.env, **(env or {})}, check=False,
                                  capture_output=True, pass_fds=(FD,), timeout=600)  # fmt: skip
        finally:
            watch.end()
            os.close(FD)
            os.close(source)
        self.leaks |= {f"{name}: {leak}" for leak in watch.leaks}
        self.programs |= watch.programs
        self.said[name] = (done.returncode, done.stdout + done.stderr)

    def signed_by(self, *signers: str, more: str = "") -> None:
        text = f'[signing]\ntrust = "trust.json"\nartifacts = true\nsigners = [{", ".join(signers)}]\n{more}\n'
        (self.written / "project" / "matrix.toml").write_text(f"{PROJECT}{text}", encoding="utf-8")

    @property
    def key_file(self) -> str:
        return f'{{ key_file = "{self.secret}/release.key", passphrase = "env:HELLO_KEY" }}'

    @property
    def plain_key(self) -> str:
        return f'{{ key_file = "{self.secret}/plain.key" }}'

    @property
    def gpg(self) -> str:
        return f'{{ gpg = "only", home = "{self.secret}/gnupg", passphrase = "fd:{FD}" }}'


def key_canaries(key: Path) -> list[bytes]:
    """Give a private key's number and the lines of its file."""
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    lines = [line for line in key.read_bytes().splitlines() if len(line) > 40 and not line.startswith(b"-")]
    number = private.private_numbers().private_value.to_bytes(32, "big")
    # The first line is the same for every key of the curve, but for its end, which begins the number.
    return [number, *lines[1:2]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    require_gpg()
    root = tmp_path_factory.mktemp("secrets")
    for name in ("secret", "written/project/src", "written/home", "written/tmp"):
        (root / name).mkdir(parents=True)
    (root / "written/project/src/file").write_text("source\n")
    identity = x25519.Identity.generate()
    texts = {
        name: canary(name)
        for name in ("key passphrase", "gpg passphrase", "wrong passphrase", "aws secret", "aws session", "token")
    }
    (root / "secret/gpg-passphrase").write_text(f"{texts['gpg passphrase']}\n")
    (root / "secret/wrong-passphrase").write_text(f"{texts['wrong passphrase']}\n")
    (root / "secret/identity").write_text(f"{identity}\n")
    (root / "secret/identity").chmod(0o600)
    written = root / "written"
    env = {
        "PATH": os.environ["PATH"], "HOME": str(written / "home"), "TMPDIR": str(written / "tmp"),
        "PYTHONPATH": str(ROOT), "HELLO_KEY": texts["key passphrase"], "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": texts["aws secret"], "AWS_SESSION_TOKEN": texts["aws session"],
        "REGISTRY_TOKEN": texts["token"], "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
    }  # fmt: skip
    secret = {name: [text.encode()] for name, text in texts.items()} | {"age identity": [str(identity).encode()]}
    made = World(root, Hunt(secret), env, root / "secret/gpg-passphrase")
    make_keys(made)
    made.hunt = Hunt({**secret, "plain key": key_canaries(root / "secret/plain.key")})
    release(made, str(identity.to_public()))
    mistakes(made, texts["wrong passphrase"], str(identity))
    return made


def make_keys(world: World) -> None:
    world.signed_by(world.key_file)
    trust, new = ("--trust", "trust.json"), ("keys", "generate")
    by_env, by_fd = ("--passphrase-env", "HELLO_KEY"), ("--passphrase-fd", FD)
    world.run("key", *new, "--out", world.secret / "release.key", *by_env, *trust, "--project", "hello")
    world.run("plain key", *new, "--out", world.secret / "plain.key", "--no-passphrase")
    world.run("cosign key", *new, "--kind", "cosign", "--out", world.secret / "cosign.key", *by_env)
    world.run("gpg key", *new, "--kind", "gpg", "--out", world.secret / "gnupg", *by_fd)
    public = (part for name in ("plain", "gnupg") for part in ("--add", world.secret / f"{name}.pub"))
    world.run("rotate", "keys", "rotate", *trust, "--key", world.secret / "release.key", *by_env, *public)
    world.run("show", "keys", "show", world.secret / "release.key", *by_env)
    for path in world.secret.glob("*.pub"):
        shutil.copy(path, world.written)


def release(world: World, recipient: str) -> None:
    encryption = f'[signing.encryption]\nrecipients = ["{recipient}"]'
    world.signed_by(world.key_file, world.plain_key, world.gpg, more=encryption)
    look = ("verify", world.written / "project/dist/staging/1.2.3", "--identity", world.secret / "identity")
    world.run("rehearse", "rehearse")
    world.run("matrix", "matrix", "--engine", "local", "--targets", host().name)
    world.run("matrix again, as JSON", "matrix", "--engine", "local", "--targets", host().name, "--log-format", "json")
    world.run("sign", "sign")
    world.run("verify", *look)
    world.run("verify as JSON", *look, "--json", "--result", world.written / "result.json")


def mistakes(world: World, wrong: str, identity: str) -> None:
    release = world.written / "project/dist/staging/1.2.3"
    for command in ("rehearse", "sign"):
        world.run(f"FAILS 71: {command}, key", command, env={"HELLO_KEY": wrong})
        world.run(f"FAILS 71: {command}, gpg", command, fd=world.secret / "wrong-passphrase")
    world.run("FAILS 71: show", "keys", "show", world.secret / "cosign.key", "--passphrase-env", "X", env={"X": wrong})
    world.run("FAILS 70: again", "keys", "generate", "--out", world.secret / "release.key", "--no-passphrase")
    world.run("FAILS: private as public", "verify", release, "--key", world.secret / "plain.key")
    world.run("FAILS 49: no identity", "verify", release, "--identity", world.secret / "plain.key")
    world.run("FAILS: no trust file", "verify", release, "--trust", world.secret / "plain.key")
    world.run("FAILS: not to be added", "keys", "rotate", "--trust", "trust.json", "--key",
              world.secret / "plain.key", "--add", world.secret / "plain.key", "--no-passphrase")  # fmt: skip
    kms = '{ kms = "alias/release", region = "eu-central-1", endpoint = "http://127.0.0.1:9" }'
    world.signed_by(kms)
    world.run("FAILS 48: kms", "rehearse")
    (world.secret / "plain.key").chmod(0o644)
    world.signed_by(world.plain_key)
    world.run("FAILS 70: readable", "rehearse")
    for name, text in {"passphrase": wrong, "recipient": identity}.items():
        literal = world.key_file.replace("env:HELLO_KEY", wrong) if name == "passphrase" else world.key_file
        world.signed_by(literal, more=f'[signing.encryption]\nrecipients = ["{text}"]' if name == "recipient" else "")
        world.run(f"FAILS 13: {name} in matrix.toml", "rehearse")
    # What we wrote there ourselves.
    (world.written / "project/matrix.toml").unlink()


# --- nothing is found --------------------------------------------------------------------------------------------


def test_every_run_ended_as_it_should(world: World) -> None:
    assert len(world.said) == 26
    for name, (code, said) in world.said.items():
        wanted = re.match(r"FAILS(?: (\d+))?", name)
        text = f"{name} ended with {code}:\n{said.decode()}"
        assert (code != 0) is bool(wanted), text
        assert not wanted or not wanted[1] or code == int(wanted[1]), text
        assert b"Traceback" not in said, text


@pytest.mark.fault(77)
def test_nothing_written_holds_a_secret(world: World) -> None:
    files = [path for path in world.written.rglob("*") if path.is_file()]
    assert len(files) > 40
    assert {"trust.json", "manifest.json", "result.json", "release.pub"} <= {path.name for path in files}
    assert [path for path in files if path.suffix == ".log"]
    assert world.hunt.below(world.written) == {}


def test_the_recipe_showed_what_it_was_given(world: World) -> None:
    """Hold that the build was one that would have shown a secret."""
    logs = b"".join(path.read_bytes() for path in world.written.rglob("*.log"))
    assert b"SOURCE_DATE_EPOCH=" in logs
    (packed,) = (world.written / "project/dist/staging").rglob("*.tar.gz")
    assert b"SOURCE_DATE_EPOCH=" in gzip.decompress(packed.read_bytes())


@pytest.mark.fault(77)
def test_nothing_said_holds_a_secret(world: World) -> None:
    assert {name: found for name, (_, said) in world.said.items() if (found := world.hunt(said))} == {}


@pytest.mark.fault(77)
def test_no_process_was_given_a_secret(world: World) -> None:
    assert world.leaks == set()
    assert b"sleep" in world.programs, world.programs


@pytest.mark.fault(77)
def test_nothing_is_left_in_the_folder_for_temporary_files(world: World) -> None:
    assert list((world.written / "tmp").iterdir()) == []
    assert list((world.written / "home").iterdir()) == []


@pytest.mark.fault(77)
def test_no_program_that_a_rehearsal_starts_is_given_a_secret(world: World, tmp_path: Path) -> None:
    """Hold it for every single start of a program, which looking at /proc may miss."""
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-qq", "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace is not here, or may not look")
    (world.secret / "plain.key").chmod(0o600)
    world.signed_by(world.key_file, world.plain_key, world.gpg)
    trace = tmp_path / "trace"
    shown = [strace, "-f", "-qq", "-v", "-s", "100000", "-e", "trace=execve", "-e", "signal=none", "-o", str(trace)]
    with world.descriptor.open("rb") as source:
        os.dup2(source.fileno(), FD)
        try:
            done = subprocess.run([*shown, *RELBUILD, "rehearse"], cwd=world.written / "project", env=world.env,
                                  capture_output=True, pass_fds=(FD,), check=False, timeout=300)  # fmt: skip
        finally:
            os.close(FD)
            (world.written / "project/matrix.toml").unlink()
    assert done.returncode == 0, done.stderr
    own, *others = [line for line in trace.read_bytes().splitlines() if b"execve(" in line]
    assert {"key passphrase", "aws secret", "token"} <= world.hunt(own), "strace does not show environments"
    programs = {Path(found[1].decode()).name for line in others if (found := re.search(rb'execve\("([^"]+)"', line))}
    assert {"syft", "gpg"} <= programs
    assert [line for line in others if world.hunt(line)] == []


# --- controls: what is there is found ----------------------------------------------------------------------------


def test_a_planted_secret_is_found_in_every_form(world: World, tmp_path: Path) -> None:
    for number, (form, name) in enumerate(world.hunt.forms.items()):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "plain").write_bytes(b"before " + form + b" after")
        (folder / "packed").write_bytes(gzip.compress(b"before " + form + b" after"))
        (folder / "none").write_bytes(form[:-1] if len(form) == SHORTEST else b"")
        assert world.hunt.below(folder) == {"plain": {name}, "packed": {name}}
    assert len({*world.hunt.forms.values()}) == 8


def test_base64_of_a_secret_among_other_bytes_is_found(world: World) -> None:
    secret = world.env["HELLO_KEY"].encode()
    for before in range(6):
        data = b"x" * before + secret + b"yy"
        assert world.hunt(base64.b64encode(data)) == {"key passphrase"}
        assert world.hunt(base64.urlsafe_b64encode(data)) == {"key passphrase"}


@pytest.fixture
def leaking(world: World) -> Iterator[Watch]:
    watch = Watch(world.hunt, ["another program"])
    watch.start()
    yield watch
    assert not watch.is_alive()


def test_a_process_that_is_given_a_secret_is_seen(world: World, leaking: Watch) -> None:
    secret = world.env["HELLO_KEY"]
    subprocess.run([sys.executable, "-c", "import time; time.sleep(1)"], env={"PLANTED": secret}, check=True)
    subprocess.run([sys.executable, "-c", "import time; time.sleep(1)", secret], env={}, check=True)
    leaking.end()
    assert any("key passphrase in the environment" in leak for leak in leaking.leaks)
    assert any("key passphrase in the command line" in leak for leak in leaking.leaks)
