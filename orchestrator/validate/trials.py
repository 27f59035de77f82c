"""Runs programs of a release again, as smoke tests do: apart from this machine, under QEMU where they are foreign."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builders import emulation, smoke
from builders.binaries import BinaryKind, inspect
from builders.errors import GateFailed
from builders.local import sandbox
from builders.smoke import Ran
from builders.targets import TARGETS
from orchestrator.validate.values import Released, Side

UNSTARTED: Final = (126, 127)
"""How shells, QEMU and the loader say that a program, or a library of it, is not there or cannot be executed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booth:
    """A payload whose programs can run here. `emulated` says that QEMU runs them."""

    folder: Path
    prefix: tuple[str, ...]
    emulated: bool

    def has(self, program: str) -> bool:
        return (self.folder / program).is_file()

    def run(self, words: Sequence[str], *, before: Sequence[str] = ()) -> Ran:
        """Run a command whose first word is a path in the payload. Raises TimedOut, Interrupted."""
        return smoke.run_program(self.folder, words, prefix=self.prefix, cancelled=threading.Event(), before=before)


def booth(side: Side, artifact: Released, programs: Iterable[str]) -> Booth | str:
    """Give the place where these programs of an artifact can run, or say why they cannot run here."""
    target = TARGETS.get(artifact.target)
    if target is None:
        return f"{artifact.target} is a target of the project's own, and nothing here knows how to run its programs"
    # A baseline comes from a repository: its programs do not run beside keys and tokens with nothing between them.
    if sandbox.available() is sandbox.Isolation.NONE:
        return "nothing keeps programs apart from this machine: install bubblewrap, or allow namespaces (unshare)"
    folder = side.payload(artifact)
    prefix = smoke.prefix_of(target, folder, sorted(programs))
    if isinstance(prefix, str):
        return prefix
    return Booth(folder=folder, prefix=tuple(prefix), emulated=not emulation.runs_here(target))


def executables(folder: Path) -> Iterator[str]:
    """Give the compiled programs of a payload, by their paths in it."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        try:
            facts = inspect(path)
        except GateFailed:
            continue  # what cannot be read is told by the part that reads symbols
        if facts is not None and facts.kind is BinaryKind.EXECUTABLE:
            yield path.relative_to(folder).as_posix()
