"""An independent witness of a repository: it shares no code with the publisher, and keeps what it saw.

I1 the index parses and is signed; I2 each listed release is complete and matches; I3 what is written once stays;
I4 the index only grows; I5 what was acknowledged is listed; I6 one content per version; I7 no version is both released
and abandoned; I8 after recovery no staging area, no temporary file, no claim that nobody finished.
"""

import contextlib
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECRET = b"known to all tests"
_OWN = (".lock", ".new-")


def disk(folder: Path) -> dict[str, bytes]:
    """Give every file below a folder, and staging folders that are empty (their key ends in a slash).

    The index is read first, so that whatever it lists must be found although others publish meanwhile. One that was not
    there yet is left for the next look: what belongs to it may be in a folder that was listed before.
    """
    found: dict[str, bytes] = {}
    with contextlib.suppress(FileNotFoundError):
        found["index.json"] = (folder / "index.json").read_bytes()
    for above, _, names in os.walk(folder):
        key = Path(above).relative_to(folder).as_posix()
        if not names and key.startswith((".staging-", ".new-")):
            found[f"{key}/"] = b""
        for name in names:
            path = Path(above) / name
            with contextlib.suppress(FileNotFoundError):
                if path != folder / "index.json":
                    found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def hmac_signed(what: bytes, body: bytes, signature: bytes) -> bool:
    return hmac.digest(SECRET, what + signature[:16] + body, "sha256") == signature[16:]


@dataclass
class Witness:
    """What has been seen of one repository, and how its index's (b"index") and audits' (b"audit") signatures look."""

    signed: Callable[[bytes, bytes, bytes], bool] = hmac_signed
    once: dict[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    index_sha256: str = ""
    revision: int = 0
    listed: dict[str, str] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)
    """By version, the audit's digest that the publisher was told."""

    def acknowledge(self, version: str, audit_sha256: str) -> None:
        assert self.acknowledged.setdefault(version, audit_sha256) == audit_sha256, f"I6: {version} acknowledged twice"

    def look(self, store: Mapping[str, bytes]) -> dict[str, Any] | None:
        """Hold a state of the repository against I1 to I7, and give the index."""
        self._written_once(store)
        if "index.json" not in store:
            assert self.revision == 0, "I4: the index vanished"
            assert not self.acknowledged, "I5: acknowledged, and there is no index"
            return None
        index = self._index(store)
        self._grown(store["index.json"], index)
        released = {entry["version"]: entry["audit_sha256"] for entry in index["releases"]}
        for entry in index["releases"]:
            self._complete(store, entry)
        abandoned = {event["version"] for event in index["events"] if event["type"] == "abandon"}
        assert not abandoned & released.keys(), "I7"
        for version, audit in self.acknowledged.items():
            assert released.get(version) == audit, f"I5: {version} was acknowledged and is not listed"
        for version, audit in self.listed.items():
            assert released.get(version) == audit, f"I4: {version} vanished or changed"
        self.listed = released
        return index

    def settled(self, store: Mapping[str, bytes]) -> None:
        """Hold a state after recovery against all of it."""
        index = self.look(store) or {"releases": [], "events": []}
        left = [key for key in store if key.startswith((".staging-", ".new-"))]
        assert not left, f"I8: left behind: {left}"
        done = {_collision(entry["version"]) for entry in index["releases"]}
        done |= {_collision(event["version"]) for event in index["events"] if event["type"] == "abandon"}
        claims = {key.removesuffix(".audit.json") for key in store if key.endswith(".audit.json") and "/" not in key}
        dangling = [version for version in claims if _collision(version) not in done]
        assert not dangling, f"I8: claimed and not finished: {dangling}"
        if index["releases"]:
            page = store.get("index.md", b"").decode()
            assert f"revision {index['revision']:,}," in page, "I8: index.md lags behind"

    def _written_once(self, store: Mapping[str, bytes]) -> None:
        for key, body in store.items():
            if key in {"index.json", "index.md"} or key.startswith((".staging-", *_OWN)):
                continue
            digest = hashlib.sha256(body).hexdigest()
            assert self.once.setdefault(key, digest) == digest, f"I3: {key} changed"
        gone = [key for key in self.once if key not in store and not key.endswith("/")]
        assert not gone, f"I3: {gone} vanished"

    def _grown(self, body: bytes, index: Mapping[str, Any]) -> None:
        lines = list(_event_lines(body))
        assert lines[: len(self.events)] == self.events, "I4: history was rewritten"
        assert index["revision"] >= self.revision, "I4: the revision fell"
        sha256 = hashlib.sha256(body).hexdigest()
        if index["revision"] == self.revision:
            assert sha256 == self.index_sha256 or not self.index_sha256, "I4: two indexes of one revision"
        if index["revision"] == self.revision + 1 and self.revision:
            assert index["previous_index_sha256"] == self.index_sha256, "I4: it does not follow the one before"
        self.events, self.revision, self.index_sha256 = lines, index["revision"], sha256

    def _index(self, store: Mapping[str, bytes]) -> dict[str, Any]:
        body = store["index.json"]
        signature = store.get(f".index/{hashlib.sha256(body).hexdigest()}.sigstore.json")
        assert signature is not None, "I1: the index is not signed"
        assert self.signed(b"index", body, signature), "I1: the signature does not fit"
        index: dict[str, Any] = json.loads(body)
        lines = list(_event_lines(body))
        assert [json.loads(line) for line in lines] == index["events"], "I1: the index is not one event a line"
        prev = ""
        for seq, (line, event) in enumerate(zip(lines, index["events"], strict=True), start=1):
            assert (event["seq"], event["prev"]) == (seq, prev), f"I1: the chain breaks at event {seq}"
            prev = hashlib.sha256(line.encode()).hexdigest()
        assert index["root"] == _tree([line.encode() for line in lines]).hex(), "I1: the tree head is wrong"
        assert index["revision"] == len(lines), "I4: one event a revision"
        versions = [entry["version"] for entry in index["releases"]]
        published = [event["version"] for event in index["events"] if event["type"] == "publish"]
        assert versions == published, "I6: one event for each release"
        assert len({_collision(version) for version in versions}) == len(versions), "I6"
        return index

    def _complete(self, store: Mapping[str, bytes], entry: Mapping[str, Any]) -> None:
        version = entry["version"]
        audit = store.get(f"{version}.audit.json")
        assert audit is not None, f"I2: {version} has no audit"
        assert hashlib.sha256(audit).hexdigest() == entry["audit_sha256"], f"I2: {version} has another audit"
        signature = store.get(f"{version}.audit.sig", b"")
        assert self.signed(b"audit", audit, signature), f"I2: {version}'s audit is not signed"
        promised = {file["path"]: file["sha256"] for file in json.loads(audit)["files"]}
        there = {
            key.removeprefix(f"{version}/"): hashlib.sha256(body).hexdigest()
            for key, body in store.items()
            if key.startswith(f"{version}/")
        }
        assert there == promised, f"I2: {version} is not complete"
        assert there["manifest.json"] == entry["manifest_sha256"], f"I2: {version} has another manifest"


def _event_lines(body: bytes) -> Iterator[str]:
    lines = body.decode().splitlines()
    start = next(at for at, line in enumerate(lines) if line.lstrip().startswith('"events"'))
    for line in lines[start + 1 :]:
        if not line.lstrip().startswith("{"):
            return
        yield line.strip().removesuffix(",")


def _tree(leaves: list[bytes]) -> bytes:
    # RFC 6962, 2.1.
    if len(leaves) <= 1:
        return hashlib.sha256(b"\0" + leaves[0] if leaves else b"").digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + _tree(leaves[:half]) + _tree(leaves[half:])).digest()


def _collision(version: str) -> str:
    return version.removeprefix("v").casefold().replace("+", "_")
