"""Publication by the command line: real processes, real keys, a repository in a folder, and one in an object store."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from orchestrator.validate.values import CheckName
from tests import object_stores
from tests.unit import release_maker
from tests.unit.release_maker import EcdsaKey, MadeRelease, make_release

ROOT = Path(__file__).parents[2]
MAIN = "from orchestrator.cli import main; main()"
DIES = (
    "import os, signal, sys\n"
    "def hook(event, given):\n"
    "    if event == 'os.link' and str(given[1]).endswith({ending!r}):\n"
    "        os.kill(os.getpid(), signal.SIGKILL)\n"
    "sys.addaudithook(hook)\n"
)
"""Ends the program by SIGKILL right before it creates an object whose name ends so."""
UNVALIDATED = ("--no-require-validation",)
CANARY = "canary-2c7e0f: a passphrase that must not be seen"
SECRETS = {"AUDIT_WORDS": CANARY}
TARGETS = ("aarch64", "armv7")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.rstrip("\n").rpartition("\n")[2]


@dataclass(frozen=True)
class Shop:
    """A folder with keys, releases and a repository, and the program that works on them."""

    folder: Path
    signer: EcdsaKey

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def place(self) -> tuple[object, ...]:
        return "--repository-type", "local", "--repository-path", self.repository, "--trust", "trust.json"

    @property
    def owner(self) -> tuple[object, ...]:
        return "--key", "release.key", "--audit-key", "audit.key", "--audit-passphrase-env", "AUDIT_WORDS"

    def run(
        self, *arguments: object, before: str = "", env: Mapping[str, str] | None = None, around: Sequence[str] = ()
    ) -> Done:  # fmt: skip
        given = {"PATH": os.environ["PATH"], "HOME": str(self.folder / "home"), "PYTHONPATH": str(ROOT), **SECRETS}
        done = subprocess.run(
            [*around, sys.executable, "-P", "-c", before + MAIN, *map(str, arguments)], cwd=self.folder,
            env={**given, **(env or {})}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert CANARY not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return Done(code=done.returncode, out=done.stdout, err=done.stderr)

    def good(self, *arguments: object, env: Mapping[str, str] | None = None) -> Done:
        done = self.run(*arguments, env=env)
        assert done.code == 0, done.out + done.err
        return done

    def publish(self, version: str, *more: object, before: str = "", folder: Path | None = None) -> Done:
        place = folder or self.folder / "releases" / version
        # The archives of these releases are no archives: what is tested here is publishing.
        asks = any(str(each).startswith("--validation-policy") for each in more)
        given = more if asks else (*UNVALIDATED, *more)
        return self.run("publish", "--release-dir", place, *self.place, *self.owner, *given, before=before)

    def published(self, *versions: str) -> None:
        for version in versions:
            self.make(version)
            done = self.publish(version)
            assert (done.code, done.last) == (0, "published"), done.out + done.err

    def read(self, *arguments: object) -> Done:
        return self.run(*arguments, *self.place)

    def change(self, *arguments: object) -> Done:
        return self.run(*arguments, *self.place, *self.owner)

    def make(self, version: str, *, salt: bytes = b"", base: str = "releases", **more: Any) -> MadeRelease:
        return make_release(self.folder / base / version, version=version, keys=(self.signer,), salt=salt, **more)

    def snapshot(self) -> dict[str, bytes]:
        """Give everything that readers can see."""
        files = (path for path in self.repository.rglob("*") if path.is_file() and not path.name.startswith(".lock"))
        return {str(path.relative_to(self.repository)): path.read_bytes() for path in files}

    def journal(self) -> list[dict[str, Any]]:
        path = self.folder / "dist" / "publication-journal.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a trust file with a release key and an audit key, as an owner does."""
    folder = tmp_path_factory.mktemp("keys")
    shop = Shop(folder, release_maker.ecdsa_key())
    trust = ("--trust", "trust.json")
    shop.good("keys", "generate", "--out", "release.key", "--no-passphrase", *trust, "--project", "hello")
    shop.good("keys", "generate", "--kind", "audit", "--out", "audit.key", "--passphrase-env", "AUDIT_WORDS")
    shop.good("keys", "rotate", *trust, "--key", "release.key", "--no-passphrase", "--add", "audit.pub")
    return folder


@pytest.fixture
def shop(keys: Path, tmp_path: Path) -> Shop:
    shutil.copytree(keys, tmp_path / "shop")
    return shop_in(tmp_path / "shop")


def shop_in(folder: Path) -> Shop:
    """Give the shop of a folder that holds keys; its releases are signed with the release key there."""
    private = load_pem_private_key((folder / "release.key").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return Shop(folder, EcdsaKey(private))


def without_documents(shop: Shop, version: str, *endings: str) -> None:
    """Make a release that never had these documents."""
    made = shop.make(version)
    for name in made.names():
        if name.endswith(endings):
            (made.folder / name).unlink()
    with pytest.MonkeyPatch.context() as patch:
        kept = {ending: kind for ending, kind in release_maker.DOCUMENTS.items() if ending not in endings}
        patch.setattr(release_maker, "DOCUMENTS", kept)
        release_maker.finish(made, dict(zip(made.artifacts, TARGETS, strict=True)))


# --- publishing --------------------------------------------------------------------------------------------------


def test_published_then_nothing_to_do_then_refused_with_other_bytes(shop: Shop) -> None:
    shop.published("1.0.0")
    before = shop.snapshot()
    again = shop.publish("1.0.0")
    assert (again.code, again.last) == (0, "published"), again.err
    assert "published before with the same bytes" in again.out
    shop.make("1.0.0", salt=b"other", base="others")
    for mode in ("strict", "lenient"):
        other = shop.publish("1.0.0", "--policy", mode, folder=shop.folder / "others" / "1.0.0")
        assert (other.code, other.last) == (32, "not published")
        assert "1.0.0 is published already, with other bytes" in other.err
    assert shop.snapshot() == before
    assert [line["exit_code"] for line in shop.journal()] == [32, 32]
    assert "hold" in shop.good("audit", "verify", "--journal", "dist/publication-journal.jsonl").out


def test_the_same_manifest_signed_anew_changes_nothing(shop: Shop) -> None:
    shop.published("1.0.0")
    before = shop.snapshot()
    shutil.rmtree(shop.folder / "releases" / "1.0.0")
    shop.make("1.0.0")
    again = shop.publish("1.0.0")
    assert (again.code, again.last) == (0, "published"), again.err
    assert "signed anew" in again.out
    assert shop.snapshot() == before


def test_reports_tell_the_stages_and_that_validation_was_not_done(shop: Shop) -> None:
    shop.make("1.0.0")
    done = shop.publish("1.0.0", "--json-report", "r.json", "--text-report", "r.txt", "--sign-audit-log")
    assert done.code == 0
    assert "validation: not done" in done.out
    report = json.loads((shop.folder / "r.json").read_bytes())
    assert [stage["name"] for stage in report["stages"]] == [
        "duplicate check", "upload to staging", "verify staging", "promote", "verify production", "clean staging",
        "delete staging folder",
    ]  # fmt: skip
    assert (report["status"], report["state"], report["validation"]) == ("success", "published", None)
    assert report["verification"]["passed"] is True
    text = (shop.folder / "r.txt").read_text()
    assert "Validation: not done" in text
    assert "warning: no matrix.toml was read" in done.out
    assert text.rstrip().endswith("published")


@pytest.mark.fault(29)
@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_a_clock_that_is_years_off_is_told_and_publishes_in_order(shop: Shop) -> None:
    told = {}
    for minor, off in enumerate(("+0d", "+1d", "+4000d", "+0d", "+1h")):
        shop.make(f"1.{minor}.0")
        place = ("--release-dir", f"releases/1.{minor}.0", *shop.place, *shop.owner, *UNVALIDATED, "--json-report",
                 "r.json")  # fmt: skip
        done = shop.run("publish", *place, around=("faketime", "-f", off))
        assert (done.code, done.last) == (0, "published"), (off, done.out + done.err)
        report = json.loads((shop.folder / "r.json").read_bytes())
        told[minor] = [each for each in report["warnings"] if each.startswith("clock: ")]
        assert report["index"]["revision"] == minor + 1
        assert ("warning: clock: " in done.out) is bool(told[minor])
    assert (told[0], told[1], told[4]) == ([], [], [])
    assert "more than a year ago" in told[2][0]
    assert "one of the two clocks is wrong" in told[3][0]
    assert json.loads((shop.repository / "index.json").read_bytes())["latest"] == "1.4.0"
    assert "revision 5" in shop.read("index", "verify").out


def test_a_report_that_cannot_be_written_does_not_hide_what_happened(shop: Shop) -> None:
    shop.make("1.0.0")
    done = shop.publish("1.0.0", "--json-report", "no/such/folder.json")
    assert (done.code, done.last) == (39, "published")
    assert "cannot be written" in done.err


def test_the_step_summary_tells_what_was_verified_and_published(shop: Shop) -> None:
    shop.make("1.0.0")
    place = ("--release-dir", "releases/1.0.0", *shop.place, *shop.owner, *UNVALIDATED)
    kept = {"GITHUB_STEP_SUMMARY": str(shop.folder / "summary.md")}
    shop.good("verify", "releases/1.0.0", "--trust", "trust.json", env=kept)
    shop.good("publish", *place, "--dry-run", env=kept)
    shop.good("publish", *place, "--text-report", "r.txt", env=kept)
    other = shop.make("1.0.0", salt=b"other bytes", base="others").folder
    assert shop.run("publish", "--release-dir", other, *place[2:], env=kept).code == 32
    verified, dry, out, refused = (shop.folder / "summary.md").read_text().split("## ")[1:]
    assert verified.startswith("Verification\n\n```text\nCHECK")
    assert "hello 1.0.0 is verified" in verified
    assert dry.startswith("Publication (a dry run)\n\n")
    assert dry.endswith("\nnot published\n```\n")
    assert out == f"Publication\n\n```text\n{(shop.folder / 'r.txt').read_text()}```\n"
    assert "Error: DuplicateVersion" in refused


def test_a_dry_run_writes_nothing(shop: Shop) -> None:
    shop.make("1.0.0")
    done = shop.publish("1.0.0", "--dry-run")
    assert (done.code, done.last) == (0, "not published"), done.err
    assert "would swap index.json" in done.out
    assert not shop.repository.exists()
    shop.published("1.1.0")
    before = shop.snapshot()
    assert shop.publish("1.0.0", "--dry-run").code == 0
    assert shop.snapshot() == before


@pytest.mark.fault(4, 5)
@pytest.mark.parametrize(("ending", "last"), [("1.0.0.audit.json", "fate"), ("1.0.0.audit.sig", "claim")])
def test_killed_then_recovered(shop: Shop, ending: str, last: str) -> None:
    shop.make("1.0.0")
    assert shop.publish("1.0.0", before=DIES.format(ending=ending)).code == -signal.SIGKILL
    assert (shop.repository / "1.0.0.audit.json").exists() is (last == "claim")
    assert not (shop.repository / "index.json").exists()
    told = shop.change("recover")
    assert (told.code, "rolled forward" in told.out) == (0, True), told.out + told.err
    assert "1.0.0" in shop.read("list").out
    assert "nothing to recover" in shop.change("recover").out
    assert not list(shop.repository.glob(".staging-*"))


@pytest.mark.parametrize("anew", [False, True])
def test_killed_then_published_again(shop: Shop, anew: bool) -> None:
    shop.make("1.0.0")
    assert shop.publish("1.0.0", before=DIES.format(ending="1.0.0.audit.sig")).code == -signal.SIGKILL
    if anew:
        shutil.rmtree(shop.folder / "releases")
        shop.make("1.0.0")
    again = shop.publish("1.0.0")
    assert (again.code, again.last) == (0, "published"), again.err
    assert shop.read("audit", "verify").code == 0


ENDS = (
    "import itertools, os, signal, sys\n"
    "steps_of_all_threads = itertools.count(1)\n"
    "def hook(event, given):\n"
    "    steps = {{'os.link', 'os.rename', 'os.mkdir'}}\n"
    "    if event in steps and os.path.basename(str(given[0])).startswith('.new-'):\n"
    "        if next(steps_of_all_threads) == {number}:\n"
    "            os.kill(os.getpid(), signal.{name})\n"
    "sys.addaudithook(hook)\n"
)
"""Sends the program what Ctrl-C or a supervisor does, right before its n-th step in the repository."""


@pytest.mark.fault(22)
def test_ctrl_c_or_a_supervisor_at_any_step_of_a_publish_ends_it_tidily(shop: Shop) -> None:
    states = set()
    for number in range(2, 40, 6):
        shutil.rmtree(shop.repository, ignore_errors=True)
        shutil.rmtree(shop.folder / "releases", ignore_errors=True)
        shop.make("1.0.0")
        name = ("SIGINT", "SIGTERM")[number // 6 % 2]
        done = shop.publish("1.0.0", before=ENDS.format(number=number, name=name))
        states.add(done.last)
        if done.code == 0:
            assert done.last == "published"
            break
        assert done.code == 130, (number, done.out + done.err)
        claimed = (shop.repository / "1.0.0.audit.json").exists()
        assert done.last in {"not published", "claimed (run recover)"}, (number, done.out + done.err)
        if done.last == "not published":
            assert not claimed
            assert not list(shop.repository.glob(".staging-*")), number
        else:
            assert shop.change("recover").code == 0
        assert shop.publish("1.0.0").last == "published"
        # Each repository is another one to a reader: what was seen of the last one must not count.
        assert shop.read("audit", "verify", "--memory", f"seen-{number}").code == 0
    assert states == {"not published", "claimed (run recover)", "published"}


# --- exit codes --------------------------------------------------------------------------------------------------


def failed(done: Done, code: int, words: str) -> None:
    assert (done.code, done.last) == (code, "not published"), done.out + done.err
    assert words in done.err


@pytest.mark.fault(52)
def test_30_a_release_that_does_not_hold_goes_out_in_no_mode(shop: Shop) -> None:
    made = shop.make("1.0.0")
    made.write(made.artifacts[0], b"changed")
    failed(shop.publish("1.0.0"), 30, "has 7 bytes, and the manifest promises")
    failed(shop.publish("1.0.0", "--policy", "lenient"), 30, "no policy lets such a release out")
    assert not shop.repository.exists()


def test_30_a_bad_result_that_was_brought_along(shop: Shop) -> None:
    made, other = shop.make("1.0.0"), shop.make("1.0.1")
    other.write(other.artifacts[0], b"changed")
    shop.run("verify", other.folder, "--trust", "trust.json", "--result", "bad.json")
    failed(shop.publish("1.0.0", "--verification-result", "bad.json"), 30, "that of other bytes")
    lenient = shop.publish("1.0.0", "--verification-result", "bad.json", "--policy", "lenient")
    failed(lenient, 30, "no policy lets such a release out")
    part = ("verify", made.folder, "--trust", "trust.json", "--target", TARGETS[0], "--result", "part.json")
    for name in made.names():
        if TARGETS[1] in name:
            (made.folder / name).rename(shop.folder / name)
    shop.good(*part)
    for name in [each.name for each in shop.folder.iterdir() if TARGETS[1] in each.name]:
        (shop.folder / name).rename(made.folder / name)
    failed(shop.publish("1.0.0", "--verification-result", "part.json"), 30, "a part of a release")
    failed(shop.publish("1.0.0", "--verification-result", "none.json"), 30, "cannot be read")
    shop.good("verify", made.folder, "--trust", "trust.json", "--result", "good.json")
    assert shop.publish("1.0.0", "--verification-result", "good.json").code == 0


ALL_CHECKS = {f"{name}_passed": True for name in CheckName}


def validation(shop: Shop, made: MadeRelease, **changes: object) -> Path:
    value = {
        "schema": "relbuild/validation/v1", "subject": release_maker.sha256(made.read("manifest.json")),
        "passed": True, "exit_code": 0, "timestamp": "2030-01-31T12:00:00Z", "checks": {"installs": True}, **changes,
    }  # fmt: skip
    path = shop.folder / "validation.json"
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"passed": False, "exit_code": 50, "checks": {"installs": False}}, "validation failed (installs)"),
        ({"subject": "0" * 64}, "other bytes"),
        ({"checks": {}}, "checked nothing"),
        ({"schema": "x"}, "no validation result"),
    ],
)
def test_31_validation_that_did_not_pass(shop: Shop, changes: dict[str, object], words: str) -> None:
    made = shop.make("1.0.0")
    failed(shop.publish("1.0.0", "--validation-result", validation(shop, made, **changes)), 31, words)


def test_validation_that_passed_is_in_the_index(shop: Shop) -> None:
    made = shop.make("1.0.0")
    done = shop.publish("1.0.0", "--validation-result", validation(shop, made))
    assert (done.code, "validation: passed" in done.out) == (0, True), done.err
    told = json.loads(shop.read("list", "--json").out)
    assert told["releases"][0]["validation"]["installs"] is True


def test_33_a_missing_manifest_or_document(shop: Shop) -> None:
    made = shop.make("1.0.0")
    (made.folder / "manifest.json").unlink()
    failed(shop.publish("1.0.0"), 33, "has no manifest.json")
    without_documents(shop, "1.0.1", ".spdx.json", ".cdx.json")
    failed(shop.publish("1.0.1"), 33, "no SBOM")
    lenient = shop.publish("1.0.1", "--policy", "lenient")
    assert (lenient.code, "warning: sbom: no SBOM" in lenient.out) == (0, True), lenient.err


def test_34_a_missing_signature(shop: Shop) -> None:
    made = shop.make("1.0.0")
    failed(shop.publish("1.0.0", "--require-signatures"), 34, "no signature that holds beside hello_1.0.0")
    for name in made.names():
        if name.endswith(".sigstore.json"):
            (made.folder / name).unlink()
    failed(shop.publish("1.0.0"), 34, "no signature by a trusted key")
    shop.make("1.0.1", each_artifact=True)
    assert shop.publish("1.0.1", "--require-signatures").code == 0


def test_35_missing_encryption_and_what_lenient_makes_of_it(shop: Shop) -> None:
    shop.make("1.0.0")
    failed(shop.publish("1.0.0", "--require-encryption"), 35, "no encrypted copy: hello_1.0.0")
    lenient = shop.publish("1.0.0", "--require-encryption", "--policy", "lenient")
    assert (lenient.code, "warning: encryption: " in lenient.out) == (0, True), lenient.err
    audit = json.loads(shop.read("audit", "show", "1.0.0").out)
    waived = {rule["rule"]: rule["waived"] for rule in audit["rules"] if not rule["passed"]}
    assert waived == {"encryption": "the policy is lenient", "validation": "not asked for"}


@pytest.mark.fault(15)
def test_36_a_repository_out_of_reach(shop: Shop) -> None:
    shop.make("1.0.0")
    shop.repository.write_text("a file")
    failed(shop.publish("1.0.0"), 36, str(shop.repository))


def test_36_a_server_out_of_reach(shop: Shop) -> None:
    object_stores.require("boto3")
    url = f"http://127.0.0.1:{object_stores.free_port()}"
    shop.make("1.0.0")
    env = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    place = ("--repository-type", "s3", "--repository-bucket", "b", "--endpoint-url", url, "--trust", "trust.json")
    done = shop.run("publish", "--release-dir", "releases/1.0.0", *place, *shop.owner, env=env)
    failed(done, 36, "check the endpoint")
    assert url in done.out


def test_37_stopped_behind_the_claim_says_so_and_can_be_finished(shop: Shop) -> None:
    shop.make("1.0.0")
    shop.repository.mkdir()
    # The signature of the index is written below .index after the claim: a file in its place stops that.
    (shop.repository / ".index").write_text("")
    done = shop.publish("1.0.0", "--json-report", "r.json")
    assert (done.code, done.last) == (37, "claimed (run recover)"), done.out + done.err
    assert json.loads((shop.folder / "r.json").read_bytes())["state"] == "claimed"
    (shop.repository / ".index").unlink()
    assert shop.change("recover").code == 0
    assert shop.read("fetch", "1.0.0", "--to", "got").code == 0


def test_38_several_reasons_at_once_are_all_told(shop: Shop) -> None:
    without_documents(shop, "1.0.0", ".spdx.json", ".cdx.json")
    done = shop.publish("1.0.0", "--require-encryption")
    failed(done, 38, "for 2 reasons")
    assert "no SBOM" in done.err
    assert "no encrypted copy" in done.err


def test_39_a_name_that_is_no_version(shop: Shop) -> None:
    shop.make("1.0")
    failed(shop.publish("1.0"), 39, "is no version")
    shop.make("1.0.0")
    failed(shop.publish("1.0.0", "--version", "2.0.0"), 39, "holds 1.0.0, not 2.0.0")
    assert shop.change("revoke", "1.0.0").code == 39


def test_keys_are_not_read_before_the_policy_lets_it_out(shop: Shop) -> None:
    shop.make("1.0.0")
    (shop.folder / "release.key").unlink()
    (shop.folder / "audit.key").unlink()
    failed(shop.publish("1.0.0", "--require-encryption"), 35, "no encrypted copy")
    failed(shop.publish("1.0.0"), 70, "release.key")


# --- afterwards --------------------------------------------------------------------------------------------------


def test_yank_revoke_rollback_as_readers_see_them(shop: Shop) -> None:
    shop.published("1.0.0", "1.1.0", "1.2.0")
    assert shop.change("yank", "1.2.0", "--reason", "slow").code == 0
    assert "so already" in shop.change("yank", "1.2.0").out
    got = shop.read("fetch", "1.2.0", "--to", "got")
    assert (got.code, "is yanked: slow" in got.err) == (0, True)
    assert "1.1.0" in shop.read("fetch", "--to", "newest").out
    assert shop.change("unyank", "1.2.0").code == 0
    assert shop.change("revoke", "1.2.0", "--reason", "a hole").code == 0
    refused = shop.read("fetch", "1.2.0", "--to", "never")
    assert (refused.code, "1.2.0 is revoked: a hole" in refused.err) == (40, True)
    assert not (shop.folder / "never").exists()
    assert shop.publish("1.2.0").code == 32
    assert shop.change("rollback", "--to", "1.0.0").code == 0
    rows = {line.split()[0]: line.split()[1] for line in shop.read("list").out.splitlines()[1:]}
    assert rows == {"1.2.0": "revoked", "1.1.0": "superseded", "1.0.0": "active,"}
    assert [each["type"] for each in json.loads(shop.read("index", "show", "--json").out)["events"]] == [
        "publish", "publish", "publish", "yank", "unyank", "revoke", "rollback",
    ]  # fmt: skip


def test_abandon_gives_up_what_cannot_be_finished(shop: Shop) -> None:
    made = shop.make("1.0.0")
    assert shop.publish("1.0.0", before=DIES.format(ending="1.0.0.audit.sig")).code == -signal.SIGKILL
    assert shop.change("abandon", "1.0.0", "--reason", "lost").code == 39
    (shop.repository / "1.0.0" / made.artifacts[0]).unlink()
    stuck = shop.change("recover")
    assert stuck.code == 37, stuck.out + stuck.err
    assert shop.change("abandon", "1.0.0", "--reason", "lost").code == 0
    assert shop.publish("1.0.0").code == 32
    gone = shop.read("fetch", "1.0.0", "--to", "got")
    assert (gone.code, "abandoned" in gone.err) == (39, True)


@pytest.mark.fault(61, 86)
def test_an_older_index_is_refused_by_who_saw_a_newer_one(shop: Shop) -> None:
    shop.published("1.0.0")
    older = (shop.repository / "index.json").read_bytes()
    shop.published("1.1.0")
    assert shop.read("list").code == 0
    (shop.repository / "index.json").write_bytes(older)
    for command in (("list",), ("fetch", "1.0.0", "--to", "got"), ("verify", "1.0.0"), ("index", "verify"),
                    ("audit", "verify"), ("audit", "show", "1.0.0")):  # fmt: skip
        done = shop.read(*command)
        assert (done.code, "a rollback" in done.err) == (76, True), done.err
    assert shop.read("list", "--memory", shop.folder / "other-memory").code == 0


@pytest.mark.fault(59, 60)
def test_an_edit_is_named_by_its_event(shop: Shop) -> None:
    shop.published("1.0.0", "1.1.0")
    assert shop.change("yank", "1.1.0", "--reason", "slow").code == 0
    assert shop.read("audit", "verify").code == 0
    shop.good("audit", "export-checkpoint", "--out", "seen.txt", *shop.place)
    assert shop.read("audit", "verify", "--checkpoint", "seen.txt").code == 0
    audit = shop.repository / "1.1.0.audit.json"
    kept = audit.read_bytes()
    audit.write_bytes(kept.replace(b'"strict"', b'"Strict"'))
    done = shop.read("audit", "verify")
    assert (done.code, "event 2, publish 1.1.0" in done.err) == (77, True), done.err
    audit.write_bytes(kept)
    index = shop.repository / "index.json"
    index.write_bytes(index.read_bytes().replace(b'"slow"', b'"fast"'))
    for command in (("audit", "verify"), ("index", "verify")):
        done = shop.read(*command)
        assert done.code == 75, done.err
        assert "event 3" in done.err or "tree head" in done.err or "root" in done.err


def test_a_reader_with_public_keys_alone_verifies_a_version(shop: Shop, tmp_path: Path) -> None:
    shop.published("1.0.0")
    reader = Shop(tmp_path / "reader", shop.signer)
    reader.folder.mkdir()
    shutil.copy(shop.folder / "trust.json", reader.folder)
    place = ("--repository-type", "local", "--repository-path", shop.repository)
    done = reader.good("verify", "1.0.0", *place, "--trust", "trust.json")
    assert "hello 1.0.0 is verified" in done.out
    bare = reader.good("verify", "1.0.0", *place, "--key", shop.folder / "release.pub")
    assert "is verified" in bare.out
    changed = next((shop.repository / "1.0.0").glob("*.tar.gz"))
    changed.write_bytes(b"changed")
    refused = reader.run("verify", "1.0.0", *place, "--trust", "trust.json")
    assert (refused.code, "other bytes than the signed index promises" in refused.err) == (41, True)


# --- by the configuration ----------------------------------------------------------------------------------------

MATRIX = """
[project]
name = "hello"
version = "1.0.0"
[products.hello]
source = "src"
recipe = "command"
run = 'true'
outputs = ["hello"]
targets = [{targets}]
[signing]
trust = "trust.json"
signers = [{{ key_file = "release.key" }}]
"""
REPOSITORY = """
[repository]
path = "repository"
audit_key = "audit.key"
audit_passphrase = "env:AUDIT_WORDS"
"""


UNWANTED = """
[validate]
gate = "off"
"""


def configure(shop: Shop, *targets: str, repository: str = REPOSITORY) -> None:
    (shop.folder / "src").mkdir(exist_ok=True)
    (shop.folder / "src" / "hello.c").write_text("int main(void) { return 0; }\n")
    text = MATRIX.format(targets=", ".join(f'"{target}"' for target in targets))
    (shop.folder / "matrix.toml").write_text(text + repository + ("" if "[validate" in repository else UNWANTED))


def test_the_configuration_is_enough(shop: Shop) -> None:
    configure(shop, *TARGETS)
    shop.make("1.0.0", base="dist/staging")
    done = shop.run("publish")
    assert (done.code, done.last) == (0, "published"), done.err
    assert "no matrix.toml" not in done.out
    assert "active, latest" in shop.good("list").out
    shop.good("fetch", "--to", "got")
    shop.good("verify", "1.0.0")
    shop.good("yank", "1.0.0", "--reason", "slow", "--actor", "ann")
    assert "ann" in shop.good("index", "show").out
    assert shop.good("index", "renew", "--expires", "2099-01-01").err == ""
    assert "2099-01-01" in shop.good("index", "verify").out


def test_38_a_required_target_that_is_missing(shop: Shop) -> None:
    configure(shop, *TARGETS, "x86_64")
    shop.make("1.0.0", base="dist/staging")
    failed(shop.run("publish"), 38, "required and not there: x86_64")


@pytest.mark.parametrize("command", [("matrix", "--publish"), ("release",)])
def test_without_a_repository_nothing_is_built(shop: Shop, command: tuple[str, ...]) -> None:
    configure(shop, "x86_64", repository="")
    failed(shop.run(*command, "--engine", "local"), 39, "has no [repository]")
    assert not (shop.folder / "dist").exists()


def test_one_command_from_source_to_readers_and_again(shop: Shop) -> None:
    configure(shop, "x86_64")
    text = (shop.folder / "matrix.toml").read_text().replace("run = 'true'", """run = 'cp hello.c "$OUT/hello"'""")
    (shop.folder / "matrix.toml").write_text(text)
    first = shop.run("matrix", "--publish", "--engine", "local")
    assert (first.code, first.last) == (0, "published"), first.err
    before = shop.snapshot()
    again = shop.run("release", "--engine", "local", "--json-report", "r.json")
    assert (again.code, again.last) == (0, "published"), again.err
    assert json.loads((shop.folder / "r.json").read_bytes())["no_op"] is True
    lines = shop.good("release", "--engine", "local", "--log-format", "json").out.splitlines()
    assert [json.loads(line)["event"] for line in lines][-2:] == ["run_finished", "publication_finished"]
    assert shop.snapshot() == before
    assert "is verified" in shop.good("verify", "1.0.0").out


def test_what_would_refuse_the_release_refuses_before_it_is_built(shop: Shop) -> None:
    configure(shop, "x86_64")
    (shop.folder / "audit.key").unlink()
    failed(shop.run("release", "--engine", "local"), 70, "keys generate --kind audit")
    assert not (shop.folder / "dist").exists()


EVIL = "\x1b]0;owned\x07\x1b[2J\r\n::add-mask::x\x9b\u202e"
PRINTED = r"\033]0;owned\007\033[2J\r\n::add-mask::x\302\233m\342\200\256"


def harmless(text: str) -> None:
    assert not [each for each in text if (ord(each) < 32 and each != "\n") or each in "\x7f\x9b\u202e"], text
    assert "\n::" not in text
    assert not text.startswith("::")


@pytest.mark.fault(82)
def test_control_codes_come_into_no_audit_index_or_journal(shop: Shop) -> None:
    configure(shop, "x86_64")
    run = f"""run = 'printf "{PRINTED}"; printf "{PRINTED}" >&2; cp hello.c "$OUT/hello"'"""
    text = (shop.folder / "matrix.toml").read_text().replace("run = 'true'", run)
    (shop.folder / "matrix.toml").write_text(text)
    done = shop.run("release", "--engine", "local")
    assert (done.code, done.last) == (0, "published"), done.err
    assert "owned" in "".join(path.read_text() for path in (shop.folder / "dist" / "logs").iterdir())
    before = shop.snapshot()
    for order in (("--reason", EVIL), ("--reason", "slow", "--actor", EVIL)):
        refused = shop.change("yank", "1.0.0", *order)
        assert refused.code == 39, refused.out + refused.err
        harmless(refused.out + refused.err)
    named = shop.change("yank", f"1.0.0{EVIL}", "--reason", "slow")
    assert named.code == 39
    harmless(named.out + named.err)
    assert shop.snapshot() == before
    assert shop.change("yank", "1.0.0", "--reason", "slow").code == 0
    for path in (*shop.repository.glob("*.*"), shop.folder / "dist" / "publication-journal.jsonl"):
        if path.is_file():
            harmless(path.read_text())
    for asked in (("audit", "show", "1.0.0"), ("index", "show"), ("list",), ("audit", "verify")):
        told = shop.read(*asked)
        assert told.code == 0, told.err
        harmless(told.out + told.err)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small file system of its own until the block ends."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("this machine does not let the tests mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.fault(15)
@pytest.mark.parametrize("there", [True, False], ids=["there", "to be made"])
def test_36_a_read_only_repository_refuses_before_anything_is_built(shop: Shop, *, there: bool) -> None:
    configure(shop, "x86_64")
    with mounted(shop.folder / "disk", "ro") as disk:
        text = (shop.folder / "matrix.toml").read_text()
        place = disk if there else disk / "new" / "repository"
        (shop.folder / "matrix.toml").write_text(text.replace('path = "repository"', f'path = "{place}"'))
        failed(shop.run("release", "--engine", "local"), 36, f"{disk} is read-only")
    assert not (shop.folder / "dist").exists()


@pytest.mark.fault(88)
@pytest.mark.parametrize("options", ["noexec", "size=64k", "ro"])
def test_a_bad_folder_for_temporary_files_is_no_matter_or_told(shop: Shop, options: str) -> None:
    shop.make("1.0.0")
    with mounted(shop.folder / "tmp", options) as bad:
        if options.startswith("size"):
            with pytest.raises(OSError, match="No space"):
                (bad / "full").write_bytes(bytes(1 << 20))
        env = {"TMPDIR": str(bad)}
        release = ("--release-dir", "releases/1.0.0", *shop.place, *shop.owner, *UNVALIDATED)
        done = shop.run("publish", *release, env=env)
        assert (done.code, done.last) in {(0, "published"), (90, "not published")}, done.out + done.err
        assert done.code == 0 or str(bad) in done.err
        told = shop.run("verify", "releases/1.0.0", "--trust", "trust.json", env=env)
        assert told.code in {0, 90}, told.out + told.err
        assert told.code == 0 or str(bad) in told.err
    shop.published("1.1.0")
    assert shop.read("audit", "verify").code == 0


def by_source(shop: Shop, *targets: str, more: str = "", repository: str = REPOSITORY) -> None:
    """Configure a product that this machine can build, and what stands behind [repository]."""
    configure(shop, *targets, repository=repository + more)
    (shop.folder / "src" / "hello.sh").write_text("#!/bin/sh\necho hello\n")
    recipe = """run = 'install -m 755 hello.sh "$OUT/hello"'\nsmoke = [{ run = ["hello"] }]"""
    text = (shop.folder / "matrix.toml").read_text().replace("run = 'true'", recipe)
    (shop.folder / "matrix.toml").write_text(text)


def audit_of(shop: Shop, version: str = "1.0.0") -> dict[str, Any]:
    value: dict[str, Any] = json.loads((shop.repository / f"{version}.audit.json").read_bytes())
    return value


# --- what a release must have ------------------------------------------------------------------------------------

CALM = """
[validate]
startup_budget = 1000
build_time = "off"
[validate.security]
vulnerabilities = "ignore"
"""
SPELLED_OUT = (
    "--sign", "--include-sbom", "--include-slsa", "--verify-release", "--verification-policy", "strict",
    "--publish-release", "--publication-policy", "strict",
)  # fmt: skip


def test_a_release_by_all_the_names_of_its_stages(shop: Shop) -> None:
    by_source(shop, "x86_64", more=CALM)
    done = shop.run("release", "--engine", "local", *SPELLED_OUT, "--post-release-validation", "--validation-policy",
                    "strict")  # fmt: skip
    assert (done.code, done.last) == (0, "published"), done.err
    assert "validation: passed" in done.out
    help_ = shop.good("release", "--help", env={"COLUMNS": "200"}).out
    assert "changes nothing" in help_
    assert not [each for each in ("--no-include", "--no-verify", "--no-publish", "--no-sign") if each in help_]


def test_what_nobody_could_sign_or_encrypt_is_refused_before_it_is_built(shop: Shop) -> None:
    by_source(shop, "x86_64")
    failed(shop.run("release", "--engine", "local", "--encrypt"), 35, "recipients in [signing.encryption]")
    text = (shop.folder / "matrix.toml").read_text()
    (shop.folder / "matrix.toml").write_text(text.partition("[signing]")[0])
    failed(shop.run("release", "--engine", "local", "--sign"), 34, "has no [signing]")
    assert not (shop.folder / "dist").exists()


def test_validation_that_an_option_asks_for_stops_or_warns(shop: Shop) -> None:
    by_source(shop, "x86_64")
    # By the usual rules, a release without a database of vulnerabilities was not checked.
    for option in (("--post-release-validation",), ("--validation-policy", "strict"), ("--require-validation",)):
        failed(shop.run("release", "--engine", "local", *option), 31, "vulnerabilities")
    assert not (shop.folder / "dist").exists(), "told before anything is built"
    shop.good("matrix", "--engine", "local")
    failed(shop.run("publish", "--require-validation"), 31, "vulnerabilities")
    failed(shop.run("publish", "--baseline-release", "0.9.0"), 31, "BaselineUnusable")
    done = shop.run("release", "--engine", "local", "--validation-policy", "lenient", "--json-report", "r.json")
    assert (done.code, done.last) == (0, "published"), done.err
    warned = [each for each in json.loads((shop.folder / "r.json").read_bytes())["warnings"] if "validation" in each]
    assert len(warned) == 1
    assert "(waived: --validation-policy lenient (by " in warned[0]
    audit = audit_of(shop)
    assert audit["validation"]["security_passed"] is False
    assert [each["rule"] for each in audit["waivers"]] == ["validation"]
    assert audit["waivers"][0]["reason"].startswith("--validation-policy lenient (by ")


def test_a_validation_of_other_bytes_is_never_told_as_passed(shop: Shop) -> None:
    other = shop.make("0.9.0")
    shop.make("1.0.0")
    result = validation(shop, other, checks=ALL_CHECKS)
    lenient = ("--validation-result", result, "--validation-policy", "lenient")
    done = shop.publish("1.0.0", *lenient)
    assert (done.code, done.last) == (0, "published"), done.out + done.err
    assert "it looked at other bytes" in done.out
    assert "validation: passed" not in done.out
    assert audit_of(shop)["validation"]["passed"] is False


def test_an_option_that_says_strict_stops_in_the_lenient_mode_too(shop: Shop) -> None:
    made = shop.make("1.0.0")
    bad = (
        "--validation-result",
        validation(shop, made, passed=False, exit_code=55, checks=ALL_CHECKS),
        "--policy",
        "lenient",
    )
    failed(shop.publish("1.0.0", *bad, "--validation-policy", "strict"), 31, "validation failed")
    without_documents(shop, "1.0.1", ".spdx.json", ".cdx.json")
    strict = ("--policy", "lenient", "--verification-policy", "strict")
    failed(shop.publish("1.0.1", *strict), 33, "no SBOM")
    assert shop.publish("1.0.1", "--policy", "lenient").last == "published"
    assert shop.publish("1.0.0", *bad).last == "published"


def test_verification_that_is_lenient_lets_out_what_is_missing_and_never_what_is_wrong(shop: Shop) -> None:
    without_documents(shop, "1.0.0", ".spdx.json", ".cdx.json")
    failed(shop.publish("1.0.0"), 33, "no SBOM")
    failed(shop.publish("1.0.0", "--verification-policy", "strict"), 33, "no SBOM")
    made = shop.make("1.0.1")
    made.write(made.artifacts[0], b"changed")
    failed(shop.publish("1.0.1", "--verification-policy", "lenient"), 30, "promises")
    unsigned = shop.make("1.0.2")
    for name in unsigned.names():
        if name.endswith(".sigstore.json"):
            (unsigned.folder / name).unlink()
    failed(shop.publish("1.0.2", "--verification-policy", "lenient"), 34, "no signature by a trusted key")
    done = shop.publish("1.0.0", "--verification-policy", "lenient")
    assert (done.code, "sbom: no SBOM" in done.out, "--verification-policy lenient (by" in done.out) == (0, True, True)
    reasons = {each["rule"]: each["reason"] for each in audit_of(shop)["waivers"]}
    assert reasons["sbom"].startswith("--verification-policy lenient (by ")


def test_the_version_to_compare_with_can_be_named(shop: Shop) -> None:
    by_source(shop, "x86_64", more=CALM)
    for version in ("1.0.0", "1.1.0"):
        shop.good("release", "--engine", "local")
        text = (shop.folder / "matrix.toml").read_text()
        after = {"1.0.0": "1.1.0", "1.1.0": "1.2.0"}[version]
        (shop.folder / "matrix.toml").write_text(text.replace(f'"{version}"', f'"{after}"'))
    failed(shop.run("release", "--engine", "local", "--baseline-release", "0.9.0"), 31, "0.9.0")
    shop.good("release", "--engine", "local", "--baseline-release", "1.0.0")
    assert audit_of(shop, "1.2.0")["validation"]["baseline"] == "1.0.0"
    both = shop.run("publish", "--baseline-release", "1.0.0", "--validation-result", "dist/validation/1.2.0.json")
    assert (both.code, "--baseline-release" in both.err) == (2, True)


def test_validation_that_nobody_thought_of_is_asked_for_by_its_usual_rules(shop: Shop) -> None:
    by_source(shop, "x86_64", more="[validate]")
    text = (shop.folder / "matrix.toml").read_text()
    (shop.folder / "matrix.toml").write_text(text.replace("[validate]", ""))
    for command in (("matrix", "--publish"), ("release",)):
        failed(shop.run(*command, "--engine", "local"), 31, "no release can pass the validation: known vulnerabilities")
    assert not (shop.folder / "dist").exists(), "told before anything is built"
    shop.good("matrix", "--engine", "local")
    words = "validation is by its usual rules, because matrix.toml has no [validate]"
    done = shop.run("publish")
    failed(done, 31, "no OSV database is given")
    assert words in done.out
    assert not (shop.repository / "index.json").exists()
    staged = ("publish", "--release-dir", "dist/staging/1.0.0", "--config", "no.toml", *shop.place, *shop.owner)
    assert shop.run(*staged).code == 11
    (shop.folder / "matrix.toml").unlink()
    done = shop.run("publish", "--release-dir", "dist/staging/1.0.0", *shop.place, *shop.owner)
    failed(done, 31, "vulnerabilities")
    assert words.replace("matrix.toml has no [validate]", "no matrix.toml was read") in done.out
    both = shop.publish("1.0.0", "--no-require-validation", "--validation-policy", "strict")
    assert (both.code, "--no-require-validation contradicts" in both.err) == (2, True), both.err
    done = shop.run("publish", "--release-dir", "dist/staging/1.0.0", *shop.place, *shop.owner, "--policy", "lenient")
    assert (done.code, done.last) == (0, "published"), done.err
    assert "vulnerabilities" in done.out


def test_what_is_out_is_not_validated_again(shop: Shop) -> None:
    by_source(shop, "x86_64", more=CALM)
    assert "validation: passed" in shop.good("release", "--engine", "local").out
    text = (shop.folder / "matrix.toml").read_text()
    (shop.folder / "matrix.toml").write_text(text.replace('"ignore"', '"error"'))
    before = shop.snapshot()
    again = shop.run("publish")
    assert (again.code, again.last) == (0, "published"), again.err
    assert "published before with the same bytes" in again.out
    assert "validation: passed" in again.out
    (shop.folder / "src" / "hello.sh").write_text("#!/bin/sh\necho hullo\n")
    shop.good("matrix", "--engine", "local")
    failed(shop.run("publish", "--json-report", "r.json"), 32, "with other bytes")
    told = json.loads((shop.folder / "r.json").read_bytes())
    assert not told["validation"], "what was found of the published bytes says nothing of these"
    assert shop.snapshot() == before


def test_a_validation_that_only_warns_goes_out_and_says_so(shop: Shop) -> None:
    by_source(shop, "x86_64", more='[validate]\ngate = "warn"\n')
    failed(shop.run("release", "--engine", "local", "--require-validation"), 31, "vulnerabilities")
    done = shop.run("release", "--engine", "local")
    assert (done.code, done.last) == (0, "published"), done.err
    assert '(waived: gate = "warn" in [validate] (by matrix.toml))' in done.out
    assert audit_of(shop)["validation"]["security_passed"] is False
    assert [each["rule"] for each in audit_of(shop)["waivers"]] == ["validation"]


def test_validation_that_nobody_wants_is_told(shop: Shop) -> None:
    configure(shop, *TARGETS)
    shop.make("1.0.0", base="dist/staging")
    failed(shop.run("publish", "--require-validation"), 31, "validation")
    done = shop.good("publish", "--json-report", "r.json")
    words = 'validation was not asked for: gate = "off" in [validate]'
    assert f"warning: {words}" in done.out
    assert words in json.loads((shop.folder / "r.json").read_bytes())["warnings"]
    (row,) = [each for each in audit_of(shop)["rules"] if each["rule"] == "validation"]
    assert (row["passed"], row["waived"]) == (False, "not asked for")
    assert row["text"] == words.removeprefix("validation was ")
    assert shop.run("audit", "verify").code == 0


WAIVER = """
[[repository.waivers]]
rule = "{rule}"
reason = "the tool is broken"
by = "Ann Example"
expires = {expires}
"""


def test_a_waiver_in_the_configuration_lifts_its_rule_until_it_expires(shop: Shop) -> None:
    without_documents(shop, "1.0.0", ".spdx.json", ".cdx.json")
    shutil.move(shop.folder / "releases" / "1.0.0", shop.folder / "dist" / "staging" / "1.0.0")
    configure(shop, *TARGETS, repository=REPOSITORY + WAIVER.format(rule="sbom", expires="2020-01-31"))
    old = shop.run("publish", "--json-report", "r.json")
    failed(old, 33, "no SBOM")
    words = "the waiver of sbom by Ann Example expired on 2020-01-31, and lifts nothing"
    assert words in json.loads((shop.folder / "r.json").read_bytes())["warnings"]
    good = WAIVER.format(rule="sbom", expires='"2999-01-31"') + WAIVER.format(rule="encryption", expires="2999-01-31")
    configure(shop, *TARGETS, repository=REPOSITORY + good)
    done = shop.good("publish")
    said = "the tool is broken, until 2999-01-31 (by Ann Example)"
    assert f"(waived: {said})" in done.out
    assert "the waiver of encryption by Ann Example lifts nothing: nobody asks this release for that" in done.out
    assert {"rule": "sbom", "reason": said} in audit_of(shop)["waivers"]


@pytest.mark.parametrize(
    ("rule", "expires", "words"),
    [
        ("immutability", "2999-01-31", "immutability cannot be waived"),
        ("sbmo", "2999-01-31", 'did you mean "sbom"?'),
        ("sbom", '"soon"', "is no date"),
        ("sbom", "2999-01-31T10:00:00Z", "is no date"),
        ("sbom", "20300131", "is no date"),
    ],
)
def test_13_a_waiver_that_can_lift_nothing(shop: Shop, rule: str, expires: str, words: str) -> None:
    configure(shop, *TARGETS, repository=REPOSITORY + WAIVER.format(rule=rule, expires=expires))
    done = shop.run("publish")
    assert (done.code, words in done.err) == (13, True), done.err


def approver(shop: Shop, name: str, *role: str) -> None:
    """Make a key, and let it count where a role is given."""
    shop.good("keys", "generate", "--out", f"{name}.key", "--no-passphrase")
    if role:
        trust = ("--trust", "trust.json", "--key", "release.key", "--no-passphrase")
        shop.good("keys", "rotate", *trust, "--add", f"{name}.pub", "--role", *role)


def test_a_release_goes_out_when_enough_keys_approved_exactly_its_bytes(shop: Shop, tmp_path: Path) -> None:
    configure(shop, *TARGETS, repository=REPOSITORY + "approvals = 2\n")
    approver(shop, "ann", "approver")
    approver(shop, "bob", "approver")
    approver(shop, "eve", "ci")
    approver(shop, "mallory")
    shop.make("1.0.0", base="dist/staging")
    failed(shop.run("publish"), 38, "approved by 0, and 2 must")
    for key in ("ann", "ann", "eve", "mallory", "release"):
        assert "approved by " in shop.good("approve", "--key", f"{key}.key").out
    done = shop.run("publish", "--json-report", "r.json")
    failed(done, 38, "approved by 1, and 2 must")
    warned = json.loads((shop.folder / "r.json").read_bytes())["warnings"]
    assert len([each for each in warned if "does not count" in each]) == 3
    # Bob has the bytes and his key, and nothing of the publisher's.
    other = Shop(tmp_path / "bob", shop.signer)
    shutil.copytree(shop.folder / "dist" / "staging" / "1.0.0", other.folder / "got" / "1.0.0")
    shutil.copy(shop.folder / "bob.key", other.folder)
    (shop.folder / "bob.key").unlink()
    other.good("approve", "--staged", "got/1.0.0", "--key", "bob.key", "--out", "said")
    # What he signed of other bytes is no word on these, whatever is written above his signature.
    other.make("1.0.0", base="others", salt=b"other")
    other.good("approve", "--staged", "others/1.0.0", "--key", "bob.key", "--out", "forged")
    (said,) = (each for each in (other.folder / "said").iterdir() if not each.name.endswith(".sigstore.json"))
    shutil.copy(said, other.folder / "forged")
    kept = shop.folder / "dist" / "approvals" / "1.0.0"
    shutil.copytree(other.folder / "forged", kept, dirs_exist_ok=True)
    failed(shop.run("publish"), 38, "approved by 1, and 2 must")
    shutil.copytree(other.folder / "said", kept, dirs_exist_ok=True)
    assert shop.good("publish").out.rstrip().endswith("published")
    keys = sorted(
        json.loads(shop.good("keys", "show", f"{name}.pub", "--json").out)["key_id"] for name in ("ann", "bob")
    )
    assert sorted(audit_of(shop)["approvals"]) == keys
    (row,) = [each for each in audit_of(shop)["rules"] if each["rule"] == "approvals"]
    assert row["passed"] is True
    assert shop.run("audit", "verify").code == 0


def test_an_approval_of_other_bytes_is_none(shop: Shop) -> None:
    configure(shop, *TARGETS, repository=REPOSITORY + "approvals = 1\n")
    approver(shop, "ann", "approver")
    shop.make("1.0.0", base="dist/staging")
    shop.good("approve", "1.0.0", "--key", "ann.key")
    shutil.rmtree(shop.folder / "dist" / "staging")
    shop.make("1.0.0", base="dist/staging", salt=b"other")
    kept = shop.folder / "dist" / "approvals" / "1.0.0"
    (given,) = (path for path in kept.glob("*.json") if not path.name.endswith(".sigstore.json"))
    os.mkfifo(kept / "a.json")
    (kept / "b.json").symlink_to(given)
    failed(shop.run("publish"), 38, "approved by 0, and 1 must; 1 are for other bytes")
    shop.make("1.0.1", base="dist/staging")
    shutil.move(shop.folder / "dist" / "approvals" / "1.0.0", shop.folder / "dist" / "approvals" / "1.0.1")
    failed(shop.run("publish", "--version", "1.0.1"), 38, "approved by 0, and 1 must")
    both = shop.run("approve", "1.0.0", "--staged", "dist/staging/1.0.0", "--key", "ann.key")
    assert (both.code, "not both" in both.err) == (2, True)
    failed_to_read = shop.run("approve", "9.9.9", "--key", "ann.key")
    assert failed_to_read.code not in {0, 1}


def test_names_of_times_are_versions_where_the_configuration_says_so(shop: Shop) -> None:
    version = "nightly-2030-01-31-120000"
    shop.make(version, base="dist/staging")
    configure(shop, *TARGETS)
    failed(shop.run("publish", "--version", version), 39, "which this project does not allow")
    configure(shop, *TARGETS, repository=REPOSITORY + "timestamped_versions = true\n")
    assert shop.good("publish", "--version", version).out.rstrip().endswith("published")
    assert version in shop.good("list").out
    shop.good("verify", version)


def test_a_gate_that_warns_publishes_what_nobody_proved_and_says_so(shop: Shop) -> None:
    configure(shop, *TARGETS, repository=REPOSITORY + '[reproduce]\ngate = "block"\n')
    shop.make("1.0.0", base="dist/staging")
    failed(shop.run("publish"), 38, "reproducibility")
    configure(shop, *TARGETS, repository=REPOSITORY + '[reproduce]\ngate = "warn"\n')
    done = shop.good("publish", "--json-report", "r.json")
    assert done.out.rstrip().endswith("published")
    (warned,) = [
        each for each in json.loads((shop.folder / "r.json").read_bytes())["warnings"]
        if each.startswith("reproducibility: ")
    ]  # fmt: skip
    assert warned.endswith('(waived: gate = "warn" in [reproduce] (by matrix.toml))')
    assert "reproducibility" in [each["rule"] for each in audit_of(shop)["waivers"]]


MODES_COUNT = (
    "import ctypes\n"
    "libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()\n"
    "assert libc.capget(header, sets) == 0\n"
    "sets[0], sets[1] = sets[0] & ~6, sets[1] & ~6\n"
    "assert libc.capset(header, sets) == 0\n"
)
"""Takes from root what lets it write where a mode says no: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""


@pytest.mark.parametrize("place", ["repository", "below/it"])
def test_36_a_repository_that_cannot_be_written_is_refused_before_the_build(shop: Shop, place: str) -> None:
    where = shop.folder / "there"
    where.mkdir(mode=0o555)
    by_source(shop, "x86_64", repository=REPOSITORY.replace('"repository"', f'"there/{place}"'))
    done = shop.run("release", "--engine", "local", before=MODES_COUNT)
    failed(done, 36, f"{where} is read-only, or another user's")
    assert not (shop.folder / "dist").exists()
    where.chmod(0o755)
    assert shop.run("release", "--engine", "local", before=MODES_COUNT).last == "published"


@pytest.mark.fault(77)
def test_the_secret_is_nowhere(shop: Shop) -> None:
    configure(shop, *TARGETS)
    shop.make("1.0.0", base="dist/staging")
    reports = ("--json-report", "r.json", "--text-report", "r.txt", "--verbose")
    assert shop.run("publish", *reports).code == 0
    wrong = shop.run("yank", "1.0.0", env={"AUDIT_WORDS": "wrong words, canary two"})
    assert "wrong words" not in wrong.out + wrong.err
    for path in shop.folder.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


# --- an object store ---------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    object_stores.require("boto3")
    with object_stores.radosgw(tmp_path_factory.mktemp("radosgw")) as url:
        yield url, object_stores.new_s3_bucket(url)


def test_a_bucket_from_publish_to_verify(shop: Shop, bucket: tuple[str, str]) -> None:
    url, name = bucket
    env = {"AWS_ACCESS_KEY_ID": object_stores.S3_KEY, "AWS_SECRET_ACCESS_KEY": object_stores.S3_SECRET}
    place = ("--repository-type", "s3", "--repository-bucket", name, "--repository-prefix", "hello", "--endpoint-url",
             url, "--trust", "trust.json")  # fmt: skip
    shop.make("1.0.0")
    publish = ("publish", "--release-dir", "releases/1.0.0", *place, *shop.owner, *UNVALIDATED)
    assert shop.good(*publish, env=env).last == "published"
    assert "published before" in shop.good(*publish, env=env).out
    shop.make("1.0.0", salt=b"other", base="others")
    other = shop.run("publish", "--release-dir", "others/1.0.0", *place, *shop.owner, env=env)
    failed(other, 32, "with other bytes")
    assert "active, latest" in shop.good("list", *place, env=env).out
    assert "is verified" in shop.good("verify", "1.0.0", *place, env=env).out
    shop.good("yank", "1.0.0", "--reason", "slow", *place, *shop.owner, env=env)
    assert "is yanked: slow" in shop.good("fetch", "1.0.0", "--to", "got", *place, env=env).err
    assert "2 events and 1 audit hold" in shop.good("audit", "verify", *place, env=env).out
    assert object_stores.S3_SECRET not in shop.run("recover", *place, *shop.owner, env=env).out
