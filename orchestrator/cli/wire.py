"""Joins concrete builders to the seam: the only place that knows which exist."""

import functools
import getpass
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from builders.errors import EngineUnavailable
from builders.interface import Builder
from builders.model import CommandRecipe, DockerfileRecipe
from builders.targets import Target, host
from orchestrator import survey
from orchestrator.ci_rules import CheckRules, ChecksFrom
from orchestrator.errors import ConfigNotFound
from orchestrator.events import Note, Observer
from orchestrator.model import EngineKind, Matrix, PlacementWish, Plan, Product
from orchestrator.plan import Selection, select
from orchestrator.publishing_rules import PublishingRules
from orchestrator.release import Engine, plan_release
from orchestrator.signing.passphrase import Passphrases
from orchestrator.signing_rules import PassphraseFrom, PassphraseSource, SigningRules

if TYPE_CHECKING:
    from builders.engine.nodes import NodeSet


def load_matrix(config_path: Path | None) -> Matrix:
    """Read the configuration that was named, or the nearest one above."""
    from orchestrator import config  # noqa: PLC0415  (pydantic costs 0.1 s)

    return config.load(config_path or config.find(Path.cwd()))


def find_matrix(config_path: Path | None) -> Matrix | None:
    """Read it the same way, where there is one; what was named must be there."""
    try:
        return load_matrix(config_path)
    except ConfigNotFound:
        if config_path is not None:
            raise
        return None


def take_passphrases(
    rules: SigningRules | None, publishing: PublishingRules | None = None, checks: CheckRules | None = None
) -> Passphrases:
    """Take the secrets of the configuration out of the environment, and ask a person where there is one."""
    # Asked once for each key, however often it is opened.
    asked = functools.cache(getpass.getpass) if sys.stdin.isatty() and sys.stderr.isatty() else None
    passphrases = Passphrases(asked)
    if rules is not None:
        passphrases.take_environment(rules)
    if publishing is not None:
        take_variable(passphrases, publishing.audit_passphrase)
    if checks is not None and checks.required and checks.source is ChecksFrom.GITHUB:
        # Generated jobs hand on a secret that is not set as an empty variable; the policy judges that.
        passphrases.take(PassphraseSource(kind=PassphraseFrom.ENV, where=checks.token))
    return passphrases


def take_variable(passphrases: Passphrases, source: PassphraseSource) -> None:
    """Take one passphrase out of the environment where it is there; who needs it says if it is not.

    Raises PassphraseWrong where the variable is empty, before anything is built.
    """
    if source.kind is PassphraseFrom.ENV and source.where in os.environ:
        passphrases.get(source, "a key")


def open_engine(wish: EngineKind, dist: Path, matrix: Matrix | None = None) -> Engine:
    """Take the engine that was asked for; `auto` takes docker where a daemon answers, else local.

    With a matrix, its BuildKit nodes share the work of the docker engine.
    """
    nodes = node_set(matrix) if matrix else None
    match wish:
        case EngineKind.LOCAL:
            return _local(dist, "asked for")
        case EngineKind.DOCKER:
            return _docker(dist, "asked for", nodes)
        case EngineKind.AUTO:
            try:
                return _docker(dist, "a daemon answers", nodes)
            except EngineUnavailable as error:
                return _local(dist, f"no container engine: {error.what}")


def describe_engine() -> str:
    """Say which container engine answers. Raises EngineUnavailable."""
    from builders.engine import container  # noqa: PLC0415  (the docker SDK costs 0.1 s)

    facts = container.engine_facts()
    store = "containerd image store" if facts.containerd_store else "classic image store: no multi-platform images"
    return f"Docker Engine {facts.version}, {store}"


def node_set(matrix: Matrix) -> "NodeSet | None":
    """Give the nodes of a project, if it has some. Its folder is part of their builder's name."""
    if not matrix.engine.nodes:
        return None
    from builders.engine import image_builds, nodes  # noqa: PLC0415  (as above)

    place = hashlib.sha256(os.fsencode(matrix.root)).hexdigest()[:8]
    name = re.sub(r"[^a-z0-9]+", "-", matrix.project.name.lower())
    folder = image_builds.default_cache() / "nodes" / place
    return nodes.NodeSet(f"relbuild-{name}-{place}", matrix.engine.nodes, folder)


def _docker(dist: Path, reason: str, nodes: "NodeSet | None") -> Engine:
    from builders import materials  # noqa: PLC0415  (only the chosen engine is loaded)
    from builders.engine import buildx_builder, container, container_builder  # noqa: PLC0415

    facts = container.engine_facts()
    kept = dist / "cache" / materials.FOLDER
    both = (
        container_builder.ContainerBuilder(material_cache=kept),
        buildx_builder.BuildxBuilder(material_cache=kept, nodes=nodes),
    )
    builders: dict[str, Builder] = {each.name: each for each in both}
    note = f"{reason}; Docker Engine {facts.version}{_nodes_note(nodes)}"
    takers = nodes.takers if nodes else None
    return Engine(name="docker", reason=note, builders=builders, prepare=_prepare_images, takers=takers)


def _nodes_note(nodes: "NodeSet | None") -> str:
    if nodes is None:
        return ""
    unsafe = [rules.name for rules in nodes.rules if rules.is_open]
    warning = f"; INSECURE, TCP without TLS: {', '.join(unsafe)}" if unsafe else ""
    return f"; {len(nodes.rules)} BuildKit nodes{warning}"


def _local(dist: Path, reason: str) -> Engine:
    from builders.local import local_builder, sandbox  # noqa: PLC0415  (only the chosen engine is loaded)

    builder = local_builder.LocalBuilder(work=dist / "work", cache=dist / "cache")
    note = f"{reason}; isolation: {sandbox.available().value}"
    return Engine(name="local", reason=note, builders={builder.name: builder}, prepare=_nothing_to_prepare)


def _nothing_to_prepare(_matrix: object, _cells: object, _on_step: object) -> None:
    """The local builder takes what the machine has."""


def _prepare_images(matrix: Matrix, cells: Sequence[tuple[Product, Target]], on_step: Callable[[str], None]) -> None:
    """Build the toolchain images that are missing, those for smoke tests of foreign programs among them."""
    from builders.engine import image_builds  # noqa: PLC0415  (only the chosen engine is loaded)

    wanted = {image for product, target in cells for image in _images_of(matrix, product, target)}
    image_builds.prepare(wanted, on_step)


def _images_of(matrix: Matrix, product: Product, target: Target) -> Iterator[tuple[str, str]]:
    if not target.oci.startswith("linux/"):
        platform = host().oci
    else:
        platform = target.oci
        if product.smoke:
            yield "base", platform
    match product.recipe:
        case CommandRecipe(toolchain=name):
            yield name, platform if product.placement is PlacementWish.EMULATE else host().oci
        case DockerfileRecipe(dockerfile=path) if isinstance(product.source, PurePosixPath):
            for image in survey.images_below(matrix.root / product.source / path):
                if image.startswith("relbuild/"):
                    yield image.removeprefix("relbuild/"), platform
        case _:
            pass


def prepared_plan(matrix: Matrix, selection: Selection, engine: Engine, dist: Path, observer: Observer) -> Plan:
    """Make the toolchains that are missing, then plan."""
    engine.prepare(matrix, tuple(select(matrix, selection)), lambda text: observer(Note(text=text)))
    return plan_release(matrix, selection, engine, dist, observer)
