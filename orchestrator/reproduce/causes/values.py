"""What is said of two builds that differ: a cause, the place where it shows, and what the worlds of the builds were."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

MAX_CAUSES: Final = 64
MAX_CAUSES_PER_FILE: Final = 8
MAX_FILES: Final = 32
MAX_DEPTH: Final = 4
MAX_UNPACKED_BYTES: Final = 4 << 30
NOTHING_VARIED: Final = "none"
"""Stands in `guilty_axes` where two builds in one and the same world differ, too."""


class CauseKind(StrEnum):
    """Why two builds of one source can differ."""

    MTIME = "mtime"
    PATH = "path"
    ORDER = "order"
    BUILD_ID = "build_id"
    DATE_STRING = "date_string"
    TIME_ZONE = "time_zone"
    COMPILER_VERSION = "compiler_version"
    ARCHIVE_METADATA = "archive_metadata"
    COMPRESSION = "compression"
    LOCALE = "locale"
    HOST_NAME = "host_name"
    USER = "user"
    CPU_COUNT = "cpu_count"
    ADDRESS = "address"
    UMASK = "umask"
    ENVIRONMENT = "environment"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One reason. `place` is member path, then section, line or offset; `text` says what differs and the usual mend."""

    kind: CauseKind
    place: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What is known of the two builds.

    `worlds` has the value of each axis that was varied, for the first and for the second build. `guilty_axes` are the
    axes of which each, varied alone, gave other bytes; NOTHING_VARIED among them where not even that was needed.
    """

    worlds: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    guilty_axes: tuple[str, ...] = ()


AXIS_KINDS: Final[Mapping[str, CauseKind]] = {
    "build_path": CauseKind.PATH,
    "time": CauseKind.DATE_STRING,
    "time_zone": CauseKind.TIME_ZONE,
    "locale": CauseKind.LOCALE,
    "umask": CauseKind.UMASK,
    "host_name": CauseKind.HOST_NAME,
    "user": CauseKind.USER,
    "cpus": CauseKind.CPU_COUNT,
    "file_order": CauseKind.ORDER,
    "environment": CauseKind.ENVIRONMENT,
    NOTHING_VARIED: CauseKind.ADDRESS,
}
"""What a difference is for which only the guilty axis speaks."""

MENDS: Final[Mapping[CauseKind, str]] = {
    CauseKind.MTIME: "set times from SOURCE_DATE_EPOCH: tar --mtime=@$SOURCE_DATE_EPOCH, gzip -n",
    CauseKind.PATH: "compile with -ffile-prefix-map=$SOURCE=. (Go: -trimpath), and print no path of the build",
    CauseKind.ORDER: "sort what is listed: LC_ALL=C sort, $(sort $(wildcard ...)), tar --sort=name",
    CauseKind.BUILD_ID: "it digests what was linked, debug information too: make that equal, or -Wl,--build-id=none",
    CauseKind.DATE_STRING: "take the date from SOURCE_DATE_EPOCH, in place of the clock",
    CauseKind.TIME_ZONE: "format times in UTC: date -u, TZ=UTC, gmtime",
    CauseKind.COMPILER_VERSION: "build both with the same compiler: pin the toolchain by digest",
    CauseKind.ARCHIVE_METADATA: "fix what is noted of members: tar --owner=0 --group=0 --numeric-owner, gzip -n, ar D",
    CauseKind.COMPRESSION: "use the same compressor, level and number of threads",
    CauseKind.LOCALE: "run tools that sort or format under LC_ALL=C",
    CauseKind.HOST_NAME: "leave the host name out of what is built",
    CauseKind.USER: "leave the user out of what is built: tar --owner=0 --group=0 --numeric-owner",
    CauseKind.CPU_COUNT: "let the number of processors decide the speed only, never what is written",
    CauseKind.ADDRESS: "hash and sort by content, not by address or random seed (PYTHONHASHSEED=0, -frandom-seed=...)",
    CauseKind.UMASK: "set modes, not the umask's: install -m, chmod, tar --mode=u=rwX,go=rX",
    CauseKind.ENVIRONMENT: "leave variables of the environment out of what is built, or set them in the recipe",
    CauseKind.MISSING: "see why the recipe makes it in one of the builds only",
    CauseKind.UNKNOWN: "compare the two by hand, or with diffoscope",
}  # fmt: skip
