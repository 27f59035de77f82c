"""From the shape of [engine.nodes] to its rules."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from builders.engine.node_model import NodeKind, NodeRules, is_loopback
from orchestrator.config.nodes_shape import NodeShape
from orchestrator.config.problems import Draft
from orchestrator.config.signing import full_path

_FILES = ("ca", "cert", "key")


def nodes(shapes: Mapping[str, NodeShape], root: Path, drafts: list[Draft]) -> tuple[NodeRules, ...]:
    """Give the rules of the nodes in the order of the file, and add a draft for what is unsafe or makes no sense."""
    for name, shape in shapes.items():
        drafts += (_at(name, key, what, hint) for key, what, hint in _problems(shape))
    rules = tuple(_rules(name, shape, root) for name, shape in shapes.items())
    clusters = [each.name for each in rules if each.kind is NodeKind.KUBERNETES]
    if clusters and len(clusters) != len(rules):
        what = "buildx joins no kubernetes:// endpoint with others to one builder"
        drafts.append(_at(clusters[0], "endpoint", what, "name only kubernetes:// endpoints, or none"))
    return rules


def _rules(name: str, shape: NodeShape, root: Path) -> NodeRules:
    files = {key: full_path(path, root) for key in _FILES if (path := getattr(shape, key))}
    kind = NodeKind.KUBERNETES if shape.endpoint.startswith("kubernetes://") else NodeKind(shape.speaks)
    return NodeRules(
        name=name, endpoint=shape.endpoint, platforms=tuple(dict.fromkeys(shape.platforms)), kind=kind,
        insecure=shape.insecure, **files,
    )  # fmt: skip


def _problems(shape: NodeShape) -> Iterator[tuple[str, str, str]]:
    tcp = shape.endpoint.startswith("tcp://")
    given = [key for key in _FILES if getattr(shape, key)]
    if given and not tcp:
        yield given[0], "only a tcp:// endpoint takes it", "ssh and contexts bring their own keys"
    if given and len(given) < len(_FILES):
        yield given[0], f"TLS needs {', '.join(_FILES)} together", "give the files that are missing"
    if tcp and not given and not is_loopback(shape.endpoint) and not shape.insecure:
        hint = "give ca, cert and key, or use ssh://; insecure = true takes it as it is"
        yield "endpoint", "TCP to another machine without TLS lets whoever is on the way decide what is built", hint
    if shape.insecure and (given or not tcp):
        yield "insecure", "there is nothing insecure to allow", "leave it out"
    if shape.speaks == "buildkit" and not shape.endpoint.startswith(("unix://", "tcp://")):
        yield "speaks", "a BuildKit daemon is reached by unix:// or tcp://", "ssh and contexts lead to Docker Engines"


def _at(name: str, key: str, what: str, hint: str) -> Draft:
    return Draft(path=("engine", "nodes", name, key), what=what, suggestion=hint)
