"""What is asked of git: the files of a work tree, and one commit of a repository."""

import os
from collections.abc import Iterator
from pathlib import Path

from builders.command import Completed, capture
from builders.errors import SourceMismatch, SourceUnavailable
from builders.names import escaped, shown_url

_FETCH_S = 1800.0

# Set by git for its own hooks, where they name another repository than the one asked about.
_INHERITED = frozenset(
    f"GIT_{name}"
    for name in ("DIR", "WORK_TREE", "INDEX_FILE", "OBJECT_DIRECTORY", "ALTERNATE_OBJECT_DIRECTORIES", "COMMON_DIR",
                 "PREFIX", "NAMESPACE", "CEILING_DIRECTORIES")
)  # fmt: skip

# A repository's own configuration may name programs; none of them is to run here.
_NO_PROGRAMS = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")

# A commit's archive is the same whoever makes it.
_AS_COMMITTED = ("-c", "core.autocrlf=false", "-c", "core.attributesFile=/dev/null", "-c", "tar.umask=0022")

_PROTOCOLS = ("-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "protocol.ssh.allow=always",
              "-c", "protocol.file.allow=always")  # fmt: skip


def work_tree_files(folder: Path) -> tuple[bytes, ...]:
    """List the tracked and not ignored files below a folder, or nothing where git knows nothing of it.

    Names are relative to the folder. Repositories inside this one are listed as well.
    """
    if not any((parent / ".git").exists() for parent in (folder.absolute(), *folder.absolute().parents)):
        return ()
    return tuple(_files(os.fsencode(folder), b""))


def archive_commit(folder: Path, commit: str, archive: Path) -> None:
    """Write what a commit of the work tree's own repository has below `folder` as `git archive` does: a tar, anew.

    export-ignore and export-subst count as the commit has them; settings of this machine do not. Raises
    SourceUnavailable, ToolchainUnavailable.
    """
    kept = ("PATH", "HOME", "XDG_CONFIG_HOME")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"LC_ALL": "C", "GIT_ATTR_NOSYSTEM": "1", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_OPTIONAL_LOCKS": "0"}
    argv = ("git", *_NO_PROGRAMS, *_AS_COMMITTED, "archive", "--format=tar", f"--output={archive}", commit)
    done = capture(argv, cwd=folder, env=environment, timeout_s=_FETCH_S)
    if done.exit_code != 0:
        raise SourceUnavailable(
            f"git cannot archive the commit {escaped(commit)}: {_last_line(done)}",
            next_step=f"`git archive {commit[:12]} | tar t` in that folder must work first",
        )


def top_of(folder: Path) -> Path | None:
    """Give the top of the work tree that a folder lies in, or None."""
    if not folder.is_dir():
        return None
    asked = _run(("rev-parse", "--show-toplevel"), folder)
    top = os.fsdecode(asked.stdout.removesuffix(b"\n"))
    return Path(top) if asked.exit_code == 0 and top else None


def export_commit(
    url: str, commit: str, *, repository: Path, archive: Path, project_root: Path, as_checkout: bool = False
) -> None:
    """Fetch one commit into a new bare repository and write its files as a tar archive.

    `as_checkout` takes what a work tree of it would hold: export-ignore and export-subst do not count.
    Raises SourceUnavailable where the repository does not give it, SourceMismatch where it is something else.
    """
    form = "sha256" if len(commit) == 64 else "sha1"  # noqa: PLR2004 - hexadecimal digits of an object name
    _asked(_run(("init", "--quiet", "--bare", f"--object-format={form}", str(repository)), project_root), url)
    wanted = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--depth=1", "--", url, commit)
    if _in(repository, wanted, project_root).exit_code != 0:
        # A server may refuse a bare object name; what its branches and tags lead to it gives to everyone.
        everything = ("fetch", "--quiet", "--no-write-fetch-head", "--", url, "+refs/heads/*:refs/heads/*",
                      "+refs/tags/*:refs/tags/*")  # fmt: skip
        _asked(_in(repository, everything, project_root), url)
    found = _in(repository, ("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"), project_root)
    if (name := found.stdout.decode().strip()) != commit:
        raise SourceMismatch(
            f"{shown_url(url)} has no commit {commit}" + (f"; that names the commit {name}" if name else ""),
            next_step="look at the history of that repository, and put the full name of a commit into matrix.toml",
        )
    if as_checkout:
        (repository / "info").mkdir(exist_ok=True)
        (repository / "info" / "attributes").write_text("* -export-ignore -export-subst\n", encoding="ascii")
    _asked(_in(repository, ("archive", "--format=tar", f"--output={archive}", commit), project_root), url)


def _files(folder: bytes, below: bytes) -> Iterator[bytes]:
    argv = ("ls-files", "--cached", "--others", "--exclude-standard", "-z")
    listed = _run(argv, Path(os.fsdecode(os.path.join(folder, below))))  # noqa: PTH118 - bytes names
    if listed.exit_code != 0:
        raise SourceUnavailable(
            f"git cannot list the files of {escaped(folder)}: {_last_line(listed)}",
            next_step="`git status` in that folder must work first",
        )
    for name in filter(None, listed.stdout.split(b"\0")):
        path = os.path.join(below, name.rstrip(b"/"))  # noqa: PTH118 - bytes names
        full = Path(os.fsdecode(os.path.join(folder, path)))  # noqa: PTH118 - bytes names
        if full.is_symlink() or not full.is_dir():
            yield path
        elif (full / ".git").exists():
            yield from _files(folder, path)
        else:
            raise SourceUnavailable(
                f"the submodule {escaped(path)} of {escaped(folder)} is not checked out",
                next_step="git submodule update --init --recursive",
            )


def _in(repository: Path, arguments: tuple[str, ...], cwd: Path) -> Completed:
    return _run((f"--git-dir={repository}", *_PROTOCOLS, *arguments), cwd)


def _run(arguments: tuple[str, ...], cwd: Path) -> Completed:
    environment = {name: value for name, value in os.environ.items() if name not in _INHERITED}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": "", "LC_ALL": "C"}
    environment.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
    return capture(("git", *_NO_PROGRAMS, *arguments), cwd=cwd, env=environment, timeout_s=_FETCH_S)


def _asked(done: Completed, url: str) -> None:
    if done.exit_code != 0:
        raise SourceUnavailable(
            f"the repository {shown_url(url)} cannot be fetched: {_last_line(done)}",
            next_step="`git ls-remote` of it must work from this machine without asking for anything",
        )


def _last_line(done: Completed) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return escaped(lines[-1]) if lines else f"exit code {done.exit_code}"
