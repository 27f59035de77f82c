"""What is kept of finished cells, by key: their files, what the checks said, how long they took.

cells/<key>/files/...      what the recipe gave
cells/<key>/documents/...  what the builder itself said of the build
cells/<key>/build.json     the digests of both; written last, so that a folder with it is whole
cells/<key>/checks.json    what the truth gate and the smoke tests said of them
cells/times.jsonl          seconds of the last build of each cell, a line a build
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from builders.errors import BuildError
from builders.hashing import file_sha256
from builders.local.local_builder import remove_folder
from builders.model import BuiltFile, Cell, CellKey, SmokeHow, SmokeResult, SmokeRun
from builders.names import escaped, unsafe_reason
from orchestrator.model import Finding, GateRules, Verdict

_SCHEMA = 1
_DOCUMENTS = "documents"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBuild:
    """What a build gave. `documents` are small, and held by name."""

    files: tuple[BuiltFile, ...]
    seconds: float
    documents: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptChecks:
    findings: tuple[Finding, ...]
    smoke: SmokeResult


class CellStore:
    """The folder of finished cells. One run at a time writes to it; the run holds the lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._times = folder / "times.jsonl"
        self._known: dict[str, float] | None = None

    def files_of(self, key: CellKey) -> Path:
        """Say where a kept cell's files lie."""
        return self._folder / key / "files"

    def has(self, key: CellKey) -> bool:
        """Tell whether a cell is kept, without looking at its bytes."""
        return (self._folder / key / "build.json").is_file()

    def load(self, key: CellKey) -> KeptBuild | None:
        """Give a kept cell, if every byte of it is still what was built."""
        data = _read(self._folder / key / "build.json")
        if data is None:
            return None
        try:
            files = tuple(_built_file(entry) for entry in data["files"])
            documents = _documents(self._folder / key / _DOCUMENTS, data.get("documents", []))
            kept = KeptBuild(files=files, seconds=float(data["seconds"]), documents=documents)
        except (KeyError, TypeError, ValueError, OSError):
            return None
        return kept if all(_intact(self.files_of(key), file) for file in files) else None

    @contextmanager
    def room(self) -> Iterator[Path]:
        """Give an empty folder for a build's files. What is not kept by `keep` is gone afterwards."""
        self._folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
        try:
            (folder / "files").mkdir()
            yield folder / "files"
        finally:
            if folder.exists():
                remove_folder(folder)

    def keep(self, key: CellKey, files_folder: Path, build: KeptBuild) -> None:
        """Move a room's files to their key, replacing what was there. A kill leaves the old or the new, or neither."""
        room = files_folder.parent
        entries = [{**dataclasses.asdict(file), "path": str(file.path)} for file in build.files]
        documents = _keep_documents(room / _DOCUMENTS, build.documents)
        whole = {"schema": _SCHEMA, "seconds": build.seconds, "files": entries, "documents": documents}
        _write(room / "build.json", whole)
        place = self._folder / key
        if place.exists():
            remove_folder(place)
        room.rename(place)

    def load_checks(self, cell: Cell, rules: GateRules) -> KeptChecks | None:
        """Give what the checks said, if they were the same checks."""
        data = _read(self._folder / cell.key / "checks.json")
        if data is None or data.get("of") != _checks_key(cell, rules):
            return None
        try:
            findings = tuple(_finding(entry) for entry in data["findings"])
            return KeptChecks(findings=findings, smoke=_smoke(data["smoke"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def keep_checks(self, cell: Cell, rules: GateRules, checks: KeptChecks) -> None:
        """Remember passed checks. A smoke test that could not run is tried again next time."""
        if checks.smoke.how is SmokeHow.NOT_RUN:
            return
        findings = [{**dataclasses.asdict(finding), "path": str(finding.path)} for finding in checks.findings]
        smoke = dataclasses.asdict(checks.smoke)
        _write(
            self._folder / cell.key / "checks.json",
            {"schema": _SCHEMA, "of": _checks_key(cell, rules), "findings": findings, "smoke": smoke},
        )

    def estimate(self, cell: Cell) -> float | None:
        """Say what the last build of this cell took, in seconds; None where it was never built this way."""
        if self._known is None:
            self._known = _read_times(self._times)
        return self._known.get(_way(cell))

    def remember_time(self, cell: Cell, seconds: float) -> None:
        """Keep what a build took, for the next plan."""
        # A line is added and nothing written anew: ten thousand cells would otherwise write it all ten thousand times.
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._times.open("a", encoding="utf-8") as file:
            file.write(json.dumps({_way(cell): round(seconds, 2)}) + "\n")
        self._known = None

    def tidy(self) -> None:
        """Remove what killed runs left. Only for the holder of the lock."""
        for leftover in self._folder.glob(".new-*"):
            remove_folder(leftover)
        times = _read_times(self._times)
        if times:
            _replace(self._times, "".join(json.dumps({way: seconds}) + "\n" for way, seconds in sorted(times.items())))

    def clear(self) -> None:
        """Forget every kept cell."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder)


def _way(cell: Cell) -> str:
    return f"{cell.id} {cell.placement} {cell.builder}"


def _checks_key(cell: Cell, rules: GateRules) -> str:
    parts = [dataclasses.asdict(rules), [dataclasses.asdict(test) for test in cell.smoke]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _built_file(entry: Mapping[str, Any]) -> BuiltFile:
    return BuiltFile(
        path=PurePosixPath(entry["path"]),
        size_bytes=int(entry["size_bytes"]),
        sha256=str(entry["sha256"]),
        sha512=str(entry["sha512"]),
        executable=bool(entry["executable"]),
    )


def _keep_documents(folder: Path, documents: Mapping[str, bytes]) -> list[dict[str, object]]:
    """Write the documents of a build, and give what build.json says of them."""
    entries: list[dict[str, object]] = []
    for name, content in sorted(documents.items()):
        if not _is_name(name):
            raise BuildError(f"a builder attached a document called {escaped(name)}, which is no file name")
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        entries.append({"name": name, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    return entries


def _is_name(name: str) -> bool:
    return "/" not in name and not unsafe_reason(name.encode("utf-8", "surrogateescape"))


def _documents(folder: Path, entries: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """Read kept documents. Raises ValueError or OSError for one that is not what was kept."""
    documents = {}
    for entry in entries:
        name = str(entry["name"])
        if not _is_name(name):
            raise ValueError(name)
        content = (folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise ValueError(name)
        documents[name] = content
    return documents


def _smoke(entry: Mapping[str, Any]) -> SmokeResult:
    """Read what smoke tests gave. Raises KeyError where it was kept before outputs were: they run again."""
    runs = tuple(
        SmokeRun(run=tuple(each["run"]), exit=int(each["exit"]), stdout_sha256=str(each["stdout_sha256"]))
        for each in entry["runs"]
    )
    return SmokeResult(how=SmokeHow(entry["how"]), tests=entry["tests"], note=entry["note"], runs=runs)


def _finding(entry: Mapping[str, Any]) -> Finding:
    return Finding(
        path=PurePosixPath(entry["path"]), rule=entry["rule"], text=entry["text"], verdict=Verdict(entry["verdict"])
    )


def _intact(folder: Path, file: BuiltFile) -> bool:
    path = folder / file.path
    try:
        return path.stat().st_size == file.size_bytes and file_sha256(path) == file.sha256
    except OSError:
        return False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _read_times(path: Path) -> dict[str, float]:
    """Read the last time of each cell; a line that a kill cut short tells nothing."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    times: dict[str, float] = {}
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            times |= {str(way): float(seconds) for way, seconds in json.loads(line).items()}
    return times


def _write(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, json.dumps(data, sort_keys=True, indent=1) + "\n")


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
