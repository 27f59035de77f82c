"""Statements about rebuilds -> a report for the policy: do enough rebuilders say that these very bytes came out again?

Only signed statements count, each as far as its key is trusted now. Keys that sign one statement together are one
rebuilder; of each rebuilder the latest word counts, so that a later BAD takes an earlier GOOD back.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from builders.world import Axis
from orchestrator import verify
from orchestrator.errors import NotReproducible, VerificationError
from orchestrator.model import ArtifactKind, StagedRelease
from orchestrator.policy_evidence import GateReport
from orchestrator.reproduce.form import MANIFEST, PREDICATE, STATEMENT, TIME_FORM
from orchestrator.reproduce.history import FOLDER
from orchestrator.reproduce.values import Verdict
from orchestrator.reproduction_rules import ReproductionRules
from orchestrator.trust import ATTESTATION, KeyId
from orchestrator.verify.bundles import Envelope, parse_bundle
from orchestrator.verify.json_strict import (
    SHA256,
    TEXT,
    BadJson,
    anything,
    check,
    exactly,
    integer,
    list_of,
    parse_canonical,
    record,
    text,
)
from orchestrator.verify.keys import KeyKind
from orchestrator.verify.trust_root import TrustRoot

_MAX_BYTES: Final = 16 << 20
_MAX_FILES: Final = 1000
_SKEW: Final = timedelta(days=1)
"""How far another rebuilder's clock may be ahead."""
_SIGNS_STATEMENTS: Final = frozenset({KeyKind.ECDSA, KeyKind.KEYLESS})

_ARTIFACT = record(
    {
        "name": TEXT, "sha256": SHA256, "cell": TEXT, "verdict": exactly(*(each.value for each in Verdict)),
        "axes": list_of(record({"axis": TEXT}, closed=False)),
    },
    closed=False,
)  # fmt: skip
_STATEMENT = record(
    {
        "_type": exactly(STATEMENT),
        "predicateType": exactly(PREDICATE),
        "subject": list_of(record({"name": TEXT, "digest": record({"sha256": SHA256})}), least=1),
        "predicate": record(
            {
                "release": record({"project": TEXT, "version": TEXT, "artifacts": integer}),
                "rebuilder": anything,
                "timeRebuilt": text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", "time"),
                "artifacts": list_of(_ARTIFACT),
            }
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What one rebuilder (`keys`) says of a release: all of it is good, something is bad, or neither."""

    keys: frozenset[KeyId]
    time: datetime
    good: bool
    bad: tuple[str, ...]


def report_on(
    staged: StagedRelease, dist: Path, rules: ReproductionRules, roots: Sequence[TrustRoot], now: datetime
) -> GateReport:  # fmt: skip
    """Say whether enough rebuilders proved the release. Never raises for what a statement holds: it then counts not."""
    payloads = _signed_payloads(dist / FOLDER / staged.version, roots, now)
    words = [word for payload, keys in payloads.items() if (word := _word(payload, keys, staged, rules, now))]
    voices = _latest(words)
    good = sum(word.good for word in voices)
    bad = sorted({name for word in voices for name in word.bad})
    enough = good >= rules.rebuilders
    told = f"{good} of {rules.rebuilders} rebuilders say that every byte came out again"
    checks = (
        (told, enough),
        *(((f"{len(bad)} artifacts came out with other bytes: {', '.join(bad)}", False),) if bad else ()),
    )
    passed = enough and not bad
    return GateReport(
        subject=staged.manifest_sha256, passed=passed, checks=checks,
        text="" if passed else "`relbuild reproduce` makes such a statement",
        exit_code=0 if passed else NotReproducible.exit_code,
    )  # fmt: skip


# --- what is signed, and by whom -----------------------------------------------------------------------------------


def _signed_payloads(folder: Path, roots: Sequence[TrustRoot], now: datetime) -> dict[bytes, frozenset[KeyId]]:
    found: dict[bytes, frozenset[KeyId]] = {}
    for line in _lines(folder):
        try:
            content = parse_bundle(line).content
        except BadJson:
            continue
        if isinstance(content, Envelope):
            makers = frozenset(_makers(content.payload, line, roots, now))
            found[content.payload] = found.get(content.payload, frozenset()) | makers
    return {payload: keys for payload, keys in found.items() if keys}


def _lines(folder: Path) -> Iterator[bytes]:
    paths = sorted(folder.rglob(f"*{ATTESTATION}"))[-_MAX_FILES:] if folder.is_dir() else []
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                yield from (line for line in file.read(_MAX_BYTES).split(b"\n") if line)


def _makers(payload: bytes, line: bytes, roots: Iterable[TrustRoot], now: datetime) -> Iterator[KeyId]:
    for root in roots:
        for key_id in root.release.keys:
            key = root.keys[key_id]
            if key.kind not in _SIGNS_STATEMENTS or root.problems(now):
                continue
            try:
                verify.check_signature(payload, line, key, now)
            except VerificationError:
                continue
            yield key_id


# --- what is said --------------------------------------------------------------------------------------------------


def _word(
    payload: bytes, keys: frozenset[KeyId], staged: StagedRelease, rules: ReproductionRules, now: datetime
) -> Word | None:  # fmt: skip
    """Read a statement about exactly this release; another one is nobody's word on it."""
    try:
        value = check(parse_canonical(payload), _STATEMENT)
        time = datetime.strptime(value["predicate"]["timeRebuilt"], TIME_FORM).replace(tzinfo=UTC)
    except (BadJson, ValueError):
        return None
    subjects = {each["name"]: each["digest"]["sha256"] for each in value["subject"]}
    rows = value["predicate"]["artifacts"]
    bad = tuple(each["name"] for each in rows if each["verdict"] == Verdict.BAD)
    # Nobody's clock makes a word of something bad unsaid.
    if subjects.get(MANIFEST) != staged.manifest_sha256 or (time > now + _SKEW and not bad):
        return None
    said = {(each["name"], each["sha256"]): each for each in rows}
    whole = len(said) == len(rows) and _whole(said, staged, rules)
    return Word(keys=keys, time=time, good=not bad and whole, bad=bad)


def _whole(said: Mapping[tuple[str, str], Any], staged: StagedRelease, rules: ReproductionRules) -> bool:
    """Tell whether every artifact came out again, in worlds that were to differ in all that the rules ask for.

    An axis that the builder cannot vary counts as looked at; where none at all was varied, nothing was proved.
    """
    for artifact in staged.artifacts:
        each = said.get((str(artifact.path), artifact.sha256))
        if each is None or each["verdict"] != Verdict.GOOD:
            return False
        axes = {one["axis"] for one in each["axes"]}
        varied = any(one.get("varied") is True for one in each["axes"])
        if artifact.kind is not ArtifactKind.SOURCE and not (varied and axes.issuperset(map(Axis, rules.axes))):
            return False
    return True


def _latest(words: Sequence[Word]) -> list[Word]:
    """Give each rebuilder's last word that says something; keys that ever signed together are one rebuilder."""
    groups: list[tuple[set[KeyId], list[Word]]] = []
    for word in words:
        touching = [group for group in groups if group[0] & word.keys]
        keys = set(word.keys).union(*(group[0] for group in touching))
        said = [word, *(each for group in touching for each in group[1])]
        groups = [group for group in groups if group not in touching] + [(keys, said)]
    telling = ([each for each in said if each.good or each.bad] for _, said in groups)
    # Of two words of one second, the bad one counts.
    return [max(said, key=lambda each: (each.time, bool(each.bad))) for said in telling if said]
