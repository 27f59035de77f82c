"""A first matrix.toml for a project, from the build files that it has."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from orchestrator.config.reading import parse
from orchestrator.errors import ConfigError
from orchestrator.makefiles import goal, has_rule, program_names

_MAX_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]{1,300}")
_IN_IMAGE = frozenset({"setuptools", "wheel"})

_COPY_PROGRAMS = """\
find {folder} -type f -perm -u+x{but} | while IFS= read -r file; do
  if [ "$(head -c 4 "$file" | tr -d '\\177')" = ELF ]; then cp "$file" "$OUT/"; fi
done
"""
_COPY_SOURCE = """\
cp -R . "$TMPDIR/build"
chmod -R u+w "$TMPDIR/build"
cd "$TMPDIR/build"
"""
_HEAD = """\
# What is built, for which targets, and how: `relbuild plan` shows it, `relbuild matrix` builds it.
# Every key is explained by `relbuild schema`.

[project]
name = {name}
{version}
{about}
[products.{product}]
"""
_TAIL = """\
# Default: the three Linux targets. An alias (amd64, arm64, armhf) works as well.
targets = ["x86_64", "aarch64", "armv7"]
# A command that must work on each target's machine or under QEMU; the first word is a file of $OUT.
# smoke = [{{ run = [{program}, "--version"] }}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a build file says: `lines` go into the product's table; `programs` are what it is thought to give."""

    name: str = ""
    programs: tuple[str, ...] = ()
    about: Mapping[str, str] | None = None
    lines: str


_VERSIONED = {
    "Cargo.toml": r'^version = "([^"]+)"',
    "pyproject.toml": r'^version = "([^"]+)"',
    "CMakeLists.txt": r"^\s*project\([^)]*VERSION\s+([0-9.]+)",
}
"""Where build files keep the version; group 1 is it."""


def propose(folder: Path) -> str:
    """Give the text of a commented matrix.toml for the project in a folder.

    Raises ConfigError where there is no build file that it knows, or where that file cannot be read.
    """
    try:
        found = _look(folder.resolve())
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror}", next_step="give read permission") from error
    if found is None:
        raise ConfigError(
            f"{folder.resolve()} holds none of {', '.join(_BUILD_FILES)}, and no C file",
            next_step='go to the project\'s folder, or write a matrix.toml with recipe = "command" by hand',
        )
    return _render(folder.resolve(), found)


def _look(folder: Path) -> Found | None:
    for name, look in _BUILD_FILES.items():
        if (folder / name).is_file() and (found := look(folder)) is not None:
            return found
    return _c_files(folder)


def _render(folder: Path, found: Found) -> str:
    name = _valid_name(found.name or folder.name)
    program = found.programs[0] if found.programs else name
    product = _valid_name(program)
    version = _version_line(folder)
    about = "".join(f"{key} = {_toml(value)}\n" for key, value in (found.about or {}).items())
    head = _HEAD.format(name=_toml(name), version=version, about=about, product=_key(product))
    return head + found.lines + _TAIL.format(program=_toml(program))


def _version_line(folder: Path) -> str:
    """Take the version from where the project keeps it: a build file, else git's tags."""
    for file, pattern in _VERSIONED.items():
        if re.search(pattern, _text(folder / file), re.MULTILINE):
            return f"version = {{ file = {_toml(file)}, pattern = '{pattern}' }}"
    if (folder / ".git").exists():
        return 'version = "git" # from the newest tag'
    return 'version = "0.1.0" # "git" takes it from a tag'


def _valid_name(text: str) -> str:
    """Make a name that matrix.toml allows out of any text."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", text.rsplit("/", 1)[-1]).lstrip("._+-")[:64].rstrip("-")
    return name or "project"


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _text(file: Path) -> str:
    """Give a build file's text, or nothing where there is no such plain file."""
    if not file.is_file():
        return ""
    with file.open("rb") as opened:
        return opened.read(_MAX_BYTES).decode(errors="replace")


def _tables(file: Path) -> dict[str, object]:
    return parse(_text(file), file)[0] if file.is_file() else {}


def _table(tables: Mapping[str, object], *path: str) -> Mapping[str, object]:
    """Give an inner table, or an empty one where it is missing or something else."""
    inner: object = tables
    for key in path:
        inner = inner.get(key) if isinstance(inner, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _about(table: Mapping[str, object], homepage: object) -> dict[str, str]:
    """Take over what the file says of the project, as far as matrix.toml allows it."""
    said = {"license": table.get("license"), "homepage": homepage, "description": table.get("description")}
    plain = {key: text for key, text in said.items() if isinstance(text, str) and _PRINTABLE.fullmatch(text)}
    if not re.fullmatch(r"https?://[^\s@]+", plain.get("homepage", "")):
        plain.pop("homepage", None)
    return plain


def _script(comment: str, script: str, outputs: str, toolchain: str = "gcc") -> str:
    return f"recipe = \"command\"\ntoolchain = \"{toolchain}\"\n{comment}run = '''\n{script}'''\n{outputs}"


def _outputs(programs: tuple[str, ...]) -> str:
    if not programs:
        return '# Globs below $OUT; each must match at least one file.\noutputs = ["*"]\n'
    globs = ", ".join(f"{{ glob = {_toml(name)}, one = true }}" for name in programs)
    return f"outputs = [{globs}]\n"


_NETWORK = """\
# Dependencies are fetched while building. Vendor them and drop this line for a build without network.
network = true
"""


# --- one function a build file -------------------------------------------------------------------------------------


def _go(folder: Path) -> Found:
    text = _text(folder / "go.mod")
    module = re.search(r'^module\s+"?([^\s"]+)', text, re.MULTILINE)
    parts = [part for part in (module[1] if module else "").split("/") if not re.fullmatch(r"v\d+", part)]
    needs = re.search(r"^require\b", text, re.MULTILINE) and not (folder / "vendor").is_dir()
    return Found(name=parts[-1] if parts else "", lines='recipe = "go"\n' + (_NETWORK if needs else ""))


def _cargo(folder: Path) -> Found:
    tables = _tables(folder / "Cargo.toml")
    package = _table(tables, "package")
    name = str(package.get("name", ""))
    programs = _cargo_programs(folder, tables, name)
    lock = _text(folder / "Cargo.lock")
    needs = ("source = " in lock if lock else bool(_table(tables, "dependencies"))) and not (folder / "vendor").is_dir()
    about = _about(package, package.get("homepage") or package.get("repository"))
    lines = 'recipe = "cargo"\n' + ("" if lock else _without_lock()) + _outputs(programs) + (_NETWORK if needs else "")
    return Found(name=name, programs=programs, about=about, lines=lines)


def _cargo_programs(folder: Path, tables: Mapping[str, object], name: str) -> tuple[str, ...]:
    entries = tables.get("bin")
    binaries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    names = [entry.get("name") for entry in binaries]
    if (folder / "src/main.rs").is_file() and not any(entry.get("path") == "src/main.rs" for entry in binaries):
        names.append(name)
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str) and _NAME.fullmatch(name)))


def _without_lock() -> str:
    """Build without Cargo.lock, which cargo would have to write beside the read-only source."""
    from builders.recipes import default_script  # noqa: PLC0415 - only projects without a lock file need it

    script = default_script("cargo", "unused", network=True).script.replace(" --locked", "")
    comment = "# There is no Cargo.lock: run `cargo generate-lockfile`, commit it, and drop `run` for the default.\n"
    return f"{comment}run = '''\n{_COPY_SOURCE}{script}'''\n"


def _cmake(folder: Path) -> Found:
    text = re.sub(r"#.*", "", _text(folder / "CMakeLists.txt"))
    project = re.search(r"\bproject\s*\(\s*([A-Za-z0-9._+-]+)", text, re.IGNORECASE)
    found = re.findall(
        r"\badd_executable\s*\(\s*([A-Za-z0-9][A-Za-z0-9._+-]*)(?!\s+(?:ALIAS|IMPORTED)\b)[\s)]", text, re.IGNORECASE
    )
    programs = tuple(dict.fromkeys(name for name in found if "test" not in name.lower()))
    script = (
        'cmake -S . -B "$TMPDIR/build" -DCMAKE_BUILD_TYPE=Release \\\n'
        '  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR="$RELBUILD_TARGET" \\\n'
        '  -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX"\n'
        'cmake --build "$TMPDIR/build"\n'
        + _COPY_PROGRAMS.format(folder='"$TMPDIR/build"', but=" ! -path '*/CMakeFiles/*'")
    )
    comment = "# The source is read-only: the build goes to a folder of its own, and its programs to $OUT.\n"
    return Found(
        name=project[1] if project else "", programs=programs, lines=_script(comment, script, _outputs(programs))
    )


def _make(folder: Path, file: str) -> Found:
    text = _text(folder / file)
    programs = program_names(text)
    # Objects of another machine that lie beside the sources would be taken for finished.
    clean = "make clean\n" if has_rule(text, "clean") else "find . -name '*.o' -delete\n"
    build = _COPY_SOURCE + clean + f'make CC="$CC" AR="$AR" {goal(text)}'.rstrip() + "\n"
    comment = "# The source is read-only: it is copied first."
    if programs:
        copied = " ".join(quote(name) for name in programs)
        names = tuple(name.rsplit("/", 1)[-1] for name in programs)
        return Found(programs=names, lines=_script(f"{comment}\n", f'{build}cp {copied} "$OUT/"\n', _outputs(names)))
    comment += " Its programs are not named in the Makefile, so all that\n# it builds are taken; better name them.\n"
    script = build + _COPY_PROGRAMS.format(folder=".", but="")
    return Found(lines=_script(comment, script, _outputs(())))


def _python(folder: Path) -> Found | None:
    tables = _tables(folder / "pyproject.toml")
    project = _table(tables, "project")
    if not project and not _table(tables, "build-system"):
        return None
    requires = _table(tables, "build-system").get("requires", [])
    wanted = (
        {re.split(r"[^A-Za-z0-9_.-]", str(entry), maxsplit=1)[0] for entry in requires}
        if isinstance(requires, list)
        else set()
    )
    urls = _table(project, "urls")
    homepage = next((url for key, url in urls.items() if key.lower() == "homepage"), None)
    lines = 'recipe = "python"\noutputs = [{ glob = "*.whl", one = true }]\n' + (_NETWORK if wanted - _IN_IMAGE else "")
    return Found(name=str(project.get("name", "")), about=_about(project, homepage), lines=lines)


def _dockerfile(folder: Path) -> Found:
    text = _text(folder / "Dockerfile")
    lines = 'recipe = "dockerfile"\n'
    if not re.search(r"(?:^|[\s\"'=/])out(?:/|[\s\"']|$)", text):
        lines += (
            "# The files are taken from /out of the last stage, which this Dockerfile does not fill yet. Add a stage:\n"
            "#   FROM scratch AS release\n"
            "#   COPY --from=STAGE /path/of/the/program /out/\n"
            '# and name it here: stage = "release"\n'
        )
    return Found(lines=lines + _outputs(()))


def _c_files(folder: Path) -> Found | None:
    files = sorted(file.name for file in folder.glob("*.c") if _NAME.fullmatch(file.name) and file.is_file())
    if not files:
        return None
    texts = [_text(folder / name) for name in files]
    name = _valid_name(folder.name if len(files) > 1 or files == ["main.c"] else files[0].removesuffix(".c"))
    maths = " -lm" if any(re.search(r"#\s*include\s*<math\.h>", text) for text in texts) else ""
    script = f'$CC ${{CFLAGS:-}} -O2 -o "$OUT/{name}" {" ".join(files)}{maths}\n'
    return Found(programs=(name,), lines=_script("", script, _outputs((name,))))


_BUILD_FILES: dict[str, Callable[[Path], Found | None]] = {
    "go.mod": _go,
    "Cargo.toml": _cargo,
    "CMakeLists.txt": _cmake,
    "pyproject.toml": _python,
    "GNUmakefile": lambda folder: _make(folder, "GNUmakefile"),
    "makefile": lambda folder: _make(folder, "makefile"),
    "Makefile": lambda folder: _make(folder, "Makefile"),
    "Dockerfile": _dockerfile,
}
"""In order: the first that is there decides, and a Makefile or Dockerfile is often only around something else."""
