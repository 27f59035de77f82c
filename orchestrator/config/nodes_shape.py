"""The shape of [engine.nodes]."""

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.config import texts
from orchestrator.config.base_shape import Shape

NodeName = Annotated[str, texts.Rule(r"[a-z][a-z0-9-]{0,30}", "a node's name (a-z, 0-9 and -, at most 31)")]
_HOST = r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
_CONTEXT = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}"
_OPTION = r"[a-z][a-z0-9.-]{0,40}=[A-Za-z0-9_./:@,=-]{1,300}"
Endpoint = Annotated[
    str,
    texts.Rule(
        r"unix:///[A-Za-z0-9_./-]{1,100}"
        rf"|tcp://{_HOST}:[0-9]{{1,5}}"
        rf"|ssh://(?:[A-Za-z0-9_][A-Za-z0-9._-]{{0,63}}@)?{_HOST}(?::[0-9]{{1,5}})?"
        rf"|context {_CONTEXT}"
        rf"|kubernetes://(?:[A-Za-z0-9][A-Za-z0-9_.@:-]{{0,252}})?(?:\?{_OPTION}(?:&{_OPTION})*)?",
        "an endpoint (unix:///PATH, tcp://HOST:PORT, ssh://USER@HOST, context NAME, kubernetes://CONTEXT?namespace=X)",
    ),
]
Platform = Annotated[str, texts.Rule(r"linux/[a-z0-9]{2,20}(?:/[a-z0-9]{1,10})?", 'a platform such as "linux/arm64"')]


class NodeShape(Shape):
    """A machine that builds Dockerfiles and emulated recipes for some platforms."""

    endpoint: Endpoint = Field(
        description='Where it answers: "unix:///PATH", "tcp://HOST:PORT", "ssh://USER@HOST", "context NAME" of docker, '
        '"kubernetes://CONTEXT?namespace=X" with options of buildx\'s driver.'
    )
    platforms: list[Platform] = Field(min_length=1, max_length=16, description="What it is there for.")
    speaks: Literal["docker", "buildkit"] = Field(
        default="docker", description="What answers at a unix or tcp endpoint: a Docker Engine, or a BuildKit daemon."
    )
    ca: texts.AnyPath | None = Field(default=None, description="tcp: the certificate that its own is signed with.")
    cert: texts.AnyPath | None = Field(default=None, description="tcp: the certificate of this machine.")
    key: texts.AnyPath | None = Field(default=None, description="tcp: the key of that certificate.")
    insecure: bool = Field(
        default=False, description="tcp: without TLS to another machine. Whoever is on the way decides what is built."
    )
