"""Errors of verifying and of signing."""

from builders.errors import RelbuildError


class VerificationError(RelbuildError):
    exit_code = 40


class DigestMismatch(VerificationError):
    exit_code = 41


class SignatureInvalid(VerificationError):
    exit_code = 42


class TooFewSignatures(VerificationError):
    exit_code = 43


class UntrustedKey(VerificationError):
    exit_code = 44


class SbomInvalid(VerificationError):
    exit_code = 45


class ManifestInvalid(VerificationError):
    exit_code = 46


class ProvenanceInvalid(VerificationError):
    exit_code = 47


class EncryptionInvalid(VerificationError):
    exit_code = 49


class TrustInvalid(VerificationError):
    exit_code = 72


class SummaryInvalid(VerificationError):
    exit_code = 73


class IndexInvalid(VerificationError):
    exit_code = 75


class IndexReplayed(VerificationError):
    exit_code = 76


class AuditInvalid(VerificationError):
    exit_code = 77


class SigningFailed(RelbuildError):
    exit_code = 48


class KeyRefused(SigningFailed):
    exit_code = 70


class PassphraseWrong(SigningFailed):
    exit_code = 71


class SbomFailed(SigningFailed):
    exit_code = 74
