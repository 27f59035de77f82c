"""Archives from strangers: whatever they hold, nothing lands outside the folder, and memory and time stay bounded."""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builders.errors import SourceUnavailable
from builders.sources.unpack import UnpackLimits, sole_folder, unpack

ROOT = Path(__file__).parents[2]


def entry(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def tar_of(*entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        for one in entries:
            info, data = one if isinstance(one, tuple) else (one, b"")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


@pytest.fixture
def unpacked(tmp_path: Path) -> Callable[..., Path]:
    """Unpack bytes into jail/out, and see that nothing else came to be."""
    jail = tmp_path / "jail"
    jail.mkdir()

    def run(data: bytes, limits: UnpackLimits | None = None) -> Path:
        (tmp_path / "archive").write_bytes(data)
        try:
            unpack(tmp_path / "archive", jail / "out", limits=limits or UnpackLimits())
        finally:
            assert {path.name for path in tmp_path.iterdir()} == {"jail", "archive"}
            assert {path.name for path in jail.iterdir()} <= {"out"}
        return jail / "out"

    return run


Unpack = Callable[..., Path]


@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress, lzma.compress, bz2.compress])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_an_honest_archive_comes_out(unpacked: Unpack, compress: Callable[[bytes], bytes], form: int) -> None:
    long = "d" * 90 + "/" + "f" * 90
    out = unpacked(compress(tar_of(
        entry("./", tarfile.DIRTYPE), entry("./top", tarfile.DIRTYPE), (entry("./top/run", mode=0o755), b"#!"),
        (entry(long), b"long"), entry("top/link", tarfile.SYMTYPE, link="run"),
        entry("top/hard", tarfile.LNKTYPE, link="./top/run"), form=form,
    )))  # fmt: skip
    assert (out / long).read_bytes() == b"long"
    assert (out / "top/link").readlink() == Path("run")
    assert (out / "top/hard").read_bytes() == b"#!"
    assert (out / "top/hard").stat().st_nlink == 1
    assert stat.S_IMODE((out / "top/run").stat().st_mode) == stat.S_IMODE((out / "top/hard").stat().st_mode) == 0o755
    assert sole_folder(out) == out


def test_several_streams_in_one_file_come_out(unpacked: Unpack) -> None:
    data = tar_of((entry("a"), os.urandom(5000)))
    out = unpacked(lzma.compress(data[:2000]) + lzma.compress(data[2000:]) + bytes(8))
    assert (out / "a").stat().st_size == 5000


def test_what_real_tar_packs_comes_out(unpacked: Unpack, tmp_path: Path) -> None:
    inside = tmp_path / "jail/.source"
    (inside / "ü").mkdir(parents=True)
    (inside / "ü" / ("x" * 200)).write_text("x")
    packed = subprocess.run(("tar", "cz", "-C", inside, "."), check=True, capture_output=True).stdout
    subprocess.run(("rm", "-r", inside), check=True)
    assert (unpacked(packed) / "ü" / ("x" * 200)).read_text() == "x"


EVIL_TARS: dict[str, tuple[list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]], str]] = {
    "parent": ([entry("../evil")], r"'\.\./evil' leads out"),
    "inner parent": ([entry("a/../../evil")], "leads out"),
    "absolute": ([entry("/tmp/evil")], "leads out"),
    "empty segment": ([entry("a//b")], "leads out"),
    "newline": ([entry("evil\nname")], r"'evil\\nname'"),
    "escape": ([entry("evil\x1b[2J")], r"'evil\\x1b\[2J'"),
    "not UTF-8": ([entry("evil\udcff")], r"'evil\\xff'"),
    "long segment": ([entry("x" * 256)], "too long"),
    "deep": ([entry("a/" * 65 + "b")], "too deep"),
    "absolute link": ([entry("l", tarfile.SYMTYPE, link="/etc/passwd")], "'l' is a link to '/etc/passwd'"),
    "leaving link": ([entry("a/l", tarfile.SYMTYPE, link="../../x")], "leaves the archive"),
    "link chain": (
        [entry("d", tarfile.DIRTYPE), entry("d/top", tarfile.SYMTYPE, link=".."),
         entry("l", tarfile.SYMTYPE, link="d/top/../../jail")],
        "leaves the archive",
    ),
    "link without text": ([entry("l", tarfile.SYMTYPE, link="")], "leaves the archive"),
    "file through link": (
        [entry("l", tarfile.SYMTYPE, link="."), (entry("l/evil"), b"x")], r"'l/evil' lies below 'l'"),
    "link over folder": ([(entry("d/a"), b"x"), entry("d", tarfile.SYMTYPE, link=".")], "'d' comes twice"),
    "hard link outside": ([entry("h", tarfile.LNKTYPE, link="/etc/passwd")], "leads out"),
    "hard link to nothing": ([entry("h", tarfile.LNKTYPE, link="later"), (entry("later"), b"")], "no file before it"),
    "hard link to link": (
        [entry("l", tarfile.SYMTYPE, link="x"), entry("h", tarfile.LNKTYPE, link="l")], "no file before it"),
    "twice": ([(entry("a"), b"1"), (entry("a"), b"2")], "'a' comes twice"),
    "twice by dot": ([(entry("a"), b"1"), (entry("./a"), b"2")], "comes twice"),
    "character device": ([entry("dev", tarfile.CHRTYPE)], "'dev' is a character device"),
    "block device": ([entry("dev", tarfile.BLKTYPE)], "'dev' is a block device"),
    "FIFO": ([entry("pipe", tarfile.FIFOTYPE)], "'pipe' is a FIFO"),
    "unknown": ([entry("odd", b"Z")], "unknown kind"),
}  # fmt: skip


@pytest.mark.fault(69)
@pytest.mark.parametrize("case", EVIL_TARS)
def test_an_evil_tar_is_refused(unpacked: Unpack, case: str) -> None:
    entries, message = EVIL_TARS[case]
    with pytest.raises(SourceUnavailable, match=message) as caught:
        unpacked(tar_of(*entries))
    assert caught.value.exit_code == 18


@pytest.mark.fault(69)
def test_a_ring_of_links_is_harmless(unpacked: Unpack) -> None:
    ring = tar_of(entry("a", tarfile.SYMTYPE, link="b"), entry("b", tarfile.SYMTYPE, link="a"))
    assert (unpacked(ring) / "a").is_symlink()


@pytest.mark.fault(69)
def test_limits_on_number_bytes_and_ratio(unpacked: Unpack) -> None:
    many = tar_of(*(entry(f"f{n}") for n in range(20)))
    with pytest.raises(SourceUnavailable, match="more than 10 entries"):
        unpacked(many, UnpackLimits(entries=10))


def test_more_bytes_than_allowed_are_refused(unpacked: Unpack) -> None:
    with pytest.raises(SourceUnavailable, match="more than 1000 bytes"):
        unpacked(tar_of((entry("a"), bytes(600)), (entry("b"), bytes(600))), UnpackLimits(total_bytes=1000))


@pytest.mark.fault(69)
def test_hard_links_cannot_multiply_bytes(unpacked: Unpack) -> None:
    links = [entry(f"h{n}", tarfile.LNKTYPE, link="a") for n in range(50)]
    with pytest.raises(SourceUnavailable, match="unpacks to more than"):
        unpacked(tar_of((entry("a"), bytes(1000)), *links), UnpackLimits(total_bytes=20_000))


@pytest.mark.fault(69)
def test_a_bomb_is_refused_by_its_ratio(unpacked: Unpack) -> None:
    bomb = gzip.compress(tar_of((entry("zeros"), bytes(8 << 20))))
    with pytest.raises(SourceUnavailable, match="unpacks to more than"):
        unpacked(bomb, UnpackLimits(ratio=100, free_bytes=1 << 20))


@pytest.mark.parametrize("cut", [100, 700, 1500])
def test_an_archive_that_is_cut_short_is_refused(unpacked: Unpack, cut: int) -> None:
    whole = tar_of((entry("a"), bytes(600)))
    with pytest.raises(SourceUnavailable, match="archive"):
        unpacked(whole[:cut])


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bz2.compress])
def test_a_compressed_stream_that_is_cut_or_broken_is_refused(
    unpacked: Unpack, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    data = compress(tar_of((entry("a"), os.urandom(100_000))))
    with pytest.raises(SourceUnavailable):
        unpacked(data[:-200])
    (tmp_path / "jail/out").rename(tmp_path / "jail/old")
    subprocess.run(("rm", "-r", tmp_path / "jail/old"), check=True)
    broken = bytearray(data)
    broken[len(data) // 2] ^= 0xFF
    with pytest.raises(SourceUnavailable):
        unpacked(bytes(broken))


def raw_header(name: bytes, kind: bytes, size: int) -> bytes:
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    header[0:100] = name.ljust(100, b"\0")
    header[124:136] = b"%011o\0" % size
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.fault(69)
@pytest.mark.parametrize(("header", "body", "message"), [
    (raw_header(b"x", b"x", 1 << 31), b"", "extended header"),
    (raw_header(b"x", b"L", 1 << 31), b"", "extended header"),
    (raw_header(b"x", b"x", 5), b"99 a=", "pax record"),
    (raw_header(b"x", b"x", 20), b"20 size=12345678901\n", "ends in the middle"),
    (raw_header(b"x", b"x", 24), b"24 GNU.sparse.realsize=\n", "sparse"),
    (raw_header(b"x", b"g", 15), b"15 path=global\n", "global header"),
    (raw_header(b"x", b"0", 5)[:-20] + b"x" * 20, b"", "header is broken"),
])  # fmt: skip
def test_a_broken_or_greedy_header_is_refused(unpacked: Unpack, header: bytes, body: bytes, message: str) -> None:
    padded = body.ljust(512, b"\0") if body else b""
    with pytest.raises(SourceUnavailable, match=message):
        unpacked(header + padded + raw_header(b"f", b"0", 0) + bytes(1024 if "middle" not in message else 0))


@pytest.mark.parametrize(("data", "message"), [
    (b"", "neither tar"), (b"hello", "neither tar"), (b"\x28\xb5\x2f\xfdxxxx", "zstd"), (b"PK\x03\x04", "end record"),
])  # fmt: skip
def test_what_is_no_archive_is_refused(unpacked: Unpack, data: bytes, message: str) -> None:
    with pytest.raises(SourceUnavailable, match=message):
        unpacked(data)


@pytest.mark.fault(69, 88)
def test_memory_stays_bounded_whatever_the_archive_asks_for(tmp_path: Path) -> None:
    xz = lzma.compress(tar_of((entry("a"), b"x")), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    many = tar_of(*(entry(f"d/f{n}") for n in range(3000)), (entry("big"), bytes(100 << 20)))
    program = (
        "import resource, sys, pathlib; resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))\n"
        "from builders.sources.unpack import unpack\nfrom builders.errors import SourceUnavailable\n"
        "try: unpack(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
        "except SourceUnavailable as error: sys.exit(str(error.exit_code) + str(error))\n"
    )
    for name, data, expected in (("xz", xz, "18"), ("many", many, "")):
        (tmp_path / name).write_bytes(data)
        argv = (sys.executable, "-c", program, tmp_path / name, tmp_path / f"{name}.out")
        done = subprocess.run(argv, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.stderr.startswith(expected), done.stderr
        assert "Traceback" not in done.stderr


# --- zip ---------------------------------------------------------------------------------------------------------


def zip_of(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for info, data in entries:
            archive.writestr(info, data)
    return packed.getvalue()


def unix(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def test_an_honest_zip_comes_out(unpacked: Unpack) -> None:
    out = unpacked(zip_of(
        ("top/", b""), (unix("top/run", 0o100755), b"#!"), ("top/ü.txt", b"x" * 9000),
        (unix("top/link", 0o120777), b"run"),
    ))  # fmt: skip
    assert (out / "top/ü.txt").stat().st_size == 9000
    assert (out / "top/run").stat().st_mode & 0o777 == 0o755
    assert (out / "top/link").readlink() == Path("run")
    assert sole_folder(out) == out / "top"


EVIL_ZIPS: dict[str, tuple[list[tuple[str | zipfile.ZipInfo, bytes]], str]] = {
    "parent": ([("../evil", b"x")], "leads out"),
    "absolute": ([("/evil", b"x")], "leads out"),
    "backslash": ([("..\\evil", b"x")], "backslash"),
    "link out": ([(unix("l", 0o120777), b"/etc/passwd")], "leaves the archive"),
    "long link": ([(unix("l", 0o120777), b"x" * 5000)], "link of 5000 bytes"),
    "through link": ([(unix("l", 0o120777), b"."), ("l/evil", b"x")], "lies below 'l'"),
    "device": ([(unix("d", stat.S_IFCHR | 0o666), b"")], "'d' is of an unknown kind"),
    "case-blind twice": ([("a", b"1"), ("./a", b"2")], "comes twice"),
}


@pytest.mark.fault(70)
@pytest.mark.parametrize("case", EVIL_ZIPS)
def test_an_evil_zip_is_refused(unpacked: Unpack, case: str) -> None:
    entries, message = EVIL_ZIPS[case]
    with pytest.raises(SourceUnavailable, match=message):
        unpacked(zip_of(*entries))


def patched(data: bytes, magic: bytes, offset: int, value: bytes, *, which: int = 0) -> bytes:
    at = -1
    for _ in range(which + 1):
        at = data.index(magic, at + 1)
    return data[: at + offset] + value + data[at + offset + len(value) :]


CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"
TWO = zip_of(("a", b"A" * 50), ("b", b"B" * 50), method=zipfile.ZIP_STORED)


@pytest.mark.fault(70)
@pytest.mark.parametrize(("data", "message"), [
    (patched(TWO, CENTRAL, 42, struct.pack("<L", 0), which=1), "overlaps|different"),
    (patched(patched(TWO, CENTRAL, 20, struct.pack("<L", 5000)), LOCAL, 18, struct.pack("<L", 5000)), "overlaps"),
    (patched(TWO, CENTRAL, 24, struct.pack("<L", 10)), "other sizes"),
    (patched(patched(TWO, CENTRAL, 24, struct.pack("<L", 10)), LOCAL, 22, struct.pack("<L", 10)), "broken|bytes"),
    (patched(patched(TWO, CENTRAL, 24, struct.pack("<L", 90)), LOCAL, 22, struct.pack("<L", 90)), "broken|bytes|mid"),
    (patched(TWO, LOCAL, 30 + 1, b"X"), "broken"),
    (patched(TWO, CENTRAL, 8, b"\x01\x00"), "encrypted"),
    (patched(TWO, CENTRAL, 10, b"\x63\x00"), "other than deflate|not implemented"),
    (patched(TWO, END, 8, b"\x01\x00\x01\x00"), "lists 2 entries"),
    (patched(TWO, END, 10, b"\xff\xff"), "zip64"),
    (patched(TWO, END, 12, struct.pack("<L", 1 << 30)), "directory"),
    (TWO + b"trailing", "inconsistent"),
    (b"PK\x03\x04prefix" + TWO, "directory"),
])  # fmt: skip
def test_an_inconsistent_zip_is_refused(unpacked: Unpack, data: bytes, message: str) -> None:
    with pytest.raises(SourceUnavailable, match=message):
        unpacked(data)


@pytest.mark.fault(70)
def test_a_zip_bomb_is_refused(unpacked: Unpack) -> None:
    with pytest.raises(SourceUnavailable, match="unpacks to more than"):
        unpacked(zip_of(("zeros", bytes(8 << 20))), UnpackLimits(ratio=100, free_bytes=1 << 20))
