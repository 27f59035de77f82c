"""What a folder repository promises beyond the contract: it is durable, follows nothing, and survives any death."""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from builders.errors import DiskFull
from orchestrator.errors import KeyMissing, KeyTaken, PointerMoved, RepositoryError
from orchestrator.repositories import folders
from orchestrator.repositories.interface import Upload
from orchestrator.repositories.local import LocalRepository, _syncs_whole

ROOT = Path(__file__).parents[2]
STAGING = PurePosixPath(".staging-1")
PAYLOAD = STAGING / "payload"
INDEX = PurePosixPath("index.json")
CLAIM = PurePosixPath("v1.audit.json")
KEYS = [PurePosixPath(name) for name in ("app", "checksums.txt", "manifest.json")]

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
not_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def put_new(store: LocalRepository, key: PurePosixPath, body: bytes) -> None:
    store.put_new(key, body, sha256(body))


def stage(store: LocalRepository, count: int = 0) -> None:
    names = [*KEYS, *(PurePosixPath(f"f{number}") for number in range(count))]
    store.put_all(
        [Upload(key=PAYLOAD / name, body=str(name).encode(), sha256=sha256(str(name).encode())) for name in names]
    )


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "base"


@pytest.fixture
def store(base: Path) -> LocalRepository:
    return LocalRepository(base)


# --- death and failure at every system call -------------------------------------------------------------------------

STORY = """
import hashlib, sys
from pathlib import Path, PurePosixPath as Key
from orchestrator.errors import KeyTaken
from orchestrator.repositories.interface import Upload
from orchestrator.repositories.local import LocalRepository
sha = lambda body: hashlib.sha256(body).hexdigest()
store = LocalRepository(Path(sys.argv[1]))
acknowledged = open(sys.argv[2], "a", buffering=1)
names = ["app", "checksums.txt", "manifest.json"]
with store.alone("publish", timeout_s=5):
    for name in names:
        store.put(Key(".staging-1/payload", name), name.encode(), sha(name.encode()))
    acknowledged.write("staged\\n")
    store.put_new(Key("v1.audit.json"), b"claim", sha(b"claim"))
    acknowledged.write("claimed\\n")
    store.move_new(Key(".staging-1/payload"), Key("v1"), [Key(name) for name in names])
    acknowledged.write("moved\\n")
    store.swap_pointer(Key("index.json"), b"new index", sha(b"old index"))
    acknowledged.write("committed\\n")
    store.delete(Key(".staging-1"))
    acknowledged.write("removed\\n")
"""
"""The writes of a publish, in order, each noted outside once it is acknowledged."""

MUTATING = (
    "mkdir,mkdirat", "openat", "write", "fchmod", "fsync", "link,linkat", "rename,renameat,renameat2",
    "unlink,unlinkat,rmdir",
)  # fmt: skip
FAILING = (
    ("fsync", "EIO"), ("write", "ENOSPC"), ("openat", "ENOSPC"), ("link,linkat", "EDQUOT"), ("mkdir,mkdirat", "EROFS"),
    ("rename,renameat,renameat2", "EIO"), ("fchmod", "EPERM"),
)  # fmt: skip


@pytest.fixture
def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed")
    return found


@pytest.fixture
def old_index(base: Path) -> Path:
    LocalRepository(base).swap_pointer(INDEX, b"old index", None)
    return base


def traced(strace: str, base: Path, notes: Path, calls: str, *more: str) -> tuple[int, str, list[str]]:
    """Run the story under strace; give its exit code, its last words, and the traced calls in order."""
    trace = notes.with_name(f"trace-{base.name}")
    done = subprocess.run(
        [strace, "-f", "-y", "-qq", "-o", str(trace), "-e", f"trace={calls}", *more, sys.executable, "-c", STORY,
         str(base), str(notes)],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    lines = trace.read_text(errors="replace").splitlines() if trace.exists() else []
    return done.returncode, done.stderr, [line for line in lines if "(" in line and "resumed" not in line]


def moments(strace: str, old_index: Path, tmp_path: Path, calls: str) -> Iterator[tuple[str, str, Path, Path]]:
    """Give each of these calls that the story makes on the repository, which one of its name, and fresh folders."""
    whole = tmp_path / "whole"
    shutil.copytree(old_index, whole)
    code, words, lines = traced(strace, whole, tmp_path / "notes-whole", calls)
    assert code == 0, words
    counts: Counter[str] = Counter()
    for line in lines:
        call = line.split("(")[0].split()[-1]
        counts[call] += 1
        if str(whole) in line:
            base = tmp_path / f"run-{call}-{counts[call]}"
            shutil.copytree(old_index, base)
            yield call, f"when={counts[call]}", base, tmp_path / f"notes-{base.name}"
    assert list(tmp_path.glob("run-*")), f"the story never calls {calls}"


def require_sound(base: Path, notes: Path) -> None:
    """Hold a repository that a process died in to what was acknowledged, and finish the story in it."""
    said = notes.read_text().split() if notes.exists() else []
    store = LocalRepository(base)
    pointer = store.read_pointer(INDEX)
    assert pointer is not None
    assert pointer.body in {b"old index", b"new index"}
    assert store.staging_is_alive(STAGING) is False
    assert "committed" not in said or pointer.body == b"new index"
    assert "claimed" not in said or (base / CLAIM).read_bytes() == b"claim"
    assert "moved" not in said or sorted(path.name for path in (base / "v1").iterdir()) == sorted(map(str, KEYS))
    for entry in store.list(PurePosixPath("v1")):
        assert (base / entry.key).read_bytes() == entry.key.name.encode()
    finish(store)
    assert not [path.name for path in base.iterdir() if path.name.startswith((".new-", ".staging-"))]
    assert sorted(path.name for path in (base / "v1").iterdir()) == sorted(map(str, KEYS))


def finish(store: LocalRepository) -> None:
    with store.alone("publish", timeout_s=1):
        if not list(store.list(PurePosixPath("v1"))):
            for key in KEYS:
                store.put(PAYLOAD / key, key.name.encode(), sha256(key.name.encode()))
        with contextlib.suppress(KeyTaken):
            put_new(store, CLAIM, b"claim")
        store.move_new(PAYLOAD, PurePosixPath("v1"), KEYS)
        with contextlib.suppress(PointerMoved):
            store.swap_pointer(INDEX, b"new index", sha256(b"old index"))  # type: ignore[arg-type]  # its own token
        store.delete(STAGING)


@pytest.mark.fault(4, 5, 6)
@pytest.mark.parametrize("calls", MUTATING)
def test_a_writer_killed_at_any_call_leaves_a_sound_repository(
    strace: str, old_index: Path, tmp_path: Path, calls: str
) -> None:
    for call, when, base, notes in moments(strace, old_index, tmp_path, calls):
        code, words, _ = traced(strace, base, notes, calls, "-e", f"inject={call}:signal=KILL:{when}")
        assert code != 0, words
        require_sound(base, notes)


@pytest.mark.fault(10, 12, 14, 15)
@pytest.mark.parametrize(("calls", "error"), FAILING, ids=lambda one: one.split(",")[0])
def test_a_call_that_fails_ends_the_run_with_an_error_that_names_the_place(
    strace: str, old_index: Path, tmp_path: Path, calls: str, error: str
) -> None:
    for call, when, base, notes in moments(strace, old_index, tmp_path, calls):
        code, words, lines = traced(strace, base, notes, calls, "-e", f"inject={call}:error={error}:{when}")
        failed = [line for line in lines if "INJECTED" in line]
        assert failed
        assert code == 1, f"{failed} went unnoticed"
        assert re.search(rf"(RepositoryError|DiskFull): .*{base.name}", words), failed[0] + words[-1500:]
        require_sound(base, notes)


def test_every_write_is_synced_before_it_is_acknowledged_and_its_folder_after_it(
    strace: str, old_index: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    subprocess.run(
        [strace, "-f", "-y", "-qq", "-o", str(trace), "-e", "trace=fsync,linkat,renameat,renameat2,write",
         sys.executable, "-c", STORY, str(old_index), str(tmp_path / "notes")],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}, check=True, timeout=60,
    )  # fmt: skip
    lines = trace.read_text().splitlines()
    base = re.escape(str(old_index))
    orders = {
        "linkat.*v1.audit.json": (rf"fsync\(\d+<{base}/\.new-", rf"fsync\(\d+<{base}>"),
        r"renameat2?\(.*index\.json": (rf"fsync\(\d+<{base}/\.new-", rf"fsync\(\d+<{base}>"),
        r'renameat2.*"payload".*"v1"': (rf"fsync\(\d+<{base}/\.staging-1/payload>", rf"fsync\(\d+<{base}>"),
    }
    acks = [number for number, line in enumerate(lines) if "notes>" in line]
    for change, (before, after) in orders.items():
        at = next(number for number, line in enumerate(lines) if re.search(change, line))
        ack = next(number for number in acks if number > at)
        previous = max((number for number in acks if number < at), default=0)
        assert any(re.search(after, line) for line in lines[at:ack]), change
        # The payload was synced when it was staged, before the claim.
        start = 0 if "payload" in change else previous
        assert any(re.search(before, line) for line in lines[start:at]), change


# --- what is in the way ---------------------------------------------------------------------------------------------


def in_the_way(base: Path) -> Iterator[tuple[str, Callable[[Path], object]]]:
    yield "link", lambda place: place.symlink_to("/etc/passwd")
    yield "dangling link", lambda place: place.symlink_to("nowhere")
    yield "fifo", os.mkfifo
    yield "folder", Path.mkdir


@pytest.mark.fault(20)
@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["link", "dangling link", "fifo", "folder"])
def test_nothing_but_a_plain_file_is_read_or_swapped(store: LocalRepository, base: Path, what: str) -> None:
    base.mkdir()
    dict(in_the_way(base))[what](base / "index.json")
    for ask in (
        lambda: store.read_pointer(INDEX),
        lambda: store.swap_pointer(INDEX, b"x", None),
        lambda: store.open(INDEX).__enter__(),
    ):
        with pytest.raises(RepositoryError, match=r"index\.json"):
            ask()
    with pytest.raises(KeyTaken):
        put_new(store, INDEX, b"x")
    assert os.path.lexists(base / "index.json")


@pytest.mark.fault(18, 19)
@pytest.mark.parametrize("what", ["link", "dangling link", "fifo", "folder", "file", "link to a folder"])
def test_a_version_never_takes_the_place_of_anything(
    store: LocalRepository, base: Path, tmp_path: Path, what: str
) -> None:
    stage(store)
    (tmp_path / "elsewhere").mkdir()
    more: dict[str, Callable[[Path], object]] = {
        "file": Path.touch,
        "link to a folder": lambda place: place.symlink_to(tmp_path / "elsewhere"),
    }
    {**dict(in_the_way(base)), **more}[what](base / "v1")
    before = (base / "v1").lstat()
    with pytest.raises(KeyTaken, match="v1"):
        store.move_new(PAYLOAD, PurePosixPath("v1"), KEYS)
    assert (base / "v1").lstat() == before
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", [".index", ".staging-1"])
def test_no_link_on_the_way_is_followed(store: LocalRepository, base: Path, tmp_path: Path, name: str) -> None:
    base.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (base / name).symlink_to(tmp_path / "elsewhere")
    for call in (store.put_new, store.put) if name.startswith(".staging") else (store.put_new,):
        with pytest.raises(RepositoryError, match=r"link|plain folder"):
            call(PurePosixPath(name, "x"), b"x", sha256(b"x"))
    if name.startswith(".staging"):
        with pytest.raises(RepositoryError):
            store.delete(PurePosixPath(name))
    assert not list((tmp_path / "elsewhere").iterdir())
    assert (tmp_path / "elsewhere").is_dir()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["link", "fifo", "folder"])
def test_only_plain_files_are_published(store: LocalRepository, tmp_path: Path, what: str) -> None:
    dict(in_the_way(tmp_path))[what](tmp_path / "source")
    with pytest.raises(RepositoryError, match="source"):
        store.put_new(CLAIM, tmp_path / "source", sha256(b""))


def test_a_foreign_file_in_the_payload_is_not_published(store: LocalRepository, base: Path) -> None:
    stage(store)
    (base / PAYLOAD / "foreign").write_bytes(b"x")
    with pytest.raises(RepositoryError, match="foreign"):
        store.move_new(PAYLOAD, PurePosixPath("v1"), KEYS)
    assert not (base / "v1").exists()


@pytest.mark.fault(87)
def test_foreign_things_are_listed_and_not_followed(store: LocalRepository, base: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret").touch()
    base.mkdir()
    (base / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(base / "fifo")
    assert [str(entry.key) for entry in store.list(PurePosixPath())] == ["fifo", "link"]


def test_a_base_that_is_not_there_is_empty_and_reading_does_not_make_it(store: LocalRepository, base: Path) -> None:
    assert store.read_pointer(INDEX) is None
    assert list(store.list(PurePosixPath())) == []
    with pytest.raises(KeyMissing), store.open(INDEX):
        pass
    assert not base.exists()


# --- modes and file systems -----------------------------------------------------------------------------------------


@pytest.mark.fault(89)
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_are_the_same_whatever_the_umask(base: Path, tmp_path: Path, umask: int) -> None:
    (tmp_path / "program").write_bytes(b"run")
    (tmp_path / "program").chmod(0o4700)
    before = os.umask(umask)
    try:
        store = LocalRepository(base)
        store.put(PAYLOAD / "program", tmp_path / "program", sha256(b"run"))
        store.put(PAYLOAD / "plain", b"x", sha256(b"x"))
        put_new(store, PurePosixPath(".index/a"), b"x")
        store.swap_pointer(INDEX, b"x", None)
        assert (base / ".staging-1").stat().st_mode & 0o7777 == 0o700
        store.move_new(PAYLOAD, PurePosixPath("v1"), [PurePosixPath("program"), PurePosixPath("plain")])
    finally:
        os.umask(before)
    modes = {
        path: (base / path).stat().st_mode & 0o7777
        for path in (".", "v1", "v1/program", "v1/plain", ".index", ".index/a", "index.json")
    }
    assert modes == {
        ".": 0o755, "v1": 0o755, "v1/program": 0o755, "v1/plain": 0o644, ".index": 0o755, ".index/a": 0o644,
        "index.json": 0o644,
    }  # fmt: skip


@contextlib.contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mount is not allowed here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.fault(11, 13)
@root_only
@pytest.mark.parametrize("size", ["size=1m", "nr_inodes=12"])
def test_a_full_disk_is_said_to_be_full_and_leaves_nothing(tmp_path: Path, size: str) -> None:
    body = os.urandom(300_000)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", size, "tmpfs") as disk:
        store = LocalRepository(disk / "base")
        store.swap_pointer(INDEX, b"old", None)
        with pytest.raises(DiskFull, match="base"):
            store.put_all([Upload(key=PAYLOAD / str(number), body=body, sha256=sha256(body)) for number in range(12)])
        assert not list((disk / "base").glob(".new-*"))
        store.delete(STAGING)
        assert store.swap_pointer(INDEX, b"new", LocalRepository(disk / "base").read_pointer(INDEX).token)  # type: ignore[union-attr]  # it is there


@pytest.mark.fault(15)
@root_only
def test_a_read_only_disk_is_said_to_be(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "tmpfs") as disk:
        LocalRepository(disk / "base").swap_pointer(INDEX, b"old", None)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        store = LocalRepository(disk / "base")
        with pytest.raises(RepositoryError, match=r"v1\.audit\.json.*read-only"):
            put_new(store, CLAIM, b"x")
        pointer = store.read_pointer(INDEX)
        assert pointer is not None
        assert pointer.body == b"old"
        assert len(list(store.list(PurePosixPath()))) == 1


@pytest.mark.fault(16)
@root_only
def test_staging_on_another_device_is_refused(store: LocalRepository, base: Path) -> None:
    base.mkdir()
    other_device = mounted(base / ".staging-1", "-t", "tmpfs", "tmpfs")
    asks: list[Callable[[], object]] = [
        lambda: store.put(PAYLOAD / "x", b"x", sha256(b"x")),
        lambda: store.staging_is_alive(STAGING),
    ]
    with other_device:
        for ask in asks:
            with pytest.raises(RepositoryError, match="another device"):
                ask()


@pytest.mark.fault(15)
@not_root
def test_no_permission_is_said_to_be(tmp_path: Path) -> None:
    base = tmp_path / "base"
    LocalRepository(base).swap_pointer(INDEX, b"old", None)
    program = (
        f"import os\nfrom pathlib import Path, PurePosixPath\n"
        f"from orchestrator.repositories.local import LocalRepository\nos.setgid(65534); os.setuid(65534)\n"
        f"LocalRepository(Path({str(base)!r})).put_new(PurePosixPath('v1'), b'', {sha256(b'')!r})"
    )
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "RepositoryError" in done.stderr
    assert "permission denied" in done.stderr


def test_a_file_system_without_the_promises_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base.mkdir()
    with folders.closing(os.open(base, os.O_RDONLY)) as opened:
        kind = folders.file_system(opened)
    assert kind not in folders.NO_PROMISES
    monkeypatch.setitem(folders.NO_PROMISES, kind, "NFS")
    with pytest.raises(RepositoryError, match="NFS"):
        LocalRepository(base).probe()
    with pytest.raises(RepositoryError, match="NFS"):
        put_new(LocalRepository(base), CLAIM, b"x")
    put_new(LocalRepository(base, unsafe_filesystem=True), CLAIM, b"x")


@pytest.mark.fault(17)
def test_a_file_system_that_cannot_rename_without_replacing_is_refused_or_locked(
    strace: str, old_index: Path, tmp_path: Path
) -> None:
    code, words, _ = traced(strace, old_index, tmp_path / "notes", "renameat2", "-e", "inject=renameat2:error=EINVAL")
    assert code == 1
    assert "cannot rename without replacing" in words
    assert not (old_index / "v1").exists()


# --- locks and life -------------------------------------------------------------------------------------------------


def test_a_lock_names_its_holder(store: LocalRepository) -> None:
    again = store.alone("publish", timeout_s=0.05)
    with (
        store.alone("publish", timeout_s=1),
        pytest.raises(RepositoryError, match=f"process {os.getpid()}"),
        again,
    ):
        pass


def test_a_staging_area_lives_as_long_as_its_maker(base: Path) -> None:
    program = (
        "import sys, hashlib\nfrom pathlib import Path, PurePosixPath\n"
        "from orchestrator.repositories.local import LocalRepository\n"
        "store = LocalRepository(Path(sys.argv[1]))\n"
        "store.put(PurePosixPath('.staging-1/txn.json'), b'', hashlib.sha256().hexdigest())\n"
        "print('made', flush=True)\nsys.stdin.read()"
    )
    maker = subprocess.Popen(
        [sys.executable, "-c", program, str(base)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert maker.stdout is not None
    assert maker.stdin is not None
    maker.stdout.readline()
    store = LocalRepository(base)
    assert store.staging_is_alive(STAGING) is True
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    maker.stdin.close()
    maker.stdout.close()
    assert store.staging_is_alive(STAGING) is False


@pytest.mark.fault(26)
def test_a_staging_area_is_never_seen_without_its_maker(base: Path) -> None:
    """A recoverer that looks at any instant must not take an area that is being made for a dead one."""
    maker, looker = LocalRepository(base), LocalRepository(base)
    base.mkdir()
    stop = threading.Event()
    dead: list[str] = []

    def look() -> None:
        while not stop.is_set():
            dead.extend(
                name
                for name in looker.names(".staging-")
                if (base / name).exists()
                and looker.staging_is_alive(PurePosixPath(name)) is False
                and (base / name).exists()
            )

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(300):
        maker.put(PurePosixPath(f".staging-{number}", "txn.json"), b"", sha256(b""))
    stop.set()
    thread.join()
    assert not dead


@pytest.mark.fault(26)
def test_what_killed_writers_left_is_swept_and_what_living_ones_make_is_not(store: LocalRepository, base: Path) -> None:
    base.mkdir()
    (base / ".new-dead").touch()
    (base / ".new-dead-folder").mkdir()
    with (base / ".new-alive").open("w") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        with store.alone("publish", timeout_s=1):
            pass
        assert [path.name for path in base.glob(".new-*")] == [".new-alive"]


def test_a_failed_sync_ends_the_use_of_the_repository(
    store: LocalRepository, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_new(store, CLAIM, b"x")
    real = os.fsync

    def failing(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", real)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(RepositoryError):
        put_new(store, PurePosixPath("v2.audit.json"), b"x")
    with pytest.raises(RepositoryError, match="syncing it failed"):
        put_new(store, PurePosixPath("v2.audit.json"), b"x")
    assert not (base / "v2.audit.json").exists()


def test_many_small_files_are_synced_together(strace: str, base: Path, tmp_path: Path) -> None:
    program = (
        "import sys, hashlib\nfrom pathlib import Path, PurePosixPath\n"
        "from orchestrator.repositories.interface import Upload\n"
        "from orchestrator.repositories.local import LocalRepository\n"
        "sha = hashlib.sha256(b'x').hexdigest()\n"
        "LocalRepository(Path(sys.argv[1])).put_all([Upload(key=PurePosixPath('.staging-1/payload', str(n)), body=b'x',"
        " sha256=sha) for n in range(int(sys.argv[2]))])"
    )
    for count, least, most in ((200, 1, 12), (20, 20, 40)):
        trace = tmp_path / f"trace-{count}"
        subprocess.run(
            [strace, "-f", "-qq", "-o", str(trace), "-e", "trace=fsync,syncfs,write,fchmod",
             sys.executable, "-c", program, str(base / str(count)), str(count)],
            cwd=ROOT, check=True, timeout=60,
        )  # fmt: skip
        lines = trace.read_text().splitlines()
        synced = [line for line in lines if re.search(r"(fsync|syncfs)\(", line)]
        assert least <= len(synced) <= most, count
        with folders.closing(os.open(base, os.O_RDONLY)) as opened:
            whole = _syncs_whole(opened)
        if count == 200 and whole:
            writes = [number for number, line in enumerate(lines) if re.search(r"(write|fchmod)\(", line)]
            assert len(writes) >= 2 * count
            assert any("syncfs" in line for line in lines[writes[-1] :])


def test_files_go_into_more_folders_than_may_be_open(store: LocalRepository, base: Path) -> None:
    keys = [PAYLOAD / str(number) / name for number in range(150) for name in ("a", "b")]
    with fewer_descriptors(110):
        store.put_all([Upload(key=key, body=str(key).encode(), sha256=sha256(str(key).encode())) for key in keys])
    assert {entry.key for entry in store.list(PAYLOAD)} == set(keys)
    assert (base / keys[-1]).read_bytes() == str(keys[-1]).encode()


@contextlib.contextmanager
def fewer_descriptors(most: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("count", [3, 100])
def test_what_is_written_twice_into_a_staging_area_is_what_came_last(store: LocalRepository, count: int) -> None:
    for body in (b"a longer body", b"body"):
        store.put_all([Upload(key=PAYLOAD / str(n), body=body, sha256=sha256(body)) for n in range(count)])
    with store.open(PAYLOAD / "0") as stream:
        assert stream.read() == b"body"
    assert {entry.size_bytes for entry in store.list(PAYLOAD)} == {4}


@pytest.mark.parametrize("count", [3, 100])
def test_bytes_are_held_to_their_sha256_unless_the_caller_reads_them_back(
    store: LocalRepository, tmp_path: Path, count: int
) -> None:
    changed = tmp_path / "changed"
    changed.write_bytes(b"changed since")
    for body in (b"changed since", changed):
        promised = [Upload(key=PAYLOAD / str(n), body=body, sha256=sha256(b"verified")) for n in range(count)]
        with pytest.raises(RepositoryError, match="was promised"):
            store.put_all(promised)
        store.put_all([dataclasses.replace(upload, read_back=True) for upload in promised])
        assert len(list(store.list(PAYLOAD))) == count


def test_a_pointer_that_others_swap_is_told_from_the_one_that_was_known(base: Path) -> None:
    one, other = LocalRepository(base), LocalRepository(base)
    first = one.swap_pointer(INDEX, b"first", None)
    second = other.swap_pointer(INDEX, b"other", first)
    with pytest.raises(PointerMoved):
        one.swap_pointer(INDEX, b"mine!", first)
    assert first != second
    assert one.swap_pointer(INDEX, b"first", second) == first
    tokens = [one.swap_pointer(INDEX, body, one.read_pointer(INDEX).token) for body in (b"3", b"4", b"5", b"first")]  # type: ignore[union-attr]  # it is there
    assert tokens[-1] == first == sha256(b"first")


@pytest.mark.fault(21)
def test_a_stopped_holder_does_not_lose_its_swap(base: Path) -> None:
    """A process stopped inside the lock goes on safely: the others could not swap meanwhile."""
    store = LocalRepository(base)
    store.swap_pointer(INDEX, b"old", None)
    program = (
        "import sys, os, signal\nfrom pathlib import Path\n"
        "from orchestrator.repositories.local import LocalRepository\n"
        "store = LocalRepository(Path(sys.argv[1]))\n"
        "with store.alone('publish', timeout_s=1):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(base)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.send_signal(signal.SIGSTOP)
    time.sleep(0.05)
    with pytest.raises(RepositoryError, match=f"process {holder.pid}"), store.alone("publish", timeout_s=0.2):
        pass
    holder.send_signal(signal.SIGCONT)
    holder.stdin.close()
    assert holder.wait(10) == 0
    holder.stdout.close()
    with store.alone("publish", timeout_s=1):
        pass
