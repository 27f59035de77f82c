"""From the shape of [repository] to its rules."""

from collections.abc import Iterator
from pathlib import Path

from orchestrator.config.lines import KeyPath
from orchestrator.config.problems import Draft
from orchestrator.config.repository_shape import RepositoryShape
from orchestrator.config.signing import full_path, passphrase_source
from orchestrator.config.texts import shown
from orchestrator.publishing_rules import (
    WAIVABLE,
    PolicyMode,
    PublishingRules,
    RepositoryKind,
    RepositoryRules,
    RuleWaiver,
)

_NEEDS = {RepositoryKind.LOCAL: "path", RepositoryKind.S3: "bucket", RepositoryKind.GCS: "bucket"}


def repository(
    shape: RepositoryShape | None, root: Path, project: str, drafts: list[Draft], *, signs: bool
) -> PublishingRules | None:
    """Give the rules, and add a draft where the place is not named or nobody signs the index."""
    if shape is None:
        return None
    kind = RepositoryKind(shape.kind)
    if not getattr(shape, _NEEDS[kind]):
        drafts.append(Draft(path=("repository", _NEEDS[kind]), what=f"{kind.words} needs this key"))
    if not signs:
        what = "a repository's index is signed, and there is no [signing]"
        drafts.append(Draft(path=("repository",), what=what, suggestion="say who signs"))
    place = RepositoryRules(
        kind=kind,
        path=full_path(shape.path, root) if shape.path else None,
        bucket=shape.bucket or "",
        prefix=shape.prefix,
        endpoint=shape.endpoint,
        region=shape.region,
        unsafe_filesystem=shape.unsafe_filesystem,
    )
    return PublishingRules(
        repository=place,
        audit_key=full_path(shape.audit_key, root),
        audit_passphrase=passphrase_source(shape.audit_passphrase),
        repository_id=shape.id or project,
        mode=PolicyMode(shape.policy),
        valid_days=shape.valid_days,
        timestamped_versions=shape.timestamped_versions,
        approvals=shape.approvals,
        waivers=tuple(_waivers(shape, drafts)),
    )


def _waivers(shape: RepositoryShape, drafts: list[Draft]) -> Iterator[RuleWaiver]:
    """Give the waivers, and add a draft for one that could never lift anything."""
    for number, each in enumerate(shape.waivers):
        place: KeyPath = ("repository", "waivers", number, "rule")
        if each.rule == "immutability":
            what = "immutability cannot be waived: a version that is taken stays so"
            drafts.append(Draft(path=place, what=what, suggestion="publish under the next number"))
        elif each.rule not in WAIVABLE:
            what = f"the policy has no rule {shown(each.rule)}: it has {', '.join(WAIVABLE)}"
            drafts.append(Draft(path=place, what=what, name=each.rule, known=WAIVABLE))
        yield RuleWaiver(rule=each.rule, reason=each.reason, by=each.by, expires=each.expires)
