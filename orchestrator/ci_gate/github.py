"""Check runs of a commit, as GitHub's API tells them. Every doubt is a no.

API: https://docs.github.com/rest/checks/runs#list-check-runs-for-a-git-reference
"""

import http.client
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Never

from orchestrator.ci_gate.interface import CheckRun
from orchestrator.errors import PolicyViolation
from orchestrator.verify.json_strict import (
    BadJson,
    boolean,
    check,
    integer,
    list_of,
    optional,
    parse,
    record,
    text,
)

PER_PAGE: Final = 100
_MOST_PAGES: Final = 20
_MAX_BYTES: Final = 16 << 20
_CHUNK: Final = 64 << 10
_OK: Final = 200
_FORBIDDEN, _TOO_MANY = 403, 429
_SERVER_ERROR: Final = 500
_NEXT: Final = "see that it answers from here and that the token may read checks, and publish again"
_RUN: Final = record(
    {
        "id": integer, "name": text(), "head_sha": text(r"[0-9a-f]{40}|[0-9a-f]{64}", "commit"), "status": text(),
        "conclusion": optional(text(r"[a-z_]{0,40}", "conclusion")),
    },
    {"html_url": optional(text())},
    closed=False,
)  # fmt: skip
_PAGE: Final = record(
    {"total_count": integer, "check_runs": list_of(_RUN, most=PER_PAGE)}, {"incomplete_results": boolean}, closed=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubChecks:
    """The check runs of a repository (OWNER/NAME). The token goes to `api` and nowhere else: no redirect is followed.

    `timeout_s` is for one answer to begin and for each of its parts, `whole_s` for all of it with its repetitions.
    """

    api: str
    repository: str
    token: str = field(repr=False)
    timeout_s: float = 20.0
    whole_s: float = 180.0
    tries: int = 4
    longest_wait_s: float = 60.0
    wait: Callable[[float], None] = time.sleep

    def checks(self, commit: str) -> tuple[CheckRun, ...]:
        """Give all check runs of a commit, the latest of each that was repeated. Raises PolicyViolation."""
        until = time.monotonic() + self.whole_s
        found: dict[int, CheckRun] = {}
        total, page = 0, 0
        while page == 0 or (len(found) < total and page < _MOST_PAGES):
            page += 1
            value = self._page(commit, page, until)
            total = value["total_count"]
            for run in value["check_runs"]:
                if run["head_sha"] != commit:
                    self._refuse(f"answered for {run['head_sha']}, not for {commit}")
                found[run["id"]] = _run(run)
            if not value["check_runs"]:
                break
        if len(found) != total:
            self._refuse(f"named {len(found)} of {total} check runs")
        return tuple(found.values())

    def _page(self, commit: str, page: int, until: float) -> Mapping[str, Any]:
        """Ask for a page, and again after a while where the answer says nothing about the checks."""
        told = self._told(commit, page, until)
        for turn in range(1, self.tries):
            if not isinstance(told, _Nothing):
                return told
            pause = 2.0 ** (turn - 1) if told.after_s is None else told.after_s
            if pause > self.longest_wait_s or time.monotonic() + pause > until:
                self._refuse(f"{told.why}; to ask again would take too long")
            self.wait(pause)
            told = self._told(commit, page, until)
        return self._refuse(f"{told.why}, {self.tries} times") if isinstance(told, _Nothing) else told

    def _told(self, commit: str, page: int, until: float) -> "Mapping[str, Any] | _Nothing":
        """Ask for a page once. Raises PolicyViolation where asking again would change nothing."""
        try:
            status, headers, body = self._ask(commit, page, until)
        except (OSError, http.client.HTTPException) as error:
            return _Nothing(why=f"did not answer: {type(error).__name__}")
        after = headers.get("retry-after", "")
        wanted = float(after) if after.isascii() and after.isdigit() else None
        limited = status == _TOO_MANY or (status == _FORBIDDEN and bool(after))
        if limited or status >= _SERVER_ERROR:
            return _Nothing(why=f"answered {status}", after_s=wanted)
        if status != _OK:
            self._refuse(f"answered {status}")
        try:
            value: Mapping[str, Any] = check(parse(body, _MAX_BYTES), _PAGE)
        except BadJson as error:
            return _Nothing(why=f"gave an answer that {error}")
        return value

    def _ask(self, commit: str, page: int, until: float) -> tuple[int, Mapping[str, str], bytes]:
        url = f"{self.api}/repos/{self.repository}/commits/{commit}/check-runs?per_page={PER_PAGE}&page={page}"
        headers = {
            "Accept": "application/vnd.github+json", "Authorization": f"Bearer {self.token}",
            "User-Agent": "relbuild", "X-GitHub-Api-Version": "2022-11-28",
        }  # fmt: skip
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the configuration takes https alone
        # No handler of redirects is among them: the token stays with whom the configuration names.
        opener = urllib.request.OpenerDirector()
        for handler in (urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
            opener.add_handler(handler())
        with opener.open(request, timeout=self.timeout_s) as answer:
            told = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, told, _body(answer, until)

    def _refuse(self, why: str) -> Never:
        raise PolicyViolation(f"{self.api} {why}, asked about the checks of {self.repository}", next_step=_NEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nothing:
    """An answer that says nothing about the checks; `after_s`: when the server wants to be asked again."""

    why: str
    after_s: float | None = None


def _body(answer: http.client.HTTPResponse, until: float) -> bytes:
    """Read an answer part by part, so that one that trickles ends as well. Raises TimeoutError, IncompleteRead."""
    parts: list[bytes] = []
    size, promised = 0, answer.length
    while part := answer.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > _MAX_BYTES or time.monotonic() > until:
            raise TimeoutError
    if promised is not None and size != promised:
        raise http.client.IncompleteRead(b"", promised - size)
    return b"".join(parts)


def _run(run: Mapping[str, Any]) -> CheckRun:
    ended = run["status"] == "completed"
    return CheckRun(
        name=run["name"], conclusion=(run["conclusion"] or "") if ended else "", url=run.get("html_url") or ""
    )  # fmt: skip
