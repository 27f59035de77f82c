"""Verification: bytes and public keys in, VerifiedRelease out. Shares no code with orchestrator/signing."""

from orchestrator.verify.expectations import Expectations
from orchestrator.verify.opened import load_identities
from orchestrator.verify.release import judge_release, verify_release, with_summary
from orchestrator.verify.results import error_of, from_json, to_json
from orchestrator.verify.roles import check_role_signature, read_role_signed
from orchestrator.verify.single import check_signature, verify_file
from orchestrator.verify.summary import summary_statement
from orchestrator.verify.trust_root import TrustRoot, accept_rotation, load_trust, trust_of_keys

__all__ = [
    "Expectations",
    "TrustRoot",
    "accept_rotation",
    "check_role_signature",
    "check_signature",
    "error_of",
    "from_json",
    "judge_release",
    "load_identities",
    "load_trust",
    "read_role_signed",
    "summary_statement",
    "to_json",
    "trust_of_keys",
    "verify_file",
    "verify_release",
    "with_summary",
]
