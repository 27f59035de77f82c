"""Reads detached OpenPGP signatures (RFC 9580, version 4) strictly, before gpg does.

gpg ignores what is not signed: armor headers, unhashed subpackets, trailing packets. Here such places hold one value.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

HASHES: Final = {8: "sha256", 10: "sha512"}
"""Hash algorithms that count, by their number."""

_NUMBERS_OF_SIGNATURE = {1: 1, 19: 2, 22: 2}
"""How many integers a signature has, by its algorithm: RSA, ECDSA, EdDSA."""
_SIGNATURE_TAG, _PUBLIC_KEY_TAG = 2, 6
_CREATED, _ISSUER_FINGERPRINT = 2, 33
_MOST_BYTES = 64 << 10
_ARMOR = re.compile(
    rb"-----BEGIN PGP SIGNATURE-----\n\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{1,64}={0,2}\n)"
    rb"(?:=([A-Za-z0-9+/]{4})\n)?-----END PGP SIGNATURE-----\n"
)
_KEY_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[A-Za-z]+: [^\n]*\n)*\r?\n([A-Za-z0-9+/=\r\n]+?)"
    rb"(?:\n=[A-Za-z0-9+/]{4})?\r?\n-----END PGP PUBLIC KEY BLOCK-----\s*"
)


class BadPacket(ValueError):
    """What is wrong with a signature or a key, in words that follow its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PgpSignature:
    """A version 4 signature over a file. `made_by` is the fingerprint of the key or subkey that it names."""

    made_by: str
    created: int
    hash_name: str
    start: bytes
    """The first two bytes of the hash, which gpg does not look at."""
    trailer: bytes = field(repr=False)
    """What is hashed behind the file."""


def read_signature(armored: bytes) -> PgpSignature:
    """Read a `.asc` file. Raises BadPacket."""
    if len(armored) > _MOST_BYTES:
        raise BadPacket(f"is larger than {_MOST_BYTES >> 10} KiB")
    found = _ARMOR.fullmatch(armored)
    if not found:
        raise BadPacket("is not one armored signature in gpg's own form (no headers, nothing before or behind)")
    raw = _unarmored(found[1])
    if _lines(raw) != found[1]:
        raise BadPacket("has armor that is not in its only form")
    if found[2] is not None and base64.b64encode(crc24(raw).to_bytes(3, "big")) != found[2]:
        raise BadPacket("has armor whose checksum does not fit")
    packets = list(_packets(raw))
    if len(packets) != 1 or packets[0][0] != _SIGNATURE_TAG:
        raise BadPacket("does not hold exactly one signature")
    return _signature(packets[0][1])


def fingerprint_of(armored: bytes) -> str:
    """Give the fingerprint (40 upper-case digits) of the one key in an armored public key. Raises BadPacket."""
    found = _KEY_ARMOR.fullmatch(armored)
    if not found:
        raise BadPacket("is no armored GPG public key")
    keys = [body for tag, body in _packets(_unarmored(found[1])) if tag == _PUBLIC_KEY_TAG]
    if len(keys) != 1 or not keys[0].startswith(b"\x04"):
        raise BadPacket("does not hold exactly one GPG key of version 4")
    packet = b"\x99" + len(keys[0]).to_bytes(2, "big") + keys[0]
    # RFC 9580, 5.5.4.2: a version 4 fingerprint is SHA-1 by definition.
    return hashlib.sha1(packet, usedforsecurity=False).hexdigest().upper()


def crc24(data: bytes) -> int:
    """Give the checksum of armor (RFC 9580, 6.1.1)."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc


def _unarmored(lines: bytes) -> bytes:
    try:
        return base64.b64decode(lines.translate(None, b"\r\n"), validate=True)
    except (binascii.Error, ValueError):
        raise BadPacket("holds armor that is no base64") from None


def _lines(raw: bytes) -> bytes:
    coded = base64.b64encode(raw)
    return b"".join(coded[at : at + 64] + b"\n" for at in range(0, len(coded), 64))


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Give the packets (RFC 9580, 4.2) with lengths in their shortest form."""
    at = 0
    while at < len(data):
        tag, size, at = _header(data, at)
        if at + size > len(data):
            raise BadPacket("ends in the middle of a packet")
        yield tag, data[at : at + size]
        at += size


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    first = data[at]
    if not first & 0x80:
        raise BadPacket("holds something that is no packet")
    if first & 0x40:
        size, width = _new_length(data, at + 1)
        return first & 0x3F, size, at + 1 + width
    width = {0: 1, 1: 2, 2: 4}.get(first & 3, 0)
    size = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    if not width or at + 1 + width > len(data) or (width > 1 and size < 1 << 8 * (width // 2)):
        raise BadPacket("has a packet whose length is not in its shortest form")
    return first >> 2 & 0x0F, size, at + 1 + width


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    first = data[at] if at < len(data) else 255
    if first < 192:  # noqa: PLR2004 - RFC 9580, 4.2.1.1
        return first, 1
    if first < 224 and at + 1 < len(data):  # noqa: PLR2004 - 4.2.1.2
        return (first - 192 << 8) + data[at + 1] + 192, 2
    raise BadPacket("has a packet whose length is not in its shortest form")


def _signature(body: bytes) -> PgpSignature:
    if len(body) < 8 or body[0] != 4 or body[1] != 0:  # noqa: PLR2004 - the fixed part of a signature
        raise BadPacket("is no version 4 signature over a file")
    algorithm, hash_name = body[2], HASHES.get(body[3])
    if hash_name is None or algorithm not in _NUMBERS_OF_SIGNATURE:
        raise BadPacket(f"uses algorithm {algorithm} with hash {body[3]}, which do not count here")
    hashed_end = 6 + int.from_bytes(body[4:6], "big")
    unhashed_start = hashed_end + 2
    unhashed_end = unhashed_start + int.from_bytes(body[hashed_end:unhashed_start], "big")
    if unhashed_end + 2 > len(body):
        raise BadPacket("ends in the middle of its subpackets")
    signed = dict(_subpackets(body[6:hashed_end]))
    made_by = signed.get(_ISSUER_FINGERPRINT, b"")
    if len(made_by) != 21 or made_by[0] != 4 or len(signed.get(_CREATED, b"")) != 4:  # noqa: PLR2004
        raise BadPacket("does not sign the fingerprint of its maker and its time")
    # The one unsigned place that gpg fills: it repeats the fingerprint's last bytes, or is not there.
    if body[unhashed_start:unhashed_end] not in {b"", b"\x09\x10" + made_by[-8:]}:
        raise BadPacket("holds subpackets that nobody signed")
    _refuse_loose_numbers(body[unhashed_end + 2 :], _NUMBERS_OF_SIGNATURE[algorithm])
    head = body[:hashed_end]
    return PgpSignature(
        made_by=made_by[1:].hex().upper(), created=int.from_bytes(signed[_CREATED], "big"), hash_name=hash_name,
        start=body[unhashed_end : unhashed_end + 2], trailer=head + b"\x04\xff" + len(head).to_bytes(4, "big"),
    )  # fmt: skip


def _subpackets(data: bytes) -> Iterator[tuple[int, bytes]]:
    at, seen = 0, set()
    while at < len(data):
        size, width = _new_length(data, at)
        at += width
        if not size or at + size > len(data):
            raise BadPacket("ends in the middle of a subpacket")
        number = data[at] & 0x7F
        if number in seen:
            raise BadPacket(f"holds the subpacket {number} twice")
        seen.add(number)
        yield number, data[at + 1 : at + size]
        at += size


def _refuse_loose_numbers(data: bytes, count: int) -> None:
    """Refuse integers (RFC 9580, 3.2) with leading zeros, and bytes behind the last one."""
    at = 0
    for _ in range(count):
        bits = int.from_bytes(data[at : at + 2], "big")
        number = data[at + 2 : at + 2 + (bits + 7) // 8]
        if int.from_bytes(number, "big").bit_length() != bits or not bits:
            raise BadPacket("holds a number that is not in its only form")
        at += 2 + len(number)
    if at != len(data):
        raise BadPacket("holds bytes behind its last number")
