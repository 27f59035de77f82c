"""The truth gate: are the files that a cell gave what the cell was asked for? Reads the bytes, believes no builder."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from builders.binaries import BinaryFacts, BinaryKind, build_paths, inspect, version_order
from builders.errors import GateFailed, WrongMachine
from builders.model import BuiltFile, Libc, LibcKind
from builders.targets import Format, Target
from orchestrator.model import Finding, GateRules, Verdict

# By e_machine, which a target of the project's own keeps: the one machine-dependent name that a C library gives.
_INTERPRETERS = {
    (62, LibcKind.GNU): "/lib64/ld-linux-x86-64.so.2", (62, LibcKind.MUSL): "/lib/ld-musl-x86_64.so.1",
    (183, LibcKind.GNU): "/lib/ld-linux-aarch64.so.1", (183, LibcKind.MUSL): "/lib/ld-musl-aarch64.so.1",
    (40, LibcKind.GNU): "/lib/ld-linux-armhf.so.3", (40, LibcKind.MUSL): "/lib/ld-musl-armhf.so.1",
}  # fmt: skip
_WORDS = {62: (64, False), 183: (64, False), 40: (32, False)}
"""Bits and big-endian by e_machine: x32 and big-endian programs have the same machine and do not run."""

_ARM_ARCHES = {"5": range(5), "6": range(10), "7": range(11)}
"""Tag_CPU_arch that a machine of this GOARM runs; 11 and 12 are microcontrollers, 14 is Armv8."""

_PLAIN_NEEDED = {
    Format.ELF: (
        "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libresolv.so.2", "libutil.so.1",
        "libgcc_s.so.1", "libstdc++.so.6", "ld-linux*.so.*", "libc.musl-*.so.1", "ld-musl-*.so.1", "libc.so",
    ),
    Format.PE: (
        "api-ms-win-*.dll", "ext-ms-win-*.dll", "ucrtbase.dll", "msvcrt.dll", "ntdll.dll", "kernel32.dll",
        "kernelbase.dll", "advapi32.dll", "user32.dll", "gdi32.dll", "shell32.dll", "shlwapi.dll", "ole32.dll",
        "oleaut32.dll", "rpcrt4.dll", "ws2_32.dll", "mswsock.dll", "iphlpapi.dll", "dnsapi.dll", "netapi32.dll",
        "bcrypt.dll", "bcryptprimitives.dll", "ncrypt.dll", "crypt32.dll", "secur32.dll", "userenv.dll", "psapi.dll",
        "version.dll", "winmm.dll", "winhttp.dll", "wininet.dll", "powrprof.dll", "setupapi.dll", "comctl32.dll",
        "comdlg32.dll", "dbghelp.dll", "imm32.dll",
    ),
    Format.MACHO: (
        "/usr/lib/libSystem.B.dylib", "/usr/lib/libc++.1.dylib", "/usr/lib/libobjc.A.dylib",
        "/usr/lib/libresolv.9.dylib", "/System/Library/Frameworks/*",
    ),
}  # fmt: skip
_ORIGINS = ("$ORIGIN", "${ORIGIN}", "@loader_path", "@executable_path")
_LOADED = (BinaryKind.EXECUTABLE, BinaryKind.SHARED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What the cell was asked for, and what it ships."""

    target: Target
    libc: Libc
    allow_needed: tuple[str, ...]
    shipped: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A key of [policy.gate] and what breaks it. `at_most` caps what the policy may make of this one."""

    key: str
    broken: Callable[[BinaryFacts, _Wanted], Iterable[str]]
    at_most: Verdict = Verdict.ERROR


def judge(  # noqa: PLR0917 - the cell's four, then the policy's two, in the order of the page that calls it
    folder: Path, files: Sequence[BuiltFile], target: Target, libc: Libc, rules: GateRules, needles: Sequence[bytes]
) -> tuple[Finding, ...]:
    """Give what the policy wants to be told of a cell's files. `needles` are the absolute folders of the build.

    Raises WrongMachine for a binary of another machine, GateFailed with every broken rule that is an error.
    """
    binaries, unreadable = _inspect_all(folder, files)
    _refuse_wrong_machines(binaries, target)
    shipped = frozenset(name for path, facts in binaries.items() for name in _names(path, facts))
    wanted = _Wanted(target=target, libc=libc, allow_needed=rules.allow_needed, shipped=shipped)
    found = [*unreadable]
    for path, facts in binaries.items():
        found += _findings(path, _for_target(facts, target), wanted, rules)
    if rules.build_paths is not Verdict.IGNORE:
        readable = [file.path for file in files if file.path not in {row.path for row in unreadable}]
        found += _path_findings(folder, readable, needles, rules.build_paths)
    _refuse_errors(found)
    return tuple(found)


def _inspect_all(folder: Path, files: Sequence[BuiltFile]) -> tuple[dict[PurePosixPath, BinaryFacts], list[Finding]]:
    binaries: dict[PurePosixPath, BinaryFacts] = {}
    unreadable = []
    for file in files:
        try:
            facts = inspect(folder / file.path)
        except GateFailed as error:
            text = error.what.removeprefix(f"{folder / file.path} ")
            unreadable.append(Finding(path=file.path, rule="readable", text=text, verdict=Verdict.ERROR))
            continue
        if facts is not None:
            binaries[file.path] = facts
    return binaries, unreadable


# --- the machine -------------------------------------------------------------------------------------------------


def _refuse_wrong_machines(binaries: Mapping[PurePosixPath, BinaryFacts], target: Target) -> None:
    wrong = [f"{path} is for {found}" for path, facts in binaries.items() if (found := _other_machine(facts, target))]
    if wrong:
        raise WrongMachine(
            f"the target is {target.name} ({target.format}), but " + "; ".join(wrong),
            next_step="let the recipe use $CC, $CXX, $GOARCH or $CARGO_BUILD_TARGET instead of the host's compiler, "
            "and keep files built before out of the source; `file` shows what one is",
        )


def _other_machine(facts: BinaryFacts, target: Target) -> str:
    """Name the machine that a binary is for where it is not the target, else give an empty string."""
    if facts.kind is BinaryKind.ARCHIVE:
        others = [f"{other} in its member {row.member}" for row in facts.members if (other := _unlike(row, target))]
        return " and ".join(others)
    return _unlike(_for_target(facts, target), target)


def _for_target(facts: BinaryFacts, target: Target) -> BinaryFacts:
    """Give the slice of a universal file that the target would run; other binaries have only themselves."""
    if facts.kind is BinaryKind.ARCHIVE or not facts.members:
        return facts
    return next((row for row in facts.members if not _unlike(row, target)), facts)


def _unlike(facts: BinaryFacts, target: Target) -> str:
    words = (facts.bits, facts.big_endian)
    same = facts.format is target.format and facts.machine == target.machine
    if not same or (facts.format is Format.ELF and words != _WORDS.get(facts.machine, words)):
        return facts.machine_name
    arm = facts.arm
    if arm and arm.float_abi == "soft" and target.gnu.endswith("hf"):
        return f"{facts.machine_name}, which cannot be linked or run with hard-float libraries"
    if arm and arm.cpu_arch >= 0 and arm.cpu_arch not in _ARM_ARCHES.get(target.goarm, (arm.cpu_arch,)):
        return f"{facts.machine_name} of another architecture version (Tag_CPU_arch {arm.cpu_arch})"
    return ""


# --- the rules ---------------------------------------------------------------------------------------------------


def _libc_floor(facts: BinaryFacts, wanted: _Wanted) -> Iterator[str]:
    other = {LibcKind.MUSL: ("glibc", _needs_glibc), LibcKind.GNU: ("musl", _needs_musl)}[wanted.libc.kind]
    if facts.format is Format.ELF and other[1](facts):
        yield f"needs {other[0]}, and the product is for {wanted.libc.kind}"
    elif facts.format is Format.ELF and wanted.libc.floor and wanted.libc.kind is LibcKind.GNU:
        needed = facts.required_versions.get("GLIBC", "")
        if version_order(needed) > version_order(wanted.libc.floor):
            yield f"needs GLIBC_{needed}, the floor is {wanted.libc.floor}"
        if "GLIBC_PRIVATE" in facts.required_versions:
            yield "needs GLIBC_PRIVATE, which ties it to one build of glibc"


def _cxx_floor(facts: BinaryFacts, wanted: _Wanted) -> Iterator[str]:
    needed = facts.required_versions.get("GLIBCXX")
    if needed and wanted.libc.floor:
        yield f"needs GLIBCXX_{needed} of the machine's libstdc++, of which a floor for glibc says nothing"


def _needs_glibc(facts: BinaryFacts) -> bool:
    return (
        "GLIBC" in facts.required_versions
        or "libc.so.6" in facts.needed
        or PurePosixPath(facts.interpreter).name.startswith("ld-linux")
    )


def _needs_musl(facts: BinaryFacts) -> bool:
    names = (PurePosixPath(facts.interpreter).name, *facts.needed)
    return any(name.startswith(("ld-musl-", "libc.musl-")) for name in names)


def _interpreter(facts: BinaryFacts, wanted: _Wanted) -> Iterator[str]:
    if facts.format is not Format.ELF or facts.kind is not BinaryKind.EXECUTABLE or facts.static:
        return
    standard = _INTERPRETERS.get((facts.machine, wanted.libc.kind), facts.interpreter)
    if facts.interpreter != standard:
        yield f"is started by {facts.interpreter or 'no interpreter'}, {wanted.libc.kind} has {standard}"


def _needed(facts: BinaryFacts, wanted: _Wanted) -> Iterator[str]:
    allowed = (*_PLAIN_NEEDED[facts.format], *wanted.allow_needed)
    fold = str.lower if facts.format is Format.PE else str
    for library in dict.fromkeys(facts.needed):
        names = {fold(library), *([PurePosixPath(library).name] if library.startswith("@") else [])}
        if not names & {fold(name) for name in wanted.shipped} and not any(
            fnmatchcase(name, fold(glob)) for name in names for glob in allowed
        ):
            yield f"needs {library}, which is no part of the C or C++ run time and not in this cell"


def _rpath(facts: BinaryFacts, _: _Wanted) -> Iterator[str]:
    for entry in dict.fromkeys(facts.rpath):
        if entry.split("/", 1)[0] not in _ORIGINS:
            yield f"looks for libraries in {entry or 'the working directory (an empty entry)'}, not beside itself"


def _stripped(facts: BinaryFacts, _: _Wanted) -> Iterator[str]:
    if facts.kind in _LOADED and not facts.stripped:
        yield "still has symbols or debug information"


def _build_id(facts: BinaryFacts, _: _Wanted) -> Iterator[str]:
    if facts.kind in _LOADED and not facts.build_id:
        yield "has no build-id"


_RULES = (
    _Rule(key="libc_floor", broken=_libc_floor),
    _Rule(key="libc_floor", broken=_cxx_floor, at_most=Verdict.WARN),
    _Rule(key="interpreter", broken=_interpreter),
    _Rule(key="needed", broken=_needed),
    _Rule(key="rpath", broken=_rpath),
    _Rule(key="stripped", broken=_stripped),
    _Rule(key="build_id", broken=_build_id),
)


def _names(path: PurePosixPath, facts: BinaryFacts) -> Iterator[str]:
    """Give the names by which other files of the cell can ask for this one."""
    if facts.kind is BinaryKind.SHARED:
        yield path.name
        yield from (name for row in (facts, *facts.members) if (name := PurePosixPath(row.soname).name))


def _findings(path: PurePosixPath, facts: BinaryFacts, wanted: _Wanted, rules: GateRules) -> Iterator[Finding]:
    for rule in _RULES:
        verdict: Verdict = getattr(rules, rule.key)
        if verdict is not Verdict.IGNORE:
            capped = Verdict.WARN if rule.at_most is Verdict.WARN else verdict
            for text in rule.broken(facts, wanted):
                yield Finding(path=path, rule=rule.key, text=text, verdict=capped)


def _path_findings(
    folder: Path, paths: Iterable[PurePosixPath], needles: Sequence[bytes], verdict: Verdict
) -> Iterator[Finding]:
    for path in paths:
        for text in build_paths(folder / path, needles):
            yield Finding(
                path=path, rule="build_paths", text=f"has the build folder {text} inside", verdict=verdict
            )  # fmt: skip


def _refuse_errors(found: Sequence[Finding]) -> None:
    errors = [finding for finding in found if finding.verdict is Verdict.ERROR]
    if not errors:
        return
    lines = "\n".join(f"  {row.path}: {row.rule}: {row.text}" for row in errors)
    keys = [key for key in dict.fromkeys(row.rule for row in errors) if key != "readable"]
    choices = ", ".join(keys) + (" (allow_needed names single libraries)" if "needed" in keys else "")
    raise GateFailed(
        f"the truth gate found {len(errors)} broken rule{'s' if len(errors) != 1 else ''}:\n{lines}",
        next_step="mend the recipe" + (f", or change in [policy.gate]: {choices}" if keys else " and build again"),
    )
