"""`relbuild plan`."""

from typing import Annotated

import typer

from orchestrator.cli import options


def plan(  # noqa: PLR0917  (options are keyword-only on the command line)
    config: options.Config = None,
    targets: options.Targets = None,
    products: options.Products = None,
    engine: options.EngineChoice = None,
    forbid_emulation: options.ForbidEmulation = False,
    output: options.Output = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Print what would be built, where, with what, and how long it may take."""
    from orchestrator import release  # noqa: PLC0415  (heavy, and --help does not need it)
    from orchestrator.cli import progress, tables, wire  # noqa: PLC0415
    from orchestrator.plan import Selection  # noqa: PLC0415

    matrix = wire.load_matrix(config)
    dist = output or matrix.root / "dist"
    selection = Selection(
        targets=options.names(targets), products=options.names(products), forbid_emulation=forbid_emulation
    )
    with progress.observer(progress.LogFormat.PLAIN) as observer:
        made = release.plan_release(
            matrix, selection, wire.open_engine(engine or matrix.engine.kind, dist), dist, observer
        )
    print(tables.to_json(tables.plan_data(made)) if as_json else tables.plan_text(made))
    # A plan that a run would refuse ends as that run would, after it was shown.
    release.refuse_gaps(matrix, made)
