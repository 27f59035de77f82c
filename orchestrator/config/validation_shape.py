"""The shape of [validate]."""

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.config import texts
from orchestrator.config.base_shape import Shape

Severity = Literal["error", "warn", "ignore"]
Ratio = Annotated[float, Field(ge=1.0, le=1000.0)]


class SecurityShape(Shape):
    """How grave each rule of the security check is."""

    pie: Severity = Field(default="error", description="A program that is not position-independent.")
    relro: Severity = Field(default="error", description="Relocations that stay writable.")
    nx: Severity = Field(default="error", description="A stack that can be executed.")
    canary: Severity = Field(default="warn", description="No stack protector.")
    fortify: Severity = Field(default="warn", description="No fortified calls of the C library.")
    rpath: Severity = Field(default="error", description="A search path for libraries that leaves the payload.")
    secrets: Severity = Field(default="error", description="What looks like a key or a token.")
    build_paths: Severity = Field(default="error", description="Paths of the place where it was built.")
    vulnerabilities: Severity = Field(
        default="error", description='Known ones. Without osv_database they are not checked; "ignore" says so.'
    )


class ValidateShape(Shape):
    """What a release may differ in from the last good one."""

    gate: Literal["block", "warn", "off"] = Field(
        default="block", description="What it means for publishing that a release did not pass, or was not validated."
    )
    waivers: texts.AnyPath | None = Field(default=None, description="File of waivers: who lets what pass, until when.")
    max_new_packages: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=10, description="So many packages may be new in a release."
    )
    denied_licenses: list[texts.Words] = Field(
        default=[], description="Globs of SPDX licences that no new package may be under."
    )
    allow_changes: list[Literal["builder", "build_type", "source", "toolchain", "parameters"]] = Field(
        default=[], description="What provenance may tell otherwise than that of the last release."
    )
    allow_api_breaks: list[texts.Words] = Field(
        default=[], description="Globs of what may go: SYMBOL, soname:NAME, --option, exit:COMMAND."
    )
    abidiff: Literal["auto", "require", "off"] = Field(
        default="auto", description="Whether abidiff looks at libraries, too: where it is installed, always, never."
    )
    size_budget: Ratio = Field(default=1.1, description="Size of an artifact, as a ratio to that before.")
    startup_budget: Ratio = Field(default=1.25, description="Time of a smoke command, likewise.")
    build_time_budget: Ratio = Field(default=1.5, description="Time of a build, likewise.")
    build_time: Literal["auto", "require", "off"] = Field(
        default="auto",
        description="Whether it is compared: where both are on record here (else a warning), always, never.",
    )
    allow_secrets: list[texts.Words] = Field(
        default=[], description="Globs of files in an artifact that may look like secrets."
    )
    osv_database: texts.AnyPath | None = Field(
        default=None, description="File of OSV entries (zip or JSON), as osv.dev exports them."
    )
    changing_outputs: list[texts.Words] = Field(
        default=[], description="Globs of smoke commands whose output may change from release to release."
    )
    different_outputs: list[texts.Words] = Field(
        default=[], description="Globs of smoke commands whose output may differ between targets."
    )
    security: SecurityShape = SecurityShape()
