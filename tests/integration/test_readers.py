"""Readers by the command line: a repository in one word, one target alone, old and forked indexes, bad places."""

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator

import pytest

from tests import object_stores
from tests.integration.test_publication import TARGETS, UNVALIDATED, Shop, bucket, keys, shop

__all__ = ["bucket", "keys", "shop"]  # fixtures

TRUST = ("--trust", "trust.json")
READERS = (
    ("list",),
    ("fetch", "1.0.0", "--to", "got"),
    ("fetch", "1.0.0", "--to", "one", "--target", "aarch64"),
    ("verify", "1.0.0"),
    ("verify", "1.0.0", "--target", "aarch64"),
    ("index", "show"),
    ("index", "show", "1.0.0"),
    ("index", "verify"),
    ("audit", "verify"),
    ("audit", "show", "1.0.0"),
    ("audit", "export-checkpoint"),
)
"""Every command that only reads."""
OWNERS = (
    ("yank", "1.0.0"),
    ("unyank", "1.0.0"),
    ("rollback", "--to", "1.0.0"),
    ("index", "renew"),
    ("recover",),
    ("revoke", "1.0.0", "--reason", "a hole"),
)
"""Every command that changes what is published already, in an order that works."""
TWICE = {"--repository-type": "local", "--repository-path": "x", "--repository-bucket": "b", "--repository-prefix": "p"}
"""Each option that names a place another way."""


# --- the repository in one word ----------------------------------------------------------------------------------


def test_a_folder_in_one_word_is_enough_for_every_reader(shop: Shop) -> None:
    shop.published("1.0.0")
    named = ("--repository", "repository")
    for command in READERS:
        shop.good(*command, *named, *TRUST)
    assert "hello 1.0.0 is verified" in shop.good("verify", "1.0.0", *named, *TRUST).out
    for place in (shop.repository, f"file://{shop.repository}"):
        assert "active, latest" in shop.good("list", "--repository", place, *TRUST).out


def test_owners_name_a_repository_in_one_word_too(shop: Shop) -> None:
    shop.make("1.0.0")
    named = ("--repository", "repository", *TRUST, *shop.owner)
    done = shop.run("publish", "--release-dir", "releases/1.0.0", *UNVALIDATED, *named)
    assert (done.code, done.last) == (0, "published"), done.err
    for command in OWNERS:
        shop.good(*command, *named)
    assert "revoked" in shop.read("list").out


ALL = (*READERS, *OWNERS, ("publish",), ("abandon", "2.0.0"), ("validate", "1.0.0"))


def refused_as_twice(shop: Shop, command: tuple[str, ...], option: str, value: str) -> None:
    done = shop.run(*command, "--repository", "repository", option, value, *TRUST)
    words = " ".join(done.err.replace("\u2502", " ").split())
    assert (done.code, f"and so does {option}" in words) == (2, True), (command, done.out + done.err)


def test_one_repository_named_in_two_ways_is_wrong_usage(shop: Shop) -> None:
    # Commands are told apart by their names; what they have in common is asked of one of them.
    for command in {each[:2] if each[0] in {"index", "audit"} else each[:1]: each for each in ALL}.values():
        refused_as_twice(shop, command, "--repository-path", "x")
    for option, value in TWICE.items():
        refused_as_twice(shop, ("list",), option, value)
    empty = shop.run("list", "--repository", "", *TRUST)
    assert (empty.code, "is empty" in empty.err) == (2, True), empty.err
    assert not shop.repository.exists()


def test_what_is_no_place_is_said_so(shop: Shop) -> None:
    for place, words in (("http://x/y", "is no repository"), ("s3://", "an S3 repository is a bucket")):
        done = shop.run("list", "--repository", place, *TRUST)
        assert (done.code, words in done.err) == (39, True), done.err


def test_a_bucket_in_one_word(shop: Shop, bucket: tuple[str, str]) -> None:
    url, name = bucket
    env = {"AWS_ACCESS_KEY_ID": object_stores.S3_KEY, "AWS_SECRET_ACCESS_KEY": object_stores.S3_SECRET}
    place = ("--repository", f"s3://{name}/some/folder", "--endpoint-url", url, *TRUST)
    shop.make("1.0.0")
    publish = ("publish", "--release-dir", "releases/1.0.0", *UNVALIDATED, *place, *shop.owner)
    assert shop.good(*publish, env=env).last == "published"
    for command in READERS:
        shop.good(*command, *place, env=env)
    old = ("--repository-type", "s3", "--repository-bucket", name, "--repository-prefix", "some/folder")
    assert "active, latest" in shop.good("list", *old, "--endpoint-url", url, *TRUST, env=env).out


# --- one target --------------------------------------------------------------------------------------------------


def test_one_target_is_what_belongs_to_it_and_verifies(shop: Shop) -> None:
    made = shop.make("1.0.0", each_artifact=True)
    assert shop.publish("1.0.0").last == "published"
    done = shop.read("fetch", "1.0.0", "--target", "armv7", "--to", "got")
    assert done.code == 0, done.err
    got = {path.name for path in (shop.folder / "got" / "1.0.0").iterdir()}
    assert got == {name for name in made.names() if "aarch64" not in name}
    assert {f"{made.artifacts[1]}{ending}" for ending in ("", ".spdx.json", ".intoto.jsonl", ".sigstore.json")} <= got
    assert "relbuild verify got/1.0.0 --target armv7" in done.out
    partial = shop.good("verify", "got/1.0.0", "--target", "armv7", *TRUST)
    assert "hello 1.0.0 for armv7 is verified" in partial.out
    assert "not looked at: hello_1.0.0_linux_aarch64.tar.gz" in partial.out
    whole = shop.run("verify", "got/1.0.0", *TRUST)
    assert whole.code != 0
    assert "is NOT verified" in whole.out
    assert "--target" in whole.out
    all_of_it = shop.read("fetch", "1.0.0", "--target", "armv7,aarch64", "--to", "all")
    assert all_of_it.code == 0
    assert {path.name for path in (shop.folder / "all" / "1.0.0").iterdir()} == set(made.names())


def test_a_part_of_a_release_is_judged_wherever_it_was_changed(shop: Shop) -> None:
    made = shop.make("1.0.0")
    shop.good("verify", made.folder, *TRUST)
    for name in (*made.artifacts, "manifest.json", "checksums.txt"):
        partial = shop.folder / f"without-{name}"
        shutil.copytree(made.folder, partial)
        with (partial / name).open("ab") as file:
            file.write(b"x")
        done = shop.run("verify", partial, "--target", "armv7", *TRUST)
        assert (40 <= done.code < 50, "is NOT verified" in done.out) == (True, True), f"{name} was changed"


def test_a_part_that_lacks_something_of_its_own_does_not_hold(shop: Shop) -> None:
    made = shop.make("1.0.0")
    kept = made.artifacts[1]
    for ending in ("", ".spdx.json", ".provenance.json", ".intoto.jsonl"):
        folder = shop.folder / f"lacks{ending}"
        shutil.copytree(made.folder, folder)
        (folder / f"{kept}{ending}").unlink()
        done = shop.run("verify", folder, "--target", "armv7", *TRUST)
        assert (done.code != 0, "is NOT verified" in done.out) == (True, True), ending
    (made.folder / "manifest.json.sigstore.json").unlink()
    assert shop.run("verify", made.folder, "--target", "armv7", *TRUST).code != 0


def test_every_byte_of_a_target_is_held_against_the_signed_index(shop: Shop) -> None:
    shop.published("1.0.0")
    theirs, mine = (f"hello_1.0.0_linux_{target}.tar.gz" for target in TARGETS)
    papers = (f"{mine}.cdx.json", f"{mine}.intoto.jsonl", "manifest.json", "manifest.json.sigstore.json")
    for path in (shop.repository / "1.0.0" / name for name in (mine, theirs, *papers)):
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        done = shop.read("fetch", "1.0.0", "--target", "armv7", "--to", "got")
        assert done.code == (0 if "aarch64" in path.name else 41), (path.name, done.err)
        assert (shop.folder / "got" / "1.0.0").exists() is ("aarch64" in path.name)
        shutil.rmtree(shop.folder / "got", ignore_errors=True)
        path.write_bytes(kept)


def test_a_target_that_nobody_has_is_its_own_error(shop: Shop) -> None:
    made = shop.make("1.0.0")
    assert shop.publish("1.0.0").last == "published"
    for done in (
        shop.read("fetch", "1.0.0", "--target", "armv7,sparc", "--to", "got"),
        shop.read("verify", "1.0.0", "--target", "sparc"),
        shop.run("verify", made.folder, "--target", "sparc", *TRUST),
    ):
        assert done.code == 14, done.err
        assert "'sparc'" in done.err
        assert all(target in done.err for target in TARGETS)
    assert not (shop.folder / "got").exists()
    # What a manifest says that nobody signed is not repeated.
    made.write("manifest.json", made.read("manifest.json").replace(b'"aarch64"', b'"sparc"'))
    forged = shop.run("verify", made.folder, "--target", "riscv64", *TRUST)
    assert (forged.code, "is NOT verified" in forged.out, "it has" in forged.err) == (40, True, False), forged.err
    both = shop.read("fetch", "1.0.0", "--target", "armv7", "--only", "manifest.json")
    assert both.code == 2


def test_a_file_that_nobody_has_is_told_with_the_command_that_lists_them(shop: Shop) -> None:
    shop.published("1.0.0")
    done = shop.read("fetch", "1.0.0", "--only", "x")
    assert (done.code, "`relbuild index show 1.0.0`" in done.err) == (39, True), done.err


# --- what was seen before ----------------------------------------------------------------------------------------


@pytest.fixture
def forked(shop: Shop) -> Shop:
    """Give a repository, with another one beside it that has the same past and another last event."""
    shop.published("1.0.0", "1.1.0")
    other = shop.folder / "other"
    shutil.copytree(shop.repository, other)
    shop.good("yank", "1.1.0", "--reason", "slow", *shop.place, *shop.owner)
    shop.good("yank", "1.1.0", "--reason", "leaks", "--repository", "other", *TRUST, *shop.owner)
    return shop


@pytest.mark.fault(61)
@pytest.mark.parametrize("first", [("list",), ("audit", "verify")])
def test_a_fork_is_refused_by_every_reader(forked: Shop, first: tuple[str, ...]) -> None:
    assert forked.read(*first).code == 0
    shutil.rmtree(forked.repository)
    shutil.copytree(forked.folder / "other", forked.repository)
    for command in READERS:
        done = forked.read(*command)
        assert done.code == 76, (command, done.out + done.err)
        assert "two different indexes of revision 3: a fork" in done.err
    assert not (forked.folder / "got").exists()
    assert forked.read("audit", "verify", "--memory", "elsewhere").code == 0


@pytest.mark.fault(61)
def test_a_fork_that_a_checkpoint_exposes_is_not_remembered(forked: Shop) -> None:
    text = forked.good("audit", "export-checkpoint", *forked.place).out
    (forked.folder / "kept").write_text(text)
    kept = ("audit", "verify", "--checkpoint", "kept", "--memory", "fresh", *TRUST, "--repository")
    assert forked.run(*kept, "other").code == 76
    assert forked.run(*kept, forked.repository).code == 0


@pytest.mark.fault(61)
def test_audit_verify_remembers_what_it_saw(shop: Shop) -> None:
    shop.published("1.0.0")
    older = (shop.repository / "index.json").read_bytes()
    shop.published("1.1.0")
    assert shop.read("audit", "verify").code == 0
    (shop.repository / "index.json").write_bytes(older)
    for command in READERS:
        done = shop.read(*command)
        assert (done.code, "a rollback" in done.err) == (76, True), (command, done.out + done.err)


# --- places where nothing is, or nobody answers -------------------------------------------------------------------


def test_where_nothing_is_every_reader_says_the_same_and_makes_nothing(shop: Shop) -> None:
    for command in READERS:
        done = shop.read(*command)
        assert (done.code, done.out) == (39, ""), (command, done.out + done.err)
        assert f"nothing is published in {shop.repository}" in done.err
    assert not shop.repository.exists()


def test_recover_where_nothing_is_refuses_and_makes_nothing(shop: Shop) -> None:
    done = shop.change("recover")
    assert (done.code, "nothing to recover" in done.out) == (39, False), done.out
    assert f"there is no repository in {shop.repository}" in done.err
    assert not shop.repository.exists()
    shop.repository.mkdir()
    (shop.repository / "notes.txt").write_text("mine")
    assert shop.change("recover").code == 39
    assert [path.name for path in shop.repository.iterdir()] == ["notes.txt"]


@contextlib.contextmanager
def hanging_up() -> Iterator[str]:
    """Serve a port where every connection ends before an answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.mark.fault(15)
@pytest.mark.parametrize(("scheme", "package"), [("gs", "google.cloud.storage"), ("s3", "boto3")])
@pytest.mark.parametrize("command", [("list",), ("audit", "verify")])
def test_a_store_out_of_reach_is_said_as_such_to_a_reader(
    shop: Shop, scheme: str, package: str, command: tuple[str, ...]
) -> None:
    object_stores.require(package)
    env = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "STORAGE_EMULATOR_HOST": ""}
    with hanging_up() as url:
        done = shop.run(*command, "--repository", f"{scheme}://b/p", "--endpoint-url", url, *TRUST, env=env)
    assert done.code == 36, done.err
    assert "recover" not in done.err
    assert "network" in done.err


# --- words -------------------------------------------------------------------------------------------------------


def test_one_is_not_told_as_many(shop: Shop) -> None:
    shop.published("1.0.0")
    assert "1 event and 1 audit hold" in shop.read("audit", "verify").out
    assert "1 release\n" in shop.read("index", "verify").out
    shop.published("1.1.0")
    assert "2 events and 2 audits hold" in shop.read("audit", "verify").out


@pytest.mark.parametrize("kind", ["key-file", "cosign", "audit"])
def test_a_missing_folder_for_a_key_is_named(shop: Shop, kind: str) -> None:
    done = shop.run("keys", "generate", "--kind", kind, "--out", "k/x.key", "--no-passphrase")
    assert done.code == 70, done.err
    assert "the folder 'k' is missing" in done.err
    assert not (shop.folder / "k").exists()
