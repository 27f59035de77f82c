"""Holds a folder against its manifest: what is missing, foreign, or has other bytes; and the checksums files."""

from collections.abc import Iterator
from typing import Final

from builders.names import collision_key, escaped
from orchestrator.errors import DigestMismatch
from orchestrator.trust import ATTESTATION, ENCRYPTED, Check
from orchestrator.verify.case import Case
from orchestrator.verify.manifests import Listed, ReadManifest, checksums
from orchestrator.verify.names import MANIFEST, SHA256_SUMS, SHA512_SUMS, summary_name
from orchestrator.verify.reading import FileRead

_MISSING: Final = "get it again; what was fetched with --target T alone is verified with --target T"


def judge(case: Case) -> None:
    """Note every difference between the folder and what the manifest says of it."""
    for name, reason in case.folder.refused.items():
        case.ledger.bad(Check.HASH, _shown(name), DigestMismatch, reason)
    for name, other in _collisions(case):
        what = f"and {_shown(other)} are one file where names ignore case"
        case.ledger.bad(Check.HASH, _shown(name), DigestMismatch, what)
    if case.manifest is None:
        return
    for name in sorted(case.folder.files.keys() - _known(case, case.manifest)):
        what = "is foreign: the manifest does not list it, and it signs nothing"
        case.ledger.bad(Check.HASH, _shown(name), DigestMismatch, what, "remove it, and ask who put it there")
    for listed in case.manifest.listed:
        if (listed.of or listed.path) not in case.left_out:
            _judge_listed(case, listed)
    for name, algorithm in ((SHA256_SUMS, "sha256"), (SHA512_SUMS, "sha512")):
        file = case.folder.files.get(name)
        if file is not None and file.content != checksums(case.manifest, algorithm):
            case.ledger.bad(Check.HASH, name, DigestMismatch, "does not hold what the manifest makes it hold")


def differences(listed: Listed, file: FileRead) -> str:
    """Say how a file is not the one that is listed, or give an empty string."""
    if file.size_bytes != listed.size_bytes:
        return f"has {file.size_bytes} bytes, and the manifest promises {listed.size_bytes}"
    if (file.sha256, file.sha512) != (listed.sha256, listed.sha512):
        return f"has SHA-256 {file.sha256[:16]}..., and the manifest promises {listed.sha256[:16]}..."
    return ""


def _judge_listed(case: Case, listed: Listed) -> None:
    file = case.folder.files.get(listed.path)
    if file is None:
        # A plain file may be gone where its encrypted copy is here; artifacts.py judges that copy.
        if f"{listed.path}{ENCRYPTED}" not in case.folder.files and listed.path not in case.folder.refused:
            case.ledger.bad(Check.HASH, listed.path, DigestMismatch, "is missing", _MISSING)
        return
    problem = differences(listed, file)
    if problem:
        case.ledger.bad(Check.HASH, listed.path, DigestMismatch, problem)
    else:
        case.good(Check.HASH, listed.path, f"has the promised bytes (SHA-256 {listed.sha256[:16]}...)")


def _known(case: Case, manifest: ReadManifest) -> set[str]:
    return {
        MANIFEST,
        summary_name(manifest.version),
        *(each.path for each in manifest.listed),
        *(f"{each.path}{ENCRYPTED}" for each in manifest.artifacts),
        *(f"{each.path}{ATTESTATION}" for each in manifest.built),
        *(name for names in case.signatures.values() for name in names),
    }


def _collisions(case: Case) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for name in sorted([*case.folder.files, *case.folder.refused]):
        other = seen.setdefault(collision_key(name), name)
        if other != name:
            yield name, other


def _shown(name: str) -> str:
    shown = escaped(name)
    return name if shown == f"'{name}'" else shown
