"""Where a project's commits can be had by others."""

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

from builders import command

_SCP = re.compile(r"(?P<at>[^/:\s]+):(?P<path>(?!//)\S+)")
"""git's short form: [user@]host:path."""
_SCHEMES = frozenset({"https", "http", "ssh", "git"})
_THIS_MACHINE = frozenset({"", "localhost", "127.0.0.1", "::1"})


def remote_of(root: Path) -> str:
    """Give the URL of `origin` as the repository's own settings have it, or an empty string.

    Unlike `git remote get-url`, it does not follow `insteadOf`, which belongs to this machine.
    """
    if command.find_program("git") is None:
        return ""
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"LC_ALL": "C"}
    asked = ("git", "-c", "core.fsmonitor=false", "config", "--get", "remote.origin.url")
    done = command.capture(asked, cwd=root, env=env)
    return done.stdout.decode("utf-8", "replace").strip() if done.exit_code == 0 else ""


def repository_uri(remote: str, project: str) -> str:
    """Name a repository by `git+URL` without credentials.

    A remote that only this machine can reach, or none, gives `urn:relbuild:project:NAME`.
    """
    unknown = f"urn:relbuild:project:{quote(project, safe='')}"
    short = _SCP.fullmatch(remote)
    if short and "://" not in remote:
        remote = f"ssh://{short['at']}/{short['path'].lstrip('/')}"
    try:
        url = urlsplit(remote.removeprefix("git+"))
        host = _host(url)
    except ValueError:
        return unknown
    if url.scheme not in _SCHEMES or (url.hostname or "") in _THIS_MACHINE:
        return unknown
    return f"git+{url.scheme}://{host}{quote(url.path.rstrip('/'), safe='/%~+@:,;=')}"


def _host(url: SplitResult) -> str:
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
    user = "git@" if url.scheme == "ssh" and url.username == "git" else ""
    return f"{user}{host}" + (f":{url.port}" if url.port else "")
