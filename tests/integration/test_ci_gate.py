"""Publishing by the command line where [ci] asks for green checks and strict SemVer."""

import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.integration.test_publication import Shop, keys, shop
from tests.unit.release_maker import COMMIT
from tests.unit.test_ci_gate import Answer, FakeGitHub, github, page, run

__all__ = ["github", "keys", "shop"]

MATRIX: Final = """
[project]
name = "hello"
version = "1.0.0"
[products.hello]
recipe = "command"
run = "true"
outputs = ["hello"]
targets = ["aarch64", "armv7"]
[signing]
trust = "trust.json"
signers = [{ key_file = "release.key" }]
[repository]
path = "repository"
audit_key = "audit.key"
audit_passphrase = "env:AUDIT_WORDS"
[validate]
gate = "off"
[ci]
"""
BY_FILE: Final = 'required_checks = ["tests", "lint"]\nchecks_file = "checks.json"\n'
WRITE: Final = ("checks", "write", "--key", "ci.key", "--out", "checks.json")
GREEN: Final = ("--check", "tests=success", "--check", "lint=success")


def ready(shop: Shop, rules: str) -> None:
    (shop.folder / "matrix.toml").write_text(MATRIX + rules)


def with_ci_key(shop: Shop) -> None:
    shop.good("keys", "generate", "--out", "ci.key", "--no-passphrase")
    shop.good("keys", "rotate", "--trust", "trust.json", "--key", "release.key", "--no-passphrase",
              "--add", "ci.pub", "--role", "ci")  # fmt: skip


def publish(shop: Shop, version: str, **env: str) -> tuple[int, str, str]:
    done = shop.run("publish", "--release-dir", shop.folder / "releases" / version, env=env)
    return done.code, done.last, done.err


@pytest.mark.parametrize("how", ["strict", "lenient"])
def test_a_release_waits_for_a_signed_list_of_its_commits_checks(shop: Shop, how: str) -> None:
    ready(shop, BY_FILE)
    with_ci_key(shop)
    shop.make("1.0.0")
    code, last, err = publish(shop, "1.0.0")
    assert (code, last) == (38, "not published")
    assert "ci said nothing" in err
    for given, words in (
        (("--commit", "d" * 40, *GREEN), "is about"),
        (("--commit", COMMIT, "--check", "tests=success"), "nobody made that check"),
        (("--commit", COMMIT, "--check", "tests=success", "--check", "lint=failure"), "failure"),
    ):
        shop.good(*WRITE, *given)
        code, last, err = publish(shop, "1.0.0")
        assert (code, last) == (38, "not published"), err
        assert words in err
    if how == "strict":
        shop.good(*WRITE, "--commit", COMMIT, *GREEN)
        assert publish(shop, "1.0.0")[:2] == (0, "published")
    else:
        done = shop.run("publish", "--release-dir", shop.folder / "releases" / "1.0.0", "--policy", "lenient")
        assert (done.code, done.last) == (0, "published")
        assert "warning: ci:" in done.out


def test_a_list_that_the_release_key_signed_does_not_count(shop: Shop) -> None:
    ready(shop, BY_FILE)
    shop.make("1.0.0")
    shop.good("checks", "write", "--key", "release.key", "--out", "checks.json", "--commit", COMMIT, *GREEN)
    code, _, err = publish(shop, "1.0.0")
    assert code == 38
    assert "UntrustedKey" in err


def test_what_is_out_stays_a_no_op_when_nobody_speaks_for_it_any_more(shop: Shop) -> None:
    ready(shop, BY_FILE)
    with_ci_key(shop)
    shop.make("1.0.0")
    shop.good(*WRITE, "--commit", COMMIT, *GREEN)
    assert publish(shop, "1.0.0")[:2] == (0, "published")
    before = shop.snapshot()
    (shop.folder / "checks.json").unlink()
    # The configuration asks for more than it did, too.
    text = (shop.folder / "matrix.toml").read_text()
    text = text.replace('["aarch64", "armv7"]', '["aarch64", "armv7", "x86_64"]')
    (shop.folder / "matrix.toml").write_text(text.replace("[repository]", "[repository]\napprovals = 2"))
    done = shop.run("publish", "--release-dir", shop.folder / "releases" / "1.0.0", "--require-encryption")
    assert (done.code, done.last) == (0, "published"), done.err
    assert "1.0.0 was published before with the same bytes" in done.out
    for rule in ("ci", "approvals", "targets", "encryption"):
        assert f"warning: {rule}: " in done.out
    assert done.out.count("(waived: the version was judged when it was claimed)") == 4
    assert shop.snapshot() == before
    # Nothing of it holds for another version, or for other bytes.
    shop.make("1.0.1")
    assert publish(shop, "1.0.1")[:2] == (38, "not published")
    other = shop.make("1.0.0", salt=b"other", base="others").folder
    done = shop.run("publish", "--release-dir", other)
    assert (done.code, "immutability: " in done.err, "approvals: " in done.err) == (38, True, True), done.err


@pytest.mark.parametrize("given", [("--commit", "HEAD", *GREEN), ("--commit", COMMIT, "--check", "tests")])
def test_a_list_that_no_reader_would_take_is_not_written(shop: Shop, given: tuple[str, ...]) -> None:
    ready(shop, BY_FILE)
    assert shop.run(*WRITE, *given).code == 2
    assert not (shop.folder / "checks.json").exists()


WAIVER: Final = """
[[repository.waivers]]
rule = "ci"
reason = "GitHub is out of reach"
by = "Ann Example"
expires = 2999-01-31
"""


def by_github(api: str) -> str:
    return f"""required_checks = ["tests"]
checks_from = "github"
checks_repository = "some/one"
checks_api = "{api}"
checks_token = "CHECKS_TOKEN"
"""


@pytest.mark.parametrize("token", ["", "a\nb", "\u00e9"])
def test_without_a_token_the_policy_decides(shop: Shop, github: FakeGitHub, token: str) -> None:
    ready(shop, by_github(github.url))
    shop.make("1.0.0")
    code, last, err = publish(shop, "1.0.0", CHECKS_TOKEN=token)
    assert (code, last) == (38, "not published")
    assert "ci said nothing: PolicyViolation: GitHub was not asked" in err
    assert "the variable CHECKS_TOKEN holds no token" in err
    ready(shop, by_github(github.url) + WAIVER)
    assert publish(shop, "1.0.0", CHECKS_TOKEN=token)[:2] == (0, "published")
    assert not github.asked


def test_github_is_asked_with_a_token_that_nobody_else_sees(shop: Shop, github: FakeGitHub) -> None:
    ready(shop, by_github(github.url))
    shop.make("1.0.0")
    token = "canary-ci-token"
    github.answers = [Answer(page(run(1, head_sha=COMMIT, conclusion="failure")))]
    code, _, err = publish(shop, "1.0.0", CHECKS_TOKEN=token)
    assert code == 38
    assert "tests" in err
    assert token not in err
    github.answers = [Answer(page(run(1, head_sha=COMMIT)))]
    # git is asked for the version before anything else, and later for the tags of the commit.
    text = (shop.folder / "matrix.toml").read_text()
    (shop.folder / "matrix.toml").write_text(text.replace('version = "1.0.0"', 'version = "git"'))
    tagged(shop.folder, "v1.0.0")
    shop.make("1.0.0", base="dist/staging")
    spied = shop.folder / "bin"
    spied.mkdir()
    (spied / "git").write_text(f'#!/bin/sh\nenv >> {shop.folder}/seen\nexec /usr/bin/git "$@"\n')
    (spied / "git").chmod(0o755)
    done = shop.run("publish", env={"CHECKS_TOKEN": token, "PATH": f"{spied}:/usr/bin:/bin"})
    assert (done.code, done.last) == (0, "published"), done.err
    assert github.asked[-1][1] == f"Bearer {token}"
    assert token not in (shop.folder / "seen").read_text()


def test_versions_are_judged_where_there_is_a_ci(shop: Shop) -> None:
    ready(shop, "")
    for version, code in (("1.1.0", 0), ("1.0.1", 38), ("v1.2.0", 38), ("1.1.0", 0), ("1.2.0-rc.1", 0), ("1.1.1", 0)):
        if not (shop.folder / "releases" / version).exists():
            shop.make(version)
        assert publish(shop, version)[0] == code, version
    ready(shop, "allow_older = true")
    assert publish(shop, "1.0.1")[0] == 0
    ready(shop, 'semver = "off"')
    assert publish(shop, "v1.2.0")[0] == 0


def test_a_commit_that_is_tagged_as_another_version_is_not_published(shop: Shop, tmp_path: Path) -> None:
    ready(shop, "")
    commit = tagged(shop.folder, "v9.9.9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.unit.release_maker.COMMIT", commit)
        shop.make("1.0.0")
    code, _, err = publish(shop, "1.0.0")
    assert (code, "the commit is tagged v9.9.9, and the release is 1.0.0" in err) == (38, True), err
    subprocess.run(["git", "tag", "v1.0.0"], cwd=shop.folder, check=True)
    assert publish(shop, "1.0.0")[0] == 0


def tagged(folder: Path, tag: str) -> str:
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "one"), ("tag", tag)):
        subprocess.run([*git, *command], cwd=folder, check=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()
