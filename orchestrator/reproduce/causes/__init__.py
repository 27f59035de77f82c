"""Says why two builds of one source are not the same to the byte, and where it shows."""

from orchestrator.reproduce.causes.values import Cause, CauseKind, Hints
from orchestrator.reproduce.causes.walk import explain

__all__ = ["Cause", "CauseKind", "Hints", "explain"]
