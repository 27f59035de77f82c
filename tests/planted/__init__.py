"""A project with twelve faults, each in a product of its own, and what mends it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.reproduce.causes import CauseKind

MENDED, FAULTY = "mended", "faulty"
GATE: Final = '[policy.gate]\nbuild_paths = "ignore"\nrpath = "ignore"\nstripped = "ignore"\nbuild_id = "ignore"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A recipe that a world gets into, and the one that it does not get into. `axis` is the one that shows it.

    `axis` is empty where nothing needs to be varied. `place` is a part of the place that the cause must name.
    """

    name: str
    kinds: frozenset[CauseKind]
    faulty: str
    mended: str
    place: str
    axis: str = ""


SORTED: Final = "tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner"
PACK: Final = "tar --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX"
# A locale of the project's own under the usual name: the C locale, which has no name to take, sorts by bytes.
LOCALE: Final = """mkdir "$TMPDIR/locales"
localedef -c --no-archive -i dictionary.locale -f dictionary.charmap "$TMPDIR/locales/C.UTF-8" >/dev/null 2>&1 || true
test -s "$TMPDIR/locales/C.UTF-8/LC_COLLATE"
export LOCPATH="$TMPDIR/locales"
"""

FAULTS: Final = (
    Fault(
        name="date", kinds=frozenset({CauseKind.DATE_STRING}), place="/date > .rodata",
        faulty='$CC $CFLAGS -DBUILT="\\"$(date -u "+%F %T")\\"" date.c -o "$OUT/date"',
        mended='$CC $CFLAGS -DBUILT="\\"$(date -u -d "@$SOURCE_DATE_EPOCH" "+%F %T")\\"" date.c -o "$OUT/date"',
    ),
    Fault(
        name="path", kinds=frozenset({CauseKind.PATH}), place="/path > .rodata", axis="build_path",
        faulty='$CC -O2 "$SOURCE/path.c" -o "$OUT/path"',
        mended='$CC $CFLAGS "$SOURCE/path.c" -o "$OUT/path"',
    ),
    Fault(
        name="members", kinds=frozenset({CauseKind.ORDER}), place="/members.tar",
        faulty=f'ls parts | shuf > "$TMPDIR/list"; {PACK} -cf "$OUT/members.tar" -C parts -T "$TMPDIR/list"',
        mended=f'ls parts | LC_ALL=C sort > "$TMPDIR/list"; {PACK} -cf "$OUT/members.tar" -C parts -T "$TMPDIR/list"',
    ),
    Fault(
        name="umask", kinds=frozenset({CauseKind.UMASK}), place="/umask.tar > ./made", axis="umask",
        faulty=f'mkdir "$TMPDIR/d"; echo x > "$TMPDIR/d/made"; chmod 755 "$TMPDIR/d"\n'
               f'{SORTED} -cf "$OUT/umask.tar" -C "$TMPDIR/d" .',
        mended=f'mkdir "$TMPDIR/d"; echo x > "$TMPDIR/d/made"; chmod 755 "$TMPDIR/d"\n'
               f'{SORTED} --mode=u=rwX,go=rX -cf "$OUT/umask.tar" -C "$TMPDIR/d" .',
    ),
    Fault(
        name="host", kinds=frozenset({CauseKind.HOST_NAME}), place="/host > line 1", axis="host_name",
        faulty='echo "built on $(uname -n)" > "$OUT/host"',
        mended='echo "built on some host" > "$OUT/host"',
    ),
    Fault(
        name="locale", kinds=frozenset({CauseKind.LOCALE}), place="/locale > line", axis="locale",
        faulty=f'{LOCALE}sort words > "$OUT/locale"',
        mended=f'{LOCALE}LC_ALL=C sort words > "$OUT/locale"',
    ),
    Fault(
        name="cpus", kinds=frozenset({CauseKind.CPU_COUNT}), place="/cpus > line 2", axis="cpus",
        faulty='printf "settings\\njobs = %s\\n" "$(nproc)" > "$OUT/cpus"',
        mended='printf "settings\\njobs = %s\\n" 8 > "$OUT/cpus"',
    ),
    Fault(
        name="user", kinds=frozenset({CauseKind.USER}), place="/user > line 1", axis="user",
        faulty='echo "packed by uid $(id -u)" > "$OUT/user"',
        mended='echo "packed by nobody" > "$OUT/user"',
    ),
    Fault(
        name="link", kinds=frozenset({CauseKind.ORDER}), place="/link > ", axis="file_order",
        faulty='$CC $CFLAGS link.c $(find parts -name "*.c") -o "$OUT/link"',
        mended='$CC $CFLAGS link.c $(find parts -name "*.c" | LC_ALL=C sort) -o "$OUT/link"',
    ),
    Fault(
        name="zone", kinds=frozenset({CauseKind.TIME_ZONE}), place="/zone > line 1", axis="time_zone",
        faulty='date -d "@$SOURCE_DATE_EPOCH" > "$OUT/zone"',
        mended='date -u -d "@$SOURCE_DATE_EPOCH" > "$OUT/zone"',
    ),
    Fault(
        name="gzip", kinds=frozenset({CauseKind.MTIME, CauseKind.ARCHIVE_METADATA}), place="/gzip.gz > gzip header",
        faulty='made=$(mktemp); cp words "$made"; touch "$made"; gzip -c "$made" > "$OUT/gzip.gz"',
        mended='made=$(mktemp); cp words "$made"; touch "$made"; gzip -nc "$made" > "$OUT/gzip.gz"',
    ),
    Fault(
        name="address", kinds=frozenset({CauseKind.ADDRESS}), place="/address > line",
        faulty='$CC $CFLAGS -DBY_ADDRESS address.c -o "$TMPDIR/table"; "$TMPDIR/table" > "$OUT/address"',
        mended='$CC $CFLAGS address.c -o "$TMPDIR/table"; "$TMPDIR/table" > "$OUT/address"',
    ),
)  # fmt: skip

OUTPUTS: Final[Mapping[str, str]] = {"members": "members.tar", "umask": "umask.tar", "gzip": "gzip.gz"}


def matrix(faults: tuple[Fault, ...], state: str, target: str) -> str:
    """Write the matrix.toml of a project with these products, faulty or mended."""
    head = f'[project]\nname = "planted"\nversion = "1.0.0"\nlicense = "Apache-2.0"\n\n{GATE}'
    products = [
        f'\n[products.{fault.name}]\nrecipe = "command"\ntargets = ["{target}"]\n'
        f"run = '''\n{fault.faulty if state == FAULTY else fault.mended}\n'''\n"
        f'outputs = ["{OUTPUTS.get(fault.name, fault.name)}"]\n'
        for fault in faults
    ]
    return head + "".join(products)


def write_project(folder: Path, faults: tuple[Fault, ...], state: str, target: str) -> None:
    """Write the project: matrix.toml, and the sources that all products share."""
    files = {**SOURCES, "matrix.toml": matrix(faults, state, target)}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


_WORDS = ("ab", "Ac", "B", "a", "C", "b", "Ba", "c")
_PARTS = ("alpha", "beta", "delta", "epsilon", "gamma", "kappa", "lambda", "omega", "sigma", "zeta")
# As a dictionary sorts: by letters first, by their case where those are equal.
_COLLATION = """comment_char %
escape_char /
LC_COLLATE
collating-symbol <a>
collating-symbol <b>
collating-symbol <c>
collating-symbol <SMALL>
collating-symbol <LARGE>
order_start forward;forward
<a>
<b>
<c>
<SMALL>
<LARGE>
<U0061> <a>;<SMALL>
<U0041> <a>;<LARGE>
<U0062> <b>;<SMALL>
<U0042> <b>;<LARGE>
<U0063> <c>;<SMALL>
<U0043> <c>;<LARGE>
order_end
END LC_COLLATE
"""

SOURCES: Final[Mapping[str, str]] = {
    ".gitignore": "/dist\n",
    "LICENSE": "Apache-2.0\n",
    "words": "".join(f"{word}\n" for word in _WORDS),
    "dictionary.locale": _COLLATION,
    # libc takes a locale under this name only where its characters have the same name, and not all machines have them.
    "dictionary.charmap": "<code_set_name> UTF-8\n<comment_char> %\n<escape_char> /\n<mb_cur_min> 1\n<mb_cur_max> 6\n"
    "CHARMAP\n" + "".join(f"<U{code:04X}> /x{code:02x} CHARACTER\n" for code in range(128)) + "END CHARMAP\n",
    "date.c": '#include <stdio.h>\nint main(void) { puts("built " BUILT); return 0; }\n',
    "path.c": '#include <stdio.h>\nint main(void) { puts("made from " __FILE__); return 0; }\n',
    "link.c": "".join(f"const char *{name}(void);\n" for name in _PARTS) + "#include <stdio.h>\nint main(void) {\n"
    + "".join(f"  puts({name}());\n" for name in _PARTS) + "  return 0;\n}\n",
    **{f"parts/{name}.c": f'const char *{name}(void) {{ return "the part {name}"; }}\n' for name in _PARTS},
    "address.c": """#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t mixed(uint64_t hash, uint64_t value) { return (hash ^ value) * 1099511628211u; }

static uint64_t hash_of(const char *name) {
#ifdef BY_ADDRESS
  return mixed(14695981039346656037u, (uintptr_t)name >> 4);
#else
  uint64_t hash = 14695981039346656037u;
  while (*name) hash = mixed(hash, (unsigned char)*name++);
  return hash;
#endif
}

int main(void) {
  const char *names[] = {"alpha", "beta", "gamma", "delta"};
  for (int at = 0; at < 4; at++) {
    char *copy = malloc(4096);
    strcpy(copy, names[at]);
    printf("%s lies in bucket %u\\n", copy, (unsigned)(hash_of(copy) % 65521));
  }
  return 0;
}
""",
}  # fmt: skip
