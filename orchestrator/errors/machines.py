"""Errors of plans, shards and what merges them."""

from builders.errors import RelbuildError


class ShardError(RelbuildError):
    exit_code = 100


class PlanInvalid(ShardError):
    exit_code = 101


class ProgramDrift(ShardError):
    exit_code = 102


class ConfigDrift(ShardError):
    exit_code = 103


class CommitDrift(ShardError):
    exit_code = 104


class DirtyDrift(ShardError):
    exit_code = 105


class SourceDrift(ShardError):
    exit_code = 106


class ToolchainDrift(ShardError):
    exit_code = 107


class CellMissing(ShardError):
    exit_code = 108


class CellTwice(ShardError):
    exit_code = 109


class OtherPlan(ShardError):
    exit_code = 110


class ShardTampered(ShardError):
    exit_code = 111


class ShardUnsigned(ShardError):
    exit_code = 112


class ShardUntrusted(ShardError):
    exit_code = 113
