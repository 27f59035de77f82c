"""index.json: one form, one history; what is old, forked, changed or hostile is refused in words of its own."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import DuplicateVersion, IndexInvalid, IndexReplayed, PublicationError, VerificationError
from orchestrator.publication import EventType, Index, ReleaseStatus
from orchestrator.publish import index_json, index_rows
from orchestrator.publish.index import check_extension, encode_index, index_sha256, parse_index, parse_next
from orchestrator.publish.index_json import BadIndex
from orchestrator.publish.index_view import _parsed, _read, index_view
from orchestrator.publish.merkle import Peaks, head_of, peaks_of, peaks_with, tree_head
from orchestrator.publish.version_names import checked_version, latest_of, newest_first, read_version
from tests.unit.published import NOW, add, audited, entry, grown

PUBLISH, YANK = EventType.PUBLISH, EventType.YANK


def rewritten(index: Index, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Give an index after a change to its values, written in the right form: what an editor without key can do."""
    value = json.loads(encode_index(index))
    change(value)
    rows = {name: [index_json.line(row) for row in value.pop(name)] for name in ("releases", "events")}
    return index_json.document(value, rows)


def refusal(body: bytes) -> str:
    with pytest.raises(IndexInvalid) as caught:
        parse_index(body)
    assert caught.value.next_step
    assert caught.value.exit_code == 75
    # Whoever saw an earlier index reads only what is new, and refuses the same in the same words.
    with pytest.raises(IndexInvalid) as later:
        parse_next(parse_index(encode_index(grown("v1.0.0"))), body)
    assert later.value.what == caught.value.what
    return caught.value.what


# --- form --------------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_again_and_written_the_same() -> None:
    index = add(add(grown("v1.0.0", "v1.1.0"), YANK, "v1.0.0"), EventType.ABANDON, "v9.0.0")
    body = encode_index(index)
    again = parse_index(body)
    assert again == index
    assert encode_index(again) == body
    assert again.sha256 == hashlib.sha256(body).hexdigest()
    assert json.loads(body)["total_releases"] == 2
    assert [each.status for each in again.releases] == [ReleaseStatus.YANKED, ReleaseStatus.ACTIVE]


def history(number: int) -> Index:
    """Give one repository's index after so many of its events."""
    index = None
    for kind, version in HISTORY[:number]:
        index = add(index, kind, audited(version, ONE_ID)[0] if kind is PUBLISH else version)
    assert index is not None
    return index


ONE_ID = "00000000-0000-0000-0000-000000000000"
HISTORY = (
    (PUBLISH, "v1.0.0-rc1"), (PUBLISH, "v1.0.0"), (PUBLISH, "v1.1.0"), (YANK, "v1.1.0"), (EventType.ABANDON, "v7.0.0"),
    (PUBLISH, "v1.2.0"), (EventType.ROLLBACK, "v1.0.0"), (EventType.UNYANK, "v1.1.0"), (EventType.REVOKE, "v1.2.0"),
    (PUBLISH, "v0.9.0"), (EventType.RENEW, ""), (PUBLISH, "v2.0.0-rc1"),
)  # fmt: skip


@pytest.mark.parametrize("seen", range(1, len(HISTORY) + 1))
def test_an_index_is_read_the_same_from_any_earlier_one(seen: int) -> None:
    known = parse_index(encode_index(history(seen)))
    for number in range(1, len(HISTORY) + 1):
        body = encode_index(history(number))
        assert parse_next(known, body) == parse_index(body)
        assert add(parse_next(known, body), PUBLISH, audited("v3.0.0", ONE_ID)[0]) == add(
            history(number), PUBLISH, audited("v3.0.0", ONE_ID)[0]
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["releases"][0].update(status="yanked"),
        lambda value: value["releases"][0].update(size_bytes=1, audit_sha256="0" * 64),
        lambda value: value["releases"].pop(0),
        lambda value: value["releases"].append(value["releases"][0]),
        lambda value: value["releases"].reverse(),
        lambda value: value["events"][0].update(reason="another"),
        lambda value: value["events"][-1].update(prev="0" * 64),
        lambda value: value["events"].append(value["events"][0]),
        lambda value: value.update(root="0" * 64),
        lambda value: value.update(latest="v1.0.0-rc1"),
    ],
)
def test_what_was_seen_before_hides_no_change(change: Callable[[dict[str, Any]], object]) -> None:
    known = parse_index(encode_index(history(6)))
    body = rewritten(history(8), change)
    with pytest.raises(IndexInvalid) as whole:
        parse_index(body)
    with pytest.raises(IndexInvalid) as later:
        parse_next(known, body)
    assert later.value.what == whole.value.what


def test_a_tree_grows_to_the_head_that_the_rfc_gives() -> None:
    def head(leaves: list[bytes]) -> bytes:
        if len(leaves) < 2:
            return hashlib.sha256(b"".join(b"\0" + leaf for leaf in leaves)).digest()
        left = 1 << (len(leaves) - 1).bit_length() - 1
        return hashlib.sha256(b"\1" + head(leaves[:left]) + head(leaves[left:])).digest()

    peaks: Peaks = ()
    for count in range(40):
        leaves = [str(number).encode() for number in range(count)]
        assert head(leaves).hex() == tree_head(leaves) == head_of(peaks)
        assert peaks == peaks_of(leaves)
        peaks = peaks_with(peaks, str(count).encode())


def test_an_index_of_events_alone_is_read_again() -> None:
    index = add(None, EventType.ABANDON, "v1.0.0")
    assert parse_index(encode_index(index)) == index
    assert b'"releases":[],' in encode_index(index)


def test_a_release_with_names_and_values_out_of_the_ordinary_takes_the_long_way_and_is_read_again() -> None:
    odd = dataclasses.replace(
        entry("v1.0.0"), audit_sha256="1" * 64, verification={"passed": True, "nested": {"ä": [1, None]}},
        validation={"passed": False, "b": 1, "a": "x"}, sbom_id='quo"te\\',
    )  # fmt: skip
    index = add(None, PUBLISH, odd)
    assert index_rows.ENTRY_LINE.fullmatch(index.releases.lines[0]) is None
    assert parse_index(encode_index(index)).release("v1.0.0") == odd


@pytest.mark.fault(72, 90)
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[]", "no object"),
        (b"{}", "has no schema relbuild/index/v1"),
        (b'{"schema":"relbuild/index/v2"}', "newer than this program knows"),
        (b'{"schema":"relbuild/index/v1"}', "other keys than the index must have"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' + b"9" * 5000 + b"}", "number too long"),
        (b'{"schema":NaN}', "has no schema"),
    ],
)
def test_hostile_bytes_are_refused(body: bytes, words: str) -> None:
    assert words in refusal(body)


@pytest.mark.fault(90)
def test_a_newer_schema_names_the_way_out() -> None:
    with pytest.raises(VerificationError) as caught:
        parse_index(b'{"schema":"relbuild/index/v12"}')
    assert caught.value.next_step == "get a newer relbuild"


@pytest.mark.fault(72)
@pytest.mark.parametrize(
    "change",
    [
        lambda body: body + b"\n",
        lambda body: body + b"{}",
        lambda body: body.replace(b'"latest":', b'"latest":"v9.9.9",\n"latest":'),
        lambda body: body.replace(b'"actor":"ann"', b'"actor":"bob","actor":"ann"'),
        lambda body: body.replace(b'"signed":true', b'"signed":false,"signed":true'),
        lambda body: body.replace(b'"signed":true', b'"signed": true'),
        lambda body: body.replace(b"ann", b"\\u0061nn"),
        lambda body: body.replace(b"\n", b"\r\n"),
        lambda body: json.dumps(json.loads(body)).encode(),
        lambda body: body.replace(b"},\n{", b"};\n{"),
    ],
)
def test_another_form_of_the_same_values_is_refused(change: Callable[[bytes], bytes]) -> None:
    body = encode_index(grown("v1.0.0", "v1.1.0"))
    assert change(body) != body
    refusal(change(body))


@pytest.mark.fault(63)
@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("revision", 0, "revision 0"), ("revision", -1, "revision -1"), ("revision", 2**63, "2^53"),
        ("revision", 3, "revision 3 after 2 events"), ("revision", True, "no whole number"),
        ("revision", 2.0, "no whole number"), ("root", "0" * 64, "tree head"), ("latest", "v1.0.0", "the latest"),
        ("total_releases", 1, "counts other releases"), ("repository_id", "", "repository_id"),
        ("previous_index_sha256", "", "which index it follows"), ("expires", "2030-02-30T00:00:00Z", "no time"),
        ("expires", "2030-01-31", "no time"), ("surprise", 1, "surprise"),
    ],
)  # fmt: skip
def test_a_head_that_contradicts_its_rows_is_refused(field: str, value: object, words: str) -> None:
    assert words in refusal(rewritten(grown("v1.0.0", "v1.1.0"), lambda head: head.update({field: value})))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "gone"), ("status", "yanked"), ("audit_sha256", "0" * 64), ("audit_sha256", ""),
        ("sha256", "0" * 64),
        ("size_bytes", -1), ("size_bytes", 2**60), ("timestamp", "now"), ("targets", ["a", "a"]), ("targets", [1]),
        ("signed", 1), ("version", "v7.0.0"), ("version", "../v1.0.0"), ("artifacts", [{"path": "a"}]),
        ("artifacts", [{"path": "../a", "sha256": "0" * 64, "size_bytes": 1}]),
        ("artifacts", [{"path": "con.txt", "sha256": "0" * 64, "size_bytes": 1}]),
        ("artifacts", [{"path": "a", "sha256": "0" * 64, "size_bytes": 1}] * 2),
        ("artifacts", [{"path": "a//b", "sha256": "0" * 64, "size_bytes": 1}]),
        ("artifacts", [{"path": "a\u202e", "sha256": "0" * 64, "size_bytes": 1}]),
        ("verification", []), ("validation", ""), ("sbom_id", "a\nb"), ("surprise", 1),
    ],
)  # fmt: skip
def test_a_release_that_cannot_be_is_refused(field: str, value: object) -> None:
    refusal(rewritten(grown("v1.0.0", "v1.1.0"), lambda head: head["releases"][0].update({field: value})))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_the_patterns_take_nothing_that_the_long_way_refuses(data: st.DataObject) -> None:
    """Change one character of a good line: where the fast path still takes it, so must parsing and writing it."""
    index = grown("v1.0.0")
    line = data.draw(st.sampled_from([index.releases.lines[0], index.events.lines[0]]))
    at = data.draw(st.integers(0, len(line) - 1))
    new = data.draw(st.sampled_from([bytes([each]) for each in b'"\\{}[]:,.0129azAZ-_+ \n\x7f\xc3/']))
    changed = line[:at] + new + line[at + data.draw(st.integers(0, 1)) :]
    is_event = line is index.events.lines[0]
    pattern = index_rows.EVENT_LINE if is_event else index_rows.ENTRY_LINE
    found = pattern.fullmatch(changed)
    if found is None or not (is_event or index_rows._distinct(found)):
        return
    if is_event:
        assert index_json.line(index_rows.event_json(index_rows.read_event(changed))) == changed
    else:
        assert index_json.line(index_rows.entry_json(index_rows.read_entry(changed))) == changed


def test_the_ordinary_release_takes_the_fast_path() -> None:
    index = grown("v1.0.0")
    assert index_rows.ENTRY_LINE.fullmatch(index.releases.lines[0])
    assert index_rows.EVENT_LINE.fullmatch(index.events.lines[0])


# --- history -----------------------------------------------------------------------------------------------------


def relinked(value: dict[str, Any]) -> None:
    """Make chain, root and counts right again, as whoever has no key can."""
    prev = ""
    for seq, event in enumerate(value["events"], start=1):
        event["seq"], event["prev"] = seq, prev
        prev = hashlib.sha256(index_json.line(event)).hexdigest()
    value["revision"] = len(value["events"])
    value["root"] = tree_head([index_json.line(event) for event in value["events"]])


@pytest.mark.fault(60)
@pytest.mark.parametrize(
    ("change", "event"),
    [
        (lambda events: events.pop(1), 2),
        (lambda events: events.insert(1, events[1]), 3),
        (lambda events: events.insert(0, events.pop(1)), 1),
        (lambda events: events[2].update(reason="another"), 4),
        (lambda events: events[0].update(time="2031-01-01T00:00:00Z"), 2),
        (lambda events: events[1].update(type="renew"), 2),
        (lambda events: events[1].update(type="explode"), 2),
        (lambda events: events[3].update(prev="0" * 64), 4),
    ],
)
def test_the_first_event_that_fails_is_named(change: Callable[[list[Any]], object], event: int) -> None:
    index = add(add(grown("v1.0.0", "v1.1.0"), YANK, "v1.0.0"), EventType.UNYANK, "v1.0.0")
    body = rewritten(index, lambda head: change(head["events"]))
    assert f"fails at event {event}:" in refusal(body)


@pytest.mark.fault(60)
def test_the_last_event_is_held_by_the_tree_head() -> None:
    body = rewritten(grown("v1.0.0", "v1.1.0"), lambda head: head["events"][1].update(reason="another"))
    assert "tree head" in refusal(body)


@pytest.mark.parametrize(
    "change", [lambda rows: rows.reverse(), lambda rows: rows.pop(0), lambda rows: rows.append(rows[0])]
)
def test_releases_stand_in_the_order_of_their_events_and_none_is_missing(
    change: Callable[[list[Any]], object],
) -> None:
    def change_all(head: dict[str, Any]) -> None:
        change(head["releases"])
        head["total_releases"] = len(head["releases"])

    assert "lists other releases than its events" in refusal(rewritten(grown("v1.0.0", "v1.1.0"), change_all))


def test_an_impossible_history_is_refused_even_with_a_good_chain() -> None:
    def change(head: dict[str, Any]) -> None:
        head["events"].insert(1, {**head["events"][1], "type": "yank", "version": "v7.0.0", "audit_sha256": ""})
        relinked(head)

    assert "fails at event 2: 'v7.0.0' is not published" in refusal(rewritten(grown("v1.0.0", "v1.1.0"), change))


@pytest.mark.parametrize(("event", "audit"), [(0, ""), (2, "0" * 64)])
def test_only_a_publication_names_an_audit_and_each_does(event: int, audit: str) -> None:
    def change(head: dict[str, Any]) -> None:
        head["events"][event]["audit_sha256"] = audit
        relinked(head)

    index = add(grown("v1.0.0", "v1.1.0"), YANK, "v1.0.0")
    assert f"fails at event {event + 1}: only a publication" in refusal(rewritten(index, change))


@pytest.mark.fault(60)
def test_a_chain_that_was_made_anew_is_another_index_to_whoever_saw_the_old_one() -> None:
    old = grown("v1.0.0", "v1.1.0", "v1.2.0")

    def change(head: dict[str, Any]) -> None:
        head["events"][0]["reason"] = "another"
        relinked(head)

    new = parse_index(rewritten(old, change))
    with pytest.raises(IndexReplayed, match="a fork"):
        check_extension(old, new)
    with pytest.raises(IndexReplayed, match="event 1 was changed"):
        check_extension(old, _longer(new))


def _longer(index: Index) -> Index:
    for version in ("v3.0.0", "v3.1.0"):
        index = add(index, PUBLISH, audited(version)[0])
    return index


@pytest.mark.fault(61, 62)
def test_an_old_index_is_a_rollback_and_two_of_one_revision_are_a_fork() -> None:
    first = grown("v1.0.0")
    second = add(first, PUBLISH, audited("v1.1.0")[0])
    other = add(first, PUBLISH, audited("v1.2.0")[0])
    check_extension(first, second)
    check_extension(second, parse_index(encode_index(second)))
    with pytest.raises(IndexReplayed, match="a rollback"):
        check_extension(second, first)
    with pytest.raises(IndexReplayed, match="a fork"):
        check_extension(second, other)
    with pytest.raises(IndexReplayed, match="another repository"):
        check_extension(first, add(None, PUBLISH, audited("v1.0.0")[0], repository_id="r2"))


def test_an_index_that_follows_another_one_is_a_fork() -> None:
    first = grown("v1.0.0")
    second = dataclasses.replace(add(first, PUBLISH, audited("v1.1.0")[0]), previous_index_sha256="0" * 64)
    with pytest.raises(IndexReplayed, match="does not follow"):
        check_extension(first, second)


def test_a_release_that_vanished_or_was_changed_is_refused() -> None:
    first = grown("v1.0.0", "v1.1.0")
    later = _longer(first)
    fewer = dataclasses.replace(later, releases=later.releases[:1])
    with pytest.raises(VerificationError, match=r"v1\.1\.0 vanished"):
        check_extension(first, fewer)
    changed = dataclasses.replace(later.releases[0], size_bytes=1)
    rows = type(later.releases)([index_rows.entry_line(changed), *later.releases.lines[1:]], index_rows.read_entry)
    with pytest.raises(VerificationError, match=r"v1\.0\.0 was changed"):
        check_extension(first, dataclasses.replace(later, releases=rows))


def test_a_changed_status_is_no_changed_release() -> None:
    first = grown("v1.0.0", "v1.1.0")
    check_extension(first, add(first, YANK, "v1.1.0"))


def test_each_index_names_the_one_before() -> None:
    first = grown("v1.0.0")
    assert first.previous_index_sha256 == ""
    second = add(first, PUBLISH, audited("v1.1.0")[0])
    assert second.previous_index_sha256 == hashlib.sha256(encode_index(first)).hexdigest() == index_sha256(first)


@pytest.mark.parametrize("reason", ["a\nb", "\x1b[31m", "\u202e", "x" * 3000, "\ud800"])
def test_words_that_cannot_be_shown_are_not_written(reason: str) -> None:
    with pytest.raises(PublicationError):
        add(grown("v1.0.0"), YANK, "v1.0.0", reason=reason)


@pytest.mark.fault(66)
def test_a_taken_version_is_refused_and_so_is_one_too_like_it() -> None:
    index = add(grown("v1.0.0-RC1"), EventType.ABANDON, "2.0.0+a.b")
    for version in ("v1.0.0-RC1", "1.0.0-rc1", "v2.0.0+A.B", "2.0.0+a.b"):
        with pytest.raises(DuplicateVersion, match="never free again"):
            add(index, PUBLISH, audited(version)[0])


# --- Merkle, versions, the view ----------------------------------------------------------------------------------


def slow_head(leaves: list[bytes]) -> bytes:
    """The tree head as RFC 6962, section 2.1 words it."""
    if len(leaves) < 2:
        return hashlib.sha256(b"\x00" + leaves[0] if leaves else b"").digest()
    half = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + slow_head(leaves[:half]) + slow_head(leaves[half:])).digest()


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_tree_head_is_that_of_the_rfc(leaves: list[bytes]) -> None:
    assert tree_head(leaves) == slow_head(leaves).hex()


GOOD = ("1.0.0", "v1.0.2", "v1.0.0-rc1", "1.0.0-rc.1+build.5", "0.0.0", "1.2.3-0a", "v10.20.30+a-b")
BAD = (
    "", "1.0", "1", "01.0.0", "1.0.0-01", "1.0.0-", "1.0.0+", "vv1.0.0", "V1.0.0", "1.0.0 ", " 1.0.0", "1.0.0\n",
    "index.json", ".staging-x", "..", "../1.0.0", "1.0.0/a", "1.0.0_a", "1.0.0-rc.audit.json", "1.0.0-a.AUDIT.SIG",
    "1.0.0-index.md", "1.0.0+x.json", "1.0.0-x.sigstore.json", "1.0.0-x.tmp", "1.0.0-\u0661", "\uff11.0.0",
    "1.0.0-" + "a" * 200, ".lock", "-1.0.0", "name-2030-01-31-120000",
)  # fmt: skip


@pytest.mark.parametrize("version", GOOD)
def test_semver_is_accepted(version: str) -> None:
    assert checked_version(version).text == version


@pytest.mark.fault(66)
@pytest.mark.parametrize("version", BAD)
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(PublicationError) as caught:
        checked_version(version)
    assert "\n" not in caught.value.what


def test_timestamped_names_are_accepted_where_they_are_asked_for() -> None:
    assert checked_version("nightly-2030-01-31-120000", timestamped=True).timestamped
    for bad in ("nightly-2030-13-31-120000", "2030-01-31-120000", "a.b-2030-01-31-120000", "-x-2030-01-31-120000"):
        with pytest.raises(PublicationError):
            checked_version(bad, timestamped=True)


def test_versions_are_ordered_as_semver_says() -> None:
    # The example of semver.org, section 11.
    rising = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
              "1.0.0-rc.1", "1.0.0", "v1.0.1", "1.2.0", "v1.10.0"]  # fmt: skip
    assert newest_first(reversed(rising)) == rising[::-1]
    assert newest_first(rising[::2] + rising[1::2]) == rising[::-1]
    assert latest_of(["1.0.0", "2.0.0-rc.1", "nightly-2030-01-31-120000"]) == "1.0.0"
    assert latest_of(["2.0.0-rc.1", "2.0.0-rc.2"]) == "2.0.0-rc.2"
    assert latest_of([]) == ""


def test_lookalikes_share_a_collision() -> None:
    names = [read_version(each) for each in ("v1.0.0+A", "1.0.0+a")]
    assert {each.collision for each in names if each} == {"1.0.0_a"}


def test_the_view_lists_the_newest_first_with_thousands_and_reasons() -> None:
    index = grown("v1.9.0", "v1.10.0", "v1.2.0")
    index = add(index, EventType.REVOKE, "v1.2.0", reason="[click](http://x) <b>")
    page = index_view(index).decode()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## v1.10.0", "## v1.9.0", "## v1.2.0 (revoked: \\[click\\](http://x) \\<b\\>)",
    ]  # fmt: skip
    assert "- Size: 13,023 bytes" in page
    assert "- Artifacts: 1" in page
    assert "- Signed: yes" in page
    assert "- Verification: passed" in page
    assert "- Validation: not done" in page
    assert "Latest: v1.10.0." in page


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"validation": {"passed": True}}, {"validation": {"passed": False}}, {"validation": {}},
        {"verification": {"passed": "true"}}, {"validation": {"inner": {"passed": True}}}, {"targets": ()},
        {"targets": ("a]b", 'c"d', "e\\f")}, {"sbom_id": 'x","signed":true', "signed": False}, {"encrypted": True},
        {"validation": {"passed": False, "why": '"passed":true'}}, {"status": ReleaseStatus.YANKED},
    ],
)  # fmt: skip
def test_the_view_says_the_same_of_a_line_however_it_reads_it(changes: dict[str, Any]) -> None:
    line = index_rows.entry_line(entry("v1.0.0", audit_sha256="0" * 64, **changes))
    assert _read(line) == _parsed(line)


def test_a_release_is_found_by_its_exact_name_alone() -> None:
    index = parse_index(encode_index(grown("v1.0.0", "v11.0.0")))
    found = index.release("v1.0.0")
    assert found == index.releases[0]
    assert index.release("1.0.0") is None
    assert index.release("") is None
    assert index.release('x","version":"v1.0.0') is None


def test_no_bad_line_is_ever_made() -> None:
    with pytest.raises(BadIndex):
        index_rows.entry_line(dataclasses.replace(entry("v1.0.0"), size_bytes=-1))
    assert NOW.tzinfo
