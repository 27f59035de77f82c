"""Taking outputs out of folders and tar streams that a hostile recipe has filled."""

import hashlib
import io
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from builders import output_rules
from builders.errors import CellError, DiskFull, OutputAmbiguous, OutputCollision, OutputMissing, OutputUnsafe
from builders.globs import Glob
from builders.model import BuiltFile, OutputPattern
from builders.outputs import collect, collect_tar

ROOT = Path(__file__).parents[2]
CELL = "hello/x86_64"
EVERYTHING = (OutputPattern(glob="**"),)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/hello").write_bytes(b"\x7fELF program")
    (folder / "bin/hello").chmod(0o700)
    (folder / "readme.txt").write_text("read me")
    return folder


def patterns(*globs: str) -> tuple[OutputPattern, ...]:
    return tuple(OutputPattern(glob=glob) for glob in globs)


def take(out: Path, *globs: str) -> tuple[BuiltFile, ...]:
    return collect(out, patterns(*(globs or ("**",))), out.parent / "taken", cell_id=CELL)


def pack(folder: Path) -> bytes:
    """Pack a folder as an engine does: everything below one top entry."""
    return subprocess.run(("tar", "c", "-C", folder.parent, folder.name), check=True, capture_output=True).stdout


def pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def take_tar(out: Path, *globs: str) -> tuple[BuiltFile, ...]:
    chosen = patterns(*(globs or ("**",)))
    return collect_tar(pieces(pack(out)), chosen, out.parent / "taken", cell_id=CELL)


BOTH = pytest.mark.parametrize("taking", [take, take_tar])
Taking = Callable[..., tuple[BuiltFile, ...]]


@pytest.mark.fault(89)
@BOTH
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_files_come_out_with_digests_and_normal_modes(out: Path, taking: Taking, umask: int) -> None:
    before = os.umask(umask)
    try:
        files = taking(out)
    finally:
        os.umask(before)
    assert [(str(file.path), file.executable) for file in files] == [("bin/hello", True), ("readme.txt", False)]
    copy = out.parent / "taken/bin/hello"
    data = copy.read_bytes()
    assert data == b"\x7fELF program"
    assert files[0].sha256 == hashlib.sha256(data).hexdigest()
    assert files[0].sha512 == hashlib.sha512(data).hexdigest()
    assert files[0].size_bytes == len(data)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (copy, copy.parent, out.parent / "taken/readme.txt")]
    assert modes == [0o755, 0o755, 0o644]
    assert (copy.stat().st_nlink, copy.stat().st_ino) != (2, (out / "bin/hello").stat().st_ino)


@BOTH
def test_what_no_pattern_takes_is_not_copied(out: Path, taking: Taking) -> None:
    (out / "bin/link").symlink_to("/etc/shadow")
    assert [str(file.path) for file in taking(out, "*.txt")] == ["readme.txt"]
    assert not (out.parent / "taken/bin").exists()


@BOTH
def test_a_file_that_two_patterns_take_comes_once(out: Path, taking: Taking) -> None:
    assert [str(file.path) for file in taking(out, "bin/*", "**/hello")] == ["bin/hello"]


@pytest.mark.fault(68)
@BOTH
def test_an_empty_file_is_an_output(out: Path, taking: Taking) -> None:
    (out / "empty").touch()
    (file,) = taking(out, "empty")
    assert file.size_bytes == 0
    assert file.sha256 == hashlib.sha256(b"").hexdigest()


@BOTH
def test_a_pattern_without_a_match_lists_what_is_there(out: Path, taking: Taking) -> None:
    for n in range(12):
        (out / f"f{n:02}").touch()
    with pytest.raises(OutputMissing, match=r"'bin/goodbye'; .*'bin/hello', 'f00'.* and 4 more") as caught:
        taking(out, "bin/goodbye")
    assert caught.value.exit_code == 25
    assert CELL in caught.value.what


@BOTH
def test_a_pattern_that_names_a_folder_says_how_to_take_it(out: Path, taking: Taking) -> None:
    with pytest.raises(OutputMissing, match=r"write bin/\*\*"):
        taking(out, "bin")


@BOTH
def test_no_outputs_at_all_are_refused(out: Path, taking: Taking) -> None:
    for path in ("bin/hello", "readme.txt"):
        (out / path).unlink()
    with pytest.raises(OutputMissing, match=r"\$OUT is empty"):
        taking(out, "*")


def test_no_patterns_and_no_folder_are_refused(out: Path) -> None:
    with pytest.raises(OutputMissing, match="no pattern"):
        collect(out, (), out.parent / "taken", cell_id=CELL)
    with pytest.raises(OutputMissing, match="left no folder"):
        collect(out.parent / "nothing", EVERYTHING, out.parent / "taken", cell_id=CELL)
    (out.parent / "link").symlink_to(out)
    with pytest.raises(OutputMissing, match="left no folder"):
        collect(out.parent / "link", EVERYTHING, out.parent / "taken", cell_id=CELL)


def test_a_folder_descriptor_works_as_well(out: Path) -> None:
    descriptor = os.open(out, os.O_RDONLY)
    try:
        assert len(collect(descriptor, EVERYTHING, out.parent / "taken", cell_id=CELL)) == 2
        os.fstat(descriptor)
    finally:
        os.close(descriptor)


def test_exactly_one_means_one(out: Path) -> None:
    wanted = (OutputPattern(glob="**", exactly_one=True),)
    with pytest.raises(OutputAmbiguous, match=r"matches 2: 'bin/hello', 'readme\.txt'"):
        collect(out, wanted, out.parent / "taken", cell_id=CELL)
    with pytest.raises(OutputAmbiguous, match=r"matches 2: 'bin/hello', 'readme\.txt'"):
        collect_tar(pieces(pack(out)), wanted, out.parent / "taken2", cell_id=CELL)


# --- what must not be there --------------------------------------------------------------------------------------


@pytest.mark.fault(67)
@BOTH
def test_a_symlink_that_a_pattern_takes_is_refused(out: Path, taking: Taking) -> None:
    (out / "bin/link").symlink_to("/etc/shadow")
    with pytest.raises(OutputUnsafe, match=r"'bin/link' is a symbolic link, and 'bin/\*' takes it"):
        taking(out, "bin/*")


@pytest.mark.fault(67)
@BOTH
def test_a_fifo_is_refused_without_waiting_for_it(out: Path, taking: Taking) -> None:
    os.mkfifo(out / "bin/pipe")
    with pytest.raises(OutputUnsafe, match="'bin/pipe' is a FIFO"):
        taking(out, "readme.txt")


@pytest.mark.fault(67)
def test_a_socket_is_refused(out: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(out / "sock"))
        with pytest.raises(OutputUnsafe, match="'sock' is a socket"):
            take(out, "readme.txt")


@pytest.mark.fault(67)
@BOTH
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_refused(out: Path, taking: Taking) -> None:
    try:
        os.mknod(out / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this container does not let root make devices")
    with pytest.raises(OutputUnsafe, match="'zero' is a character device"):
        taking(out)


@pytest.mark.fault(67)
@BOTH
@pytest.mark.parametrize("bit", [stat.S_ISUID, stat.S_ISGID])
def test_a_set_user_or_group_bit_is_refused(out: Path, taking: Taking, bit: int) -> None:
    (out / "bin/hello").chmod(0o755 | bit)
    with pytest.raises(OutputUnsafe, match="'bin/hello' has the set-user or set-group bit"):
        taking(out, "readme.txt")


@pytest.mark.fault(67)
def test_a_hard_link_to_elsewhere_is_refused(out: Path) -> None:
    (out.parent / "secret").write_text("secret")
    (out / "bin/leak").hardlink_to(out.parent / "secret")
    with pytest.raises(OutputUnsafe, match=r"'bin/leak' is a hard link to a file outside \$OUT"):
        take(out)
    assert not (out.parent / "taken").exists()


@BOTH
def test_hard_links_inside_become_copies(out: Path, taking: Taking) -> None:
    (out / "bin/hi").hardlink_to(out / "bin/hello")
    first, second = taking(out, "bin/*")
    assert (first.sha256, first.executable) == (second.sha256, second.executable)
    assert (out.parent / "taken/bin/hi").stat().st_nlink == 1


def test_a_hard_link_in_a_tar_to_what_no_pattern_takes_is_refused(out: Path) -> None:
    (out / "z").hardlink_to(out / "bin/hello")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(out, "out")
    with pytest.raises(OutputUnsafe, match="'z' is a hard link to 'bin/hello', which is no output"):
        collect_tar([packed.getvalue()], patterns("z"), out.parent / "taken", cell_id=CELL)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_or_folder_is_refused(out: Path) -> None:
    (out / "bin/hello").chmod(0)
    with pytest.raises(OutputUnsafe, match="'bin/hello' cannot be read"):
        take(out, "readme.txt")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_an_unreadable_file_or_folder_is_refused_for_somebody_else_than_root(out: Path) -> None:
    program = (
        "import os, sys, pathlib; sys.path.insert(0, sys.argv[3]); from builders.model import OutputPattern\n"
        "from builders.outputs import collect; from builders.errors import OutputUnsafe\n"
        "top = os.open(sys.argv[1], os.O_RDONLY); os.chdir('/'); os.setuid(65534)\n"
        "try: collect(top, (OutputPattern(glob='readme.txt'),), pathlib.Path(sys.argv[2]), cell_id='c')\n"
        "except OutputUnsafe as error: sys.exit(error.what)\n"
    )
    for path in ("bin/hello", "bin"):
        (out / path).chmod(0)
        argv = (sys.executable, "-c", program, out, out.parent / "taken", ROOT)
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert f"'{path}' cannot be read" in done.stderr, done.stderr
        (out / path).chmod(0o755)


EVIL_NAMES = {
    b"evil\nname": r"'evil\nname'",
    b"evil\x1b[2Jname": r"'evil\x1b[2Jname'",
    b"bad\xffbytes": r"'bad\xffbytes'",
    b"-rf": "'-rf'",
    "user\u202etxt.exe".encode(): r"'user\u202etxt.exe'",
    "zero\u200bwidth".encode(): r"'zero\u200bwidth'",
    b"con": "'con'",
    b"Aux.txt": "'Aux.txt'",
    b"com1.tar.gz": "'com1.tar.gz'",
    b"trailing.": "'trailing.'",
    b"trailing ": "'trailing '",
    b"back\\slash": r"'back\\slash'",
    b"\x7f": r"'\x7f'",
    "c1\u0085".encode(): r"'c1\x85'",
}


@pytest.mark.fault(65)
@BOTH
@pytest.mark.parametrize("name", EVIL_NAMES, ids=repr)
def test_an_evil_name_is_shown_escaped(out: Path, taking: Taking, name: bytes) -> None:
    (out / os.fsdecode(name)).touch()
    with pytest.raises(OutputUnsafe) as caught:
        taking(out, "readme.txt")
    assert EVIL_NAMES[name] in caught.value.what
    assert caught.value.what.isprintable()


LEAVING = ["../x", "out/../x", "/out/x", "out/a/../b", "out/a/./b", "out//x", "out/" + "x" * 256]


@pytest.mark.fault(65)
@pytest.mark.parametrize("name", LEAVING)
def test_a_tar_name_that_leaves_is_refused(tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(OutputUnsafe):
        collect_tar([packed.getvalue()], EVERYTHING, tmp_path / "taken", cell_id=CELL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [("out/a", "out/a"), ("out/a", "out/a/b"), ("out/a/b", "out/a")])
def test_a_tar_with_one_name_twice_is_refused(tmp_path: Path, names: Sequence[str]) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(OutputUnsafe, match=r"comes twice|a file and a folder"):
        collect_tar([packed.getvalue()], EVERYTHING, tmp_path / "taken", cell_id=CELL)


@pytest.mark.fault(65)
@BOTH
@pytest.mark.parametrize(("one", "other"), [("Hello", "hello"), ("e\u0301", "\u00e9"), ("stra\u00dfe", "STRASSE")])
def test_names_that_collide_are_refused(out: Path, taking: Taking, one: str, other: str) -> None:
    (out / one).touch()
    (out / other).touch()
    with pytest.raises(OutputCollision, match="have one name") as caught:
        taking(out, "*")
    assert ascii(one)[1:-1] in caught.value.what
    assert ascii(other)[1:-1] in caught.value.what
    shutil.rmtree(out.parent / "taken", ignore_errors=True)
    assert taking(out, "readme.txt")  # what is not taken may collide


@BOTH
def test_a_folder_that_is_too_deep_is_refused(out: Path, taking: Taking) -> None:
    (out / "/".join("d" * 70)).mkdir(parents=True)
    with pytest.raises(OutputUnsafe, match="folders deep"):
        taking(out, "readme.txt")


@pytest.mark.fault(68)
@BOTH
def test_too_many_entries_are_refused(out: Path, taking: Taking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_rules, "MAX_ENTRIES", 50)
    (out / "many").mkdir()
    for n in range(60):
        (out / f"many/{n}").touch()
    with pytest.raises(OutputUnsafe, match="more than 50 entries"):
        taking(out, "readme.txt")


# --- size, change, room ------------------------------------------------------------------------------------------


@pytest.mark.fault(68)
def test_a_sparse_file_over_the_limit_is_refused_before_it_is_copied(out: Path) -> None:
    with (out / "big").open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(OutputUnsafe, match=r"10737418247 bytes or more; 1073741824 are allowed"):
        collect(out, patterns("big", "*.txt"), out.parent / "taken", cell_id=CELL, max_bytes=1 << 30)
    assert not (out.parent / "taken").exists()


@pytest.mark.fault(68)
def test_a_sparse_file_within_the_limit_stays_sparse_and_memory_flat(out: Path) -> None:
    with (out / "big").open("wb") as file:
        file.truncate(100 << 20)
        file.seek(50 << 20)
        file.write(b"data")
    tracemalloc.start()
    try:
        (taken,) = take(out, "big")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    copy = out.parent / "taken/big"
    assert copy.stat().st_size == taken.size_bytes == 100 << 20
    assert copy.stat().st_blocks * 512 < 8 << 20
    with copy.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == taken.sha256


def test_a_huge_tar_entry_is_refused_by_its_header(tmp_path: Path) -> None:
    info = tarfile.TarInfo("out/big")
    info.size = 1 << 40
    with pytest.raises(OutputUnsafe, match="1099511627776 bytes or more"):
        collect_tar([info.tobuf()], EVERYTHING, tmp_path / "taken", cell_id=CELL)


def test_memory_stays_flat_over_a_long_stream(tmp_path: Path) -> None:
    size, block = 200 << 20, os.urandom(1 << 16)

    def stream() -> Iterator[bytes]:
        for name in ("out/skipped", "out/taken"):
            info = tarfile.TarInfo(name)
            info.size = size
            yield info.tobuf()
            yield from (block for _ in range(size // len(block)))
        yield bytes(1024)

    tracemalloc.start()
    try:
        (file,) = collect_tar(stream(), patterns("taken"), tmp_path / "taken", cell_id=CELL)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert file.size_bytes == size
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["taken"]


@pytest.mark.parametrize("cut", [100, 600, -1024, -1])
def test_a_stream_that_breaks_off_is_never_taken_for_whole(out: Path, cut: int) -> None:
    packed = pack(out).rstrip(b"\0")
    packed += bytes(-len(packed) % 512 + 1024)
    cut_at = len(packed) - 1024 if cut == -1024 else len(packed) - 1024 - 512 if cut == -1 else cut
    with pytest.raises(OutputUnsafe, match="ends in the middle"):
        collect_tar(pieces(packed[:cut_at]), patterns("*.txt"), out.parent / "taken", cell_id=CELL)


@pytest.mark.fault(53)
def test_a_file_that_a_background_process_goes_on_writing_is_refused(out: Path) -> None:
    target = out / "log"
    target.write_bytes(os.urandom(32 << 20))
    begun, stop = threading.Event(), threading.Event()

    def write_on() -> None:
        with target.open("r+b", buffering=0) as file:
            while not stop.is_set():
                file.seek(0)
                file.write(os.urandom(64))
                begun.set()

    writer = threading.Thread(target=write_on)
    writer.start()
    assert begun.wait(60)
    try:
        with pytest.raises(OutputUnsafe, match="'log' changed while it was copied"):
            take(out, "log")
    finally:
        stop.set()
        writer.join()


@pytest.mark.fault(53)
def test_a_file_that_grows_without_end_does_not_hang_the_copy(out: Path) -> None:
    target = out / "log"
    target.write_bytes(bytes(32 << 20))
    begun, stop = threading.Event(), threading.Event()

    def grow() -> None:
        with target.open("ab", buffering=0) as file:
            while not stop.is_set() and file.tell() < 1 << 30:
                file.write(bytes(1 << 20))
                begun.set()

    writer = threading.Thread(target=grow)
    writer.start()
    assert begun.wait(60)
    try:
        with pytest.raises(OutputUnsafe, match="changed"):
            take(out, "log")
    finally:
        stop.set()
        writer.join()


@pytest.mark.fault(53)
def test_a_file_swapped_for_a_link_between_look_and_copy_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = output_rules.choose

    def choose_then_swap(*arguments: object) -> object:
        chosen = real(*arguments)  # type: ignore[arg-type] # handed on as they came
        (out / "readme.txt").unlink()
        (out / "readme.txt").symlink_to("/etc/hostname")
        return chosen

    monkeypatch.setattr("builders.outputs.choose", choose_then_swap)
    with pytest.raises(OutputUnsafe, match=r"'readme\.txt' cannot be opened"):
        take(out)


@pytest.mark.fault(11)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_a_full_disk_has_its_own_error(out: Path) -> None:
    small = out.parent / "small"
    small.mkdir()
    mounted = subprocess.run(("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small), check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount")
    try:
        (out / "big").write_bytes(os.urandom(1 << 20))
        with pytest.raises(DiskFull) as caught:
            collect(out, EVERYTHING, small / "taken", cell_id=CELL)
        assert caught.value.exit_code == 90
        assert "df -h" in caught.value.next_step
    finally:
        subprocess.run(("umount", small), check=True)


@pytest.mark.fault(88)
def test_few_descriptors_are_enough(out: Path) -> None:
    for n in range(300):
        (out / f"bin/f{n}").touch()
    (out / "/".join("d" * 40)).mkdir(parents=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        assert len(take(out)) == 302
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_every_refusal_is_a_cell_error_of_this_cell(out: Path) -> None:
    os.mkfifo(out / "pipe")
    with pytest.raises(CellError, match=f"^{CELL}: "):
        take(out)


# --- globs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "path", "expected"), [
    ("*", "a", True), ("*", "a/b", False), ("*", ".hidden", True), ("**", "a", True), ("**", "a/b/c", True),
    ("a/**", "a/b/c", True), ("a/**", "b/a", False), ("**/c", "c", True), ("**/c", "a/b/c", True),
    ("a/**/c", "a/c", True), ("a/**/c", "a/x/y/c", True), ("a/**/c", "a/x/y/d", False), ("**/b/**/d", "a/b/c/d", True),
    ("?", "a", True), ("?", "ab", False), ("lib[ab].so", "liba.so", True), ("lib[!ab].so", "liba.so", False),
    ("Hello", "hello", False), ("./bin/*", "bin/x", True), ("a*c", "a/c", False), ("", "a", False),
    ("*.tar.gz", "x.tar.gz", True), ("*.tar.gz", "x.tar.gz2", False), ("**/**/x", "x", True), ("[", "[", True),
])  # fmt: skip
def test_what_a_glob_takes(pattern: str, path: str, expected: bool) -> None:
    assert Glob(pattern).matches(path) is expected


def test_a_glob_does_not_explode(out: Path) -> None:
    assert not Glob("**/" * 20 + "x").matches("/".join("a" * 60))
    assert not Glob("*a" * 20 + "b").matches("a" * 200)
