"""The shape of [reproduce]."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from orchestrator.config import texts
from orchestrator.config.base_shape import Shape
from orchestrator.config.product_shapes import not_empty

AxisName = Literal[
    "build_path", "time", "time_zone", "locale", "umask", "host_name", "user", "cpus", "file_order", "environment"
]


class ReproductionShape(Shape):
    """Which proof a release needs before it is published, and how rebuilds go."""

    gate: Literal["block", "warn", "off"] = Field(
        default="warn", description="What publishing does with a release that was not proved reproducible."
    )
    rebuilders: Annotated[int, Field(ge=1, le=99)] = Field(
        default=1, description="How many different keys must say that every byte came out again."
    )
    keys: list[texts.AnyPath] = Field(
        default=[], description="Public keys of rebuilders, beside those of the trust file."
    )
    axes: Annotated[list[AxisName], AfterValidator(not_empty)] | None = Field(
        default=None, description="What a rebuild's world differs in; default: all that the machine allows."
    )
    rebuilds: Annotated[int, Field(ge=0, le=99)] = Field(
        default=12, description="How many further rounds of builds may look for what makes bytes differ."
    )
    libfaketime: texts.AnyPath | None = Field(
        default=None, description="Path of libfaketime.so.1; default: where Debian's package puts it."
    )
