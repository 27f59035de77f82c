"""What can go wrong while building. Each class has its own exit code.

RelbuildError                       1   the root of every error that relbuild raises on purpose
 +-- BuildError                    20   a run that could not give its required cells
      +-- EngineUnavailable        21   no daemon answers, or it answered with an error
      +-- EmulationUnavailable     22   a foreign program cannot run on this machine
      +-- ToolchainUnavailable     29   a compiler, image or package is not here
      +-- SourceMismatch           16   an outside source has other bytes than its digest
      +-- SourceUnavailable        18   an outside source cannot be had, or cannot be unpacked safely
      +-- CellsLeftOut             19   the chosen engine cannot build some of the cells
      +-- DiskFull                 90   no space, inodes or quota left
      +-- FolderBusy               91   another run holds the output folder
      +-- CellError                23   cells failed, for the reasons that their classes name
           +-- TimedOut            24   the recipe took longer than timeout_s
           +-- OutputMissing       25   a pattern of `outputs` matched nothing
           +-- WrongMachine        26   a program is for another machine than the target
           +-- CommandFailed       80   a command of the recipe ended with another code than 0
           +-- OutputAmbiguous     81   a pattern that wants one file matched several
           +-- OutputUnsafe        82   the recipe left something that is not a plain file
           +-- OutputCollision     83   two outputs would have one name
           +-- GateFailed          84   a program breaks a rule of the truth gate
           +-- SmokeFailed         85   a program ran and did not do what the smoke test wants
           +-- SmokeNotRun         86   policy wants the smoke test run, and it could not be
      +-- NodeUnavailable     116   a node of [engine.nodes] does not answer, or was lost in the middle of a run
      +-- WrongNode           117   a cell was built by another node than planned, or emulated on a native one
 +-- Interrupted                  130   Ctrl-C or SIGTERM

30 to 79 are those of publication, trust, validation and rebuilds, in orchestrator/errors.py.
"""

from typing import ClassVar


class RelbuildError(Exception):
    """The root. `what` names the thing and the place, `next_step` says what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.what}\n  next: {self.next_step}" if self.next_step else self.what


class BuildError(RelbuildError):
    exit_code = 20


class EngineUnavailable(BuildError):
    exit_code = 21


class ToolchainUnavailable(BuildError):
    exit_code = 29


class EmulationUnavailable(BuildError):
    exit_code = 22


class SourceMismatch(BuildError):
    exit_code = 16


class SourceUnavailable(BuildError):
    exit_code = 18


class CellsLeftOut(BuildError):
    exit_code = 19


class DiskFull(BuildError):
    exit_code = 90


class FolderBusy(BuildError):
    exit_code = 91


class NodeUnavailable(BuildError):
    """`node` names the one that was lost, where it is one."""

    exit_code = 116

    def __init__(self, what: str, *, next_step: str = "", node: str = "") -> None:
        super().__init__(what, next_step=next_step)
        self.node = node


class WrongNode(BuildError):
    exit_code = 117


class CellError(BuildError):
    """One cell failed; the other cells of the run go on. Cells that failed for different reasons end with this."""

    exit_code = 23


class CommandFailed(CellError):
    exit_code = 80


class TimedOut(CellError):
    exit_code = 24


class OutputMissing(CellError):
    exit_code = 25


class OutputAmbiguous(CellError):
    exit_code = 81


class OutputUnsafe(CellError):
    exit_code = 82


class OutputCollision(CellError):
    exit_code = 83


class WrongMachine(CellError):
    exit_code = 26


class GateFailed(CellError):
    exit_code = 84


class SmokeFailed(CellError):
    exit_code = 85


class SmokeNotRun(CellError):
    exit_code = 86


class Interrupted(RelbuildError):
    """Ctrl-C or SIGTERM ended the run; what was finished is kept."""

    exit_code = 130
