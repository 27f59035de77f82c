"""A release that is stopped while it is signed or verified: by the kernel, by Ctrl-C or by a supervisor.

The program sends the signal to itself at a call of its own that the test chooses; what follows is the program's.
"""

import contextlib
import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.test_publication import Done, Shop, configure, keys, mounted
from tests.unit.release_maker import ecdsa_key

__all__ = ["keys"]  # a fixture

STOPS = """
import os, signal, sys
at = 0
def inside(names):
    frame = sys._getframe()
    while frame and frame.f_code.co_name not in names:
        frame = frame.f_back
    return frame is not None
def hook(event, given):
    global at
    if event == "tempfile.mkdtemp":
        with open("rooms.txt", "a") as file:
            file.write(str(given[0]) + "\\n")
    elif event in {events!r} and at < {number} and inside({names!r}):
        at += 1
        if at == {number}:
            os.kill(os.getpid(), signal.{signal})
sys.addaudithook(hook)
"""
"""Also notes every private folder that is made."""
SIGNING = {"events": ("os.rename", "subprocess.Popen"), "names": ("sign_release",)}
"""A signature comes to its place by the one; gpg makes some by the other."""
VERIFYING = {"events": ("open", "subprocess.Popen"), "names": ("verify_release", "judge_release")}
SIGNALS = ("SIGINT", "SIGTERM")
STAGED = Path("dist/staging/1.0.0")
SIGNATURES = (".sigstore.json", ".asc", ".intoto.jsonl")


@pytest.fixture(scope="module")
def finished(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project with finished cells and a release that two signers have signed; its repository is to come."""
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not installed")
    folder = tmp_path_factory.mktemp("finished") / "shop"
    shutil.copytree(keys, folder)
    shop = Shop(folder, ecdsa_key())
    shop.good("keys", "generate", "--kind", "gpg", "--out", "gnupg", "--no-passphrase")
    trust = ("--trust", "trust.json", "--key", "release.key", "--no-passphrase")
    shop.good("keys", "rotate", *trust, "--add", "gnupg.pub")
    configure(shop, "x86_64")
    text = (folder / "matrix.toml").read_text()
    text = text.replace("run = 'true'", """run = 'cp hello.c "$OUT/hello"'""")
    text = text.replace('"release.key" }', '"release.key" }, { gpg = "only", home = "gnupg" }')
    (folder / "matrix.toml").write_text(text)
    shop.good("matrix", "--engine", "local")
    assert len(signatures(shop)) > 4
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Shop:
    shutil.copytree(finished, tmp_path / "shop", symlinks=True)
    return Shop(tmp_path / "shop", ecdsa_key())


def signatures(shop: Shop) -> list[Path]:
    return [path for path in (shop.folder / STAGED).iterdir() if path.name.endswith(SIGNATURES)]


def unsigned(shop: Shop) -> None:
    for path in signatures(shop):
        path.unlink()


def stopped(shop: Shop, where: Mapping[str, tuple[str, ...]], number: int, name: str, *arguments: object) -> Done:
    """Run the program, let it be stopped, and require that no private folder and no agent of gpg's is left."""
    (shop.folder / "rooms.txt").write_text("")
    done = shop.run(*arguments, before=STOPS.format(**where, number=number, signal=name))
    rooms = (shop.folder / "rooms.txt").read_text().splitlines()
    if name != "SIGKILL":
        assert [room for room in rooms if Path(room).exists()] == []
        assert running_in(rooms) == []
    return done


def running_in(rooms: list[str]) -> list[str]:
    lines = [read(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    return [line for line in lines if any(room in line for room in rooms)]


def read(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


@pytest.mark.fault(22)
def test_signing_ends_tidily_and_can_be_taken_up_again(project: Shop) -> None:
    kept: list[int] = []
    for number in range(1, 60, 3):
        unsigned(project)
        done = stopped(project, SIGNING, number, SIGNALS[len(kept) % 2], "sign")
        if done.code == 0:
            break
        assert done.code == 130, (number, done.out + done.err)
        assert not list((project.folder / STAGED).glob(".*")), number
        kept.append(len(signatures(project)))
        if number > 1 and len(kept) < 4:
            # What an earlier one left is taken up.
            project.good("sign")
            project.good("verify", STAGED, "--trust", "trust.json")
    assert done.code == 0, "it was stopped up to its end"
    assert len(set(kept)) > 2, "before, between and behind signatures"


@pytest.mark.fault(22)
def test_verifying_ends_tidily(project: Shop) -> None:
    count = 0
    for number in range(1, 60, 4):
        done = stopped(project, VERIFYING, number, SIGNALS[count % 2], "verify", STAGED, "--trust", "trust.json")
        if done.code == 0:
            break
        assert done.code == 130, (number, done.out + done.err)
        assert "is verified" not in done.out
        count += 1
    assert done.code == 0
    assert count > 2


@pytest.mark.fault(22)
@pytest.mark.parametrize("where", [SIGNING, VERIFYING], ids=["signing", "verifying"])
@pytest.mark.parametrize("name", SIGNALS)
def test_a_release_that_is_stopped_publishes_nothing(
    project: Shop, where: Mapping[str, tuple[str, ...]], name: str
) -> None:
    done = stopped(project, where, 3, name, "release", "--engine", "local")
    assert (done.code, done.last) == (130, "not published"), done.out + done.err
    assert not project.repository.exists()
    assert project.good("release", "--engine", "local").last == "published"


@pytest.mark.fault(3)
@pytest.mark.parametrize("number", [1, 8])
def test_killed_behind_signing_nothing_is_claimed(project: Shop, number: int) -> None:
    unsigned(project)
    done = stopped(project, VERIFYING, number, "SIGKILL", "release", "--engine", "local")
    assert done.code == -signal.SIGKILL, done.out + done.err
    assert signatures(project), "it was signed"
    assert not project.repository.exists()
    assert re.search(r"no release|nothing|not there", project.read("list").err + project.read("list").out)
    assert project.good("release", "--engine", "local").last == "published"
    assert project.read("audit", "verify").code == 0


@pytest.mark.fault(88)
def test_a_bad_folder_for_temporary_files_is_no_matter_or_ends_it(project: Shop) -> None:
    """Python goes elsewhere where it can write nothing at all; where little fits, gpg gets no keyring."""
    verify = ("verify", STAGED, "--trust", "trust.json")
    for options, left in (("noexec", None), ("ro", None), ("size=64k", 0), ("size=64k", 8192)):
        with mounted(project.folder / f"tmp-{options}-{left}", options) as bad:
            if left is not None:
                fill(bad / "full", left)
            if not left:
                unsigned(project)
                project.good("sign", env={"TMPDIR": str(bad)})
            done = project.run(*verify, env={"TMPDIR": str(bad)})
            assert (done.code == 0) is ("is verified" in done.out) is (not left), done.out + done.err
            assert ("into a keyring in" in done.out + done.err) is bool(left), done.out + done.err
        project.good(*verify)


def fill(file: Path, left: int) -> None:
    """Write until the disk is full, and give some of it back."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    os.truncate(file, file.stat().st_size - left)
