"""The CI-green gate and the guard of versions: every doubt is a no. The API is a small real server on 127.0.0.1."""

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from builders.errors import RelbuildError
from orchestrator import ci_gate
from orchestrator.ci_gate.github import PER_PAGE, GitHubChecks
from orchestrator.ci_gate.interface import CheckRun
from orchestrator.ci_gate.signed_file import SignedChecks, checks_json, signature_of
from orchestrator.ci_rules import CheckRules, ChecksFrom
from orchestrator.cli import wire
from orchestrator.errors import PolicyViolation
from orchestrator.policy import RULES, Held
from orchestrator.policy_evidence import GateReport, PolicyEvidence
from orchestrator.publication_policy import PublicationPolicy
from orchestrator.publish.version_guard import VersionGuard, judge_version
from orchestrator.signing import key_file, new_keys, public_keys, trust_file
from orchestrator.signing_rules import PassphraseFrom, PassphraseSource
from orchestrator.verify import load_trust
from orchestrator.verify.trust_root import TrustRoot
from tests.unit.release_maker import EcdsaKey, ecdsa_key, line

COMMIT, OTHER, SUBJECT = "a" * 40, "b" * 40, "c" * 64
NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
TOKEN: Final = "canary-token-77d1"
RELEASE: Final = ci_gate.Released(subject=SUBJECT, commit=COMMIT, dirty=False)
GREEN: Final = (CheckRun(name="tests", conclusion="success"), CheckRun(name="lint", conclusion="success"))


@dataclass(frozen=True)
class Known:
    """A source in memory."""

    runs: tuple[CheckRun, ...]
    commit: str = COMMIT

    def checks(self, commit: str) -> tuple[CheckRun, ...]:
        if commit != self.commit:
            raise PolicyViolation("nobody checked that commit", next_step="check it")
        return self.runs


def says_yes(report: GateReport) -> bool:
    """Ask the policy's own rule."""
    evidence = PolicyEvidence(
        version="1.0.0", subject=SUBJECT, verification=None, artifacts=(), files=frozenset(), signed_by=(),
        required_targets=frozenset(), absent=(), taken="", gates={"ci": report},
    )  # fmt: skip
    return isinstance(RULES["ci"].look(PublicationPolicy.STRICT, evidence), Held)


def judged(source: Any, release: ci_gate.Released = RELEASE, required: Sequence[str] = ("tests", "lint")) -> GateReport:
    return ci_gate.green(release, required, source)


# --- the rule ----------------------------------------------------------------------------------------------------


def test_green_checks_of_the_very_commit_pass() -> None:
    report = judged(Known(GREEN))
    assert says_yes(report)
    assert dict(report.checks) == {"tests": True, "lint": True}


@pytest.mark.parametrize(
    "conclusion", ["failure", "", "neutral", "skipped", "cancelled", "timed_out", "stale", "Success"]
)
def test_anything_but_success_is_a_no(conclusion: str) -> None:
    report = judged(Known((GREEN[0], CheckRun(name="lint", conclusion=conclusion))))
    assert not says_yes(report)
    assert '"lint"' in report.text or "lint" in report.text


@pytest.mark.parametrize("name", ["Lint", "lint ", "lint / x86_64", "lin", ""])
def test_names_are_compared_exactly(name: str) -> None:
    assert not says_yes(judged(Known((GREEN[0], CheckRun(name=name, conclusion="success")))))


def test_one_red_run_among_runs_of_one_name_is_a_no() -> None:
    runs = (*GREEN, CheckRun(name="lint", conclusion="failure", url="https://example.org/7"))
    report = judged(Known(runs))
    assert not says_yes(report)
    assert "https://example.org/7" in report.text


@pytest.mark.parametrize(
    ("release", "words"),
    [
        (ci_gate.Released(subject=SUBJECT, commit=OTHER, dirty=False), "nobody checked that commit"),
        (ci_gate.Released(subject=SUBJECT, commit=COMMIT, dirty=True), "a changed tree"),
        (ci_gate.Released(subject=SUBJECT, commit="", dirty=False), "names no commit"),
        (ci_gate.Released(subject=SUBJECT, commit="HEAD", dirty=False), "names no commit"),
    ],
)
def test_another_commit_or_a_changed_tree_is_a_no(release: ci_gate.Released, words: str) -> None:
    report = judged(Known(GREEN), release)
    assert not says_yes(report)
    assert words in report.error


def test_nothing_required_is_nothing_checked() -> None:
    assert not says_yes(judged(Known(GREEN), required=()))


# --- GitHub's API ------------------------------------------------------------------------------------------------


def run(number: int = 1, name: str = "tests", conclusion: str | None = "success", **more: Any) -> dict[str, Any]:
    return {"id": number, "name": name, "head_sha": COMMIT, "status": "completed", "conclusion": conclusion,
            "html_url": f"https://example.org/{number}", "app": {"id": 1}, **more}  # fmt: skip


def page(*runs: dict[str, Any], total: int | None = None) -> bytes:
    return json.dumps({"total_count": len(runs) if total is None else total, "check_runs": runs}).encode()


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    cut: int = 0
    trickle: bool = False


class FakeGitHub(ThreadingHTTPServer):
    """A fake of one page of GitHub's API, openly so: it answers what the test lays down, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str]] = []
        self.stop = threading.Event()
        super().__init__(("127.0.0.1", 0), _Talk)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Talk(BaseHTTPRequestHandler):
    server: FakeGitHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization", "")))
        turn = len(self.server.asked) - 1
        answer = self.server.answers[min(turn, len(self.server.answers) - 1)]
        if answer.hang:
            self.server.stop.wait(30)
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) + answer.cut))
        self.end_headers()
        if answer.trickle:
            while not self.server.stop.wait(0.05):
                self.wfile.write(b" ")
                self.wfile.flush()
        self.wfile.write(answer.body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own signature
        pass


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    with FakeGitHub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.stop.set()
        server.shutdown()
        thread.join(10)


def source(server: FakeGitHub, waits: list[float] | None = None, **more: Any) -> GitHubChecks:
    waited: list[float] = [] if waits is None else waits
    return GitHubChecks(api=server.url, repository="some/one", token=TOKEN, wait=waited.append, timeout_s=5.0, **more)


def test_github_green(github: FakeGitHub) -> None:
    github.answers = [Answer(page(run(1), run(2, "lint")))]
    assert says_yes(judged(source(github)))
    assert github.asked == [
        (f"/repos/some/one/commits/{COMMIT}/check-runs?per_page={PER_PAGE}&page=1", f"Bearer {TOKEN}")
    ]
    assert TOKEN not in repr(source(github))


def test_github_reads_every_page(github: FakeGitHub) -> None:
    first = [run(number, f"job {number}") for number in range(PER_PAGE)]
    github.answers = [
        Answer(page(*first, total=PER_PAGE + 2)), Answer(page(run(900), run(901, "lint"), total=PER_PAGE + 2)),
    ]  # fmt: skip
    assert says_yes(judged(source(github)))
    assert [path.rpartition("=")[2] for path, _ in github.asked] == ["1", "2"]


DOUBTS: Final[dict[str, tuple[list[Answer], str]]] = {
    "red": ([Answer(page(run(1), run(2, "lint", "failure")))], "lint"),
    "pending": ([Answer(page(run(1), run(2, "lint", None, status="in_progress")))], "has not ended"),
    "green before it ended": ([Answer(page(run(1), run(2, "lint", status="queued")))], "has not ended"),
    "missing": ([Answer(page(run(1)))], "nobody made that check"),
    "none": ([Answer(page())], "nobody made that check"),
    "another commit": ([Answer(page(run(1, head_sha=OTHER), run(2, "lint")))], f"answered for {OTHER}"),
    "fewer than told": ([Answer(page(run(1), run(2, "lint"), total=9)), Answer(page(total=9))], "named 2 of 9"),
    "one twice": ([Answer(page(run(1), run(1, "lint"), total=2)), Answer(page(total=2))], "named 1 of 2"),
    "unauthorised": ([Answer(status=401)], "answered 401"),
    "forbidden": ([Answer(status=403)], "answered 403"),
    "unknown": ([Answer(status=404)], "answered 404"),
    "limited for long": ([Answer(status=403, headers={"Retry-After": "100"})], "too long"),
    "limited always": ([Answer(status=429, headers={"Retry-After": "1"})], "answered 429, 4 times"),
    "broken always": ([Answer(status=500)], "answered 500, 4 times"),
    "cut": ([Answer(page(run(1), run(2, "lint")), cut=10)], "IncompleteRead, 4 times"),
    "half a document": ([Answer(page(run(1), run(2, "lint"))[:-5])], "is not JSON"),
    "no document": ([Answer(b"<html>")], "is not JSON"),
    "other shape": ([Answer(b'{"total_count": 0}')], "check_runs"),
    "shape of a run": ([Answer(page(run(1) | {"name": 7}))], "has no text"),
    "twice in one object": ([Answer(b'{"total_count": 0, "total_count": 0, "check_runs": []}')], "twice"),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_a_doubt_about_githubs_answer_is_a_no(github: FakeGitHub, name: str) -> None:
    github.answers, words = DOUBTS[name]
    report = judged(source(github))
    assert not says_yes(report)
    assert words in report.error + report.text
    assert TOKEN not in repr(report)


@pytest.mark.parametrize(
    "trouble", [Answer(status=429, headers={"Retry-After": "7"}), Answer(status=403, headers={"Retry-After": "7"}),
                Answer(status=502), Answer(b"{", cut=5)],
)  # fmt: skip
def test_github_is_asked_again_after_trouble(github: FakeGitHub, trouble: Answer) -> None:
    github.answers = [trouble, Answer(page(run(1), run(2, "lint")))]
    waits: list[float] = []
    assert says_yes(judged(source(github, waits)))
    assert waits == [7.0 if trouble.headers else 1.0]


def test_a_server_that_hangs_is_a_no(github: FakeGitHub) -> None:
    github.answers = [Answer(hang=True)]
    slow = GitHubChecks(
        api=github.url, repository="some/one", token=TOKEN, timeout_s=0.3, tries=2, wait=lambda _: None
    )  # fmt: skip
    report = judged(slow)
    assert not says_yes(report)
    assert "did not answer" in report.error


def test_a_server_that_trickles_is_a_no(github: FakeGitHub) -> None:
    github.answers = [Answer(page(run(1), run(2, "lint")), cut=1 << 20, trickle=True)]
    slow = GitHubChecks(api=github.url, repository="some/one", token=TOKEN, whole_s=0.5, wait=lambda _: None)
    assert "did not answer: TimeoutError" in judged(slow).error


def test_a_server_that_is_not_there_is_a_no() -> None:
    gone = GitHubChecks(api="http://127.0.0.1:1", repository="a/b", token=TOKEN, wait=lambda _: None)
    assert "ConnectionRefused" in judged(gone).error or "URLError" in judged(gone).error


def test_the_token_does_not_follow_a_redirect(github: FakeGitHub) -> None:
    with FakeGitHub() as elsewhere:
        thread = threading.Thread(target=elsewhere.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        elsewhere.answers = [Answer(page(run(1), run(2, "lint")))]
        github.answers = [Answer(status=302, headers={"Location": f"{elsewhere.url}/x"})]
        report = judged(source(github))
        elsewhere.shutdown()
        thread.join(10)
    assert not says_yes(report)
    assert "answered 302" in report.error
    assert elsewhere.asked == []


# --- the signed file ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Desk:
    """A trust file whose role "ci" has one key, and a file of checks."""

    folder: Path
    trust: TrustRoot
    ci: EcdsaKey
    release: Path

    def source(self, project: str = "hello") -> SignedChecks:
        return SignedChecks(file=self.folder / "checks.json", trust=self.trust, project=project, now=NOW)

    def write(self, data: bytes, key: EcdsaKey | None = None) -> None:
        (self.folder / "checks.json").write_bytes(data)
        signature_of(self.folder / "checks.json").write_bytes(line((key or self.ci).bundle(data)))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    owner = tmp_path / "release.key"
    wanted = new_keys.NewTrust(path=tmp_path / "trust.json", project="hello", threshold=1)
    new_keys.make_key_file(owner, new_keys.pkcs8_form, None, wanted, then)
    ci, public = ecdsa_key(7), tmp_path / "ci.pub"
    public.write_text(ci.public)
    change = trust_file.Rotation(add=(public_keys.read_public_key(public),), role="ci")
    signer = key_file.read_key(owner, lambda: None)
    data = trust_file.rotate(trust_file.read_trust(tmp_path / "trust.json"), change, [signer], then)
    trust_file.write_trust(tmp_path / "trust.json", data, new=False)
    return Desk(tmp_path, load_trust(tmp_path / "trust.json"), ci, owner)


def test_a_file_signed_by_the_role_passes(desk: Desk) -> None:
    desk.write(checks_json("hello", COMMIT, GREEN))
    assert says_yes(judged(desk.source()))


def test_a_red_check_in_a_signed_file_is_a_no(desk: Desk) -> None:
    desk.write(checks_json("hello", COMMIT, (GREEN[0], CheckRun(name="lint", conclusion="failure"))))
    assert not says_yes(judged(desk.source()))


def by_release_key(desk: Desk) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private = load_pem_private_key(desk.release.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    desk.write(checks_json("hello", COMMIT, GREEN), EcdsaKey(private))


def flipped(desk: Desk) -> None:
    data = checks_json("hello", COMMIT, (GREEN[0], CheckRun(name="lint", conclusion="failure")))
    desk.write(data)
    (desk.folder / "checks.json").write_bytes(data.replace(b"failure", b"success"))


def unsigned(desk: Desk) -> None:
    desk.write(checks_json("hello", COMMIT, GREEN))
    signature_of(desk.folder / "checks.json").unlink()


def bad_signature(desk: Desk) -> None:
    desk.write(checks_json("hello", COMMIT, GREEN))
    bundle = json.loads(signature_of(desk.folder / "checks.json").read_bytes())
    bundle["messageSignature"]["signature"] = base64.b64encode(b"\0" * 70).decode()
    signature_of(desk.folder / "checks.json").write_bytes(line(bundle))


FILES: Final[dict[str, tuple[Callable[[Desk], None], str]]] = {
    "missing": (lambda desk: None, "cannot be read"),
    "unsigned": (unsigned, "cannot be read"),
    "flipped": (flipped, "SignatureInvalid"),
    "a signature that does not fit": (bad_signature, "SignatureInvalid"),
    "a release key": (by_release_key, "UntrustedKey"),
    "a strange key": (lambda desk: desk.write(checks_json("hello", COMMIT, GREEN), ecdsa_key(9)), "UntrustedKey"),
    "another commit": (lambda desk: desk.write(checks_json("hello", OTHER, GREEN)), f"is about 'hello' at {OTHER}"),
    "another project": (lambda desk: desk.write(checks_json("other", COMMIT, GREEN)), "is about 'other'"),
    "no check": (lambda desk: desk.write(checks_json("hello", COMMIT, ())), "no list of checks"),
    "other schema": (lambda desk: desk.write(checks_json("hello", COMMIT, GREEN).replace(b"/v1", b"/v2")), "schema"),
    "not canonical": (lambda desk: desk.write(checks_json("hello", COMMIT, GREEN) + b"\n"), "canonical"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_doubt_about_a_file_is_a_no(desk: Desk, name: str) -> None:
    lay, words = FILES[name]
    lay(desk)
    report = judged(desk.source())
    assert not says_yes(report)
    assert report.error
    assert words in report.error


def test_a_key_of_the_role_signs_no_release(desk: Desk) -> None:
    assert desk.ci.key_id not in desk.trust.roles["release"].keys
    with pytest.raises(RelbuildError):
        SignedChecks(file=desk.folder / "none", trust=desk.trust, project="hello", now=NOW).checks(COMMIT)


# --- versions ----------------------------------------------------------------------------------------------------

ACTIVE: Final = ("1.2.3", "1.2.4", "2.0.0", "2.1.0-rc.1", "build-2026-01-01-101010")


def version_passes(version: str, *, tags: tuple[str, ...] = (), older: bool = False, active: Any = ACTIVE) -> bool:
    return judge_version(version, SUBJECT, active, VersionGuard(tags=tags, allow_older=older)).passed


@pytest.mark.parametrize("version", ["2.0.1", "2.1.0", "2.1.0-rc.2", "3.0.0-alpha", "2.0.1+build.7"])
def test_a_newer_version_passes(version: str) -> None:
    assert version_passes(version)
    assert version_passes(version, tags=(f"v{version}", "nightly"))
    assert version_passes(version, tags=(version, "v0.0.1"))


@pytest.mark.parametrize(
    "version",
    [
        "v2.0.1",
        "2.0",
        "2.0.01",
        "2.0.1-",
        "2.0.1-rc.01",
        "2.0.1-rc1+",
        "build-2026-02-02-101010",
        "",
        "2.0.1\n",
        "latest",
    ],
)
def test_what_is_no_strict_semver_is_refused(version: str) -> None:
    report = judge_version(version, SUBJECT, (), VersionGuard())
    assert not report.passed
    assert ("strict SemVer", False) in report.checks
    assert "is no strict SemVer" in report.text


@pytest.mark.parametrize("version", ["1.2.5", "2.0.0", "2.0.0+other", "1.9.0", "2.1.0-beta", "2.0.0-rc.9"])
def test_an_older_version_is_refused(version: str) -> None:
    assert not version_passes(version)


@pytest.mark.parametrize(("version", "well"), [("1.2.5", True), ("1.3.0", True), ("1.2.4", False), ("1.2.2", False)])
def test_an_older_line_goes_on_where_that_is_allowed(version: str, well: bool) -> None:
    assert version_passes(version, older=True) is well


@pytest.mark.parametrize("tags", [("v2.0.2",), ("2.0.2", "v2.0.2-rc.1"), ("v2.0.1-rc.1",)])
def test_another_tag_on_the_commit_is_refused(tags: tuple[str, ...]) -> None:
    assert not version_passes("2.0.1", tags=tags)
    assert version_passes("2.0.1", tags=(*tags, "v2.0.1"))


# --- the token ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "taken"),
    [
        (CheckRules(required=("tests",), source=ChecksFrom.GITHUB, token="A_TOKEN"), True),
        (CheckRules(required=("tests",), source=ChecksFrom.FILE, token="A_TOKEN"), False),
        (CheckRules(source=ChecksFrom.GITHUB, token="A_TOKEN"), False),
    ],
)
def test_the_token_leaves_the_environment_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, rules: CheckRules, taken: bool
) -> None:
    monkeypatch.setenv("A_TOKEN", TOKEN)
    secrets = wire.take_passphrases(None, None, rules)
    assert ("A_TOKEN" not in os.environ) is taken
    if taken:
        assert secrets.get(PassphraseSource(kind=PassphraseFrom.ENV, where="A_TOKEN"), "it") == TOKEN.encode()
