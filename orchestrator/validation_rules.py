"""What `[validate]` says: what a release may differ in from the last good one. Every default is the safe one."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class ValidationGate(StrEnum):
    """What it means for publishing that a release did not pass, or was not validated."""

    BLOCK = "block"
    WARN = "warn"
    OFF = "off"


class Severity(StrEnum):
    """What a broken rule means. A warning is listed and does not fail the check."""

    ERROR = "error"
    WARN = "warn"
    IGNORE = "ignore"


class AbiTool(StrEnum):
    """Whether `abidiff` is asked beside the list of symbols: where it is installed, always, or never."""

    AUTO = "auto"
    REQUIRE = "require"
    OFF = "off"


class BuildTime(StrEnum):
    """Whether build times are compared: where both are on record here, always, or never."""

    AUTO = "auto"
    REQUIRE = "require"
    OFF = "off"


class Change(StrEnum):
    """What provenance tells of a build and `allow_changes` may let change."""

    BUILDER = "builder"
    BUILD_TYPE = "build_type"
    SOURCE = "source"
    TOOLCHAIN = "toolchain"
    PARAMETERS = "parameters"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityRules:
    """`[validate.security]`: how grave each rule of the security check is."""

    pie: Severity = Severity.ERROR
    relro: Severity = Severity.ERROR
    nx: Severity = Severity.ERROR
    canary: Severity = Severity.WARN
    fortify: Severity = Severity.WARN
    rpath: Severity = Severity.ERROR
    secrets: Severity = Severity.ERROR
    build_paths: Severity = Severity.ERROR
    vulnerabilities: Severity = Severity.ERROR
    """Without a database this is not checked, which fails like an error unless it is "ignore"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationRules:
    """`[validate]`. Budgets are ratios, new to old: 1.1 lets a tenth more through. Globs are those of fnmatch."""

    gate: ValidationGate = ValidationGate.BLOCK
    waivers: Path | None = None
    max_new_packages: int = 10
    denied_licenses: tuple[str, ...] = ()
    """SPDX licence ids (globs) that no package may come with anew."""
    allow_changes: frozenset[Change] = frozenset()
    allow_api_breaks: tuple[str, ...] = ()
    """Globs of what may go: `SYMBOL`, `soname:NAME`, `--option`, `exit:COMMAND`."""
    abidiff: AbiTool = AbiTool.AUTO
    size_budget: float = 1.1
    startup_budget: float = 1.25
    build_time_budget: float = 1.5
    build_time: BuildTime = BuildTime.AUTO
    """Releases do not tell what their builds took, and a machine that did not build them cannot know."""
    allow_secrets: tuple[str, ...] = ()
    """Globs of files of a payload (path below its root folder) that may look like secrets."""
    osv_database: Path | None = None
    """A file: a zip or JSON of OSV entries, as osv.dev exports them."""
    security: SecurityRules = field(default_factory=SecurityRules)
    changing_outputs: tuple[str, ...] = ()
    """Globs of smoke commands (words joined by a space) whose output may change from release to release."""
    different_outputs: tuple[str, ...] = ()
    """The same, for output that may differ between targets."""

    @property
    def passable(self) -> bool:
        """Tell whether any release can pass: known vulnerabilities are looked up somewhere, or not asked for."""
        sought = self.security.vulnerabilities is not Severity.IGNORE
        return not sought or self.osv_database is not None or self.waivers is not None
