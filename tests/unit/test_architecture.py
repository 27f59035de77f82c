"""The shape of the house: which room may import which, and the one home of each outside package."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HOMES = {
    "subprocess": {"builders/command.py"},
    "docker": {"builders/engine/docker_sdk.py"},
    "python_on_whales": {"builders/engine/buildx.py"},
    "typer": {"orchestrator/cli/"},
    "rich": {"orchestrator/cli/"},
    "elftools": {"builders/binaries/elf.py", "builders/binaries/sections.py"},
    "lief": {"builders/binaries/"},
    "cryptography": {"orchestrator/signing/", "orchestrator/verify/", "orchestrator/publish/rsa_pss.py"},
    "nacl": {"orchestrator/signing/cosign_key.py"},
    "pyrage": {"orchestrator/signing/age_files.py", "orchestrator/verify/opened.py"},
    "sigstore": {"orchestrator/signing/keyless.py", "orchestrator/verify/keyless.py"},
    "sigstore_models": {"orchestrator/signing/keyless.py", "orchestrator/verify/keyless.py"},
    "boto3": {"orchestrator/signing/kms.py", "orchestrator/repositories/s3_client.py"},
    "botocore": {"orchestrator/signing/kms.py", "orchestrator/repositories/"},
    "packaging": {"orchestrator/validate/versions.py"},
    "license_expression": {"orchestrator/validate/licenses.py"},
    "tenacity": {"orchestrator/repositories/retrying.py"},
    "google": {"orchestrator/repositories/gcs_bucket.py", "orchestrator/repositories/gcs_errors.py"},
    "pydantic": {"orchestrator/config/"},
    "pydantic_core": {"orchestrator/config/"},
}
"""Where an outside package may be imported: files, or folders that end in a slash."""

STAGES = {
    "config", "plan", "run", "stage", "survey", "gate", "checkup", "scaffold", "documents", "sbom", "provenance",
    "signing", "verify", "rehearse", "publish", "policy", "trust_checkup", "publishing", "publishing_evidence",
    "validate", "reproduce", "shards", "sharding", "ci_jobs", "ci_gate", "repository_checkup",
}  # fmt: skip
"""Rooms of the orchestrator that only release.py and the command line join."""

MAY_SEE = {
    "run": {"gate"},  # a cell is judged where it is built, so that a bad one is never kept
    "checkup": {"survey"},
    "trust_checkup": {"checkup", "signing", "sbom"},  # the same look as signing's own, before anything is built
    "repository_checkup": {"checkup"},
    "scaffold": {"config"},  # what it proposes must be what the configuration accepts
    "documents": {"stage", "sbom", "provenance"},  # what staging is told to write beside an artifact
    "publish": {"verify", "signing", "policy"},  # an index is signed, and read as a stranger reads it
    "publishing": {"publishing_evidence", "publish", "policy", "verify"},  # the stage that joins them
    "publishing_evidence": {"policy", "verify"},
    "ci_gate": {"verify"},  # signed lists of checks are read as a stranger reads them
    "validation_evidence": {"verify"},  # its strict reader of JSON
    # A rebuild begins with what a release says of itself, and goes the way of a run once more.
    "reproduce": {"config", "survey", "verify", "plan", "run", "stage", "signing"},
    "validate": {"verify", "publish"},  # the release to compare with is fetched and verified as a reader does
    # A shard is signed, read strictly, and what its builder claims is judged again.
    "shards": {"verify", "signing", "gate", "provenance"},
    "sharding": STAGES,  # the stage that joins many machines, as release.py joins one
    "rehearse": STAGES,  # it is a small release of its own
    "release": STAGES,
}

HEAVY = (
    "cryptography",
    "nacl",
    "pyrage",
    "sigstore",
    "tenacity",
    "docker",
    "python_on_whales",
    "pydantic",
    "lief",
    "elftools",
    "rich.console",
    "boto3",
    "requests",
)


def modules() -> list[Path]:
    found = [path for room in ("builders", "orchestrator", "containers") for path in (ROOT / room).rglob("*.py")]
    assert len(found) > 30
    return found


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", modules(), ids=place)
def test_builders_never_import_the_orchestrator(path: Path) -> None:
    if place(path).startswith("builders/"):
        assert not [name for name in imports(path) if name.split(".")[0] == "orchestrator"]


@pytest.mark.parametrize("path", modules(), ids=place)
def test_outside_packages_stay_in_their_homes(path: Path) -> None:
    for name in imports(path):
        homes = HOMES.get(name.split(".")[0])
        if homes is not None:
            assert any(
                place(path) == home or (home.endswith("/") and place(path).startswith(home)) for home in homes
            ), f"{place(path)} imports {name}, whose home is {sorted(homes)}"


def test_every_home_is_lived_in() -> None:
    imported = {name.split(".")[0] for path in modules() for name in imports(path)}
    assert set(HOMES) - {"pydantic_core"} <= imported


@pytest.mark.parametrize("path", modules(), ids=place)
def test_stages_do_not_import_one_another(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "orchestrator" or parts[1] == "cli":
        return
    seen = {name.split(".")[1] for name in imports(path) if name.startswith("orchestrator.")}
    assert seen & STAGES <= {parts[1]} | MAY_SEE.get(parts[1], set())


@pytest.mark.parametrize("path", modules(), ids=place)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    if place(path).startswith("orchestrator/cli/"):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else f".{node.func.attr}"
            assert name not in {"print", "exit", "quit"}, f"{place(path)}:{node.lineno} calls {name}"


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys, json\n"
        "sys.argv = ['relbuild', '--help']\n"
        "from orchestrator.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "orchestrator.cli.matrix" in loaded
    assert not {name for name in HEAVY if name in loaded}


@pytest.mark.parametrize("path", modules(), ids=place)
def test_no_architecture_string_is_compared_outside_the_table(path: Path) -> None:
    if place(path) == "builders/targets.py":
        return
    names = {"x86_64", "aarch64", "armv7", "amd64", "arm64", "armhf"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            constants = {side.value for side in (node.left, *node.comparators) if isinstance(side, ast.Constant)}
            assert not constants & names, f"{place(path)}:{node.lineno} compares an architecture by name"


POSSESSIVE = re.compile(r"[)\]](?:[*+?]|\{[0-9,]*\})\+|\(\?>")


@pytest.mark.parametrize("path", modules(), ids=place)
def test_no_pattern_is_possessive_or_atomic(path: Path) -> None:
    # Python 3.11.2, which is Debian 12's, has them and matches wrongly beside other groups.
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            assert not POSSESSIVE.search(text), f"{place(path)}:{node.lineno} has a possessive or atomic pattern"
