"""What every reader's command does: open a repository by public keys, read its index, look at an audit."""

import hashlib
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.cli.lifecycle import Where
    from orchestrator.cli.publisher import Reader
    from orchestrator.publication import Index, ReleaseEntry
    from orchestrator.verify import TrustRoot


def open_reader(
    place: "Where", config: Path | None, trust: "TrustRoot | Path | None", memory: Path | None
) -> "Reader":  # fmt: skip
    """Open the repository that the command line names."""
    from orchestrator.cli import places, publisher  # noqa: PLC0415  (heavy, and --help does not need it)

    return publisher.open_reader(places.placed(place), config, trust, memory)


def read(opened: "Reader") -> "tuple[Reader, Index]":
    """Read the index; give it with the reader that it came by."""
    from orchestrator.cli import publisher  # noqa: PLC0415  (as above)
    from orchestrator.publish import reader  # noqa: PLC0415

    index = reader.read_index(opened.repository, opened.index_trust(), memory=opened.memory, now=publisher.now())
    return opened, index


def named(index: "Index", version: str) -> "ReleaseEntry":
    """Find a version. Raises PublicationError where it is not published."""
    from builders.names import escaped  # noqa: PLC0415  (as above)
    from orchestrator.errors import PublicationError  # noqa: PLC0415

    entry = index.release(version)
    if entry is None:
        raise PublicationError(f"{escaped(version[:200])} is not published", next_step="`relbuild list`")
    return entry


def audit_of(opened: "Reader", entry: "ReleaseEntry") -> bytes:
    """Give the audit of a published version, held to the index and to its signature."""
    from orchestrator.errors import DigestMismatch  # noqa: PLC0415  (as above)
    from orchestrator.publication import AUDIT, AUDIT_SIGNATURE  # noqa: PLC0415
    from orchestrator.publish.reader_errors import reader_errors  # noqa: PLC0415
    from orchestrator.publish.staging import read_whole  # noqa: PLC0415

    with reader_errors():
        body = read_whole(opened.repository, PurePosixPath(f"{entry.version}{AUDIT}"))
        seal = read_whole(opened.repository, PurePosixPath(f"{entry.version}{AUDIT_SIGNATURE}"))
    if hashlib.sha256(body).hexdigest() != entry.audit_sha256:
        raise DigestMismatch(
            f"{entry.version}{AUDIT} has other bytes than the signed index promises",
            next_step="do not use this version before you know who changed it",
        )
    opened.index_trust().check_audit(body, seal)
    return body


def entry_data(entry: "ReleaseEntry") -> dict[str, Any]:
    """Give a release as the index tells of it, for JSON."""
    from orchestrator.publish.index_rows import entry_json  # noqa: PLC0415  (as above)

    return dict(entry_json(entry))


def shown_time(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
