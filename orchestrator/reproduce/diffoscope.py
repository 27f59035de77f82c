"""Asks diffoscope, where it is installed, for its own account of two files that differ."""

import sys
import threading
from pathlib import Path
from typing import Final

from builders import command
from builders.errors import RelbuildError

_TIMEOUT_S: Final = 600.0
_MOST_BYTES: Final = 4 << 20
_DIFFERS: Final = 1


def account(first: Path, second: Path, report: Path) -> str:
    """Write diffoscope's text to a new file; give an empty string, or why there is none."""
    found = command.find_program("diffoscope") or command.find_program("diffoscope", str(Path(sys.executable).parent))
    if found is None:
        return "diffoscope is not on this machine (PyPI and Debian: diffoscope)"
    argv = [
        str(found), "--text", str(report), f"--max-text-report-size={_MOST_BYTES}", "--no-progress",
        "--no-default-limits",        str(first), str(second),
    ]  # fmt: skip
    env = {"PATH": f"{found.parent}:/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(report.parent)}
    said = bytearray()
    try:
        code = command.stream(
            argv, on_output=said.extend, cancelled=threading.Event(), timeout_s=_TIMEOUT_S, env=env
        )  # fmt: skip
    except RelbuildError as error:
        return error.what
    if code != _DIFFERS or not report.is_file():
        return f"diffoscope ended with {code}: {said.decode('utf-8', 'replace').strip()[-200:]}"
    return ""
