"""The whole command line with keys as owners have them, killed by the kernel at its calls that change something.

By default a sample of the calls; RELBUILD_FAULTS=full takes all. Each test prints how many it took of how many.
"""

import base64
import copy
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.faults.invariants import Witness, disk
from tests.faults.test_commit import CHANGING, KILLED, needs_strace, points
from tests.integration.test_publication import UNVALIDATED, Done, Shop, keys, shop_in

__all__ = ["keys"]  # a fixture

TRACE = ("strace", "-f", "--seccomp-bpf", "-qqq")
PUBLISH = ("publish", "--release-dir", "releases/1.1.0", *UNVALIDATED)
YANK = ("yank", "1.0.0", "--reason", "slow")


@dataclass
class Scene:
    """A shop whose repository holds 1.0.0, to be copied for each kill, and what has been seen of it."""

    folder: Path
    witness: Witness
    copies: int = 0

    def fresh(self) -> tuple[Shop, Witness]:
        self.copies += 1
        target = self.folder.parent / f"copy-{self.copies}"
        shutil.copytree(self.folder, target)
        return shop_in(target), copy.deepcopy(self.witness)


def signed_by(folder: Path) -> Callable[[bytes, bytes, bytes], bool]:
    """Check with the public keys and nothing of the program's own."""
    release = load_pem_public_key((folder / "release.pub").read_bytes())
    audit = load_pem_public_key((folder / "audit.pub").read_bytes())
    assert isinstance(release, ec.EllipticCurvePublicKey)
    assert isinstance(audit, rsa.RSAPublicKey)

    def signed(what: bytes, body: bytes, signature: bytes) -> bool:
        document = json.loads(signature)
        try:
            if what == b"index":
                made = base64.b64decode(document["messageSignature"]["signature"])
                release.verify(made, body, ec.ECDSA(hashes.SHA256()))
            else:
                pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
                audit.verify(base64.b64decode(document["signature"]), body, pss, hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    return signed


@pytest.fixture(scope="module")
def scene(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("killed") / "shop"
    shutil.copytree(keys, folder)
    shop = shop_in(folder)
    shop.published("1.0.0")
    shop.make("1.1.0")
    witness = Witness(signed=signed_by(folder))
    witness.settled(disk(shop.repository))
    return Scene(folder, witness)


def killed_at(scene: Scene, command: tuple[object, ...], most: int) -> list[tuple[str, int]]:
    """Give call and number of the points of a command: all, or an even sample with every link in it.

    strace counts for each thread. How helpers share their work is up to chance, so what only they do is met once, and
    of what the first thread does, too, no more than that does.
    """
    shop, _ = scene.fresh()
    log = shop.folder / "calls"
    done = ran(shop, command, "-o", str(log), "-e", f"trace={','.join(CHANGING)}")
    assert done.code == 0, done.out + done.err
    first, counts, helpers = "", Counter[str](), set[str]()
    for line in log.read_text().splitlines():
        thread, _, rest = line.partition(" ")
        first = first or thread
        call, bracket, _ = rest.strip().partition("(")
        if bracket and not call.startswith(("+++", "---", "<...")):
            if thread == first:
                counts[call] += 1
            else:
                helpers.add(call)
    counts.update(dict.fromkeys(helpers - counts.keys(), 1))
    chosen = points(counts, most=most)
    print(f"{command[0]}: killed at {len(chosen)} of {counts.total()} calls")
    return chosen


def ran(shop: Shop, command: tuple[object, ...], *strace: str) -> Done:
    return shop.run(*command, *shop.place, *shop.owner, around=(*TRACE, *strace) if strace else ())


@pytest.mark.fault(2, 4, 5, 7)
@needs_strace
def test_publish_is_rolled_forward_or_was_never_there(scene: Scene) -> None:
    fates: Counter[str] = Counter()
    for turn, (call, number) in enumerate(killed_at(scene, PUBLISH, most=16)):
        shop, witness = scene.fresh()
        ended = ran(shop, PUBLISH, "-e", f"inject={call}:signal=SIGKILL:when={number}")
        assert ended.code in KILLED, (call, number, ended)
        claimed = (shop.repository / "1.1.0.audit.json").exists()
        witness.look(disk(shop.repository))
        assert claimed or "1.1.0" not in witness.listed, (call, number)
        # Whoever comes next finishes it: somebody who recovers, or whoever publishes again.
        if turn % 2:
            assert ran(shop, ("recover",)).code == 0
            witness.settled(disk(shop.repository))
            # One that had decided to claim, and had not claimed yet, may be finished: all of its bytes are there.
            assert "1.1.0" in witness.listed or not claimed, (call, number)
        again = ran(shop, PUBLISH)
        assert (again.code, again.last) == (0, "published"), (call, number, again)
        witness.settled(disk(shop.repository))
        assert set(witness.listed) == {"1.0.0", "1.1.0"}
        for reader in (("verify", "1.1.0"), ("audit", "verify")):
            read = shop.read(*reader)
            assert read.code == 0, (call, number, reader, read)
        fates["claimed" if claimed else "never there"] += 1
        shutil.rmtree(shop.folder)
    print(dict(fates))
    assert len(fates) == 2, fates


@pytest.mark.fault(2, 7)
@needs_strace
def test_yank_was_done_or_was_not(scene: Scene) -> None:
    fates: Counter[str] = Counter()
    for call, number in killed_at(scene, YANK, most=8):
        shop, witness = scene.fresh()
        ended = ran(shop, YANK, "-e", f"inject={call}:signal=SIGKILL:when={number}")
        assert ended.code in KILLED, (call, number, ended)
        index = witness.look(disk(shop.repository))
        assert index is not None
        fates[index["events"][-1]["type"]] += 1
        assert ran(shop, ("recover",)).code == 0
        witness.settled(disk(shop.repository))
        assert ran(shop, YANK).code == 0, (call, number)
        index = witness.look(disk(shop.repository))
        assert index is not None
        assert [event["type"] for event in index["events"]] == ["publish", "yank"], (call, number)
        shutil.rmtree(shop.folder)
    print(dict(fates))
    assert len(fates) == 2, fates
