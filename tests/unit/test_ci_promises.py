"""What generated jobs are for and what they cannot do: the proof, the setup, machines of each service, warnings."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator import config
from orchestrator.ci_jobs import files
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
    assert any("loses it with the job" in text for text in local.warnings)
    assert "# A hosted runner loses it" in local.wanted
    assert not any("loses it" in text for text in bucket.warnings)
    assert "loses it" not in bucket.wanted


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
