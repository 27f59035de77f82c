"""From a claim to a release that readers see: the second half of a promotion, for its publisher and for recovery.

Every step may be done again, and by several at once: each ends the same whoever does it.
"""

import hashlib
from pathlib import PurePosixPath
from typing import Final

from builders.errors import RelbuildError
from orchestrator.errors import DuplicateVersion, KeyMissing, OutcomeUnknown
from orchestrator.publication import INDEX_VIEW, EventType, Index
from orchestrator.publish.audit import parse_audit, require_repository
from orchestrator.publish.claims import Claim, refused, seal_key, why_taken
from orchestrator.publish.desk import DELETE, PROMOTE, VERIFY_PRODUCTION, Desk, Stopwatch
from orchestrator.publish.index import with_event
from orchestrator.publish.index_view import index_view
from orchestrator.publish.pointer import KnownIndex, Seen, commit
from orchestrator.publish.staging import check_files, create_exactly, in_order, read_or_none

_MOVE_TRIES: Final = 5
_VIEW_TRIES: Final = 10


def finish(desk: Desk, claim: Claim, watch: Stopwatch) -> Seen:
    """Move, verify, seal, commit, tidy up. Gives the index as it was read back with the release in it.

    Raises DuplicateVersion where the history gave the version to another, or gave it up: the area is gone then.
    """
    try:
        # An older index only means that what was done already is done again: the swap is what decides.
        index = (desk.known.last if desk.known.last.index else desk.known.read()).index
        require_repository(parse_audit(claim.audit), desk.repository_id)
        if index is None or index.release(claim.version) is None:
            _produce(desk, claim, index, watch)
        with watch(PROMOTE):
            seen = commit(desk.known, desk.keys, lambda index: _next(desk, claim, index))
    except DuplicateVersion:
        desk.repository.delete(claim.staging.folder)
        raise
    with watch(DELETE):
        _tidy(desk, claim)
    return seen


def refresh_view(known: KnownIndex) -> None:
    """Write index.md anew where it is not what the index says now."""
    repository, seen = known.repository, known.last if known.last.index else known.read()
    for _ in range(_VIEW_TRIES):
        if seen.index is None:
            return
        view = index_view(seen.index)
        if read_or_none(repository, INDEX_VIEW) != view:
            repository.put(INDEX_VIEW, view, hashlib.sha256(view).hexdigest())
        # Looked at again afterwards: of two writers the one with the older index may be the last.
        shown, seen = seen, known.read()
        if seen.index is shown.index and read_or_none(repository, INDEX_VIEW) == view:
            return


def _produce(desk: Desk, claim: Claim, index: Index | None, watch: Stopwatch) -> None:
    if why := why_taken(index, claim.version):
        raise refused(why)
    with watch(PROMOTE):
        _move(desk, claim)
    with watch(VERIFY_PRODUCTION):
        check_files(desk.repository, PurePosixPath(claim.version), claim.files, desk.terms.readers)
    with watch(PROMOTE):
        create_exactly(desk.repository, seal_key(claim.version), claim.seal)


def _move(desk: Desk, claim: Claim) -> None:
    """Make the payload appear in its place; manifest.json is the last to come."""
    paths = [PurePosixPath(file.path) for file in in_order(claim.files)]
    for _ in range(_MOVE_TRIES):
        try:
            desk.repository.move_new(claim.staging.payload, PurePosixPath(claim.version), paths)
        except OutcomeUnknown:
            continue
        except KeyMissing:
            # Another finisher may have moved it and removed the area: what is in the place decides.
            return
        else:
            return
    raise OutcomeUnknown(
        f"the files of {claim.version} could not be moved: answers were lost {_MOVE_TRIES} times",
        next_step="see whether the repository can be reached, then run `relbuild recover`",
    )


def _next(desk: Desk, claim: Claim, index: Index | None) -> Index | None:
    entry = index.release(claim.version) if index else None
    if entry is not None:
        if entry.audit_sha256 == claim.audit_sha256:
            return None
        raise refused(f"{claim.version} is published already, by another audit than the one that claimed it")
    now = desk.now()
    return with_event(
        index, EventType.PUBLISH, claim.entry, reason="", actor=desk.terms.actor, key_id=desk.keys.index_key_id,
        now=now, expires=now + desk.terms.valid_for, repository_id=desk.terms.repository_id,
    )  # fmt: skip


def _tidy(desk: Desk, claim: Claim) -> None:
    # The release is out: what fails from here on is said, and done by the next run.
    try:
        refresh_view(desk.known)
        desk.repository.delete(claim.staging.folder)
    except RelbuildError as error:
        desk.note(f"{claim.version} is published; tidying up is left to the next run: {error.what}")
