"""The errors of everything outside builders/. The root and the build errors live there.

RelbuildError
 +-- ConfigError          10   the project's configuration
      +-- ConfigNotFound  11   no matrix.toml here or above
      +-- ConfigSyntax    12   the file is not TOML, not UTF-8, or too large
      +-- ConfigInvalid   13   it is TOML and breaks rules; all of them are listed
      +-- UnknownName     14   a target or product was asked for that nobody declared
      +-- NothingToDo     15   the selection holds no cell
      +-- VersionUnknown  17   the project's version or commit time cannot be told
      +-- CiInvalid          114  a workflow cannot be read, or [ci] does not say what its jobs need
      +-- CiDrift            115  a workflow does something else than matrix.toml says
 +-- StagingError         27   the staged release cannot be written or does not hold together
 +-- BestEffortFailed     28   only best-effort cells were asked for, and none of them was built
 +-- VerificationError    40   a release or its evidence does not hold, for several reasons at once
      +-- DigestMismatch     41   a file is missing, foreign, or has other bytes than promised
      +-- SignatureInvalid   42   a signature does not fit the bytes, or is not in a form that counts
      +-- TooFewSignatures   43   fewer trusted keys signed than the threshold asks
      +-- UntrustedKey       44   a good signature by a key that does not count, or not then
      +-- SbomInvalid        45   an SBOM does not parse, or describes something else
      +-- ManifestInvalid    46   manifest.json is not one, or contradicts the release
      +-- ProvenanceInvalid  47   provenance is for something else, or says what nobody expects
      +-- EncryptionInvalid  49   encryption is missing, or holds other bytes than the release's
      +-- TrustInvalid       72   trust.json is broken, expired, or not signed by those who may
      +-- SummaryInvalid     73   the verification summary is for something else, or does not say "passed"
      +-- IndexInvalid       75   an index is not one, or its signature or history does not hold
      +-- IndexReplayed      76   an older index, or another one of the same revision, than was seen before
      +-- AuditInvalid       77   a release's audit was edited, removed or signed by nobody who may
 +-- SigningFailed        48   a signer could not sign, or its signature did not verify
      +-- KeyRefused         70   a key file is missing, readable by others, a link, or no key
      +-- PassphraseWrong    71   no passphrase, or not that of the key
      +-- SbomFailed         74   no SBOM could be made
 +-- PublicationError     39   anything else while publishing
      +-- VerificationRequired 30  verification is required and not passed
      +-- ValidationRequired  31   validation is required and not passed
      +-- DuplicateVersion    32   the version is published or claimed already, with other bytes
      +-- MetadataMissing     33   manifest, SBOM or provenance is missing
      +-- SignatureRequired   34   a signature is required and missing
      +-- EncryptionRequired  35   encryption is required and missing
      +-- RepositoryError     36   the repository is unreachable, refuses, or does not enforce conditions
           +-- KeyTaken       93   an object that was to be created is there already
           +-- KeyMissing     94   an object is not there
           +-- PointerMoved   95   somebody else swapped the pointer first
           +-- OutcomeUnknown 96   an answer was lost: the write may or may not have happened
      +-- AtomicPublishError  37   interrupted; the state line tells which side of the claim
      +-- PolicyViolation     38   any other rule, or several at once
 +-- ValidationFailed     50   a release is worse than its baseline, for several reasons
      +-- SbomDeltaFailed    51   a package went back, or a new one breaks a rule
      +-- SlsaDeltaFailed    52   builder, source or toolchain changed and policy does not allow it
      +-- ApiBroken          53   a symbol, SONAME, option or exit code is gone
      +-- PerformanceWorse   54   larger, slower to start or slower to build than the budget allows
      +-- SecurityFailed     55   hardening lost, a secret, a build path or a known vulnerability
      +-- BehaviourChanged   56   a program's smoke output is not the recorded one, or differs between targets
      +-- BaselineUnusable   57   the baseline is missing, broken or not trusted
      +-- WaiverInvalid      58   a waiver has no owner, no reason, or has expired
 +-- ReproductionFailed   60   artifacts could not be proved, for different reasons
      +-- NotReproducible    61   a rebuild gave other bytes
      +-- RebuildFailed      62   a rebuild ended without the artifact
      +-- OriginUnavailable  63   the source or the toolchain of a release cannot be had at its digest
      +-- NothingReproduced  64   every artifact was skipped: nothing was proved
 +-- ShardError          100  shards cannot be built, read or merged
      +-- PlanInvalid        101  a plan file is missing, or no plan
      +-- ProgramDrift       102  another version of relbuild than the plan's
      +-- ConfigDrift        103  another matrix.toml than the plan's
      +-- CommitDrift        104  another commit than the plan's
      +-- DirtyDrift         105  a changed working tree where the plan's was clean, or the other way round
      +-- SourceDrift        106  a product's source has other bytes than the plan's
      +-- ToolchainDrift     107  another toolchain, placement or isolation than the plan's
      +-- CellMissing        108  a required cell of the plan is in no shard
      +-- CellTwice          109  a cell is in two shards
      +-- OtherPlan          110  a shard was built of another plan
      +-- ShardTampered      111  a file of a shard is missing, foreign, or has other bytes than its list
      +-- ShardUnsigned      112  a shard has no signature
      +-- ShardUntrusted     113  a shard's signature does not fit, or its key may not sign shards
 +-- NotReady             92   `doctor` found something that stops the run
"""

from orchestrator.errors.configuration import (
    BestEffortFailed,
    CiDrift,
    CiInvalid,
    ConfigError,
    ConfigInvalid,
    ConfigNotFound,
    ConfigSyntax,
    NothingToDo,
    NotReady,
    Problem,
    StagingError,
    UnknownName,
    VersionUnknown,
)
from orchestrator.errors.machines import (
    CellMissing,
    CellTwice,
    CommitDrift,
    ConfigDrift,
    DirtyDrift,
    OtherPlan,
    PlanInvalid,
    ProgramDrift,
    ShardError,
    ShardTampered,
    ShardUnsigned,
    ShardUntrusted,
    SourceDrift,
    ToolchainDrift,
)
from orchestrator.errors.proof import (
    ApiBroken,
    BaselineUnusable,
    BehaviourChanged,
    NothingReproduced,
    NotReproducible,
    OriginUnavailable,
    PerformanceWorse,
    RebuildFailed,
    ReproductionFailed,
    SbomDeltaFailed,
    SecurityFailed,
    SlsaDeltaFailed,
    ValidationFailed,
    WaiverInvalid,
)
from orchestrator.errors.publication import (
    AtomicPublishError,
    DuplicateVersion,
    EncryptionRequired,
    KeyMissing,
    KeyTaken,
    MetadataMissing,
    OutcomeUnknown,
    PointerMoved,
    PolicyViolation,
    PublicationError,
    RepositoryError,
    SignatureRequired,
    ValidationRequired,
    VerificationRequired,
)
from orchestrator.errors.trust import (
    AuditInvalid,
    DigestMismatch,
    EncryptionInvalid,
    IndexInvalid,
    IndexReplayed,
    KeyRefused,
    ManifestInvalid,
    PassphraseWrong,
    ProvenanceInvalid,
    SbomFailed,
    SbomInvalid,
    SignatureInvalid,
    SigningFailed,
    SummaryInvalid,
    TooFewSignatures,
    TrustInvalid,
    UntrustedKey,
    VerificationError,
)

__all__ = [
    "ApiBroken",
    "AtomicPublishError",
    "AuditInvalid",
    "BaselineUnusable",
    "BehaviourChanged",
    "BestEffortFailed",
    "CellMissing",
    "CellTwice",
    "CiDrift",
    "CiInvalid",
    "CommitDrift",
    "ConfigDrift",
    "ConfigError",
    "ConfigInvalid",
    "ConfigNotFound",
    "ConfigSyntax",
    "DigestMismatch",
    "DirtyDrift",
    "DuplicateVersion",
    "EncryptionInvalid",
    "EncryptionRequired",
    "IndexInvalid",
    "IndexReplayed",
    "KeyMissing",
    "KeyRefused",
    "KeyTaken",
    "ManifestInvalid",
    "MetadataMissing",
    "NotReady",
    "NotReproducible",
    "NothingReproduced",
    "NothingToDo",
    "OriginUnavailable",
    "OtherPlan",
    "OutcomeUnknown",
    "PassphraseWrong",
    "PerformanceWorse",
    "PlanInvalid",
    "PointerMoved",
    "PolicyViolation",
    "Problem",
    "ProgramDrift",
    "ProvenanceInvalid",
    "PublicationError",
    "RebuildFailed",
    "RepositoryError",
    "ReproductionFailed",
    "SbomDeltaFailed",
    "SbomFailed",
    "SbomInvalid",
    "SecurityFailed",
    "ShardError",
    "ShardTampered",
    "ShardUnsigned",
    "ShardUntrusted",
    "SignatureInvalid",
    "SignatureRequired",
    "SigningFailed",
    "SlsaDeltaFailed",
    "SourceDrift",
    "StagingError",
    "SummaryInvalid",
    "TooFewSignatures",
    "ToolchainDrift",
    "TrustInvalid",
    "UnknownName",
    "UntrustedKey",
    "ValidationFailed",
    "ValidationRequired",
    "VerificationError",
    "VerificationRequired",
    "VersionUnknown",
    "WaiverInvalid",
]
