"""Audits: sealed by a real RSA key, bound to the index, and the first thing that is wrong is named."""

import base64
import dataclasses
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from orchestrator.canonical import canonical_json
from orchestrator.errors import (
    AuditInvalid,
    IndexInvalid,
    IndexReplayed,
    KeyRefused,
    PassphraseWrong,
    PublicationError,
    SigningFailed,
    TrustInvalid,
    UntrustedKey,
    VerificationError,
    VerificationRequired,
)
from orchestrator.publication import EventType, PolicyMode
from orchestrator.publish.audit import audit_document, new_audit_id, parse_audit, require_repository
from orchestrator.publish.audit_check import check_checkpoint, export_checkpoint, verify_audits
from orchestrator.publish.index import encode_index, parse_index
from orchestrator.publish.index_keys import PublisherKeys, audit_keys_of
from orchestrator.publish.journal import Attempt, append_attempt, verify_journal
from orchestrator.publish.rsa_pss import RsaKey, read_rsa_key, rsa_holds
from orchestrator.signing.interface import Statement
from tests.repository_fake import MemoryRepository
from tests.unit.published import (
    NOW,
    add,
    audited,
    entry,
    files_of,
    grown,
    keys,
    publish,
    rsa_key,
    sha256,
    signer,
    trust,
    trust_root,
)


@pytest.fixture
def repository() -> MemoryRepository:
    made = MemoryRepository()
    publish(made, "v1.0.0", "v1.1.0", "v1.2.0")
    return made


def first_wrong(repository: MemoryRepository, checkpoint: bytes = b"") -> tuple[int, str]:
    wrong = verify_audits(repository, trust(), checkpoint).wrong
    assert wrong is not None
    assert isinstance(wrong.error, IndexInvalid | IndexReplayed | AuditInvalid | UntrustedKey)
    return wrong.event, wrong.error.what


def edited(body: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(body)
    change(value)
    return canonical_json(value)


# --- the whole history -------------------------------------------------------------------------------------------


def test_a_whole_history_holds(repository: MemoryRepository) -> None:
    report = verify_audits(repository, trust())
    assert (report.wrong, report.audits, report.revision, report.unlisted) == (None, 3, 3, ())


@pytest.mark.fault(59)
@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("v1.1.0.audit.json", lambda body: body.replace(b'"test"', b'"tost"'), "other bytes than the event promises"),
        ("v1.1.0.audit.json", lambda _: None, "v1.1.0.audit.json is not in"),
        ("v1.1.0.audit.sig", lambda _: None, "v1.1.0.audit.sig is not in"),
        ("v1.1.0.audit.sig", lambda body: body[:-2], "audit.sig"),
        ("v1.1.0.audit.sig", lambda _: b"", "audit.sig"),
        ("v1.1.0.audit.sig", lambda body: edited(body, lambda seal: seal.update(signature="AAAA")), "does not fit"),
        ("v1.1.0.audit.sig", lambda body: edited(body, lambda seal: seal.update(key_id="0" * 64)), "'audit' keys"),
        ("v1.1.0.audit.sig", lambda body: edited(body, lambda seal: seal.update(hash="0" * 64)), "other bytes"),
        ("v1.1.0.audit.sig", lambda body: edited(body, lambda seal: seal.update(algorithm="none")), "algorithm"),
        ("v1.1.0.audit.sig", lambda body: edited(body, lambda seal: seal.update(extra=1)), "nobody knows"),
        ("v1.1.0.audit.sig",
         lambda body: edited(body, lambda seal: seal.update(timestamp="2030-01-31T12:00:01Z")), "another time"),
    ],
)  # fmt: skip
def test_an_audit_that_was_touched_names_its_event(
    repository: MemoryRepository, key: str, change: Callable[[bytes], bytes | None], words: str
) -> None:
    body = change(repository.objects.pop(key))
    if body is not None:
        repository.objects[key] = body
    event, what = first_wrong(repository)
    assert event == 2
    assert words in what


@pytest.mark.fault(59)
def test_the_audit_of_another_repository_is_noticed() -> None:
    """Whoever signs for two repositories signs no release of one for the other."""
    repository = MemoryRepository()
    listed, body = audited("v1.0.0", repository_id="testing")
    repository.objects.update({"v1.0.0.audit.json": body, "v1.0.0.audit.sig": keys().sign_audit(body)})
    put_index(repository, encode_index(add(None, EventType.PUBLISH, listed, repository_id="production")))
    assert first_wrong(repository) == (
        1, "the audit of v1.0.0 is that of the repository 'testing', not 'production'"
    )  # fmt: skip


def test_an_audit_from_before_repositories_were_named_is_read() -> None:
    _, body = audited("v1.0.0")
    old = edited(body, lambda audit: audit.pop("repository_id"))
    assert parse_audit(old).repository_id == ""
    assert parse_audit(body).repository_id == "r1"
    require_repository(parse_audit(old), "any")


@pytest.mark.fault(59)
@pytest.mark.parametrize("ending", [".audit.json", ".audit.sig"])
def test_swapped_audits_are_noticed(repository: MemoryRepository, ending: str) -> None:
    objects = repository.objects
    one, two = f"v1.0.0{ending}", f"v1.2.0{ending}"
    objects[one], objects[two] = objects[two], objects[one]
    assert first_wrong(repository)[0] == 1


def test_an_audit_that_was_made_anew_by_another_key_is_noticed(repository: MemoryRepository) -> None:
    """Everything is consistent; only the keys are not those of the project."""
    body = repository.objects["v1.1.0.audit.json"]
    repository.objects["v1.1.0.audit.sig"] = keys(audit="stranger").sign_audit(body)
    event, what = first_wrong(repository)
    assert event == 2
    assert "is not one of the 'audit' keys" in what


@pytest.mark.fault(64)
def test_a_listed_release_that_its_audit_contradicts_is_noticed() -> None:
    """Even the holder of the index key cannot list other artifacts than were audited."""
    repository = MemoryRepository()
    listed, body = audited("v1.0.0")
    index = add(None, EventType.PUBLISH, dataclasses.replace(listed, size_bytes=1))
    repository.objects.update({"v1.0.0.audit.json": body, "v1.0.0.audit.sig": keys().sign_audit(body)})
    put_index(repository, encode_index(index))
    assert first_wrong(repository) == (
        1, "event 1, publish v1.0.0: the index lists something else than its audit",
    )  # fmt: skip


def put_index(repository: MemoryRepository, body: bytes, key: str = "index") -> None:
    repository.objects["index.json"] = body
    repository.objects[f".index/{sha256(body)}.sigstore.json"] = keys(key).sign_index(body)


@pytest.mark.fault(60)
def test_an_index_that_was_made_anew_without_the_key_is_noticed(repository: MemoryRepository) -> None:
    """Chain, tree head and counts are right: whoever has no key can make them. The signature cannot be made."""
    body = encode_index(grown("v1.0.0", "v1.1.0"))
    repository.objects["index.json"] = body
    assert "sigstore.json is not in" in first_wrong(repository)[1]
    put_index(repository, body, "stranger")
    assert "whom nobody trusts" in first_wrong(repository)[1]
    old = next(value for key, value in repository.objects.items() if key.startswith(".index/"))
    repository.objects[f".index/{sha256(body)}.sigstore.json"] = old
    assert "other bytes" in first_wrong(repository)[1]


@pytest.mark.fault(60)
def test_an_event_that_was_touched_is_named_before_any_signature(repository: MemoryRepository) -> None:
    repository.objects["index.json"] = repository.objects["index.json"].replace(
        b'"reason":"because","seq":2', b'"reason":"x","seq":2'
    )
    assert first_wrong(repository)[0] == 3


def test_no_index_is_wrong_and_audits_without_release_are_reported(repository: MemoryRepository) -> None:
    with pytest.raises(PublicationError, match="nothing is published in memory"):
        verify_audits(MemoryRepository(), trust())
    repository.objects["v9.0.0.audit.json"] = b"{}"
    assert verify_audits(repository, trust()).unlisted == ("v9.0.0",)


def test_a_checkpoint_is_kept_by_longer_histories_and_by_no_other(repository: MemoryRepository) -> None:
    checkpoint = export_checkpoint(parse_index(repository.objects["index.json"]))
    assert checkpoint.decode().split("\n")[:2] == ["relbuild/checkpoint/v1/r1", "3"]
    publish(repository, "v1.3.0")
    assert verify_audits(repository, trust(), checkpoint).wrong is None
    other = grown("v1.0.0", "v1.1.0", "v1.9.0", "v2.0.0")
    with pytest.raises(VerificationError, match="a fork"):
        check_checkpoint(checkpoint, other)
    with pytest.raises(VerificationError, match="a rollback"):
        check_checkpoint(checkpoint, grown("v1.0.0"))
    with pytest.raises(VerificationError, match="another repository"):
        check_checkpoint(checkpoint.replace(b"/r1", b"/r2"), other)
    for bad in (b"", b"x\n", checkpoint + b"x", checkpoint.replace(b"\n3\n", b"\n-3\n")):
        with pytest.raises(VerificationError, match=r"not one|a fork"):
            check_checkpoint(bad, other)


def test_a_fork_of_the_same_length_is_noticed_by_the_checkpoint() -> None:
    checkpoint = export_checkpoint(grown("v1.0.0"))
    with pytest.raises(VerificationError, match="a fork"):
        check_checkpoint(checkpoint, dataclasses.replace(grown("v1.0.0"), expires=NOW))


# --- the document ------------------------------------------------------------------------------------------------


def test_an_audit_says_what_the_specification_lists() -> None:
    _, body = audited("v1.0.0")
    document = json.loads(body)
    assert document["publication"] == {
        "artifacts_published": 1, "total_bytes": 12022, "repository_type": "memory", "policy_mode": "strict",
    }  # fmt: skip
    assert document["rules"][0]["rule"] == "immutability"
    audit = parse_audit(body)
    assert audit.entry == entry("v1.0.0")
    assert [file.path for file in audit.files] == ["checksums.txt", "hello-v1.0.0.tar.gz", "manifest.json"]


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(version="v1.0.1"),
        lambda value: value.update(schema="relbuild/audit/v2"),
        lambda value: value.update(extra=1),
        lambda value: value["entry"].update(audit_sha256="0" * 64),
        lambda value: value["entry"].update(status="revoked"),
        lambda value: value["entry"].update(manifest_sha256="0" * 64, sha256="0" * 64),
        lambda value: value["files"].pop(1),
        lambda value: value["files"].append({"path": "../x", "sha256": "0" * 64, "size_bytes": 1}),
        lambda value: value["publication"].update(total_bytes=1),
        lambda value: value["publication"].update(artifacts_published=7),
        lambda value: value.update(verification={"passed": False}),
        lambda value: value.update(rules=[]),
        lambda value: value.update(timestamp="now"),
    ],
)
def test_an_audit_that_contradicts_itself_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(VerificationError, match=r"^the audit "):
        parse_audit(edited(audited("v1.0.0")[1], change))


def test_an_audit_without_any_rule_is_not_written() -> None:
    bodies = {"manifest.json": b"m"}
    with pytest.raises(VerificationError):
        audit_document(entry("v1.0.0", bodies), files_of(bodies), audit_id=new_audit_id(), repository_id="r1",
                       machine_id="m", now=NOW, repository_type="local",
                       policy_mode=PolicyMode.STRICT, outcomes=())  # fmt: skip


# --- keys --------------------------------------------------------------------------------------------------------


def private_file(folder: Path, key: Any, mode: int = 0o600, passphrase: bytes | None = None) -> Path:
    path = folder / "audit.key"
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    path.chmod(mode)
    return path


def test_a_key_whose_halves_do_not_fit_signs_nothing(tmp_path: Path) -> None:
    good, other = rsa_key()._private.private_numbers(), rsa_key("other")._private.private_numbers()
    damaged = rsa.RSAPrivateNumbers(
        p=good.p, q=good.q, d=other.d, dmp1=other.dmp1, dmq1=other.dmq1, iqmp=good.iqmp,
        public_numbers=good.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)  # fmt: skip
    key = read_rsa_key(private_file(tmp_path, damaged), lambda: None)
    with pytest.raises(SigningFailed, match="is damaged"):
        key.sign(b"audit")
    assert read_rsa_key(private_file(tmp_path, rsa_key()._private), lambda: None).sign(b"audit")


def test_a_seal_is_rsa_pss_that_another_program_can_check() -> None:
    _, body = audited("v1.0.0")
    seal = json.loads(keys().sign_audit(body))
    assert seal["algorithm"] == "RSA-PSS-SHA256"
    assert seal["key_id"] == rsa_key().key_id
    public = serialization.load_pem_public_key(rsa_key().public_pem.encode())
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(
        base64.b64decode(seal["signature"]), body,
        padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32), hashes.SHA256(),
    )  # fmt: skip


def test_another_padding_or_salt_is_refused() -> None:
    private = rsa_key()._private
    for scheme in (padding.PKCS1v15(), padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=20)):
        assert not rsa_holds(rsa_key().public_pem, b"x", private.sign(b"x", scheme, hashes.SHA256()))
    assert rsa_holds(rsa_key().public_pem, b"x", rsa_key().sign(b"x"))


@pytest.mark.fault(78)
def test_a_private_key_is_read_with_and_without_passphrase(tmp_path: Path) -> None:
    private = rsa_key()._private
    assert read_rsa_key(private_file(tmp_path, private), lambda: None).key_id == rsa_key().key_id
    locked = private_file(tmp_path, private, passphrase=b"secret-canary")
    assert read_rsa_key(locked, lambda: b"secret-canary").key_id == rsa_key().key_id
    for wrong in (b"wrong-canary", None):
        with pytest.raises(PassphraseWrong) as caught:
            read_rsa_key(locked, lambda wrong=wrong: wrong)  # type: ignore[misc]  # the loop's value, bound here
        assert "canary" not in str(caught.value)


@pytest.mark.fault(78)
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(KeyRefused, match="open to other users"):
        read_rsa_key(private_file(tmp_path, rsa_key()._private, mode), lambda: None)


@pytest.mark.fault(78)
def test_small_and_foreign_keys_and_links_are_refused(tmp_path: Path) -> None:
    small = rsa.generate_private_key(65537, 2048)
    with pytest.raises(KeyRefused, match="2048 bits"):
        read_rsa_key(private_file(tmp_path, small), lambda: None)
    with pytest.raises(KeyRefused, match="not an RSA key"):
        read_rsa_key(private_file(tmp_path, ec.generate_private_key(ec.SECP256R1())), lambda: None)
    with pytest.raises(TrustInvalid, match="but not RSA"):
        audit_keys_of(RsaKey(_private=small).public_pem)
    link = tmp_path / "link"
    link.symlink_to(private_file(tmp_path, rsa_key()._private))
    with pytest.raises(KeyRefused, match="symbolic link"):
        read_rsa_key(link, lambda: None)
    (tmp_path / "audit.key").write_text("nonsense")
    with pytest.raises(KeyRefused, match="no private key"):
        read_rsa_key(tmp_path / "audit.key", lambda: None)


def test_the_audit_key_is_loaded_once_beside_other_work() -> None:
    threads: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def load() -> RsaKey:
        threads.append(threading.get_ident())
        begun.set()
        go_on.wait(10)
        return rsa_key()

    made = PublisherKeys(signer(), load)
    assert not threads
    made.preload()
    made.preload()
    assert begun.wait(10)
    go_on.set()
    assert made.audit_key_id == rsa_key().key_id
    made.sign_audit(audited("v1.0.0")[1])
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_a_key_that_cannot_be_loaded_is_told_to_whoever_asks(tmp_path: Path) -> None:
    made = PublisherKeys(signer(), lambda: read_rsa_key(tmp_path / "none", lambda: None))
    made.preload()
    for _ in range(2):
        with pytest.raises(KeyRefused, match="is missing"):
            made.sign_audit(b"")


def test_keys_do_not_show_themselves() -> None:
    assert "PRIVATE" not in repr(rsa_key())
    assert "_private" not in repr(rsa_key())


@pytest.mark.parametrize("changes", [{"revoked": NOW}, {"until": NOW}])
def test_an_index_key_that_does_not_count_now_is_refused(changes: dict[str, datetime]) -> None:
    body = encode_index(grown("v1.0.0"))
    judge = dataclasses.replace(trust(), trust=trust_root(**changes))
    with pytest.raises(UntrustedKey):
        judge.check_index(body, keys().sign_index(body))
    assert trust().check_index(body, keys().sign_index(body)) == signer().key_id


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 100, b"[" * 100_000])
def test_garbage_is_no_signature_of_an_index(content: bytes) -> None:
    with pytest.raises(IndexInvalid):
        trust().check_index(b"index", content)


def test_an_attestation_is_no_signature_of_an_index() -> None:
    with pytest.raises(IndexInvalid, match="attestation"):
        trust().check_index(b"index", signer().sign(Statement(payload=b"index")))


# --- the journal -------------------------------------------------------------------------------------------------


def attempt(text: str = "refused") -> Attempt:
    error = VerificationRequired(text)
    return Attempt.of(error, action="publish", version="v1.0.0", repository="memory", now=NOW)


def test_the_journal_is_a_chain(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.jsonl"
    for text in ("one", "two\nlines \x1b[31m", "\ud800"):
        append_attempt(path, attempt(text))
    assert verify_journal(path) == 3
    assert path.stat().st_mode & 0o777 == 0o600
    last = json.loads(path.read_bytes().splitlines()[0])
    assert (last["error"], last["exit_code"], last["time"]) == ("VerificationRequired", 30, "2030-01-31T12:00:00Z")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[0], lines[2]], 2),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 2),
        (lambda lines: [lines[1], lines[0], lines[2]], 1),
        (lambda lines: [lines[0].replace(b"one", b"ONE"), *lines[1:]], 2),
        (lambda lines: [*lines[:2], lines[2][:-5]], 3),
        (lambda lines: [lines[0], b"{}\n", lines[2]], 2),
    ],
)
def test_a_journal_that_was_touched_names_the_line(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], line: int
) -> None:
    path = tmp_path / "journal"
    for text in ("one", "two", "three"):
        append_attempt(path, attempt(text))
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(VerificationError, match=f"line {line} of the journal"):
        verify_journal(path)


def test_a_line_that_a_crash_cut_off_is_dropped_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    append_attempt(path, attempt("one"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    append_attempt(path, attempt("two"))
    assert verify_journal(path) == 2


def test_many_write_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    threads = [threading.Thread(target=append_attempt, args=(path, attempt(str(n)))) for n in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert verify_journal(path) == 20


def test_a_journal_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PublicationError):
        append_attempt(tmp_path / "journal", attempt())
    assert NOW - timedelta(days=1) < NOW.astimezone(UTC)
