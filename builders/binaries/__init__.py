"""Reads programs back: for which machine they are, and what they need there."""

from builders.binaries.inspection import BinaryFacts, BinaryKind, build_paths, inspect, version_order

__all__ = ["BinaryFacts", "BinaryKind", "build_paths", "inspect", "version_order"]
