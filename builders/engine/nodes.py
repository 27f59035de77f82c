"""One buildx builder of many BuildKit nodes: made, asked, told which node takes what, held to it, and removed.

buildx joins BuildKit daemons to one builder. A Docker Engine joins by the BuildKit inside it, through relay.py, so that
nothing has to be installed or pulled there. What was found of each node is kept beside the relay's sockets.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from builders import command
from builders.engine import buildx, node_model, relay
from builders.engine.node_model import Node, NodeKind, NodeRules, Taker
from builders.errors import NodeUnavailable, WrongNode

_STATE: Final = "state.json"
_SCHEMA: Final = 1
_DRIVERS: Final = {NodeKind.DOCKER: "remote", NodeKind.BUILDKIT: "remote", NodeKind.KUBERNETES: "kubernetes"}
_NEXT_UP: Final = "`relbuild engine nodes up` makes it; `relbuild engine nodes list` says how each node is"


class NodeSet:
    """The nodes of one project. `builder` is buildx's name for them, `folder` keeps what is known of them.

    Asking them takes about half a second each; what they said holds for the life of this object.
    """

    def __init__(self, builder: str, rules: Sequence[NodeRules], folder: Path) -> None:
        self.builder = builder
        self.rules = tuple(rules)
        self._folder = folder
        self._seen: tuple[Node, ...] = ()
        self._lost: set[str] = set()

    # --- by hand ---------------------------------------------------------------------------------------------------

    def up(self, on_step: Callable[[str], None]) -> tuple[Node, ...]:
        """Make the builder of all nodes that answer, or bring it to what the configuration says now.

        Raises NodeUnavailable where none answers.
        """
        with self._alone():
            self._refuse_strangers()
            self._serve()
            self._seen = self._ask(on_step)
            routes = {node.name: node.rules.platforms for node in self._seen if node.answers}
            if not routes:
                raise self._nobody()
            self._route(routes)
        return self._seen

    def down(self) -> tuple[str, ...]:
        """Remove the builder, the relay and what is known of the nodes; name what was there. Others' stay."""
        if not (self._folder / _STATE).is_file():
            return ()
        with self._alone():
            removed = [f"builder {self.builder}"] if buildx.remove_builder(self.builder) else []
            removed += ["relay"] if relay.stop(self._folder) else []
            shutil.rmtree(self._folder)
        return tuple(removed)

    def look(self) -> tuple[Node, ...]:
        """Ask every node how it is. Raises NodeUnavailable where the builder was not made yet."""
        if not self._seen:
            if not (self._folder / _STATE).is_file():
                raise NodeUnavailable(f"the builder {self.builder} of [engine.nodes] is not there", next_step=_NEXT_UP)
            with self._alone():
                self._serve()
                self._seen = self._ask(lambda _text: None)
        return self._seen

    # --- in a run --------------------------------------------------------------------------------------------------

    def takers(self, platform: str) -> tuple[Taker, ...]:
        """Give the node that takes a platform, after those that are gone and finished cells of it natively."""
        return node_model.takers(platform, self.look())

    def taker(self, platform: str) -> Taker:
        """Give the living node that takes a platform. Raises NodeUnavailable where there is none."""
        living = next((taker for taker in self.takers(platform) if taker.answers), None)
        if living is None:
            gone = ", ".join(f"{node.name} ({node.why})" for node in self.look() if not node.answers)
            raise NodeUnavailable(f"no node takes {platform}{f'; these do not answer: {gone}' if gone else ''}",
                                  next_step=_NEXT_UP)  # fmt: skip
        return living

    def prepare(self, platforms: Sequence[str]) -> None:
        """Have buildx send each of these platforms to the node that takes it, and none to a node that is gone."""
        declared = (platform for node in self.look() if node.answers for platform in node.rules.platforms)
        routes: dict[str, list[str]] = {}
        for platform in dict.fromkeys((*declared, *platforms)):
            routes.setdefault(self.taker(platform).node, []).append(platform)
        with self._alone():
            self._route({name: tuple(found) for name, found in routes.items()})

    def refuse_lost(self, cell_id: str, platform: str) -> Taker:
        """Give the node that is planned for a cell. Raises NodeUnavailable where it was lost in this run."""
        taker = self.taker(platform)
        if taker.node in self._lost:
            raise self._gone(cell_id, taker, "was lost before in this run")
        return taker

    def explain(self, cell_id: str, taker: Taker, error: Exception) -> None:
        """Raise NodeUnavailable where the node is why a solve failed; a node that still answers is not."""
        rules = next(rules for rules in self.rules if rules.name == taker.node)
        now = self._ask_one(rules, {})
        if not now.answers:
            self._lost.add(taker.node)
            raise self._gone(cell_id, taker, f"was lost in the middle of the run ({now.why})") from error

    def check_solved(self, cell_id: str, taker: Taker, metadata: Path, provenance: bytes) -> None:
        """Raise WrongNode where BuildKit's own word is that another node solved, or one that had to emulate."""
        solved = buildx.node_of(metadata)
        if solved != taker.node:
            raise WrongNode(
                f"{cell_id}: the node {taker.node} was planned, and buildx says that {solved} built it",
                next_step="did somebody change the builder meanwhile? `relbuild engine nodes up` makes it right again",
            )
        ran_on = _builder_platform(provenance)
        if taker.native and ran_on != taker.platform:
            raise WrongNode(
                f"{cell_id}: it was planned native on the node {solved}, and ran emulated: the node is {ran_on}",
                next_step="is another machine behind its endpoint now? `relbuild engine nodes up` asks it anew",
            )

    def _gone(self, cell_id: str, taker: Taker, how: str) -> NodeUnavailable:
        rules = next(rules for rules in self.rules if rules.name == taker.node)
        return NodeUnavailable(
            f"{cell_id}: the node {taker.node} ({rules.endpoint}) {how}", node=taker.node,
            next_step="run again: what is finished is kept, and the rest goes to the nodes that answer",
        )  # fmt: skip

    # --- asking ----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        engines = {rules.name: _reach(rules) for rules in self.rules if rules.kind is NodeKind.DOCKER}
        if engines:
            relay.ensure(self._folder, engines, buildx.client_env())

    def _ask(self, on_step: Callable[[str], None]) -> tuple[Node, ...]:
        known = self._state().get("nodes", {})
        found = []
        for rules in self.rules:
            on_step(f"asking the node {rules.name} at {rules.endpoint}")
            found.append(self._ask_one(rules, known.get(rules.name, {})))
        return tuple(found)

    def _ask_one(self, rules: NodeRules, known: Mapping[str, Any]) -> Node:
        """Ask by a builder of this node alone and without fixed platforms: so it says what it is itself."""
        last = Node(rules=rules, native=known.get("native", ""), handles=tuple(known.get("handles", ())),
                    version=known.get("version", ""), answers=False)  # fmt: skip
        name = f"{self.builder}-ask-{rules.name}-{os.getpid()}"
        # A cluster would start daemons for it; there the builder itself is asked.
        alone = rules.kind is not NodeKind.KUBERNETES
        try:
            self._put(name if alone else self.builder, rules, (), join=not alone and bool(buildx.ask(self.builder)))
            said = {each.name: each for each in buildx.ask(name if alone else self.builder)}.get(rules.name)
        finally:
            if alone:
                buildx.remove_builder(name)
        if said is None or said.error or not said.platforms:
            return _without(last, said.error if said else "buildx does not know it")
        return Node(rules=rules, native=said.platforms[0], handles=said.platforms, version=said.version)

    def _put(self, builder: str, rules: NodeRules, platforms: Sequence[str], *, join: bool) -> None:
        endpoint, options = _address(rules, self._folder)
        buildx.put_node(builder, rules.name, endpoint, driver=_DRIVERS[rules.kind], platforms=platforms,
                        options=options, join=join)  # fmt: skip

    # --- what is kept ----------------------------------------------------------------------------------------------

    def _route(self, routes: Mapping[str, tuple[str, ...]]) -> None:
        """Give the builder exactly these nodes with these platforms, if it has not got them."""
        wanted = {name: [_address(rules, self._folder)[0], *routes[name]] for rules in self.rules
                  if (name := rules.name) in routes}  # fmt: skip
        kept, there = self._state().get("routes", {}), {each.name for each in buildx.ask(self.builder)}
        if wanted != kept or set(wanted) != there:
            for rules in self.rules:
                if rules.name in wanted:
                    self._put(self.builder, rules, routes[rules.name], join=bool(there))
                    there.add(rules.name)
            for name in there - set(wanted):
                buildx.drop_node(self.builder, name)
        self._keep(wanted)

    def _keep(self, routes: Mapping[str, Sequence[str]]) -> None:
        nodes = {node.name: {"native": node.native, "handles": node.handles, "version": node.version}
                 for node in self._seen}  # fmt: skip
        text = json.dumps({"schema": _SCHEMA, "builder": self.builder, "nodes": nodes, "routes": routes}, indent=1)
        new = self._folder / f"{_STATE}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(self._folder / _STATE)

    def _state(self) -> dict[str, Any]:
        try:
            found = json.loads((self._folder / _STATE).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) and found.get("schema") == _SCHEMA else {}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _refuse_strangers(self) -> None:
        if not self._state() and buildx.ask(self.builder):
            raise NodeUnavailable(
                f"there is a builder {self.builder} that relbuild did not make, or no longer knows",
                next_step=f"`docker buildx rm {self.builder}`, then again",
            )

    def _nobody(self) -> NodeUnavailable:
        lines = "\n".join(f"  {node.name} ({node.rules.endpoint}): {node.why}" for node in self._seen)
        return NodeUnavailable(f"no node of [engine.nodes] answers:\n{lines}",
                               next_step="start them, or mend their endpoints")  # fmt: skip


def _without(last: Node, why: str) -> Node:
    return Node(rules=last.rules, native=last.native, handles=last.handles, version=last.version, answers=False,
                why=why)  # fmt: skip


def _reach(rules: NodeRules) -> tuple[str, ...]:
    """Word the command that reaches an engine by its standard input and output."""
    docker = str(command.find_program("docker") or "docker")
    if rules.endpoint.startswith("context "):
        return (docker, "--context", rules.endpoint.removeprefix("context "), "system", "dial-stdio")
    tls = ("--tlsverify", "--tlscacert", str(rules.ca), "--tlscert", str(rules.cert), "--tlskey", str(rules.key))
    return (docker, "--host", rules.endpoint, *(tls if rules.ca else ()), "system", "dial-stdio")


def _address(rules: NodeRules, folder: Path) -> tuple[str, dict[str, str]]:
    """Give a node's endpoint as `docker buildx create` takes it, and its options."""
    match rules.kind:
        case NodeKind.DOCKER:
            return f"unix://{relay.socket_of(folder, rules.name)}", {}
        case NodeKind.BUILDKIT:
            files = {"cacert": rules.ca, "cert": rules.cert, "key": rules.key}
            return rules.endpoint, {name: str(path) for name, path in files.items() if path is not None}
        case NodeKind.KUBERNETES:
            parts = urlsplit(rules.endpoint)
            return parts.netloc, dict(parse_qsl(parts.query))


def _builder_platform(provenance: bytes) -> str:
    """Read the platform of the machine that solved. Source: BuildKit's SLSA definitions, v0.2 and v1."""
    said = json.loads(provenance)
    said = said.get("predicate", said)
    old = said.get("invocation", {}).get("environment", {}).get("platform")
    new = said.get("buildDefinition", {}).get("internalParameters", {}).get("builderPlatform")
    return str(old or new or "not told")
