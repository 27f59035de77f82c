"""Waivers: who lets what pass, why and until when. A file of them is TOML or JSON, with a list `waivers`."""

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, TypeVar

from builders.names import escaped
from orchestrator.errors import WaiverInvalid
from orchestrator.validate.values import CheckName, Finding, Gap

Thing = TypeVar("Thing", Finding, Gap)

_MAX_BYTES: Final = 1 << 20
_KEYS: Final = ("rule", "place", "owner", "reason", "expires")
_RULE: Final = re.compile(rf"({'|'.join(CheckName)})\.([a-z][a-z0-9_]*)")
RAISED: Final = "raised"
"""The rule that a check breaks which ended with an error; nobody can let that pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """Lets the findings of one rule pass, and what it left unchecked, where the place fits. Good to the end of a day.

    `rule` is `check.rule`; `place` is a glob (fnmatch), such as `hello/*` or `hello/x86_64: bin/hello`.
    """

    rule: str
    place: str
    owner: str
    reason: str
    expires: date

    @property
    def text(self) -> str:
        """Say it in the words that stand beside what it lets pass."""
        return f"{self.reason} ({self.owner}, until {self.expires.isoformat()})"

    def lifts(self, check: CheckName, thing: Finding | Gap) -> bool:
        return thing.rule != RAISED and self.rule == f"{check}.{thing.rule}" and fnmatchcase(thing.place, self.place)


def read_waivers(path: Path, today: date) -> tuple[Waiver, ...]:
    """Read a file of waivers. Raises WaiverInvalid with everything that is wrong with them."""
    entries = _entries(path)
    read = [_waiver(entry, today) for entry in entries]
    wrong = [f"  waiver {number}: {each}" for number, each in enumerate(read, 1) if isinstance(each, str)]
    if wrong:
        raise WaiverInvalid(
            f"{escaped(str(path))} does not hold:\n" + "\n".join(wrong),
            next_step="each needs rule (check.rule), place, owner, reason, and expires (a date that is not over)",
        )
    return tuple(each for each in read if isinstance(each, Waiver))


def lift(check: CheckName, things: Iterable[Thing], waivers: Sequence[Waiver]) -> tuple[Thing, ...]:
    """Mark what a waiver lets pass with its words."""
    return tuple(_marked(check, each, waivers) for each in things)


def _marked(check: CheckName, thing: Thing, waivers: Sequence[Waiver]) -> Thing:
    found = next((each for each in waivers if each.lifts(check, thing)), None)
    return dataclasses.replace(thing, waived=found.text) if found else thing


# --- reading -----------------------------------------------------------------------------------------------------


def _entries(path: Path) -> list[Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
        value = json.loads(data) if data.lstrip().startswith(b"{") else tomllib.loads(data.decode())
    except OSError as error:
        raise WaiverInvalid(
            f"{escaped(str(path))} cannot be read: {error.strerror}", next_step="name the file of your waivers"
        ) from None
    except (ValueError, RecursionError) as error:
        raise WaiverInvalid(
            f"{escaped(str(path))} is no TOML or JSON: {error}", next_step="write each waiver as a table [[waivers]]"
        ) from None
    if not isinstance(value, dict) or value.keys() != {"waivers"} or not isinstance(value["waivers"], list):
        raise WaiverInvalid(
            f"{escaped(str(path))} holds something else than a list of waivers",
            next_step="write each waiver as a table [[waivers]]",
        )
    return value["waivers"]


def _waiver(entry: Any, today: date) -> Waiver | str:
    """Give a waiver, or say what is wrong with it."""
    if not isinstance(entry, dict) or not set(entry) <= set(_KEYS):
        return "it is no table of " + ", ".join(_KEYS)
    texts = {key: entry.get(key) for key in _KEYS[:-1]}
    missing = [key for key, value in texts.items() if not isinstance(value, str) or not value.strip()]
    if missing:
        return f"it has no {' and no '.join(missing)}"
    expires = _date(entry.get("expires"))
    if expires is None:
        return "it has no date of expiry (expires = 2030-01-31)"
    if expires < today:
        return f"it expired on {expires.isoformat()}"
    rule = _RULE.fullmatch(str(texts["rule"]))
    if rule is None or rule[2] == RAISED:
        return f"there is no rule {escaped(str(texts['rule'])[:80])} to waive: write CHECK.RULE, as a result names them"
    return Waiver(**{key: str(value).strip() for key, value in texts.items()}, expires=expires)


def _date(value: object) -> date | None:
    if isinstance(value, date):
        return value if type(value) is date else None
    try:
        return date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
