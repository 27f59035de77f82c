"""Errors of publishing and of the stores that releases are in."""

from builders.errors import RelbuildError


class PublicationError(RelbuildError):
    exit_code = 39


class VerificationRequired(PublicationError):
    exit_code = 30


class ValidationRequired(PublicationError):
    exit_code = 31


class DuplicateVersion(PublicationError):
    exit_code = 32


class MetadataMissing(PublicationError):
    exit_code = 33


class SignatureRequired(PublicationError):
    exit_code = 34


class EncryptionRequired(PublicationError):
    exit_code = 35


class RepositoryError(PublicationError):
    exit_code = 36


class KeyTaken(RepositoryError):
    exit_code = 93


class KeyMissing(RepositoryError):
    exit_code = 94


class PointerMoved(RepositoryError):
    exit_code = 95


class OutcomeUnknown(RepositoryError):
    exit_code = 96


class AtomicPublishError(PublicationError):
    exit_code = 37


class PolicyViolation(PublicationError):
    exit_code = 38
