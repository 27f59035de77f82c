"""Deterministic archives and canonical JSON, read back by the tools that people use."""

import gzip
import hashlib
import os
import subprocess
import tarfile
import tracemalloc
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from orchestrator.archive import ArchiveWriter, Member, write_plain, write_tar_gz, write_zip
from orchestrator.canonical import canonical_json
from orchestrator.errors import StagingError

EPOCH = 1_700_000_000
BOTH = pytest.mark.parametrize("write", [write_tar_gz, write_zip])


@pytest.fixture
def members(tmp_path: Path) -> tuple[Member, ...]:
    program = tmp_path / "hello"
    program.write_bytes(os.urandom(3_000_000))
    program.chmod(0o700)
    return (
        Member(name=PurePosixPath("lib/ü.so"), content=b"library"),
        Member(name=PurePosixPath("bin/hello"), content=program, executable=True),
        Member(name=PurePosixPath("README"), content=b""),
        Member(name=PurePosixPath("share/" + "long" * 30), content=b"x"),
    )


@BOTH
def test_the_same_members_give_the_same_bytes(
    tmp_path: Path, members: tuple[Member, ...], write: ArchiveWriter
) -> None:
    first = write(tmp_path / "one", "hello-1.0", members, EPOCH)
    os.utime(tmp_path / "hello", (1, 1))
    before = os.umask(0o077)
    try:
        second = write(tmp_path / "two", "hello-1.0", members[::-1], EPOCH)
    finally:
        os.umask(before)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert first == second
    assert (tmp_path / "two").stat().st_mode & 0o777 == 0o644
    data = (tmp_path / "one").read_bytes()
    assert first.digests.sha256 == hashlib.sha256(data).hexdigest()
    assert first.digests.sha512 == hashlib.sha512(data).hexdigest()
    assert first.digests.size_bytes == len(data)


@BOTH
def test_another_epoch_gives_other_bytes(tmp_path: Path, members: tuple[Member, ...], write: ArchiveWriter) -> None:
    first = write(tmp_path / "one", "hello-1.0", members, EPOCH)
    assert first.digests != write(tmp_path / "two", "hello-1.0", members, EPOCH + 2).digests


@BOTH
def test_the_files_inside_are_named_with_their_digests(
    tmp_path: Path, members: tuple[Member, ...], write: ArchiveWriter
) -> None:
    packed = write(tmp_path / "one", "hello-1.0", members, EPOCH)
    assert [str(file.name) for file in packed.files] == ["README", "bin/hello", "lib/ü.so", str(members[3].name)]
    program = packed.files[1]
    assert program.executable
    assert program.size_bytes == 3_000_000
    assert program.sha256 == hashlib.sha256((tmp_path / "hello").read_bytes()).hexdigest()


def test_real_tar_lists_root_owner_fixed_modes_and_one_folder(tmp_path: Path, members: tuple[Member, ...]) -> None:
    write_tar_gz(tmp_path / "a.tar.gz", "hello-1.0", members, EPOCH)
    environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    listing = subprocess.run(("tar", "tvzf", tmp_path / "a.tar.gz", "--numeric-owner"), check=True,
                             capture_output=True, text=True, env=environment).stdout.splitlines()  # fmt: skip
    assert {(line.split()[0], line.split()[1]) for line in listing} == {
        ("drwxr-xr-x", "0/0"), ("-rwxr-xr-x", "0/0"), ("-rw-r--r--", "0/0"),
    }  # fmt: skip
    assert {tuple(line.split()[3:5]) for line in listing} == {("2023-11-14", "22:13")}
    names = [line.split(maxsplit=5)[5] for line in listing]
    assert names[0] == "hello-1.0/"
    assert all(name.startswith("hello-1.0/") for name in names)
    assert names == sorted(names)
    subprocess.run(("tar", "xzf", tmp_path / "a.tar.gz", "-C", tmp_path), check=True)
    assert (tmp_path / "hello-1.0/bin/hello").read_bytes() == (tmp_path / "hello").read_bytes()


def test_the_gzip_header_has_neither_name_nor_time(tmp_path: Path, members: tuple[Member, ...]) -> None:
    write_tar_gz(tmp_path / "a.tar.gz", "hello-1.0", members, EPOCH)
    with (tmp_path / "a.tar.gz").open("rb") as file:
        assert file.read(8) == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
    assert gzip.decompress((tmp_path / "a.tar.gz").read_bytes())[-1024:] == bytes(1024)


def test_a_zip_is_whole_for_real_readers(tmp_path: Path, members: tuple[Member, ...]) -> None:
    write_zip(tmp_path / "a.zip", "hello-1.0", members, EPOCH)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        infos = {info.filename: info for info in archive.infolist()}
        assert list(infos) == sorted(infos, key=str.encode)
        assert {info.date_time for info in infos.values()} == {(2023, 11, 14, 22, 13, 20)}
        assert {info.flag_bits & 8 for info in infos.values()} == {0}
        assert infos["hello-1.0/bin/hello"].external_attr >> 16 == 0o100755
        assert infos["hello-1.0/README"].external_attr >> 16 == 0o100644
        assert archive.read("hello-1.0/bin/hello") == (tmp_path / "hello").read_bytes()


@pytest.mark.parametrize(("epoch", "year"), [(0, 1980), (-5, 1980), (1 << 40, 2107)])
def test_a_zip_clamps_times_that_it_cannot_say(tmp_path: Path, epoch: int, year: int) -> None:
    write_zip(tmp_path / "a.zip", "x", (Member(name=PurePosixPath("a"), content=b"x"),), epoch)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.infolist()[0].date_time[0] == year


@BOTH
def test_a_file_with_other_bytes_than_promised_is_refused(tmp_path: Path, write: ArchiveWriter) -> None:
    (tmp_path / "hello").write_bytes(b"one")
    promised = hashlib.sha256(b"two").hexdigest()
    member = Member(name=PurePosixPath("hello"), content=tmp_path / "hello", sha256=promised)
    with pytest.raises(StagingError, match="'hello' has other bytes") as caught:
        write(tmp_path / "a", "x", (member,), EPOCH)
    assert caught.value.exit_code == 27


@BOTH
@pytest.mark.parametrize(("one", "other"), [("Read", "READ"), ("\u00e9", "e\u0301"), ("a", "a")])
def test_names_that_collide_are_refused(tmp_path: Path, write: ArchiveWriter, one: str, other: str) -> None:
    members = (Member(name=PurePosixPath(one), content=b"1"), Member(name=PurePosixPath(other), content=b"2"))
    with pytest.raises(StagingError, match="one name on some file systems"):
        write(tmp_path / "a", "x", members, EPOCH)


@BOTH
def test_a_member_that_is_no_plain_file_is_refused_without_waiting(tmp_path: Path, write: ArchiveWriter) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    for number, name in enumerate(("pipe", "link", "nothing")):
        with pytest.raises(StagingError, match=f"'{name}' (is not a plain file|cannot be read)"):
            write(tmp_path / f"{number}", "x", (Member(name=PurePosixPath(name), content=tmp_path / name),), EPOCH)


@BOTH
def test_memory_stays_flat(tmp_path: Path, write: ArchiveWriter) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(100 << 20)
    tracemalloc.start()
    try:
        write(tmp_path / "a", "x", (Member(name=PurePosixPath("big"), content=tmp_path / "big"),), EPOCH)
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


def test_a_plain_file_is_copied_and_hashed(tmp_path: Path) -> None:
    packed = write_plain(tmp_path / "a", Member(name=PurePosixPath("x"), content=b"data", executable=True))
    assert packed.digests.sha256 == hashlib.sha256(b"data").hexdigest()
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755


def test_python_reads_the_tar_as_pax(tmp_path: Path, members: tuple[Member, ...]) -> None:
    write_tar_gz(tmp_path / "a.tar.gz", "hello-1.0", members, EPOCH)
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        assert {(member.uname, member.gname, member.mtime) for member in archive} == {("", "", EPOCH)}


# --- canonical JSON ----------------------------------------------------------------------------------------------


def test_canonical_json_sorts_keys_keeps_unicode_and_ends_in_a_newline() -> None:
    one = canonical_json({"b": [1, None, True], "a": {"ü": "ß\n"}})
    assert one == canonical_json({"a": {"ü": "ß\n"}, "b": [1, None, True]})
    assert one == '{\n  "a": {\n    "ü": "ß\\n"\n  },\n  "b": [\n    1,\n    null,\n    true\n  ]\n}\n'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_canonical_json_refuses_what_json_cannot_say(value: float | str) -> None:
    with pytest.raises(ValueError, match=r"JSON|surrogates"):
        canonical_json({"x": value})
