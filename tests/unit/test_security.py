"""Lost defences, secrets, build paths and known vulnerabilities; programs are real, and no token here is one."""

import base64
import gzip
import hashlib
import json
import lzma
import string
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders.binaries.hardening import State, Trait, read_hardening
from builders.command import capture
from orchestrator.errors import ValidationFailed
from orchestrator.validate import osv, secrets, security, versions
from orchestrator.validate.ecosystems import Known, known
from orchestrator.validate.runner import compare
from orchestrator.validate.values import Finding, Gap, Outcome
from orchestrator.validate.vulnerabilities import vulnerabilities
from orchestrator.validation_rules import SecurityRules, Severity, ValidationRules
from tests.unit.payloads import HERE, Made, compared, compile_c, errors, gaps, passed, side

PROGRAM = """
#include <stdio.h>
#include <string.h>
int main(int c, char **v) { char b[64]; strcpy(b, v[0]); printf("%s %d\\n", b, c); return 0; }
"""
HARD = ("-O2", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-fPIE", "-pie", "-Wl,-z,relro,-z,now", "-s")
RELAXED = SecurityRules(vulnerabilities=Severity.IGNORE)


def tool(folder: Path, *flags: str) -> Path:
    compile_c(PROGRAM, folder / "bin" / "tool", *(flags or HARD))
    return folder


def judged(new: Path, old: Path | None = None, rules: SecurityRules = RELAXED, **more: Any) -> Outcome:
    wanted = ValidationRules(security=rules, **more)
    return security.check(compared(Made(folder=new, version="1.0.1"), Made(folder=old) if old else None, wanted))


def broken(outcome: Outcome) -> set[str]:
    return {each.rule for each in errors(outcome)}


# --- hardening ---------------------------------------------------------------------------------------------------


def test_hardened_program_passes_with_and_without_a_baseline(tmp_path: Path) -> None:
    folder = tool(tmp_path / "a")
    assert passed(judged(folder, tool(tmp_path / "b"))).warnings == ()
    assert passed(judged(folder)).warnings == ()
    marks = read_hardening(folder / "bin" / "tool")
    assert marks is not None
    assert {mark.state for mark in marks.values()} == {State.ON}


@pytest.mark.parametrize(
    ("changed", "rules"),
    [
        (("-fPIE", "-fno-pie"), {"pie"}), (("-Wl,-z,relro,-z,now", "-Wl,-z,norelro"), {"relro", "bind_now"}),
        (("-Wl,-z,relro,-z,now", "-Wl,-z,relro,-z,lazy"), {"bind_now"}),
        (("-fstack-protector-strong", "-fno-stack-protector"), {"canary"}),
        (("-D_FORTIFY_SOURCE=2", "-U_FORTIFY_SOURCE"), {"fortify"}), (("-s", "-Wl,-z,execstack"), {"nx"}),
    ],
)  # fmt: skip
def test_lost_defence_fails(tmp_path: Path, changed: tuple[str, str], rules: set[str]) -> None:
    flags = [changed[1] if flag == changed[0] else flag for flag in HARD]
    if "pie" in rules:
        flags[flags.index("-pie")] = "-no-pie"
    found = errors(judged(tool(tmp_path / "b", *flags), tool(tmp_path / "a")))
    assert {each.rule for each in found} == rules
    assert all(each.place == f"tool/{HERE}: bin/tool" and "the baseline" in each.text for each in found)


def test_what_a_first_release_lacks_fails_or_warns_by_its_level(tmp_path: Path) -> None:
    bare = tool(tmp_path / "b", "-no-pie", "-fno-pie", "-U_FORTIFY_SOURCE", "-fno-stack-protector")
    outcome = judged(bare)
    assert broken(outcome) == {"pie"}
    assert {each.rule for each in outcome.findings} == {"pie", "canary", "fortify"}  # type: ignore[union-attr]
    rules = SecurityRules(pie=Severity.IGNORE, canary=Severity.IGNORE, vulnerabilities=Severity.IGNORE)
    assert [each.rule for each in passed(judged(bare, rules=rules)).warnings] == ["fortify"]


def test_added_rpath_fails(tmp_path: Path) -> None:
    old = tool(tmp_path / "a")
    beside = tool(tmp_path / "b", *HARD, "-Wl,-rpath,$ORIGIN/../lib")
    fixed = tool(tmp_path / "c", *HARD, "-Wl,-rpath,/opt/evil")
    (finding,) = errors(judged(beside, old))
    assert (finding.rule, "the baseline did not" in finding.text) == ("rpath", True)
    passed(judged(beside, beside))
    passed(judged(beside))
    assert broken(judged(fixed, fixed)) == {"rpath"}


def test_what_does_not_apply_is_said(tmp_path: Path) -> None:
    static = tool(tmp_path / "s", "-static", "-no-pie", "-O2")
    rules = SecurityRules(pie=Severity.IGNORE, vulnerabilities=Severity.IGNORE)
    notes = passed(judged(static, rules=rules)).notes
    assert any("canary, fortify cannot be seen: it names no library" in note for note in notes)
    # Whether it still has them nobody can tell: that is not a pass beside a baseline that shows them.
    found = errors(judged(static, tool(tmp_path / "a"), rules))
    assert {each.rule for each in found} == {"canary", "fortify"}
    assert all("cannot be seen" in each.text for each in found)


def test_rust_program_needs_no_canary(tmp_path: Path) -> None:
    source = tmp_path / "main.rs"
    source.write_text('fn main() { println!("{}", std::env::args().count()); }\n')
    (tmp_path / "r" / "bin").mkdir(parents=True)
    try:
        done = capture(["rustc", "-O", str(source), "-o", str(tmp_path / "r" / "bin" / "tool")], timeout_s=200)
    except Exception:  # noqa: BLE001 - whatever a missing rustc raises here
        pytest.skip("no rustc on this machine")
    if done.exit_code:
        pytest.skip("rustc on this machine has no toolchain")
    marks = read_hardening(tmp_path / "r" / "bin" / "tool")
    assert marks is not None
    assert marks[Trait.CANARY].state is State.NOT_APPLICABLE
    assert marks[Trait.PIE].state is State.ON
    passed(judged(tmp_path / "r", tool(tmp_path / "a")))


def test_broken_program_is_a_gap(tmp_path: Path) -> None:
    folder = tool(tmp_path / "a")
    data = (folder / "bin" / "tool").read_bytes()
    (folder / "bin" / "tool").write_bytes(data[: len(data) // 2])
    assert gaps(judged(folder))[0].startswith("hardening: the file is cut short")


# --- secrets -----------------------------------------------------------------------------------------------------


def scrambled(alphabet: str, length: int, seed: str = "seed") -> str:
    digits = hashlib.sha512(seed.encode()).digest() * 3
    return "".join(alphabet[digit % len(alphabet)] for digit in digits[:length])


WORDY = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + "234567"
KEY = base64.b64encode(hashlib.sha512(b"key").digest()).decode()
SECRETS = {
    "AWS access key": "AKIA" + scrambled(UPPER, 16),
    "GitHub token": "ghp_" + scrambled(WORDY, 36),
    "GitLab token": "glpat-" + scrambled(WORDY, 20),
    "Slack token": "xoxb-" + scrambled(string.digits, 12) + "-" + scrambled(WORDY, 24),
    "Google API key": "AIza" + scrambled(WORDY, 35),
    "Stripe key": "sk_live_" + scrambled(WORDY, 24),
    "npm token": "npm_" + scrambled(WORDY, 36),
    "PyPI token": "pypi-AgE" + scrambled(WORDY, 80),
    "age key": "AGE-SECRET-KEY-1" + scrambled("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),
    "private key": "-----BEGIN " + "PRIVATE KEY-----\n" + KEY[:64] + "\n",
    "password in a URL": "postgres://admin:" + scrambled(WORDY, 12) + "@db.example.org/",
    "random value beside a word for a secret": 'api_key = "' + scrambled(WORDY, 32) + '"',
}
HARMLESS = (
    "-----BEGIN " + "PRIVATE KEY-----", "token = get_token(request)", 'password = "correct horse battery staple"',
    "https://user@example.org/path", "secret: SECRET_FROM_THE_ENVIRONMENT", "AKIA", "ghp_short",
    "api_key = ${API_KEY}", "access_key=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "http://%s:%s@%s/",
)  # fmt: skip


@pytest.mark.parametrize("kind", SECRETS)
def test_secret_fails_and_is_never_shown(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "settings.conf").write_bytes(b"\0" * 5000 + SECRETS[kind].encode() + b"\n")
    (finding,) = errors(judged(folder, folder))
    assert (finding.rule, finding.place) == ("secret", f"tool/{HERE}: settings.conf")
    assert kind in finding.text
    value = SECRETS[kind].split('"')[-2] if '"' in SECRETS[kind] else SECRETS[kind]
    assert value[-12:].strip() not in finding.text
    passed(judged(folder, folder, allow_secrets=("settings.*",)))


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_is_no_secret(text: str) -> None:
    assert list(secrets.find([f"some text\n{text}\nmore\n".encode()])) == []


def test_secret_across_two_pieces_is_seen_once() -> None:
    data = b"x " + SECRETS["GitHub token"].encode() + b" y"
    found = list(secrets.find([data[:20], data[20:], bytes(9000), b"end"]))
    assert len([each for each in found if each.offset == 2]) >= 1
    assert {each.kind for each in found} == {"GitHub token"}


def test_secret_that_is_packed_once_more_fails(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tool-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("tool/settings.py", SECRETS["npm token"])
    (folder / "tool.1.gz").write_bytes(gzip.compress(SECRETS["GitLab token"].encode() * 2))
    places = {each.place for each in errors(judged(folder, folder))}
    assert places == {
        f"tool/{HERE}: tool-1.0-py3-none-any.whl/tool/settings.py", f"tool/{HERE}: tool.1.gz (unpacked)",
    }  # fmt: skip
    (folder / "tool.1.gz").write_bytes(gzip.compress(b"x" * 9000)[:-20])
    (folder / "tool-1.0-py3-none-any.whl").unlink()
    assert "cannot be looked into" in gaps(judged(folder, folder))[0]


def deb(folder: Path, *members: tuple[str, bytes]) -> Path:
    """Make the archive of a Debian package, and a folder with nothing else inside."""
    parts, to = folder / "parts", folder / "out" / "tool.deb"
    parts.mkdir(parents=True)
    to.parent.mkdir()
    for name, data in (("debian-binary", b"2.0\n"), *members):
        (parts / name).write_bytes(data)
    files = [str(parts / name) for name in ("debian-binary", *(name for name, _ in members))]
    assert capture(["ar", "rcS", str(to), *files]).exit_code == 0
    return to.parent


def test_secret_in_a_debian_package_fails(tmp_path: Path) -> None:
    hidden = lzma.compress(b"nothing " * 900 + SECRETS["GitLab token"].encode())
    folder = deb(tmp_path, ("control.tar.gz", gzip.compress(b"x")), ("data.tar.xz", hidden))
    (finding,) = errors(judged(folder, folder))
    assert (finding.rule, finding.place) == ("secret", f"tool/{HERE}: tool.deb/data.tar.xz")
    plain = deb(tmp_path / "b", ("data.tar.xz", lzma.compress(b"nothing")))
    passed(judged(plain, plain))


def test_member_that_is_not_opened_is_a_gap_and_hides_no_other(tmp_path: Path) -> None:
    opaque = ("control.tar.zst", b"\x28\xb5\x2f\xfd" + bytes(20))
    folder = deb(tmp_path, opaque, ("data.tar.xz", lzma.compress(b"nothing")))
    outcome = judged(folder, folder)
    assert "control.tar.zst (zstd)" in gaps(outcome)[0]
    hidden = lzma.compress(b"nothing " * 900 + SECRETS["GitLab token"].encode())
    assert broken(judged(deb(tmp_path / "b", opaque, ("data.tar.xz", hidden)))) == {"secret"}


@pytest.mark.parametrize(
    ("magic", "packer"),
    [(b"\x28\xb5\x2f\xfd", "zstd"), (b"7z\xbc\xaf\x27\x1c", "7z"), (b"\xed\xab\xee\xdb", "rpm")],
)
def test_file_packed_in_a_way_that_is_not_opened_is_a_gap(tmp_path: Path, magic: bytes, packer: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thing").write_bytes(magic + bytes(40))
    outcome = judged(tmp_path / "a")
    assert gaps(outcome) == [f"secret: it is packed, and cannot be looked into: {packer} is not opened here"]
    assert outcome.gaps[0].place == f"tool/{HERE}: thing"  # type: ignore[union-attr]
    passed(judged(tmp_path / "a", allow_secrets=("thing",)))


# --- build paths -------------------------------------------------------------------------------------------------


def test_build_paths_that_the_gate_saw_or_this_machine_has_fail(tmp_path: Path) -> None:
    folder = tmp_path / "project" / "a"
    folder.mkdir(parents=True)
    told = {"path": "tool", "rule": "build_paths", "text": "has the build folder $SOURCE inside", "verdict": "warn"}
    made = Made(folder=folder, findings=(told,))
    rules = ValidationRules(security=RELAXED)
    assert broken(security.check(compared(made, None, rules))) == {"build_path"}
    (folder / "tool").write_bytes(b"\0" + str(tmp_path / "project").encode() + b"/main.c\0")
    cells = tmp_path / "project" / "dist" / "cells"
    (finding,) = errors(security.check(compared(Made(folder=folder), None, rules, cells)))
    assert (finding.rule, finding.place) == ("build_path", f"tool/{HERE}: tool")
    passed(security.check(compared(Made(folder=folder), None, rules)))


# --- known vulnerabilities ---------------------------------------------------------------------------------------


def entry(name: str, ecosystem: str, *events: dict[str, str], kind: str = "ECOSYSTEM", **more: Any) -> dict[str, Any]:
    ranges = [{"type": kind, "events": list(events)}] if events else []
    affected = {"package": {"name": name, "ecosystem": ecosystem}, "ranges": ranges}
    affected |= {key: more.pop(key) for key in ("versions",) if key in more}
    return {
        "id": "OSV-1",
        "modified": "2026-01-02T00:00:00Z",
        "aliases": ["CVE-2026-1"],
        "affected": [affected],
        **more,
    }


def database(path: Path, *entries: dict[str, Any]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for number, each in enumerate(entries):
            packed.writestr(f"OSV-{number}.json", json.dumps(each))
    return path


def sbom(*purls: str) -> dict[str, Any]:
    rows = [{"type": "library", "name": purl.split("/")[-1].split("@")[0], "purl": purl} for purl in purls]
    return {"metadata": {"component": {"type": "application", "name": "tool"}}, "components": rows}


def held(folder: Path, path: Path | None, *purls: str, level: Severity = Severity.ERROR) -> Outcome:
    folder.mkdir(exist_ok=True)
    rules = ValidationRules(osv_database=path, security=SecurityRules(vulnerabilities=level))
    made = Made(folder=folder, cyclonedx=sbom(*purls))
    return security.check(compared(made, made, rules))


FIXED = ({"introduced": "0"}, {"fixed": "2.31.0"})


def test_known_vulnerability_fails_and_its_mend_passes(tmp_path: Path) -> None:
    path = database(tmp_path / "all.zip", entry("requests", "PyPI", *FIXED, summary="leaks"))
    (finding,) = errors(held(tmp_path / "a", path, "pkg:pypi/requests@2.9.1"))
    assert (finding.rule, finding.place) == ("vulnerability", f"tool/{HERE}: OSV-1")
    assert finding.text == "requests 2.9.1 (PyPI) has OSV-1 (CVE-2026-1): leaks; fixed in 2.31.0"
    notes = passed(held(tmp_path / "a", path, "pkg:pypi/requests@2.31.0")).notes
    assert "1 entries of the OSV database, the newest of 2026-01-02" in notes


def test_without_a_database_nothing_is_checked(tmp_path: Path) -> None:
    assert "no OSV database is given" in gaps(held(tmp_path / "a", None, "pkg:pypi/requests@2.9.1"))[0]
    passed(held(tmp_path / "a", None, "pkg:pypi/requests@2.9.1", level=Severity.IGNORE))


def test_database_of_another_ecosystem_checks_nothing(tmp_path: Path) -> None:
    path = database(tmp_path / "all.zip", entry("requests", "PyPI", *FIXED))
    assert (
        "nothing about Go: golang.org/x/net"
        in gaps(held(tmp_path / "a", path, "pkg:golang/golang.org/x/net@v0.1.0"))[0]
    )
    assert "nothing about PyPI" in gaps(held(tmp_path / "a", database(tmp_path / "e.zip"), "pkg:pypi/requests@2.9"))[0]


def test_folder_of_entries_is_a_database_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "osv"
    folder.mkdir()
    (folder / "one.json").write_text(json.dumps(entry("requests", "PyPI", *FIXED)))
    assert broken(held(tmp_path / "a", folder, "pkg:pypi/requests@2.9.1")) == {"vulnerability"}
    (folder / "one.json").write_text('{"name": "requests"}')
    with pytest.raises(ValidationFailed, match="is no entry of an OSV database"):
        held(tmp_path / "a", folder, "pkg:pypi/requests@2.9.1")
    with pytest.raises(ValidationFailed, match="No such file"):
        held(tmp_path / "a", tmp_path / "absent.zip", "pkg:pypi/requests@2.9.1")


def test_artifact_without_an_sbom_is_not_checked(tmp_path: Path) -> None:
    path = database(tmp_path / "all.zip", entry("requests", "PyPI", *FIXED))
    rules = ValidationRules(osv_database=path)
    made = Made(folder=tmp_path / "none")
    made.folder.mkdir()
    assert "tool.tar.gz has no SBOM" in gaps(security.check(compared(made, made, rules)))[0]


SEMVER = {"kind": "SEMVER"}
TWICE = entry("p", "npm", {"fixed": "1.5.0"}, {"introduced": "2.0.0"}, {"introduced": "0"}, **SEMVER)
DEBIAN = entry("p", "Debian:12", {"introduced": "0"}, {"fixed": "1:1.2-3+deb12u1"})
ALPINE = entry("p", "Alpine:v3.18", versions=["1.2-r0"])
EVALUATED: list[tuple[dict[str, Any], str, str]] = [
    (entry("p", "Go", {"introduced": "1.0.0"}, {"fixed": "1.2.0"}, **SEMVER), "pkg:golang/p@v1.1.9", "hit"),
    (entry("p", "Go", {"introduced": "1.0.0"}, {"fixed": "1.2.0"}, **SEMVER), "pkg:golang/p@v1.2.0", ""),
    (entry("p", "Go", {"introduced": "1.0.0"}, {"fixed": "1.2.0"}, **SEMVER), "pkg:golang/p@v1.2.0-rc.1", "hit"),
    (entry("p", "Go", {"introduced": "1.0.0"}, {"fixed": "1.2.0"}, **SEMVER), "pkg:golang/p@v0.9.0", ""),
    (entry("stdlib", "Go", {"introduced": "0"}, {"fixed": "1.22.1"}, **SEMVER), "pkg:golang/stdlib@1.22.0", "hit"),
    (entry("p", "crates.io", {"introduced": "0"}, {"last_affected": "2.0.0"}, **SEMVER), "pkg:cargo/p@2.0.0", "hit"),
    (entry("p", "crates.io", {"introduced": "0"}, {"last_affected": "2.0.0"}, **SEMVER), "pkg:cargo/p@2.0.1", ""),
    (TWICE, "pkg:npm/p@3.0.0", "hit"),
    (TWICE, "pkg:npm/p@1.6.0", ""),
    (entry("p", "npm", {"introduced": "0"}, {"limit": "1.5.0"}, **SEMVER), "pkg:npm/p@1.6.0", ""),
    (entry("@s/p", "npm", {"introduced": "0"}, **SEMVER), "pkg:npm/%40s/p@1.6.0", "hit"),
    (entry("Foo.Bar", "PyPI", {"introduced": "0"}, {"fixed": "1!1.0"}), "pkg:pypi/foo-bar@9.0", "hit"),
    (entry("p", "PyPI", {"introduced": "0"}, {"fixed": "2.0"}), "pkg:pypi/p@2.0rc1", "hit"),
    (entry("p", "PyPI", versions=["1.0.3"]), "pkg:pypi/p@1.0.3", "hit"),
    (entry("p", "PyPI", versions=["1.0.3"]), "pkg:pypi/p@1.0.4", ""),
    (DEBIAN, "pkg:deb/debian/p@1:1.2-3?distro=debian-12", "hit"),
    (DEBIAN, "pkg:deb/debian/p@1:1.2-3%2Bdeb12u1?distro=debian-12", ""),
    (entry("p", "Debian:11", {"introduced": "0"}), "pkg:deb/debian/p@1?distro=debian-12", ""),
    (entry("src", "Debian:12", {"introduced": "0"}), "pkg:deb/debian/p@1?distro=debian-12&upstream=src", "hit"),
    (DEBIAN, "pkg:deb/debian/q@2:9?distro=debian-12&upstream=p%401:1.2-3", "hit"),
    (DEBIAN, "pkg:deb/debian/q@1?distro=debian-12&upstream=p@1:1.2-3+deb12u1", ""),
    (DEBIAN, "pkg:deb/debian/p@1:1.2-3?distro=debian-12.5", "hit"),
    (DEBIAN, "pkg:deb/debian/p@1:1.2-3?distro=debian-bookworm", "hit"),
    (entry("p", "Ubuntu:22.04:LTS", {"introduced": "0"}), "pkg:deb/ubuntu/p@1?distro=ubuntu-22.04", "hit"),
    (ALPINE, "pkg:apk/alpine/p@1.2-r0?distro=alpine-3.18.4", "hit"),
    (ALPINE, "pkg:apk/alpine/p@1.2-r0?distro=3.18", "hit"),
    (ALPINE, "pkg:apk/alpine/p@1.2-r0?distro=alpine-3.19.1", ""),
    (ALPINE, "pkg:apk/alpine/q@7?distro=alpine-3.18.4&upstream=p@1.2-r0", "hit"),
    (entry("g:a", "Maven", versions=["1.0"]), "pkg:maven/g/a@1.0", "hit"),
    (entry("g:a", "Maven", {"introduced": "0"}, {"fixed": "2.0"}, versions=["1.0"]), "pkg:maven/g/a@1.1", ""),
    (entry("g:a", "Maven", {"introduced": "0"}, {"fixed": "2.0"}), "pkg:maven/g/a@1.1", "unsure"),
    (entry("p", "PyPI", {"introduced": "0"}, withdrawn="2026-01-03T00:00:00Z"), "pkg:pypi/p@1.0", ""),
    (entry("p", "npm", {"introduced": "0"}, **SEMVER), "pkg:pypi/p@1.0", ""),
]  # fmt: skip


@pytest.mark.parametrize(("told", "purl", "wanted"), EVALUATED)
def test_ranges_and_lists_are_evaluated(tmp_path: Path, told: dict[str, Any], purl: str, wanted: str) -> None:
    package = known(purl)
    assert package is not None
    hits = osv.ask(database(tmp_path / "all.zip", told), [package]).hits
    assert ["hit" if each.sure else "unsure" for each in hits] == ([wanted] if wanted else [])


def test_packages_that_no_ecosystem_has_are_said(tmp_path: Path) -> None:
    assert known("pkg:generic/zlib@1.3") is None
    assert known("not a package URL") is None
    assert known("pkg:pypi/x") is None
    path = database(tmp_path / "all.zip", entry("requests", "PyPI", *FIXED))
    notes = passed(held(tmp_path / "a", path, "pkg:generic/zlib@1.3")).notes
    assert any("1 packages are of no ecosystem that OSV has: pkg:generic/zlib@1.3" in note for note in notes)


@pytest.mark.parametrize(
    ("purl", "reason"),
    [
        ("pkg:pypi/requests", "nobody tells its version"),
        ("pkg:rpm/fedora/zlib@1.3", "what OSV calls packages of rpm/fedora is not known here"),
        ("pkg:apk/wolfi/zlib@1.3", "what OSV calls packages of apk/wolfi is not known here"),
    ],
)
def test_package_that_osv_may_know_and_is_not_asked_for_is_a_gap(tmp_path: Path, purl: str, reason: str) -> None:
    path = database(tmp_path / "all.zip", entry("requests", "PyPI", *FIXED))
    wanted = [f"vulnerabilities: OSV was not asked for {purl}: {reason}"]
    assert gaps(held(tmp_path / "a", path, purl, "pkg:generic/zlib@1.3")) == wanted


def test_every_artifact_of_a_cell_is_held_against_the_database(tmp_path: Path) -> None:
    path = database(tmp_path / "all.zip", entry("requests", "PyPI", *FIXED))
    (tmp_path / "a").mkdir()
    one = side(Made(folder=tmp_path / "a", cyclonedx=sbom("pkg:pypi/requests@2.9.1")))
    listed = [
        replace(one.artifacts[0], path="a"),
        replace(one.artifacts[0], path="b", cyclonedx={}),
        replace(one.artifacts[0], path="c", cyclonedx=sbom("pkg:pypi/requests@2.31.0")),
    ]
    sides = compare(replace(one, artifacts=tuple(listed)), None, ValidationRules(osv_database=path))
    said = list(vulnerabilities(sides))
    assert [each.place for each in said if isinstance(each, Finding)] == [f"tool/{HERE}: OSV-1"]
    assert [each.reason for each in said if isinstance(each, Gap)] == [
        "b has no SBOM, so that nobody knows its packages"
    ]


def test_known_names_its_release() -> None:
    assert known("pkg:deb/debian/zlib@1.2?arch=source&distro=debian-12") == Known(
        ecosystem="Debian", name="zlib", version="1.2", kind="deb", release="12"
    )


@pytest.mark.parametrize(("one", "other"), [("1.0~rc1", "1.0"), ("1:1", "2"), ("1.2-3", "1.2-3+deb12u1"), ("9", "10")])
def test_debian_order_is_that_of_dpkg(one: str, other: str) -> None:
    # 1:1 has an epoch, and comes after every version without one.
    sooner, later = (other, one) if one.startswith("1:") else (one, other)
    assert versions.compare("deb", sooner, later) < 0
    if Path("/usr/bin/dpkg").exists():
        assert capture(["/usr/bin/dpkg", "--compare-versions", sooner, "lt", later]).exit_code == 0
