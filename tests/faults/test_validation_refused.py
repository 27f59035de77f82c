"""Where [validate] stands, a strict publication wants a whole validation of these very bytes that passed: 31 or 30."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.validate.values import CheckName
from tests.integration.test_publication import Done, Shop, keys, shop
from tests.unit import release_maker
from tests.unit.release_maker import MadeRelease, put

__all__ = ["keys", "shop"]  # fixtures

MATRIX = """
[project]
name = "hello"
version = "1.0.0"
[products.hello]
source = "src"
recipe = "command"
run = "make"
outputs = ["hello"]
targets = ["aarch64", "armv7"]
[signing]
trust = "trust.json"
signers = [{ key_file = "release.key" }]
[repository]
kind = "local"
path = "repository"
audit_key = "audit.key"
audit_passphrase = "env:AUDIT_WORDS"
[validate]
"""
GAP = {"check": "security", "rule": "vulnerabilities", "place": "release", "text": "no database", "waived": ""}
WAIVER = {"rule": "security.vulnerabilities", "place": "*", "owner": "Ann", "reason": "none", "expires": "2020-01-31"}


@pytest.fixture
def made(shop: Shop) -> MadeRelease:
    (shop.folder / "src").mkdir()
    (shop.folder / "matrix.toml").write_text(MATRIX, encoding="utf-8")
    return shop.make("1.0.0")


def publish(shop: Shop, *more: object) -> Done:
    return shop.run("publish", "--release-dir", shop.folder / "releases" / "1.0.0", *more)


def paper(shop: Shop, made: MadeRelease, change: Callable[[Any], object] | None = None) -> Path:
    """Write what a validation of the release would have found, had it been made, with a change."""
    told: dict[str, Any] = {
        "schema": "relbuild/validation/v1", "subject": release_maker.sha256(made.read("manifest.json")),
        "version": "1.0.0", "baseline": None, "timestamp": "2030-01-31T12:00:00Z", "passed": True, "exit_code": 0,
        "checks": {f"{name}_passed": True for name in CheckName}, "findings": [], "not_checked": [], "notes": {},
        "waived": [], "idle_waivers": [],
    }  # fmt: skip
    if change:
        change(told)
    path = shop.folder / "validation.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    return path


def refused(shop: Shop, done: Done, code: int, words: str) -> None:
    assert (done.code, done.last) == (code, "not published"), done.out + done.err
    assert words in done.err, done.err
    assert not (shop.repository / "1.0.0").exists()
    assert not (shop.repository / "1.0.0.audit.json").exists()


def test_a_whole_result_of_these_bytes_lets_it_out(shop: Shop, made: MadeRelease) -> None:
    done = publish(shop, "--validation-result", paper(shop, made))
    assert (done.code, done.last) == (0, "published"), done.err


def test_31_where_no_result_is_brought_along_the_checks_are_made(shop: Shop, made: MadeRelease) -> None:
    # These archives are none, so that no check can look into them.
    refused(shop, publish(shop), 31, "security.raised")
    found = json.loads((shop.folder / "dist" / "validation" / "1.0.0.json").read_bytes())
    assert (found["passed"], found["subject"]) == (False, release_maker.sha256(made.read("manifest.json")))


def test_31_a_validation_that_says_nothing(shop: Shop, made: MadeRelease) -> None:
    (shop.folder / "matrix.toml").write_text(f'{MATRIX}waivers = "none.toml"\n', encoding="utf-8")
    refused(shop, publish(shop), 31, "validation said nothing: WaiverInvalid")


@pytest.mark.fault(75)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("subject", value="0" * 64), "looked at other bytes"),
        (put("passed", value=False), "validation failed"),
        (put("exit_code", value=55), "validation failed"),
        (put("checks", "security_passed", value=False), "validation failed (security)"),
        (put("checks", value={}), "lacks sbom_delta_passed"),
        (lambda told: told["checks"].pop("behavioral_passed"), "lacks behavioral_passed"),
        (put("not_checked", value=[GAP]), "in spite of vulnerabilities"),
        (put("findings", value=[{**GAP, "severity": "error"}]), "in spite of vulnerabilities"),
        (put("not_checked", value=[{**GAP, "waived": "none (Ann, until 2020-01-31)"}]), "without a waiver"),
        (lambda told: told.update(waived=[WAIVER], not_checked=[{**GAP, "waived": "none (Ann, until 2020-01-31)"}]),
         "expired on 2020-01-31"),
        (put("schema", value="relbuild/validation/v2"), "no validation result"),
    ],
)  # fmt: skip
def test_31_a_result_that_is_not_the_right_one(
    shop: Shop, made: MadeRelease, change: Callable[[Any], object], words: str
) -> None:
    refused(shop, publish(shop, "--validation-result", paper(shop, made, change)), 31, words)


def test_31_a_result_that_is_missing_or_torn(shop: Shop, made: MadeRelease) -> None:
    refused(shop, publish(shop, "--validation-result", "nothing.json"), 31, "cannot be read")
    path = paper(shop, made)
    path.write_bytes(path.read_bytes()[:-1])
    refused(shop, publish(shop, "--validation-result", path), 31, "no validation result")


def test_31_a_second_release_that_was_compared_with_nothing(shop: Shop, made: MadeRelease) -> None:
    assert publish(shop, "--validation-result", paper(shop, made)).code == 0
    next_one = shop.make("1.1.0")

    def publish_next(**changes: object) -> Done:
        path = paper(shop, next_one, lambda told: told.update(version="1.1.0", **changes))
        return shop.run("publish", "--release-dir", next_one.folder, "--validation-result", path)

    done = publish_next(baseline=None)
    assert (done.code, done.last) == (31, "not published"), done.out + done.err
    assert "it was made for a first release, and the repository has others" in done.err
    assert not (shop.repository / "1.1.0").exists()
    earlier = {"version": "1.0.0", "manifest_sha256": release_maker.sha256(made.read("manifest.json"))}
    assert publish_next(baseline=earlier).last == "published"
    # What is published already needs no other comparison.
    assert publish(shop, "--validation-result", paper(shop, made)).code == 0


LOSES = """
import shutil
from orchestrator import publishing
judge = publishing.let_out
def lost(*given, **more):
    shutil.rmtree("repository")
    return judge(*given, **more)
publishing.let_out = lost
"""


def test_31_what_was_published_when_validation_was_left_out_and_is_gone_when_it_is_judged(
    shop: Shop, made: MadeRelease
) -> None:
    assert publish(shop, "--validation-result", paper(shop, made)).last == "published"
    assert publish(shop).last == "published"
    done = shop.run("publish", "--release-dir", made.folder, before=LOSES)
    refused(shop, done, 31, "the version was taken when it was to be made")


def test_a_good_validation_does_not_make_up_for_the_verification(shop: Shop, made: MadeRelease) -> None:
    path = paper(shop, made)
    name = made.artifacts[0]
    whole = made.read(name)
    made.write(name, whole + b"x")
    shop.run("verify", made.folder, "--trust", "trust.json", "--result", "verified.json")
    made.write(name, whole)
    both = ("--validation-result", path, "--verification-result", "verified.json")
    refused(shop, publish(shop, *both), 30, "the verification failed")
    made.write(name, whole + b"x")
    refused(shop, publish(shop, "--validation-result", path), 30, "the verification failed")


def test_two_kinds_of_reasons_have_the_code_of_several(shop: Shop, made: MadeRelease) -> None:
    made.write(made.artifacts[0], b"x")
    refused(shop, publish(shop, "--validation-result", paper(shop, made, put("passed", value=False))), 38, "validation")
