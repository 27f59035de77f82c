"""What was proved on this machine: folders that are only added to, and a list of them, each line tied to the last.

dist/reproductions/history.jsonl                       one line a run
dist/reproductions/VERSION/TIME[-N]/result.json        all that a run found
dist/reproductions/VERSION/TIME[-N]/rebuild.*          its statement: .intoto.jsonl signed, .json unsigned
dist/reproductions/VERSION/*.intoto.jsonl              statements of other rebuilders, put there by a person
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builders.copying import full_disk_named, make_folders, new_file, write_all
from builders.names import escaped
from orchestrator.canonical import Json
from orchestrator.errors import ReproductionFailed
from orchestrator.reproduce.form import TIME_FORM, result_json
from orchestrator.reproduce.values import Reproduction, Verdict
from orchestrator.verify.json_strict import SHA256, TEXT, BadJson, check, integer, map_of, parse, record, text

FOLDER: Final = "reproductions"
LIST: Final = "history.jsonl"
RESULT: Final = "result.json"
SIGNED, UNSIGNED = "rebuild.intoto.jsonl", "rebuild.json"

_MAX_LINE_BYTES: Final = 1 << 16
_MAX_BYTES: Final = 64 << 20
_LINE = record(
    {
        "seq": integer, "prev": text(r"(?:[0-9a-f]{64})?", "digest"), "time": TEXT, "version": TEXT, "subject": SHA256,
        "result_sha256": SHA256, "folder": TEXT, "verdicts": map_of(integer, keys=r"[A-Z]{3,7}"),
        "varied": TEXT, "signed": TEXT,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One run of the history. `verdicts` counts artifacts; `signed` names the keys, or is empty."""

    seq: int
    time: str
    version: str
    subject: str
    folder: str
    verdicts: tuple[tuple[str, int], ...]
    varied: str
    signed: str


@contextmanager
def new_entry(dist: Path, said: Reproduction) -> Iterator[Path]:
    """Give a new folder for a run's papers; it is on the list once the block ends without an error."""
    place = dist / FOLDER
    folder = _fresh(place / said.version, f"{said.time:%Y%m%dT%H%M%SZ}")
    with full_disk_named(place):
        content = result_json(said)
        with new_file(folder / RESULT, executable=False) as descriptor:
            write_all(descriptor, content)
        yield folder
        signed = "yes" if (folder / SIGNED).is_file() else ""
        _append(place / LIST, said, folder.relative_to(place), hashlib.sha256(content).hexdigest(), signed)


def read_history(dist: Path) -> tuple[Past, ...]:
    """Give every run, oldest first. Raises ReproductionFailed that names the first line that does not hold."""
    path = dist / FOLDER / LIST
    if not path.exists():
        return ()
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES)
    found: list[Past] = []
    prev = ""
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        found.append(_past(path, line, number, prev))
        prev = hashlib.sha256(line).hexdigest()
    return tuple(found)


def _past(path: Path, line: bytes, number: int, prev: str) -> Past:
    try:
        value = check(parse(line, _MAX_LINE_BYTES), _LINE)
        if (value["seq"], value["prev"]) != (number, prev) or not line.endswith(b"\n"):
            raise BadJson("does not follow the line before: one was removed, moved or changed")  # noqa: TRY301
    except BadJson as error:
        raise ReproductionFailed(
            f"line {number} of {escaped(str(path))} {error}",
            next_step="what stands before it holds; move the file away",
        ) from None
    return Past(
        seq=number, time=value["time"], version=value["version"], subject=value["subject"], folder=value["folder"],
        verdicts=tuple(sorted(value["verdicts"].items())), varied=value["varied"], signed=value["signed"],
    )  # fmt: skip


def _fresh(parent: Path, name: str) -> Path:
    make_folders(parent)
    for number in range(1000):
        folder = parent / (f"{name}-{number}" if number else name)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise ReproductionFailed(f"{escaped(str(parent))} is full of runs of one second", next_step="wait a moment")


def _append(path: Path, said: Reproduction, folder: Path, result: str, signed: str) -> None:
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        # What a crash cut off was never on the list.
        whole = file.read(_MAX_BYTES)
        whole = whole[: whole.rfind(b"\n") + 1]
        file.truncate(len(whole))
        lines = whole.splitlines(keepends=True)
        prev = hashlib.sha256(lines[-1]).hexdigest() if lines else ""
        entry: dict[str, Json] = {
            "seq": len(lines) + 1, "prev": prev, "time": said.time.strftime(TIME_FORM), "version": said.version,
            "subject": said.subject, "result_sha256": result, "folder": folder.as_posix(),
            "verdicts": {verdict.value: len(said.of(verdict)) for verdict in Verdict},
            "varied": ", ".join(_varied(said)), "signed": signed,
        }  # fmt: skip
        file.write(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _varied(said: Reproduction) -> Iterator[str]:
    """Name the axes on which every rebuilt artifact was varied."""
    from orchestrator.reproduce.rebuild import varied  # noqa: PLC0415  (a list of the past needs no builder)

    sets = [set(varied(each.axes)) for each in said.artifacts if each.axes]
    common = set.intersection(*sets) if sets else set()
    return (axis.value for axis in sorted(common))
