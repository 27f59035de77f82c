"""What a check gets, the two releases, and what it gives: an outcome that is a pass only where everything was seen."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, Final

from builders.model import SmokeHow, SmokeRun
from orchestrator.model import ArtifactKind
from orchestrator.validation_rules import Severity, ValidationRules

FIRST_RELEASE: Final = "first release: nothing to compare with"
EVERYWHERE: Final = "release"
"""The place of what is about no single artifact."""


class CheckName(StrEnum):
    """The six checks; in JSON the flat field is this name with `_passed` behind it."""

    SBOM_DELTA = "sbom_delta"
    SLSA_DELTA = "slsa_delta"
    API_COMPAT = "api_compat"
    PERFORMANCE = "performance"
    SECURITY = "security"
    BEHAVIORAL = "behavioral"


# --- what a check gets -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFile:
    """A file of an archive, its path without the archive's root folder, as the manifest lists it."""

    path: PurePosixPath
    size_bytes: int
    sha256: str
    executable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """An artifact of a release with what its manifest and its documents tell. Documents are {} where none is there.

    `smoke` is what commands gave when the release was built (`run[0]` is a path in the payload); it is empty where none
    ran, and `smoke_note` then says why; `smoke_recorded` is false for a release whose manifest
    is older than the record of outputs. `cell_key` names the build in dist/cells.
    """

    path: str
    kind: ArtifactKind
    product: str
    target: str
    size_bytes: int
    sha256: str
    root: str
    files: tuple[PackedFile, ...]
    cell_key: str
    smoke_how: SmokeHow
    smoke_tests: int
    smoke_note: str
    smoke_recorded: bool
    smoke: tuple[SmokeRun, ...]
    spdx: Mapping[str, Any]
    cyclonedx: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Name it in findings: `product/target`."""
        return f"{self.product}/{self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two releases. Its bytes are those that its manifest promises.

    `payload` gives the folder with an artifact's files, without the archive's root folder, unpacked once and safely;
    it raises ValidationFailed where that cannot be done.
    """

    version: str
    manifest_sha256: str
    manifest: Mapping[str, Any]
    artifacts: tuple[Released, ...]
    payload: Callable[[Released], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An artifact of the new release and the one that it replaces; None where the old release has none."""

    new: Released
    old: Released | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What every check gets. `cells` is dist/cells of the project, if there is one.

    `old` is None for a first release: a check that only compares then gives Passed(notes=(FIRST_RELEASE,)).
    `gone` are artifacts of the old release that the new one lacks; the runner objects to them, no check needs to.
    """

    new: Side
    old: Side | None
    pairs: tuple[Pair, ...]
    gone: tuple[Released, ...]
    rules: ValidationRules
    cells: Path | None = None


# --- what a check gives ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A broken rule. `place` begins with `product/target` and may go on with `: file`; `waived` says why it is let by.

    `rule` is a short name in lower case with underscores, unique within its check, which waivers name.
    """

    rule: str
    place: str
    text: str
    severity: Severity = Severity.ERROR
    waived: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that the check should have seen and could not. It counts as a failure unless it is waived.

    A waiver names `rule` (say "startup") at `place`, as for a finding.
    """

    rule: str
    place: str
    reason: str
    waived: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """Everything was looked at and holds. `warnings` are findings that are not errors; `notes` tell what changed."""

    notes: tuple[str, ...] = ()
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """At least one finding is an error; there may be gaps as well."""

    findings: tuple[Finding, ...]
    gaps: tuple[Gap, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Otherwise a check that found nothing to name would pass.
        if all(each.severity is not Severity.ERROR for each in self.findings):
            raise ValueError("a broken check names an error")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotChecked:
    """No error was found, and not everything was looked at: never a pass."""

    gaps: tuple[Gap, ...]
    warnings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.gaps:
            raise ValueError("what was not checked has a name")


Outcome = Passed | Broken | NotChecked
Check = Callable[[Compared], Outcome]
"""Each check is one function `check(compared)` of a module that is called as the check is."""


def outcome_of(findings: Iterable[Finding], gaps: Iterable[Gap] = (), notes: Iterable[str] = ()) -> Outcome:
    """Give the outcome that findings and gaps add up to; findings to be ignored are dropped."""
    counted = tuple(each for each in findings if each.severity is not Severity.IGNORE)
    left, told = tuple(gaps), tuple(notes)
    if any(each.severity is Severity.ERROR for each in counted):
        return Broken(findings=counted, gaps=left, notes=told)
    if left:
        return NotChecked(gaps=left, warnings=counted, notes=told)
    return Passed(notes=told, warnings=counted)
