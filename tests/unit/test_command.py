"""Starting processes: streams, time-outs, cancelling, and that nothing survives."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from builders import command
from builders.errors import Interrupted, TimedOut, ToolchainUnavailable


def stream(*argv: str, timeout_s: float = 30.0, cancelled: threading.Event | None = None) -> tuple[int, bytes]:
    seen = bytearray()
    code = command.stream(
        argv, on_output=seen.extend, cancelled=cancelled or threading.Event(), timeout_s=timeout_s
    )  # fmt: skip
    return code, bytes(seen)


def alive(marker: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False


def gone(marker: str) -> bool:
    deadline = time.monotonic() + 10
    while alive(marker):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_both_streams_come_in_one_and_nothing_is_lost() -> None:
    code, seen = stream("sh", "-c", "echo out; echo err >&2; head -c 300000 /dev/zero; exit 3")
    assert code == 3
    assert seen.startswith(b"out\nerr\n")
    assert len(seen) == 8 + 300_000


def test_streams_can_be_told_apart() -> None:
    out, err = bytearray(), bytearray()
    argv = ["sh", "-c", "echo out; echo err >&2"]
    code = command.stream(
        argv, on_output=out.extend, on_error=err.extend, cancelled=threading.Event(), timeout_s=10
    )  # fmt: skip
    assert (code, bytes(out), bytes(err)) == (0, b"out\n", b"err\n")


def test_a_time_out_ends_the_whole_group() -> None:
    with pytest.raises(TimedOut, match="longer than 1 s"):
        stream("sh", "-c", "trap '' TERM; sleep 45671 & sleep 45671", timeout_s=1)
    assert gone("45671")


def test_a_command_that_closes_its_output_is_still_timed() -> None:
    with pytest.raises(TimedOut):
        stream("sh", "-c", "exec >/dev/null 2>&1; sleep 45672", timeout_s=1)
    assert gone("45672")


def test_a_child_left_behind_neither_holds_the_run_nor_survives() -> None:
    started = time.monotonic()
    code, seen = stream("sh", "-c", "sleep 45673 & echo done")
    assert (code, seen) == (0, b"done\n")
    assert time.monotonic() - started < 20
    assert gone("45673")


def test_cancelling_ends_it() -> None:
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    with pytest.raises(Interrupted):
        stream("sleep", "45674", cancelled=cancelled)
    assert gone("45674")


def test_the_child_dies_with_this_program() -> None:
    program = (
        "import threading\nfrom builders import command\n"
        "command.stream(['sleep', '45675'], on_output=print, cancelled=threading.Event(), timeout_s=60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    deadline = time.monotonic() + 20
    while not alive("45675"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert gone("45675")


def test_a_given_environment_is_the_whole_one() -> None:
    seen = bytearray()
    command.stream(
        ["/usr/bin/env"], on_output=seen.extend, cancelled=threading.Event(), timeout_s=10, env={"A": "b c"}
    )  # fmt: skip
    assert bytes(seen) == b"A=b c\n"
    assert command.capture(["/usr/bin/env"], env={"A": "b c"}).stdout == b"A=b c\n"


def test_no_command_reads_what_is_typed() -> None:
    program = (
        "import threading\nfrom builders import command\n"
        "command.stream(['cat'], on_output=print, cancelled=threading.Event(), timeout_s=20)\n"
        "print(command.capture(['cat'], timeout_s=20).stdout)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(Path.cwd())}, input=b"typed\n",
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == b"b''\n"


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ToolchainUnavailable, match="no-such-program"):
        command.capture(["no-such-program"])
    with pytest.raises(ToolchainUnavailable, match="no-such-program"):
        stream("no-such-program")


@pytest.mark.fault(74)
def test_no_shell_reads_an_argument(tmp_path: Path) -> None:
    done = command.capture(["printf", "%s", f"$(touch {tmp_path}/x)`touch {tmp_path}/x`"])
    assert done.stdout.startswith(b"$(touch")
    assert not (tmp_path / "x").exists()


def test_capture_times_out() -> None:
    with pytest.raises(TimedOut):
        command.capture(["sleep", "45676"], timeout_s=0.5)
    assert gone("45676")
