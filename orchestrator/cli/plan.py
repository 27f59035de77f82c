"""`relbuild plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from builders.targets import Target
    from orchestrator.model import Matrix


def plan(  # noqa: PLR0917  (options are keyword-only on the command line)
    config: options.Config = None,
    targets: options.Targets = None,
    products: options.Products = None,
    engine: options.EngineChoice = None,
    forbid_emulation: options.ForbidEmulation = False,
    output: options.Output = None,
    hosts: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="TARGET=HOST", help="Leave a target to a machine that is HOST; with --json."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON, for `relbuild build`.")] = False,
) -> None:
    """Print what would be built, where, with what, and how long it may take."""
    from builders.targets import host  # noqa: PLC0415
    from orchestrator import release, sharding  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.cli import progress, tables, wire  # noqa: PLC0415
    from orchestrator.events import Note  # noqa: PLC0415
    from orchestrator.plan import Selection, select  # noqa: PLC0415
    from orchestrator.shards import plan_file  # noqa: PLC0415

    if hosts and not as_json:
        raise typer.BadParameter("--host is for the plan that other machines read: give --json, too")
    matrix = wire.load_matrix(config)
    dist = output or matrix.root / "dist"
    selection = Selection(
        targets=options.names(targets), products=options.names(products), forbid_emulation=forbid_emulation
    )
    with progress.observer(progress.LogFormat.PLAIN) as observer:
        checkout = sharding.Checkout(matrix=matrix, dist=dist, observer=observer, apart=_written_to())
        chosen = wire.open_engine(engine or matrix.engine.kind, dist, matrix)
        foreign = _hosts(hosts or [], matrix)
        if as_json:
            # What is filed names toolchains by digest, so those of this machine's cells must be here.
            own = [each for each in select(matrix, selection) if foreign.get(each[1].name, host()).name == host().name]
            chosen.prepare(matrix, own, lambda text: observer(Note(text=text)))
        made, elsewhere = sharding.plan_on(checkout, selection, chosen, foreign)
    if as_json:
        told = plan_file.plan_json(made, elsewhere, host=host(), config_sha256=plan_file.config_digest(matrix.file))
        print(tables.to_json(told))
    else:
        print(tables.plan_text(made))
    # A plan that a run would refuse ends as that run would, after it was shown.
    if made.cells or made.left_out or not elsewhere:
        release.refuse_gaps(matrix, made)


def _hosts(given: list[str], matrix: "Matrix") -> "dict[str, Target]":
    """Read TARGET=HOST pairs. Raises UnknownName."""
    from orchestrator.errors import UnknownName  # noqa: PLC0415  (as above)
    from orchestrator.plan import wanted_targets  # noqa: PLC0415  (as above)

    found = {}
    for text in given:
        target, separator, host = text.partition("=")
        if not separator:
            raise typer.BadParameter(f"--host {text}: give TARGET=HOST, such as aarch64=aarch64")
        names = [wanted_targets(matrix, (name,)) or () for name in (target, host)]
        if any(len(each) != 1 for each in names):
            raise UnknownName(f"--host {text} names all targets", next_step="give one TARGET=HOST for each")
        found[next(iter(names[0]))] = matrix.targets[next(iter(names[1]))]
    return found


def _written_to() -> tuple[Path, ...]:
    """Name the file that the plan is printed into: that it is there is no change of the checkout."""
    try:
        path = Path("/proc/self/fd/1").readlink()
        return (path,) if path.is_file() else ()
    except OSError:
        return ()
