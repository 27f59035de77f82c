"""Checks of a commit in a signed file, for those who publish where no service can be asked.

Format: relbuild/checks/v1, canonical JSON; its signature is a Sigstore bundle beside it, by a key of the role "ci".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from builders.names import escaped
from orchestrator.canonical import Json, canonical_json
from orchestrator.ci_gate.interface import CheckRun
from orchestrator.errors import PolicyViolation
from orchestrator.trust import BUNDLE
from orchestrator.verify import read_role_signed
from orchestrator.verify.json_strict import (
    BadJson,
    check,
    exactly,
    list_of,
    parse_canonical,
    record,
    text,
)
from orchestrator.verify.trust_root import TrustRoot

SCHEMA: Final = "relbuild/checks/v1"
ROLE: Final = "ci"
_MAX_BYTES: Final = 4 << 20
_NEXT: Final = "`relbuild checks write` makes one for a commit, signed by a key of the role 'ci'"
COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
CONCLUSION: Final = re.compile(r"[a-z_]{0,40}")
_CHECK = {
    "name": text(NAME.pattern, "name"),
    "conclusion": text(CONCLUSION.pattern, "conclusion"),
    "url": text(r"[^\x00-\x20\x7f]{0,2000}", "address"),
}
_SHAPE: Final = record(
    {
        "schema": exactly(SCHEMA),
        "project": text(r"[^\x00-\x1f]{1,200}", "project"),
        "commit": text(COMMIT.pattern, "commit"),
        "checks": list_of(record(_CHECK), least=1, most=1000),
    }
)


def checks_json(project: str, commit: str, runs: Sequence[CheckRun]) -> bytes:
    """Write the checks of a commit; who signs them says that they are so."""
    listed: list[Json] = [{"name": run.name, "conclusion": run.conclusion, "url": run.url} for run in runs]
    return canonical_json({"schema": SCHEMA, "project": project, "commit": commit, "checks": listed})


def signature_of(file: Path) -> Path:
    """Say where the signature of a file of checks lies."""
    return file.with_name(f"{file.name}{BUNDLE}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedChecks:
    """The checks in a file, which a key of the role "ci" must have signed for this project."""

    file: Path
    trust: TrustRoot
    project: str
    now: datetime

    def checks(self, commit: str) -> tuple[CheckRun, ...]:
        """Give the checks of a commit.

        Raises PolicyViolation where the file is missing, none, or about something else, and what
        read_role_signed raises.
        """
        place = escaped(str(self.file))
        try:
            data, _ = read_role_signed(
                self.file, signature_of(self.file), self.trust, ROLE, self.now, most=_MAX_BYTES
            )  # fmt: skip
            value = check(parse_canonical(data, _MAX_BYTES), _SHAPE)
        except BadJson as error:
            raise PolicyViolation(f"{place} is no list of checks: it {error}", next_step=_NEXT) from None
        except OSError as error:
            where = escaped(str(error.filename))
            raise PolicyViolation(f"{where} cannot be read: {error.strerror}", next_step=_NEXT) from None
        if (value["project"], value["commit"]) != (self.project, commit):
            told = f"{escaped(value['project'])} at {value['commit']}"
            raise PolicyViolation(
                f"{place} is about {told}, not {escaped(self.project)} at {commit}", next_step=_NEXT
            )  # fmt: skip
        return tuple(CheckRun(**each) for each in value["checks"])
