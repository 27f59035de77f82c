"""Tree heads over a list of byte strings (RFC 6962, section 2.1)."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice


def tree_head(leaves: Iterable[bytes]) -> str:
    """Give the Merkle tree head over the leaves in hexadecimal; over none, the SHA-256 of nothing."""
    level: Sequence[bytes] = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    if not level:
        return hashlib.sha256().hexdigest()
    while len(level) > 1:
        level = _level_above(level)
    return level[0].hex()


def _level_above(level: Sequence[bytes]) -> Sequence[bytes]:
    # The last of an odd number moves up as it is: that gives the same tree as the RFC's split at a power of two.
    pairs = zip(islice(level, 0, None, 2), islice(level, 1, None, 2), strict=False)
    above = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return above if len(level) % 2 == 0 else [*above, level[-1]]
