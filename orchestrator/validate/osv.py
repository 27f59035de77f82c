"""Asks an offline copy of an OSV database which vulnerabilities packages are known to have.

Format: https://ossf.github.io/osv-schema/, "Evaluation". A database is a JSON entry, or a folder or a zip of them, as
osv.dev exports one for each ecosystem (all.zip).
"""

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from builders.names import escaped
from orchestrator.errors import ValidationFailed
from orchestrator.validate.ecosystems import Known, is_before, ordered

_ENTRY_BYTES: Final = 16 << 20
_ECOSYSTEM: Final = re.compile(rb'"ecosystem"\s*:\s*"([^":]{1,80})')
_MODIFIED: Final = re.compile(rb'"modified"\s*:\s*"([0-9]{4}-[0-9]{2}-[0-9]{2})')
_NEXT: Final = "give [validate] osv_database a zip, folder or file of OSV entries, such as osv.dev exports"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A package that an entry is about. `sure` is false where the order of its versions is not known here."""

    package: Known
    entry: str
    aliases: tuple[str, ...]
    summary: str
    fixed: tuple[str, ...]
    sure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a database says. `ecosystems` are those that it has entries about; `newest` is the day of its last one."""

    hits: tuple[Hit, ...]
    ecosystems: frozenset[str]
    entries: int
    newest: str


def ask(database: Path, packages: Sequence[Known]) -> Answer:
    """Hold packages against every entry of a database. Raises ValidationFailed where it cannot be read."""
    by_name: dict[str, list[Known]] = {}
    for each in packages:
        by_name.setdefault(_folded(each.name), []).append(each)
    wanted = _wanted(by_name)
    hits: list[Hit] = []
    ecosystems: set[str] = set()
    entries, newest = 0, ""
    for where, data in _entries(database):
        entries += 1
        ecosystems.update(name.decode("utf-8", "replace") for name in _ECOSYSTEM.findall(data))
        newest = max([newest, *(day.decode() for day in _MODIFIED.findall(data))])
        # Databases have many entries, and few of them are about what a release holds: most are never parsed.
        if wanted.search(data) or entries == 1:
            hits += _hits(_parsed(where, data), by_name)
    return Answer(hits=tuple(hits), ecosystems=frozenset(ecosystems), entries=entries, newest=newest)


def _wanted(names: Iterable[str]) -> re.Pattern[bytes]:
    """Give what finds one of these names in an entry that was not parsed, in any spelling that JSON and PyPI allow."""
    spelled = (re.escape(json.dumps(name)).replace(r"\-", "[-_.]+").replace("/", r"\\?/") for name in sorted(names))
    return re.compile("|".join(spelled).encode() or rb"(?!)", re.IGNORECASE)


# --- reading -----------------------------------------------------------------------------------------------------


def _entries(database: Path) -> Iterator[tuple[str, bytes]]:
    try:
        yield from _read(database)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise ValidationFailed(f"the OSV database {escaped(str(database))}: {what}", next_step=_NEXT) from error


def _read(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for each in sorted(path.rglob("*")):
            if each.is_file() and each.suffix in {".json", ".zip"}:
                yield from _read(each)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            for info in packed.infolist():
                if info.filename.endswith(".json"):
                    with packed.open(info) as file:
                        yield f"{path.name}/{info.filename}", file.read(_ENTRY_BYTES + 1)
    else:
        with path.open("rb") as file:
            yield path.name, file.read(_ENTRY_BYTES + 1)


def _parsed(where: str, data: bytes) -> Mapping[str, Any]:
    try:
        entry = json.loads(data) if len(data) <= _ENTRY_BYTES else None
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        raise ValidationFailed(f"{escaped(where)} is no entry of an OSV database", next_step=_NEXT)
    return entry


# --- evaluation --------------------------------------------------------------------------------------------------


def _hits(entry: Mapping[str, Any], by_name: Mapping[str, Sequence[Known]]) -> Iterator[Hit]:
    if entry.get("withdrawn"):
        return
    found: dict[Known, Hit] = {}
    try:
        for affected in entry.get("affected", ()):
            for hit in _affected(entry, affected, by_name):
                if hit.package not in found or hit.sure:
                    found[hit.package] = hit
    except (KeyError, TypeError, AttributeError) as error:
        text = f"the OSV entry {escaped(entry['id'])} breaks the schema"
        raise ValidationFailed(text, next_step=_NEXT) from error
    yield from found.values()


def _affected(
    entry: Mapping[str, Any], affected: Mapping[str, Any], by_name: Mapping[str, Sequence[Known]]
) -> Iterator[Hit]:
    about = affected.get("package", {})
    for package in by_name.get(_folded(str(about.get("name", ""))), ()):
        if not package.is_of(str(about.get("ecosystem", ""))) or not _same_name(package, about["name"]):
            continue
        verdict = _is_affected(package, affected)
        if verdict is not False:
            events = [event for row in affected.get("ranges", ()) for event in row["events"]]
            yield Hit(
                package=package, entry=entry["id"], aliases=tuple(entry.get("aliases", ())),
                summary=str(entry.get("summary", "")), sure=verdict is True,
                fixed=tuple(dict.fromkeys(str(event["fixed"]) for event in events if "fixed" in event)),
            )  # fmt: skip


def _folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).casefold() if "/" not in name else name.casefold()


def _same_name(package: Known, name: str) -> bool:
    # Only PyPI takes several spellings for one name.
    return package.kind == "pypi" or package.name == name


def _is_affected(package: Known, affected: Mapping[str, Any]) -> bool | None:
    """Evaluate one entry's lists and ranges; None where nothing here can."""
    if package.version in affected.get("versions", ()):
        return True
    ranges = [row for row in affected.get("ranges", ()) if row["type"] in {"SEMVER", "ECOSYSTEM"}]
    if ordered(package.kind) or all(row["type"] == "SEMVER" for row in ranges):
        kind = package.kind
        if any(_in_range("golang" if row["type"] == "SEMVER" else kind, package.version, row) for row in ranges):
            return True
        if ranges or affected.get("versions"):
            return False
        return None
    return False if affected.get("versions") else None


def _in_range(kind: str, version: str, row: Mapping[str, Any]) -> bool:
    """Tell whether a version is in a range: of all events up to it, the last one decides."""
    events = [event for event in row["events"] if "limit" not in event]
    limits = [str(event["limit"]) for event in row["events"] if "limit" in event]
    if limits and not any(limit == "*" or is_before(kind, version, limit) for limit in limits):
        return False
    inside = False
    for event in sorted(events, key=lambda event: _Place(kind, next(iter(event.values())))):
        (what, said), *_ = event.items()
        at = str(said)
        match what:
            case "introduced":
                inside = inside or at == "0" or not is_before(kind, version, at)
            case "fixed":
                inside = inside and is_before(kind, version, at)
            case "last_affected":
                inside = inside and not is_before(kind, at, version)
    return inside


class _Place:
    """The place of an event among the others."""

    def __init__(self, kind: str, version: object) -> None:
        self._kind, self._version = kind, str(version)

    def __lt__(self, other: "_Place") -> bool:
        if "0" in {self._version, other._version}:
            return self._version == "0" and other._version != "0"
        return is_before(self._kind, self._version, other._version)
