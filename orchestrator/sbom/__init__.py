"""Describes an artifact by two SBOMs, SPDX 2.3 and CycloneDX 1.6, the same bytes every time.

What is inside an artifact is found by Syft; that and all else that relbuild knows of it is written by relbuild.
"""

from pathlib import Path

from builders.names import escaped
from orchestrator.errors import SbomFailed
from orchestrator.sbom import cyclonedx, payload, spdx, syft
from orchestrator.sbom.request import Sbom, SbomRequest
from orchestrator.sbom.syft import FOLDER, Syft, find_syft

__all__ = ["FOLDER", "Sbom", "SbomRequest", "Syft", "describe", "find_syft"]


def describe(request: SbomRequest, cache: Path, scanner: Syft | None = None) -> Sbom:
    """Write both SBOMs of an artifact. `cache` is the folder of Syft's kept answers; `scanner` is Syft, once found.

    Raises SbomFailed, DiskFull, and ToolchainUnavailable where Syft is wanted and not on this machine.
    """
    scanner = scanner or find_syft()
    files = payload.read(request.payload)
    found = syft.find_packages(files, scanner, cache)
    try:
        return Sbom(
            spdx=spdx.document(request, files, found, scanner.version),
            cyclonedx=cyclonedx.document(request, files, found, scanner.version),
        )
    except (ValueError, OverflowError) as error:
        raise SbomFailed(
            f"no SBOM of {escaped(request.name)} can be written: {type(error).__name__}",
            next_step="see that its names are Unicode and that the project's epoch is a time",
        ) from error
