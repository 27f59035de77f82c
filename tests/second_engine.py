"""A second real Docker Engine on this machine: in its own network, process and mount namespaces, with its own data.

Its daemon is the first process of its process namespace, so that one kill -9 of it ends all that it started, and its
mounts go with the namespace. Two daemons in one network namespace would take the bridge from one another.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_START_S = 60.0
_NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
_CGROUP = "relbuild-second"
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass
class SecondEngine:
    """`endpoint` is its Unix socket; `pid` is that of its daemon as this machine sees it."""

    folder: Path
    dockerd: Path
    process: "subprocess.Popen[bytes] | None" = None
    _log: Path = field(init=False)

    def __post_init__(self) -> None:
        self._log = self.folder / "dockerd.log"

    @property
    def endpoint(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def start(self) -> None:
        """Start it and wait until it answers; raises AssertionError with its log."""
        (self.folder / "daemon.json").write_text(json.dumps({
            "features": {"containerd-snapshotter": True}, "hosts": [self.endpoint], "bridge": "none",
            "iptables": False, "ip6tables": False, "data-root": str(self.folder / "data"),
            "exec-root": str(self.folder / "exec"), "pidfile": str(self.folder / "dockerd.pid"),
            "cgroup-parent": _CGROUP,
        }))  # fmt: skip
        # As after a power cut of its machine: what it kept under /run, process numbers above all, is gone.
        (self.folder / "dockerd.pid").unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            shutil.rmtree(self.folder / "exec")
        path = os.pathsep.join([*_folders(self.dockerd), os.environ["PATH"], "/usr/sbin", "/sbin"])
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                ["unshare", *_NAMESPACES, str(self.dockerd), "--config-file", str(self.folder / "daemon.json")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": path}, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_S
        while not self.answers():
            assert self.process.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < deadline, self._log.read_text()[-3000:]
            time.sleep(0.2)

    def answers(self) -> bool:
        asked = ["docker", "--host", self.endpoint, "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(asked, capture_output=True, timeout=30, check=False).returncode == 0

    def kill(self) -> None:
        """End the daemon and all that it started, as a power cut of its machine would."""
        if self.process is None or self.process.poll() is not None:
            return
        with suppress(IndexError, ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait(30)

    def remove(self) -> None:
        """End it, and leave no process, folder or cgroup behind. Its mounts went with its namespace."""
        self.kill()
        shutil.rmtree(self.folder)
        for group in [*_CGROUPS.glob(_CGROUP), *_CGROUPS.glob(f"*/{_CGROUP}")]:
            for inner in sorted(group.rglob("*/"), reverse=True):
                with suppress(OSError):
                    inner.rmdir()
            with suppress(OSError):
                group.rmdir()


def why_not() -> str:
    """Say why no second engine can run here, or nothing."""
    if os.geteuid() != 0:
        return "a second engine needs root"
    if find_dockerd() is None:
        return "there is no dockerd program to start a second time"
    tried = subprocess.run(["unshare", *_NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"namespaces cannot be made here: {tried.stderr.strip()}"


def find_dockerd() -> Path | None:
    prefix = os.environ.get("RELBUILD_ENGINE_PREFIX", "/opt/relbuild-engine")
    places = [Path(prefix) / "tree/usr/sbin/dockerd", *(Path(found) for found in [shutil.which("dockerd")] if found)]
    return next((place for place in places if place.is_file()), None)


@contextmanager
def second_engine() -> Iterator[SecondEngine]:
    """Run a second engine; whatever happens, nothing of it is left."""
    dockerd = find_dockerd()
    assert dockerd is not None
    # A short path: the address of a Unix socket has 107 bytes.
    engine = SecondEngine(folder=Path(tempfile.mkdtemp(prefix="relbuild-second-")), dockerd=dockerd)
    try:
        engine.start()
        yield engine
    finally:
        engine.remove()


def _folders(dockerd: Path) -> tuple[str, ...]:
    return str(dockerd.parent), str(dockerd.parent.parent / "bin")
