"""Makes and checks verification summaries (SLSA VSA v1, https://slsa.dev/spec/v1.0/verification_summary)."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from orchestrator import __version__
from orchestrator.errors import SummaryInvalid
from orchestrator.trust import ATTESTATION, ENCRYPTED, VerifiedRelease
from orchestrator.verify.json_strict import (
    SHA256,
    TEXT,
    BadJson,
    canonical,
    check,
    exactly,
    list_of,
    parse_canonical,
    record,
    text,
)
from orchestrator.verify.manifests import Listed, ReadManifest, read_manifest
from orchestrator.verify.names import DOCUMENT_ENDINGS, MANIFEST
from orchestrator.verify.provenances import BUILD_TYPE, BUILDERS, PREDICATE_TYPE, STATEMENT_TYPE
from orchestrator.verify.reading import Unreadable, read_file

SUMMARY_TYPE: Final = "https://slsa.dev/verification_summary/v1"
VERIFIER_ID: Final = "urn:relbuild:verifier"
LEVEL: Final = "SLSA_BUILD_LEVEL_1"
"""All known builders are workstations; none may claim more."""

POLICY: Final = canonical(
    {
        "schema": "relbuild/verification-policy/v1",
        "statement": STATEMENT_TYPE,
        "predicate": PREDICATE_TYPE,
        "build_types": [BUILD_TYPE],
        "builders": sorted(BUILDERS),
        "documents": sorted(DOCUMENT_ENDINGS),
        "folder": "nothing but what the manifest lists and what signs it",
        "signed": "manifest and checksums, by the threshold of the release role",
    }
)
"""What every verifier of this version asks for; whoever has this program can compute its digest."""

POLICY_SHA256: Final = hashlib.sha256(POLICY).hexdigest()
POLICY_URI: Final = "urn:relbuild:verification-policy:v1"

_TIME_FORM = "%Y-%m-%dT%H:%M:%SZ"
_SHA256 = record({"sha256": SHA256})
_DESCRIBED = record({"uri": TEXT, "digest": _SHA256})
_STATEMENT = record(
    {
        "_type": exactly(STATEMENT_TYPE),
        "subject": list_of(record({"name": TEXT, "digest": _SHA256}), least=1),
        "predicateType": exactly(SUMMARY_TYPE),
        "predicate": record(
            {
                "verifier": record({"id": exactly(VERIFIER_ID), "version": record({"relbuild": TEXT})}),
                "timeVerified": text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", "time"),
                "resourceUri": TEXT,
                "policy": _DESCRIBED,
                "inputAttestations": list_of(_DESCRIBED),
                "verificationResult": exactly("PASSED"),
                "verifiedLevels": list_of(exactly(LEVEL), least=1, most=1),
                "slsaVersion": exactly("1.0"),
            }
        ),
    }
)


def summary_statement(verified: VerifiedRelease, now: datetime) -> bytes:
    """Write the statement that says that a release was verified: the payload for sign_summary.

    Subjects are the manifest, every artifact that was built, and its encrypted copy, which no other statement ties to
    its release. A source archive is none: no build level is claimed for what nobody built; the manifest names it.
    Raises SummaryInvalid for a release that was not verified.
    """
    if not verified.result.passed:
        raise SummaryInvalid(f"{verified.project} {verified.version} was not verified, so nothing can say that it was",
                             next_step="mend what `relbuild verify` names")  # fmt: skip
    read = {str(path): sha256 for path, sha256 in verified.files}
    artifacts = _manifest_of(verified).built
    subjects = _expected_subjects(artifacts, verified.manifest_sha256, read)
    return canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": _named(subjects, "name"),
            "predicateType": SUMMARY_TYPE,
            "predicate": {
                "verifier": {"id": VERIFIER_ID, "version": {"relbuild": __version__}},
                "timeVerified": now.astimezone(UTC).strftime(_TIME_FORM),
                "resourceUri": _resource(verified.project, verified.version),
                "policy": {"uri": POLICY_URI, "digest": {"sha256": POLICY_SHA256}},
                "inputAttestations": _named(_inputs(artifacts, read), "uri"),
                "verificationResult": "PASSED",
                "verifiedLevels": [LEVEL],
                "slsaVersion": "1.0",
            },
        }
    )


def read_summary(data: bytes) -> Any:
    """Read the statement. Raises BadJson."""
    value = check(parse_canonical(data), _STATEMENT)
    try:
        datetime.strptime(value["predicate"]["timeVerified"], _TIME_FORM).replace(tzinfo=UTC)
    except ValueError:
        raise BadJson("has no time at predicate.timeVerified") from None
    return value


def time_of(data: bytes) -> datetime:
    """Say when a summary was made. Raises BadJson."""
    return datetime.strptime(read_summary(data)["predicate"]["timeVerified"], _TIME_FORM).replace(tzinfo=UTC)


def digests_in(statement: Any, names: Collection[str]) -> dict[str, str]:
    """Give what a summary says of these files: their SHA-256 by name."""
    predicate = statement["predicate"]
    said = [(each["name"], each["digest"]) for each in statement["subject"]]
    said += [(each["uri"], each["digest"]) for each in predicate["inputAttestations"]]
    return {name: digest["sha256"] for name, digest in said if name in names}


def summary_problems(
    statement: Any, manifest: ReadManifest, manifest_sha256: str, read: Mapping[str, str], now: datetime
) -> Iterator[str]:
    """Say how a summary is not about this release. `read` holds the SHA-256 of every file of the folder."""
    predicate = statement["predicate"]
    if statement["subject"] != _named(_expected_subjects(manifest.built, manifest_sha256, read), "name"):
        yield "is about other files than the manifest, the built artifacts and their encrypted copies of this release"
    if predicate["resourceUri"] != _resource(manifest.project, manifest.version):
        yield f"is about {predicate['resourceUri'][:100]!r}"
    if predicate["policy"] != {"uri": POLICY_URI, "digest": {"sha256": POLICY_SHA256}}:
        yield "was made by another policy"
    if predicate["inputAttestations"] != _named(_inputs(manifest.built, read), "uri"):
        yield "was made from other attestations than those of this release"
    made = datetime.strptime(predicate["timeVerified"], _TIME_FORM).replace(tzinfo=UTC)
    if made > now:
        yield f"was made in the future ({predicate['timeVerified']})"


def _manifest_of(verified: VerifiedRelease) -> ReadManifest:
    try:
        file = read_file(verified.folder / MANIFEST)
        if file.sha256 == verified.manifest_sha256:
            return read_manifest(file.content or b"")
    except (Unreadable, BadJson):
        pass
    raise SummaryInvalid(f"{MANIFEST} of {verified.project} {verified.version} was changed after it was verified",
                         next_step="verify the release again")  # fmt: skip


def _expected_subjects(artifacts: tuple[Listed, ...], manifest_sha256: str, read: Mapping[str, str]) -> dict[str, str]:
    names = {each.path: each.sha256 for each in artifacts}
    copies = {f"{name}{ENCRYPTED}": read[f"{name}{ENCRYPTED}"] for name in names if f"{name}{ENCRYPTED}" in read}
    return {MANIFEST: manifest_sha256, **names, **copies}


def _inputs(artifacts: tuple[Listed, ...], read: Mapping[str, str]) -> dict[str, str]:
    names = (f"{each.path}{ATTESTATION}" for each in artifacts)
    return {name: read[name] for name in names if name in read}


def _named(digests: Mapping[str, str], key: str) -> list[dict[str, Any]]:
    return [{key: name, "digest": {"sha256": digests[name]}} for name in sorted(digests)]


def _resource(project: str, version: str) -> str:
    return f"urn:relbuild:release:{project}:{version}"
