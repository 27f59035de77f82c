"""Errors of a project's configuration, of staging, and of a machine that is not ready."""

from dataclasses import dataclass

from builders.errors import BuildError, RelbuildError


class ConfigError(RelbuildError):
    exit_code = 10


class ConfigNotFound(ConfigError):
    exit_code = 11


class ConfigSyntax(ConfigError):
    exit_code = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One broken rule: where it is (`line` counts from 1, 0 = unknown), what, and a way out."""

    file: str
    line: int
    key: str
    what: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{place}: {self.key}: {self.what}{hint}" if self.key else f"{place}: {self.what}{hint}"


class ConfigInvalid(ConfigError):
    exit_code = 13

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        count = f"{len(problems)} problem" + ("s" if len(problems) != 1 else "")
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(
            f"the configuration has {count}:\n{lines}",
            next_step="mend the lines above; `relbuild schema` prints what is allowed",
        )
        self.problems = problems


class UnknownName(ConfigError):
    exit_code = 14


class NothingToDo(ConfigError):
    exit_code = 15


class VersionUnknown(ConfigError):
    exit_code = 17


class CiInvalid(ConfigError):
    exit_code = 114


class CiDrift(ConfigError):
    exit_code = 115


class StagingError(RelbuildError):
    exit_code = 27


class BestEffortFailed(BuildError):
    exit_code = 28


class NotReady(RelbuildError):
    exit_code = 92
