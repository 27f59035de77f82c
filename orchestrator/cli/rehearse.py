"""`relbuild rehearse`: see in seconds whether the release could be described, signed and verified."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options


def rehearse(
    config: options.Config = None,
    output: options.Output = None,
    throw_away: Annotated[
        bool, typer.Option("--throw-away", help="Use new keys that are removed again, not those of [signing].")
    ] = False,
) -> None:
    """Stage, describe, sign and verify a tiny artifact with the project's keys, before anything is built."""
    from orchestrator import rehearse as rehearsal  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.cli import tables, wire  # noqa: PLC0415
    from orchestrator.errors import SigningFailed  # noqa: PLC0415

    matrix = wire.find_matrix(config)
    rules = None if matrix is None or throw_away else matrix.signing
    passphrases = wire.take_passphrases(rules)
    dist = (output or (matrix.root if matrix else Path.cwd()) / "dist").absolute()
    name = matrix.project.name if matrix else "rehearsal"
    steps = rehearsal.rehearse(name, rules, passphrases, dist, datetime.now(UTC).replace(microsecond=0))
    rows = [("ok" if step.error is None else "FAILED", step.name, f"{step.seconds:.2f} s") for step in steps]
    print(tables.columns(("", "STEP", "TOOK"), rows))
    print(f"\nwith {'the keys of [signing]' if rules else 'throw-away keys: nothing is known of your own'}")
    # A key that is refused stops two steps, and is one thing to mend.
    errors = list({str(step.error): step.error for step in steps if step.error is not None}.values())
    if len(errors) > 1:
        lines = "\n".join(f"- {error}" for error in errors)
        raise SigningFailed(f"{len(errors)} things stand in the way of a release:\n{lines}")
    if errors:
        raise errors[0]
