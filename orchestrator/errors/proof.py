"""Errors of holding a release against its baseline, and of rebuilding it."""

from builders.errors import RelbuildError


class ValidationFailed(RelbuildError):
    exit_code = 50


class SbomDeltaFailed(ValidationFailed):
    exit_code = 51


class SlsaDeltaFailed(ValidationFailed):
    exit_code = 52


class ApiBroken(ValidationFailed):
    exit_code = 53


class PerformanceWorse(ValidationFailed):
    exit_code = 54


class SecurityFailed(ValidationFailed):
    exit_code = 55


class BehaviourChanged(ValidationFailed):
    exit_code = 56


class BaselineUnusable(ValidationFailed):
    exit_code = 57


class WaiverInvalid(ValidationFailed):
    exit_code = 58


class ReproductionFailed(RelbuildError):
    exit_code = 60


class NotReproducible(ReproductionFailed):
    exit_code = 61


class RebuildFailed(ReproductionFailed):
    exit_code = 62


class OriginUnavailable(ReproductionFailed):
    exit_code = 63


class NothingReproduced(ReproductionFailed):
    exit_code = 64
