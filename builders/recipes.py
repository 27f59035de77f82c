"""What the recipes `go`, `cargo` and `python` do when a product brings no commands of its own."""

from builders.model import CommandRecipe

_GO = """\
export CGO_ENABLED=0 GOTOOLCHAIN=local
go build -trimpath -buildvcs=false -modcacherw -ldflags "-s -w -buildid=" -o "$OUT/" ./...
"""

# The linker has to be the target's own; cargo takes it from a variable that is named after the target.
_CARGO = """\
linker="CARGO_TARGET_$(printf '%s' "$CARGO_BUILD_TARGET" | tr 'a-z.-' 'A-Z__')_LINKER"
case "${{CC:-}}" in
  ''|*' '*) ;;
  *) printenv "$linker" >/dev/null || export "$linker=$CC" ;;
esac
cargo build --release --locked{offline} --target "$CARGO_BUILD_TARGET" --target-dir "$TMPDIR/target"
find "$TMPDIR/target/$CARGO_BUILD_TARGET/release" -maxdepth 1 -type f -perm -u+x \\
  ! -name '*.so' ! -name '*.dylib' ! -name '*.dll' -exec cp {{}} "$OUT/" \\;
"""

# Build back ends write beside the source, which is read-only. Without a network they must be in the image already.
_PYTHON = """\
cp -R . "$TMPDIR/{product}-source"
chmod -R u+w "$TMPDIR/{product}-source"
python3 -m pip --disable-pip-version-check wheel --no-deps --no-cache-dir{offline} \\
  --wheel-dir "$OUT" "$TMPDIR/{product}-source"
"""

_SCRIPTS = {
    "go": ("go", _GO, ""),
    "cargo": ("rust", _CARGO, " --offline"),
    "python": ("zig", _PYTHON, " --no-index --no-build-isolation"),
}
"""By kind: the toolchain, the script, and what the command needs where there is no network. The zig image has pip."""


def default_script(kind: str, product: str, *, network: bool = False) -> CommandRecipe:
    """Give the commands for a kind of project. Raises KeyError for a kind that has none.

    `product` must be a name as matrix.toml allows it: it becomes part of the script.
    """
    toolchain, script, offline = _SCRIPTS[kind]
    filled = script if kind == "go" else script.format(product=product, offline="" if network else offline)
    return CommandRecipe(toolchain=toolchain, script=filled)
