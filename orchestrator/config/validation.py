"""From the shape of [validate] to its rules."""

from pathlib import Path

from orchestrator.config.signing import full_path
from orchestrator.config.validation_shape import ValidateShape
from orchestrator.validation_rules import (
    AbiTool,
    BuildTime,
    Change,
    SecurityRules,
    Severity,
    ValidationGate,
    ValidationRules,
)


def validation(shape: ValidateShape | None, root: Path) -> ValidationRules | None:
    """Give the rules, its paths absolute."""
    if shape is None:
        return None
    return ValidationRules(
        gate=ValidationGate(shape.gate),
        waivers=_path(shape.waivers, root),
        max_new_packages=shape.max_new_packages,
        denied_licenses=tuple(shape.denied_licenses),
        allow_changes=frozenset(map(Change, shape.allow_changes)),
        allow_api_breaks=tuple(shape.allow_api_breaks),
        abidiff=AbiTool(shape.abidiff),
        size_budget=shape.size_budget,
        startup_budget=shape.startup_budget,
        build_time_budget=shape.build_time_budget,
        build_time=BuildTime(shape.build_time),
        allow_secrets=tuple(shape.allow_secrets),
        osv_database=_path(shape.osv_database, root),
        security=SecurityRules(**{key: Severity(value) for key, value in shape.security.model_dump().items()}),
        changing_outputs=tuple(shape.changing_outputs),
        different_outputs=tuple(shape.different_outputs),
    )


def _path(text: str | None, root: Path) -> Path | None:
    return full_path(text, root) if text else None
