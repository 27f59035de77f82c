"""The only home of python-on-whales: BuildKit solves by `docker buildx`.

python-on-whales words the command. builders.command runs it, because python-on-whales can neither stop a solve nor
bound its time, and keeps the whole log in memory.
"""

import contextlib
import functools
import json
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from builders import command
from builders.errors import (
    BuildError,
    CommandFailed,
    DiskFull,
    EmulationUnavailable,
    EngineUnavailable,
    RelbuildError,
    ToolchainUnavailable,
)

_TAIL_CHUNKS: Final = 64
_TAIL_BYTES: Final = 8192
_ADMIN_S: Final = 90.0
_REF_PARTS: Final = 3
_CLIENT_NEEDS: Final = (
    "PATH", "HOME", "USER", "TMPDIR", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "KUBECONFIG", "BUILDX_CONFIG",
    "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Solve:
    """One `docker buildx build`. `output` is an exporter with its settings, such as {"type": "local", "dest": ...}.

    `contexts` are named build contexts; `fresh` uses no layer of an earlier solve; `cache` is a folder to read layers
    from and write them to; `provenance` has BuildKit write all that it knows of the solve into a "local" output;
    `builder` is another than the current one.
    """

    context: Path
    dockerfile: Path
    platforms: tuple[str, ...]
    output: Mapping[str, str]
    args: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    stage: str = ""
    network: bool = False
    fresh: bool = False
    cache: Path | None = None
    provenance: bool = False
    metadata: Path | None = None
    builder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSaid:
    """What buildx tells of a node of a builder. `error` is empty where it runs."""

    name: str
    platforms: tuple[str, ...]
    version: str
    error: str


def run(
    solve: Solve, *, on_output: Callable[[bytes], None], cancelled: threading.Event, timeout_s: float, what: str
) -> None:
    """Run a solve to its end. The solve in the daemon stops with the command.

    Raises CommandFailed where a step of the Dockerfile failed, a BuildError for the engine, TimedOut, Interrupted.
    """
    tail: deque[bytes] = deque(maxlen=_TAIL_CHUNKS)

    def take(chunk: bytes) -> None:
        tail.append(chunk)
        on_output(chunk)

    code = command.stream(argv(solve), on_output=take, cancelled=cancelled, timeout_s=timeout_s)
    if code != 0:
        raise _reason(what, code, b"".join(tail)[-_TAIL_BYTES:].decode("utf-8", "replace"))


def argv(solve: Solve) -> list[str]:
    """Give the command line of a solve."""
    docker = command.find_program("docker")
    if docker is None:
        raise EngineUnavailable("the docker command is not on this machine", next_step="`ci/engine up` installs it")
    # A client that prints its arguments, each ended by NUL, in the place of one that runs them.
    printed = _client("printf", "%s\\0").buildx.build(
        solve.context, file=solve.dockerfile, platforms=list(solve.platforms), output=dict(solve.output),
        build_args=dict(solve.args), build_contexts=dict(solve.contexts), labels=dict(solve.labels),
        target=solve.stage or None, network=None if solve.network else "none", cache=not solve.fresh,
        builder=solve.builder or None, metadata_file=solve.metadata, progress="plain",
        provenance={"mode": "max"} if solve.provenance else False, stream_logs=True, **_cache(solve.cache),
    )  # fmt: skip
    return [str(docker), *"".join(printed).split("\0")[:-1]]


@functools.cache
def version() -> str:
    """Name buildx and the BuildKit of its current builder. Raises EngineUnavailable where either is missing."""
    with _translated():
        nodes = _client("docker").buildx.inspect().nodes or []
    return version_with(", ".join(sorted({node.version for node in nodes if node.version})))


def version_with(daemon: str) -> str:
    """Name buildx, and a BuildKit by its version. Raises EngineUnavailable where buildx is missing."""
    return f"{_plugin_version()}, BuildKit {daemon or 'of the engine'}"


@functools.cache
def _plugin_version() -> str:
    with _translated():
        plugin = _client("docker").buildx.version().split()
    return f"buildx {plugin[1] if len(plugin) > 1 else plugin[0]}"


def digest_of(metadata: Path) -> str:
    """Read the image digest from the file that --metadata-file wrote."""
    return str(json.loads(metadata.read_bytes())["containerimage.digest"])


def node_of(metadata: Path) -> str:
    """Read from the file that --metadata-file wrote which node of its builder solved. Raises BuildError."""
    # builder/node/record. Source: buildx docs, "buildx.build.ref" of docker buildx build --metadata-file.
    parts = str(json.loads(metadata.read_bytes()).get("buildx.build.ref", "")).split("/")
    if len(parts) != _REF_PARTS:
        raise BuildError("docker buildx does not say which node solved", next_step="use buildx 0.13 or newer")
    return parts[1]


# --- builders of several nodes -----------------------------------------------------------------------------------


def put_node(
    builder: str, node: str, endpoint: str, *, driver: str, platforms: Sequence[str] = (),
    options: Mapping[str, str] | None = None, join: bool,
) -> None:  # fmt: skip
    """Make a builder of a first node, or `join` one more to it; one of that name is changed."""
    # python-on-whales can neither name a node nor take one out.
    argv = ["create", "--name", builder, "--node", node, "--driver", driver]
    argv += ["--append"] if join else []
    argv += ["--platform", ",".join(platforms)] if platforms else []
    argv += [part for key, value in (options or {}).items() for part in ("--driver-opt", f"{key}={value}")]
    _administer(*argv, *([endpoint] if endpoint else []))


def drop_node(builder: str, node: str) -> None:
    """Take a node out of a builder."""
    _administer("create", "--name", builder, "--node", node, "--leave")


def remove_builder(builder: str) -> bool:
    """Remove a builder; tell whether there was one."""
    from python_on_whales.exceptions import DockerException  # noqa: PLC0415

    try:
        _client("docker").buildx.remove(builder)
    except DockerException as error:
        if "no builder" in str(error.stderr):
            return False
        with _translated():
            raise
    return True


def ask(builder: str) -> tuple[NodeSaid, ...]:
    """Ask every node of a builder what it is, starting those that start on demand. No such builder: no node."""
    # `docker buildx ls`, which python-on-whales reads, calls nodes inactive that were not asked for a while.
    done = _buildx("inspect", "--bootstrap", builder)
    text = done.stdout.decode("utf-8", "replace")
    _, found, nodes = text.partition("\nNodes:\n")
    blocks = re.split(r"(?m)^(?=Name:)", nodes)[1:] if found else []
    return tuple(_node_said(block, done.stderr.decode("utf-8", "replace")) for block in blocks)


def _node_said(block: str, complaint: str) -> NodeSaid:
    said = dict(re.findall(r"(?m)^(\w[\w ]*):[ \t]+(.*)$", block))
    status = said.get("Status", "")
    error = "" if status == "running" else said.get("Error") or _last_line(complaint) or status or "no answer"
    platforms = re.sub(r"\([^)]*\)", "", said.get("Platforms", "")).replace("*", "").split(",")
    return NodeSaid(
        name=said.get("Name", ""), platforms=tuple(each.strip() for each in platforms if each.strip()),
        version=said.get("BuildKit version") or said.get("Buildkit") or "", error=error,
    )  # fmt: skip


def _administer(*argv: str) -> None:
    done = _buildx(*argv)
    if done.exit_code != 0:
        said = _last_line(done.stderr.decode("utf-8", "replace"))
        raise EngineUnavailable(f"docker buildx {argv[0]}: {said}", next_step=_NEXT_ENGINE)


def _buildx(*argv: str) -> command.Completed:
    docker = command.find_program("docker")
    if docker is None:
        raise EngineUnavailable("the docker command is not on this machine", next_step="`ci/engine up` installs it")
    return command.capture([str(docker), "buildx", *argv], env=client_env(), timeout_s=_ADMIN_S)


def client_env() -> dict[str, str]:
    """Give what the docker command line needs of this program's environment, and nothing else of it."""
    return {name: os.environ[name] for name in _CLIENT_NEEDS if name in os.environ}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].removeprefix("ERROR: ")[:300] if lines else ""


def _client(*call: str) -> Any:
    from python_on_whales import DockerClient  # noqa: PLC0415 - costs 0.2 s

    return DockerClient(client_call=list(call))


def _cache(folder: Path | None) -> dict[str, dict[str, str]]:
    if folder is None:
        return {}
    has_some = (folder / "index.json").is_file()
    return {
        "cache_to": {"type": "local", "dest": str(folder), "mode": "max"},
        **({"cache_from": {"type": "local", "src": str(folder)}} if has_some else {}),
    }


_NEXT_ENGINE: Final = "`relbuild doctor` says what is missing; `ci/engine up` sets up an engine with buildx"

_REASONS: Final[tuple[tuple[str, type[RelbuildError], str], ...]] = (
    ("no space left on device", DiskFull, "free some space for the engine (`docker buildx prune`)"),
    ("exec format error", EmulationUnavailable, "register QEMU's handlers: `ci/engine up`"),
    ("failed to resolve source metadata", ToolchainUnavailable,
     "check the FROM lines: that image is neither in the engine nor in a registry that answers"),
    ("no match for platform", ToolchainUnavailable, "build or pull that image for the target's platform"),
    ("dockerfile parse error", CommandFailed, "mend the Dockerfile at the line that the log names"),
    ("cannot connect to the docker daemon", EngineUnavailable, _NEXT_ENGINE),
    ("code = unavailable", EngineUnavailable, _NEXT_ENGINE),
    ("error during connect", EngineUnavailable, _NEXT_ENGINE),
    ("unknown command: docker buildx", EngineUnavailable, _NEXT_ENGINE),
    ("is not a docker command", EngineUnavailable, _NEXT_ENGINE),
)  # fmt: skip
"""By what buildx prints on the line that starts with ERROR."""


def _reason(what: str, code: int, tail: str) -> RelbuildError:
    lines = tail.splitlines()
    # Only buildx's own last words: what a recipe printed has a step number before it.
    said = " ".join(line for line in lines[-5:] if line.lower().startswith(("error", "docker:", "cannot connect")))
    for words, kind, next_step in _REASONS:
        if words in said.lower():
            return kind(f"{what}: {said[:400]}", next_step=next_step)
    return CommandFailed(f"{what}: the solve failed with exit code {code}: {said[:400] or 'see the log'}",
                         next_step="see the log of the cell; its last lines name the step")  # fmt: skip


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    from python_on_whales.client_config import ClientNotFoundError  # noqa: PLC0415
    from python_on_whales.exceptions import DockerException  # noqa: PLC0415

    try:
        yield
    except ClientNotFoundError as error:
        raise EngineUnavailable("the docker command is not on this machine", next_step=_NEXT_ENGINE) from error
    except DockerException as error:
        said = (error.stderr or error.stdout or "").strip().splitlines()
        what = f"docker buildx: {said[-1] if said else 'no answer'}"
        raise EngineUnavailable(what, next_step=_NEXT_ENGINE) from error
    except (ValueError, IndexError) as error:
        raise BuildError(f"docker buildx answers in a form that is not known: {error}") from error
