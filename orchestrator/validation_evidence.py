"""Reads what a validation found, for the policy and for the audit. Format: relbuild/validation/v1."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from builders.errors import RelbuildError
from builders.names import escaped
from orchestrator.canonical import Json
from orchestrator.errors import ValidationRequired
from orchestrator.policy_evidence import GateReport, judged_before
from orchestrator.verify.json_strict import (
    SHA256,
    TEXT,
    BadJson,
    boolean,
    check,
    exactly,
    integer,
    list_of,
    map_of,
    optional,
    parse,
    record,
    text,
)

SCHEMA: Final = "relbuild/validation/v1"
_MAX_BYTES: Final = 64 << 20
_SHOWN: Final = 20
_NAMES = r"[a-z][a-z0-9_]{0,63}"
_FLAT_FORM: Final = {
    "schema": exactly(SCHEMA),
    "subject": SHA256,
    "passed": boolean,
    "exit_code": integer,
    "timestamp": text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", "time"),
    "checks": map_of(boolean, keys=_NAMES),
}
_FOUND = {"check": text(_NAMES), "rule": text(_NAMES), "place": TEXT, "text": TEXT, "waived": TEXT}
_WAIVER = record(
    {
        "rule": TEXT, "place": TEXT, "owner": TEXT, "reason": TEXT,
        "expires": text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "date"),
    }
)  # fmt: skip
_DETAILS: Final = {
    "version": TEXT,
    "baseline": optional(record({"version": TEXT, "manifest_sha256": SHA256})),
    "findings": list_of(record({**_FOUND, "severity": exactly("error", "warn")})),
    "not_checked": list_of(record(_FOUND)),
    "notes": map_of(list_of(TEXT), keys=_NAMES),
    "waived": list_of(_WAIVER),
    "idle_waivers": list_of(_WAIVER),
}
"""What a result of `relbuild validate` tells beside the seed's flat form."""
_SHAPE = record(_FLAT_FORM, _DETAILS)
CHECKS: Final = tuple(
    f"{name}_passed" for name in ("sbom_delta", "slsa_delta", "api_compat", "performance", "security", "behavioral")
)
"""The checks that a whole validation has made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What a validation found, for the policy and for the index (the seed's flat form, and who let what pass)."""

    report: GateReport
    listed: Mapping[str, Json]
    waived: tuple[str, ...] = ()
    settled: bool = False
    """Nothing was looked at, because the version is published or claimed."""


def read_validation(path: Path, now: datetime, *, whole: bool = False) -> Validation:
    """Read what a validation found, as parse_validation does. Raises ValidationRequired."""
    try:
        with path.open("rb") as file:
            return parse_validation(file.read(_MAX_BYTES), now, whole=whole)
    except BadJson as error:
        raise ValidationRequired(
            f"{escaped(str(path))} is no validation result: it {error}",
            next_step="`relbuild validate VERSION --result FILE` writes one",
        ) from None
    except OSError as error:
        raise ValidationRequired(
            f"{escaped(str(path))} cannot be read: {error.strerror}", next_step="name the right file"
        ) from None


def parse_validation(data: bytes, now: datetime, *, whole: bool = False) -> Validation:
    """Read what a validation found; a `whole` one has made every check. A waiver must still be good.

    Raises BadJson for what is no result, contradicts itself, or rests on a waiver that expired.
    """
    value = check(parse(data, _MAX_BYTES), _SHAPE)
    checks: Mapping[str, bool] = value["checks"]
    if missing := [name for name in CHECKS if whole and name not in checks]:
        raise BadJson(f"lacks {', '.join(missing)}")
    _refuse_contradictions(value, now.date().isoformat())
    waived = tuple(f"{each['rule']} at {each['place']}: {_reason(each)}" for each in value.get("waived", ()))
    report = GateReport(
        subject=value["subject"], passed=value["passed"], text=_told(value, waived), exit_code=value["exit_code"],
        checks=tuple(sorted((name.removesuffix("_passed"), passed) for name, passed in checks.items())),
    )  # fmt: skip
    listed = {**checks, "passed": value["passed"], "timestamp": value["timestamp"]}
    if "baseline" in value:
        listed["baseline"] = value["baseline"]["version"] if value["baseline"] else "none"
    if waived:
        listed["waived"] = "; ".join(waived)
    return Validation(report=report, listed=listed, waived=waived)


def settled_validation(subject: str, listed: Mapping[str, Json] | None) -> Validation:
    """Give the validation of a version that is published or claimed: nothing is to judge, and what was found then."""
    return Validation(report=judged_before(subject), listed=listed or {}, settled=True)


def silent_validation(error: RelbuildError) -> Validation:
    """Give the validation that could not be made: the policy takes it for a no."""
    words = f"{type(error).__name__}: {error.what}"
    report = GateReport(subject="", passed=False, text="", exit_code=error.exit_code, error=words)
    return Validation(report=report, listed={"passed": False})


def _refuse_contradictions(value: Mapping[str, Any], today: str) -> None:
    granted = {_reason(each): each["expires"] for each in value.get("waived", ())}
    for each in (*value.get("findings", ()), *value.get("not_checked", ())):
        name = f"{each['check']}_passed"
        if each["waived"]:
            if each["waived"] not in granted:
                raise BadJson(f"lets {each['check']}.{each['rule']} pass without a waiver")
            if granted[each["waived"]] < today:
                raise BadJson(f"rests on a waiver of {each['rule']} that expired on {granted[each['waived']]}")
        elif each.get("severity") != "warn" and value["checks"].get(name) is not False:
            raise BadJson(f"says {name} in spite of {each['rule']} at {each['place']}")


def _reason(waiver: Mapping[str, str]) -> str:
    return f"{waiver['reason']} ({waiver['owner']}, until {waiver['expires']})"


def _told(value: Mapping[str, Any], waived: tuple[str, ...]) -> str:
    """Say in a few lines what stands in the way, or what was let pass."""
    broken = [
        f"{each['check']}.{each['rule']} at {each['place']}: {each['text']}"
        for each in (*value.get("findings", ()), *value.get("not_checked", ()))
        if not each["waived"] and each.get("severity") != "warn"
    ]
    more = [f"and {len(broken) - _SHOWN} more"] if len(broken) > _SHOWN else []
    lines = [*broken[:_SHOWN], *more] or [f"waived: {each}" for each in waived]
    return "".join(f"\n    {each}" for each in lines)
