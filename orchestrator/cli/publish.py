"""`relbuild publish`, `relbuild release` and `relbuild recover`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import matrix as matrix_command
from orchestrator.cli import options, policies, progress
from orchestrator.cli import release_options as must
from orchestrator.cli import repository_options as asked
from orchestrator.cli.promotion import Wishes, promote_and_tell, state_told_last

if TYPE_CHECKING:
    from orchestrator.cli.publisher import Publisher
    from orchestrator.model import Matrix
    from orchestrator.publish.recover import RecoveryReport


def publish(  # noqa: PLR0917  (options are keyword-only on the command line)
    config: options.Config = None,
    version: Annotated[str, typer.Option("--version", help="The version; default: that of the folder.")] = "",
    release_dir: Annotated[
        Path | None,
        typer.Option("--release-dir", help="The signed folder; default: that of the version below dist/staging."),
    ] = None,
    repository: asked.Repository = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    policy: asked.Policy = None,
    verification_result: Annotated[
        Path | None, typer.Option("--verification-result", help="A result of `relbuild verify`: it must hold, too.")
    ] = None,
    validation_result: asked.ValidationResult = None,
    require_signatures: asked.RequireSignatures = False,
    require_encryption: asked.RequireEncryption = False,
    require_validation: must.RequireValidation = None,
    verification_policy: must.VerificationPolicy = None,
    validation_policy: must.ValidationPolicy = None,
    baseline_release: must.Baseline = "",
    sign_audit_log: Annotated[
        bool, typer.Option("--sign-audit-log", help="Audits are always signed; this changes nothing.")
    ] = True,
    json_report: asked.JsonReport = None,
    text_report: asked.TextReport = None,
    dry_run: asked.DryRun = False,
    verbose: asked.Verbose = False,
    trust: asked.Trust = None,
    key: asked.Key = None,
    passphrase_env: asked.KeyPassphrase = None,
    audit_key: asked.AuditKey = None,
    audit_passphrase_env: asked.AuditPassphrase = None,
    repository_id: asked.RepositoryId = "",
    actor: asked.Actor = "",
    journal: asked.Journal = None,
) -> None:
    """Publish a signed release: verify it again, judge it by the policy, and promote it. Nothing is ever replaced."""
    from orchestrator.cli import places, publisher, wire  # noqa: PLC0415  (heavy, and --help does not need it)

    del sign_audit_log
    if validation_result and baseline_release:
        raise typer.BadParameter("--baseline-release is for a validation made here, and --validation-result brings one")
    matrix = wire.find_matrix(config)
    owner = publisher.Owner(
        key=key, key_passphrase=passphrase_env, audit_key=audit_key, audit_passphrase=audit_passphrase_env,
        repository_id=repository_id, actor=actor, journal=journal,
    )  # fmt: skip
    passphrases = publisher.take_passphrases(matrix, owner)
    where = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    wishes = Wishes(
        policy=policy, require_signatures=require_signatures, require_encryption=require_encryption,
        json_report=json_report, text_report=text_report, dry_run=dry_run, verbose=verbose,
        verification=verification_result, validation=validation_result,
        require_validation=must.asked_for(require_validation, validation_policy, baseline_release),
        baseline=baseline_release, lenient=policies.leniency(verification_policy, validation_policy),
        firm=policies.firmness(verification_policy, validation_policy),
    )  # fmt: skip
    with state_told_last():
        opened = publisher.open_publisher(places.placed(where), owner, matrix, trust, passphrases)
        folder = release_dir or usual_folder(matrix, version)
    promote_and_tell(opened, wishes, folder, version, matrix)


def recover(  # noqa: PLR0917  (options are keyword-only on the command line)
    config: options.Config = None,
    repository: asked.Repository = None,
    repository_type: asked.Kind = None,
    repository_path: asked.Folder = None,
    repository_bucket: asked.Bucket = "",
    repository_prefix: asked.Prefix = "",
    endpoint_url: asked.Endpoint = "",
    trust: asked.Trust = None,
    key: asked.Key = None,
    passphrase_env: asked.KeyPassphrase = None,
    audit_key: asked.AuditKey = None,
    audit_passphrase_env: asked.AuditPassphrase = None,
    repository_id: asked.RepositoryId = "",
    actor: asked.Actor = "",
    verbose: asked.Verbose = False,
) -> None:
    """Finish every claimed version, remove what dead publishers left, and name what is foreign."""
    from orchestrator.cli import places, publisher, wire  # noqa: PLC0415  (as above)

    matrix = wire.find_matrix(config)
    owner = publisher.Owner(
        key=key, key_passphrase=passphrase_env, audit_key=audit_key, audit_passphrase=audit_passphrase_env,
        repository_id=repository_id, actor=actor,
    )  # fmt: skip
    passphrases = publisher.take_passphrases(matrix, owner)
    where = (repository, repository_type, repository_path, repository_bucket, repository_prefix, endpoint_url)
    _recover_and_tell(
        publisher.open_publisher(places.placed(where), owner, matrix, trust, passphrases), verbose=verbose
    )


def release(  # noqa: PLR0917  (options are keyword-only on the command line)
    config: options.Config = None,
    targets: options.Targets = None,
    products: options.Products = None,
    engine: options.EngineChoice = None,
    forbid_emulation: options.ForbidEmulation = False,
    output: options.Output = None,
    jobs: options.Jobs = None,
    fail_fast: options.FailFast = False,
    clean: options.Clean = False,
    log_format: progress.LogFormatChoice = progress.LogFormat.AUTO,
    policy: asked.Policy = None,
    sign: must.Sign = False,
    encrypt: must.Encrypt = False,
    include_sbom: must.IncludeSbom = True,
    include_slsa: must.IncludeSlsa = True,
    verify_release: must.VerifyRelease = True,
    verification_policy: must.VerificationPolicy = None,
    post_release_validation: must.PostReleaseValidation = False,
    require_validation: must.RequireValidation = None,
    validation_policy: must.ValidationPolicy = None,
    baseline_release: must.Baseline = "",
    publish_release: must.PublishRelease = True,
    require_signatures: asked.RequireSignatures = False,
    require_encryption: asked.RequireEncryption = False,
    json_report: asked.JsonReport = None,
    text_report: asked.TextReport = None,
    dry_run: asked.DryRun = False,
    verbose: asked.Verbose = False,
) -> None:
    """Build, check, stage, sign, verify and publish, as matrix.toml says: the one command of a release."""
    del include_sbom, include_slsa, verify_release, publish_release
    wishes = Wishes(
        policy=policy, require_signatures=require_signatures, require_encryption=require_encryption or encrypt,
        sign=sign, baseline=baseline_release, lenient=policies.leniency(verification_policy, validation_policy),
        firm=policies.firmness(verification_policy, validation_policy),
        require_validation=must.asked_for(
            require_validation, validation_policy, baseline_release, also=post_release_validation
        ),
        json_report=json_report, text_report=text_report, dry_run=dry_run, verbose=verbose,
        as_json=log_format is progress.LogFormat.JSON,
    )  # fmt: skip
    asked_for = matrix_command.Asked(
        config=config, targets=targets, products=products, engine=engine, forbid_emulation=forbid_emulation,
        output=output, jobs=jobs, fail_fast=fail_fast, clean=clean, log_format=log_format,
    )  # fmt: skip
    matrix_command.run(asked_for, wishes)


def _recover_and_tell(opened: "Publisher", *, verbose: bool) -> None:
    """Recover a repository and show what became of what was found. Raises AtomicPublishError for what stays open."""
    from orchestrator.cli import publisher  # noqa: PLC0415  (as above)
    from orchestrator.errors import AtomicPublishError  # noqa: PLC0415
    from orchestrator.publish.index_keys import RepositoryTrust  # noqa: PLC0415
    from orchestrator.publish.recover import Became, refuse_no_repository  # noqa: PLC0415
    from orchestrator.publish.recover import recover as settle  # noqa: PLC0415
    from orchestrator.publishing import open_claims  # noqa: PLC0415

    refuse_no_repository(opened.repository)
    report = settle(
        opened.repository, opened.open_keys(), RepositoryTrust(trust=opened.trust, now=publisher.now()),
        now=publisher.now, observer=publisher.say(verbose), terms=opened.terms,
    )  # fmt: skip
    print(_found_text(report) if report.found else f"nothing to recover in {opened.repository.location}")
    if report.of(Became.REPORTED) and (stuck := open_claims(opened.repository, opened.trust, publisher.now())):
        raise AtomicPublishError(
            f"claimed, and not to be finished: {', '.join(stuck)}",
            next_step="each has its reason and its way out above",
        )


def _found_text(report: "RecoveryReport") -> str:
    from orchestrator.cli import tables  # noqa: PLC0415  (as above)

    rows = [
        (each.became.value, each.version, each.place, "; ".join(map(str.strip, each.why.splitlines())))
        for each in report.found
    ]
    return tables.columns(("BECAME", "VERSION", "PLACE", "WHY"), rows)


def usual_folder(matrix: "Matrix | None", version: str) -> Path:
    """Name the staging folder of a version, by default of the configuration's. Raises PublicationError."""
    from orchestrator import survey  # noqa: PLC0415  (as above)
    from orchestrator.errors import PublicationError  # noqa: PLC0415

    if matrix is None:
        raise PublicationError("no release is named", next_step="give --release-dir, or run where a matrix.toml is")
    return matrix.root / "dist" / "staging" / (version or survey.version_of(matrix))
