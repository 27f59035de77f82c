"""The CI-green gate: a release is only published when the checks of its very commit are green."""

from orchestrator.ci_gate.gate import Released, green
from orchestrator.ci_gate.interface import CheckRun, CheckSource

__all__ = ["CheckRun", "CheckSource", "Released", "green"]
