"""The only home of python-on-whales: BuildKit solves by `docker buildx`.

python-on-whales words the command. builders.command runs it, because python-on-whales can neither stop a solve nor
bound its time, and keeps the whole log in memory.
"""

import contextlib
import functools
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Solve:
    """One `docker buildx build`. `output` is an exporter with its settings, such as {"type": "local", "dest": ...}.

    `contexts` are named build contexts; `fresh` uses no layer of an earlier solve; `cache` is a folder to read layers
    from and write them to; `provenance` has BuildKit write all that it knows of the solve into a "local" output.
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
        provenance={"mode": "max"} if solve.provenance else False, metadata_file=solve.metadata, progress="plain",
        stream_logs=True, **_cache(solve.cache),
    )  # fmt: skip
    return [str(docker), *"".join(printed).split("\0")[:-1]]


@functools.cache
def version() -> str:
    """Name buildx and the BuildKit of its current builder. Raises EngineUnavailable where either is missing."""
    with _translated():
        client = _client("docker")
        plugin = client.buildx.version().split()
        nodes = client.buildx.inspect().nodes or []
    daemon = ", ".join(sorted({node.version for node in nodes if node.version})) or "of the engine"
    return f"buildx {plugin[1] if len(plugin) > 1 else plugin[0]}, BuildKit {daemon}"


def digest_of(metadata: Path) -> str:
    """Read the image digest from the file that --metadata-file wrote."""
    return str(json.loads(metadata.read_bytes())["containerimage.digest"])


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
