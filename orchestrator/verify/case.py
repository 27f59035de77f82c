"""A release on the table: what was read, who counts, what is expected."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from orchestrator.trust import Check
from orchestrator.verify.expectations import Expectations
from orchestrator.verify.manifests import ReadManifest
from orchestrator.verify.names import signatures_of, signed_names
from orchestrator.verify.opened import Identity
from orchestrator.verify.parts import about_others
from orchestrator.verify.reading import FileRead, FolderRead
from orchestrator.verify.results import Ledger
from orchestrator.verify.signatures import SignatureJudge


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the steps of a verification share. `manifest` is None where none could be read. Not slotted: it caches."""

    folder: FolderRead
    manifest: ReadManifest | None
    judge: SignatureJudge
    expectations: Expectations
    identities: tuple[Identity, ...]

    @property
    def ledger(self) -> Ledger:
        return self.judge.ledger

    @property
    def threshold(self) -> int:
        return self.judge.trust.release.threshold

    @property
    def attesting(self) -> int:
        return self.judge.trust.attesting(self.judge.now)

    @cached_property
    def signatures(self) -> Mapping[str, tuple[str, ...]]:
        """Name the signatures by what they sign."""
        artifacts = self.manifest.artifacts if self.manifest else ()
        return signatures_of(self.folder.files, signed_names(each.path for each in artifacts))

    @cached_property
    def left_out(self) -> frozenset[str]:
        """Name the artifacts that need not be here, and of which nothing is."""
        if self.manifest is None:
            return frozenset()
        others = about_others(self.manifest, self.expectations.targets, [*self.folder.files, *self.folder.refused])
        return frozenset(artifact for artifact, files in others.items() if not files)

    def judge_signatures(self, subject: FileRead, required: int) -> int:
        """Check the signatures of a file and give how many keys that count made them."""
        found = tuple(self.folder.files[name] for name in self.signatures.get(subject.name, ()))
        return len(self.judge.judge_file(subject, found, required))

    def good(self, check: Check, file: str, what: str) -> None:
        self.ledger.good(check, file, what)
