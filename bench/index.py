"""Measure what publishing one more release costs an index of 10,000, against the plain JSON of the same file.

python -m bench.index [releases]
"""

import dataclasses
import gc
import hashlib
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from orchestrator.publication import Event, EventType, Index, IndexedFile, ReleaseEntry, Rows
from orchestrator.publish.index import encode_index, parse_index, with_event
from orchestrator.publish.index_rows import entry_line, event_line, read_entry, read_event
from orchestrator.publish.merkle import tree_head

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)
TARGETS = ("x86_64", "aarch64", "armv7")
CHECKS = ("hash_verified", "signature_verified", "sbom_validated", "slsa_validated")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def entry(number: int) -> ReleaseEntry:
    """Make a release of three archives, the size of a small project's."""
    version = f"v1.{number // 100}.{number % 100}"
    return ReleaseEntry(
        version=version, timestamp=NOW, sha256=digest(version), size_bytes=3_456_789,
        artifacts=tuple(
            IndexedFile(path=f"hello-{version}-{target}.tar.gz", size_bytes=1_152_263, sha256=digest(version + target))
            for target in TARGETS
        ),
        sbom_id=f"urn:uuid:{digest(version)[:32]}", slsa_id=f"sha256:{digest('slsa' + version)}",
        provenance_hash=digest("provenance" + version), signed=True, encrypted=False,
        verification={"passed": True, "timestamp": "2030-01-31T12:00:00Z", **dict.fromkeys(CHECKS, True)},
        validation=None, manifest_sha256=digest(version), targets=TARGETS, audit_sha256=digest("audit" + version),
    )  # fmt: skip


def filled(count: int) -> Index:
    """Make an index without going through every revision of it."""
    entries = tuple(entry(number) for number in range(count))
    events: list[bytes] = []
    for number, each in enumerate(entries, start=1):
        prev = hashlib.sha256(events[-1]).hexdigest() if events else ""
        events.append(
            event_line(
                Event(seq=number, prev=prev, type=EventType.PUBLISH, version=each.version, reason="", actor="bench",
                      key_id="0" * 64, time=NOW, audit_sha256=each.audit_sha256)
            )
        )  # fmt: skip
    return Index(
        repository_id="bench", revision=count, previous_index_sha256="0" * 64 if count > 1 else "",
        expires=NOW + timedelta(days=90), latest=entries[-1].version,
        releases=Rows(map(entry_line, entries), read_entry), events=Rows(events, read_event),
        root=tree_head(events), last_updated=NOW,
    )  # fmt: skip


def publish_one(body: bytes, more: ReleaseEntry) -> bytes:
    parse_index.cache_clear()
    index = parse_index(body)
    return encode_index(
        with_event(index, EventType.PUBLISH, more, reason="", actor="bench", key_id="0" * 64, now=NOW,
                   expires=NOW + timedelta(days=90))
    )  # fmt: skip


def plain(body: bytes) -> bytes:
    return json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()


def best_ms(work: Callable[[], object], times: int = 5) -> float:
    """Give the best of several runs, in milliseconds."""
    taken = []
    for _ in range(times):
        gc.collect()
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1000)
    return min(taken)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    body = encode_index(filled(count))
    more = dataclasses.replace(entry(count), version=f"v2.0.{count}")
    grown = publish_one(body, more)
    whole, bare = best_ms(lambda: publish_one(body, more)), best_ms(lambda: plain(body))
    print(f"{count} releases, {len(body) / 1e6:.1f} MB; one more adds {len(grown) - len(body)} bytes")
    print(f"parse + add one + encode  {whole:7.1f} ms")
    print(f"  parse alone             {best_ms(lambda: parse_index.__wrapped__(body)):7.1f} ms")
    print(f"json.loads + json.dumps   {bare:7.1f} ms")
    print(f"ratio                     {whole / bare:7.2f}")


if __name__ == "__main__":
    main()
