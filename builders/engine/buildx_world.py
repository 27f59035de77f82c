"""How far BuildKit's steps can be given another world: a recipe under QEMU further than a project's own Dockerfile."""

from collections.abc import Mapping
from typing import Final

from builders.model import Cell, DockerfileRecipe
from builders.world import STANDARD, Axis, AxisState, BuildWorld, Fixed, Varies

_HOST_NAME: Final = "BUILDKIT_SANDBOX_HOSTNAME"
_ENVIRONMENT: Final = "NO_PROXY"
_USUAL_HOST: Final = "buildkitsandbox"
_SAME_ORDER: Final = Fixed(reason="BuildKit writes a source's names in an order of its own")
_SAME_CLOCK: Final = Fixed(reason="BuildKit gives its steps the engine's clock")
_ALL_CPUS: Final = Fixed(reason="BuildKit gives its steps every CPU")


def build_args(world: BuildWorld) -> dict[str, str]:
    """Give the arguments that BuildKit itself and every step of any Dockerfile obey."""
    if world == STANDARD:
        return {}
    return {
        **({_HOST_NAME: world.host_name} if world.host_name else {}),
        # One of the few variables that a step sees without having asked for it.
        **({_ENVIRONMENT: "another.example"} if world.environment else {}),
    }


def axes(cell: Cell) -> Mapping[Axis, AxisState]:
    """Say for every axis whether the cell's steps can have another world's."""
    if isinstance(cell.recipe, DockerfileRecipe):
        return _of_dockerfile()
    return {
        Axis.PATH: Varies(usual="/src, /out and /tmp"),
        Axis.TIME: _SAME_CLOCK,
        Axis.TIME_ZONE: Varies(usual="UTC"),
        Axis.LOCALE: Varies(usual="C.UTF-8"),
        Axis.UMASK: Varies(usual="0022"),
        Axis.HOST_NAME: Varies(usual=_USUAL_HOST),
        Axis.USER: Varies(usual="1000", limits="the image knows neither by name"),
        Axis.CPU_COUNT: _ALL_CPUS,
        Axis.FILE_ORDER: _SAME_ORDER,
        Axis.ENVIRONMENT: Varies(usual="no more than the promised variables"),
    }


def _of_dockerfile() -> Mapping[Axis, AxisState]:
    own = {
        Axis.PATH: "the Dockerfile names its folders itself",
        Axis.TIME_ZONE: "the Dockerfile and its image decide it",
        Axis.LOCALE: "the Dockerfile and its image decide it",
        Axis.UMASK: "BuildKit starts every step with the same one",
        Axis.USER: "the Dockerfile and its image decide it",
    }
    return {
        **{axis: Fixed(reason=reason) for axis, reason in own.items()},
        Axis.TIME: _SAME_CLOCK,
        Axis.HOST_NAME: Varies(usual=_USUAL_HOST),
        Axis.CPU_COUNT: _ALL_CPUS,
        Axis.FILE_ORDER: _SAME_ORDER,
        Axis.ENVIRONMENT: Varies(
            usual="no proxy variable",
            other=f"{_ENVIRONMENT}=another.example",
            limits="one variable that BuildKit knows",
        ),
    }
