"""`relbuild checks`: write which checks of a commit are green; and what the policy is told of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.ci_gate import CheckRun, CheckSource
    from orchestrator.cli.publisher import Publisher
    from orchestrator.model import Matrix
    from orchestrator.policy_evidence import GateReport
    from orchestrator.publish.version_guard import VersionGuard

app = typer.Typer(help="Write a signed list of a commit's checks.", no_args_is_help=True)
_PATIENCE_S = 240.0


@app.callback()
def _options() -> None:
    """Keep `write` a command of its own: a group of one would lose its name."""


@app.command()
def write(  # noqa: PLR0917  (options are keyword-only on the command line)
    commit: Annotated[str, typer.Option("--commit", help="The full commit that was checked.")],
    check: Annotated[
        list[str], typer.Option("--check", metavar="NAME=CONCLUSION", help="A check and how it ended; repeated.")
    ],
    key: Annotated[Path, typer.Option("--key", help="A key of the role 'ci' in trust.json.")],
    out: Annotated[Path, typer.Option("--out", help="The file; its signature is laid beside it.")],
    project: Annotated[str, typer.Option("--project", help="The project; default: that of matrix.toml.")] = "",
    passphrase_env: Annotated[
        str | None, typer.Option("--passphrase-env", metavar="NAME", help="The variable with the key's passphrase.")
    ] = None,
    config: options.Config = None,
) -> None:
    """Write which checks of a commit are green, signed: `relbuild publish` waits for it where [ci] asks for checks."""
    from orchestrator.ci_gate.signed_file import checks_json  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.cli import signed_files, wire  # noqa: PLC0415

    runs = _read(commit, check)
    name = project or wire.load_matrix(config).project.name
    signer = signed_files.open_signer(key, passphrase_env)
    signed_files.write_signed(out, checks_json(name, commit, runs), signer)
    print(f"{out}: {len(runs)} checks of {commit}, signed by {signer.key_id}")


def _read(commit: str, given: list[str]) -> "tuple[CheckRun, ...]":
    """Read NAME=CONCLUSION. Raises BadParameter for what no reader would take."""
    from orchestrator.ci_gate import CheckRun  # noqa: PLC0415  (as above)
    from orchestrator.ci_gate.signed_file import COMMIT, CONCLUSION, NAME  # noqa: PLC0415

    if not COMMIT.fullmatch(commit):
        raise typer.BadParameter("--commit takes all 40 or 64 digits of a commit: git rev-parse HEAD")
    runs = []
    for each in given:
        name, separator, conclusion = each.rpartition("=")
        if not (separator and NAME.fullmatch(name) and conclusion and CONCLUSION.fullmatch(conclusion)):
            raise typer.BadParameter(f"--check {each}: give NAME=CONCLUSION, such as tests=success")
        runs.append(CheckRun(name=name, conclusion=conclusion))
    return tuple(runs)


# --- for the policy ----------------------------------------------------------------------------------------------


def gate_report(opened: "Publisher", folder: Path, matrix: "Matrix | None") -> "GateReport | None":
    """Say whether the checks of a staged release's commit are green, where [ci] requires some."""
    from orchestrator import ci_gate  # noqa: PLC0415  (as above)
    from orchestrator.policy_evidence import ask_gates  # noqa: PLC0415
    from orchestrator.publishing_evidence import read_candidate  # noqa: PLC0415

    if matrix is None or not matrix.ci.checks.required:
        return None
    candidate = read_candidate(folder)
    release = ci_gate.Released(
        subject=candidate.staged.manifest_sha256, commit=candidate.commit, dirty=candidate.dirty
    )  # fmt: skip
    source, required = _source(opened, matrix), matrix.ci.checks.required
    return ask_gates({"ci": lambda: ci_gate.green(release, required, source)}, _PATIENCE_S)["ci"]


def version_guard(folder: Path, matrix: "Matrix | None") -> "VersionGuard | None":
    """Say what a staged release's version is held against, where [ci] asks for strict SemVer."""
    from orchestrator import survey  # noqa: PLC0415  (as above)
    from orchestrator.publish.version_guard import VersionGuard  # noqa: PLC0415
    from orchestrator.publishing_evidence import read_candidate  # noqa: PLC0415

    if matrix is None or not matrix.ci.versions.strict:
        return None
    tags = survey.tags_at(matrix.root, read_candidate(folder).commit)
    return VersionGuard(tags=tags, allow_older=matrix.ci.versions.allow_older)


def _source(opened: "Publisher", matrix: "Matrix") -> "CheckSource":
    from orchestrator.ci_gate.github import GitHubChecks  # noqa: PLC0415  (as above)
    from orchestrator.ci_gate.signed_file import SignedChecks  # noqa: PLC0415
    from orchestrator.ci_rules import ChecksFrom  # noqa: PLC0415
    from orchestrator.cli import publisher  # noqa: PLC0415

    rules = matrix.ci.checks
    match rules.source:
        case ChecksFrom.FILE:
            return SignedChecks(
                file=rules.file, trust=opened.trust, project=matrix.project.name, now=publisher.now()
            )  # fmt: skip
        case ChecksFrom.GITHUB:
            if not (token := _token(opened, rules.token)):
                return _NoToken(rules.token)
            return GitHubChecks(api=rules.api, repository=rules.repository, token=token)


@dataclass(frozen=True, slots=True)
class _NoToken:
    """GitHub, which nobody can ask: that is one more doubt for the policy to judge."""

    variable: str

    def checks(self, commit: str) -> "tuple[CheckRun, ...]":
        from orchestrator.errors import PolicyViolation  # noqa: PLC0415  (as above)

        raise PolicyViolation(
            f"GitHub was not asked for the checks of {commit}: the variable {self.variable} holds no token",
            next_step=f"set {self.variable} to a token that may read checks; generated jobs do so",
        )


def _token(opened: "Publisher", name: str) -> str:
    """Give the token that was taken out of the environment at the start; nothing where that holds none."""
    from orchestrator.errors import PassphraseWrong  # noqa: PLC0415  (as above)
    from orchestrator.signing_rules import PassphraseFrom, PassphraseSource  # noqa: PLC0415

    try:
        secret = opened.passphrases.get(PassphraseSource(kind=PassphraseFrom.ENV, where=name), "the API of checks")
    except PassphraseWrong:
        secret = None
    token = (secret or b"").decode("ascii", "replace").strip()
    return token if token.isprintable() and token.isascii() else ""
