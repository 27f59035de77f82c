"""Fetches a Debian source package through this machine's own apt, and unpacks it without dpkg-dev.

Formats: dsc(5), "3.0 (quilt)", "3.0 (native)" and "1.0" as dpkg-source(1) describes them.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from builders.command import Completed, capture, find_program
from builders.copying import make_folders
from builders.errors import SourceMismatch, SourceUnavailable, ToolchainUnavailable
from builders.hashing import file_sha256
from builders.names import escaped, unsafe_reason
from builders.sources import DebianSource
from builders.sources.unpack import sole_folder, unpack

_APT_S = 1800.0
_MOST_DSC_BYTES = 1 << 20
_PATCH = ("patch", "--strip=1", "--batch", "--forward", "--fuzz=0", "--unified", "--version-control=never", "--silent",
          "--remove-empty-files", "--no-backup-if-mismatch")  # fmt: skip


def fetch(source: DebianSource, *, apt_state: Path, downloads: Path, tree: Path) -> None:
    """Download a source package, check every file of it, and unpack it with its patches applied into `tree`.

    `apt_state` keeps apt's package lists between runs. Raises SourceMismatch, SourceUnavailable, ToolchainUnavailable.
    """
    make_folders(downloads)
    _download(source, apt_state, downloads)
    dsc = _checked_dsc(source, downloads)
    files = _checked_files(dsc, downloads)
    _unpack(dsc.get("Format", "1.0"), [downloads / name for name in files], tree)


# --- apt ---------------------------------------------------------------------------------------------------------


def _download(source: DebianSource, state: Path, downloads: Path) -> None:
    if find_program("apt-get") is None:
        raise ToolchainUnavailable(
            f"the debian source {source.package} needs apt-get, and this machine has none",
            next_step="build on Debian or Ubuntu, or name the package's archive by its URL with `archive`",
        )
    _derive_sources(state)
    wanted = f"{source.package}={source.version}"
    if _apt(state, ("source", "--download-only", "--quiet", wanted), downloads).exit_code == 0:
        return
    updated = _apt(state, ("update", "--quiet"), state)
    done = _apt(state, ("source", "--download-only", "--quiet", wanted), downloads)
    if done.exit_code != 0:
        raise SourceUnavailable(
            f"apt cannot give the source package {wanted}: {_complaints(updated, done)}",
            next_step="the suites of this machine's own apt sources must hold that very version",
        )


def _derive_sources(state: Path) -> None:
    """Write this machine's own apt sources down again as sources of source packages, which most machines leave out."""
    for folder in ("sources.d", "lists/partial", "cache/archives/partial"):
        make_folders(state / folder)
    for old in (state / "sources.d").iterdir():
        old.unlink()
    (state / "none.list").touch()
    for file in _machine_sources():
        text = file.read_text(encoding="utf-8", errors="replace")
        (state / "sources.d" / file.name).write_text(_for_source_packages(text, file.suffix), encoding="utf-8")


def _machine_sources() -> Iterator[Path]:
    shell = capture(("apt-config", "shell", "L", "Dir::Etc::sourcelist/f", "P", "Dir::Etc::sourceparts/d")).stdout
    places = dict(re.findall(r"^([LP])='(.*)'$", shell.decode(), flags=re.MULTILINE))
    if (single := Path(places.get("L", ""))).is_file():
        yield single
    if (parts := Path(places.get("P", ""))).is_dir():
        yield from sorted(file for file in parts.iterdir() if file.suffix in {".list", ".sources"})


def _for_source_packages(text: str, suffix: str) -> str:
    """Turn deb into deb-src: deb822 stanzas in .sources files, one line each in .list files (sources.list(5))."""
    if suffix == ".sources":
        return re.sub(r"(?im)^types:.*$", "Types: deb-src", text)
    lines = (re.sub(r"^\s*deb(-src)?\s", "deb-src ", line) for line in text.splitlines())
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith("deb-src "))) + "\n"


def _apt(state: Path, arguments: tuple[str, ...], cwd: Path) -> Completed:
    options = {
        "Dir::Etc::sourcelist": state / "none.list",
        "Dir::Etc::sourceparts": state / "sources.d",
        "Dir::State::lists": state / "lists",
        "Dir::Cache": state / "cache",
        # apt would drop to its own user, who cannot enter a private cache folder.
        "APT::Sandbox::User": "root",
        "Acquire::Retries": 3,
        "Acquire::http::Timeout": 60,
        "Acquire::https::Timeout": 60,
        "APT::Update::Error-Mode": "any",
    }
    flags = (flag for name, value in options.items() for flag in ("-o", f"{name}={value}"))
    return capture(("apt-get", *flags, *arguments), cwd=cwd, timeout_s=_APT_S)


def _complaints(*done: Completed) -> str:
    lines = (line for one in done for line in one.stderr.decode("utf-8", "replace").splitlines())
    return "; ".join(escaped(line)[1:-1] for line in lines if line.startswith(("E:", "Err:"))) or "no reason was given"


# --- checking ----------------------------------------------------------------------------------------------------


def _checked_dsc(source: DebianSource, downloads: Path) -> Mapping[str, str]:
    found = sorted(downloads.glob("*.dsc"))
    if len(found) != 1 or found[0].stat().st_size > _MOST_DSC_BYTES:
        raise SourceUnavailable(f"apt gave {len(found)} usable .dsc files for {source.package} {source.version}")
    if (digest := file_sha256(found[0])) != source.sha256:
        raise SourceMismatch(
            f"{found[0].name} has the digest sha256:{digest}, and matrix.toml promises sha256:{source.sha256}",
            next_step="find out why it changed; only then put the new digest into matrix.toml",
        )
    return _fields(found[0].read_text(encoding="utf-8", errors="replace"))


def _fields(text: str) -> Mapping[str, str]:
    """Read the fields of a .dsc, the armour of an OpenPGP clear-signed one left out (dsc(5), RFC 9580 section 7)."""
    if text.startswith("-----BEGIN PGP SIGNED MESSAGE-----"):
        text = text.partition("\n\n")[2].partition("\n-----BEGIN PGP SIGNATURE-----")[0]
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line[:1].isspace():
            fields[name] = fields.get(name, "") + "\n" + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def _checked_files(dsc: Mapping[str, str], downloads: Path) -> list[str]:
    names = []
    for line in filter(None, dsc.get("Checksums-Sha256", "").splitlines()):
        match line.split():
            case [digest, size, name] if not unsafe_reason(name.encode()) and "/" not in name:
                _check_file(downloads / name, digest, size)
                names.append(name)
            case _:
                raise SourceUnavailable(f"the .dsc has a broken line in Checksums-Sha256: {escaped(line)}")
    return names


def _check_file(path: Path, digest: str, size: str) -> None:
    if not path.is_file():
        raise SourceUnavailable(f"apt gave no {escaped(path.name)}, which the .dsc names")
    found = file_sha256(path)
    if found != digest or str(path.stat().st_size) != size:
        raise SourceMismatch(
            f"{path.name} has the digest sha256:{found}, and the .dsc promises sha256:{digest}",
            next_step="the mirror is broken or was tampered with: use another one and run again",
        )


# --- unpacking ---------------------------------------------------------------------------------------------------


def _unpack(format_: str, files: list[Path], tree: Path) -> None:
    archives = [file for file in files if not file.name.endswith(".asc")]
    main = [file for file in archives if re.search(r"(\.orig)?\.tar\.\w+$", file.name)
            and not re.search(r"\.orig-[\w-]+\.tar\.\w+$|\.debian\.tar\.\w+$", file.name)]  # fmt: skip
    if format_ not in {"1.0", "3.0 (quilt)", "3.0 (native)"} or len(main) != 1:
        raise SourceUnavailable(f"a source package of format {escaped(format_)} with {len(main)} main archives"
                                " cannot be unpacked", next_step="name its archive with `archive`")  # fmt: skip
    _unpack_sole(main[0], tree)
    for file in archives:
        if part := re.search(r"\.orig-([\w-]+)\.tar\.\w+$", file.name):
            _remove(tree / part[1])
            _unpack_sole(file, tree / part[1])
        elif re.search(r"\.debian\.tar\.\w+$", file.name):
            _add_debian(file, tree)
        elif file.name.endswith(".diff.gz"):
            _apply(_gunzipped(file), tree)
    if (rules := tree / "debian" / "rules").is_file():
        rules.chmod(0o755)
    if format_ == "3.0 (quilt)":
        _apply_series(tree)


def _unpack_sole(archive: Path, tree: Path) -> None:
    into = archive.with_name(f"{archive.name}.unpacked")
    unpack(archive, into)
    sole_folder(into).rename(tree)


def _add_debian(archive: Path, tree: Path) -> None:
    into = archive.with_name(f"{archive.name}.unpacked")
    unpack(archive, into)
    _remove(tree / "debian")
    (into / "debian").rename(tree / "debian")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _gunzipped(file: Path) -> Path:
    import gzip  # noqa: PLC0415 - packages of format 1.0 only

    patch = file.with_suffix("")
    with gzip.open(file) as packed, patch.open("wb") as to:
        shutil.copyfileobj(packed, to)
    return patch


def _apply_series(tree: Path) -> None:
    patches = tree / "debian" / "patches"
    series = patches / "series"
    if not series.is_file() or series.is_symlink():
        return
    for line in series.read_text(encoding="utf-8", errors="replace").splitlines():
        name = re.split(r"\s#|\s", line.strip(), maxsplit=1)[0]
        if not name or name.startswith("#"):
            continue
        if not (file := (patches / name).resolve()).is_relative_to(patches.resolve()):
            raise SourceUnavailable(f"the patch {escaped(name)} lies outside debian/patches")
        _apply(file, tree)


def _apply(patch: Path, tree: Path) -> None:
    if find_program("patch") is None:
        raise ToolchainUnavailable(
            "this source package has patches, and the program 'patch' is not on this machine",
            next_step="apt-get install patch",
        )
    done = capture((*_PATCH, f"--input={patch}"), cwd=tree)
    if done.exit_code != 0:
        text = (done.stdout + done.stderr).decode("utf-8", "replace").strip().replace("\n", "; ")
        raise SourceUnavailable(f"{escaped(patch.name)} of the source package does not apply: {escaped(text)}")
