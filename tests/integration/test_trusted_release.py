"""One release by the command line, for three targets and by two signers, held against what strangers have.

Real cosign 2 and 3, gpg, sha256sum, the SPDX and CycloneDX validators and the in-toto library look at every file of it;
and the other way round, what real cosign and gpg sign is verified here.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format  # type: ignore[import-untyped]  # comes without types
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2  # type: ignore[import-untyped]  # the same
from in_toto_attestation.predicates.vsa.v1 import vsa_pb2  # type: ignore[import-untyped]  # the same
from in_toto_attestation.v1.statement import Statement  # type: ignore[import-untyped]  # the same
from in_toto_attestation.v1.statement_pb2 import Statement as StatementForm  # type: ignore[import-untyped]  # the same
from pyrage import x25519  # type: ignore[import-not-found,import-untyped,unused-ignore]  # a compiled module without types
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from orchestrator.trust import ARMOR, ATTESTATION, BUNDLE, CYCLONEDX, ENCRYPTED, SPDX, STATEMENT, SUMMARY
from tests.contract.test_signers import missing, require_gpg

ROOT = Path(__file__).parents[2]
RELBUILD = (sys.executable, "-P", "-c", "from orchestrator.cli import main; main()")
VERSION, TARGETS = "1.2.3", ("aarch64", "armv7", "x86_64")
ARTIFACTS = tuple(f"hello_{VERSION}_linux_{target}.tar.gz" for target in TARGETS)
SIGNED = ("manifest.json", "checksums.txt", *ARTIFACTS)
SECRETS = {"HELLO_KEY": "a long passphrase", "HELLO_GPG": "another passphrase"}
KEY_FILE = '{ key_file = "keys/release.key", passphrase = "env:HELLO_KEY" }'
GPG = '{ gpg = "only", home = "keys/gnupg", passphrase = "env:HELLO_GPG" }'
BOTH = f"signers = [{KEY_FILE}, {GPG}]"
MATRIX = """
[project]
name = "hello"
version = "1.2.3"
license = "Apache-2.0"
[products.hello]
source = "src"
recipe = "command"
glibc = "2.34"
run = '$CC $CFLAGS -s -o "$OUT/hello" hello.c'
outputs = ["hello"]
[signing]
trust = "keys/trust.json"
artifacts = true
"""


@dataclass(frozen=True)
class Project:
    """A folder with matrix.toml, one C program and two keys."""

    folder: Path

    @property
    def release(self) -> Path:
        return self.folder / "dist" / "staging" / VERSION

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def names(self, *endings: str) -> list[str]:
        return sorted(path.name for path in self.release.iterdir() if path.name.endswith(endings or ""))

    def relbuild(
        self, *arguments: object, env: Mapping[str, str] | None = None, umask: int = -1
    ) -> subprocess.CompletedProcess[str]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        given = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), **SECRETS, **(env or {})}
        return subprocess.run(
            [*RELBUILD, *map(str, arguments)], cwd=self.folder, env=given, umask=umask, capture_output=True, text=True,
            timeout=800, check=False,
        )  # fmt: skip

    def good(self, *arguments: object, env: Mapping[str, str] | None = None, umask: int = -1) -> str:
        done = self.relbuild(*arguments, env=env, umask=umask)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def matrix(self, *arguments: object, env: Mapping[str, str] | None = None, umask: int = -1) -> str:
        return self.good("matrix", "--engine", "local", *arguments, env=env, umask=umask)

    def copy(self, to: Path, signing: str) -> "Project":
        """Give the project with its keys and its finished cells elsewhere, with other rules for signing."""
        shutil.copytree(self.folder, to, ignore=shutil.ignore_patterns("staging", "zig"), symlinks=True)
        (to / "matrix.toml").write_text(f"{MATRIX}{signing}\n", encoding="utf-8")
        return Project(to)


def make_project(folder: Path, signing: str = BOTH) -> Project:
    (folder / "src").mkdir(parents=True)
    (folder / "keys").mkdir()
    source = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
    (folder / "src" / "hello.c").write_text(source, encoding="utf-8")
    shutil.copy(ROOT / "LICENSE", folder)
    (folder / "matrix.toml").write_text(f"{MATRIX}{signing}\n", encoding="utf-8")
    project = Project(folder)
    by_env = ("--passphrase-env", "HELLO_KEY")
    trust = ("--trust", "keys/trust.json")
    project.good("keys", "generate", "--out", "keys/release.key", *by_env, *trust, "--project", "hello")
    project.good("keys", "generate", "--kind", "gpg", "--out", "keys/gnupg", "--passphrase-env", "HELLO_GPG")
    project.good("keys", "rotate", *trust, "--key", "keys/release.key", "--add", "keys/gnupg.pub", *by_env)
    return project


@functools.cache
def built(base: Path) -> Project:
    """Build the release once for every test file of this session."""
    require_gpg()
    project = make_project(base / "trusted release")
    said = project.matrix()
    assert "signed, read again and verified" in said
    return project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return built(tmp_path_factory.getbasetemp())


# --- what is there -----------------------------------------------------------------------------------------------


def test_the_release_holds_what_it_should_and_nothing_else(project: Project) -> None:
    papers = {"artifacts.json", "checksums.txt", "checksums.sha512", "manifest.json", f"{VERSION}{SUMMARY}"}
    about = {f"{name}{ending}" for name in ARTIFACTS for ending in (SPDX, CYCLONEDX, STATEMENT, ATTESTATION)}
    signatures = {f"{name}{ending}" for name in SIGNED for ending in (BUNDLE, ARMOR)}
    assert set(project.names()) == {*ARTIFACTS, *papers, *about, *signatures}


def test_checksums_pass_with_coreutils(project: Project) -> None:
    for program, file in (("sha256sum", "checksums.txt"), ("sha512sum", "checksums.sha512")):
        done = subprocess.run([program, "-c", "--strict", file], cwd=project.release, capture_output=True, text=True,
                              check=True)  # fmt: skip
        assert done.stdout.count(": OK\n") == len(ARTIFACTS) * 4


# --- cosign ------------------------------------------------------------------------------------------------------


class Cosign:
    """A real cosign with a home of its own, an empty trusted root, and no way out of the machine."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder = program, folder
        root = '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'
        (folder / "trusted_root.json").write_text(root, encoding="utf-8")

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        env = {"HOME": str(self.folder / "home"), "PATH": os.defpath, "COSIGN_PASSWORD": "theirs",
               "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}  # fmt: skip
        argv = [str(self.program), *map(str, arguments)]
        return subprocess.run(argv, cwd=self.folder, env=env, capture_output=True, text=True, check=False, timeout=120)

    def verifies(self, command: str, key: Path, bundle: Path, file: Path, *more: str) -> bool:
        done = self.run(command, "--key", key, "--bundle", bundle, "--new-bundle-format", "--trusted-root",
                        "trusted_root.json", "--insecure-ignore-tlog", *more, file)  # fmt: skip
        assert ("Verified OK" in done.stderr) == (done.returncode == 0), done.stderr
        return done.returncode == 0


@pytest.fixture(params=["2", "3"])
def cosign(request: pytest.FixtureRequest, tmp_path: Path) -> Cosign:
    prefix = Path(os.environ.get("RELBUILD_TOOLS_PREFIX", "/opt/relbuild-tools"))
    program = prefix / f"cosign-{request.param}" / "usr/bin/cosign"
    if not program.is_file():
        missing(f"{program} is not here: ci/tools unpacks it")
    (tmp_path / "cosign").mkdir()
    return Cosign(program, tmp_path / "cosign")


def test_cosign_verifies_every_bundle(project: Project, cosign: Cosign) -> None:
    bundles = project.names(BUNDLE)
    assert bundles == sorted(f"{name}{BUNDLE}" for name in SIGNED)
    for name in bundles:
        subject = project.release / name.removesuffix(BUNDLE)
        key, bundle = project.keys / "release.pub", project.release / name
        assert cosign.verifies("verify-blob", key, bundle, subject), name
        assert not cosign.verifies("verify-blob", key, bundle, project.release / "artifacts.json"), name


def test_cosign_verifies_every_attestation(project: Project, cosign: Cosign) -> None:
    types = {f"{name}{ATTESTATION}": ("slsaprovenance1", name) for name in ARTIFACTS}
    types[f"{VERSION}{SUMMARY}"] = ("https://slsa.dev/verification_summary/v1", "manifest.json")
    assert project.names(ATTESTATION) == sorted(types)
    for name, (kind, subject) in types.items():
        key, bundle = project.keys / "release.pub", project.release / name
        assert bundle.read_bytes().count(b"\n") == 1
        verifies = functools.partial(cosign.verifies, "verify-blob-attestation", key, bundle)
        assert verifies(project.release / subject, "--type", kind), name
        assert not verifies(project.release / "artifacts.json", "--type", kind), name


def test_what_cosign_signs_is_verified_here(project: Project, cosign: Cosign, tmp_path: Path) -> None:
    assert cosign.run("generate-key-pair", "--output-key-prefix", "theirs").returncode == 0
    artifact = shutil.copy(project.release / ARTIFACTS[0], tmp_path)
    third = "cosign-3" in str(cosign.program)
    done = cosign.run("sign-blob", "--yes", "--key", "theirs.key", "--bundle", f"{artifact}{BUNDLE}",
                      "--use-signing-config=false" if third else "--new-bundle-format", "--tlog-upload=false",
                      artifact)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "is verified" in project.good("verify", artifact, "--key", cosign.folder / "theirs.pub")
    refused = project.relbuild("verify", artifact, "--key", project.keys / "release.pub")
    assert refused.returncode == 44, refused.stdout


# --- gpg ---------------------------------------------------------------------------------------------------------


def gpg_of(folder: Path) -> tuple[str, ...]:
    folder.mkdir(mode=0o700, exist_ok=True)
    return ("gpg", "--homedir", str(folder), "--batch", "--no-autostart")


def test_gpg_verifies_every_armored_signature(project: Project, tmp_path: Path) -> None:
    gpg = gpg_of(tmp_path / "home")
    subprocess.run([*gpg, "--import", str(project.keys / "gnupg.pub")], check=True, capture_output=True)
    shown = json.loads(project.good("keys", "show", "keys/gnupg.pub", "--json"))
    signatures = project.names(ARMOR)
    assert signatures == sorted(f"{name}{ARMOR}" for name in SIGNED)
    for name in signatures:
        subject = project.release / name.removesuffix(ARMOR)
        argv = [*gpg, "--status-fd", "1", "--verify", str(project.release / name), str(subject)]
        done = subprocess.run(argv, check=True, capture_output=True, text=True)
        (made_by,) = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("[GNUPG:] VALIDSIG ")]
        assert made_by in json.dumps(shown), name


def test_what_gpg_signs_is_verified_here(project: Project, tmp_path: Path) -> None:
    # The agent's socket lies in the home, and the path of a socket must be short: --no-autostart will not do here.
    home = Path(f"/tmp/theirs-{os.getpid()}")
    gpg = (*gpg_of(home)[:-1], "--pinentry-mode", "loopback", "--passphrase", "")
    artifact, key = shutil.copy(project.release / ARTIFACTS[0], tmp_path), tmp_path / "theirs.asc"
    try:
        for more in (
            ("--quick-generate-key", "Theirs <theirs@example.org>", "rsa3072", "sign", "never"),
            ("--armor", "--output", str(key), "--export"),
            ("--armor", "--output", f"{artifact}{ARMOR}", "--detach-sign", str(artifact)),
        ):
            subprocess.run([*gpg, *more], check=True, capture_output=True, timeout=120)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)
    assert "is verified" in project.good("verify", artifact, "--key", key)
    refused = project.relbuild("verify", artifact, "--key", project.keys / "gnupg.pub")
    assert refused.returncode == 44, refused.stdout


# --- documents ---------------------------------------------------------------------------------------------------


def test_validators_of_both_formats_accept_every_sbom(project: Project) -> None:
    spdx, cyclonedx = project.names(SPDX), project.names(CYCLONEDX)
    assert (len(spdx), len(cyclonedx)) == (3, 3)
    for name in spdx:
        document = JsonLikeDictParser().parse(json.loads((project.release / name).read_bytes()))  # type: ignore[no-untyped-call]  # it ships none
        assert [message.validation_message for message in validate_full_spdx_document(document)] == [], name
    for name in cyclonedx:
        text = (project.release / name).read_text(encoding="utf-8")
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None, name


def test_the_in_toto_library_reads_every_statement(project: Project) -> None:
    for name in ARTIFACTS:
        text = (project.release / f"{name}{STATEMENT}").read_bytes()
        predicate = read_by_the_library(text, subject=name)
        json_format.ParseDict(predicate, provenance_pb2.Provenance())
        assert payload_of(project.release / f"{name}{ATTESTATION}") == text
    predicate = read_by_the_library(payload_of(project.release / f"{VERSION}{SUMMARY}"), subject="manifest.json")
    # SLSA's text has a list of levels here, and the library's form one text alone; it knows no version of the verifier.
    assert predicate.pop("verifiedLevels") == ["SLSA_BUILD_LEVEL_1"]
    verifier = predicate["verifier"]
    assert isinstance(verifier, dict)
    assert list(verifier.pop("version")) == ["relbuild"]
    summary = json_format.ParseDict(predicate, vsa_pb2.VerificationSummary())
    assert (summary.verification_result, len(summary.input_attestations)) == ("PASSED", len(ARTIFACTS))


def read_by_the_library(statement: bytes, *, subject: str) -> dict[str, object]:
    """Give the predicate. A field of the statement that the library's form does not know is an error."""
    form = json_format.Parse(statement, StatementForm())
    Statement.copy_from_pb(form).validate()
    assert subject in [each.name for each in form.subject]
    found: dict[str, object] = json.loads(statement)["predicate"]
    return found


def payload_of(attestation: Path) -> bytes:
    import base64

    (line,) = attestation.read_bytes().splitlines()
    return base64.b64decode(json.loads(line)["dsseEnvelope"]["payload"], validate=True)


# --- relbuild verify ---------------------------------------------------------------------------------------------


def test_relbuild_verifies_the_release_and_each_file_of_it(project: Project, tmp_path: Path) -> None:
    stranger = shutil.copytree(project.release, tmp_path / "release")
    assert "hello 1.2.3 is verified" in project.good("verify", stranger, "--trust", project.keys / "trust.json")
    found = json.loads(project.good("verify", project.release, "--json"))
    assert found["passed"]
    assert all(found[flag] for flag in ("hash_verified", "signature_verified", "sbom_validated", "slsa_validated"))
    two = ("--key", project.keys / "release.pub", "--key", project.keys / "gnupg.pub")
    for name in ARTIFACTS:
        project.good("verify", stranger / name, *two, "--threshold", 2)
        project.good("verify", stranger / name, *two)
    # A signature by a key that nobody named is not passed over, even where another one would do.
    one = ("verify", stranger / ARTIFACTS[0], *two[:2])
    assert project.relbuild(*one).returncode == 44
    (stranger / f"{ARTIFACTS[0]}{ARMOR}").unlink()
    project.good(*one)
    assert project.relbuild("verify", stranger / ARTIFACTS[0], *two, "--threshold", 2).returncode == 43


# --- the same bytes ----------------------------------------------------------------------------------------------


@pytest.mark.fault(89)
def test_another_folder_and_another_world_give_the_same_documents(project: Project, tmp_path: Path) -> None:
    other = make_project(tmp_path / "a longer name" / "of another folder")
    # Only compilers' own libraries: what is found about artifacts is found anew.
    shutil.copytree(project.folder / "dist" / "cache" / "zig", other.folder / "dist" / "cache" / "zig")
    (tmp_path / "nobody").mkdir()
    env = {"TZ": "Asia/Tokyo", "LC_ALL": "C", "HOME": str(tmp_path / "nobody")}
    said = other.matrix("--jobs", "1", env=env, umask=0o077)
    assert said.count("built    hello/") == 3
    assert other.names() == project.names()
    differing = {name for name in project.names()
                 if (project.release / name).read_bytes() != (other.release / name).read_bytes()}  # fmt: skip
    signed = {name for name in project.names() if name.endswith((BUNDLE, ARMOR, ATTESTATION))}
    assert differing == signed
    assert len(signed) == 2 * len(SIGNED) + 4
    for name in ARTIFACTS:
        mine, theirs = (payload_of(each.release / f"{name}{ATTESTATION}") for each in (project, other))
        assert mine == theirs
    refused = project.relbuild("verify", other.release)
    assert refused.returncode == 44, refused.stdout


def test_a_second_run_keeps_every_signature_that_holds(project: Project) -> None:
    before = {name: (project.release / name).read_bytes() for name in project.names()}
    assert "signed by" in project.good("sign")
    assert {name: (project.release / name).read_bytes() for name in project.names()} == before


# --- age ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity:
    recipient: str
    file: Path


def identity_in(folder: Path, name: str = "identity") -> Identity:
    made = x25519.Identity.generate()
    (folder / name).write_text(f"# public: {made.to_public()}\n{made}\n", encoding="ascii")
    (folder / name).chmod(0o600)
    return Identity(recipient=str(made.to_public()), file=folder / name)


@pytest.fixture
def reader(tmp_path: Path) -> Identity:
    return identity_in(tmp_path)


def encrypting(recipient: str, plain: str) -> str:
    return f'signers = [{KEY_FILE}]\n[signing.encryption]\nrecipients = ["{recipient}"]\nplain = "{plain}"'


def test_encrypted_copies_beside_the_plain_files(project: Project, tmp_path: Path, reader: Identity) -> None:
    other = project.copy(tmp_path / "keep", encrypting(reader.recipient, "keep"))
    assert other.matrix().count("cached   hello/") == 3
    assert other.names(ENCRYPTED) == sorted(f"{name}{ENCRYPTED}" for name in ARTIFACTS)
    assert set(ARTIFACTS) <= set(other.names())
    look = ("verify", other.release, "--require-encryption", "--identity")
    other.good(*look, reader.file)
    stranger = identity_in(tmp_path, "stranger")
    assert other.relbuild(*look, stranger.file).returncode == 49
    # A copy of another artifact, well signed and for the right reader, is told by what is inside alone.
    encrypted = [other.release / f"{name}{ENCRYPTED}" for name in ARTIFACTS[:2]]
    for ending in ("", BUNDLE):
        shutil.copy(f"{encrypted[1]}{ending}", f"{encrypted[0]}{ending}")
    (other.release / f"{VERSION}{SUMMARY}").unlink()
    assert other.relbuild(*look, reader.file).returncode == 49


def test_encrypted_copies_instead_of_the_plain_files(project: Project, tmp_path: Path, reader: Identity) -> None:
    other = project.copy(tmp_path / "remove", encrypting(reader.recipient, "remove"))
    other.matrix()
    assert not set(ARTIFACTS) & set(other.names())
    assert other.names(ENCRYPTED) == sorted(f"{name}{ENCRYPTED}" for name in ARTIFACTS)
    other.good("verify", other.release, "--require-encryption", "--identity", reader.file)
    other.good("verify", other.release, "--require-encryption")
    # Nobody looked at the plain bytes, and nobody said that this will do.
    assert other.relbuild("verify", other.release).returncode == 41
    (other.release / f"{ARTIFACTS[0]}{ENCRYPTED}").unlink()
    assert other.relbuild("verify", other.release, "--require-encryption").returncode in {40, 41, 49}


def test_encryption_that_is_required_and_missing(project: Project, tmp_path: Path, reader: Identity) -> None:
    refused = project.relbuild("verify", project.release, "--require-encryption")
    assert refused.returncode == 49, refused.stdout
    other = project.copy(tmp_path / "keep", encrypting(reader.recipient, "keep"))
    other.matrix()
    (other.release / f"{ARTIFACTS[1]}{ENCRYPTED}").unlink()
    (other.release / f"{ARTIFACTS[1]}{ENCRYPTED}{BUNDLE}").unlink()
    (other.release / f"{VERSION}{SUMMARY}").unlink()
    assert other.relbuild("verify", other.release, "--require-encryption").returncode == 49
