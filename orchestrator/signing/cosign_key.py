"""cosign's own format of a private key: PKCS#8 in a NaCl secretbox, its key by scrypt, as JSON in PEM.

Format: secure-systems-lab/go-securesystemslib, encrypted/encrypted.go; sigstore/cosign, pkg/cosign/keys.go.
"""

import base64
import binascii
import json
import os
from typing import Any, Final

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

LABELS: Final = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
"""The PEM types that cosign reads; it writes the first, and wrote the second before 2.0."""

_COST = 65536
# Costs that the library ever wrote; any other number in a file could ask for all memory of the machine.
_COSTS = (_COST, 32768)
_R, _P, _SALT_BYTES = 8, 1, 32


class Damaged(ValueError):
    """The file is not what cosign writes."""


class WrongPassphrase(ValueError):
    """The box does not open with this passphrase."""


def decrypted(body: bytes, passphrase: bytes) -> bytes:
    """Give the PKCS#8 DER inside the PEM's body. Raises Damaged, WrongPassphrase."""
    try:
        data = json.loads(body)
        kdf, cipher = data["kdf"], data["cipher"]
        params = kdf["params"]
        known = kdf["name"] == "scrypt" and cipher["name"] == "nacl/secretbox" and params["N"] in _COSTS
        if not known or (params["r"], params["p"]) != (_R, _P):
            raise Damaged("it is encrypted in a way that cosign does not use")
        salt, nonce, sealed = _bytes(kdf["salt"]), _bytes(cipher["nonce"]), _bytes(data["ciphertext"])
        if len(nonce) != SecretBox.NONCE_SIZE:
            raise Damaged("its nonce has another length than cosign's")
        return bytes(SecretBox(_derived(passphrase, salt, params["N"])).decrypt(sealed, nonce))
    except CryptoError:
        raise WrongPassphrase from None
    except (KeyError, TypeError, ValueError, RecursionError, binascii.Error) as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged("its content is not what cosign writes") from None


def encrypted(pkcs8: bytes, passphrase: bytes) -> bytes:
    """Give the PEM file that holds a key for cosign."""
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(SecretBox.NONCE_SIZE)
    box = SecretBox(_derived(passphrase, salt, _COST))
    body = {
        "kdf": {"name": "scrypt", "params": {"N": _COST, "r": _R, "p": _P}, "salt": _text(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": _text(nonce)},
        "ciphertext": _text(box.encrypt(pkcs8, nonce).ciphertext),
    }
    lines = _text(json.dumps(body, separators=(",", ":")).encode())
    wrapped = "\n".join(lines[start : start + 64] for start in range(0, len(lines), 64))
    return f"-----BEGIN {LABELS[0]}-----\n{wrapped}\n-----END {LABELS[0]}-----\n".encode()


def _derived(passphrase: bytes, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=SecretBox.KEY_SIZE, n=cost, r=_R, p=_P).derive(passphrase)


def _bytes(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
