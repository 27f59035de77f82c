"""What signing and verifying a large release costs, against its bare parts in the same run.

    python -m bench.trust [ARTIFACTS]

The release has that many artifacts of 4 KiB (1,000) and one of 64 MiB, each with two SBOMs, provenance, an attestation
and a signature of its own, by one key file. The baselines are hashing each of its files once with SHA-256 and SHA-512,
and as many bare ECDSA P-256 signatures, or verifications of them, over as many digests. Prints a Markdown table, and
how often a verification reads each byte, by the kernel's own count.
"""

import gc
import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from orchestrator import release
from orchestrator.signing import new_keys
from orchestrator.signing.passphrase import Passphrases
from orchestrator.signing_rules import SignerKind, SignerRules, SigningRules
from orchestrator.staged import read_staged
from orchestrator.verify import Expectations, judge_release, load_trust
from tests.unit import release_maker
from tests.unit.release_maker import MadeRelease

ROUNDS = 3
SMALL, LARGE = 4 << 10, 64 << 20
DIGEST = hashlib.sha256(b"a digest").digest()
ALGORITHM = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
SIGNATURES = (".sigstore.json", ".intoto.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    what: str
    baseline: str
    baseline_s: float
    relbuild_s: float

    def text(self) -> str:
        ratio = self.relbuild_s / self.baseline_s
        return f"| {self.what} | {self.baseline} | {self.baseline_s:.2f} s | {self.relbuild_s:.2f} s | {ratio:.1f} |"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder, rules = unsigned(root / "1.2.3", count), keys(root)
        rows = signing(folder, rules) + verifying(folder, rules)
        files = list(folder.iterdir())
        size = sum(path.stat().st_size for path in files)
        times = bytes_read(lambda: verify(folder, rules)) / size
    print(f"{len(os.sched_getaffinity(0))} CPUs, Python {sys.version.split()[0]}; {count + 1} artifacts, "
          f"{len(files)} files, {size / 1e6:.0f} MB\n")  # fmt: skip
    print("| what | baseline | baseline | relbuild | ratio |\n| --- | --- | ---: | ---: | ---: |")
    print("\n".join(row.text() for row in rows))
    print(f"\nA verification read {times:.3f} times the bytes of the folder.")


def unsigned(folder: Path, count: int) -> Path:
    """Write a release with everything but signatures."""
    folder.mkdir()
    names = (*(f"small-{number:04}.tar.gz" for number in range(count)), "large.tar.gz")
    made = MadeRelease(folder, "hello", "1.2.3", names, keys=())
    for name in names:
        size = LARGE if name.startswith("large") else SMALL
        content = (name.encode() * (size // len(name) + 1))[:size]
        statement = release_maker.statement(name, content, "x86_64", project="hello", version="1.2.3")
        made.write(name, content)
        made.write(f"{name}.spdx.json", release_maker.spdx(name, content))
        made.write(f"{name}.cdx.json", release_maker.cyclonedx(name, content))
        made.write(f"{name}.provenance.json", release_maker.canonical(statement))
    made.write("artifacts.json", release_maker.canonical([{"name": name, "type": "File"} for name in names]))
    release_maker.finish(made, dict.fromkeys(names, "x86_64"))
    return folder


def keys(root: Path) -> SigningRules:
    trust = new_keys.NewTrust(path=root / "trust.json", project="hello", threshold=1)
    now = datetime.now(UTC).replace(microsecond=0)
    new_keys.make_key_file(root / "release.key", new_keys.pkcs8_form, None, trust, now)
    signer = SignerRules(kind=SignerKind.KEY_FILE, key=str(root / "release.key"))
    return SigningRules(signers=(signer,), trust=trust.path, each_artifact=True)


# --- pairs -------------------------------------------------------------------------------------------------------


def signing(folder: Path, rules: SigningRules) -> list[Row]:
    def sign() -> None:
        release.sign_release(read_staged(folder), rules, Passphrases(None))

    def unsign() -> None:
        for path in folder.iterdir():
            if path.name.endswith(SIGNATURES):
                path.unlink()

    sign()
    made = sum(path.name.endswith(SIGNATURES) for path in folder.iterdir())
    each, again = f"{made} bare signatures and verifications", f"{made} bare verifications"
    return [
        pair("sign: all signatures, each verified at once", each, lambda: bare(made, made), sign, before=unsign),
        pair("sign again: every signature is there and holds", again, lambda: bare(1, made), sign),
    ]


def verifying(folder: Path, rules: SigningRules) -> list[Row]:
    made = sum(path.name.endswith(SIGNATURES) for path in folder.iterdir())

    def both() -> None:
        hash_all(folder)
        bare(1, made)

    return [
        pair("verify", "hashing each file once", lambda: hash_all(folder), lambda: verify(folder, rules)),
        pair("verify", f"the same, and {made} bare verifications", both, lambda: verify(folder, rules)),
    ]


def pair(
    what: str, baseline: str, first: Callable[[], object], second: Callable[[], object],
    before: Callable[[], object] = bool,
) -> Row:  # fmt: skip
    pairs = []
    for _ in range(ROUNDS):
        before()
        pairs.append((timed(first), timed(second)))
    return Row(what=what, baseline=baseline, baseline_s=statistics.median(one for one, _ in pairs),
               relbuild_s=statistics.median(two for _, two in pairs))  # fmt: skip


def timed(action: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


# --- what is measured --------------------------------------------------------------------------------------------


def verify(folder: Path, rules: SigningRules) -> None:
    wanted = Expectations(version="1.2.3", require_artifact_signatures=True)
    result, _ = judge_release(folder, load_trust(rules.trust), wanted, datetime.now(UTC))
    if not result.passed:
        raise SystemExit(str([each for each in result.evidence if each.error][:3]))


def hash_all(folder: Path) -> None:
    for path in folder.iterdir():
        both = (hashlib.sha256(), hashlib.sha512())
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(1 << 20):
                for each in both:
                    each.update(chunk)


def bare(signatures: int, verifications: int) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key()
    made = [private.sign(DIGEST, ALGORITHM) for _ in range(signatures)]
    for number in range(verifications):
        public.verify(made[number % signatures], DIGEST, ALGORITHM)


def bytes_read(action: Callable[[], object]) -> int:
    """Give what read and pread returned to this process meanwhile, as the kernel counts it."""
    before = rchar()
    action()
    return rchar() - before


def rchar() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines())
    return int(fields["rchar"])


if __name__ == "__main__":
    main()
