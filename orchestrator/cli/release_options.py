"""The options that say what a release must have before it is published."""

from typing import Annotated

import typer

from orchestrator.publishing_rules import PolicyMode

RequireValidation = Annotated[
    bool | None,
    typer.Option(
        "--require-validation/--no-require-validation",
        help="Whether a validation must pass, by [validate] or its usual rules. Default: as its `gate` says, or yes.",
    ),
]
VerificationPolicy = Annotated[
    PolicyMode | None,
    typer.Option(
        "--verification-policy",
        help="lenient: an SBOM or a provenance that is missing only warns. What is wrong never goes out.",
    ),
]
ValidationPolicy = Annotated[
    PolicyMode | None,
    typer.Option(
        "--validation-policy", help="Validate; strict: it must pass; lenient: what it finds only warns. Audits tell."
    ),
]
Baseline = Annotated[
    str, typer.Option("--baseline-release", metavar="V", help="Validate, and compare with this published version.")
]
PostReleaseValidation = Annotated[
    bool, typer.Option("--post-release-validation", help="Another name of --require-validation.")
]
Sign = Annotated[bool, typer.Option("--sign", help="Refuse before the build where no [signing] says who signs.")]
Encrypt = Annotated[
    bool, typer.Option("--encrypt", help="Ask for encrypted copies; needs recipients in [signing.encryption].")
]
IncludeSbom = Annotated[bool, typer.Option("--include-sbom", help="Each archive has SBOMs anyway: changes nothing.")]
IncludeSlsa = Annotated[
    bool, typer.Option("--include-slsa", help="Each archive has its provenance anyway: changes nothing.")
]
VerifyRelease = Annotated[
    bool, typer.Option("--verify-release", help="What is signed is verified anyway: changes nothing.")
]
PublishRelease = Annotated[bool, typer.Option("--publish-release", help="`release` publishes anyway: changes nothing.")]


def asked_for(require: bool | None, policy: PolicyMode | None, baseline: str, *, also: bool = False) -> bool | None:
    """Tell whether options ask for a validation; None where they say nothing. Raises BadParameter for both at once."""
    asks = bool(policy or baseline or also)
    if asks and require is False:
        raise typer.BadParameter("--no-require-validation contradicts the other options, which ask for a validation")
    return True if asks else require
