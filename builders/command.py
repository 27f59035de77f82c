"""The only place that starts processes. Argument lists only: no shell on the host ever sees a value from a config."""

import contextlib
import ctypes
import functools
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from builders.errors import Interrupted, TimedOut, ToolchainUnavailable

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.1
_GRACE_S = 2.0
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A process that ended. `exit_code` is negative (the signal's number) where a signal ended it."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Child(Protocol):
    """A process that goes on beside this one."""

    def kill(self) -> None:
        """End it."""

    def wait(self) -> int:
        """Wait until it ended, and give its exit code."""


def capture(
    argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout_s: float = 60.0,
    stdin: bytes | None = None,
) -> Completed:  # fmt: skip
    """Run a short command and give what it printed.

    Raises ToolchainUnavailable where the program is not here, TimedOut after `timeout_s`.
    """
    process = _start(argv, cwd=cwd, env=env, stderr=subprocess.PIPE, stdin=subprocess.PIPE if stdin else None)
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        kill_group(process.pid)
        process.communicate()
        raise _took_too_long(argv, timeout_s) from None
    except BaseException:
        kill_group(process.pid)
        process.communicate()
        raise
    return Completed(exit_code=process.returncode, stdout=stdout, stderr=stderr)


def stream(
    argv: Sequence[str],
    *,
    on_output: Callable[[bytes], None],
    cancelled: threading.Event,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_error: Callable[[bytes], None] | None = None,
) -> int:
    """Run a long command, hand on its output as it comes, and give its exit code (negative: a signal's number).

    Both streams go to `on_output`, unless `on_error` takes the second. The whole process group dies on a time-out,
    when `cancelled` is set, when the command ends and leaves children behind, and with this program itself.
    Raises TimedOut, Interrupted, ToolchainUnavailable.
    """
    process = _start(argv, cwd=cwd, env=env, stderr=subprocess.PIPE if on_error else subprocess.STDOUT, stdin=None)
    takers = {process.stdout: on_output, **({process.stderr: on_error} if on_error else {})}
    deadline = time.monotonic() + timeout_s
    try:
        check = functools.partial(_stop_reason, argv, cancelled, deadline, timeout_s)
        _pump(process, takers, check)
        return _wait(process, check)
    finally:
        kill_group(process.pid)
        process.wait()
        for pipe in filter(None, takers):
            pipe.close()


def start_on(argv: Sequence[str], connection: socket.socket) -> Child:
    """Start a command whose standard input and output are a connection. It dies with the thread that starts it."""
    return _start(argv, cwd=None, env=None, stderr=None, stdin=connection.fileno(), stdout=connection.fileno())


def find_program(name: str, path: str | None = None) -> Path | None:
    """Give the absolute path of a program on PATH, or None."""
    for folder in (path if path is not None else os.environ.get("PATH", os.defpath)).split(os.pathsep):
        candidate = Path(folder or ".") / name
        # Python before 3.14 raises for a folder that this user may not enter.
        with contextlib.suppress(PermissionError):
            if candidate.is_file() and os.access(candidate, os.X_OK):
                return candidate.absolute()
    return None


def kill_group(pid: int) -> None:
    """End every process of a group that `stream` or `capture` started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _start(
    argv: Sequence[str],
    *,
    cwd: Path | None,
    env: Mapping[str, str] | None,
    stderr: int | None,
    stdin: int | None,
    stdout: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    try:
        # The argv comes from the program's own tables or runs inside a sandbox; a shell is never involved.
        return subprocess.Popen(  # noqa: S603
            list(argv), cwd=cwd, env=None if env is None else dict(env), stdout=stdout, stderr=stderr,
            stdin=subprocess.DEVNULL if stdin is None else stdin, start_new_session=True, preexec_fn=_die_with_parent,  # noqa: PLW1509
        )  # fmt: skip
    except FileNotFoundError as error:
        missing = error.filename or argv[0]
        raise ToolchainUnavailable(
            f"the program {missing!r} is not on this machine", next_step="`relbuild doctor` says what installs it"
        ) from error
    except (PermissionError, OSError) as error:
        raise ToolchainUnavailable(f"{argv[0]!r} cannot be started: {error.strerror}") from error


def _die_with_parent() -> None:
    # Only async-signal-safe work: one system call, so that a kill -9 of this program leaves no compiler behind.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _pump(
    process: subprocess.Popen[bytes],
    takers: Mapping[IO[bytes] | None, Callable[[bytes], None]],
    check: Callable[[], None],
) -> None:
    ended_at: float | None = None
    with selectors.DefaultSelector() as selector:
        for pipe, take in takers.items():
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, take)
        while selector.get_map():
            for key, _ in selector.select(_POLL_S):
                _hand_on(selector, key)
            check()
            if ended_at is None and process.poll() is not None:
                ended_at = time.monotonic()
            # A child that outlives the command keeps the pipe open; it does not get to hold the run.
            if ended_at is not None and time.monotonic() - ended_at > _GRACE_S:
                return


def _wait(process: subprocess.Popen[bytes], check: Callable[[], None]) -> int:
    # A command may close its output and work on, or sleep for ever.
    while True:
        try:
            return process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            check()


def _hand_on(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    if chunk := os.read(key.fd, 1 << 16):
        key.data(chunk)
    else:
        selector.unregister(key.fileobj)


def _stop_reason(argv: Sequence[str], cancelled: threading.Event, deadline: float, timeout_s: float) -> None:
    if cancelled.is_set():
        raise Interrupted(f"{argv[0]!r} was stopped")
    if time.monotonic() > deadline:
        raise _took_too_long(argv, timeout_s)


def _took_too_long(argv: Sequence[str], timeout_s: float) -> TimedOut:
    return TimedOut(
        f"{Path(argv[0]).name} took longer than {timeout_s:g} s and was killed with all its children",
        next_step="raise timeout_s of the product, or find out what it waits for in its log",
    )
