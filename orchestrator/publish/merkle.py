"""Tree heads over a list of byte strings (RFC 6962, section 2.1), and what it takes to append to one.

Peaks are the heads of the full subtrees that a tree is made of, by height, `b""` where there is none of that height:
the ones and zeros of the number of leaves. They give the head, and a leaf more costs no look at those before.
"""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice

Peaks = tuple[bytes, ...]


def tree_head(leaves: Iterable[bytes]) -> str:
    """Give the Merkle tree head over the leaves in hexadecimal; over none, the SHA-256 of nothing."""
    return head_of(peaks_of(leaves))


def peaks_of(leaves: Iterable[bytes]) -> Peaks:
    """Give the peaks of the tree over these leaves."""
    digest = hashlib.sha256
    level: Sequence[bytes] = [digest(b"\x00" + leaf).digest() for leaf in leaves]
    peaks = []
    while level:
        peaks.append(level[-1] if len(level) % 2 else b"")
        pairs = zip(islice(level, 0, None, 2), islice(level, 1, None, 2), strict=False)
        level = [digest(b"\x01" + left + right).digest() for left, right in pairs]
    return tuple(peaks)


def peaks_with(peaks: Peaks, leaf: bytes) -> Peaks:
    """Give the peaks of the same tree with one leaf more."""
    grown, node = list(peaks), hashlib.sha256(b"\x00" + leaf).digest()
    for height, peak in enumerate(peaks):
        if not peak:
            grown[height] = node
            return tuple(grown)
        grown[height], node = b"", _joined(peak, node)
    return (*grown, node)


def head_of(peaks: Peaks) -> str:
    """Give the head of a tree in hexadecimal."""
    # The last of an odd number moves up as it is: that gives the same tree as the RFC's split at a power of two.
    standing = [peak for peak in peaks if peak]
    if not standing:
        return hashlib.sha256().hexdigest()
    head = standing[0]
    for peak in standing[1:]:
        head = _joined(peak, head)
    return head.hex()


def _joined(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
