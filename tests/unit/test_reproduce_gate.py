"""The gate counts what trusted rebuilders last said of exactly these bytes, and nothing else."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

import pytest

from builders.world import Axis
from orchestrator.errors import PolicyViolation, SigningFailed
from orchestrator.model import Artifact, ArtifactKind, StagedRelease
from orchestrator.policy import enforce, refuse_broken
from orchestrator.policy_evidence import GateReport, PolicyEvidence
from orchestrator.publication_policy import PublicationPolicy
from orchestrator.reproduce import gate, history, signed
from orchestrator.reproduce.form import result_json, statement_json
from orchestrator.reproduce.values import (
    AxisOutcome,
    AxisSkipped,
    AxisVaried,
    Bad,
    Good,
    Outcome,
    Reproduced,
    Reproduction,
    Skip,
)
from orchestrator.reproduction_rules import ReproductionRules
from orchestrator.signing import new_keys
from orchestrator.signing.openers import open_signers
from orchestrator.signing.passphrase import Passphrases
from orchestrator.signing_rules import SignerKind, SignerRules, SigningRules
from orchestrator.verify import trust_of_keys

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SUBJECT, OTHER_SUBJECT = "a" * 64, "b" * 64
AXES: dict[Axis, AxisOutcome] = {
    Axis.UMASK: AxisVaried(usual="0022", other="0027"), Axis.TIME: AxisSkipped(reason="no clock"),
}  # fmt: skip
NONE: dict[Axis, AxisOutcome] = {}
SAME: dict[Axis, AxisOutcome] = {axis: AxisSkipped(reason="none here") for axis in AXES}
ASKED = (Axis.UMASK, Axis.TIME)


@dataclass(frozen=True)
class Rebuilder:
    key: Path

    def rules(self) -> SigningRules:
        return SigningRules(signers=(SignerRules(kind=SignerKind.KEY_FILE, key=str(self.key)),), trust=Path())


def artifact(name: str, kind: ArtifactKind = ArtifactKind.ARCHIVE) -> Artifact:
    return Artifact(
        path=PurePosixPath(name), kind=kind, product="hello", target="x86_64", size_bytes=1,
        sha256=("c" if kind is ArtifactKind.SOURCE else "d") * 64, sha512="e" * 128,
    )  # fmt: skip


RELEASE = StagedRelease(
    folder=Path("/nowhere/1.0.0"), version="1.0.0", manifest_sha256=SUBJECT,
    artifacts=(artifact("hello.tar.gz"), artifact("source.tar.gz", ArtifactKind.SOURCE)),
)  # fmt: skip


def said(outcome: Outcome | None = None, at: datetime = NOW, **changes: object) -> Reproduction:
    artifacts = tuple(
        Reproduced(
            path=each.path, sha256=each.sha256, cell="" if each.kind is ArtifactKind.SOURCE else "hello/x86_64",
            outcome=(outcome or Good()) if each.kind is not ArtifactKind.SOURCE else Good(),
            axes=NONE if each.kind is ArtifactKind.SOURCE else AXES,
        )
        for each in RELEASE.artifacts
    )  # fmt: skip
    values: dict[str, object] = {
        "project": "hello", "version": "1.0.0", "subject": SUBJECT, "time": at, "artifacts": artifacts, "asked": 2,
        "source": "a folder",
    }  # fmt: skip
    return Reproduction(**{**values, **changes})  # type: ignore[arg-type]  # the keywords are the test's own


@pytest.fixture
def rebuilders(tmp_path: Path) -> tuple[Rebuilder, ...]:
    made = []
    for name in ("one", "two"):
        new_keys.make_key_file(tmp_path / f"{name}.key", new_keys.pkcs8_form, None, None, NOW)
        made.append(Rebuilder(tmp_path / f"{name}.key"))
    return tuple(made)


Say = Callable[..., Path]


@pytest.fixture
def say(tmp_path: Path) -> Say:
    def one(who: Rebuilder, what: Reproduction) -> Path:
        with history.new_entry(tmp_path, what) as folder:
            signed.write_statement(what, folder, who.rules(), Passphrases(None), [who.key.with_suffix(".pub")])
        return folder

    return one


def judged(
    tmp_path: Path, who: Sequence[Rebuilder], rules: ReproductionRules | None = None, release: StagedRelease = RELEASE
) -> GateReport:
    roots = (trust_of_keys([each.key.with_suffix(".pub") for each in who]),)
    return gate.report_on(release, tmp_path, rules or ReproductionRules(axes=ASKED), roots, NOW)


def test_a_good_word_of_a_trusted_rebuilder_passes(tmp_path: Path, say: Say, rebuilders: tuple[Rebuilder, ...]) -> None:
    assert not judged(tmp_path, rebuilders).passed
    say(rebuilders[0], said())
    report = judged(tmp_path, rebuilders)
    assert report.passed
    assert report.subject == SUBJECT
    assert not judged(tmp_path, rebuilders[1:]).passed


BAD = Bad(rebuilt_sha256="f" * 64)


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(said(subject=OTHER_SUBJECT), id="other bytes"),
        pytest.param(said(BAD), id="bad"),
        pytest.param(said(Skip(reason="none")), id="skipped"),
        pytest.param(said(artifacts=said().artifacts[:1]), id="one artifact only"),
        pytest.param(said(artifacts=tuple(replace(each, axes={}) for each in said().artifacts)), id="no axes"),
        pytest.param(said(artifacts=tuple(replace(each, sha256="0" * 64) for each in said().artifacts)), id="digests"),
        pytest.param(said(at=NOW + timedelta(days=2)), id="in the future"),
        pytest.param(said(artifacts=said().artifacts * 2), id="an artifact twice"),
        pytest.param(said(artifacts=tuple(replace(each, axes=SAME) for each in said().artifacts)), id="nothing varied"),
    ],
)
def test_any_other_word_does_not(
    tmp_path: Path, say: Say, rebuilders: tuple[Rebuilder, ...], what: Reproduction
) -> None:
    say(rebuilders[0], what)
    assert not judged(tmp_path, rebuilders).passed


def test_a_later_bad_takes_an_earlier_good_back_and_the_other_way_round(
    tmp_path: Path, say: Say, rebuilders: tuple[Rebuilder, ...]
) -> None:
    say(rebuilders[0], said())
    say(rebuilders[0], said(BAD, at=NOW + timedelta(minutes=1)))
    assert not judged(tmp_path, rebuilders).passed
    say(rebuilders[0], said(at=NOW + timedelta(minutes=2)))
    assert judged(tmp_path, rebuilders).passed


def test_one_rebuilder_that_says_bad_is_enough_to_stop(
    tmp_path: Path, say: Say, rebuilders: tuple[Rebuilder, ...]
) -> None:
    say(rebuilders[0], said())
    say(rebuilders[1], said(BAD))
    assert not judged(tmp_path, rebuilders).passed


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(said(BAD, at=NOW + timedelta(days=400)), id="its clock is ahead"),
        pytest.param(said(artifacts=said(BAD).artifacts + said().artifacts), id="it says good as well"),
    ],
)
def test_a_bad_word_stops_whatever_else_is_said(
    tmp_path: Path, say: Say, rebuilders: tuple[Rebuilder, ...], what: Reproduction
) -> None:
    say(rebuilders[0], said())
    say(rebuilders[1], what)
    report = judged(tmp_path, rebuilders)
    assert not report.passed
    assert any("other bytes: hello.tar.gz" in told for told, _ in report.checks)


def test_independent_rebuilders_are_counted(tmp_path: Path, say: Say, rebuilders: tuple[Rebuilder, ...]) -> None:
    two = ReproductionRules(axes=ASKED, rebuilders=2)
    say(rebuilders[0], said())
    say(rebuilders[0], said(at=NOW + timedelta(minutes=1)))
    assert not judged(tmp_path, rebuilders, two).passed
    say(rebuilders[1], said())
    assert judged(tmp_path, rebuilders, two).passed


def test_two_keys_on_one_statement_are_one_rebuilder(tmp_path: Path, rebuilders: tuple[Rebuilder, ...]) -> None:
    folder = tmp_path / history.FOLDER / "1.0.0"
    folder.mkdir(parents=True)
    payload = statement_json(said(), [])
    from orchestrator.signing.interface import Statement

    lines = [
        open_signers(each.rules(), None, Passphrases(None))[0].sign(Statement(payload=payload)) for each in rebuilders
    ]
    (folder / "both.intoto.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    assert judged(tmp_path, rebuilders, ReproductionRules(axes=ASKED, rebuilders=1)).passed
    assert not judged(tmp_path, rebuilders, ReproductionRules(axes=ASKED, rebuilders=2)).passed


def test_a_changed_or_unsigned_statement_counts_nothing(
    tmp_path: Path, say: Say, rebuilders: tuple[Rebuilder, ...]
) -> None:
    folder = say(rebuilders[0], said())
    path = folder / history.SIGNED
    bundle = json.loads(path.read_bytes())
    signature = bundle["dsseEnvelope"]["signatures"][0]["sig"]
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = ("B" if signature[10] == "A" else "A").join(
        (signature[:10], signature[11:])
    )
    path.write_bytes(json.dumps(bundle, separators=(",", ":")).encode() + b"\n")
    (folder.parent / "junk.intoto.jsonl").write_bytes(b"{}\nnot json\n")
    assert not judged(tmp_path, rebuilders).passed


def test_a_signature_by_a_key_that_nobody_knows_is_refused(tmp_path: Path, rebuilders: tuple[Rebuilder, ...]) -> None:
    one, two = rebuilders
    with pytest.raises(SigningFailed, match="its word on a rebuild would be lost"):
        signed.refuse_unknown(one.rules(), Passphrases(None), [two.key.with_suffix(".pub")])
    signed.refuse_unknown(one.rules(), Passphrases(None), [one.key.with_suffix(".pub")])
    with pytest.raises(SigningFailed, match="nobody is told"):
        signed.write_statement(said(), tmp_path, one.rules(), Passphrases(None), [two.key.with_suffix(".pub")])
    assert not (tmp_path / history.SIGNED).exists()


def test_the_policy_refuses_what_the_gate_did_not_prove(
    tmp_path: Path, say: Say, rebuilders: tuple[Rebuilder, ...]
) -> None:
    policy = PublicationPolicy.STRICT.without(*PublicationPolicy.STRICT.rules).requiring("reproducibility")

    def outcome() -> None:
        evidence = PolicyEvidence(
            version="1.0.0", subject=SUBJECT, verification=None, artifacts=(), files=frozenset(), signed_by=(),
            required_targets=frozenset(), absent=(), taken="",
            gates={"reproducibility": judged(tmp_path, rebuilders)},
        )  # fmt: skip
        refuse_broken(enforce(policy, evidence).outcomes)

    with pytest.raises(PolicyViolation, match="0 of 1 rebuilders"):
        outcome()
    say(rebuilders[0], said())
    outcome()


def test_no_statement_names_this_machine() -> None:
    kept = replace(said(BAD), source="the folder /home/somebody/secret-project")
    assert b"secret-project" in result_json(kept)
    assert b"secret-project" not in statement_json(kept, ["key"])
