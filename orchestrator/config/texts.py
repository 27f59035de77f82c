"""The kinds of text that a matrix.toml holds, each with its rule in words.

Nothing here reaches a shell of the host; the rules keep values safe as file names, arguments and log lines.
"""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from builders.targets import near

MAX_LINE_CHARS = 4096
MAX_NEAR_CHARS = 64
MAX_SHOWN_CHARS = 80
_SECRET = re.compile(r"AGE-SECRET-KEY-|PRIVATE KEY", re.IGNORECASE)
MAX_EXPRESSION_CHARS = 1000

_BIDI = "\u202a-\u202e\u2066-\u2069"
_NOT_IN_LINE = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{_BIDI}]")
_NOT_IN_TEXT = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{_BIDI}]")
_SEMVER = (
    r"(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)"
    r"(?:-(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_SEMVER_RULE = re.compile(_SEMVER, re.ASCII)
_MEMORY = re.compile(r"([1-9][0-9]{0,9})(KiB|MiB|GiB|TiB)")
_UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_MEMORY_RANGE = (16 * 1024**2, 64 * 1024**4)

PASSPHRASE = re.compile(r"(env):([A-Za-z_][A-Za-z0-9_]{0,127})|(fd):([0-9]{1,4})|", re.ASCII)
"""Where a passphrase is read from: group 1 or 3 says how, the one after it where."""
_SANDBOX_PATH = r"(?:/[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*)+"
_BUILDERS_OWN = frozenset({"out", "src", "tmp"})
_SYSTEMS_OWN = frozenset(
    {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys", "usr", "var"}
)
TEMPLATE_FIELDS = ("name", "product", "version", "os", "arch", "target")
_FIELD = re.compile(rf"\{{(?:{'|'.join(TEMPLATE_FIELDS)})\}}")
TOOLCHAINS = ("gcc", "zig", "go", "rust")
_IMAGE = re.compile(
    r"image:(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?@sha256:[0-9a-f]{64}",
    re.ASCII,
)


def near_hint(name: str, known: Iterable[str]) -> str:
    """Ask whether a known name was meant, where one is near. Long names are left alone: comparing them takes long."""
    meant = near(name, known) if len(name) <= MAX_NEAR_CHARS else ""
    return f'did you mean "{meant}"?' if meant else ""


def broken(what: str, suggestion: str = "") -> PydanticCustomError:
    """Say that a value breaks a rule, in a way that survives pydantic's own error list."""
    return PydanticCustomError("relbuild", "{what}", {"what": what, "suggestion": suggestion})


def shown(value: object) -> str:
    """Quote a value of the file for a message: one short line of printable characters. No secret key is shown."""
    words = repr(value)
    return "a secret key" if _SECRET.search(words) else cut(words)


def cut(words: str) -> str:
    return words if len(words) <= MAX_SHOWN_CHARS else f"{words[: MAX_SHOWN_CHARS - 4]} ..."


@dataclass(frozen=True, slots=True)
class Rule:
    """Annotates a `str` that must match a pattern as a whole; `wants` says it in words."""

    pattern: str
    wants: str

    def check(self, value: str) -> str:
        line(value)
        if not re.fullmatch(self.pattern, value, re.ASCII):
            raise broken(f"{shown(value)} is not {self.wants}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401, RUF100 - pydantic's signature
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}


def _clean(value: str, forbidden: re.Pattern[str], limit: int) -> str:
    if found := forbidden.search(value):
        raise broken(f"it holds the character U+{ord(found[0]):04X}, which is not allowed here")
    if len(value) > limit:
        raise broken(f"it has {len(value)} characters; {limit} are allowed")
    return value


def line(value: str) -> str:
    """Refuse control characters, line ends and characters that turn the direction of writing."""
    return _clean(value, _NOT_IN_LINE, MAX_LINE_CHARS)


def text(value: str) -> str:
    """Refuse the same, but let line ends and tabs pass."""
    return _clean(value, _NOT_IN_TEXT, 1024 * 1024)


def below(value: str) -> str:
    """Refuse a path or glob that could leave the folder it is relative to, or that is not written plainly."""
    line(value)
    if not value:
        raise broken("the path is empty", 'write "." for the folder itself')
    if value.startswith("/"):
        raise broken(f"{shown(value)} is absolute; only relative paths are allowed")
    if "\\" in value:
        raise broken(f"{shown(value)} holds a backslash", "separate folders by /")
    parts = value.split("/")
    if ".." in parts:
        raise broken(f'{shown(value)} holds ".."; it must stay below its folder')
    if "" in parts[:-1]:
        raise broken(f"{shown(value)} holds an empty folder name", f'write "{PurePosixPath(value)}"')
    return value


def glob(value: str) -> str:
    """Refuse a glob that cannot match a file below its folder."""
    if below(value).endswith("/") or value == ".":
        raise broken(f"{shown(value)} names a folder; outputs are files", f'did you mean "{value.rstrip("/")}/**"?')
    return value


def not_empty(value: str) -> str:
    if not value.strip():
        raise broken("it is empty")
    return value


def version(value: str) -> str:
    """Accept "git", or a version of Semantic Versioning 2.0.0, https://semver.org."""
    line(value)
    if value == "git":
        return value
    if _SEMVER_RULE.fullmatch(value) and len(value) <= 64:  # noqa: PLR2004 - as long as a project's name
        return value
    tries = (value.removeprefix("v"), f"{value}.0", f"{value}.0.0", f"{value.removeprefix('v')}.0")
    mended = next((near for near in tries if _SEMVER_RULE.fullmatch(near)), "")
    raise broken(
        f'{shown(value)} is not "git", nor a version such as 1.2.3 or 1.2.3-rc.1 (Semantic Versioning)',
        f'did you mean "{mended}"?' if mended else "",
    )


def expression(value: str) -> str:
    """Accept a regular expression with a group to take the version from."""
    if len(line(value)) > MAX_EXPRESSION_CHARS:
        raise broken(f"the regular expression has more than {MAX_EXPRESSION_CHARS} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            groups = re.compile(value).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise broken(f"{shown(value)} is not a regular expression: {error}") from error
    if not groups:
        raise broken(f"{shown(value)} has no group", "put parentheses around the version")
    return value


def memory_bytes(value: str) -> str:
    if match := _MEMORY.fullmatch(value):
        in_memory_range(int(match[1]) * _UNITS[match[2]])
        return value
    guess = re.fullmatch(r"\s*(\d{1,10})\s*([kmgt])i?b?\s*", value, re.IGNORECASE)
    hint = f'did you mean "{int(guess[1])}{"K" if guess[2] in "kK" else guess[2].upper()}iB"?' if guess else ""
    raise broken(f'{shown(value)} is not a size such as "512MiB" or "2GiB"', hint)


def in_memory_range(value: int) -> int:
    if not _MEMORY_RANGE[0] <= value <= _MEMORY_RANGE[1]:
        raise broken(f"{value} bytes are not between 16 MiB and 64 TiB")
    return value


def size_bytes(value: str | int) -> int:
    """Give the bytes of a size that `memory_bytes` has accepted."""
    if isinstance(value, int):
        return value
    match = _MEMORY.fullmatch(value)
    return int(match[1]) * _UNITS[match[2]] if match else 0


def http_url(value: str) -> str:
    return _url(value, ("https", "http"))


def git_url(value: str) -> str:
    """Accept a URL that git cannot take for an option or for a helper program (`ext::`)."""
    if re.fullmatch(r"[\w][\w.-]*@[\w][\w.-]*:[\w./~+-]+", line(value), re.ASCII):
        return value
    return _url(value, ("https", "http", "ssh", "git", "file"))


def archive_location(value: str) -> str:
    return _url(value, ("https", "http", "file")) if ":" in value else below(value)


def _url(value: str, schemes: tuple[str, ...]) -> str:
    match = re.fullmatch(r"([a-z]+)://(\S+)", line(value))
    if not match or match[1] not in schemes:
        raise broken(f"{shown(value)} is not a URL", f"it must begin with one of {', '.join(schemes)} and ://")
    if re.match(r"[^/@]*:[^/@]*@", match[2]):
        raise broken(
            "the URL holds a password, which would end in logs and provenance",
            "keep it in git's or pip's own configuration",
        )
    return value


def sandbox_path(value: str) -> str:
    """Accept a folder of the sandbox that neither the builder nor the system needs."""
    if not re.fullmatch(_SANDBOX_PATH, line(value), re.ASCII):
        raise broken(f"{shown(value)} is not a plain absolute path of the sandbox", 'write one such as "/deps"')
    top = value.split("/")[1]
    if top in _BUILDERS_OWN:
        raise broken(f"{shown(value)} is the builder's own", 'choose another, such as "/deps"')
    if top in _SYSTEMS_OWN:
        raise broken(f"{shown(value)} would hide a part of the system", 'choose another, such as "/deps"')
    return value


def template(value: str) -> str:
    """Accept a file name with fields; what a field may do beyond its plain value is refused."""
    for field in re.findall(r"\{([^{}]*)\}", line(value)):
        if field not in TEMPLATE_FIELDS:
            known = ", ".join(f"{{{name}}}" for name in TEMPLATE_FIELDS)
            raise broken(f"there is no field {{{field}}}; there are {known}", near_hint(field, TEMPLATE_FIELDS))
    if not re.fullmatch(r"[A-Za-z0-9{][A-Za-z0-9._+{}-]{0,199}", value) or re.search(r"[{}]", _FIELD.sub("", value)):
        raise broken(f"{shown(value)} does not give a plain file name (letters, digits and . _ + -, and fields)")
    return value


def toolchain(value: str) -> str:
    """Accept a toolchain of this program, or an image that nobody can change afterwards."""
    if value in TOOLCHAINS or _IMAGE.fullmatch(line(value)):
        return value
    if value.startswith("image:") and "@sha256:" not in value:
        raise broken(
            f"{shown(value)} has no digest; whoever moves its tag would change what is built",
            'write "image:REFERENCE@sha256:DIGEST"',
        )
    if value.startswith("image:"):
        raise broken(f"{shown(value)} is not an image reference with a digest of 64 hexadecimal digits")
    raise broken(
        f"there is no toolchain {shown(value)}; there are {', '.join(TOOLCHAINS)}", near_hint(value, TOOLCHAINS)
    )


Line = Annotated[str, AfterValidator(line)]
Text = Annotated[str, AfterValidator(text)]
Script = Annotated[str, AfterValidator(text), AfterValidator(not_empty)]
FolderPath = Annotated[str, AfterValidator(below)]
Words = Annotated[str, AfterValidator(line), AfterValidator(not_empty)]
AnyPath = Words
"""A path that may leave the project: keys do not lie in it."""
Fingerprint = Annotated[str, Rule(r"[0-9A-F]{40}|only", "a full GPG fingerprint (40 digits in upper case)")]
AgeRecipient = Annotated[str, Rule(r"age1[02-9ac-hj-np-z]{58}", "an age recipient (age1...)")]
Glob = Annotated[str, AfterValidator(glob)]
Name = Annotated[str, Rule(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", "a name (letters, digits and . _ + -, at most 64)")]
TargetName = Annotated[str, Rule(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}", "a target's name (letters, digits and . _ / -)")]
ForeignName = Annotated[str, Rule(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,63}", "a name (letters, digits and . _ + / -)")]
EnvName = Annotated[str, Rule(r"[A-Za-z_][A-Za-z0-9_]{0,127}", "a variable's name (letters, digits and _)")]
Floor = Annotated[str, Rule(r"[0-9]{1,2}\.[0-9]{1,3}", 'a libc version such as "2.31"')]
Stage = Annotated[str, Rule(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", "a stage of a Dockerfile")]
Sha256 = Annotated[str, Rule(r"[0-9a-f]{64}", "a SHA-256 digest (64 hexadecimal digits in lower case, no prefix)")]
Commit = Annotated[str, Rule(r"[0-9a-f]{40}|[0-9a-f]{64}", "a full commit (40 or 64 hexadecimal digits in lower case)")]
DebianName = Annotated[str, Rule(r"[a-z0-9][a-z0-9+.-]{1,127}", "the name of a Debian source package")]
DebianVersion = Annotated[str, Rule(r"[0-9][A-Za-z0-9.+~:-]{0,127}", "a Debian version")]
PypiName = Annotated[str, Rule(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?", "the name of a Python project")]
PypiVersion = Annotated[str, Rule(r"[0-9][A-Za-z0-9.!+_-]{0,127}", "a Python version")]
Version = Annotated[str, AfterValidator(version), Field(json_schema_extra={"pattern": f"^(?:git|{_SEMVER})$"})]
Expression = Annotated[str, AfterValidator(expression)]
SandboxPath = Annotated[str, AfterValidator(sandbox_path), Field(json_schema_extra={"pattern": f"^{_SANDBOX_PATH}$"})]
Template = Annotated[str, AfterValidator(template)]
Toolchain = Annotated[str, AfterValidator(toolchain)]
HttpUrl = Annotated[str, AfterValidator(http_url)]
GitUrl = Annotated[str, AfterValidator(git_url)]
ArchiveLocation = Annotated[str, AfterValidator(archive_location)]
MemoryText = Annotated[
    str, AfterValidator(memory_bytes), Field(json_schema_extra={"pattern": f"^(?:{_MEMORY.pattern})$"})
]
MemoryBytes = Annotated[int, AfterValidator(in_memory_range)]
