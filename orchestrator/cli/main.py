"""Joins the commands, and turns every error into words and an exit code."""

import os
import signal
import sys
from typing import Annotated

import typer

from builders.errors import RelbuildError
from orchestrator import __version__
from orchestrator.cli import (
    approve,
    audit,
    checks,
    ci,
    doctor,
    engine,
    images,
    index,
    keys,
    lifecycle,
    matrix,
    plan,
    project,
    publish,
    rehearse,
    repository,
    reproduce,
    shards,
    sign,
    validate,
    verify,
)

_DEFECT = 1
"""A bug: the program itself failed."""

app = typer.Typer(
    name="relbuild",
    help="Builds, checks, signs and publishes releases for many machines, from one matrix.toml.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("matrix")(matrix.matrix)
app.command("plan")(plan.plan)
app.command("build")(shards.build)
app.command("merge")(shards.merge)
app.command("ci")(ci.ci)
app.command("init")(project.init)
app.command("schema")(project.schema)
app.command("doctor")(doctor.doctor)
app.command("rehearse")(rehearse.rehearse)
app.command("sign")(sign.sign)
app.command("verify")(verify.verify)
app.command("reproduce")(reproduce.reproduce)
app.command("validate")(validate.validate)
app.command("approve")(approve.approve)
app.command("publish")(publish.publish)
app.command("release")(publish.release)
app.command("recover")(publish.recover)
app.command("list")(repository.list_)
app.command("fetch")(repository.fetch)
app.command("yank")(lifecycle.yank)
app.command("unyank")(lifecycle.unyank)
app.command("revoke")(lifecycle.revoke)
app.command("rollback")(lifecycle.rollback)
app.command("abandon")(lifecycle.abandon)
app.add_typer(index.app, name="index")
app.add_typer(audit.app, name="audit")
app.add_typer(keys.app, name="keys")
app.add_typer(checks.app, name="checks")
app.add_typer(images.app, name="images")
app.add_typer(engine.app, name="engine")


def _version(asked: bool) -> None:
    if asked:
        print(f"relbuild {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the program. Exit codes: 0, 2 for wrong usage, 130 for Ctrl-C, else the error's own."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except RelbuildError as error:
        _end(str(error), error.exit_code)
    except KeyboardInterrupt:
        _end("stopped", 130)
    except BrokenPipeError:
        # The reader of a pipe went away; a second error at exit would only repeat it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if os.environ.get("RELBUILD_DEBUG"):
            raise
        _end(
            f"relbuild itself failed: {type(error).__name__}: {error}\n"
            "  next: set RELBUILD_DEBUG=1, run it again, and report what it prints",
            _DEFECT,
        )


def _interrupt(number: int, _frame: object) -> None:
    """Take SIGTERM as Ctrl-C, so that a publish tidies up and says its state; a second one ends at once."""
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt


def _end(text: str, code: int) -> None:
    print(f"relbuild: {text}", file=sys.stderr)
    sys.exit(code)
