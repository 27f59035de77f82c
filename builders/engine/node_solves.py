"""A cell's solve on the node that takes its platform: what travels there, and whose fault it is where it fails."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from builders.engine import buildx, image_builds, image_layouts, image_lookup
from builders.engine.container import connect
from builders.engine.node_model import Taker
from builders.engine.nodes import NodeSet
from builders.engine.spec import ImageFacts
from builders.engine.toolchains import OUTSIDE_PREFIX
from builders.errors import CommandFailed, EngineUnavailable, ToolchainUnavailable
from builders.model import Cell, CommandRecipe, Placement
from builders.targets import Target


def version(nodes: NodeSet | None, target: Target, placement: Placement) -> str:
    """Name buildx and the BuildKit that would solve; one that is gone counts for what it finished."""
    if nodes is None:
        return buildx.version()
    native = placement is Placement.NATIVE
    found = [taker for taker in nodes.takers(target.oci) if taker.native is native]
    if not found:
        raise ToolchainUnavailable(
            f"no node builds {target.oci} {placement}", next_step="`relbuild engine nodes list` says how each is"
        )
    return buildx.version_with(found[0].version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A cell and the node that it was planned for."""

    nodes: NodeSet
    taker: Taker
    cell: Cell

    def sent(self, solve: buildx.Solve, own: Mapping[str, ImageFacts]) -> buildx.Solve:
        """Send a solve to the nodes with those images of the engine that it stands on, by what it calls them."""
        cell, images = self.cell, dict(own)
        with connect() as engine:
            # An outside image is pinned by its digest: the node takes it from the same registry.
            if isinstance(cell.recipe, CommandRecipe) and not cell.recipe.toolchain.startswith(OUTSIDE_PREFIX):
                reference, image = image_lookup.find(engine, cell.recipe.toolchain, cell.target.oci)
                images[reference] = image
            layouts = image_builds.default_cache() / "layouts"
            sources = {name: image_layouts.ensure(engine, image, layouts) for name, image in images.items()}
        return replace(solve, builder=self.nodes.builder, contexts={**solve.contexts, **sources})

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Turn a failure into NodeUnavailable where the node is gone."""
        try:
            yield
        except (EngineUnavailable, CommandFailed) as error:
            # A node that dies ends a solve in many ways; whether it is gone, only it can say.
            self.nodes.explain(self.cell.id, self.taker, error)
            raise

    def check(self, metadata: Path, provenance: bytes) -> str:
        """Say who built it. Raises WrongNode where that is not who was planned."""
        self.nodes.check_solved(self.cell.id, self.taker, metadata, provenance)
        return f"built {self.taker.reason}, as BuildKit says itself"


def post(nodes: NodeSet | None, cell: Cell) -> Post | None:
    """Give the node of a cell, if there are nodes. Raises NodeUnavailable where it was lost in this run."""
    if nodes is None:
        return None
    return Post(nodes=nodes, taker=nodes.refuse_lost(cell.id, cell.target.oci), cell=cell)
