"""How a run shows itself: a live table, plain lines, JSON lines, or the groups of a CI service."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, assert_never

import typer

from builders.errors import RelbuildError
from orchestrator.events import CellFinished, CellOutput, CellStarted, CellStep, Event, Note, Observer, RunStarted
from orchestrator.model import Built, CellResult, Failed, Skipped

_REFRESH_S = 0.25
_LAST_LINES = 12


class LogFormat(StrEnum):
    AUTO = "auto"
    LIVE = "live"
    PLAIN = "plain"
    JSON = "json"
    GITHUB = "github"
    GITLAB = "gitlab"


LogFormatChoice = Annotated[LogFormat, typer.Option("--log-format", help="How the run shows itself.")]


def choose(wish: LogFormat) -> LogFormat:
    """Give the format for `auto`: the CI service's, a live table on a terminal, else plain lines."""
    if wish is not LogFormat.AUTO:
        return wish
    if os.environ.get("GITHUB_ACTIONS") == "true":
        return LogFormat.GITHUB
    if os.environ.get("GITLAB_CI") == "true":
        return LogFormat.GITLAB
    return LogFormat.LIVE if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else LogFormat.PLAIN


@contextmanager
def observer(log_format: LogFormat) -> Iterator[Observer]:
    """Give the observer of a run; every format but `json` writes to standard error."""
    match log_format:
        case LogFormat.LIVE:
            with _live() as watch:
                yield watch
        case LogFormat.JSON:
            yield _locked(_json_line)
        case LogFormat.GITHUB:
            yield _locked(lambda event: _grouped(event, "::group::{}", "::endgroup::"))
        case LogFormat.GITLAB:
            yield _locked(lambda event: _grouped(event, "\x1b[0Ksection_start:{time}:cell[collapsed=true]\r\x1b[0K{}",
                                                 "\x1b[0Ksection_end:{time}:cell\r\x1b[0K"))  # fmt: skip
        case LogFormat.PLAIN | LogFormat.AUTO:
            yield _locked(_plain)
        case _:
            assert_never(log_format)


def line(result: CellResult) -> str:
    """Say in one line how a cell ended."""
    match result:
        case Built(from_cache=True):
            return f"cached   {result.cell.id}"
        case Built():
            return f"built    {result.cell.id} in {result.seconds:.1f} s ({result.cell.placement}, {_smoke(result)})"
        case Failed():
            tier = "" if result.cell.required else " (best effort)"
            why = str(result.error).removeprefix(f"{result.cell.id}: ")
            return f"FAILED   {result.cell.id}{tier} after {result.seconds:.1f} s: {why}\n  log: {result.log}"
        case Skipped():
            return f"skipped  {result.cell.id}: {result.reason}"
        case _:
            assert_never(result)


def _smoke(result: Built) -> str:
    return "no smoke test" if not result.smoke.tests else f"smoke {result.smoke.how}"


def _details(result: CellResult) -> Iterator[str]:
    """Give what stands below a cell's line: warnings, and the end of a failed cell's log."""
    if isinstance(result, Built) and not result.from_cache:
        for finding in result.findings:
            yield f"  {finding.verdict}: {finding.path}: {finding.text}"
        if result.smoke.note:
            yield f"  smoke {result.smoke.how}: {result.smoke.note}"
    if isinstance(result, Failed):
        yield from (f"  | {text}" for text in tail(result.log))


def tail(log: Path) -> list[str]:
    """Give the last lines of a log, which is escaped already."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16384))
            return file.read().decode("utf-8", "replace").splitlines()[-_LAST_LINES:]
    except OSError:
        return []


def _locked(show: Observer) -> Observer:
    lock = threading.Lock()

    def watch(event: Event) -> None:
        with lock:
            show(event)

    return watch


def _plain(event: Event) -> None:
    match event:
        case CellFinished(result=result):
            _say(line(result), *_details(result))
        case CellStep():
            _say(f"  {event.cell}: {event.text}")
        case Note():
            _say(event.text)
        case RunStarted() | CellStarted() | CellOutput():
            pass
        case _:
            assert_never(event)


def _grouped(event: Event, start: str, end: str) -> None:
    """Show a finished cell as one group that holds its log: groups of cells that run side by side would mix."""
    if not isinstance(event, CellFinished):
        if not isinstance(event, CellOutput):
            _plain(event)
        return
    now = int(time.time())
    _say(start.format(line(event.result).splitlines()[0], time=now), *_details(event.result))
    _say(end.format(time=now))
    if isinstance(event.result, Failed):
        _say(line(event.result))


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def _json_line(event: Event) -> None:
    print(json.dumps(as_data(event), sort_keys=True), flush=True)


def as_data(event: Event) -> dict[str, Any]:
    """Give an event in the shape that `--log-format json` prints, one object a line."""
    match event:
        case RunStarted(plan=plan):
            return {"event": "run_started", "version": plan.version, "engine": plan.engine, "cells": len(plan.cells)}
        case CellStarted():
            return {"event": "cell_started", "cell": event.cell, "log": event.log}
        case CellStep():
            return {"event": "cell_step", "cell": event.cell, "text": event.text}
        case CellOutput():
            return {"event": "cell_output", "cell": event.cell, "text": event.text}
        case Note():
            return {"event": "note", "text": event.text}
        case CellFinished(result=result):
            return {"event": "cell_finished", "cell": result.cell.id, "key": result.cell.key, **_result_data(result)}
        case _:
            assert_never(event)


def _result_data(result: CellResult) -> dict[str, Any]:
    match result:
        case Built():
            warnings = [f"{finding.path}: {finding.text}" for finding in result.findings]
            return {
                "outcome": "built", "cached": result.from_cache, "seconds": round(result.seconds, 3),
                "files": [str(file.path) for file in result.files], "smoke": result.smoke.how, "warnings": warnings,
            }  # fmt: skip
        case Failed():
            return {"outcome": "failed", "log": str(result.log), **error_data(result.error)}
        case Skipped():
            return {"outcome": "skipped", "reason": result.reason}
        case _:
            assert_never(result)


def error_data(error: RelbuildError) -> dict[str, Any]:
    """Give an error in the shape that JSON output has."""
    return {
        "error": type(error).__name__, "message": error.what, "next_step": error.next_step,
        "exit_code": error.exit_code,
    }  # fmt: skip


@contextmanager
def _live() -> Iterator[Observer]:
    """Show running cells as a table that renews itself, and finished ones as lines above it."""
    from rich.console import Console  # noqa: PLC0415  (costs 50 ms; only a terminal wants it)
    from rich.live import Live  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    running: dict[str, tuple[float, str]] = {}
    lock = threading.Lock()

    def table() -> Table:
        grid = Table.grid(padding=(0, 2))
        with lock:
            for cell, (started, text) in running.items():
                shown = Text(text[:100], style="dim", no_wrap=True, overflow="ellipsis")
                grid.add_row(Text(cell, style="bold"), f"{time.monotonic() - started:5.0f} s", shown)
        return grid

    console = Console(stderr=True, highlight=False)
    with Live(get_renderable=table, console=console, refresh_per_second=1 / _REFRESH_S, transient=True):

        def watch(event: Event) -> None:
            with lock:
                _follow(event, running)
            match event:
                case CellFinished(result=result):
                    style = "red" if isinstance(result, Failed) else ""
                    console.print(Text("\n".join([line(result), *_details(result)]), style=style))
                case Note():
                    console.print(Text(event.text))
                case _:
                    pass

        yield watch


def _follow(event: Event, running: dict[str, tuple[float, str]]) -> None:
    match event:
        case CellStarted():
            running[event.cell] = (time.monotonic(), "")
        case CellStep() | CellOutput() if event.cell in running:
            running[event.cell] = (running[event.cell][0], event.text)
        case CellFinished(result=result):
            running.pop(result.cell.id, None)
        case _:
            pass
