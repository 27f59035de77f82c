"""What an SBOM is asked for, and what it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builders.model import Material
from builders.sources import OutsideSource
from orchestrator.archive import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class SbomRequest:
    """One artifact and all that is known of it.

    `name` is its file name, `root_dir` the folder that its files lie below inside an archive (empty for a plain file),
    `payload` its files or a folder of them. `license` is an SPDX expression or any text, `supplier` a name with or
    without `<address>`, `source` what it was built from where that came from outside.
    """

    name: str
    sha256: str
    sha512: str
    payload: Sequence[Member] | Path
    product: str
    version: str
    project: str
    target: str
    epoch: int
    root_dir: str = ""
    license: str = ""
    supplier: str = ""
    homepage: str = ""
    source: OutsideSource | None = None
    materials: tuple[Material, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sbom:
    """The two documents, each the bytes of a file: SPDX 2.3 and CycloneDX 1.6, both as JSON."""

    spdx: bytes
    cyclonedx: bytes
