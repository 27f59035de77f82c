"""What generated jobs are for and what they cannot do: the proof, the setup, machines of each service, warnings."""

import base64
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest

from orchestrator import config
from orchestrator.ci_jobs import files
from orchestrator.ci_jobs.graph import laying
from orchestrator.ci_jobs.yaml_text import read_yaml
from orchestrator.errors import CiInvalid
from tests.unit.test_ci_jobs import BIN, MATRIX, PROVIDERS, lint, project, zizmor

NATIVE = 'runners = { aarch64 = { label = "ubuntu-24.04-arm", host = "aarch64" } }\n'
PROVES = MATRIX.replace(NATIVE, "") + '[reproduce]\ngate = "block"\nkeys = ["rebuild.pub"]\n'
S3 = ('path = "releases"', 'kind = "s3"\nbucket = "releases"')


def made(folder: Path, provider: str, text: str = MATRIX, **keys: Any) -> files.JobFile:
    return files.job_file(provider, config.load(project(folder, text, **keys)))


def jobs_of(file: files.JobFile) -> dict[str, Any]:
    found = read_yaml(file.wanted, "test")
    jobs: dict[str, Any] = found.get("jobs", found)
    return jobs


# --- a repository that dies with the job ---------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_repository_on_a_hosted_runners_disk_is_told(tmp_path: Path, provider: str) -> None:
    local, bucket = made(tmp_path / "a", provider), made(tmp_path / "b", provider, MATRIX.replace(*S3))
    assert any("any runner loses it" in text and "outside the checkout" in text for text in local.warnings)
    assert "# Any runner loses it" in local.wanted
    assert not any("loses it" in text for text in bucket.warnings)
    assert "loses it" not in bucket.wanted


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_repository_outside_of_the_checkout_is_lost_by_a_hosted_runner_alone(tmp_path: Path, provider: str) -> None:
    file = made(tmp_path, provider, MATRIX.replace('"releases"', '"/srv/releases"'))
    assert any("a hosted runner loses it" in text for text in file.warnings)
    assert "# A hosted runner loses it" in file.wanted
    assert not any("any runner" in text for text in file.warnings)


def test_one_machine_keeps_its_repository(tmp_path: Path) -> None:
    file = made(tmp_path, "shell")
    assert not any("loses it" in text for text in file.warnings)
    assert "loses it" not in file.wanted


# --- setup ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_nothing_is_installed_that_nobody_named(tmp_path: Path, provider: str) -> None:
    bare = "".join(line for line in MATRIX.splitlines(keepends=True) if not line.startswith("setup"))
    with pytest.raises(CiInvalid, match="has no `setup`") as caught:
        made(tmp_path, provider, bare)
    assert (caught.value.exit_code, "setup = " in caught.value.next_step) == (114, True)
    assert "pip install relbuild" not in made(tmp_path, provider, setup="true").wanted
    # One machine has the program that writes the script.
    assert made(tmp_path, "shell", bare).wanted


# --- machines ------------------------------------------------------------------------------------------------------


def test_a_label_of_one_service_is_no_tag_of_the_other(tmp_path: Path) -> None:
    pipeline = jobs_of(made(tmp_path, "gitlab"))
    assert "tags" not in str(pipeline)
    # Nobody there is known to be of that kind, so no cell is left to it.
    assert "--host" not in str(pipeline)
    assert "--host aarch64=aarch64" in str(jobs_of(made(tmp_path, "github"))["plan"])
    assert "--host" not in made(tmp_path, "shell").wanted


def test_each_gitlab_job_asks_for_the_tag_of_its_machine(tmp_path: Path) -> None:
    tagged = MATRIX.replace('host = "aarch64"', 'host = "aarch64", gitlab_tag = "saas-linux-small-arm64"')
    line = 'runner = { label = "ubuntu-24.04", gitlab_tag = "saas-linux-small-amd64" }\n'
    jobs = jobs_of(made(tmp_path, "gitlab", tagged.replace("[ci]\n", "[ci]\n" + line)))
    tags = {name: job["tags"] for name, job in jobs.items() if isinstance(job, dict) and "script" in job}
    assert set(tags) == {"plan", "build-x86_64", "build-aarch64", "build-armv7", "merge", "verify", "publish"}
    assert tags.pop("build-aarch64") == ["saas-linux-small-arm64"]
    assert set(map(tuple, tags.values())) == {("saas-linux-small-amd64",)}
    assert "--host aarch64=aarch64" in str(jobs["plan"])


# --- the proof -----------------------------------------------------------------------------------------------------


def test_a_gate_that_blocks_has_a_job_that_proves(tmp_path: Path) -> None:
    jobs = jobs_of(made(tmp_path, "github", PROVES))
    assert list(jobs)[-2:] == ["reproduce", "publish"]
    proof, publish = jobs["reproduce"], jobs["publish"]
    assert publish["needs"] == ["merge", "verify", "reproduce"]
    assert "secrets.RELBUILD_REBUILD_KEY" in str(proof)
    # A recipe runs there: no key of the release may.
    assert all(name not in str(proof) for name in ("RELEASE_KEY", "AUDIT_KEY", "STORE_PASSWORD"))
    commands = [step["run"] for step in proof["steps"] if "reproduce" in step.get("run", "")]
    assert commands == [".venv/bin/relbuild reproduce --staged dist/staging/* --key dist/keys/rebuild.key"]
    moved = [step["with"] for job in (proof, publish) for step in job["steps"] if "proof" in str(step.get("with"))]
    assert [each["path"] for each in moved] == ["dist/reproductions/", "dist/reproductions"]
    assert "reproduce" not in jobs_of(made(tmp_path, "github", PROVES.replace("block", "warn")))


def test_the_proof_travels_on_gitlab_and_on_one_machine(tmp_path: Path) -> None:
    jobs = jobs_of(made(tmp_path, "gitlab", PROVES))
    assert jobs["reproduce"]["artifacts"]["paths"] == ["dist/reproductions/"]
    assert {"job": "reproduce", "artifacts": True} in jobs["publish"]["needs"]
    assert "reproduce" in jobs["stages"]
    script = made(tmp_path, "shell", PROVES).wanted
    assert "merge verify reproduce publish\n" in script
    assert '"$relbuild" reproduce --staged dist/staging/* --key dist/keys/rebuild.key\n' in script


def test_linters_find_nothing_in_the_job_that_proves(tmp_path: Path) -> None:
    for provider in PROVIDERS:
        file = made(tmp_path, provider, PROVES)
        files.write(file)
        done = lint(BIN / "yamllint", "--strict", file.path, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "")
    file = made(tmp_path, "github", PROVES)
    assert [each for each in zizmor(tmp_path, file.path) if each[1] not in {"Informational", "Unknown"}] == []


def test_a_proof_that_no_one_machine_can_give_is_refused(tmp_path: Path) -> None:
    text = PROVES.replace("[ci]\n", f"[ci]\n{NATIVE}")
    with pytest.raises(CiInvalid, match="no one machine can rebuild") as caught:
        made(tmp_path, "github", text)
    assert "[ci.runners]" in caught.value.next_step
    assert made(tmp_path, "shell", text).wanted


def test_more_rebuilders_than_jobs_are_told(tmp_path: Path) -> None:
    file = made(tmp_path, "github", PROVES + "rebuilders = 2\n")
    assert any("asks for 2 rebuilders" in text for text in file.warnings)
    assert not any("rebuilders" in text for text in made(tmp_path, "github", PROVES).warnings)


# --- keys that nobody lays down ------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", [*PROVIDERS, "shell"])
def test_a_key_that_no_job_lays_down_is_named(tmp_path: Path, provider: str) -> None:
    keys = MATRIX.replace(
        '[{ key_file = "release.key" }]',
        '[{ gpg = "only", home = "keys/gnupg" }, { key_file = "release.key" }, { key_file = "/far/other.key" }]',
    )
    told = [text for text in made(tmp_path, provider, keys).warnings if " key " in text]
    assert [text.split(" of [ci]")[0] for text in told] == [
        "the job merge reads the key 'keys/gnupg', and sign_files",
        "the job merge reads the key '/far/other.key', outside of the project: it is there only if its machine has it; "
        "sign_files",
        "the job publish reads the key 'release.key', and publish_files",
    ]
    whole = keys.replace(', { key_file = "/far/other.key" }', "").replace(
        'sign_files = { ', 'sign_files = { "keys/gnupg/" = "GPG_HOME", '
    ).replace('publish_files = { ', 'publish_files = { "release.key" = "RELEASE_KEY", ')  # fmt: skip
    assert [text for text in made(tmp_path, provider, whole).warnings if " key " in text] == []


# --- what a publication waits for and no job hands on --------------------------------------------------------------


@pytest.mark.parametrize("provider", [*PROVIDERS, "shell"])
def test_approvals_that_no_job_hands_on_are_told(tmp_path: Path, provider: str) -> None:
    asks = MATRIX.replace("[repository]\n", "[repository]\napprovals = 2\n")
    assert any("2 approvals" in text for text in made(tmp_path, provider, asks).warnings)
    laid = asks.replace("publish_files = { ", 'publish_files = { "dist/approvals/" = "APPROVALS", ')
    assert not any("approvals" in text for text in made(tmp_path, provider, laid).warnings)
    assert not any("approvals" in text for text in made(tmp_path, provider).warnings)


@pytest.mark.parametrize("provider", [*PROVIDERS, "shell"])
def test_a_file_of_checks_that_no_job_hands_on_is_told(tmp_path: Path, provider: str) -> None:
    asks = MATRIX.replace('checks_from = "github"\n', "")
    assert any("'dist/checks.json'" in text for text in made(tmp_path, provider, asks).warnings)
    other = made(tmp_path, provider, asks, checks_file="green.json")
    assert any("'green.json'" in text for text in other.warnings)
    laid = asks.replace("publish_files = { ", 'publish_files = { "dist/checks.json" = "CHECKS", ')
    for text in (laid, asks.replace('required_checks = ["tests"]\n', ""), MATRIX):
        assert not any("checks" in each for each in made(tmp_path, provider, text).warnings)


@pytest.mark.parametrize("provider", [*PROVIDERS, "shell"])
def test_a_gate_that_knows_no_rebuilder_is_told(tmp_path: Path, provider: str) -> None:
    nobody = PROVES.replace('keys = ["rebuild.pub"]\n', "")
    assert any("[reproduce] has no `keys`" in text for text in made(tmp_path, provider, nobody).warnings)
    for text in (PROVES, nobody.replace("block", "warn")):
        assert not any("`keys`" in each for each in made(tmp_path, provider, text).warnings)


# --- what becomes of secrets ---------------------------------------------------------------------------------------

OTHERS_UID: Final = 4242
FOLDER_KEY: Final = MATRIX.replace("sign_files = { ", 'sign_files = { "keys/gnupg/" = "GPG_HOME", ')


def packed(owner: int) -> str:
    """Give a folder with one file as a variable holds it."""
    stream, entry = io.BytesIO(), tarfile.TarInfo("./secret")
    entry.size, entry.uid, entry.gid, entry.mode = 4, owner, owner, 0o600
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.addfile(entry, io.BytesIO(b"mine"))
    return base64.b64encode(stream.getvalue()).decode()


def run_script(script: str, cwd: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), **more}
    argv = ["bash", "-c", script, "bash", *arguments]
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away: tar of others does not try")
@pytest.mark.parametrize("form", ["service", "shell"])
def test_a_folder_from_a_variable_belongs_to_who_unpacks_it(tmp_path: Path, form: str) -> None:
    if form == "service":
        script = laying("home/", "SECRET", "SECRET")
    else:
        script = "lay() {" + made(tmp_path, "shell").wanted.partition("\nlay() {")[2].partition("\n}\n")[0] + "\n}\n"
        script += "lay home/ SECRET"
    done = run_script(f"set -eu\n{script}", tmp_path, SECRET=packed(OTHERS_UID))
    assert done.returncode == 0, done.stderr
    found = (tmp_path / "home" / "secret").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, os.getegid(), 0o600)


def test_the_last_step_of_a_github_job_removes_what_was_laid_down(tmp_path: Path) -> None:
    for name, job in jobs_of(made(tmp_path, "github", FOLDER_KEY)).items():
        laid = [step["name"].split()[-1] for step in job["steps"] if step.get("name", "").startswith("Lay down ")]
        last = job["steps"][-1]
        assert (last.get("if") == "always()", bool(laid)) in {(True, True), (False, False)}, name
        assert not laid or last["run"].split() == ["rm", "-rf", "--", *laid]


def test_a_gitlab_job_removes_what_was_laid_down_however_it_ends(tmp_path: Path) -> None:
    jobs = jobs_of(made(tmp_path, "gitlab", FOLDER_KEY))
    assert jobs["merge"]["after_script"] == ["rm -rf -- keys/gnupg/ release.key"]
    assert jobs["publish"]["after_script"] == ["rm -rf -- audit.key keys/"]
    assert "after_script" not in jobs["plan"]


SEEN: Final = """#!/bin/sh
cp release.key "$SEEN/key"; ls keys/gnupg > "$SEEN/home"; env > "$SEEN/env"; exit "${STATUS:-0}"
"""


@pytest.mark.parametrize("status", ["0", "7"])
def test_a_job_of_one_machine_keeps_no_secret_and_sees_its_own_alone(tmp_path: Path, status: str) -> None:
    folder, seen, jobs = tmp_path / "project", tmp_path / "seen", tmp_path / "jobs"
    files.write(made(folder, "shell", FOLDER_KEY))
    seen.mkdir()
    (jobs / "parcels" / "shards").mkdir(parents=True)
    (jobs / "parcels" / "plan.json").write_text("{}")
    (tmp_path / "program").write_text(SEEN)
    (tmp_path / "program").chmod(0o755)
    git = 'git init -q . && git add -A && git -c user.name=a -c user.email=a@b.invalid commit -q -m "$1"'
    assert run_script(git, folder, "first").returncode == 0
    done = run_script(
        "exec ci/release merge", folder, RELBUILD=str(tmp_path / "program"), SEEN=str(seen),
        STATUS=status, RELBUILD_JOBS=str(jobs), RELEASE_KEY="first", GPG_HOME=packed(os.getuid()), AUDIT_KEY="second",
        STORE_PASSWORD="third", RELBUILD_SHARD_KEY="fourth", KEY_FOLDER="fifth", GITHUB_TOKEN="sixth",
    )  # fmt: skip
    assert done.returncode != 0, "the program stages nothing, so there is nothing to hand on"
    assert ((seen / "key").read_text(), (seen / "home").read_text()) == ("first\n", "secret\n"), done.stderr
    checkout = jobs / "merge" / "checkout"
    assert (checkout / "matrix.toml").is_file()
    assert not (checkout / "release.key").exists()
    assert not (checkout / "keys" / "gnupg").exists()
    names = {line.partition("=")[0] for line in (seen / "env").read_text().splitlines()}
    assert names & {"AUDIT_KEY", "STORE_PASSWORD", "RELBUILD_SHARD_KEY", "KEY_FOLDER", "GITHUB_TOKEN"} == set()
    assert {"RELEASE_KEY", "GPG_HOME"} <= names


# --- jobs that only look at an environment, and proofs that fail ---------------------------------------------------


def test_on_gitlab_publishing_alone_is_a_deployment(tmp_path: Path) -> None:
    jobs = jobs_of(made(tmp_path, "gitlab", PROVES))
    actions = {name: job["environment"].get("action") for name, job in jobs.items() if "environment" in job}
    assert actions.pop("publish") is None
    assert set(actions) == {"build-x86_64", "build-aarch64", "build-armv7", "merge", "reproduce"}
    assert set(actions.values()) == {"access"}


def test_a_proof_that_fails_hands_on_its_evidence(tmp_path: Path) -> None:
    steps = jobs_of(made(tmp_path, "github", PROVES))["reproduce"]["steps"]
    upload = next(step for step in steps if "upload-artifact" in step.get("uses", ""))
    assert upload["if"] == "always()"
    assert not any("continue-on-error" in step for step in steps)
    jobs = jobs_of(made(tmp_path, "gitlab", PROVES))
    assert jobs["reproduce"]["artifacts"]["when"] == "always"
    assert "when" not in jobs["merge"]["artifacts"]
    # No other parcel travels from a job that failed.
    merge = jobs_of(made(tmp_path, "github", PROVES))["merge"]["steps"]
    assert "if" not in next(step for step in merge if "upload-artifact" in step.get("uses", ""))


# --- what makes a machine ready ------------------------------------------------------------------------------------

SETUP: Final = Path(__file__).parents[2] / "ci" / "setup"
SUDO: Final = """#!/bin/sh
echo "sudo $*" >> "$LOG"
[ "$1" = -n ] || exit 9
[ "$SUDO_ASKS" = no ] || exit 1
shift
exec "$@"
"""


@pytest.mark.parametrize(("user", "asks"), [("1000", "no"), ("1000", "yes"), ("0", "yes")])
def test_setup_installs_as_root_or_by_a_sudo_that_asks_for_nothing(tmp_path: Path, user: str, asks: str) -> None:
    programs = {"id": f"#!/bin/sh\necho {user}\n", "dpkg-query": "#!/bin/sh\nexit 1\n", "sudo": SUDO,
                "apt-get": '#!/bin/sh\necho "apt-get $* $DEBIAN_FRONTEND" >> "$LOG"\n'}  # fmt: skip
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    functions = SETUP.read_text().split("\nsay() ", 1)[1].split("\nmake_python_ready() ", 1)[0]
    script = f"set -eu\nsay() {functions}\nif can_install; then install_packages bubblewrap; else exit 3; fi"
    log = tmp_path / "log"
    done = run_script(script, tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}", LOG=str(log), SUDO_ASKS=asks)
    told = log.read_text().splitlines()
    assert done.returncode == (3 if (user, asks) == ("1000", "yes") else 0), done.stderr
    assert all(line.startswith("sudo -n ") for line in told if line.startswith("sudo"))
    assert any(line.startswith("sudo") for line in told) == (user != "0")
    installed = [line for line in told if line.startswith("apt-get install")]
    assert len(installed) == (done.returncode == 0)
    assert all(line.endswith("bubblewrap noninteractive") for line in installed)


def test_setup_is_clean(tmp_path: Path) -> None:
    done = lint(BIN / "shellcheck", SETUP, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("provider", [*PROVIDERS, "shell"])
def test_a_validation_that_nothing_can_pass_is_told(tmp_path: Path, provider: str) -> None:
    def told(text: str) -> bool:
        return any("publishing ends with 31" in each for each in made(tmp_path, provider, text).warnings)

    waiver = '[[repository.waivers]]\nrule = "validation"\nreason = "later"\nby = "Ann"\nexpires = 2999-01-31\n'
    lenient = MATRIX.replace("[repository]\n", '[repository]\npolicy = "lenient"\n')
    assert told(MATRIX)
    assert told(f"{MATRIX}[validate]\n")
    ways = ('gate = "off"', 'gate = "warn"', 'osv_database = "osv.zip"', 'waivers = "w.toml"',
            'security = { vulnerabilities = "ignore" }')  # fmt: skip
    for more in (*(f"[validate]\n{way}\n" for way in ways), waiver):
        assert not told(MATRIX + more), more
    assert not told(lenient)
