"""What publishing costs, against the least that it can cost in the same run.

    python -m bench.publish [local|index|policy|s3 ...] [--rounds N] [--s5cmd PROGRAM] [--aws PROGRAM]

`local`: whole publishes into a folder repository, against bench/floor.py. `index`: one release more where 10,000 are
listed, against an empty repository. `policy`: every rule, over 1,000 artifacts. `s3`: whole publishes to radosgw,
against rclone, and what else is named, copying the same folder; both it and rclone come from `ci/servers install`.

A publish is `promote` with real keys, the audit's read from its file, and the release verified before, as `relbuild
release` does it; starting the interpreter is left out. Each row gives medians over pairs that alternate, and the
median of the pairs' ratios. Prints Markdown. Works below TMPDIR, which must be on a disk for the figures to mean much.
"""

import argparse
import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import floor
from bench.publish_work import Publisher, index_bytes, judge, new_publisher, release, stock
from orchestrator.publication import RepositoryKind, RepositoryRules
from orchestrator.publish.audit import parse_audit
from orchestrator.publish.index import parse_index, sha256_of
from orchestrator.trust import VerifiedRelease
from tests.object_stores import S3_KEY, S3_SECRET, TOOLS, new_s3_bucket, radosgw

LOCAL = (("42 files, 50 MB", 42, 50_000_000), ("1,000 files of 64 KiB", 1000, 1000 << 16),
         ("2 GB in 20 files", 20, 2_000_000_000))  # fmt: skip
REMOTE = LOCAL[:2]
Copy = Callable[[Path, str], Sequence[str]]
"""Gives the command that copies a folder to `bucket/prefix`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Pairs of times in seconds, the baseline's first; of the process's own CPU time too, where both are its work."""

    what: str
    baseline: str
    pairs: Sequence[tuple[float, float]]
    cpu: Sequence[tuple[float, float]] = ()

    def text(self) -> str:
        before, after = medians(self.pairs)
        row = f"| {self.what} | {self.baseline} | {before:,.0f} ms | {after:,.0f} ms | {ratio(self.pairs):.2f} |"
        if not self.cpu:
            return row
        before, after = medians(self.cpu)
        return f"{row}\n| ... CPU time | | {before:,.0f} ms | {after:,.0f} ms | {ratio(self.cpu):.2f} |"


def medians(pairs: Sequence[tuple[float, float]]) -> Iterator[float]:
    """Give the medians of both sides in milliseconds."""
    return (statistics.median(times) * 1000 for times in zip(*pairs, strict=True))


def ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return statistics.median(two / one for one, two in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", metavar="PART", help="local, index, policy, s3; all of them if none is")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--s5cmd", default="")
    parser.add_argument("--aws", default="")
    given = parser.parse_args()
    parts: dict[str, Callable[[Path], Iterator[str]]] = {
        "local": lambda root: local(root, given.rounds),
        "index": lambda root: index(root, given.rounds),
        "policy": lambda _: policy(given.rounds),
        "s3": lambda root: remote(root, given.rounds, given.s5cmd, given.aws),
    }
    print(f"{len(os.sched_getaffinity(0))} CPUs, Python {sys.version.split()[0]}, {datetime.now(UTC):%Y-%m-%d %H:%M}\n")
    print("| what | baseline | baseline | relbuild | ratio |\n| --- | --- | ---: | ---: | ---: |")
    for part in given.parts or parts:
        with tempfile.TemporaryDirectory(prefix="relbuild-bench-") as name:
            for line in parts[part](Path(name)):
                print(line, flush=True)
        print(f"| {part}: load average then | | | {os.getloadavg()[0]:.1f} | |", flush=True)


# --- a folder ----------------------------------------------------------------------------------------------------


def local(root: Path, rounds: int) -> Iterator[str]:
    publisher = new_publisher(root)
    for what, count, size in LOCAL:
        made = release(root / what, "1.0.0", count, size)
        yield from beside_the_floor(what, made, publisher, root, rounds)
        shutil.rmtree(root / what)


def beside_the_floor(
    what: str, made: VerifiedRelease, publisher: Publisher, root: Path, rounds: int
) -> Iterator[str]:  # fmt: skip
    peaks, stages, cpu = [], [], list[tuple[float, float]]()

    def least() -> None:
        floor.publish(made.folder, root / "floor", made.version, publisher.sign)

    def whole() -> None:
        reset_peak()
        stages.append(publisher.publish(made, folder(root / "repository")).stages)
        peaks.append(peak_bytes())

    def clean() -> None:
        floor.remove(root / "floor")
        floor.remove(root / "repository")

    pairs = alternating(rounds, least, whole, before=clean, cpu=cpu)
    clean()
    yield Row(what=what, baseline="floor", pairs=pairs, cpu=cpu).text()
    yield f"| ... peak memory of the process | | | {max(peaks) / 1e6:,.0f} MB | |"
    for number, stage in enumerate(stages[0]):
        yield f"| ... {stage.name} | | | {statistics.median(each[number].ms for each in stages):,.1f} ms | |"


def folder(path: Path) -> RepositoryRules:
    return RepositoryRules(kind=RepositoryKind.LOCAL, path=path)


# --- an index ----------------------------------------------------------------------------------------------------


def index(root: Path, rounds: int) -> Iterator[str]:
    for count in (1000, 10_000):
        publisher = new_publisher(root)
        stock(root / "full", publisher, count)
        before = index_bytes(root / "full")
        made = [release(root / "more", f"2.0.{number}", 3, 300) for number in range(rounds + 1)]
        left = iter(made)

        def first() -> None:
            publisher.publish(made[0], folder(root / "empty"))  # noqa: B023 - called in this very turn

        def another() -> None:
            publisher.publish(next(left), folder(root / "full"))  # noqa: B023 - as above

        def fresh() -> None:
            floor.remove(root / "empty")
            for known in (parse_index, parse_audit, sha256_of):
                known.cache_clear()

        cpu: list[tuple[float, float]] = []
        pairs = alternating(rounds, first, another, before=fresh, cpu=cpu)
        yield Row(
            what=f"one more where {count:,} are listed", baseline="into an empty one", pairs=pairs, cpu=cpu
        ).text()
        more = statistics.median(two - one for one, two in pairs) / count * 1e6
        size = (index_bytes(root / "full") - before) / (rounds + 1)
        yield f"| ... for each release that is listed | | | {more:.1f} µs, {size:.0f} bytes | |"
        for name in ("full", "empty", "more"):
            floor.remove(root / name)


# --- a policy ----------------------------------------------------------------------------------------------------


def policy(rounds: int) -> Iterator[str]:
    artifacts = 1000
    taken = [timed(lambda: judge(artifacts)) for _ in range(rounds)]
    yield f"| policy: every rule, {artifacts:,} artifacts | | | {statistics.median(taken) * 1000:.2f} ms | |"


# --- S3 ----------------------------------------------------------------------------------------------------------


def remote(root: Path, rounds: int, s5cmd: str, aws: str) -> Iterator[str]:
    os.environ |= {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET, "AWS_REGION": "us-east-1"}
    publisher = new_publisher(root)
    for what, count, size in REMOTE:
        made = release(root / what, "1.0.0", count, size)
        (root / "server").mkdir()
        with radosgw(root / "server") as url:
            for name, copy in copiers(url, s5cmd, aws).items():
                yield from beside_a_copy(
                    f"S3: {what}", name, copy, made=made, publisher=publisher, url=url, rounds=rounds
                )
        shutil.rmtree(root / "server")


def beside_a_copy(
    what: str, name: str, copy: Copy, *, made: VerifiedRelease, publisher: Publisher, url: str, rounds: int
) -> Iterator[str]:  # fmt: skip
    bucket, stages = new_s3_bucket(url), []
    turns = iter(range(10 * rounds))

    def alone() -> None:
        subprocess.run(copy(made.folder, f"{bucket}/copy-{next(turns)}"), check=True, capture_output=True)

    def whole() -> None:
        rules = RepositoryRules(kind=RepositoryKind.S3, bucket=bucket, prefix=f"whole-{next(turns)}", endpoint=url)
        stages.append(publisher.publish(made, rules).stages)

    yield Row(what=what, baseline=name, pairs=alternating(rounds, alone, whole)).text()
    for number, stage in enumerate(stages[0]):
        yield f"| ... {stage.name} | | | {statistics.median(each[number].ms for each in stages):,.1f} ms | |"


def copiers(url: str, s5cmd: str, aws: str) -> dict[str, Copy]:
    """Give commands that copy a folder to `bucket/prefix`; as many transfers at once as relbuild makes, or more."""
    rclone = [
        f"{TOOLS}/rclone/rclone", "--config", "", "copy", "--transfers", "8", "--s3-provider", "Ceph", "--s3-env-auth",
        "--s3-endpoint", url, "--s3-no-check-bucket",
    ]  # fmt: skip
    found: dict[str, Copy] = {"rclone copy": lambda source, place: [*rclone, str(source), f":s3:{place}"]}
    if s5cmd:
        found["s5cmd cp"] = lambda source, place: [s5cmd, "--endpoint-url", url, "cp", f"{source}/", f"s3://{place}/"]
    if aws:
        found["aws s3 cp"] = lambda source, place: [
            aws, "--endpoint-url", url, "s3", "cp", "--recursive", str(source), f"s3://{place}/",
        ]  # fmt: skip
    return found


# --- measuring ---------------------------------------------------------------------------------------------------


def alternating(
    rounds: int, first: Callable[[], object], second: Callable[[], object], before: Callable[[], object] = bool,
    cpu: list[tuple[float, float]] | None = None,
) -> list[tuple[float, float]]:  # fmt: skip
    """Time pairs after one that only warms up; in every other pair the second goes first. `cpu` takes CPU times."""
    pairs, cpus = [], [] if cpu is None else cpu
    for turn in range(rounds + 1):
        taken, worked = {}, {}
        for action in (first, second) if turn % 2 else (second, first):
            before()
            started = time.process_time()
            taken[action] = timed(action)
            worked[action] = time.process_time() - started
        pairs.append((taken[first], taken[second]))
        cpus.append((worked[first], worked[second]))
    del cpus[0]
    return pairs[1:]


def timed(action: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def reset_peak() -> None:
    """Let the kernel count this process's largest memory anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) << 10


if __name__ == "__main__":
    main()
