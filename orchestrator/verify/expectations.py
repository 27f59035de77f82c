"""What a verifier asks for beside sound signatures."""

from dataclasses import dataclass

from orchestrator.verify.provenances import BUILDERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """Empty texts expect nothing in particular; `builders` names the builder ids that may have built.

    `targets` lets a release be without the artifacts for any other target, with all that is about those; empty: it
    must be whole.
    """

    builders: tuple[str, ...] = BUILDERS
    source_uri: str = ""
    commit: str = ""
    version: str = ""
    targets: tuple[str, ...] = ()
    require_attestations: bool = True
    require_sbom: bool = True
    require_summary: bool = False
    require_encryption: bool = False
    require_artifact_signatures: bool = False
