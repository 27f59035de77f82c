"""The faults and bad inputs that must be survived, numbered; docs/reference/faults.md names the tests of each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`lacks` says what of it no test provokes, though some test provokes the rest; empty for nothing."""

    number: int
    fault: str
    outcome: str
    lacks: str = ""


def _row(number: int, fault: str, outcome: str, lacks: str = "") -> Fault:
    return Fault(number=number, fault=fault, outcome=outcome, lacks=lacks)


FAULTS = (
    # killed, or without power
    _row(1, "killed during a build", "the run fails; the next one removes what stayed in the engine"),
    _row(2, "killed while a release is staged", "what was half staged is removed later"),
    _row(3, "killed after signing, before verifying", "nothing is claimed"),
    _row(4, "killed around the claim", "before it: as if never there; behind it: finished by recovery"),
    _row(5, "killed with the version in place, and not in the index", "readers see the old index; recovery lists it"),
    _row(6, "killed behind the index's rename, before its folder is synced", "the old index or the new, each whole"),
    _row(7, "killed before index.md is written", "the page is late; recovery writes it"),
    _row(8, "killed inside recovery", "the next recovery finishes"),
    _row(9, "power cut at any step", "what was acknowledged is there afterwards"),
    # calls that fail
    _row(10, "fsync fails with EIO", "given up and not asked again; the state line is true"),
    _row(11, "disk full while building or staging", "a clean failure; nothing half made stays"),
    _row(12, "disk full exactly when the new index is written", "said to be claimed; recovery finishes with room"),
    _row(13, "no inodes left", "as a full disk"),
    _row(14, "over a quota, or beyond the largest file", "as a full disk"),
    _row(15, "base read-only or not permitted", "a clean failure, before the build where it can be known"),
    _row(16, "staging on another device than the base", "refused at once"),
    _row(17, "a file system that cannot rename without replacing", "refused, with the reason"),
    # what is in the way
    _row(18, "the version's folder exists, empty", "refused and left as it is"),
    _row(19, "a link, a dangling link or a file in the version's place", "refused; nothing is followed"),
    _row(20, "index.json is a link or a FIFO", "refused without waiting or following"),
    # several at once
    _row(21, "the holder of the lock is stopped", "others give up and name it; it goes on safely when continued",
         "a stop of a minute: it is short"),
    _row(22, "SIGTERM or SIGINT at any stage", "ends like a kill, and tidies up"),
    _row(23, "two publish other bytes under one version", "exactly one wins; the other is told of the duplicate"),
    _row(24, "two publish the same bytes under one version", "both succeed, with one event"),
    _row(25, "many publish a version each", "all are listed, one revision each"),
    _row(26, "publishers, recovery and cleaning at the same time", "no area of a living publisher is removed"),
    _row(27, "a version is published and revoked at the same time", "one order or the other, with both events"),
    _row(28, "a reader looks on while others publish", "it never sees a bad index or misses a file",
         "by default a thousand publishes: there are sixty; the full run takes a thousand"),
    # time
    _row(29, "the clock is years off, or jumps", "publishing works, ordered by revision, with a warning"),
    _row(30, "an index that has expired, or is not valid yet", "readers refuse it and say why"),
    # object stores
    _row(31, "the store answers 500, 503 or 429", "asked again within bounds; then a clean failure"),
    _row(32, "a request was carried out, and its answer lost", "found by looking; neither doubled nor taken for a no"),
    _row(33, "the connection ends within a body", "asked again; never a short object"),
    _row(34, "the store is slow or silent", "given up in time; others are not held up"),
    _row(35, "the store reports a conflict of conditions (409)", "asked again"),
    _row(36, "an error in the body of a 200", "taken for the failure that it is"),
    _row(37, "a store that ignores conditions or checksums", "refused by the probe"),
    _row(38, "a bit flips on the way", "the store refuses it, or reading back finds it"),
    _row(39, "a bit flips in the store after the upload", "found before the commit"),
    _row(40, "credentials expire half way", "a clean failure or a claim; goes on with new ones"),
    _row(41, "a listing of many pages", "every page is read"),
    _row(42, "an old index from some cache", "swaps on it fail; readers refuse the lower revision"),
    # OCI registries
    _row(43, "the tag exists with another digest", "refused; the tag stays"),
    _row(44, "the tag moves between looking and writing", "the race is reported"),
    _row(45, "a layer or a child is missing", "no tag appears"),
    _row(46, "a registry without a referrers API", "the documented way round, or refused"),
    # GitHub releases
    _row(47, "an upload ends in a 502 and a half-made asset", "removed and sent again in the draft"),
    _row(48, "the asset exists already", "compared; never replaced once published"),
    _row(49, "the server renames an asset", "prevented by names; found by looking"),
    _row(50, "an immutable tag is used up", "told as a duplicate, with the reason"),
    _row(51, "a rate limit", "waited for within bounds; then a clean failure"),
    # evidence
    _row(52, "an artifact changes after it was signed", "verification fails"),
    _row(53, "a file changes while it is hashed", "it is hashed as it is copied; a change is refused"),
    _row(54, "a published artifact with a flipped bit, cut, longer, or of another version", "each is refused"),
    _row(55, "a signature missing, empty, huge, of other bytes, by another key or algorithm",
         "each is refused for its own reason"),
    _row(56, "a bundle with an unknown field, a chain, two signatures or another digest", "refused"),
    _row(57, "an SBOM that was changed or describes something else", "refused"),
    _row(58, "provenance of something else, by an unknown builder, with unknown parameters", "refused"),
    _row(59, "an audit or its signature edited, deleted or swapped", "the audit fails and names the event"),
    _row(60, "events removed, moved, doubled, or linked anew without the key", "the audit fails"),
    _row(61, "an old signed index is shown again", "refused as a rollback"),
    _row(62, "two signed indexes of one revision", "refused as a fork"),
    _row(63, "a revision of 2^63, or below zero", "refused, with a documented way on"),
    _row(64, "the manifest of one release with the files of another", "refused by their digests"),
    # names and contents
    _row(65, "names that leave the folder, hide, mislead, collide or are reserved", "refused, shown escaped"),
    _row(66, "versions that are files of the repository, too alike, or too long", "refused"),
    _row(67, "links, FIFOs, devices, sockets, outer hard links or set-uid files among outputs", "refused; never waits"),
    _row(68, "very many files, a huge sparse file, an empty file, no artifact",
         "within limits or soon refused, in little memory; no artifact is refused",
         "a hundred thousand files: the limit is lowered instead"),
    _row(69, "evil tar archives", "refused; nothing outside, in bounded memory",
         "a million entries: the limit is lowered instead"),
    _row(70, "evil zip archives", "refused"),
    _row(71, "TOML that is broken, twisted, huge or in another encoding", "refused soon, with its line"),
    _row(72, "JSON that is deep, doubled, beyond numbers or followed by more", "refused"),
    _row(73, "evil YAML", "refused, should any be read: none is"),
    _row(74, "shell syntax in any text of the configuration or environment", "stays text; nothing runs"),
    # gates
    _row(75, "a gate that raises, hangs, is unknown, gives nothing or contradicts itself", "counts as a no"),
    _row(76, "a gate saw other bytes than are promoted", "refused"),
    # secrets and keys
    _row(77, "secrets in keys, passphrases and tokens", "in no log, error, document, argument or child's environment",
         "core dumps and the history of images"),
    _row(78, "a key file that is open to others, a link, foreign, no file, or locked by another passphrase",
         "refused in clear words, asked once"),
    _row(79, "a signing service that is silent or signs something else", "noticed by checking at once",
         "PKCS#11, which there is not"),
    # builds
    _row(80, "a build reaches for the engine, the network, or folders that are not its own", "it gets none of them"),
    _row(81, "a build poisons a cache that another target uses", "the same bytes as without a cache"),
    _row(82, "a build prints control codes and commands of CI systems", "escaped wherever it is shown"),
    _row(83, "the engine dies during a build", "a clean failure that names it"),
    _row(84, "the tag of a base image moves", "refused unless pinned by digest",
         "a Dockerfile that stands on a tag: it is told, and not refused"),
    _row(85, "a build that differs each time, where it is promised not to", "stopped, with the difference"),
    # surroundings
    _row(86, "recovery after the disk came back from an old copy", "noticed by whoever saw a newer revision"),
    _row(87, "foreign files in the base, and half-deleted versions", "told and left; others can publish"),
    _row(88, "few descriptors, little memory, a full or noexec folder for temporary files", "works, or fails cleanly"),
    _row(89, "another locale or an odd umask", "the same bytes and modes"),
    _row(90, "an index of an older or a newer schema", "the older is read; the newer refused and not rewritten",
         "an older schema, of which there is none"),
)  # fmt: skip

LATER = {"OCI registries": range(43, 47), "GitHub releases": range(47, 52)}
"""The rooms that do not exist yet, with their rows."""
