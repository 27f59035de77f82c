"""What a cell is built from: folders read by content, and sources from outside, fetched by digest."""

from builders.sources.trees import (
    ArchiveSource,
    DebianSource,
    GitSource,
    OutsideSource,
    PypiSource,
    folders_of,
    part_digest,
    read_tree,
    read_whole,
    stays_inside,
    tar_tree,
    write_tree,
)

__all__ = [
    "ArchiveSource",
    "DebianSource",
    "GitSource",
    "OutsideSource",
    "PypiSource",
    "folders_of",
    "part_digest",
    "read_tree",
    "read_whole",
    "stays_inside",
    "tar_tree",
    "write_tree",
]
