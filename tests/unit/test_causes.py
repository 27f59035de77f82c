"""Why two artifacts differ: each kind of cause from real bytes, with its place."""

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from builders.binaries.facts import Window
from builders.errors import GateFailed
from orchestrator.reproduce.causes import Cause, CauseKind, Hints, containers, explain, walk
from orchestrator.reproduce.causes.values import AXIS_KINDS, MAX_CAUSES, MAX_FILES, MENDS

WORLDS = {
    "build_path": ("/src", "/another/place/for-this-build"),
    "time": ("", "397 days and 313 minutes ahead"),
    "time_zone": ("UTC", "RLB-13:30"),
    "locale": ("C.UTF-8", "C"),
    "umask": ("0022", "0027"),
    "host_name": ("relbuild", "another-host"),
    "user": ("0 (root)", "4217 (rebuilder)"),
    "cpus": ("2", "1"),
    "file_order": ("", "names written last to first"),
    "environment": ("", "HOME=home-of-another RELBUILD_OTHER_WORLD=yes COLUMNS=61"),
}
HOSTS = (b"relbuild\n", b"another-host\n")
IN_WORLDS = Hints(worlds=WORLDS)
BLIND = Hints()


def pair(folder: Path, first: bytes, second: bytes) -> tuple[Path, Path]:
    for name, data in (("first", first), ("second", second)):
        (folder / name).write_bytes(data)
    return folder / "first", folder / "second"


def told(folder: Path, *sides: bytes, hints: Hints = IN_WORLDS) -> tuple[Cause, ...]:
    first, second = sides
    return explain(*pair(folder, first, second), hints)


def kinds(causes: Sequence[Cause]) -> list[CauseKind]:
    return [cause.kind for cause in causes]


# --- texts -------------------------------------------------------------------------------------------------------

TEXTS = [
    ("built 2026-11-21\n", "built 2027-12-23\n", {CauseKind.DATE_STRING}),
    ("built Nov 21 2026 09:11:19\n", "built Dec 23 2027 14:24:20\n", {CauseKind.DATE_STRING}),
    ("at 1795252279\n", "at 1829570059\n", {CauseKind.DATE_STRING}),
    ("Sat, 21 Nov 2026 09:11:19 +0000\n", "Sat, 21 Nov 2026 22:41:19 +1330\n", {CauseKind.TIME_ZONE}),
    ("Sat Nov 21 09:11:19 UTC 2026\n", "Sat Nov 21 22:41:19 RLB 2026\n", {CauseKind.TIME_ZONE}),
    ("Sat Nov 21 09:11:19 UTC 2026\n", "Wed Dec 22 03:54:21 RLB 2027\n",
     {CauseKind.TIME_ZONE, CauseKind.DATE_STRING}),
    ("Sat, 21 Nov 2026 09:11:19 +0000\n", "Sat, 21 Nov 2026 22:41:50 +1330\n",
     {CauseKind.TIME_ZONE, CauseKind.DATE_STRING}),
    ("part 2 of 77\n", "part 1 of 99\n", {CauseKind.UNKNOWN}),
    ("in /src/x.c\n", "in /another/place/for-this-build/src/x.c\n", {CauseKind.PATH}),
    ("in /home/a/x.c\n", "in /home/b/x.c\n", {CauseKind.PATH}),
    ("on relbuild\n", "on another-host\n", {CauseKind.HOST_NAME}),
    ("by root\n", "by rebuilder\n", {CauseKind.USER}),
    ("by uid 0\n", "by uid 4217\n", {CauseKind.USER}),
    ("jobs=2\n", "jobs=1\n", {CauseKind.CPU_COUNT}),
    ("in C.UTF-8\n", "in C\n", {CauseKind.LOCALE}),
    ("mask 0022\n", "mask 0027\n", {CauseKind.UMASK}),
    ("other: \n", "other: home-of-another\n", {CauseKind.ENVIRONMENT}),
    ("gcc version 12.2.0\n", "gcc version 13.1.0\n", {CauseKind.COMPILER_VERSION}),
    ("at 0x55f2a4c01139\n", "at 0x5640b2c01139\n", {CauseKind.ADDRESS}),
    ("a\nb\nc\nd\n", "c\na\nd\nb\n", {CauseKind.ORDER}),
    ("A\nB\na\nb\n", "A\na\nB\nb\n", {CauseKind.LOCALE}),
    ("objects: a.o b.o c.o\n", "objects: c.o a.o b.o\n", {CauseKind.ORDER}),
    ("on relbuild by root at 2026-11-21 09:11\n", "on another-host by rebuilder at 2027-12-23 22:41\n",
     {CauseKind.HOST_NAME, CauseKind.USER, CauseKind.DATE_STRING}),
    ("colour red\n", "colour blue\n", {CauseKind.UNKNOWN}),
    ("x\n", "x", {CauseKind.UNKNOWN}),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "expected"), TEXTS, ids=[first.strip()[:24] for first, _, _ in TEXTS])
def test_a_line_says_what_got_into_it(first: str, second: str, expected: set[CauseKind], tmp_path: Path) -> None:
    lines = "one\ntwo\n"
    causes = told(tmp_path, (lines + first).encode(), (lines + second).encode())
    assert set(kinds(causes)) == expected
    if first.strip() != second:
        assert all(cause.place == "line 3" or CauseKind.ORDER in expected | {cause.kind} or cause.place == "line 4"
                   for cause in causes)  # fmt: skip
    assert all(MENDS[cause.kind] in cause.text for cause in causes)


def test_what_is_explained_does_not_hide_what_is_not(tmp_path: Path) -> None:
    causes = told(tmp_path, b"on relbuild\nred\n", b"on another-host\nblue\n")
    assert [(cause.kind, cause.place) for cause in causes] == [
        (CauseKind.HOST_NAME, "line 1"), (CauseKind.UNKNOWN, "line 2"),
    ]  # fmt: skip


def test_both_values_are_shown_and_no_control_character(tmp_path: Path) -> None:
    (cause,) = told(tmp_path, b"colour \x1b[31m'red'\n" * 2, b"colour \x1b[32m'green'\n" * 2, hints=BLIND)
    assert "[31m" in cause.text
    assert "[32m" in cause.text
    assert cause.text.isprintable()


@pytest.mark.parametrize("axis", sorted(AXIS_KINDS))
def test_the_guilty_axis_settles_what_bytes_do_not_tell(axis: str, tmp_path: Path) -> None:
    causes = told(tmp_path, b"digest 8f14e45f\n", b"digest c9f0f895\n", hints=Hints(worlds=WORLDS, guilty_axes=(axis,)))
    assert kinds(causes) == [AXIS_KINDS[axis]]


def test_a_guilty_axis_whose_cause_is_found_settles_nothing_else(tmp_path: Path) -> None:
    hints = Hints(worlds=WORLDS, guilty_axes=("none", "host_name"))
    causes = told(tmp_path, b"on relbuild\nred\n", b"on another-host\nblue\n", hints=hints)
    assert kinds(causes) == [CauseKind.HOST_NAME, CauseKind.ADDRESS]


def test_no_guilty_umask_makes_another_order(tmp_path: Path) -> None:
    first, second = b"a\nb\nc\nd\n", b"c\na\nd\nb\n"
    for axis, kind in (("umask", CauseKind.ORDER), ("none", CauseKind.ORDER), ("locale", CauseKind.LOCALE)):
        assert kinds(told(tmp_path, first, second, hints=Hints(guilty_axes=(axis,)))) == [kind]


def test_a_day_alone_is_a_matter_of_the_guilty_axis(tmp_path: Path) -> None:
    first, second = b"day 2026-11-21\n", b"day 2026-11-22\n"
    assert kinds(told(tmp_path, first, second)) == [CauseKind.DATE_STRING]
    assert kinds(told(tmp_path, first, second, hints=Hints(guilty_axes=("time_zone",)))) == [CauseKind.TIME_ZONE]


def test_equal_artifacts_have_no_cause(tmp_path: Path) -> None:
    assert told(tmp_path, b"x" * 100, b"x" * 100) == ()


# --- archives ----------------------------------------------------------------------------------------------------


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tar(*files: tuple[tarfile.TarInfo, bytes]) -> bytes:
    to = io.BytesIO()
    with tarfile.open(fileobj=to, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in files:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return to.getvalue()


def tar_gz(*files: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return gzip.compress(tar(*files), mtime=0)


TAR_PAIRS = [
    ("mtime", {"mtime": 1}, {"mtime": 2}, CauseKind.MTIME, "1 in the first, 2 in the second"),
    ("umask of a file", {"mode": 0o644}, {"mode": 0o640}, CauseKind.UMASK, "0644 in the first, 0640 in the second"),
    ("umask of a program", {"mode": 0o755}, {"mode": 0o750}, CauseKind.UMASK, "0755"),
    ("mode", {"mode": 0o644}, {"mode": 0o755}, CauseKind.ARCHIVE_METADATA, "0755 in the second"),
    ("owner of the worlds", {"uid": 0}, {"uid": 4217}, CauseKind.USER, "4217"),
    ("owner by name", {"uname": "root"}, {"uname": "rebuilder"}, CauseKind.USER, "rebuilder"),
    ("owner", {"uid": 1000}, {"uid": 1001}, CauseKind.ARCHIVE_METADATA, "1001"),
    ("group", {"gid": 1}, {"gid": 2}, CauseKind.ARCHIVE_METADATA, "group"),
    ("pax time", {"pax_headers": {"mtime": "1.5"}}, {"pax_headers": {"mtime": "1.7"}}, CauseKind.MTIME, "1.7"),
    ("pax record", {"pax_headers": {"SCHILY.x": "a"}}, {"pax_headers": {"SCHILY.x": "b"}},
     CauseKind.ARCHIVE_METADATA, "SCHILY"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "kind", "text"), [((row[1], row[2]), *row[3:]) for row in TAR_PAIRS],
                         ids=[row[0] for row in TAR_PAIRS])  # fmt: skip
@pytest.mark.parametrize("pack", [tar, tar_gz], ids=["tar", "tar.gz"])
def test_a_tar_says_which_metadata_differ(
    pack: Callable[..., bytes], fields: Sequence[Mapping[str, object]], kind: CauseKind, text: str, tmp_path: Path
) -> None:
    sides = [pack((member("x/a"), b""), (member("x/b", **side), b"b"), (member("x/c", **side), b"c"))
             for side in fields]  # fmt: skip
    (cause,) = told(tmp_path, *sides)
    assert (cause.kind, cause.place) == (kind, "x/b")
    assert text in cause.text
    assert "and so of 1 more" in cause.text


def test_an_umask_is_told_without_worlds_where_only_others_lose_rights(tmp_path: Path) -> None:
    sides = [tar((member("a", mode=mode), b"")) for mode in (0o644, 0o600)]
    assert kinds(told(tmp_path, *sides, hints=BLIND)) == [CauseKind.UMASK]


def test_another_order_of_members_is_told_with_the_first_that_moved(tmp_path: Path) -> None:
    names = ["a", "d", "b", "c"]
    sides = [tar_gz(*((member(name), name.encode()) for name in order)) for order in (names, ["a", "c", "b", "d"])]
    (cause,) = told(tmp_path, *sides)
    assert cause.kind is CauseKind.ORDER
    assert "number 2 is 'd' in the first, 'c' in the second" in cause.text


def test_a_dictionary_s_order_of_members_is_the_locale_s(tmp_path: Path) -> None:
    sides = [tar(*((member(name), b"") for name in order)) for order in (["A", "B", "a", "b"], ["A", "a", "B", "b"])]
    assert kinds(told(tmp_path, *sides, hints=BLIND)) == [CauseKind.LOCALE]


def test_members_are_looked_into_through_archives_in_archives(tmp_path: Path) -> None:
    sides = []
    for host in (b"relbuild", b"another-host"):
        inner = gzip.compress(b"manual\nmade on " + host + b"\n", mtime=0)
        sides.append(tar_gz((member("p/readme"), b"same"), (member("p/x.tar"), tar((member("man/x.1.gz"), inner)))))
    (cause,) = told(tmp_path, *sides)
    assert (cause.kind, cause.place) == (CauseKind.HOST_NAME, "p/x.tar > man/x.1.gz > unpacked > line 2")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
def test_every_compressed_tar_is_looked_into(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    noise = random.Random(7).randbytes(3 << 20)
    sides = [compress(tar((member("noise"), noise), (member("a"), b"on " + host))) for host in HOSTS]
    found = {(cause.kind, cause.place) for cause in told(tmp_path, *sides)}
    assert found - {(CauseKind.MTIME, "gzip header")} == {(CauseKind.HOST_NAME, "a > line 1")}


def test_a_time_in_a_windows_program_is_named(tmp_path: Path) -> None:
    head = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + bytes(4)
    sides = [head + stamp.to_bytes(4, "little") + bytes(200) for stamp in (1795252279, 1795252290)]
    (cause,) = told(tmp_path, *sides)
    assert (cause.kind, cause.place) == (CauseKind.MTIME, "COFF header+0x48")
    assert "--no-insert-timestamp" in cause.text


def test_a_name_in_one_archive_only_is_told(tmp_path: Path) -> None:
    sides = [tar((member("a"), b"")), tar((member("a"), b""), (member("b"), b""))]
    (cause,) = told(tmp_path, *sides, hints=BLIND)
    assert cause.kind is CauseKind.MISSING
    assert "in the second only: 'b'" in cause.text


def test_a_name_that_holds_a_date_is_a_date(tmp_path: Path) -> None:
    sides = [tar((member(f"x-{day}.txt"), b"")) for day in ("20261121", "20271223")]
    assert kinds(told(tmp_path, *sides)) == [CauseKind.DATE_STRING]


def test_one_name_twice_is_two_members(tmp_path: Path) -> None:
    sides = [tar((member("a"), b"1\n"), (member("a"), word)) for word in (b"on relbuild\n", b"on another-host\n")]
    assert kinds(told(tmp_path, *sides)) == [CauseKind.HOST_NAME]


def test_links_that_lead_elsewhere_differ(tmp_path: Path) -> None:
    sides = [tar((member("a", type=tarfile.SYMTYPE, linkname=to), b"")) for to in ("/src/x", "/another/place/x")]
    (cause,) = told(tmp_path, *sides, hints=BLIND)
    assert (cause.kind, cause.place) == (CauseKind.PATH, "a")


def test_gzip_s_own_header_is_told_field_by_field(tmp_path: Path) -> None:
    def packed(name: str, mtime: int) -> bytes:
        to = io.BytesIO()
        with gzip.GzipFile(name, "wb", fileobj=to, mtime=mtime) as file:
            file.write(b"the same text\n")
        return to.getvalue()

    causes = told(tmp_path, packed("tmp.1", 1795252279), packed("tmp.2", 1795252290))
    assert [(cause.kind, cause.place) for cause in causes] == [
        (CauseKind.MTIME, "gzip header"), (CauseKind.ARCHIVE_METADATA, "gzip header"),
    ]  # fmt: skip
    assert "'tmp.1' in the first, 'tmp.2' in the second" in causes[1].text
    assert "gzip -n" in causes[0].text


def test_another_level_of_compression_is_no_other_content(tmp_path: Path) -> None:
    data = bytes(range(256)) * 400 + os.urandom(100)
    sides = [gzip.compress(data, compresslevel=level, mtime=0) for level in (1, 6)]
    assert set(kinds(told(tmp_path, *sides))) == {CauseKind.COMPRESSION}


def wheel(stamp: tuple[int, int, int, int, int, int], text: str = "x", mode: int = 0o644) -> bytes:
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        info = zipfile.ZipInfo("pkg/x.py", date_time=stamp)
        info.create_system, info.external_attr = 3, (0o100000 | mode) << 16
        archive.writestr(info, text)
    return to.getvalue()


def test_a_zip_is_compared_like_a_tar(tmp_path: Path) -> None:
    when = (2026, 11, 21, 9, 11, 18)
    assert kinds(told(tmp_path, wheel(when), wheel((2027, 12, 23, 1, 2, 4)))) == [CauseKind.MTIME]
    assert kinds(told(tmp_path, wheel(when), wheel(when, mode=0o640))) == [CauseKind.UMASK]
    (cause,) = told(tmp_path, wheel(when, "on relbuild"), wheel(when, "on another-host"))
    assert (cause.kind, cause.place) == (CauseKind.HOST_NAME, "pkg/x.py > line 1")


def test_folders_are_compared_by_name_right_to_execute_and_content(tmp_path: Path) -> None:
    for side, word in (("a", "relbuild"), ("b", "another-host")):
        (tmp_path / side / "doc").mkdir(parents=True)
        (tmp_path / side / "doc" / "x").write_text(f"on {word}\n")
        (tmp_path / side / "run").write_text("x")
        (tmp_path / side / "run").chmod(0o755 if side == "a" else 0o644)
    causes = explain(tmp_path / "a", tmp_path / "b", IN_WORLDS)
    assert [(cause.kind, cause.place) for cause in causes] == [
        (CauseKind.ARCHIVE_METADATA, "run"), (CauseKind.HOST_NAME, "doc/x > line 1"),
    ]  # fmt: skip


def test_a_time_in_byte_compiled_python_is_named(tmp_path: Path) -> None:
    head = b"\xa7\r\r\n" + bytes(4)
    sides = [head + stamp.to_bytes(4, "little") + bytes(20) for stamp in (1795252279, 1795252290)]
    (cause,) = told(tmp_path, *sides)
    assert cause.kind is CauseKind.MTIME
    assert "checked-hash" in cause.text


def test_a_binary_time_stamp_is_found_where_no_form_is_known(tmp_path: Path) -> None:
    sides = [bytes(64) + stamp.to_bytes(4, "little") + bytes(64) for stamp in (1795252279, 1829570059)]
    (cause,) = told(tmp_path, *sides)
    assert (cause.kind, cause.place) == (CauseKind.DATE_STRING, "offset 0x40")


# --- bounds ------------------------------------------------------------------------------------------------------


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    for other in ("pipe", "nothing"):
        with pytest.raises(GateFailed):
            explain(tmp_path / "file", tmp_path / other, BLIND)


def test_memory_stays_flat_over_large_files(tmp_path: Path) -> None:
    first, second = pair(tmp_path, b"", b"")
    for path, word in ((first, b"on relbuild"), (second, b"on another-host"[:11])):
        with path.open("wb") as file:
            file.truncate(192 << 20)
            file.seek(150 << 20)
            file.write(word)
    tracemalloc.start()
    causes = explain(first, second, Hints(worlds={"host_name": ("relbuild", "another-")}))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kinds(causes) == [CauseKind.HOST_NAME]
    assert peak < 16 << 20


def test_memory_stays_flat_over_a_long_text_in_another_order(tmp_path: Path) -> None:
    lines = [b"line %d of a long text %s" % (number, b"." * 400) for number in range(60_000)]
    first = b"\n".join(lines)
    random.Random(1).shuffle(lines)
    first_path, second_path = pair(tmp_path, first, b"\n".join(lines))
    del first, lines
    tracemalloc.start()
    causes = explain(first_path, second_path, BLIND)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kinds(causes) == [CauseKind.ORDER]
    assert peak < 16 << 20


def test_a_bomb_is_not_unpacked_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MAX_UNPACKED_BYTES", 8 << 20)
    read = 0
    plain = containers._gunzipped

    def counted(window: Window) -> Iterator[bytes]:
        nonlocal read
        for chunk in plain(window):
            read += len(chunk)
            yield chunk

    monkeypatch.setitem(containers._DECOMPRESSORS, "gzip", counted)
    sides = [tar_gz((member("a"), bytes(64 << 20)), (member("b"), end)) for end in (b"1", b"2")]
    causes = told(tmp_path, *sides)
    assert kinds(causes) == [CauseKind.UNKNOWN]
    assert 0 < read < 32 << 20


def test_no_more_causes_are_told_than_anybody_reads(tmp_path: Path) -> None:
    sides = [tar(*((member(f"file-{number:03}"), f"{word} {number}\n".encode()) for number in range(200)))
             for word in ("red", "blue")]  # fmt: skip
    causes = told(tmp_path, *sides)
    assert 0 < len(causes) <= MAX_CAUSES
    assert f"{200 - MAX_FILES} more of its files differ" in causes[-1].text


def test_what_lies_beyond_the_copied_bytes_is_not_called_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "_COPIED_BYTES", 1000)
    sides = [tar_gz((member("a"), bytes(2000) + end)) for end in (b"1", b"2")]
    (cause,) = told(tmp_path, *sides)
    assert (cause.kind, cause.place) == (CauseKind.UNKNOWN, "a")
    assert "after its first 1000 bytes" in cause.text
