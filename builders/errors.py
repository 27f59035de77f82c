"""What can go wrong while building. Each class has its own exit code.

RelbuildError                      the root of every error that relbuild raises on purpose
 +-- BuildError               20   a run that could not give its required cells
      +-- EngineUnavailable   21   no daemon answers, or it answered with an error
      +-- ToolchainUnavailable 22  a compiler, image or package is not here
      +-- EmulationUnavailable 23  a foreign program cannot run on this machine
      +-- SourceMismatch      24   an outside source has other bytes than its digest
      +-- SourceUnavailable   25   an outside source cannot be had, or cannot be unpacked safely
      +-- CellsLeftOut        26   the chosen engine cannot build some of the cells
      +-- DiskFull            27   no space, inodes or quota left
      +-- FolderBusy          28   another run holds the output folder
      +-- CellError                one cell failed, for the reason that its class names
           +-- CommandFailed  50   a command of the recipe ended with another code than 0
           +-- TimedOut       51   the recipe took longer than timeout_s
           +-- OutputMissing  52   a pattern of `outputs` matched nothing
           +-- OutputAmbiguous 53  a pattern that wants one file matched several
           +-- OutputUnsafe   54   the recipe left something that is not a plain file
           +-- OutputCollision 55  two outputs would have one name
           +-- WrongMachine   56   a program is for another machine than the target
           +-- GateFailed     57   a program breaks a rule of the truth gate
           +-- SmokeFailed    58   a program ran and did not do what the smoke test wants
           +-- SmokeNotRun    59   policy wants the smoke test run, and it could not be
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
    exit_code = 22


class EmulationUnavailable(BuildError):
    exit_code = 23


class SourceMismatch(BuildError):
    exit_code = 24


class SourceUnavailable(BuildError):
    exit_code = 25


class CellsLeftOut(BuildError):
    exit_code = 26


class DiskFull(BuildError):
    exit_code = 27


class FolderBusy(BuildError):
    exit_code = 28


class CellError(BuildError):
    """One cell failed; the other cells of the run go on."""


class CommandFailed(CellError):
    exit_code = 50


class TimedOut(CellError):
    exit_code = 51


class OutputMissing(CellError):
    exit_code = 52


class OutputAmbiguous(CellError):
    exit_code = 53


class OutputUnsafe(CellError):
    exit_code = 54


class OutputCollision(CellError):
    exit_code = 55


class WrongMachine(CellError):
    exit_code = 56


class GateFailed(CellError):
    exit_code = 57


class SmokeFailed(CellError):
    exit_code = 58


class SmokeNotRun(CellError):
    exit_code = 59


class Interrupted(RelbuildError):
    """Ctrl-C or SIGTERM ended the run; what was finished is kept."""

    exit_code = 130
