"""Real releases of the shared library example, each worse in its own way, and what `relbuild validate` says."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builders.targets import host

ROOT = Path(__file__).parents[2]
RELBUILD = [sys.executable, "-P", "-c", "from orchestrator.cli import main; main()"]
PLACE = f"tally/{host().name}"
METADATA = "Metadata-Version: 2.1\nName: requests\nVersion: 2.9.1\n"
ADVISORY = {
    "id": "OSV-2026-1", "modified": "2026-01-02T00:00:00Z", "summary": "leaks",
    "affected": [{
        "package": {"ecosystem": "PyPI", "name": "requests"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.31.0"}]}],
    }],
}  # fmt: skip
RULES = """
[validate]
osv_database = "osv.zip"
allow_changes = ["parameters", "source"]
"""
SLOW = """#define _POSIX_C_SOURCE 200809L
#include <time.h>
"""
SLEEP = "\tnanosleep(&(struct timespec){0, 40000000L}, NULL);\n\ttally_start(&tally);"
TOKEN = "ghp_" + "a1B2c3D4e5" * 4
"""No token of anyone's; it has the form of one."""


@dataclass(frozen=True)
class Project:
    folder: Path

    def relbuild(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [*RELBUILD, *arguments], cwd=self.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
            text=True, timeout=800, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        text = (self.folder / name).read_text()
        changed = change(text)
        assert changed != text
        (self.folder / name).write_text(changed)

    def release(self, version: str) -> None:
        file = self.folder / "matrix.toml"
        file.write_text(file.read_text().replace('version = "1.0.0"', f'version = "{version}"'))
        code, said = self.relbuild("matrix", "--engine", "local", "--targets", host().name)
        assert code == 0, said

    def judged(self, version: str, baseline: str = "dist/staging/1.0.0") -> tuple[int, set[str], str]:
        """Give the exit code, `check.rule` of every error, and all that was said."""
        code, said = self.relbuild("validate", version, "--baseline", baseline)
        return code, set(re.findall(r"^error: (\w+\.\w+) at", said, re.MULTILINE)), said


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The example with a database of advisories, and its first release."""
    pytest.importorskip("ziglang")
    folder = tmp_path_factory.mktemp("tally") / "project"
    shutil.copytree(ROOT / "examples" / "sharedlib", folder)
    with zipfile.ZipFile(folder / "osv.zip", "w") as packed:
        packed.writestr("OSV-2026-1.json", json.dumps(ADVISORY))
    made = Project(folder)
    made.edit("matrix.toml", lambda text: text + RULES)
    made.release("1.0.0")
    return made


@pytest.fixture
def again(project: Project) -> Project:
    """The project with the sources of its first release."""
    for path in (ROOT / "examples" / "sharedlib").iterdir():
        if path.name != "matrix.toml":
            shutil.copy(path, project.folder)
    text = (ROOT / "examples" / "sharedlib" / "matrix.toml").read_text()
    (project.folder / "matrix.toml").write_text(text + RULES)
    return project


def test_release_that_only_gains_passes(again: Project) -> None:
    again.edit(
        "main.c", lambda text: text.replace('"  -h, --help', '"  -v, --verbose    nothing yet\\n"\n\t"  -h, --help')
    )
    again.release("1.0.1")
    code, found, said = again.judged("1.0.1")
    assert (code, found) == (0, set()), said
    assert "`bin/tally --text one two" in said


def test_broken_interface_is_named(again: Project) -> None:
    again.edit("tally.map", lambda text: text.replace("tally_separators;", ""))
    again.edit("matrix.toml", lambda text: text.replace("libtally.so.1", "libtally.so.2"))
    again.edit(
        "main.c", lambda text: text.replace("-b, --bytes      how", "-b                how").replace(" | --bytes]", "]")
    )
    again.release("1.0.2")
    code, found, said = again.judged("1.0.2")
    assert code == 53, said
    assert found == {"api_compat.symbol_gone", "api_compat.soname", "api_compat.option_gone"}
    assert "exports no longer: tally_separators@TALLY_1.0" in said
    assert "was libtally.so.1 and is libtally.so.2" in said
    assert "--help names --bytes no longer" in said


def test_larger_and_slower_release_is_named_with_its_ratios(again: Project) -> None:
    again.edit("main.c", lambda text: SLOW + text.replace("\ttally_start(&tally);", SLEEP))
    table = 'cp tally.h "$OUT/include/"; seq 1 4000 > "$OUT/include/table.h"'
    again.edit("matrix.toml", lambda text: text.replace('cp tally.h "$OUT/include/"', table))
    again.release("1.0.3")
    code, found, said = again.judged("1.0.3")
    assert code == 54, said
    assert found == {"performance.size", "performance.startup"}
    ratio = re.search(r"`bin/tally --words include/tally.h` takes ([0-9.]+) times", said)
    assert ratio
    assert float(ratio[1]) > 1.5


def test_softened_release_with_a_secret_and_a_vulnerable_package_is_named(again: Project) -> None:
    recipe = f"""mkdir -p "$OUT/include/requests-2.9.1.dist-info"
printf '{METADATA.replace(chr(10), chr(92) + "n")}' > "$OUT/include/requests-2.9.1.dist-info/METADATA"
echo 'token: {TOKEN}' > "$OUT/include/notes.txt"
cp tally.h"""
    again.edit("matrix.toml", lambda text: text.replace("cp tally.h", recipe).replace("-fPIE -pie", "-no-pie")
               .replace("../lib' main.c", "../lib:$ORIGIN' main.c"))  # fmt: skip
    again.release("1.0.4")
    code, found, said = again.judged("1.0.4")
    assert code in {50, 55}, said
    wanted = {"security.pie", "security.rpath", "security.secret", "security.vulnerability"}
    assert {each for each in found if each.startswith("security.")} == wanted, said
    assert f"security.vulnerability at {PLACE}: OSV-2026-1: requests 2.9.1 (PyPI) has OSV-2026-1: leaks" in said
    assert f"security.secret at {PLACE}: include/notes.txt: a GitHub token" in said
    assert TOKEN not in said
    assert TOKEN[4:] not in said


def test_nobody_passes_without_a_database(again: Project) -> None:
    again.edit("matrix.toml", lambda text: text.replace('osv_database = "osv.zip"', ""))
    code, found, said = again.judged("1.0.0", "none")
    assert (code, found) == (55, set()), said
    assert "not checked: security.vulnerabilities" in said
