"""What the rules of a policy look at, and how the word of gates outside this program is got."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field

from orchestrator.trust import VerificationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """What a gate outside this program said about one release (`subject`: sha256 of its manifest).

    A gate that could not say anything has an `error`: the class of what it raised, or what it did instead.
    """

    subject: str
    passed: bool
    text: str
    exit_code: int = 0
    checks: tuple[tuple[str, bool], ...] = ()
    error: str = ""


def judged_before(subject: str) -> GateReport:
    """Give the report for a version that is published or claimed: it was judged then."""
    return GateReport(subject=subject, passed=True, text="", checks=(("judged when it was claimed", True),))


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedArtifact:
    """An artifact of the manifest, and which documents and signatures about it are there and hold.

    `source` is one that nothing built: an archive of the commit, which the manifest alone describes.
    """

    path: str
    target: str
    sbom: bool
    provenance: bool
    encrypted: bool
    source: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Somebody's word that these bytes (`subject`) may be published."""

    subject: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEvidence:
    """All that the rules look at. `subject` is the sha256 of the manifest that is to be promoted.

    `taken` says why the version is not free, and is empty for one that is: it is never left out.
    """

    version: str
    subject: str
    verification: VerificationResult | None
    artifacts: tuple[PublishedArtifact, ...]
    files: frozenset[str]
    signed_by: tuple[str, ...]
    required_targets: frozenset[str]
    absent: tuple[str, ...]
    taken: str
    gates: Mapping[str, GateReport] = field(default_factory=dict)
    """By name: "validation", "ci", "reproducibility", "semver"."""
    approvals: tuple[Approval, ...] = ()


# --- gates that run ----------------------------------------------------------------------------------------------


def ask_gates(gates: Mapping[str, Callable[[], object]], timeout_s: float) -> dict[str, GateReport]:
    """Run gates side by side and give a report for each, also for one that raises, hangs, or answers something else.

    A gate that hangs is left behind in a thread that ends with the program.
    """
    running = {name: _started(gate) for name, gate in gates.items()}
    return {name: _report(future, timeout_s) for name, future in running.items()}


def _started(gate: Callable[[], object]) -> "Future[object]":
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(gate())
        except BaseException as error:  # noqa: BLE001 - a gate that ends its thread said nothing
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _report(future: "Future[object]", timeout_s: float) -> GateReport:
    try:
        report = future.result(timeout_s)
    except FutureTimeout:
        return _silent("timed out")
    except BaseException as error:  # noqa: BLE001 - likewise
        return _silent(type(error).__name__)
    return report if isinstance(report, GateReport) else _silent("gave no report")


def _silent(error: str) -> GateReport:
    return GateReport(subject="", passed=False, text="", error=error)
