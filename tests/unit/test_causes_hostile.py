"""Nothing that a stranger puts into an artifact breaks the search for causes, makes it write, or makes it run away."""

import gzip
import io
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.reproduce.causes import Hints, explain
from orchestrator.reproduce.causes.values import AXIS_KINDS, MAX_CAUSES, MAX_DEPTH

LIMITS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def _tar() -> bytes:
    to = io.BytesIO()
    with tarfile.open(fileobj=to, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("p/a.txt", "p/b.gz", "p/" + "long" * 40, "p/ü"):
            info = tarfile.TarInfo(name)
            data = gzip.compress(b"built 2026-11-21 on relbuild\n", mtime=0) if name.endswith("gz") else b"x\ny\n"
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return to.getvalue()


def _zip() -> bytes:
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p/a.txt", "built in /src by root\n" * 20)
        archive.writestr("p/b", bytes(range(256)))
    return to.getvalue()


@cache
def _elf() -> bytes:
    return Path(shutil.which("true") or "/bin/true").resolve().read_bytes()


@cache
def _ar() -> bytes:
    name = b"m.o/            1795252279  0     0     100644  %-10d`\n" % len(_elf())
    return b"!<arch>\n" + name + _elf()


SEEDS: Mapping[str, bytes] = {
    "tar": _tar(), "tar.gz": gzip.compress(_tar(), mtime=0), "zip": _zip(), "elf": _elf(), "ar": _ar(),
    "text": b"built 2026-11-21 09:11:19 UTC in /src by root on relbuild with 2 jobs\n" * 3,
    "pyc": b"\xa7\r\r\n" + bytes(4) + (1795252279).to_bytes(4, "little") + bytes(40),
    "pe": b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + bytes(60),
}  # fmt: skip
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["set", "cut", "grow"]), st.binary(min_size=1, max_size=12)),
    min_size=1, max_size=6,
)  # fmt: skip
TEXTS = st.text(max_size=20)
HINTS = st.builds(
    Hints,
    worlds=st.dictionaries(st.sampled_from([*AXIS_KINDS, "an axis of tomorrow"]), st.tuples(TEXTS, TEXTS)),
    guilty_axes=st.lists(st.sampled_from([*AXIS_KINDS, "an axis of tomorrow"]), max_size=3).map(tuple),
)


def edited(data: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    for place, how, new in edits:
        at = int(place * len(data))
        after = {"set": at + len(new), "cut": at + 8 * len(new), "grow": at}[how]
        data = data[:at] + (b"" if how == "cut" else new) + data[after:]
    return data


@pytest.mark.fault(69)
@pytest.mark.parametrize("seed", SEEDS)
@LIMITS
@given(edits=EDITS, hints=HINTS)
def test_broken_bytes_have_a_cause_and_no_traceback(
    seed: str, edits: list[tuple[float, str, bytes]], hints: Hints, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(SEEDS[seed])
    second.write_bytes(edited(SEEDS[seed], edits))
    for pair in ((first, second), (second, first)):
        causes = explain(*pair, hints)
        assert bool(causes) == (first.read_bytes() != second.read_bytes())
        assert len(causes) <= MAX_CAUSES
        assert all(cause.text.isprintable() and cause.place.isprintable() for cause in causes)


@LIMITS
@given(first=st.binary(max_size=400), second=st.binary(max_size=400), hints=HINTS)
def test_any_bytes_have_a_cause(first: bytes, second: bytes, hints: Hints, tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(first)
    (tmp_path / "second").write_bytes(second)
    assert bool(explain(tmp_path / "first", tmp_path / "second", hints)) == (first != second)


def test_nothing_is_written_outside_by_names_that_lead_there(tmp_path: Path) -> None:
    for side in ("first", "second"):
        with tarfile.open(tmp_path / side, "w") as archive:
            for name in ("../outside", "/tmp/outside-of-causes", "a/../../outside"):
                info = tarfile.TarInfo(name)
                info.size = len(side)
                archive.addfile(info, io.BytesIO(side.encode()))
    before = sorted(tmp_path.iterdir()), sorted(tmp_path.parent.iterdir())
    assert explain(tmp_path / "first", tmp_path / "second", Hints())
    assert (sorted(tmp_path.iterdir()), sorted(tmp_path.parent.iterdir())) == before
    assert not Path("/tmp/outside-of-causes").exists()


def test_archives_within_archives_end(tmp_path: Path) -> None:
    data = [b"one\n", b"two\n"]
    for _ in range(40):
        data = [gzip.compress(layer, mtime=0) for layer in data]
    (tmp_path / "first").write_bytes(data[0])
    (tmp_path / "second").write_bytes(data[1])
    (cause,) = explain(tmp_path / "first", tmp_path / "second", Hints())
    assert cause.place.count("unpacked") == MAX_DEPTH
    assert "archives deep" in cause.text


def test_a_program_that_differs_is_not_started(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc on this machine")
    mark = tmp_path / "started"
    for side in ("first", "second"):
        (tmp_path / f"{side}.c").write_text(
            f'#include <stdio.h>\nint main(void) {{ return fopen("{mark}", "w") == 0; }}\nconst char *x = "{side}";\n'
        )
        subprocess.run(["gcc", tmp_path / f"{side}.c", "-o", tmp_path / side], check=True)
    assert explain(tmp_path / "first", tmp_path / "second", Hints())
    assert not mark.exists()
    subprocess.run([tmp_path / "first"], check=True)
    assert mark.exists()
