"""Makes the BuildKit inside a Docker Engine reachable as a daemon of its own: one Unix socket for each engine.

buildx joins BuildKit daemons to one builder, but not engines. Each connection goes through `docker system dial-stdio`,
which knows contexts, ssh and TLS, and is upgraded as buildx itself does it for one engine (`docker buildx dial-stdio`
would not end when the engine does).

`python -m builders.engine.relay FOLDER` leaves a process behind that serves what FOLDER/relay.json names, an object of
argument lists by socket name, until that file is gone. It holds the lock of FOLDER/relay.lock, which has its number.
"""

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TextIO

from builders import command
from builders.errors import NodeUnavailable

PLAN: Final = "relay.json"
_LOCK: Final = "relay.lock"
_POLL_S: Final = 0.5
_START_S: Final = 10.0
_CHUNK: Final = 1 << 16
_UPGRADE: Final = b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
_ANSWER: Final = re.compile(rb"HTTP/1\.1 101 ")
_MAX_HEAD: Final = 8192
_MAX_PATH: Final = 107
"""Bytes that the address of a Unix socket may have. Source: unix(7)."""


def socket_of(folder: Path, name: str) -> Path:
    """Say where a node's socket is. Raises NodeUnavailable where the path is too long for one."""
    path = folder / f"{name}.sock"
    if len(os.fsencode(path)) > _MAX_PATH:
        raise NodeUnavailable(
            f"{path} is longer than the {_MAX_PATH} bytes that a socket's address may have",
            next_step="set XDG_CACHE_HOME to a shorter folder, or give the node a shorter name",
        )
    return path


def ensure(folder: Path, engines: Mapping[str, Sequence[str]], env: Mapping[str, str]) -> None:
    """Have a process serve these engines, each by the command that reaches it. Raises NodeUnavailable."""
    wanted = json.dumps({name: list(argv) for name, argv in engines.items()}, sort_keys=True)
    plan = folder / PLAN
    if plan.is_file() and plan.read_text(encoding="utf-8") == wanted and _holder(folder):
        return
    stop(folder)
    for name in engines:
        socket_of(folder, name)
    plan.write_text(wanted, encoding="utf-8")
    # Wherever this program was imported from, the other one comes from there.
    here = {**env, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = command.capture([sys.executable, "-P", "-m", "builders.engine.relay", str(folder)], env=here)
    if done.exit_code != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise NodeUnavailable(f"the relay to the BuildKit of engines did not start: {''.join(said)}",
                              next_step=f"look after {folder}")  # fmt: skip


def stop(folder: Path) -> bool:
    """End the process that serves a folder; tell whether there was one."""
    (folder / PLAN).unlink(missing_ok=True)
    pid = _holder(folder)
    with contextlib.suppress(ProcessLookupError):
        if pid:
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _START_S
    while _holder(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(pid)


def serve(folder: Path) -> None:
    """Open the sockets, then serve from a process of its own until the plan is gone."""
    engines = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    with ExitStack() as held:
        doors = {held.enter_context(_listening(socket_of(folder, name))): argv for name, argv in engines.items()}
        lock = held.enter_context((folder / _LOCK).open("a+", encoding="ascii"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _stay_behind(folder, lock)
        _serve(folder, doors)


def _serve(folder: Path, doors: Mapping[socket.socket, Sequence[str]]) -> None:
    while (folder / PLAN).is_file():
        ready, _, _ = select.select(list(doors), [], [], _POLL_S)
        for door in ready:
            connection, _ = door.accept()
            threading.Thread(target=_join, args=(connection, doors[door]), daemon=True).start()


def _join(connection: socket.socket, argv: Sequence[str]) -> None:
    """Carry bytes between a connection and an engine's BuildKit until one of them ends."""
    near, far = socket.socketpair()
    with connection, near:
        with far:
            child = command.start_on(argv, far)
        try:
            near.sendall(_UPGRADE)
            if _ANSWER.match(_head(near)):
                threading.Thread(target=_carry, args=(connection, near), daemon=True).start()
                _carry(near, connection)
        finally:
            child.kill()
            child.wait()


def _head(engine: socket.socket) -> bytes:
    """Read the head of an answer, and no byte more: what follows is the first of BuildKit."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < _MAX_HEAD and (byte := engine.recv(1)):
        head += byte
    return head


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
    # gRPC has no use for half a connection, and a node that is gone must be seen at once.
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _stay_behind(folder: Path, lock: TextIO) -> None:
    """Go on as a child that holds nothing of its caller but the sockets and the lock; the caller's call ends."""
    if child := os.fork():
        lock.truncate(0)
        lock.write(f"{child}\n")
        lock.flush()
        os._exit(0)
    os.setsid()
    log = os.open(folder / "relay.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        door.listen(64)
        yield door
    path.unlink(missing_ok=True)


def _holder(folder: Path) -> int:
    """Give the process id of the living relay, or 0. A dead one holds no lock, whoever has its number now."""
    try:
        with (folder / _LOCK).open("r", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read(20))
    except (FileNotFoundError, ValueError):
        return 0
    return 0


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
