"""`relbuild engine nodes`: the BuildKit nodes of [engine.nodes]."""

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from builders.engine.node_model import Node
    from builders.engine.nodes import NodeSet

app = typer.Typer(help="The machines that share the work of BuildKit.", no_args_is_help=True)
nodes_app = typer.Typer(help="One buildx builder of all [engine.nodes].", no_args_is_help=True)
app.add_typer(nodes_app, name="nodes")


@nodes_app.command()
def up(config: options.Config = None) -> None:
    """Make the builder of all nodes that answer, or bring it to what matrix.toml says now."""
    from builders.errors import NodeUnavailable  # noqa: PLC0415  (--help does not need the engine)
    from orchestrator.cli import tables  # noqa: PLC0415

    chosen = _nodes(config)
    found = chosen.up(lambda text: typer.echo(text, err=True))
    for node in found:
        if node.rules.is_open:
            typer.echo(f"WARNING: {node.name} is asked over TCP without TLS: whoever is on the way to "
                       f"{node.rules.endpoint} decides what is built", err=True)  # fmt: skip
    print(f"builder {chosen.builder}")
    print(tables.columns(("NODE", "STATE", "TAKES", "NATIVE", "BUILDKIT", "ENDPOINT"), [_row(each) for each in found]))
    if gone := [f"{node.name} ({node.why})" for node in found if not node.answers]:
        raise NodeUnavailable(
            f"the builder is there without {', '.join(gone)}", next_step="start them, then `relbuild engine nodes up`"
        )


@nodes_app.command()
def down(config: options.Config = None) -> None:
    """Remove the builder, and whatever else `up` made on this machine. The nodes' own engines go on."""
    removed = _nodes(config).down()
    print("\n".join(f"removed: {each}" for each in removed) or "nothing of ours was there")


@nodes_app.command(name="list")
def list_(
    config: options.Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the nodes as JSON.")] = False,
) -> None:
    """Ask every node how it is and which platforms it handles."""
    from orchestrator.cli import tables  # noqa: PLC0415  (as above)

    found = _nodes(config).look()
    if as_json:
        print(tables.to_json([_plain(node) for node in found]))
        return
    print(tables.columns(("NODE", "STATE", "TAKES", "NATIVE", "BUILDKIT", "ENDPOINT"), [_row(each) for each in found]))


def _nodes(config: "options.Config") -> "NodeSet":
    from orchestrator.cli import wire  # noqa: PLC0415  (as above)
    from orchestrator.errors import ConfigError  # noqa: PLC0415

    matrix = wire.load_matrix(config)
    found = wire.node_set(matrix)
    if found is None:
        raise ConfigError(f"{matrix.file} has no [engine.nodes]", next_step="name machines there; README.md says how")
    return found


def _row(node: "Node") -> tuple[str, ...]:
    state = "running" if node.answers else f"gone: {node.why}"
    return (node.name, state, ", ".join(node.rules.platforms), node.native, node.version, node.rules.endpoint)


def _plain(node: "Node") -> dict[str, object]:
    return {
        "name": node.name, "endpoint": node.rules.endpoint, "platforms": list(node.rules.platforms),
        "native": node.native, "handles": list(node.handles), "buildkit": node.version, "answers": node.answers,
        "why": node.why,
    }  # fmt: skip
