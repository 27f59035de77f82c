"""Audit keys: made, put into a trust file, and believed for audits alone."""

import base64
import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.canonical import canonical_json
from orchestrator.errors import AuditInvalid, KeyRefused, TrustInvalid
from orchestrator.publish.audit import seal_document
from orchestrator.publish.index_keys import RepositoryTrust
from orchestrator.publish.rsa_pss import RsaKey, read_rsa_key
from orchestrator.signing import new_keys, trust_file
from orchestrator.signing.key_file import EcKey, new_key
from orchestrator.signing.public_keys import ecdsa_key, pem_key, read_public_key
from orchestrator.verify import load_trust
from tests.unit.published import NOW, audited, rsa_key


def trust_with(folder: Path, audit: RsaKey, *, revoke: bool = False) -> tuple[Path, EcKey]:
    """Write a trust file of a new release key and the given audit key."""
    key = new_key()
    first = trust_file.new_trust(
        project="hello", keys=[ecdsa_key(key.public_pem, "release")], threshold=1, signers=[key], now=NOW
    )
    public = pem_key(audit.public_pem.encode(), "audit")
    data = trust_file.rotate(first, trust_file.Rotation(add=(public,)), [key], NOW)
    if revoke:
        spare = pem_key(rsa_key("spare").public_pem.encode(), "spare")
        data = trust_file.rotate(data, trust_file.Rotation(add=(spare,), revoke=(public.key_id,)), [key], NOW)
    path = folder / "trust.json"
    trust_file.write_trust(path, data, new=True)
    return path, key


def sealed(key: RsaKey) -> tuple[bytes, bytes]:
    _, body = audited("v1.0.0")
    return body, seal_document(body, key.key_id, key.sign(body))


def believed(path: Path, audit: tuple[bytes, bytes]) -> str:
    return RepositoryTrust(trust=load_trust(path), now=NOW + timedelta(days=1)).check_audit(*audit)


def test_an_audit_key_of_the_trust_file_is_believed(tmp_path: Path) -> None:
    path, _ = trust_with(tmp_path, rsa_key())
    assert believed(path, sealed(rsa_key())) == rsa_key().key_id


def test_another_audit_key_and_a_revoked_one_are_not(tmp_path: Path) -> None:
    path, _ = trust_with(tmp_path, rsa_key())
    with pytest.raises(AuditInvalid, match="not one of the 'audit' keys"):
        believed(path, sealed(rsa_key("other")))
    (tmp_path / "revoked").mkdir()
    path, _ = trust_with(tmp_path / "revoked", rsa_key(), revoke=True)
    with pytest.raises(AuditInvalid, match="was revoked"):
        believed(path, sealed(rsa_key()))


def test_a_signature_for_another_audit_does_not_hold(tmp_path: Path) -> None:
    path, _ = trust_with(tmp_path, rsa_key())
    body, _ = sealed(rsa_key())
    with pytest.raises(AuditInvalid):
        believed(path, (body, seal_document(body, rsa_key().key_id, rsa_key().sign(body + b" "))))


@pytest.mark.parametrize(("role", "why"), [("release", "audits sign releases"), ("trust", "not ECDSA P-256")])
def test_an_audit_key_signs_nothing_else(tmp_path: Path, role: str, why: str) -> None:
    path, key = trust_with(tmp_path, rsa_key())
    body = json.loads(path.read_bytes())
    body["roles"][role]["keys"] = sorted([*body["roles"][role]["keys"], rsa_key().key_id])
    signed = {name: value for name, value in body.items() if name != "signatures"}
    signature = base64.b64encode(key.sign_digest(hashlib.sha256(canonical_json(signed)).digest())).decode()
    path.write_bytes(canonical_json({**signed, "signatures": [{"key_id": key.key_id, "signature": signature}]}))
    with pytest.raises(TrustInvalid, match=why):
        load_trust(path)


def test_a_new_audit_key_is_private_and_strong(tmp_path: Path) -> None:
    made = new_keys.make_audit_key(tmp_path / "audit.key", b"secret")
    assert made.private.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in made.private.read_bytes()
    assert read_rsa_key(made.private, lambda: b"secret").key_id == made.key_id == read_public_key(made.public).key_id
    with pytest.raises(KeyRefused):
        new_keys.make_audit_key(tmp_path / "audit.key", b"secret")
