"""The real publisher on a real folder: killed by the kernel at its calls, failed at them, cut off from power, raced.

By default a sample of the calls; RELBUILD_FAULTS=full takes all. Each test prints how many it took of how many.
"""

import contextlib
import copy
import gc
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builders.errors import RelbuildError
from orchestrator.errors import DuplicateVersion, PublicationError
from orchestrator.publication import PublicationState
from orchestrator.publish import lifecycle
from orchestrator.publish.desk import state_of
from orchestrator.publish.lifecycle import Office, Order
from orchestrator.publish.promote import promote
from orchestrator.repositories.local import LocalRepository
from orchestrator.trust import VerifiedRelease
from tests.faults.invariants import Witness, disk
from tests.faults.publisher_program import KEYS, OUTCOMES, TERMS, make_release, now, publish, recovered, silent

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("RELBUILD_FAULTS") == "full"
CHANGING = (
    "mkdir", "mkdirat", "link", "linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "fsync",
    "fdatasync", "syncfs", "ftruncate", "fchmod", "fchmodat", "write", "pwrite64", "sendfile", "copy_file_range",
)  # fmt: skip
"""Calls that change what is on the disk. A kill behind one is a kill before the next."""
SYNCS = ("fsync", "fdatasync", "syncfs")
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""How strace ends with the program that it kills, and how a shell tells it."""
UNSYNCED = tuple(call for call in CHANGING if call not in SYNCS)

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
needs_loop = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/loop-control").exists() or shutil.which("mkfs.ext4") is None,
    reason="power cuts need root, loop devices and mkfs.ext4",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the program ended: its code (negative: a signal's number), and the last line that it printed."""

    exit_code: int
    last_line: str
    errors: str


def program(
    *arguments: str | Path, strace: Sequence[str] = (), one_by_one: bool = True, around: Sequence[str] = ()
) -> Ended:
    """Run the publisher, under strace where it is to be disturbed, or `around` by another program."""
    env = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}
    env |= {"RELBUILD_ONE_BY_ONE": "1"} if one_by_one else {}
    tracer = ["strace", "-f", "--seccomp-bpf", "-qqq", *strace] if strace else []
    command = [*around, *tracer, sys.executable, "-B", "-m", "tests.faults.publisher_program", *map(str, arguments)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return Ended(exit_code=done.returncode, last_line=(done.stdout.splitlines() or [""])[-1], errors=done.stderr)


def calls_of(log: Path, *arguments: str | Path) -> Counter[str]:
    """Count the changing calls of an undisturbed run."""
    ended = program(*arguments, strace=["-o", str(log), "-e", f"trace={','.join(CHANGING)}"])
    assert ended.exit_code == 0, ended.errors
    lines = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()]
    return Counter(line.split("(")[0] for line in lines if "(" in line and not line.startswith(("+++", "---")))


def points(calls: Counter[str], *, most: int, only: Sequence[str] = CHANGING) -> list[tuple[str, int]]:
    """Give call and number of all injection points, or an even sample."""
    every = [(call, number) for call in only for number in range(1, calls[call] + 1)]
    if FULL or len(every) <= most:
        return every
    # Links decide: fate and claim are never left out.
    links = [point for point in every if point[0] == "linkat"]
    rest = [point for point in every if point[0] != "linkat"]
    count = max(1, most - len(links))
    return [*links, *(rest[at * len(rest) // count] for at in range(count))][:most]


@dataclass
class Place:
    """A repository with one release, to be copied for each fault, and a release to publish into the copies."""

    base: Path
    repository: Path
    folder: Path
    release: VerifiedRelease
    witness: Witness
    calls: Counter[str]
    copies: int = 0

    def fresh(self) -> tuple[Path, Witness]:
        self.copies += 1
        target = self.base / f"copy-{self.copies}"
        shutil.copytree(self.repository, target)
        return target, copy.deepcopy(self.witness)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    base, witness = tmp_path_factory.mktemp("commit"), Witness()
    repository, release = base / "repository", make_release(base / "releases", "1.1.0")
    first = publish(LocalRepository(repository), make_release(base / "releases", "1.0.0"))
    witness.acknowledge("1.0.0", first.audit_sha256)
    witness.settled(disk(repository))
    made = Place(
        base=base, repository=repository, folder=release.folder, release=release, witness=witness, calls=Counter()
    )
    if shutil.which("strace"):
        made.calls = calls_of(base / "log", "promote", made.fresh()[0], release.folder)
    return made


def listed(witness: Witness, folder: Path, version: str = "1.1.0") -> bool:
    index = witness.look(disk(folder))
    return index is not None and version in {entry["version"] for entry in index["releases"]}


def healed(witness: Witness, folder: Path) -> None:
    recovered(LocalRepository(folder))
    witness.settled(disk(folder))


# --- killed ---------------------------------------------------------------------------------------------------------


@pytest.mark.fault(2, 4, 5, 7)
@needs_strace
def test_killed_at_its_calls_it_is_rolled_forward_or_was_never_there(place: Place) -> None:
    chosen = points(place.calls, most=28)
    print(f"kills: {len(chosen)} of {place.calls.total()} calls")
    assert place.calls.total() > 80
    before = after = 0
    for call, number in chosen:
        folder, witness = place.fresh()
        ended = program("promote", folder, place.folder, strace=["-e", f"inject={call}:signal=SIGKILL:when={number}"])
        assert ended.exit_code in KILLED, (call, number, ended)
        claimed = (folder / "1.1.0.audit.json").exists()
        was_listed = listed(witness, folder)
        assert claimed or not was_listed
        healed(witness, folder)
        assert listed(witness, folder) or not claimed, (call, number)
        before, after = before + (not claimed), after + claimed
        # The number is not lost by a kill: the same bytes are out afterwards in every case.
        witness.acknowledge("1.1.0", publish(LocalRepository(folder), place.release).audit_sha256)
        witness.settled(disk(folder))
        shutil.rmtree(folder)
    assert before
    assert after


@pytest.mark.fault(8)
@needs_strace
def test_killed_inside_recovery_the_next_one_finishes(place: Place) -> None:
    deaths = [
        (call, number)
        for call, number in points(place.calls, most=10**6)
        if call in {"linkat", "renameat2", "renameat"} or (call == "unlinkat" and number % 5 == 0)
    ]
    if not FULL:
        deaths = random.Random(1).sample(deaths, 5)
    taken = total = 0
    for at, (call, number) in enumerate(deaths):
        folder, _ = place.fresh()
        ended = program("promote", folder, place.folder, strace=["-e", f"inject={call}:signal=SIGKILL:when={number}"])
        assert ended.exit_code in KILLED, (call, number, ended)
        again = place.base / "again"
        shutil.copytree(folder, again)
        inner = calls_of(place.base / "log", "recover", again)
        shutil.rmtree(again)
        total += inner.total()
        for inner_call, inner_number in points(inner, most=4)[: None if FULL else 4]:
            shutil.copytree(folder, again)
            witness = copy.deepcopy(place.witness)
            claimed = (again / "1.1.0.audit.json").exists()
            ended = program("recover", again, strace=["-e", f"inject={inner_call}:signal=SIGKILL:when={inner_number}"])
            assert ended.exit_code in KILLED, ended
            witness.look(disk(again))
            healed(witness, again)
            assert listed(witness, again) or not claimed, (at, call, number, inner_call, inner_number)
            shutil.rmtree(again)
            taken += 1
    print(f"nested kills: {taken} of {total} calls, in {len(deaths)} states")
    assert taken >= len(deaths)


@pytest.mark.fault(2)
@needs_strace
def test_killed_while_threads_copy(place: Place) -> None:
    for number in range(1, 8, 1 if FULL else 3):
        folder, witness = place.fresh()
        ended = program(
            "promote", folder, place.folder, one_by_one=False,
            strace=["-e", f"inject=fsync:signal=SIGKILL:when={number}"],
        )  # fmt: skip
        assert ended.exit_code in KILLED, (number, ended)
        witness.look(disk(folder))
        healed(witness, folder)


# --- failing calls --------------------------------------------------------------------------------------------------


@pytest.mark.fault(10, 12, 14, 15)
@needs_strace
@pytest.mark.parametrize(
    ("error", "only"),
    [
        pytest.param("EIO", SYNCS, id="EIO of a sync"),
        pytest.param("EIO", UNSYNCED, id="EIO"),
        pytest.param("ENOSPC", CHANGING, id="ENOSPC"),
        pytest.param("EDQUOT", ("mkdirat", "linkat", "write", "pwrite64"), id="EDQUOT"),
        pytest.param("EROFS", CHANGING, id="EROFS"),
    ],
)
def test_the_state_line_is_true_when_calls_fail(place: Place, error: str, only: Sequence[str]) -> None:
    # The last write is the state line itself, on a pipe.
    calls = place.calls - Counter({"write": 1})
    chosen = points(calls, most=12, only=only)
    print(f"{error}: {len(chosen)} of {sum(calls[call] for call in only)} calls")
    states: Counter[str] = Counter()
    for call, number in chosen:
        folder, witness = place.fresh()
        ended = program("promote", folder, place.folder, strace=["-e", f"inject={call}:error={error}:when={number}"])
        assert "Traceback" not in ended.errors, (call, number, ended.errors)
        assert (ended.exit_code == 0) == (ended.last_line == PublicationState.PUBLISHED), (call, number, ended)
        if ended.exit_code == 0:
            assert listed(witness, folder)
        witness.look(disk(folder))
        healed(witness, folder)
        said = PublicationState(ended.last_line)
        assert (said is PublicationState.NOT_PUBLISHED) != listed(witness, folder), (call, number, ended)
        states[said] += 1
        shutil.rmtree(folder)
    print(dict(states))
    assert states[PublicationState.NOT_PUBLISHED]
    if only == SYNCS:
        # A failed fsync is never asked again, so the only syncs that may fail unnoticed are those of tidying up.
        assert states[PublicationState.CLAIMED]


@pytest.mark.fault(12)
@needs_strace
@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT"])
def test_a_disk_that_is_full_exactly_when_the_new_index_is_written(place: Place, error: str) -> None:
    folder, witness = place.fresh()
    log = place.base / "writes"
    traced = ["-o", str(log), "-e", "trace=write,renameat"]
    assert program("promote", place.fresh()[0], place.folder, strace=traced).exit_code == 0
    lines = log.read_text().splitlines()
    swapped = next(at for at, line in enumerate(lines) if "renameat(" in line and '"index.json"' in line)
    number = sum("write(" in line for line in lines[:swapped])
    ended = program("promote", folder, place.folder, strace=["-e", f"inject=write:error={error}:when={number}+"])
    assert "Traceback" not in ended.errors
    # From there on nothing can be written, the state line on its pipe included: the exit code tells.
    assert ended.exit_code != 0
    assert not listed(witness, folder)
    assert (folder / "1.1.0.audit.sig").exists()
    healed(witness, folder)
    assert listed(witness, folder)
    folder, witness = place.fresh()
    ended = program("promote", folder, place.folder, strace=["-e", f"inject=write:error={error}:when={number}"])
    assert ended.last_line == PublicationState.CLAIMED, ended
    healed(witness, folder)
    assert listed(witness, folder)


def small_disk_ends(tmp_path: Path, limits: Sequence[str], room: str) -> Counter[str]:
    """Publish onto a tmpfs of each limit, give it `room` afterwards, recover; count how the publishes ended."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    release = make_release(tmp_path, "1.0.0", artifacts=40)
    mounted = tmp_path / "small"
    mounted.mkdir()
    ends: Counter[str] = Counter()
    for limit in limits:
        subprocess.run(["mount", "-t", "tmpfs", "-o", limit, "tmpfs", mounted], check=True)
        try:
            folder, witness = mounted / "repository", Witness()
            folder.mkdir()
            try:
                state = publish(LocalRepository(folder), release).state
            except RelbuildError as error:
                state = state_of(error)
            # What the failed publish held open, its lock included, goes as if its process were gone.
            gc.collect()
            ends[state] += 1
            witness.look(disk(folder))
            subprocess.run(["mount", "-o", f"remount,{room}", mounted], check=True)
            healed(witness, folder)
            assert (state is PublicationState.NOT_PUBLISHED) != listed(witness, folder, "1.0.0")
        finally:
            subprocess.run(["umount", mounted], check=True)
    print(dict(ends))
    return ends


@pytest.mark.fault(11)
def test_a_small_disk_that_fills_up_is_a_clean_failure(tmp_path: Path) -> None:
    sizes = range(40, 760, 40 if FULL else 120)
    ends = small_disk_ends(tmp_path, [f"size={size_kib}k" for size_kib in sizes], "size=64m")
    assert ends[PublicationState.NOT_PUBLISHED]
    assert ends[PublicationState.PUBLISHED]


@pytest.mark.fault(13)
def test_a_disk_without_inodes_is_a_clean_failure(tmp_path: Path) -> None:
    numbers = range(4, 64, 1 if FULL else 5)
    ends = small_disk_ends(tmp_path, [f"size=64m,nr_inodes={number}" for number in numbers], "nr_inodes=1000")
    assert ends[PublicationState.NOT_PUBLISHED]
    assert ends[PublicationState.PUBLISHED]


@pytest.mark.fault(14)
def test_a_limit_on_the_largest_file_is_a_clean_failure(tmp_path: Path) -> None:
    release = make_release(tmp_path, "1.0.0", artifacts=40)
    sizes = {path.name: path.stat().st_size for path in release.folder.iterdir()}
    ends: Counter[str] = Counter()
    # Smaller than an archive, than checksums.txt, than the manifest, than the audit; and large enough.
    for number, limit in enumerate([100, sizes["hello_1.0.0_0.bin"], sizes["checksums.txt"], 12_000, 1 << 20]):
        folder, witness = tmp_path / str(number), Witness()
        limited = [shutil.which("prlimit") or "prlimit", f"--fsize={limit}"]
        ended = program("promote", folder, release.folder, around=limited)
        assert "Traceback" not in ended.errors, (limit, ended.errors)
        ends[ended.last_line] += 1
        witness.look(disk(folder))
        healed(witness, folder)
        assert (ended.last_line == PublicationState.NOT_PUBLISHED) != listed(witness, folder, "1.0.0"), limit
    print(dict(ends))
    assert ends[PublicationState.NOT_PUBLISHED] >= 3
    assert ends[PublicationState.PUBLISHED]


# --- power cuts -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted_image(image: Path, at: Path) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    # A long commit interval: nothing reaches the disk but what is synced.
    subprocess.run(["mount", "-o", "loop,commit=300", image, at], check=True, capture_output=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def after_power_cut(place: Place, tmp_path: Path, strace: Sequence[str]) -> tuple[Ended, Path]:
    """Publish onto a disk image, and give how it ended with a copy of the image as the disk was at that instant."""
    image, cut = tmp_path / "image", tmp_path / "cut"
    with image.open("wb") as file:
        file.truncate(24 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    with mounted_image(image, tmp_path / "mounted") as disk_folder:
        shutil.copytree(place.repository, disk_folder / "repository")
        os.sync()
        ended = program("promote", disk_folder / "repository", place.folder, strace=strace)
        subprocess.run(["cp", "--sparse=always", image, cut], check=True)
    return ended, cut


def power_cut_violation(place: Place, cut: Path, tmp_path: Path, ended: Ended) -> str:
    """Say what the disk shows that must not be after the power came back, or give an empty string."""
    witness = copy.deepcopy(place.witness)
    with mounted_image(cut, tmp_path / "back") as disk_folder:
        folder = disk_folder / "repository"
        try:
            there = listed(witness, folder)
            if ended.exit_code == 0 and not there:
                return "I5: acknowledged, and lost"
            healed(witness, folder)
        except (AssertionError, RelbuildError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.fault(9)
@needs_strace
@needs_loop
def test_power_cut_behind_an_acknowledged_publish_loses_nothing(place: Place, tmp_path: Path) -> None:
    ended, cut = after_power_cut(place, tmp_path, ())
    assert ended.exit_code == 0, ended
    assert power_cut_violation(place, cut, tmp_path, ended) == ""


@pytest.mark.fault(6, 9)
@needs_strace
@needs_loop
def test_power_cut_at_any_call_is_healed(place: Place, tmp_path: Path) -> None:
    chosen = points(place.calls, most=10, only=("linkat", "renameat", "renameat2", "fsync", "unlinkat"))
    print(f"power cuts: {len(chosen)} of {place.calls.total()} calls")
    for call, number in chosen:
        ended, cut = after_power_cut(place, tmp_path, ["-e", f"inject={call}:signal=SIGKILL:when={number}"])
        assert ended.exit_code in KILLED, (call, number, ended)
        assert power_cut_violation(place, cut, tmp_path, ended) == "", (call, number)


@needs_strace
@needs_loop
def test_without_fsync_the_same_power_cut_loses_an_acknowledged_publish(place: Place, tmp_path: Path) -> None:
    """The control: it shows that the tests above can see a violation."""
    ended, cut = after_power_cut(place, tmp_path, ["-e", f"inject={','.join(SYNCS)}:retval=0"])
    assert ended.exit_code == 0, ended
    assert power_cut_violation(place, cut, tmp_path, ended) != ""


# --- raced ----------------------------------------------------------------------------------------------------------


def child(repository: Path, release: VerifiedRelease, answer: str) -> None:
    """Publish in a process of its own, and write how it ended into a file."""
    try:
        done = publish(LocalRepository(repository), release)
        words = {"state": done.state.value, "audit": done.audit_sha256, "no_op": done.no_op, "error": ""}
    except RelbuildError as error:
        words = {"state": state_of(error).value, "audit": "", "no_op": False, "error": type(error).__name__}
    # It may be killed while it writes.
    Path(f"{answer}.new").write_text(json.dumps(words), encoding="utf-8")
    Path(f"{answer}.new").rename(answer)
    # A forked child must not run what pytest wants run at its own end.
    os._exit(0)


class Reader:
    """Looks at a repository again and again while others publish, and keeps what it found wrong."""

    def __init__(self, folder: Path) -> None:
        self.witness, self.looks, self.wrong = Witness(), 0, ""
        self._folder, self._stop = folder, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.is_set() and not self.wrong:
            try:
                self.witness.look(disk(self._folder))
                self.looks += 1
            except (AssertionError, ValueError) as error:
                self.wrong = str(error)


def race(repository: Path, releases: Sequence[VerifiedRelease], answers: Path) -> list[multiprocessing.Process]:
    context = multiprocessing.get_context("fork")
    answers.mkdir(exist_ok=True)
    children = [
        context.Process(target=child, args=(repository, release, str(answers / str(n))))
        for n, release in enumerate(releases)
    ]
    for each in children:
        each.start()
    return children  # type: ignore[return-value]  # a fork's Process is one


def answers_in(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(folder.iterdir())]


@pytest.mark.fault(23, 24)
def test_32_publishers_of_one_version_publish_it_once(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    same = make_release(tmp_path / "a", "1.0.0", "same")
    with Reader(repository) as reader:
        others = [make_release(tmp_path / str(n), "1.0.0", str(n)) for n in range(16)]
        for each in race(repository, [same] * 16 + others, tmp_path / "answers"):
            each.join(120)
    assert not reader.wrong
    answers = answers_in(tmp_path / "answers")
    winners = [answer for answer in answers if answer["state"] == "published"]
    losers = [answer for answer in answers if answer["state"] != "published"]
    assert len(answers) == 32
    assert {answer["error"] for answer in losers} <= {DuplicateVersion.__name__}
    assert len([answer for answer in winners if not answer["no_op"]]) == 1
    assert len({answer["audit"] for answer in winners}) == 1
    assert len(winners) in {1, 16}
    reader.witness.acknowledge("1.0.0", str(winners[0]["audit"]))
    healed(reader.witness, repository)
    assert reader.witness.revision == 1


@pytest.mark.fault(24)
def test_32_publishers_of_the_same_bytes_all_succeed(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    same = make_release(tmp_path / "a", "1.0.0", "same")
    with Reader(repository) as reader:
        for each in race(repository, [same] * 32, tmp_path / "answers"):
            each.join(120)
    assert not reader.wrong
    answers = answers_in(tmp_path / "answers")
    assert [answer["state"] for answer in answers] == ["published"] * 32
    assert [answer["no_op"] for answer in answers].count(False) == 1
    healed(reader.witness, repository)
    assert reader.witness.revision == 1


@pytest.mark.fault(27)
def test_a_version_is_published_and_revoked_at_the_same_time(tmp_path: Path) -> None:
    """Whoever revokes asks again and again, so that some look falls into every step of the publish."""
    orders: Counter[str] = Counter()
    repository, witness = tmp_path / "repository", Witness()
    publish(LocalRepository(repository), make_release(tmp_path, "1.0.0"))
    for number in range(40 if FULL else 12):
        version = f"1.1.{number}"
        release = make_release(tmp_path, version)
        barrier = threading.Barrier(3)
        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(together, barrier, partial(publish, LocalRepository(repository), release))
            again = pool.submit(together, barrier, partial(publish, LocalRepository(repository), release))
            revoked = pool.submit(together, barrier, partial(revoked_at_last, repository, version))
        # The same bytes: the second is told that they are out, or that they are revoked by now.
        for publisher in (first, again):
            ended = publisher.result()
            orders[ended if isinstance(ended, str) else "published"] += 1
        assert {first.result(), again.result()} - {DuplicateVersion.__name__}
        assert int(revoked.result()) >= 1
        index = witness.look(disk(repository))
        assert index is not None
        mine = [event["type"] for event in index["events"] if event["version"] == version]
        assert mine == ["publish", "revoke"]
        assert {entry["version"]: entry["status"] for entry in index["releases"]}[version] == "revoked"
    healed(witness, repository)
    print(dict(orders))


def together(barrier: threading.Barrier, ask: Callable[[], Any]) -> str:
    """Ask at the same instant as others; give the name of the refusal, else what came of it."""
    barrier.wait()
    try:
        done = ask()
    except RelbuildError as error:
        return type(error).__name__
    return str(done) if isinstance(done, int) else "published"


def revoked_at_last(repository: Path, version: str) -> int:
    """Revoke a version as soon as there is one; give how often it took."""
    order = Order(actor="a test", now=now(), expires=now() + timedelta(days=9), reason="a test", repository_id="test")
    until = time.monotonic() + 60
    for tries in itertools.count(1):
        try:
            lifecycle.revoke(Office(repository=LocalRepository(repository), keys=KEYS, trust=KEYS), version, order)
        except PublicationError:
            assert time.monotonic() < until
        else:
            return tries
    raise AssertionError


@pytest.mark.fault(29)
def test_the_clock_is_years_off_and_jumps(tmp_path: Path) -> None:
    """Order comes from revisions: no time is compared with another."""
    repository, witness = tmp_path / "repository", Witness()
    years = (0, -10, 10, -30, 0, 10)
    for number, off in enumerate(years):
        clock = itertools.count()

        def jumping(off: int = off, clock: Iterator[int] = clock) -> datetime:
            # Each look at the clock is a day before the one before.
            return datetime.now(UTC) + timedelta(days=365 * off - next(clock))

        release = make_release(tmp_path, f"1.{number}.0")
        done = promote(release, LocalRepository(repository), KEYS, KEYS, outcomes=OUTCOMES, now=jumping,
                       observer=silent, terms=TERMS)  # fmt: skip
        witness.acknowledge(release.version, done.audit_sha256)
        assert done.revision == number + 1
        healed(witness, repository)
        index = json.loads((repository / "index.json").read_bytes())
        assert index["latest"] == release.version


@pytest.mark.fault(28)
def test_a_reader_looks_on_while_one_version_after_the_other_comes_out(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    count = 1000 if FULL else 60
    with Reader(repository) as reader:
        for number in range(count):
            release = make_release(tmp_path / "releases", f"1.{number}.0")
            publish(LocalRepository(repository), release)
            shutil.rmtree(release.folder)
    assert not reader.wrong
    print(f"the reader looked {reader.looks} times during {count} publishes")
    assert reader.looks
    healed(reader.witness, repository)
    assert reader.witness.revision == count


@pytest.mark.fault(25, 26, 28)
def test_50_publishers_of_many_versions_with_kills_and_stops(tmp_path: Path) -> None:
    chance = random.Random(50)
    repository = tmp_path / "repository"
    repository.mkdir()
    releases = [make_release(tmp_path / "releases", f"1.{n}.0") for n in range(50)]
    with Reader(repository) as reader:
        children = race(repository, releases, tmp_path / "answers")
        until = time.monotonic() + 20
        killed = stopped = 0
        while any(each.is_alive() for each in children) and time.monotonic() < until:
            victim = chance.choice(children)
            if victim.is_alive() and victim.pid is not None:
                # On a busy machine this thread gets few turns: the second one kills, whatever chance says.
                if chance.random() < 0.3 or (stopped and not killed):
                    victim.kill()
                    killed += 1
                else:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim.pid, signal.SIGSTOP)
                        time.sleep(0.02)
                        os.kill(victim.pid, signal.SIGCONT)
                        stopped += 1
            time.sleep(0.03)
        for each in children:
            each.join(120)
    assert not reader.wrong
    print(f"killed {killed}, stopped {stopped}, the reader looked {reader.looks} times")
    assert killed
    for path in (path for path in (tmp_path / "answers").iterdir() if path.suffix != ".new"):
        answer = json.loads(path.read_text())
        assert answer["state"] == "published", answer
        reader.witness.acknowledge(f"1.{path.name}.0", answer["audit"])
    healed(reader.witness, repository)
    for release in releases:
        publish(LocalRepository(repository), release)
    healed(reader.witness, repository)
    assert reader.witness.revision == 50
