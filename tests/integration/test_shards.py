"""One plan, built by separate processes with homes and folders of their own, moved as plain files, and merged.

What one machine would have built is built as well, and every byte is compared; then each kind of drift is made by hand.
"""

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builders.hashing import file_sha256
from orchestrator.canonical import canonical_json
from orchestrator.signing.interface import Blob
from orchestrator.signing.key_file import open_key_file

ROOT = Path(__file__).parents[2]
RELBUILD = (sys.executable, "-P", "-c", "from orchestrator.cli import main; main()")
TARGETS = ("x86_64", "aarch64", "armv7")
VERSION = "1.2.3"
SIGNATURES = (".sigstore.json", ".intoto.jsonl")
MATRIX = """
[project]
name = "hello"
version = "1.2.3"
license = "Apache-2.0"
[engine]
kind = "local"
[products.hello]
source = "src"
recipe = "command"
run = 'RECIPE'
outputs = ["hello"]
[products.notes]
source = "src"
recipe = "command"
run = 'cp hello.c "$OUT/notes.txt"'
outputs = ["notes.txt"]
targets = ["x86_64"]
[signing]
trust = "trust.json"
signers = [{ key_file = "KEYS/release.key" }]
"""
COMPILES = '$CC $CFLAGS -s -o "$OUT/hello" hello.c'
COPIES = 'sed s/hello/$RELBUILD_TARGET/ hello.c > "$OUT/hello"'
"""Quick, for what is refused: no compiler runs."""


@dataclass(frozen=True)
class Fleet:
    """A project in git, its keys, and machines: clones with homes of their own."""

    folder: Path

    @property
    def plan(self) -> Path:
        return self.folder / "plan.json"

    def machine(self, name: str) -> Path:
        place = self.folder / name
        if not place.exists():
            git("clone", "-q", self.folder / "origin", place)
        return place

    def run(
        self, name: str, *arguments: object, program: tuple[str, ...] = RELBUILD
    ) -> subprocess.CompletedProcess[str]:
        home = self.folder / f"home-{name}"
        home.mkdir(exist_ok=True)
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [*program, *map(str, arguments)], cwd=self.machine(name), env=env, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip

    def run_as(self, host: str, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run the program on a machine that takes itself for another kind: none of that kind is at hand."""
        script = (
            "import builders.targets as targets; "
            f"targets.host = lambda: targets.TARGETS[{host!r}]; "
            "from orchestrator.cli import main; main()"
        )
        return self.run(name, *arguments, program=(sys.executable, "-P", "-c", script))

    def good(self, name: str, *arguments: object) -> str:
        done = self.run(name, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def make_plan(self) -> None:
        self.plan.write_text(self.good("planner", "plan", "--json"), encoding="utf-8")

    def build(self, target: str, *arguments: object) -> Path:
        """Build a target on a machine of its own, and give its shard after it was moved as files."""
        name = f"builder-{target}"
        self.good(name, "build", "--plan", self.plan, "--targets", target, "--shard-key", self.key, *arguments)
        (shard,) = (self.machine(name) / "dist" / "shards").iterdir()
        moved = self.folder / "moved" / shard.name
        shutil.copytree(shard, moved)
        # Artifact stores of CI services keep no modes.
        for path in moved.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o600)
        return moved

    @property
    def key(self) -> Path:
        return self.folder / "keys" / "runner.key"

    def merge(self, *shards: Path, plan: Path | None = None) -> subprocess.CompletedProcess[str]:
        return self.run("merger", "merge", "--plan", plan or self.plan, *shards)

    def copy(self, shard: Path, name: str) -> Path:
        place = self.folder / name / shard.name
        shutil.copytree(shard, place)
        return place

    def sign_again(self, shard: Path, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a shard's list and sign it anew with the runner's own key: what a builder that lies would send."""

        path = shard / "shard.json"
        document = json.loads(path.read_bytes())
        change(document)
        path.write_bytes(canonical_json(document))
        signer = open_key_file(self.key, lambda: None)

        bundle = signer.sign(Blob(path=path, sha256=file_sha256(path)))
        (shard / "shard.json.sigstore.json").write_bytes(bundle)


def git(*arguments: object) -> None:
    names = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *names, *map(str, arguments)], check=True, capture_output=True, timeout=60)


def make_fleet(folder: Path, recipe: str) -> Fleet:
    origin, keys = folder / "origin", folder / "keys"
    (origin / "src").mkdir(parents=True)
    keys.mkdir()
    (origin / "src" / "hello.c").write_text(
        '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n', encoding="utf-8"
    )
    shutil.copy(ROOT / "LICENSE", origin)
    text = MATRIX.replace("RECIPE", recipe).replace("KEYS", str(keys))
    (origin / "matrix.toml").write_text(text, encoding="utf-8")
    git("init", "-q", origin)
    git("-C", origin, "commit", "-q", "--allow-empty", "-m", "nothing yet")
    fleet = Fleet(folder)
    trust = folder / "trust.json"
    made = ("keys", "generate", "--no-passphrase", "--out")
    fleet.good("keymaster", *made, keys / "release.key", "--trust", trust, "--project", "hello")
    fleet.good("keymaster", *made, keys / "runner.key")
    fleet.good("keymaster", *made, keys / "stranger.key")
    rotate = ("keys", "rotate", "--no-passphrase", "--trust", trust, "--key", keys / "release.key")
    fleet.good("keymaster", *rotate, "--add", keys / "runner.pub", "--role", "shard")
    shutil.copy(trust, origin / "trust.json")
    git("-C", origin, "add", "-A")
    git("-C", origin, "commit", "-q", "-m", "hello")
    shutil.rmtree(folder / "keymaster")
    fleet.make_plan()
    return fleet


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return make_fleet(tmp_path_factory.mktemp("fleet"), COPIES)


@pytest.fixture(scope="module")
def shards(fleet: Fleet) -> dict[str, Path]:
    return {target: fleet.build(target) for target in TARGETS}


# --- what it is for ----------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_three_processes_give_what_one_machine_gives(tmp_path: Path) -> None:
    """The programs are compiled, on three machines and on one; only signatures may differ."""
    fleet = make_fleet(tmp_path, COMPILES)
    shards = [fleet.build(target) for target in TARGETS]
    merged = fleet.merge(*shards)
    assert merged.returncode == 0, merged.stdout + merged.stderr
    fleet.good("one", "matrix", "--targets", "all")
    one, many = (fleet.machine(name) / "dist" / "staging" / VERSION for name in ("one", "merger"))
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in many.iterdir())
    assert len([name for name in names if name.endswith(".tar.gz") and "source" not in name]) == 4
    for name in names:
        if not name.endswith(SIGNATURES):
            assert (one / name).read_bytes() == (many / name).read_bytes(), name
    fleet.good("stranger", "verify", many, "--trust", "trust.json")


def test_shards_meet_in_a_folder(fleet: Fleet, shards: dict[str, Path], tmp_path: Path) -> None:
    """`--to` creates and never replaces; sending again changes nothing; `--from` finds the plan's shards alone."""
    del shards
    place = tmp_path / "meeting"
    for target in TARGETS:
        line = fleet.good(f"builder-{target}", "build", "--plan", fleet.plan, "-t", target, "--shard-key", fleet.key,
                          "--to", place)  # fmt: skip
        assert f"sent to {place}" in line
    again = fleet.run(
        "builder-armv7", "build", "--plan", fleet.plan, "-t", "armv7", "--shard-key", fleet.key, "--to", place
    )
    # The shard is signed anew, so its signature has other bytes: the first one stays, and is enough.
    assert again.returncode == 0, again.stderr
    (whole,) = [path for path in place.rglob("shard.json") if "armv7" in str(path)]
    # Killed before the last file: nobody takes it for a shard, and a new send is not in its way.
    whole.unlink()
    cut = fleet.run("receiver", "merge", "--plan", fleet.plan, "--from", place)
    refused(cut, 108, "hello/armv7")
    fleet.good("builder-armv7", "build", "--plan", fleet.plan, "-t", "armv7", "--shard-key", fleet.key, "--to", place)
    merged = fleet.run("receiver", "merge", "--plan", fleet.plan, "--from", place)
    assert merged.returncode == 0, merged.stdout + merged.stderr


def test_a_place_without_shards_of_the_plan_is_told(fleet: Fleet, tmp_path: Path) -> None:
    done = fleet.run("receiver", "merge", "--plan", fleet.plan, "--from", tmp_path / "empty")
    assert done.returncode == 100
    assert "holds no shard of this plan" in done.stderr


def test_a_target_is_left_to_a_machine_of_another_kind(fleet: Fleet, shards: dict[str, Path]) -> None:
    """The plan leaves its toolchain open; the machine that is of that kind decides, and its shard tells."""
    plan = fleet.folder / "hosts.json"
    plan.write_text(fleet.good("planner", "plan", "--json", "--host", "arm64=aarch64"), encoding="utf-8")
    cells = {cell["id"]: cell for cell in json.loads(plan.read_bytes())["cells"]}
    assert (cells["hello/aarch64"]["host"], cells["hello/aarch64"]["toolchain"]) == ("aarch64", None)
    assert cells["hello/armv7"]["host"] == "x86_64"
    build = ("build", "--plan", plan, "--shard-key", fleet.key)
    refused(fleet.run("builder-aarch64", *build, "-t", "aarch64"), 107, "built on aarch64")
    refused(fleet.run_as("aarch64", "arm", *build, "-t", "armv7"), 107, "built on x86_64")
    for name, targets, host in (("arm", "aarch64", "aarch64"), ("intel", "x86_64,armv7", "x86_64")):
        done = fleet.run_as(host, name, *build, "-t", targets)
        assert done.returncode == 0, done.stdout + done.stderr
    found = [next((fleet.machine(name) / "dist" / "shards").iterdir()) for name in ("arm", "intel")]
    merged = fleet.run("hosts-merger", "merge", "--plan", plan, *found)
    assert merged.returncode == 0, merged.stdout + merged.stderr
    manifest = json.loads((fleet.machine("hosts-merger") / "dist/staging" / VERSION / "manifest.json").read_bytes())
    made = {each["made"]["cell"]: each["made"]["placement"] for each in manifest["artifacts"] if "made" in each}
    assert (made["hello/aarch64"], made["hello/armv7"]) == ("native", "cross")
    refused(fleet.run("hosts-merger", "merge", "--plan", plan, *shards.values()), 110)


def test_a_plan_written_beside_matrix_toml_changes_no_checkout(fleet: Fleet) -> None:
    """`relbuild plan --json > plan.json` makes the file before the program looks, and builders have it there too."""
    place = fleet.machine("beside")
    with (place / "plan.json").open("w", encoding="utf-8") as out:
        subprocess.run(
            [*RELBUILD, "plan", "--json"], cwd=place, stdout=out, check=True, timeout=120,
            env={"PATH": os.environ["PATH"], "HOME": str(fleet.folder), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert json.loads((place / "plan.json").read_bytes())["dirty"] is False
    fleet.good("beside", "build", "--plan", "plan.json", "-t", "armv7")
    (place / "other.txt").write_text("a change\n", encoding="utf-8")
    refused(fleet.run("beside", "build", "--plan", "plan.json", "-t", "armv7"), 105)


# --- what is refused ---------------------------------------------------------------------------------------------


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "next:" in done.stderr
    for word in words:
        assert word in done.stderr


def test_another_program_version_is_refused(fleet: Fleet, shards: dict[str, Path]) -> None:
    shard = fleet.copy(shards["armv7"], "program")
    fleet.sign_again(shard, lambda document: document.update(program="9.9.9"))
    refused(fleet.merge(shards["x86_64"], shards["aarch64"], shard), 102, "9.9.9")


def test_another_configuration_is_refused(fleet: Fleet, shards: dict[str, Path]) -> None:
    shard = fleet.copy(shards["armv7"], "config")
    fleet.sign_again(shard, lambda document: document.update(config="0" * 64))
    refused(fleet.merge(shards["x86_64"], shards["aarch64"], shard), 103, "matrix.toml")


def test_another_commit_is_refused_by_who_builds_and_by_who_merges(fleet: Fleet, shards: dict[str, Path]) -> None:
    shard = fleet.copy(shards["armv7"], "commit")
    fleet.sign_again(shard, lambda document: document.update(commit="1" * 40))
    refused(fleet.merge(shards["x86_64"], shards["aarch64"], shard), 104, "1" * 40)
    later = fleet.machine("later")
    git("-C", later, "commit", "-q", "--allow-empty", "-m", "later")
    refused(fleet.run("later", "build", "--plan", fleet.plan, "-t", "armv7"), 104, "commit")


def test_a_dirty_tree_is_refused_by_who_builds_and_by_who_merges(fleet: Fleet, shards: dict[str, Path]) -> None:
    (fleet.machine("dirty") / "src" / "extra.c").write_text("int extra;\n", encoding="utf-8")
    build = ("build", "--plan", fleet.plan, "-t", "armv7")
    refused(fleet.run("dirty", *build), 105, "no commit holds ('src/extra.c')")
    place = fleet.machine("dirtier")
    (place / "src" / "hello.c").write_text("int other;\n", encoding="utf-8")
    for number in range(6):
        (place / f"new {number}").touch()
    (place / "far").mkdir()
    (place / "far" / "x").touch()
    told = "'src/hello.c', 'far/', 'new 0', 'new 1', 'new 2' and 3 more"
    refused(fleet.run("dirtier", *build), 105, f"this machine has files that no commit holds ({told})")
    shard = fleet.copy(shards["armv7"], "dirt")
    fleet.sign_again(shard, lambda document: document.update(dirty=True))
    refused(fleet.merge(shards["x86_64"], shards["aarch64"], shard), 105)
    refused(fleet.run("dirty", "merge", "--plan", fleet.plan, *shards.values()), 105)


@pytest.mark.parametrize(
    ("field", "code", "word"), [("toolchain", 107, "has the toolchain"), ("source", 106, "has the source")]
)
def test_another_toolchain_or_source_is_refused(
    fleet: Fleet, shards: dict[str, Path], field: str, code: int, word: str
) -> None:
    shard = fleet.copy(shards["armv7"], f"other-{field}")

    def change(document: dict[str, object]) -> None:
        cell = document["cells"][0]  # type: ignore[index]  # the shape is known
        where = cell["toolchain"] if field == "toolchain" else cell
        where["identity" if field == "toolchain" else field] = "sha256:" + "2" * 64

    fleet.sign_again(shard, change)
    refused(fleet.merge(shards["x86_64"], shards["aarch64"], shard), code, word)


def test_a_machine_with_another_toolchain_refuses_to_build(fleet: Fleet) -> None:
    document = json.loads(fleet.plan.read_bytes())
    for cell in document["cells"]:
        cell["toolchain"]["identity"] = "sha256:" + "3" * 64
    other = fleet.folder / "other-toolchain.json"
    other.write_text(json.dumps(document), encoding="utf-8")
    refused(fleet.run("planner", "build", "--plan", other, "-t", "armv7"), 107, "3" * 64)


def test_a_missing_required_cell_is_refused(fleet: Fleet, shards: dict[str, Path]) -> None:
    refused(fleet.merge(shards["x86_64"], shards["armv7"]), 108, "hello/aarch64", "--targets aarch64")


def test_a_cell_twice_is_refused(fleet: Fleet, shards: dict[str, Path]) -> None:
    again = fleet.copy(shards["armv7"], "twice")
    refused(fleet.merge(*shards.values(), again), 109, "hello/armv7", str(again))


def test_a_shard_of_another_plan_is_refused(fleet: Fleet, shards: dict[str, Path]) -> None:
    document = json.loads(fleet.plan.read_bytes())
    document["engine_reason"] = "another day"
    other = fleet.folder / "other-plan.json"
    other.write_text(json.dumps(document), encoding="utf-8")
    refused(fleet.merge(*shards.values(), plan=other), 110, "built of the plan")


def test_every_flipped_byte_is_refused(fleet: Fleet, shards: dict[str, Path]) -> None:
    shard = fleet.copy(shards["armv7"], "flipped")
    for path in sorted(path for path in shard.rglob("*") if path.is_file() and path.stat().st_size):
        before = path.read_bytes()
        middle = len(before) // 2
        path.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
        code = 113 if path.name.startswith("shard.json") else 111
        done = fleet.merge(shards["x86_64"], shards["aarch64"], shard)
        assert done.returncode in {code, 112}, f"{path}: {done.returncode} {done.stderr}"
        path.write_bytes(before)


def test_a_foreign_and_a_missing_file_are_refused(fleet: Fleet, shards: dict[str, Path]) -> None:
    shard = fleet.copy(shards["armv7"], "foreign")
    extra = shard / "cells" / "extra"
    extra.symlink_to("/etc/passwd")
    refused(fleet.merge(shards["x86_64"], shards["aarch64"], shard), 111, "not in the list")
    extra.unlink()
    next(shard.rglob("files/hello")).unlink()
    refused(fleet.merge(shards["x86_64"], shards["aarch64"], shard), 111, "is missing")


def test_an_unsigned_shard_is_refused_unless_a_person_says_otherwise(fleet: Fleet, shards: dict[str, Path]) -> None:
    shard = fleet.copy(shards["armv7"], "unsigned")
    (shard / "shard.json.sigstore.json").unlink()
    rest = (shards["x86_64"], shards["aarch64"], shard)
    refused(fleet.merge(*rest), 112, "--shard-key")
    taken = fleet.run("careless", "merge", "--plan", fleet.plan, *rest, "--unsafe-unsigned")
    assert taken.returncode == 0, taken.stderr
    assert "signed by nobody" in taken.stdout


@pytest.mark.parametrize("key", ["stranger", "release"])
def test_a_key_without_the_role_is_refused(fleet: Fleet, shards: dict[str, Path], key: str) -> None:
    """Not even the release key signs shards: it never leaves the machine that merges."""
    shard = fleet.copy(shards["armv7"], f"by-{key}")
    path = shard / "shard.json"

    signer = open_key_file(fleet.folder / "keys" / f"{key}.key", lambda: None)
    bundle = signer.sign(Blob(path=path, sha256=file_sha256(path)))
    (shard / "shard.json.sigstore.json").write_bytes(bundle)
    refused(fleet.merge(shards["x86_64"], shards["aarch64"], shard), 113, "--role shard")


def test_what_a_builder_claims_is_judged_again(fleet: Fleet, shards: dict[str, Path]) -> None:
    """A program of another machine, files that nobody asked for, documents and smoke tests that cannot be."""
    rest = (shards["x86_64"], shards["aarch64"])
    shard = fleet.copy(shards["armv7"], "lying")
    (program,) = shard.rglob("files/hello")
    before = json.loads((shard / "shard.json").read_bytes())

    def lie(change: Callable[[dict[str, Any]], object]) -> subprocess.CompletedProcess[str]:
        def lying(document: dict[str, Any]) -> None:
            document |= copy.deepcopy(before)
            change(document)

        fleet.sign_again(shard, lying)
        return fleet.merge(*rest, shard)

    def put(document: dict[str, Any], name: str, content: bytes) -> None:
        path = program.parent / name
        path.write_bytes(content)
        cell = document["cells"][0]
        entry = {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        cell["files"] = [each for each in cell["files"] if each["path"] != name]
        cell["files"].append({**entry, "sha512": hashlib.sha512(content).hexdigest(), "executable": True})
        below = f"cells/{cell['folder']}/files/{name}"
        document["files"] = [each for each in document["files"] if each["path"] != below] + [{**entry, "path": below}]

    text = program.read_bytes()
    refused(lie(lambda told: put(told, "hello", Path("/bin/true").read_bytes())), 26)
    program.write_bytes(text)
    refused(lie(lambda told: put(told, "backdoor", b"#!/bin/sh\n")), 111, "backdoor")
    (program.parent / "backdoor").unlink()
    refused(lie(lambda told: told["cells"][0].update(smoke={"how": "native", "tests": 3, "note": "", "runs": []})), 111)
    other = {"path": "hello", "rule": "rpath", "text": "forged", "verdict": "warn"}
    taken = lie(lambda told: told["cells"][0].update(findings=[other]))
    assert taken.returncode == 0, taken.stderr
    manifest = (fleet.machine("merger") / "dist" / "staging" / VERSION / "manifest.json").read_text(encoding="utf-8")
    assert "forged" not in manifest
    refused(lie(lambda told: told["cells"][0]["files"][0].update(sha512="0" * 128)), 111)


def test_a_plan_that_was_changed_on_its_way_is_refused(fleet: Fleet) -> None:
    """Nobody signs plans: what the checkout knows better counts."""
    whole = json.loads(fleet.plan.read_bytes())
    changes: dict[str, Callable[[dict[str, Any]], object]] = {
        "is not in the plan": lambda told: told.update(cells=told["cells"][1:]),
        "is required here": lambda told: told["cells"][0].update(required=False),
        "9.9.9": lambda told: told.update(version="9.9.9"),
        "commit time": lambda told: told.update(epoch=1),
    }
    for word, change in changes.items():
        document = copy.deepcopy(whole)
        change(document)
        plan = fleet.folder / "changed.json"
        plan.write_text(json.dumps(document), encoding="utf-8")
        refused(fleet.run("merger", "merge", "--plan", plan), 101, word)


def test_a_cell_of_another_host_that_cannot_be_made_is_never_dropped(fleet: Fleet, shards: dict[str, Path]) -> None:
    plan = fleet.folder / "dropping.json"
    plan.write_text(fleet.good("planner", "plan", "--json", "--host", "x86_64=aarch64"), encoding="utf-8")
    digest = file_sha256(plan)
    found = []
    for target in TARGETS:
        shard = fleet.copy(shards[target], "dropping")

        def change(document: dict[str, Any], target: str = target) -> None:
            document["plan"] = digest
            if target == "x86_64":
                document["host"] = "aarch64"
                for cell in document["cells"]:
                    cell["builder"] = "bogus"

        fleet.sign_again(shard, change)
        found.append(shard)
    refused(fleet.merge(*found, plan=plan), 101, "x86_64")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": "relbuild/plan/v1"}', '{"schema": "relbuild/plan/v9"}', '{"a": 1, "a": 2}']
)
def test_a_bad_plan_is_told(fleet: Fleet, tmp_path: Path, text: str) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(text, encoding="utf-8")
    refused(fleet.run("planner", "build", "--plan", plan), 101, "relbuild plan --json")
    refused(fleet.merge(plan=plan), 101)


def test_a_failed_required_cell_writes_no_shard(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path, "exit 3")
    done = fleet.run("builder", "build", "--plan", fleet.plan, "-t", "armv7", "--shard-key", fleet.key)
    assert done.returncode == 80, done.stderr
    assert not (fleet.machine("builder") / "dist" / "shards").exists()
