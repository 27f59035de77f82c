"""The only home of the docker SDK: it is loaded when it is first needed, and its errors become relbuild's own."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Final

from builders.engine.spec import ContainerEnded
from builders.errors import DiskFull, EmulationUnavailable, EngineUnavailable, ToolchainUnavailable

DEFAULT_SOCKET: Final = "/var/run/docker.sock"
NEXT_ENGINE: Final = "start it (`ci/engine up` sets one up), or use `--engine local`; `relbuild doctor` says more"
_REASONS: Final = (
    ("no space left", DiskFull, "free some space for the engine (`docker system df`, `relbuild images prune`)"),
    ("disk quota exceeded", DiskFull, "free some space for the engine (`docker system df`)"),
    ("exec format error", EmulationUnavailable, "register QEMU's handlers: `ci/engine up`"),
    ("is not running", ContainerEnded, "see the log of the cell; an image needs `sh` and `sleep` that run here"),
    ("no such image", ToolchainUnavailable, "build it: `relbuild images build`"),
    ("executable file not found", ToolchainUnavailable, "use an image that has `sh` and `sleep`"),
)


def sdk() -> Any:
    """Give the docker SDK."""
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415 - costs 0.1 s; the SDK ships no types

    return docker


@contextlib.contextmanager
def translated(doing: str, *, passing: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Turn errors of the engine into a BuildError that says what was being done; `passing` is left as it is."""
    import urllib3  # noqa: PLC0415 - what the SDK raises

    try:
        yield
    except passing:
        raise
    except sdk().errors.APIError as error:
        said = str(error.explanation or error).strip()
        kind, next_step = next(
            ((kind, step) for words, kind, step in _REASONS if words in said.lower()), (EngineUnavailable, "")
        )
        raise kind(f"{doing}: the engine says: {said[:500]}", next_step=next_step or NEXT_ENGINE) from error
    # What requests raises is an OSError, too.
    except (sdk().errors.DockerException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineUnavailable(f"no container engine answers at {_place()} ({_first_line(error)})",
                                next_step=NEXT_ENGINE) from error  # fmt: skip


@contextlib.contextmanager
def gone_is_fine() -> Iterator[None]:
    """Let pass that something is gone, or is being removed by another run."""
    try:
        yield
    except sdk().errors.NotFound:
        return
    except sdk().errors.APIError as error:
        conflict = error.response is not None and error.response.status_code == 409  # noqa: PLR2004 - Conflict
        if not conflict:
            raise


def _place() -> str:
    return os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET


def _first_line(error: BaseException) -> str:
    """Give the innermost cause in a line: what wraps it only repeats that the engine was asked."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
